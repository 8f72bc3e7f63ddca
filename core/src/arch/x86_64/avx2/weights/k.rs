//! The K types.

use super::super::super::bytes::{eight, load128, load256_at, q3_k_scales, q4_k_scales};
use super::{Scales, Weights, f16_at, high, left, low, negative, right, scaled_8, scaled_16};
use core::arch::x86_64::*;

/// Q4_K's and Q5_K's scales and offsets, over codes.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn with_scales(block: &[u8], codes: [__m256i; 8]) -> Weights {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    let (sc, m) = q4_k_scales(block);
    let mut w = Weights::of_32(codes, scaled_8(d, eight(sc)));
    w.scales.offsets[0] = scaled_8(negative(dmin), eight(m));
    w
}

/// As [`with_scales`], of four rows at once.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn beside<const BYTES: usize>(chunks: [&[[u8; BYTES]; 1]; 4]) -> [Scales; 4] {
    let [[a], [b], [c], [d]] = chunks;
    // A lane a row: d, dmin (f16), and twelve bytes a, b, c; see `q4_k_scales`.
    let heads = [_mm256_set_m128i(load128(b, 0), load128(a, 0)), _mm256_set_m128i(load128(d, 0), load128(c, 0))];
    let lanes = |a, b, c, d| _mm256_broadcastsi128_si256(_mm_setr_epi32(a, b, c, d));
    let mut numbers = [[[0; 8]; 2]; 4]; // [row][scales, minimums]
    for i in 0..2 {
        let aabb = _mm256_shuffle_epi8(heads[i], lanes(0x0706_0504, 0x0706_0504, 0x0b0a_0908, 0x0b0a_0908));
        let cc = _mm256_shuffle_epi8(heads[i], lanes(-1, 0x0f0e_0d0c, -1, 0x0f0e_0d0c));
        let upper = _mm256_and_si256(
            _mm256_srlv_epi32(aabb, lanes(0, 2, 0, 2)),
            lanes(0x3f3f_3f3f, 0x3030_3030, 0x3f3f_3f3f, 0x3030_3030),
        );
        let lower = _mm256_and_si256(_mm256_srlv_epi32(cc, lanes(0, 0, 0, 4)), _mm256_set1_epi8(15));
        let two = &mut numbers.as_chunks_mut::<2>().0[i];
        // SAFETY: 32 bytes are written.
        unsafe { _mm256_storeu_si256(two.as_mut_ptr().cast(), _mm256_or_si256(upper, lower)) };
    }
    // d and dmin of rows 0, 2, 1 and 3.
    let factors = _mm256_permute4x64_epi64::<0b00_00_10_00>(_mm256_unpacklo_epi32(heads[0], heads[1]));
    let mut of_row = [[0.0; 2]; 4];
    // SAFETY: eight values are written.
    unsafe { _mm256_storeu_ps(of_row.as_mut_ptr().cast(), _mm256_cvtph_ps(_mm256_castsi256_si128(factors))) };
    let mut scales = [Weights::ZERO.scales; 4];
    for r in 0..4 {
        let ([sc, m], [d, dmin]) = (numbers[r], of_row[r % 2 * 2 + r / 2]);
        scales[r].scales[0] = scaled_8(_mm256_set1_ps(d), eight(u64::from_le_bytes(sc)));
        scales[r].offsets[0] = scaled_8(_mm256_set1_ps(-dmin), eight(u64::from_le_bytes(m)));
    }
    scales
}

/// 128 bytes: of each 32 the low nibbles, then the high ones.
#[target_feature(enable = "avx2")]
#[inline]
fn nibbles_of_32(packed: &[u8]) -> [__m256i; 8] {
    let mut codes = [_mm256_setzero_si256(); 8];
    for i in 0..4 {
        let packed = load256_at(packed, 32 * i);
        codes[2 * i] = low(packed);
        codes[2 * i + 1] = high(packed);
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

/// `codes`, with bit k of byte i of `plane` as bit `bit` of weight 32 k + i.
#[target_feature(enable = "avx2")]
#[inline]
fn with_plane(mut codes: [__m256i; 8], plane: __m256i, bit: usize) -> [__m256i; 8] {
    for k in 0..8 {
        let moved = if k < bit { left(plane, bit - k) } else { right(plane, k - bit) };
        codes[k] = _mm256_or_si256(codes[k], _mm256_and_si256(moved, _mm256_set1_epi8(1 << bit)));
    }
    codes
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn q2_k([block]: &[[u8; 84]; 1]) -> Weights {
    let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
    let (packed, nibble) = (load128(block, 0), _mm_set1_epi8(15));
    let mut w = Weights::of_16(two_bits(&block[16..80]), scaled_16(d, _mm_and_si128(packed, nibble)));
    w.scales.offsets = scaled_16(negative(dmin), _mm_and_si128(_mm_srli_epi16::<4>(packed), nibble));
    w
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn q3_k([block]: &[[u8; 110]; 1]) -> Weights {
    let scales = scaled_16(f16_at(block, 108), q3_k_scales(block));
    Weights::of_16(with_plane(two_bits(&block[32..96]), load256_at(block, 0), 2), scales)
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn q4_k([block]: &[[u8; 144]; 1]) -> Weights {
    with_scales(block, nibbles_of_32(&block[16..]))
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn q5_k([block]: &[[u8; 176]; 1]) -> Weights {
    with_scales(block, with_plane(nibbles_of_32(&block[48..]), load256_at(block, 16), 4))
}

#[target_feature(enable = "avx2,f16c")]
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
    Weights::of_16(codes, scaled_16(f16_at(block, 208), load128(block, 192)))
}
