//! Activations as matmul reads them: f32 rows, and beside them (mode `fast`) the same rows in 8-bit blocks.
//!
//! A block is 32 values: `x[i] = scale * code[i]`, `scale = max|x| / 127`, codes rounded to nearest even. (A range of
//! 127.49 would make the steps finer and lose more: now the largest value of each block is exact.) Each vector is
//! quantized once and shared by every matrix that reads it.

use super::{Context, MatmulMode};
use crate::arch::disjoint::for_each_chunk3;
use crate::arena::Arena;
use crate::error::Result;

/// Values that share one scale.
pub const BLOCK: usize = 32;

/// Rows are padded with zeros to this many values: kernels read whole chunks.
const PADDING: usize = crate::arch::integer::CHUNK;

/// Memory for quantized activations of one region: as many rows as fit.
#[derive(Debug)]
pub struct Q8Buffer<'a> {
    /// [rows, padded cols], i8.
    codes: &'a mut [i8],
    /// [rows, padded cols / 32], f32.
    scales: &'a mut [f32],
    /// [rows, padded cols / 16]: the sum of each 16 codes, i16.
    sums: &'a mut [i16],
}

impl<'a> Q8Buffer<'a> {
    /// Room for `values` activations, counted with every row padded ([`Q8Buffer::padded`]).
    pub fn carve(arena: &mut Arena<'a>, values: usize) -> Result<Self> {
        Ok(Self { codes: arena.take(values)?, scales: arena.take(values / BLOCK)?, sums: arena.take(values / 16)? })
    }

    /// `cols` rounded up to whole chunks.
    pub const fn padded(cols: usize) -> usize {
        cols.next_multiple_of(PADDING)
    }
}

/// One row in 8-bit blocks.
#[derive(Clone, Copy, Debug)]
pub struct Q8Row<'a> {
    /// Codes, padded with zeros to whole chunks.
    pub codes: &'a [i8],
    /// One scale a block.
    pub scales: &'a [f32],
    /// The sum of each 16 codes.
    pub sums: &'a [i16],
}

impl Q8Row<'_> {
    /// No values.
    pub const EMPTY: Self = Self { codes: &[], scales: &[], sums: &[] };
}

/// Rows of activations [rows, cols].
#[derive(Clone, Copy, Debug)]
pub struct Acts<'a> {
    cols: usize,
    values: &'a [f32],
    q8: Option<Q8Row<'a>>,
}

impl<'a> Acts<'a> {
    /// `values` as rows of `cols`, f32 only.
    pub const fn exact(values: &'a [f32], cols: usize) -> Self {
        Self { cols, values, q8: None }
    }

    /// `values` as rows of `cols`, quantized into `buffer` where the mode asks for it.
    pub fn new(cx: &Context<'_>, values: &'a [f32], cols: usize, buffer: &'a mut Q8Buffer<'_>) -> Self {
        if cx.matmul == MatmulMode::Exact || cols == 0 {
            return Self::exact(values, cols);
        }
        let padded = Q8Buffer::padded(cols);
        let rows = values.len() / cols;
        let codes = &mut buffer.codes[..rows * padded];
        let scales = &mut buffer.scales[..rows * padded / BLOCK];
        let sums = &mut buffer.sums[..rows * padded / 16];
        for_each_chunk3(
            cx.parallel,
            (codes, padded),
            (scales, padded / BLOCK),
            (sums, padded / 16),
            |row, codes, scales, sums| {
                cx.level.vectorize(
                    #[inline(always)]
                    || quantize(&values[row * cols..][..cols], codes, scales, sums),
                );
            },
        );
        Self { cols, values, q8: Some(Q8Row { codes, scales, sums }) }
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
        self.q8.map(|q8| Q8Row {
            codes: &q8.codes[row * padded..][..padded],
            scales: &q8.scales[row * (padded / BLOCK)..][..padded / BLOCK],
            sums: &q8.sums[row * (padded / 16)..][..padded / 16],
        })
    }

    /// Whether the rows were quantized.
    pub const fn is_quantized(&self) -> bool {
        self.q8.is_some()
    }
}

/// One row, block by block.
#[inline(always)]
fn quantize(values: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [i16]) {
    codes[values.len()..].fill(0);
    scales[values.len() / BLOCK..].fill(0.0);
    sums[values.len() / 16..].fill(0);
    for (block, (x, scale)) in values.chunks(BLOCK).zip(scales).enumerate() {
        let codes = &mut codes[block * BLOCK..][..BLOCK];
        // Magnitudes order as their bits do, and integers have a maximum that vectorizes.
        let max = f32::from_bits(x.iter().fold(0, |max, x| max.max(x.abs().to_bits())));
        *scale = max / 127.0;
        let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };
        for (code, x) in codes.iter_mut().zip(x) {
            // Adding 1.5 * 2^23 rounds to the nearest even integer and leaves it in the low bits (|x * inverse| <= 127).
            *code = (x * inverse + 12_582_912.0).to_bits() as i8;
        }
        for (sum, codes) in sums[block * 2..][..2].iter_mut().zip(codes.chunks(16)) {
            *sum = codes.iter().map(|&c| i16::from(c)).sum();
        }
    }
}
