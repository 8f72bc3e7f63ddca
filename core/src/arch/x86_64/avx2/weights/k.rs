//! The K types.

use super::super::super::bytes::{self, load128, load256_at, q4_k_scales, u16_at};
use super::super::short::Words;
use super::{Scales, high, left, low, right};
use core::arch::x86_64::*;

/// Q4_K's and Q5_K's scales and offsets of four chunks.
#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn words<const BYTES: usize>([[a], [b], [c], [d]]: &[[[u8; BYTES]; 1]; 4]) -> Words {
    // A lane a chunk: d, dmin (f16), and twelve bytes a, b, c; see `q4_k_scales`.
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

/// Q4_K's and Q5_K's.
#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn scales_offsets<const BYTES: usize>([block]: &[[u8; BYTES]; 1]) -> Scales {
    let (sc, m) = q4_k_scales(block);
    let scales = _mm256_cvtepu8_epi16(_mm_set_epi64x(m.cast_signed(), sc.cast_signed()));
    Scales { scales, units: [u16_at(block, 0), u16_at(block, 2)], ..Scales::ZERO }
}

/// Of each 32 bytes the low nibbles, then the high ones.
#[target_feature(enable = "avx2")]
#[inline]
fn nibbles_of_32(packed: &[u8], i: usize) -> __m256i {
    let packed = load256_at(packed, 32 * (i / 2));
    if i.is_multiple_of(2) { low(packed) } else { high(packed) }
}

/// Bits 2k, 2k + 1 of byte 32 h + j: of weight 128 h + 32 k + j.
#[target_feature(enable = "avx2")]
#[inline]
fn two_bits(packed: &[u8], i: usize) -> __m256i {
    let (h, k) = (i / 4, i % 4);
    _mm256_and_si256(right(load256_at(packed, 32 * h), 2 * k), _mm256_set1_epi8(3))
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
pub(in super::super) fn q2_k_scales([block]: &[[u8; 84]; 1]) -> Scales {
    let (packed, nibble) = (load128(block, 0), _mm_set1_epi8(15));
    Scales {
        scales: _mm256_cvtepu8_epi16(_mm_and_si128(packed, nibble)),
        offsets: _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16::<4>(packed), nibble)),
        units: [u16_at(block, 80), u16_at(block, 82)],
        ..Scales::ZERO
    }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q2_k([block]: &[[u8; 84]; 1], i: usize) -> __m256i {
    two_bits(&block[16..80], i)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q3_k_scales([block]: &[[u8; 110]; 1]) -> Scales {
    Scales::of_16(_mm256_cvtepi8_epi16(bytes::q3_k_scales(block)), u16_at(block, 108))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q3_k([block]: &[[u8; 110]; 1], i: usize) -> __m256i {
    with_bit(two_bits(&block[32..96], i), load256_at(block, 0), i, 2)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q4_k([block]: &[[u8; 144]; 1], i: usize) -> __m256i {
    nibbles_of_32(&block[16..], i)
}

/// As Q4_K's, with bit `i` of 32 other bytes above them.
#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q5_k([block]: &[[u8; 176]; 1], i: usize) -> __m256i {
    with_bit(nibbles_of_32(&block[48..], i), load256_at(block, 16), i, 4)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q6_k_scales([block]: &[[u8; 210]; 1]) -> Scales {
    Scales::of_16(_mm256_cvtepi8_epi16(load128(block, 192)), u16_at(block, 208))
}

/// Of each half's 64 bytes the low nibbles, then the high ones; bits 2k, 2k + 1 of 32 bytes above them.
#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn q6_k([block]: &[[u8; 210]; 1], i: usize) -> __m256i {
    let (h, k) = (i / 4, i % 4);
    let (lower, upper) = (load256_at(block, 64 * h + 32 * (k % 2)), load256_at(block, 128 + 32 * h));
    let lower = if k < 2 { low(lower) } else { high(lower) };
    let moved = if k < 2 { left(upper, 4 - 2 * k) } else { right(upper, 2 * k - 4) };
    _mm256_or_si256(lower, _mm256_and_si256(moved, _mm256_set1_epi8(0x30)))
}
