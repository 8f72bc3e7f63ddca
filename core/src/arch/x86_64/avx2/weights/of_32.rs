//! Types whose blocks are 32 weights, each with a scale of its own: eight blocks are a chunk.

use super::super::super::bytes::{e8m0s, f16s, load128, load256_at, u32_at};
use super::{Scales, high, low, nibbles, of_table, where_set};
use crate::quant::{fp4, iq4_nl};
use core::arch::x86_64::*;

/// Scales that come first in each block.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn scales<const BYTES: usize>(blocks: &[[u8; BYTES]; 8]) -> Scales {
    Scales::of_blocks(f16s(blocks, 0), _mm256_setzero_ps())
}

/// Scales that come first in each block, and offsets behind them.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn scales_offsets<const BYTES: usize>(blocks: &[[u8; BYTES]; 8]) -> Scales {
    Scales::of_blocks(f16s(blocks, 0), f16s(blocks, 2))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn mxfp4_scales(blocks: &[[u8; 17]; 8]) -> Scales {
    Scales::of_blocks(e8m0s(blocks), _mm256_setzero_ps())
}

/// `codes`, plus 16 where a bit is set.
#[target_feature(enable = "avx2")]
#[inline]
fn plus_sixteens(codes: __m256i, bits: u32) -> __m256i {
    let sixteens = _mm256_and_si256(where_set(_mm256_set1_epi32(bits.cast_signed()), 0), _mm256_set1_epi8(16));
    _mm256_or_si256(codes, sixteens)
}

/// Sixteen bytes at `at` in blocks `i` and `i` + 4: the low nibbles, then the high ones.
#[target_feature(enable = "avx2")]
#[inline]
fn halves<const BYTES: usize>(blocks: &[[u8; BYTES]; 8], at: usize, i: usize) -> [__m256i; 2] {
    let packed = _mm256_set_m128i(load128(&blocks[i + 4], at), load128(&blocks[i], at));
    [low(packed), high(packed)]
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q4_0_halves(blocks: &[[u8; 18]; 8], i: usize) -> [__m256i; 2] {
    halves(blocks, 2, i)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q4_1_halves(blocks: &[[u8; 20]; 8], i: usize) -> [__m256i; 2] {
    halves(blocks, 4, i)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn mxfp4_halves(blocks: &[[u8; 17]; 8], i: usize) -> [__m256i; 2] {
    let [a, b] = halves(blocks, 1, i);
    [of_table(&fp4::DOUBLED, 12, a), of_table(&fp4::DOUBLED, 12, b)]
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q4_0(blocks: &[[u8; 18]; 8], i: usize) -> __m256i {
    nibbles(load128(&blocks[i], 2))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q4_1(blocks: &[[u8; 20]; 8], i: usize) -> __m256i {
    nibbles(load128(&blocks[i], 4))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q5_0(blocks: &[[u8; 22]; 8], i: usize) -> __m256i {
    plus_sixteens(nibbles(load128(&blocks[i], 6)), u32_at(&blocks[i], 2))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q5_1(blocks: &[[u8; 24]; 8], i: usize) -> __m256i {
    plus_sixteens(nibbles(load128(&blocks[i], 8)), u32_at(&blocks[i], 4))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q8_0(blocks: &[[u8; 34]; 8], i: usize) -> __m256i {
    load256_at(&blocks[i], 2)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn iq4_nl(blocks: &[[u8; 18]; 8], i: usize) -> __m256i {
    of_table(&iq4_nl::VALUES, 0, nibbles(load128(&blocks[i], 2)))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn mxfp4(blocks: &[[u8; 17]; 8], i: usize) -> __m256i {
    of_table(&fp4::DOUBLED, 12, nibbles(load128(&blocks[i], 1)))
}
