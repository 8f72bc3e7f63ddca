//! The K types.

use super::{Codes, Scales, Words, eight, in_lanes, load128, load256_at, load512, nibbles, plus_where, u16_at, u32_at};
use crate::arch::x86_64::bytes::{self, q4_k_scales};
use core::arch::x86_64::*;

/// Q4_K's and Q5_K's scales and offsets.
#[target_feature(enable = "avx2,avx512f")]
#[inline]
pub(in super::super) fn q4_k_and_q5_k_scales<const BYTES: usize>([block]: &[[u8; BYTES]; 1]) -> Scales {
    let (sc, m) = q4_k_scales(block);
    let wide = |bytes| _mm512_castsi256_si512(eight(bytes));
    Scales { scales: wide(sc), offsets: wide(m), units: u32_at(block, 0) }
}

/// [`q4_k_and_q5_k_scales`] of four blocks at once.
#[target_feature(enable = "avx2,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn words(headers: [__m128i; 4]) -> Words {
    // A lane a block: d, dmin (f16), and twelve bytes a, b, c.
    let v = in_lanes(headers);
    let abab = _mm512_shuffle_epi8(
        v,
        _mm512_broadcast_i32x4(_mm_setr_epi32(0x0706_0504, 0x0b0a_0908, 0x0706_0504, 0x0b0a_0908)),
    );
    let cc = _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(_mm_setr_epi32(-1, -1, 0x0f0e_0d0c, 0x0f0e_0d0c)));
    let upper = _mm512_and_si512(
        _mm512_srlv_epi32(abab, _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 2, 2))),
        _mm512_broadcast_i32x4(_mm_setr_epi32(0x3f3f_3f3f, 0x3f3f_3f3f, 0x3030_3030, 0x3030_3030)),
    );
    let lower = _mm512_srlv_epi32(cc, _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 0, 4)));
    // A lane a block: scales 0..4, offsets 0..4, scales 4..8, offsets 4..8, a byte each.
    let numbers = _mm512_or_si512(upper, _mm512_and_si512(lower, _mm512_set1_epi8(15)));
    // Eight of them, and zeros as upper bytes.
    let eight = |first: i8| {
        let order = _mm_setr_epi8(0, -1, 1, -1, 2, -1, 3, -1, 8, -1, 9, -1, 10, -1, 11, -1);
        _mm512_shuffle_epi8(numbers, _mm512_broadcast_i32x4(_mm_add_epi8(order, _mm_set1_epi16(first.into()))))
    };
    let units = _mm512_castsi128_si512(_mm_setr_epi16(0, 8, 16, 24, 1, 9, 17, 25));
    let units = _mm512_castsi512_si128(_mm512_permutexvar_epi16(units, v));
    Words { scales: eight(0), offsets: eight(4), units }
}

/// Nibbles of 128 bytes: of each 32 bytes the low ones are a block, and the high ones the next.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn nibbles_of_32(packed: &[[u8; 64]]) -> Codes {
    let (a, b) = (load512(&packed[0]), load512(&packed[1]));
    let [even_first, odd_first] = nibbles(_mm512_shuffle_i64x2::<0b10_00_10_00>(a, b));
    let [even_second, odd_second] = nibbles(_mm512_shuffle_i64x2::<0b11_01_11_01>(a, b));
    [even_first, even_second, odd_first, odd_second]
}

/// [`q4_k`], but odd blocks' codes times 16: high nibbles where they are.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn q4_k_left([block]: &[[u8; 144]; 1]) -> Codes {
    let packed = block[16..].as_chunks().0;
    let (a, b) = (load512(&packed[0]), load512(&packed[1]));
    let (first, second) = (_mm512_shuffle_i64x2::<0b10_00_10_00>(a, b), _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b));
    let (low, high) = (_mm512_set1_epi8(15), _mm512_set1_epi8(-16));
    [
        _mm512_and_si512(first, low),
        _mm512_and_si512(second, low),
        _mm512_and_si512(first, high),
        _mm512_and_si512(second, high),
    ]
}

/// Bits 2k, 2k + 1 of byte 32 h + i: of weight 128 h + 32 k + i.
#[target_feature(enable = "avx512f")]
#[inline]
fn two_bits(packed: &[u8]) -> Codes {
    let mask = _mm512_set1_epi8(3);
    let half = |h: usize| {
        let v = _mm512_broadcast_i64x4(load256_at(packed, 32 * h));
        let v = _mm512_srlv_epi64(v, _mm512_setr_epi64(0, 0, 0, 0, 2, 2, 2, 2));
        [_mm512_and_si512(v, mask), _mm512_and_si512(_mm512_srli_epi64::<4>(v), mask)]
    };
    let ([a, b], [c, d]) = (half(0), half(1));
    [a, b, c, d]
}

/// Bit k of byte i of 32: of weight 32 k + i.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn bits(packed: __m256i) -> [u64; 4] {
    let packed = _mm512_broadcast_i64x4(packed);
    each!(i in [0; 4] => {
        let bits = _mm512_inserti64x4::<1>(
            _mm512_set1_epi8((1u8 << (2 * i)).cast_signed()),
            _mm256_set1_epi8((2u8 << (2 * i)).cast_signed()),
        );
        _mm512_test_epi8_mask(packed, bits)
    })
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn q2_k([block]: &[[u8; 84]; 1]) -> Codes {
    two_bits(&block[16..80])
}

#[target_feature(enable = "avx2,avx512f")]
#[inline]
pub(in super::super) fn q2_k_scales([block]: &[[u8; 84]; 1]) -> Scales {
    let packed = _mm512_cvtepu8_epi32(load128(block, 0));
    let scales = _mm512_and_si512(packed, _mm512_set1_epi32(15));
    Scales { scales, offsets: _mm512_srli_epi32::<4>(packed), units: u32_at(block, 80) }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn q3_k([block]: &[[u8; 110]; 1]) -> Codes {
    plus_where(two_bits(&block[32..96]), bits(load256_at(block, 0)), 4)
}

#[target_feature(enable = "avx2,avx512f")]
#[inline]
pub(in super::super) fn q3_k_scales([block]: &[[u8; 110]; 1]) -> Scales {
    Scales::of_16(_mm512_cvtepi8_epi32(bytes::q3_k_scales(block)), u16_at(block, 108))
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn q4_k([block]: &[[u8; 144]; 1]) -> Codes {
    nibbles_of_32(block[16..].as_chunks().0)
}

#[target_feature(enable = "avx2,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn q5_k([block]: &[[u8; 176]; 1]) -> Codes {
    // Bit b of 32 bytes: of the weights of block b, one a byte.
    let (first, second) = (_mm512_broadcast_i32x4(load128(block, 16)), _mm512_broadcast_i32x4(load128(block, 32)));
    // Bit 2 l in lane l; no bit crosses a byte as it moves.
    let ones = _mm512_set1_epi8(1);
    let even = _mm512_sllv_epi64(ones, _mm512_setr_epi64(0, 0, 2, 2, 4, 4, 6, 6));
    let odd = _mm512_slli_epi64::<1>(even);
    let bits = [
        _mm512_test_epi8_mask(first, even),
        _mm512_test_epi8_mask(second, even),
        _mm512_test_epi8_mask(first, odd),
        _mm512_test_epi8_mask(second, odd),
    ];
    plus_where(nibbles_of_32(block[48..].as_chunks().0), bits, 16)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn q6_k([block]: &[[u8; 210]; 1]) -> Codes {
    let low = block.as_chunks::<64>().0;
    each!(i in [_mm512_setzero_si512(); 4] => {
        // Of each half's 64 bytes the low nibbles, then the high ones; of its 32 bytes all first pairs of bits, all second,
        // and so on. No bit that is kept crosses a byte as it moves.
        let pairs = _mm512_broadcast_i64x4(load256_at(block, 128 + 32 * (i / 2)));
        let (low, high) = if i % 2 == 0 {
            (load512(&low[i / 2]), _mm512_sllv_epi64(pairs, _mm512_setr_epi64(4, 4, 4, 4, 2, 2, 2, 2)))
        } else {
            let low = _mm512_srli_epi16::<4>(load512(&low[i / 2]));
            (low, _mm512_srlv_epi64(pairs, _mm512_setr_epi64(0, 0, 0, 0, 2, 2, 2, 2)))
        };
        // high where a bit of 0x30 is set, else low
        let code = _mm512_ternarylogic_epi32::<0xca>(_mm512_set1_epi8(0x30), high, low);
        _mm512_and_si512(code, _mm512_set1_epi8(0x3f))
    })
}

#[target_feature(enable = "avx2,avx512f")]
#[inline]
pub(in super::super) fn q6_k_scales([block]: &[[u8; 210]; 1]) -> Scales {
    Scales::of_16(_mm512_cvtepi8_epi32(load128(block, 192)), u16_at(block, 208))
}
