//! Types whose blocks are 32 weights, each with a scale of its own: eight blocks are a chunk.

use super::super::super::bytes::{eight, load128, load256_at, u16_at, u32_at};
use super::{Weights, nibbles, of_table, where_set};
use crate::quant::{fp4, iq4_nl};
use core::arch::x86_64::*;

/// An f16 at `at` in each block.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn f16s<const BYTES: usize>(blocks: &[[u8; BYTES]; 8], at: usize) -> __m256 {
    let mut bits = [0; 8];
    for b in 0..8 {
        bits[b] = u16_at(&blocks[b], at);
    }
    // SAFETY: eight times two bytes are read.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(bits.as_ptr().cast()) })
}

/// Sixteen bytes at `at` in each block: the low nibbles are its first half, the high ones its second.
#[target_feature(enable = "avx2")]
#[inline]
fn packed<const BYTES: usize>(blocks: &[[u8; BYTES]; 8], at: usize) -> [__m256i; 8] {
    let mut codes = [_mm256_setzero_si256(); 8];
    for b in 0..8 {
        codes[b] = nibbles(load128(&blocks[b], at));
    }
    codes
}

/// `codes`, plus 16 where one of the 32 bits at `at` in each block is set.
#[target_feature(enable = "avx2")]
#[inline]
fn plus_sixteens<const BYTES: usize>(mut codes: [__m256i; 8], blocks: &[[u8; BYTES]; 8], at: usize) -> [__m256i; 8] {
    for b in 0..8 {
        let sixteens = _mm256_and_si256(where_set(u32_at(&blocks[b], at)), _mm256_set1_epi8(16));
        codes[b] = _mm256_or_si256(codes[b], sixteens);
    }
    codes
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn q4_0(blocks: &[[u8; 18]; 8]) -> Weights {
    Weights::new(packed(blocks, 2), f16s(blocks, 0), _mm256_setzero_ps())
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn q4_1(blocks: &[[u8; 20]; 8]) -> Weights {
    Weights::new(packed(blocks, 4), f16s(blocks, 0), f16s(blocks, 2))
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn q5_0(blocks: &[[u8; 22]; 8]) -> Weights {
    Weights::new(plus_sixteens(packed(blocks, 6), blocks, 2), f16s(blocks, 0), _mm256_setzero_ps())
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn q5_1(blocks: &[[u8; 24]; 8]) -> Weights {
    Weights::new(plus_sixteens(packed(blocks, 8), blocks, 4), f16s(blocks, 0), f16s(blocks, 2))
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn q8_0(blocks: &[[u8; 34]; 8]) -> Weights {
    let mut codes = [_mm256_setzero_si256(); 8];
    for b in 0..8 {
        codes[b] = load256_at(&blocks[b], 2);
    }
    Weights::new(codes, f16s(blocks, 0), _mm256_setzero_ps())
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn iq4_nl(blocks: &[[u8; 18]; 8]) -> Weights {
    let mut codes = packed(blocks, 2);
    for b in 0..8 {
        codes[b] = of_table(&iq4_nl::VALUES, 0, codes[b]);
    }
    Weights::new(codes, f16s(blocks, 0), _mm256_setzero_ps())
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn mxfp4(blocks: &[[u8; 17]; 8]) -> Weights {
    let (mut codes, mut e) = (packed(blocks, 1), [0; 8]);
    for b in 0..8 {
        codes[b] = of_table(&fp4::DOUBLED, 12, codes[b]);
        e[b] = blocks[b][0];
    }
    let e = eight(u64::from_le_bytes(e));
    // 2^(e - 127) / 2: e = 0 is a subnormal, e = 255 is NaN.
    let bits = _mm256_max_epi32(_mm256_slli_epi32::<23>(e), _mm256_set1_epi32(1 << 22));
    let nan = _mm256_cmpeq_epi32(e, _mm256_set1_epi32(255));
    let bits = _mm256_blendv_epi8(bits, _mm256_set1_epi32(0x7fc0_0000), nan);
    Weights::new(codes, _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0.5)), _mm256_setzero_ps())
}
