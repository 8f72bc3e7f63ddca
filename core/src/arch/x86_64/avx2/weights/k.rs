//! The K types.

use super::super::super::bytes::{load128, load256_at, q3_k_scales, q4_k_scales, u16_at};
use super::super::short::Words;
use super::{Scales, Weights, high, left, low, right};
use core::arch::x86_64::*;

/// Q4_K's and Q5_K's scales and offsets from their bytes, and the f16 before them.
#[target_feature(enable = "avx2")]
#[inline]
fn scales(numbers: __m128i, block: &[u8]) -> Scales {
    let scales = _mm256_cvtepu8_epi16(numbers);
    Scales { scales, offsets: _mm256_setzero_si256(), units: [u16_at(block, 0), u16_at(block, 2)] }
}

/// Codes with Q4_K's and Q5_K's scales.
#[target_feature(enable = "avx2")]
#[inline]
fn with_scales(block: &[u8], codes: [__m256i; 8]) -> Weights {
    let (sc, m) = q4_k_scales(block);
    Weights { codes, scales: scales(_mm_set_epi64x(m.cast_signed(), sc.cast_signed()), block) }
}

/// Q4_K's and Q5_K's scales and offsets of four rows.
#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn words<const BYTES: usize>(chunks: [&[[u8; BYTES]; 1]; 4]) -> Words {
    let [[a], [b], [c], [d]] = chunks;
    // A lane a row: d, dmin (f16), and twelve bytes a, b, c; see `q4_k_scales`.
    let heads = [_mm256_set_m128i(load128(c, 0), load128(a, 0)), _mm256_set_m128i(load128(d, 0), load128(b, 0))];
    let lanes = |a, b, c, d| _mm256_broadcastsi128_si256(_mm_setr_epi32(a, b, c, d));
    let mut numbers = [_mm256_setzero_si256(); 2];
    for i in 0..2 {
        let aabb = _mm256_shuffle_epi8(heads[i], lanes(0x0706_0504, 0x0706_0504, 0x0b0a_0908, 0x0b0a_0908));
        let cc = _mm256_shuffle_epi8(heads[i], lanes(-1, 0x0f0e_0d0c, -1, 0x0f0e_0d0c));
        let upper = _mm256_and_si256(
            _mm256_srlv_epi32(aabb, lanes(0, 2, 0, 2)),
            lanes(0x3f3f_3f3f, 0x3030_3030, 0x3f3f_3f3f, 0x3030_3030),
        );
        let lower = _mm256_and_si256(_mm256_srlv_epi32(cc, lanes(0, 0, 0, 4)), _mm256_set1_epi8(15));
        numbers[i] = _mm256_or_si256(upper, lower);
    }
    let units = _mm256_unpacklo_epi32(heads[0], heads[1]);
    let units = _mm_unpacklo_epi64(_mm256_castsi256_si128(units), _mm256_extracti128_si256::<1>(units));
    Words { numbers, units }
}

/// Blocks 2 i and 2 i + 1 of Q4_K: of 32 bytes the low nibbles, and the high ones.
#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q4_k_blocks([block]: &[[u8; 144]; 1], i: usize) -> [__m256i; 2] {
    let packed = load256_at(block, 16 + 32 * i);
    [low(packed), high(packed)]
}

/// Blocks 2 i and 2 i + 1 of Q5_K: as Q4_K's, with bits 2 i and 2 i + 1 of 32 other bytes above them.
#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q5_k_blocks([block]: &[[u8; 176]; 1], i: usize) -> [__m256i; 2] {
    let (packed, plane) = (load256_at(block, 48 + 32 * i), load256_at(block, 16));
    [with_bit(low(packed), plane, 2 * i, 4), with_bit(high(packed), plane, 2 * i + 1, 4)]
}

/// All blocks, which come two by two.
#[target_feature(enable = "avx2")]
#[inline]
fn all(two_blocks: impl Fn(usize) -> [__m256i; 2]) -> [__m256i; 8] {
    let mut codes = [_mm256_setzero_si256(); 8];
    for i in 0..4 {
        [codes[2 * i], codes[2 * i + 1]] = two_blocks(i);
    }
    codes
}

/// Bits 2k, 2k + 1 of byte 32 h + i: of weight 128 h + 32 k + i.
#[target_feature(enable = "avx2")]
#[inline]
fn two_bits(packed: &[u8]) -> [__m256i; 8] {
    let mut codes = [_mm256_setzero_si256(); 8];
    for h in 0..2 {
        let packed = load256_at(packed, 32 * h);
        for k in 0..4 {
            codes[4 * h + k] = _mm256_and_si256(right(packed, 2 * k), _mm256_set1_epi8(3));
        }
    }
    codes
}

/// `codes`, with bit `from` of each byte of `plane` as bit `to`.
#[target_feature(enable = "avx2")]
#[inline]
fn with_bit(codes: __m256i, plane: __m256i, from: usize, to: usize) -> __m256i {
    let moved = if from < to { left(plane, to - from) } else { right(plane, from - to) };
    _mm256_or_si256(codes, _mm256_and_si256(moved, _mm256_set1_epi8(1 << to)))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q2_k([block]: &[[u8; 84]; 1]) -> Weights {
    let (packed, nibble) = (load128(block, 0), _mm_set1_epi8(15));
    let scales = Scales {
        scales: _mm256_cvtepu8_epi16(_mm_and_si128(packed, nibble)),
        offsets: _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16::<4>(packed), nibble)),
        units: [u16_at(block, 80), u16_at(block, 82)],
    };
    Weights { codes: two_bits(&block[16..80]), scales }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q3_k([block]: &[[u8; 110]; 1]) -> Weights {
    let (mut codes, plane) = (two_bits(&block[32..96]), load256_at(block, 0));
    for k in 0..8 {
        codes[k] = with_bit(codes[k], plane, k, 2);
    }
    Weights::of_16(codes, _mm256_cvtepi8_epi16(q3_k_scales(block)), u16_at(block, 108))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q4_k(chunk: &[[u8; 144]; 1]) -> Weights {
    let codes = all(
        #[inline(always)]
        |i| q4_k_blocks(chunk, i),
    );
    with_scales(&chunk[0], codes)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q5_k(chunk: &[[u8; 176]; 1]) -> Weights {
    let codes = all(
        #[inline(always)]
        |i| q5_k_blocks(chunk, i),
    );
    with_scales(&chunk[0], codes)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q6_k([block]: &[[u8; 210]; 1]) -> Weights {
    let mut codes = [_mm256_setzero_si256(); 8];
    for h in 0..2 {
        // Of each half's 64 bytes the low nibbles, then the high ones; bits 2k, 2k + 1 of 32 bytes above them.
        let (a, b, upper) =
            (load256_at(block, 64 * h), load256_at(block, 64 * h + 32), load256_at(block, 128 + 32 * h));
        let lower = [low(a), low(b), high(a), high(b)];
        for k in 0..4 {
            let moved = if k < 2 { left(upper, 4 - 2 * k) } else { right(upper, 2 * k - 4) };
            codes[4 * h + k] = _mm256_or_si256(lower[k], _mm256_and_si256(moved, _mm256_set1_epi8(0x30)));
        }
    }
    Weights::of_16(codes, _mm256_cvtepi8_epi16(load128(block, 192)), u16_at(block, 208))
}
