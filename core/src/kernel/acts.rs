//! Activations as matmul reads them: f32 rows, and beside them (mode `fast`) the same rows in 8-bit blocks of 32.
//!
//! Each block has a scale of its own: `x[i] = scale * code[i]`, codes rounded to nearest even. Which scales there may be
//! depends on the weights that read the row ([`Grid`]):
//!
//! ```text
//! Blocks   scale = max|x| / top               of the block; top: of 127, 126, 125 and 124 the one with the least
//!                                             squared error
//! Units    unit  = max|x| / (127 * 16)        of 256 values
//!          scale = unit * m                   m = ceil(max|x| / (127 * unit)) of the block, an integer of 1 to 16
//! ```
//! Where the largest value comes to decides how all others round: the best of four takes an eighth off what Q8_0's files
//! lose (`tests/race`). With units, products with weights whose scales are integers add up in integers over 256 weights; a
//! step is coarser for it by up to 1/16 of that of the largest of the eight blocks. (A range of 127.49 would make the steps
//! finer and lose more: now the largest value of each block is exact.) Each vector is quantized once and shared by every
//! matrix that reads it.

use super::{Context, MatmulMode};
use crate::arch::disjoint::for_each_chunk2;
use crate::arch::float::{LANES, ROUND, magnitudes, round, sums};
use crate::arch::level::Level;
use crate::arena::Arena;
use crate::dtype::DType;
use crate::error::Result;
use crate::quant;
use bytemuck::{Pod, Zeroable};

/// Values that share one scale.
pub const BLOCK: usize = 32;

/// Rows are padded with zeros to this many values: kernels read whole chunks, and units are one a chunk.
pub const CHUNK: usize = 256;

/// The codes that a block's largest value may become, with [`Grid::Blocks`].
const TOPS: [f32; 4] = [127.0, 126.0, 125.0, 124.0];

/// The largest multiple of a unit that a scale may be.
pub(crate) const MOST: i16 = 16;

/// Which scales a block may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// Any.
    Blocks,
    /// Multiples of a unit that 256 values share, as weights with units need it ([`quant::has_units`]). Others can read
    /// it too.
    Units,
}

impl Grid {
    /// The grid for weights of these types.
    pub fn of(readers: impl IntoIterator<Item = DType>) -> Self {
        if readers.into_iter().any(quant::has_units) { Self::Units } else { Self::Blocks }
    }
}

/// What belongs to the codes of a chunk.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Scales {
    /// One a block.
    pub scales: [f32; CHUNK / BLOCK],
    /// The sum of each 16 codes.
    pub sums: [i16; CHUNK / 16],
    /// Of each 16 codes, which multiple of the unit the scale is; with [`Grid::Units`] only.
    pub multiples: [i16; CHUNK / 16],
    /// The sums times the multiples, at most 16 * 127 * 16; with [`Grid::Units`] only.
    pub multiple_sums: [i16; CHUNK / 16],
    /// The same of each 32 codes, as far as they fit.
    pub block_sums: [i16; CHUNK / BLOCK],
    /// With [`Grid::Units`] only.
    pub unit: f32,
    /// Whether all `block_sums` fit, as they nearly always do: 1, or else 0.
    pub fit: u16,
    /// Of each 16 codes the sum of those above zero, or of those below it, whichever is largest: their products with codes
    /// of 0 to `top` never add up to more than `top` times it. With [`Grid::Units`] only.
    pub peak: u16,
}

/// Memory for quantized activations of one region: as many rows as fit.
#[derive(Debug)]
pub struct Q8Buffer<'a> {
    /// [rows, padded cols], i8.
    codes: &'a mut [i8],
    /// [rows, padded cols / 256].
    scales: &'a mut [Scales],
}

impl<'a> Q8Buffer<'a> {
    /// Room for `values` activations, counted with every row padded ([`Q8Buffer::padded`]).
    pub fn carve(arena: &mut Arena<'a>, values: usize) -> Result<Self> {
        Ok(Self { codes: arena.take(values)?, scales: arena.take(values / CHUNK)? })
    }

    /// `cols` rounded up to whole chunks.
    pub const fn padded(cols: usize) -> usize {
        cols.next_multiple_of(CHUNK)
    }
}

/// One row in 8-bit blocks, padded with zeros to whole chunks.
#[derive(Clone, Copy, Debug)]
pub struct Q8Row<'a> {
    /// [padded cols].
    pub codes: &'a [i8],
    /// [padded cols / 256].
    pub scales: &'a [Scales],
}

impl Q8Row<'_> {
    /// No values.
    pub const EMPTY: Self = Self { codes: &[], scales: &[] };
}

/// Rows of activations [rows, cols].
#[derive(Clone, Copy, Debug)]
pub struct Acts<'a> {
    cols: usize,
    values: &'a [f32],
    q8: Option<(Q8Row<'a>, Grid)>,
}

impl<'a> Acts<'a> {
    /// `values` as rows of `cols`, f32 only.
    pub const fn exact(values: &'a [f32], cols: usize) -> Self {
        Self { cols, values, q8: None }
    }

    /// `values` as rows of `cols`, quantized into `buffer` where the mode asks for it.
    pub fn new(cx: &Context<'_>, values: &'a [f32], cols: usize, grid: Grid, buffer: &'a mut Q8Buffer<'_>) -> Self {
        if cx.matmul == MatmulMode::Exact || cols == 0 {
            return Self::exact(values, cols);
        }
        let padded = Q8Buffer::padded(cols);
        let rows = values.len() / cols;
        let codes = &mut buffer.codes[..rows * padded];
        let scales = &mut buffer.scales[..rows * padded / CHUNK];
        for_each_chunk2(cx.parallel, (codes, padded), (scales, padded / CHUNK), |row, codes, scales| {
            cx.level.vectorize(
                #[inline(always)]
                || quantize(cx.level, &values[row * cols..][..cols], grid, codes, scales),
            );
        });
        Self { cols, values, q8: Some((Q8Row { codes, scales }, grid)) }
    }

    /// Columns.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Row `row` in f32.
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.cols..][..self.cols]
    }

    /// Row `row` in 8-bit blocks, where they were made.
    pub fn q8_row(&self, row: usize) -> Option<Q8Row<'a>> {
        let padded = Q8Buffer::padded(self.cols);
        self.q8.map(|(q8, _)| Q8Row {
            codes: &q8.codes[row * padded..][..padded],
            scales: &q8.scales[row * (padded / CHUNK)..][..padded / CHUNK],
        })
    }

    /// Whether the rows were quantized, in a way that weights of `dtype` can read.
    pub fn serves(&self, dtype: DType) -> bool {
        self.q8.is_some_and(|(_, grid)| grid == Grid::Units || !quant::has_units(dtype))
    }
}

/// One row, chunk by chunk.
#[inline(always)]
fn quantize(level: Level, values: &[f32], grid: Grid, codes: &mut [i8], scales: &mut [Scales]) {
    for ((x, codes), scales) in values.chunks(CHUNK).zip(codes.as_chunks_mut().0).zip(scales) {
        match x.first_chunk() {
            Some(x) => quantize_chunk(level, x, grid, codes, scales),
            None => {
                let mut padded = [0.0; CHUNK];
                padded[..x.len()].copy_from_slice(x);
                quantize_chunk(level, &padded, grid, codes, scales);
            }
        }
    }
}

/// For each block the one of [`TOPS`] by which its values' squared errors add up to least.
#[inline(always)]
fn best_tops(level: Level, x: &[[[f32; LANES]; 2]; CHUNK / BLOCK], max: &[f32; CHUNK / BLOCK]) -> [f32; CHUNK / BLOCK] {
    const BLOCKS: usize = CHUNK / BLOCK;
    // [top, block][half][lane], in codes.
    let mut squares = [[[0.0; LANES]; 2]; TOPS.len() * BLOCKS];
    let mut inverse = [[0.0; BLOCK]; BLOCKS];
    for (squares, top) in squares.as_chunks_mut::<BLOCKS>().0.iter_mut().zip(TOPS) {
        for (inverse, max) in inverse.iter_mut().zip(max) {
            inverse.fill(top / max);
        }
        let squares = squares.as_flattened_mut().as_flattened_mut().iter_mut();
        for ((square, x), inverse) in squares.zip(x.as_flattened().as_flattened()).zip(inverse.as_flattened()) {
            let value = x * inverse;
            let error = value - ((value + ROUND) - ROUND);
            *square = error * error;
        }
    }
    let [first, second] = sums(level, &squares);
    let mut tops = [TOPS[0]; BLOCKS];
    for (b, best) in tops.iter_mut().enumerate() {
        let mut least = f32::INFINITY;
        for (t, top) in TOPS.into_iter().enumerate() {
            // Relative to the block's scale, which is max / top. Where all values are zero, no number, and not less.
            let error = (first[t * BLOCKS + b] + second[t * BLOCKS + b]) / (top * top);
            if error < least {
                (least, *best) = (error, top);
            }
        }
    }
    tops
}

#[inline(always)]
fn quantize_chunk(level: Level, x: &[f32; CHUNK], grid: Grid, codes: &mut [i8; CHUNK], scales: &mut Scales) {
    const BLOCKS: usize = CHUNK / BLOCK;
    let x: &[[[f32; LANES]; 2]; BLOCKS] = bytemuck::cast_ref(x);
    let max = magnitudes(level, x);
    let most = f32::from_bits(max.iter().fold(0, |most, max| most.max(max.to_bits())));
    scales.unit = most / (127.0 * f32::from(MOST));
    let mut multiples = [0; BLOCKS];
    match grid {
        Grid::Blocks => {
            let tops = best_tops(level, x, &max);
            for b in 0..BLOCKS {
                scales.scales[b] = max[b] / tops[b];
            }
        }
        Grid::Units => {
            for b in 0..BLOCKS {
                let steps = max[b] / most * f32::from(MOST);
                let near = (steps + ROUND) - ROUND;
                let multiple = if near < steps { near + 1.0 } else { near };
                // NaN, where all values are zero, becomes 1.
                let multiple = if multiple >= 1.0 { multiple } else { 1.0 };
                scales.scales[b] = scales.unit * multiple;
                multiples[b] = (multiple + ROUND).to_bits() as i16;
            }
        }
    }
    let mut inverses = [0.0; BLOCKS];
    for (inverse, scale) in inverses.iter_mut().zip(scales.scales) {
        // None where all values are zero or not much more, nor where there is no number.
        let of_scale = 1.0 / scale;
        *inverse = if of_scale < f32::INFINITY { of_scale } else { 0.0 };
    }
    // |x * inverse| is at most 127, or so near above that it rounds to it.
    let [first, second] = round(level, x, &inverses, bytemuck::cast_mut(codes));
    let mut fit = true;
    for b in 0..BLOCKS {
        let sums = [first[b] as i16, second[b] as i16];
        let multiple_sums = [sums[0] * multiples[b], sums[1] * multiples[b]];
        let block_sum = i32::from(multiple_sums[0]) + i32::from(multiple_sums[1]);
        scales.sums.as_chunks_mut().0[b] = sums;
        scales.multiples.as_chunks_mut().0[b] = [multiples[b]; 2];
        scales.multiple_sums.as_chunks_mut().0[b] = multiple_sums;
        scales.block_sums[b] = block_sum as i16;
        fit &= block_sum == i32::from(scales.block_sums[b]);
    }
    scales.fit = fit.into();
    if grid == Grid::Units {
        scales.peak = peak(codes);
    }
}

/// [`Scales::peak`].
#[inline(always)]
fn peak(codes: &[i8; CHUNK]) -> u16 {
    let mut peak = 0;
    for codes in codes.as_chunks::<16>().0 {
        let (mut above, mut below) = (0, 0);
        for &code in codes {
            above += i16::from(code.max(0));
            below -= i16::from(code.min(0));
        }
        peak = above.max(below).max(peak);
    }
    peak.cast_unsigned()
}
