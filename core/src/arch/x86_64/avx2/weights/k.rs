//! The K types.

use super::super::super::bytes::{eight, load128, load256_at, q3_k_scales, q4_k_scales};
use super::{Weights, f16_at, high, left, low, negative, right, scaled_8, scaled_16};
use core::arch::x86_64::*;

/// Q4_K's and Q5_K's scales and offsets, over codes.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn with_scales(block: &[u8], codes: [__m256i; 8]) -> Weights {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    let (sc, m) = q4_k_scales(block);
    let mut w = Weights::of_32(codes, scaled_8(d, eight(sc)));
    w.offsets[0] = scaled_8(negative(dmin), eight(m));
    w
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
    w.offsets = scaled_16(negative(dmin), _mm_and_si128(_mm_srli_epi16::<4>(packed), nibble));
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
