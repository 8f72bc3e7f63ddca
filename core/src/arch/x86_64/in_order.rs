//! Few activations: weights are read in the order in which they lie, four chunks of 256 at a time, whether a row ends among
//! them or not. Rows of few chunks cost no more than long ones, and memory is one stream, or a few side by side.
//!
//! Functions here have no instructions of their own: they are always inlined into a level's, which has.
#![allow(clippy::needless_range_loop, reason = "plain loops: closures may be compiled without a level's instructions")]

use crate::arch::disjoint::Columns;
use crate::arch::integer::{CHUNK, ChunkX, Row, RowX, Work};
use crate::arch::level::Ask;
use core::arch::x86_64::*;
use core::mem::MaybeUninit;
use core::ops::Range;

/// Chunks that are multiplied side by side.
pub(super) const FOUR: usize = 4;

/// Fours of activations' chunks that are prepared before the rows that meet them: one activation of 8,192 values.
const PREPARED: usize = 8;

/// By [`Ask`], the bytes by which each stream's weights are asked for ahead of their use: in the second-level cache and in the
/// first, 0 where not at all. What the memory's latency and rate make; the hardware's own prefetchers stop at the end of a
/// page.
const AHEAD: [[usize; 2]; 3] = [[16 << 10, 0], [0, 8 << 10], [4 << 10, 2 << 10]];

/// Streams where [`Ask::Both`] is asked: an Emerald Rapids reads four faster than one by a twentieth, and than two or eight by
/// less.
const STREAMS: usize = 4;

/// A level's part, for one type of weights: four chunks against activations.
pub(super) trait Fours {
    /// The bytes of 256 weights.
    type Chunk: Copy;
    /// 256 weights, unpacked.
    type Weights: Copy;
    /// Four chunks of an activation, in the order in which the weights meet them.
    type Prepared: Copy;
    /// Four chunks' products with an activation's, before they are added up.
    type Pending: Copy;
    /// Registers for vectors.
    const REGISTERS: usize;
    /// Of nothing.
    const WEIGHTS: Self::Weights;
    /// Adds 0.
    const PENDING: Self::Pending;

    /// Whole chunks, as far as they can be loaded where they lie.
    fn chunks(bytes: &[u8]) -> &[Self::Chunk];

    /// # Safety
    /// Only where the level's instructions are.
    unsafe fn prepare(four: [ChunkX<'_>; FOUR]) -> Self::Prepared;

    /// # Safety
    /// Only where the level's instructions are.
    unsafe fn multiply<const T: usize>(four: &[Self::Chunk; FOUR], x: &[Self::Prepared; T]) -> [Self::Pending; T];

    /// Columns `start..start + len` of a row.
    ///
    /// # Safety
    /// Only where the level's instructions are.
    unsafe fn unpack(row: Row<'_>, start: usize, len: usize) -> Self::Weights;

    /// # Safety
    /// Only where the level's instructions are.
    unsafe fn multiply_unpacked<const T: usize>(
        four: &[Self::Weights; FOUR],
        x: &[Self::Prepared; T],
    ) -> [Self::Pending; T];

    /// By chunk the sum.
    ///
    /// # Safety
    /// Only where the level's instructions are.
    unsafe fn add_up(pending: Self::Pending) -> __m128;
}

/// [`Isa::few`](crate::arch::integer::Isa::few); ASK is [`Level::ask`](crate::arch::level::Level::ask), known to
/// the compiler: a branch for each four costs what asking gains.
///
/// # Safety
/// Only where the level's instructions are.
#[inline(always)]
pub(super) unsafe fn few<F: Fours, const T: usize, const ASK: usize>(
    work: &Work<'_>,
    x: &[RowX<'_>; T],
    columns: &mut Columns<'_>,
) {
    let (width, cols) = (columns.width(), work.weights.cols());
    let in_row = cols.div_ceil(CHUNK);
    let chunks = F::chunks(work.weights.rows_bytes(work.first, width));
    let whole = cols.is_multiple_of(CHUNK) && chunks.len() == width * in_row;
    // Fours after which a row begins with a four again. Where that many can be prepared, all rows are read as one; else each
    // by itself, in segments of as many chunks as can be.
    let period = in_row >> in_row.trailing_zeros().min(FOUR.trailing_zeros());
    let as_one = period <= PREPARED / T;
    let (segment, rows) = if as_one { (in_row, width) } else { (FOUR * (PREPARED / T), 1) };
    // Not cleared: that took as long as a few rows.
    let mut prepared = [const { MaybeUninit::<F::Prepared>::uninit() }; PREPARED];
    for start in (0..in_row).step_by(segment.max(1)) {
        let len = segment.min(in_row - start);
        let fours = if as_one { period } else { len.div_ceil(FOUR) };
        for i in 0..fours {
            for t in 0..T {
                let Some(first) = x[t].chunk(start) else { return };
                let mut four = [first; FOUR];
                for j in 0..FOUR {
                    let Some(chunk) = x[t].chunk(start + (FOUR * i + j) % len) else { return };
                    four[j] = chunk;
                }
                // SAFETY: the level's instructions are there: this function's contract.
                prepared[i * T + t].write(unsafe { F::prepare(four) });
            }
        }
        // SAFETY: as many were written.
        let prepared = unsafe { core::slice::from_raw_parts(prepared.as_ptr().cast::<[F::Prepared; T]>(), fours) };
        // Rows of each stream: whole periods, so that all streams meet the same chunks of the activations.
        let in_turns = if ASK == Ask::Both as usize && whole && as_one { width / STREAMS / FOUR * FOUR } else { 0 };
        if in_turns > 0 {
            let mut sums = [const { Sums::EMPTY }; STREAMS];
            for k in 0..STREAMS {
                sums[k] = Sums::new(work, k * in_turns..(k + 1) * in_turns, 0..in_row, columns);
            }
            // SAFETY: as above.
            unsafe { add_whole::<F, T, ASK, _>(&chunks[..STREAMS * in_turns * in_row], prepared, sums, columns) };
        }
        for row in (STREAMS * in_turns..width).step_by(rows.max(1)) {
            let each = rows.min(width - row);
            let sums = Sums::new(work, row..row + each, start..start + len, columns);
            // SAFETY: as above.
            unsafe {
                if whole {
                    let chunks = &chunks[row * in_row + start..][..each * len];
                    add_whole::<F, T, ASK, _>(chunks, prepared, [sums], columns);
                } else {
                    add_unpacked::<F, T>(work, prepared, sums, columns);
                }
            }
        }
    }
}

/// Adds the products of chunks that lie one after another. Each of `sums` has an equal part of them, a stream, and takes its
/// turn of four chunks; where there are several, of whole periods of `prepared`. How many is known to the compiler: a single
/// one's sums stay in registers.
///
/// # Safety
/// Only where the level's instructions are.
#[inline(always)]
unsafe fn add_whole<F: Fours, const T: usize, const ASK: usize, const N: usize>(
    chunks: &[F::Chunk],
    prepared: &[[F::Prepared; T]],
    mut sums: [Sums<T>; N],
    columns: &mut Columns<'_>,
) {
    let [second, first] = AHEAD[ASK].map(|bytes| bytes / size_of::<[F::Chunk; FOUR]>().max(1));
    let (fours, rest) = chunks.as_chunks::<FOUR>();
    let Some(&chunk) = chunks.first() else { return };
    // The last four, of which some is forgotten.
    let mut last = [chunk; FOUR];
    last[..rest.len()].copy_from_slice(rest);
    let mut pending = [F::PENDING; T];
    let mut x = 0;
    let each = chunks.len().div_ceil(FOUR) / N;
    let mut before = 0;
    for i in 0..each {
        for k in 0..N {
            let at = k * each + i;
            let four = fours.get(at).unwrap_or(&last);
            if F::REGISTERS < 32 && i + k > 0 {
                // SAFETY: the level's instructions are there: this function's contract.
                unsafe { sums[before].add::<F>(&pending, columns) };
            }
            // SAFETY: as above.
            let next = unsafe { F::multiply(four, &prepared[x]) };
            // Added up after the next four's products, when nothing of it has to be waited for, if there is room for both.
            if F::REGISTERS >= 32 && i + k > 0 {
                // SAFETY: as above.
                unsafe { sums[before].add::<F>(&pending, columns) };
            }
            pending = next;
            before = k;
            // Not past the end: others may be about to read what lies there. The near ones first, or those far away take
            // the buffers that they need: that was slower than not to ask for them.
            if first > 0
                && (N == 1 || i + first < each)
                && let Some(ahead) = fours.get(at + first)
            {
                prefetch::<_MM_HINT_T0, _>(ahead);
            }
            if second > 0
                && (N == 1 || i + second < each)
                && let Some(ahead) = fours.get(at + second)
            {
                prefetch::<_MM_HINT_T1, _>(ahead);
            }
        }
        x = if x + 1 < prepared.len() { x + 1 } else { 0 };
    }
    // SAFETY: as above.
    unsafe { sums[before].add::<F>(&pending, columns) };
}

/// Asks for the lines of what is `ahead`.
#[inline(always)]
fn prefetch<const HINT: i32, V>(ahead: &V) {
    let first = core::ptr::from_ref(ahead).cast::<i8>();
    for line in 0..size_of::<V>().div_ceil(64) {
        // SAFETY: a prefetch reads nothing, whatever the address.
        unsafe { _mm_prefetch::<HINT>(first.wrapping_add(64 * line)) };
    }
}

/// The same of chunks that are unpacked through memory.
///
/// # Safety
/// Only where the level's instructions are.
#[inline(always)]
unsafe fn add_unpacked<F: Fours, const T: usize>(
    work: &Work<'_>,
    prepared: &[[F::Prepared; T]],
    mut sums: Sums<T>,
    columns: &mut Columns<'_>,
) {
    let (rows, in_row) = (sums.rows.clone(), sums.chunks.clone());
    let count = rows.len() * in_row.len();
    for i in 0..count.div_ceil(FOUR) {
        let mut w = [F::WEIGHTS; FOUR];
        for j in 0..FOUR {
            // The last four, of which some is forgotten, repeats the last chunk.
            let chunk = (FOUR * i + j).min(count - 1);
            let start = (in_row.start + chunk % in_row.len()) * CHUNK;
            let row = work.row(rows.start + chunk / in_row.len());
            // SAFETY: the level's instructions are there: this function's contract.
            w[j] = unsafe { F::unpack(row, start, CHUNK.min(work.weights.cols() - start)) };
        }
        // SAFETY: as above.
        unsafe { sums.add::<F>(&F::multiply_unpacked(&w, &prepared[i % prepared.len()]), columns) };
    }
}

/// Chunks added up to rows.
struct Sums<const T: usize> {
    /// Of each activation.
    sums: [f32; T],
    /// Rows not written yet.
    rows: Range<usize>,
    /// The chunks of a row that are to be added.
    chunks: Range<usize>,
    /// How many of them the first row still lacks.
    left: usize,
    /// Where the activations' outputs start among the columns' rows.
    at: usize,
}

impl<const T: usize> Sums<T> {
    /// Of no rows.
    const EMPTY: Self = Self { sums: [0.0; T], rows: 0..0, chunks: 0..0, left: 0, at: 0 };

    /// To be added to what `columns` have of the chunks before the first.
    #[inline(always)]
    fn new(work: &Work<'_>, rows: Range<usize>, chunks: Range<usize>, columns: &mut Columns<'_>) -> Self {
        let mut sums = [0.0; T];
        if chunks.start > 0 {
            for t in 0..T {
                sums[t] = columns.row(work.start + t)[rows.start];
            }
        }
        Self { sums, rows, left: chunks.len(), chunks, at: work.start }
    }

    /// Adds four chunks; what comes after the last row is forgotten.
    ///
    /// # Safety
    /// Only where the level's instructions are.
    #[inline(always)]
    unsafe fn add<F: Fours>(&mut self, pending: &[F::Pending; T], columns: &mut Columns<'_>) {
        let mut four = [[0.0; FOUR]; T];
        for t in 0..T {
            // SAFETY: this function's contract.
            four[t] = elements(unsafe { F::add_up(pending[t]) });
        }
        for j in 0..FOUR {
            for t in 0..T {
                self.sums[t] += four[t][j];
            }
            self.left -= 1;
            if self.left == 0 {
                if self.rows.start < self.rows.end {
                    for t in 0..T {
                        columns.row(self.at + t)[self.rows.start] = self.sums[t];
                    }
                }
                self.sums = [0.0; T];
                self.rows.start += 1;
                self.left = self.chunks.end - self.chunks.start;
            }
        }
    }
}

/// Not through memory: what was just written together is slow to be read apart.
#[inline(always)]
fn elements(v: __m128) -> [f32; FOUR] {
    // SAFETY: every x86-64 processor has these.
    unsafe {
        [
            _mm_cvtss_f32(v),
            _mm_cvtss_f32(_mm_shuffle_ps::<1>(v, v)),
            _mm_cvtss_f32(_mm_shuffle_ps::<2>(v, v)),
            _mm_cvtss_f32(_mm_shuffle_ps::<3>(v, v)),
        ]
    }
}
