//! Types whose blocks are 32 weights, each with a scale of its own: eight blocks are a chunk.

use super::{Weights, load128, load256, nibbles_of_16, of_table, plus, plus_where, u16_at, u32_at};
use crate::quant::{fp4, iq4_nl};
use core::arch::x86_64::*;

/// An f16 at `at` in each block.
#[target_feature(enable = "f16c,avx512f")]
#[inline]
fn f16s<const BYTES: usize>(blocks: &[[u8; BYTES]; 8], at: usize) -> __m512 {
    let [a, b, c, d, e, f, g, h] = blocks.each_ref().map(|block| u16_at(block, at).cast_signed());
    _mm512_castps256_ps512(_mm256_cvtph_ps(_mm_setr_epi16(a, b, c, d, e, f, g, h)))
}

/// Sixteen bytes at `at` in each block: of each block the low nibbles, then the high ones.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn nibbles<const BYTES: usize>(blocks: &[[u8; BYTES]; 8], at: usize) -> [__m512i; 4] {
    let four = |b: usize| {
        let v = _mm512_castsi128_si512(load128(&blocks[b], at));
        let v = _mm512_inserti32x4::<1>(v, load128(&blocks[b + 1], at));
        let v = _mm512_inserti32x4::<2>(v, load128(&blocks[b + 2], at));
        nibbles_of_16(_mm512_inserti32x4::<3>(v, load128(&blocks[b + 3], at)))
    };
    let ([a, b], [c, d]) = (four(0), four(4));
    [a, b, c, d]
}

/// 32 bits at `at` in each block, one a weight.
#[inline(always)]
fn bits<const BYTES: usize>(blocks: &[[u8; BYTES]; 8], at: usize) -> [u64; 4] {
    core::array::from_fn(|i| u64::from(u32_at(&blocks[2 * i], at)) | u64::from(u32_at(&blocks[2 * i + 1], at)) << 32)
}

#[target_feature(enable = "f16c,avx512f,avx512bw")]
#[inline]
pub(super) fn q4_0(blocks: &[[u8; 18]; 8]) -> Weights {
    // minus 8, plus 128
    Weights { codes: plus(nibbles(blocks, 2), 120), scales: f16s(blocks, 0), offsets: _mm512_setzero_ps() }
}

#[target_feature(enable = "f16c,avx512f,avx512bw")]
#[inline]
pub(super) fn q4_1(blocks: &[[u8; 20]; 8]) -> Weights {
    Weights { codes: nibbles(blocks, 4), scales: f16s(blocks, 0), offsets: f16s(blocks, 2) }
}

#[target_feature(enable = "f16c,avx512f,avx512bw")]
#[inline]
pub(super) fn q5_0(blocks: &[[u8; 22]; 8]) -> Weights {
    let codes = plus_where(nibbles(blocks, 6), bits(blocks, 2), 16);
    // minus 16, plus 128
    Weights { codes: plus(codes, 112), scales: f16s(blocks, 0), offsets: _mm512_setzero_ps() }
}

#[target_feature(enable = "f16c,avx512f,avx512bw")]
#[inline]
pub(super) fn q5_1(blocks: &[[u8; 24]; 8]) -> Weights {
    let codes = plus_where(nibbles(blocks, 8), bits(blocks, 4), 16);
    Weights { codes, scales: f16s(blocks, 0), offsets: f16s(blocks, 2) }
}

#[target_feature(enable = "f16c,avx512f,avx512bw")]
#[inline]
pub(super) fn q8_0(blocks: &[[u8; 34]; 8]) -> Weights {
    let codes = core::array::from_fn(|i| {
        let pair = _mm512_castsi256_si512(load256(&blocks[2 * i], 2));
        let pair = _mm512_inserti64x4::<1>(pair, load256(&blocks[2 * i + 1], 2));
        _mm512_xor_si512(pair, _mm512_set1_epi8(-128))
    });
    Weights { codes, scales: f16s(blocks, 0), offsets: _mm512_setzero_ps() }
}

#[target_feature(enable = "f16c,avx512f,avx512bw")]
#[inline]
pub(super) fn iq4_nl(blocks: &[[u8; 18]; 8]) -> Weights {
    let codes = of_table(&iq4_nl::VALUES, nibbles(blocks, 2));
    Weights { codes, scales: f16s(blocks, 0), offsets: _mm512_setzero_ps() }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn mxfp4(blocks: &[[u8; 17]; 8]) -> Weights {
    let e = super::eight(u64::from_le_bytes(blocks.each_ref().map(|block| block[0])));
    // 2^(e - 127) / 2: e = 0 is a subnormal, e = 255 is NaN.
    let bits = _mm256_max_epi32(_mm256_slli_epi32::<23>(e), _mm256_set1_epi32(1 << 22));
    let nan = _mm256_cmpeq_epi32_mask(e, _mm256_set1_epi32(255));
    let bits = _mm256_mask_mov_epi32(bits, nan, _mm256_set1_epi32(0x7fc0_0000));
    let scales = _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0.5));
    let codes = of_table(&fp4::DOUBLED, nibbles(blocks, 1));
    Weights { codes, scales: _mm512_castps256_ps512(scales), offsets: _mm512_setzero_ps() }
}
