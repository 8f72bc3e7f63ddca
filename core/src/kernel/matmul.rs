//! `y = W.x` for many rows of x and several matrices in one parallel region.
//!
//! Each output element is one dot product with a fixed order of additions, whatever the batch, the block of rows or
//! the thread: decode and prefill give the same bits.

use super::acts::{Acts, Q8Row};
use super::{Context, MatmulMode};
use crate::arch::disjoint::{Columns, Target, for_each_columns};
use crate::arch::float::{LANES, dots, dots_into, sums};
use crate::arch::integer;
use crate::arch::level::Level;
use crate::quant;
use crate::tensor::Matrix;

/// Rows of x that share one decoding of a weight row.
const TILE: usize = 8;

/// Weights decoded at a time.
const CHUNK: usize = 256;

/// Which rows of the activations a job reads, for its output row t.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// Row first + t.
    From(usize),
    /// Row `list[t]`.
    List(&'a [u32]),
    /// The matrix's rows are cut into this many equal groups, and group g reads row t * groups + g: a block-diagonal
    /// matrix stored without its zeros.
    Groups(usize),
}

/// One product: `out[t] = weights . x[rows(t)]`.
pub struct Job<'a> {
    weights: Matrix<'a>,
    x: &'a Acts<'a>,
    rows: Rows<'a>,
    out: Target<'a>,
    count: usize,
}

impl<'a> Job<'a> {
    /// No work at all.
    pub const EMPTY: Self =
        Self { weights: Matrix::EMPTY, x: &Acts::exact(&[], 0), rows: Rows::From(0), out: Target::EMPTY, count: 0 };

    /// `out` is [count, weights.rows], row-major.
    pub fn new(cx: &Context<'_>, weights: Matrix<'a>, x: &'a Acts<'a>, rows: Rows<'a>, out: &'a mut [f32]) -> Self {
        let width = weights.rows();
        let count = out.len().checked_div(width).unwrap_or(0);
        // Enough blocks that threads which run unevenly still finish together, and for few rows of x, whose time goes into
        // reading weights, no more: a thread reads fastest without a break. The size changes no result. A caller's
        // implementation may claim any number of threads, 0 too.
        let threads = cx.parallel.threads().clamp(1, 1024);
        let (blocks, most) = match (count, threads) {
            (..=2, 1) => (1, width),
            (..=2, _) => (2, 1024),
            _ => (4, 256),
        };
        let block = width.div_ceil(threads * blocks).next_multiple_of(integer::ROWS).min(most);
        let group = match rows {
            Rows::Groups(groups) => width / groups.max(1),
            _ => width,
        };
        // A block stays within a group: then it is a divisor of the group's rows.
        let divisor = || (1..=block.min(group)).rev().find(|b| group % b == 0).unwrap_or(1);
        let block = if group == width { block } else { divisor() };
        Self { weights, x, rows, out: Target::new(out, width, block), count }
    }
}

/// Jobs of one region at most: seven experts' gate and up matrices, and the shared one's.
const JOBS: usize = 16;

/// Jobs gathered for one parallel region; a few at least, and more regions when there are too many.
pub struct Region<'a, 'c> {
    cx: &'c Context<'c>,
    jobs: [Job<'a>; JOBS],
    len: usize,
}

impl<'a, 'c> Region<'a, 'c> {
    /// No jobs yet.
    pub fn new(cx: &'c Context<'c>) -> Self {
        Self { cx, jobs: [const { Job::EMPTY }; JOBS], len: 0 }
    }

    /// Adds a job; a full region is run first.
    pub fn push(&mut self, job: Job<'a>) {
        if self.len == JOBS {
            self.flush();
        }
        self.jobs[self.len] = job;
        self.len += 1;
    }

    /// Runs what was added.
    pub fn run(mut self) {
        self.flush();
    }

    fn flush(&mut self) {
        matmul(self.cx, &mut self.jobs[..self.len]);
        self.len = 0;
    }
}

/// Runs all jobs as one parallel region.
pub fn matmul(cx: &Context<'_>, jobs: &mut [Job<'_>]) {
    for_each_columns(cx.parallel, jobs, |job| &job.out, |job, first, columns| block(cx, job, first, columns));
}

/// Rows `first..` of one job's weights, as many as `columns` is wide.
fn block(cx: &Context<'_>, job: &Job<'_>, first: usize, mut columns: Columns<'_>) {
    let x_row = |t: usize| match job.rows {
        Rows::From(first) => first + t,
        Rows::List(list) => list[t] as usize,
        Rows::Groups(groups) => t * groups + first / (job.weights.rows() / groups.max(1)).max(1),
    };
    let integer = cx.matmul == MatmulMode::Fast && quant::is_integer(job.weights.dtype());
    if integer && job.x.serves(job.weights.dtype()) {
        let x = |t| job.x.q8_row(x_row(t)).unwrap_or(Q8Row::EMPTY);
        integer::matmul(cx.level, &job.weights, first, &x, job.count, &mut columns);
        return;
    }
    for i in (0..columns.width()).step_by(2) {
        // An odd last row meets itself, as do what is missing of the last rows of x: forgotten afterwards.
        let n = 2.min(columns.width() - i);
        let rows = [first + i, first + i + n - 1];
        for t in (0..job.count).step_by(TILE) {
            let x: [&[f32]; TILE] = core::array::from_fn(|j| job.x.row(x_row((t + j).min(job.count - 1))));
            let count = TILE.min(job.count - t);
            let mut products = [[0.0; TILE]; 2];
            if count <= 2 {
                for (all, two) in products.iter_mut().zip(dots_f32(cx.level, &job.weights, rows, &[x[0], x[1]])) {
                    all[..2].copy_from_slice(&two);
                }
            } else {
                products = dots_f32(cx.level, &job.weights, rows, &x);
            }
            for (k, products) in products[..n].iter().enumerate() {
                for (j, product) in products[..count].iter().enumerate() {
                    columns.row(t + j)[i + k] = *product;
                }
            }
        }
    }
}

/// `products[i][j] = W[rows[i]] . x[j]` in f32: rows of other types decoded 256 weights at a time.
fn dots_f32<const N: usize>(level: Level, weights: &Matrix<'_>, rows: [usize; 2], x: &[&[f32]; N]) -> [[f32; N]; 2] {
    if let [Some(first), Some(second)] = rows.map(|row| weights.as_f32(row)) {
        return dots(level, [first, second], x);
    }
    let mut lanes = [[[0.0; LANES]; 2]; N];
    let mut decoded = [[0.0; CHUNK]; 2];
    for start in (0..weights.cols()).step_by(CHUNK) {
        let len = CHUNK.min(weights.cols() - start);
        level.vectorize(
            #[inline(always)]
            || {
                for (decoded, row) in decoded.iter_mut().zip(rows) {
                    weights.decode(row, start, &mut decoded[..len]);
                }
            },
        );
        dots_into(level, &mut lanes, decoded.each_ref().map(|row| &row[..len]), &x.map(|x| &x[start..]));
    }
    sums(level, &lanes)
}
