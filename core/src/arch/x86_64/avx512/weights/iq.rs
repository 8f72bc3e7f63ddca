//! The IQ types of blocks of 256: values of a table or of a codebook, which may have signs or shifts of their own.

use super::{Codes, Scales, eight, halves, load128, load256_at, load512, nibbles, of_table, u16_at, u32_at, u64_at};
use crate::arch::x86_64::bytes::{even_signs, numbers, sevens};
use crate::quant::{iq1_s, iq2_s, iq2_xs, iq2_xxs, iq3_s, iq3_xxs, iq4_nl, packed};
use core::arch::x86_64::*;

/// `2 sc + 1`.
#[target_feature(enable = "avx2")]
#[inline]
fn odd_8(sc: __m256i) -> __m256i {
    _mm256_or_si256(_mm256_add_epi32(sc, sc), _mm256_set1_epi32(1))
}

/// `2 sc + 1`.
#[target_feature(enable = "avx512f")]
#[inline]
fn odd_16(sc: __m512i) -> __m512i {
    _mm512_or_si512(_mm512_add_epi32(sc, sc), _mm512_set1_epi32(1))
}

/// IQ2_XS's and IQ2_S's scales: of eight bytes a low and a high nibble, and again.
#[target_feature(enable = "avx512f")]
#[inline]
fn scales_of_16(packed: u64) -> __m512i {
    let (packed, nibble) = (_mm_cvtsi64_si128(packed.cast_signed()), _mm_set1_epi8(15));
    let sc = _mm_unpacklo_epi8(_mm_and_si128(packed, nibble), _mm_and_si128(_mm_srli_epi16::<4>(packed), nibble));
    odd_16(_mm512_cvtepu8_epi32(sc))
}

/// The codebook's words `numbers` (bits above N do not count), looked up in registers, 64 words of it at a time.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn packed_entries<const N: usize>(packed: &[u16; N], numbers: __m512i) -> __m512i {
    const { assert!(N.is_power_of_two() && N >= 64 && N <= 512) };
    let mut found = [_mm512_setzero_si512(); 8];
    let mut n = N / 64;
    let packed = packed.as_chunks::<64>().0;
    for i in 0..n {
        let packed = &packed[i];
        // SAFETY: 64 bytes are read from each half.
        let (low, high) =
            unsafe { (_mm512_loadu_si512(packed.as_ptr().cast()), _mm512_loadu_si512(packed[32..].as_ptr().cast())) };
        found[i] = _mm512_permutex2var_epi16(low, numbers, high);
    }
    let mut bit = 64;
    while n > 1 {
        let upper = _mm512_test_epi16_mask(numbers, _mm512_set1_epi16(bit));
        for i in 0..n / 2 {
            found[i] = _mm512_mask_mov_epi16(found[2 * i], upper, found[2 * i + 1]);
        }
        (n, bit) = (n / 2, bit * 2);
    }
    found[0]
}

/// Eight entries of eight values, of the numbers' lower bits, read one by one: in registers, as [`packed_entries`] does, took
/// a tenth longer with IQ2_XS.
#[target_feature(enable = "avx512f")]
#[inline]
fn entries_of_8<const N: usize>(grid: &[[i8; 8]; N], numbers: [[usize; 4]; 2]) -> __m512i {
    const { assert!(N.is_power_of_two()) };
    let entries = each!(i in [0_i64; 8] => bytemuck::cast(grid[numbers[i / 4][i % 4] & (N - 1)]));
    let [a, b, c, d, e, f, g, h] = entries;
    _mm512_setr_epi64(a, b, c, d, e, f, g, h)
}

/// 64 entries of four values, 4 bits each.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn entries_of_4<const N: usize>(packed: &[u16; N], values: [i8; 8], numbers: [__m512i; 2]) -> Codes {
    let (a, b) = (packed_entries(packed, numbers[0]), packed_entries(packed, numbers[1]));
    let table = _mm512_set1_epi64(i64::from_le_bytes(each!(i in [0; 8] => values[i].cast_unsigned())));
    let sixteen = |words| {
        let words = _mm512_cvtepu16_epi32(words);
        let bytes = _mm512_or_si512(words, _mm512_slli_epi32::<8>(words));
        let bytes = _mm512_and_si512(bytes, _mm512_set1_epi32(0x00ff_00ff));
        let nibbles = _mm512_or_si512(bytes, _mm512_slli_epi32::<4>(bytes));
        _mm512_shuffle_epi8(table, _mm512_and_si512(nibbles, _mm512_set1_epi8(15)))
    };
    [
        sixteen(_mm512_castsi512_si256(a)),
        sixteen(_mm512_extracti64x4_epi64::<1>(a)),
        sixteen(_mm512_castsi512_si256(b)),
        sixteen(_mm512_extracti64x4_epi64::<1>(b)),
    ]
}

/// `values`, negated where a bit is set, raised by 128.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn signed(values: Codes, negative: [u64; 4]) -> Codes {
    let zero = _mm512_set1_epi8(-128);
    each!(i in [_mm512_setzero_si512(); 4] => {
        let raised = _mm512_xor_si512(zero, values[i]);
        _mm512_mask_sub_epi8(raised, negative[i], zero, values[i])
    })
}

/// The words of a vector.
#[target_feature(enable = "avx2")]
#[inline]
fn words(v: __m256i) -> [u64; 4] {
    [
        _mm256_extract_epi64::<0>(v).cast_unsigned(),
        _mm256_extract_epi64::<1>(v).cast_unsigned(),
        _mm256_extract_epi64::<2>(v).cast_unsigned(),
        _mm256_extract_epi64::<3>(v).cast_unsigned(),
    ]
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq4_xs([block]: &[[u8; 136]; 1]) -> Codes {
    // Of sixteen bytes the low nibbles are a block's first half, the high ones its second.
    let packed = block[8..].as_chunks().0;
    let (a, b) = (load512(&packed[0]), load512(&packed[1]));
    let [even_first, even_second] = nibbles(_mm512_shuffle_i64x2::<0b10_00_10_00>(a, b));
    let [odd_first, odd_second] = nibbles(_mm512_shuffle_i64x2::<0b11_01_11_01>(a, b));
    of_table(&iq4_nl::VALUES, -128, [even_first, even_second, odd_first, odd_second])
}

#[target_feature(enable = "avx2,bmi2,avx512f")]
#[inline]
pub(in super::super) fn iq4_xs_scales([block]: &[[u8; 136]; 1]) -> Scales {
    let (high, low) = (u16_at(block, 2), u32_at(block, 4));
    let sc = _pdep_u64(low.into(), 0x0f0f_0f0f_0f0f_0f0f) | _pdep_u64(high.into(), 0x3030_3030_3030_3030);
    Scales::of_32(_mm256_sub_epi32(eight(sc), _mm256_set1_epi32(32)), u16_at(block, 0))
}

/// Of each of IQ2_XXS's groups the word of four signs and a scale; before it lies a word of four numbers.
#[target_feature(enable = "avx512f")]
#[inline]
fn iq2_xxs_words(block: &[u8; 66]) -> __m256i {
    _mm512_cvtepi64_epi32(_mm512_srli_epi64::<32>(load512(&block[2..].as_chunks().0[0])))
}

#[target_feature(enable = "avx2,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq2_xxs([block]: &[[u8; 66]; 1]) -> Codes {
    let four = |group: usize| numbers((u32_at(block, 2 + 8 * group).into(), 8), (0, 0));
    let zeros = [_mm512_setzero_si512(); 4];
    let values = each!(i in zeros => entries_of_8(&iq2_xxs::GRID, [four(2 * i), four(2 * i + 1)]));
    halves(signed(values, words(even_signs(sevens(iq2_xxs_words(block))))))
}

#[target_feature(enable = "avx2,avx512f")]
#[inline]
pub(in super::super) fn iq2_xxs_scales([block]: &[[u8; 66]; 1]) -> Scales {
    Scales::of_32(odd_8(_mm256_srli_epi32::<28>(iq2_xxs_words(block))), u16_at(block, 0))
}

#[target_feature(enable = "avx2,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq2_xs([block]: &[[u8; 74]; 1]) -> Codes {
    let four = |i: usize| numbers((u64_at(block, 2 + 8 * i), 16), (0, 0));
    let zeros = [_mm512_setzero_si512(); 4];
    let values = each!(i in zeros => entries_of_8(&iq2_xs::GRID, [four(2 * i), four(2 * i + 1)]));
    let sevens = _mm512_srli_epi16::<9>(load512(&block[2..].as_chunks().0[0]));
    signed(values, words(even_signs(_mm512_cvtepi16_epi8(sevens))))
}

#[target_feature(enable = "avx2,avx512f")]
#[inline]
pub(in super::super) fn iq2_xs_scales([block]: &[[u8; 74]; 1]) -> Scales {
    Scales::of_16(scales_of_16(u64_at(block, 66)), u16_at(block, 0))
}

#[target_feature(enable = "avx2,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq2_s([block]: &[[u8; 82]; 1]) -> Codes {
    let four = |i: usize| numbers((u32_at(block, 2 + 4 * i).into(), 8), (block[66 + i].into(), 2));
    let zeros = [_mm512_setzero_si512(); 4];
    let values = each!(i in zeros => entries_of_8(&iq2_s::GRID, [four(2 * i), four(2 * i + 1)]));
    signed(values, each!(i in [0; 4] => u64_at(block, 34 + 8 * i)))
}

#[target_feature(enable = "avx2,avx512f")]
#[inline]
pub(in super::super) fn iq2_s_scales([block]: &[[u8; 82]; 1]) -> Scales {
    Scales::of_16(scales_of_16(u64_at(block, 74)), u16_at(block, 0))
}

#[target_feature(enable = "avx2,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq3_xxs([block]: &[[u8; 98]; 1]) -> Codes {
    let zeros = [_mm512_setzero_si512(); 2];
    let numbers = each!(half in zeros => _mm512_cvtepu8_epi16(load256_at(block, 2 + 32 * half)));
    let values = entries_of_4(packed::IQ3_XXS, iq3_xxs::VALUES, numbers);
    halves(signed(values, words(even_signs(sevens(load256_at(block, 66))))))
}

#[target_feature(enable = "avx2,avx512f")]
#[inline]
pub(in super::super) fn iq3_xxs_scales([block]: &[[u8; 98]; 1]) -> Scales {
    Scales::of_32(odd_8(_mm256_srli_epi32::<28>(load256_at(block, 66))), u16_at(block, 0))
}

#[target_feature(enable = "avx2,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq3_s([block]: &[[u8; 110]; 1]) -> Codes {
    let numbers = each!(half in [_mm512_setzero_si512(); 2] => {
        let high = _mm512_maskz_set1_epi16(u32_at(block, 66 + 4 * half), 256);
        _mm512_or_si512(_mm512_cvtepu8_epi16(load256_at(block, 2 + 32 * half)), high)
    });
    let values = entries_of_4(packed::IQ3_S, iq3_s::VALUES, numbers);
    halves(signed(values, each!(i in [0; 4] => u64_at(block, 74 + 8 * i))))
}

#[target_feature(enable = "avx2,bmi2,avx512f")]
#[inline]
pub(in super::super) fn iq3_s_scales([block]: &[[u8; 110]; 1]) -> Scales {
    let sc = eight(_pdep_u64(u32_at(block, 106).into(), 0x0f0f_0f0f_0f0f_0f0f));
    Scales::of_32(odd_8(sc), u16_at(block, 0))
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
#[inline]
pub(in super::super) fn iq1_s([block]: &[[u8; 50]; 1]) -> Codes {
    let four = |i: usize| numbers((u32_at(block, 2 + 4 * i).into(), 8), (u16_at(block, 34 + 2 * i).into(), 3));
    // One more or one less, 32 at a time, and 128.
    let down = _mm256_test_epi32_mask(_mm256_cvtepu16_epi32(load128(block, 34)), _mm256_set1_epi32(1 << 15));
    let shifts = _mm256_mask_mov_epi32(_mm256_set1_epi8(-127), down, _mm256_set1_epi8(127));
    let codes = each!(i in [_mm512_setzero_si512(); 4] => {
        let pair = _mm512_add_epi32(
            _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1),
            _mm512_set1_epi32(2 * i as i32),
        );
        let shifts = _mm512_permutexvar_epi32(pair, _mm512_castsi256_si512(shifts));
        _mm512_add_epi8(entries_of_8(&iq1_s::GRID, [four(2 * i), four(2 * i + 1)]), shifts)
    });
    halves(codes)
}

#[target_feature(enable = "avx2,avx512f")]
#[inline]
pub(in super::super) fn iq1_s_scales([block]: &[[u8; 50]; 1]) -> Scales {
    let qh = _mm256_cvtepu16_epi32(load128(block, 34));
    // 2 sc + 1
    let sc = _mm256_and_si256(_mm256_srli_epi32::<11>(qh), _mm256_set1_epi32(14));
    Scales::of_32(_mm256_or_si256(sc, _mm256_set1_epi32(1)), u16_at(block, 0))
}

#[target_feature(enable = "bmi2,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq1_m([block]: &[[u8; 56]; 1]) -> Codes {
    // The fourth bit of each nibble is no part of the number.
    let four = |i: usize| numbers((u32_at(block, 4 * i).into(), 8), (u16_at(block, 32 + 2 * i).into(), 4));
    each!(i in [_mm512_setzero_si512(); 4] => {
        // One more or one less, eight at a time, and 128.
        let down = _pext_u32(u32_at(block, 32 + 4 * i), 0x8888_8888) as u8;
        let shifts = _mm512_mask_mov_epi64(_mm512_set1_epi8(-127), down, _mm512_set1_epi8(127));
        _mm512_add_epi8(entries_of_8(&iq1_s::GRID, [four(2 * i), four(2 * i + 1)]), shifts)
    })
}

#[target_feature(enable = "avx2,bmi2,avx512f")]
#[inline]
pub(in super::super) fn iq1_m_scales([block]: &[[u8; 56]; 1]) -> Scales {
    let packed = u64_at(block, 48);
    let unit = _pext_u64(packed, 0xf000_f000_f000_f000) as u16;
    // Word j/4 for scale j.
    let words = _mm_cvtepu16_epi32(_mm_cvtsi64_si128(packed.cast_signed()));
    let fourth = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    let words = _mm512_permutexvar_epi32(fourth, _mm512_castsi128_si512(words));
    let threes = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 3, 6, 9));
    let sc = _mm512_and_si512(_mm512_srlv_epi32(words, threes), _mm512_set1_epi32(7));
    Scales::of_16(odd_16(sc), unit)
}
