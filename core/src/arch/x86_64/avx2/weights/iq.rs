//! The IQ types of blocks of 256: values of a table or of a codebook, which may have signs or shifts of their own.

use super::super::super::bytes::{even_signs, load128, load256_at, numbers, sevens, u16_at, u32_at, u64_at};
use super::super::odds;
use super::{Scales, nibbles, of_table};
use crate::quant::{iq1_s, iq2_s, iq2_xs, iq2_xxs, iq3_s, iq3_xxs, iq4_nl};
use core::arch::x86_64::*;

/// `2 sc + 1`: of eight bytes a low and a high nibble, and again.
#[target_feature(enable = "avx2")]
#[inline]
fn odd_of_16(packed: u64) -> __m256i {
    let (packed, nibble) = (_mm_cvtsi64_si128(packed.cast_signed()), _mm_set1_epi8(15));
    let sc = _mm_unpacklo_epi8(_mm_and_si128(packed, nibble), _mm_and_si128(_mm_srli_epi16::<4>(packed), nibble));
    _mm256_cvtepu8_epi16(_mm_or_si128(_mm_add_epi8(sc, sc), _mm_set1_epi8(1)))
}

/// `2 sc + 1` of the upper four bits of eight words.
#[target_feature(enable = "avx2")]
#[inline]
fn odd_of_32(words: __m256i) -> __m128i {
    let sc = _mm256_srli_epi32::<28>(words);
    let sc = _mm_packus_epi32(_mm256_castsi256_si128(sc), _mm256_extracti128_si256::<1>(sc));
    _mm_or_si128(_mm_add_epi16(sc, sc), _mm_set1_epi16(1))
}

/// Four entries of eight values; bits of the numbers above N do not count.
#[target_feature(enable = "avx2")]
#[inline]
fn entries_of_8<const N: usize>(grid: &[[i8; 8]; N], numbers: [usize; 4]) -> __m256i {
    const { assert!(N.is_power_of_two()) };
    let mut entries = [0.0; 4];
    for i in 0..4 {
        entries[i] = bytemuck::cast(grid[numbers[i] & (N - 1)]);
    }
    let [a, b, c, d] = entries;
    // As f64: two take an instruction each, as i64 they take three.
    _mm256_castpd_si256(_mm256_setr_pd(a, b, c, d))
}

/// Eight entries of four values, as [`entries_of_8`].
#[target_feature(enable = "avx2")]
#[inline]
fn entries_of_4<const N: usize>(grid: &[[i8; 4]; N], numbers: [usize; 8]) -> __m256i {
    const { assert!(N.is_power_of_two()) };
    let mut entries = [0; 8];
    for i in 0..8 {
        entries[i] = bytemuck::cast(grid[numbers[i] & (N - 1)]);
    }
    let [a, b, c, d, e, f, g, h] = entries;
    _mm256_setr_epi32(a, b, c, d, e, f, g, h)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn iq4_xs([block]: &[[u8; 136]; 1], i: usize) -> __m256i {
    of_table(&iq4_nl::VALUES, 0, nibbles(load128(block, 8 + 16 * i)))
}

#[target_feature(enable = "avx2,bmi2")]
#[inline]
pub(in super::super) fn iq4_xs_scales([block]: &[[u8; 136]; 1]) -> Scales {
    let (high, low) = (u16_at(block, 2), u32_at(block, 4));
    let sc = _pdep_u64(low.into(), 0x0f0f_0f0f_0f0f_0f0f) | _pdep_u64(high.into(), 0x3030_3030_3030_3030);
    let sc = _mm_sub_epi16(_mm_cvtepu8_epi16(_mm_cvtsi64_si128(sc.cast_signed())), _mm_set1_epi16(32));
    Scales::of_32(sc, u16_at(block, 0))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn iq2_xxs([block]: &[[u8; 66]; 1], i: usize) -> __m256i {
    entries_of_8(&iq2_xxs::GRID, numbers((u32_at(block, 2 + 8 * i).into(), 8), (0, 0)))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn iq2_xxs_scales([block]: &[[u8; 66]; 1]) -> Scales {
    // Of each group a word of four numbers and one of signs.
    let (a, b) = (load256_at(block, 2), load256_at(block, 34));
    let odd = _mm256_permute4x64_epi64::<0b11_01_10_00>(odds(a, b));
    Scales::of_32(odd_of_32(odd), u16_at(block, 0)).with_signs(even_signs(sevens(odd)))
}

#[target_feature(enable = "avx2,bmi1")]
#[inline]
pub(in super::super) fn iq2_xs([block]: &[[u8; 74]; 1], i: usize) -> __m256i {
    let (words, mut numbers) = (u64_at(block, 2 + 8 * i), [0; 4]);
    for j in 0..4 {
        // As one instruction, which the compiler would make two of.
        numbers[j] = _bextr_u64(words, 16 * j as u32, 9) as usize;
    }
    entries_of_8(&iq2_xs::GRID, numbers)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn iq2_xs_scales([block]: &[[u8; 74]; 1]) -> Scales {
    let (a, b) = (load256_at(block, 2), load256_at(block, 34));
    let sevens = _mm256_packus_epi16(_mm256_srli_epi16::<9>(a), _mm256_srli_epi16::<9>(b));
    let signs = even_signs(_mm256_permute4x64_epi64::<0b11_01_10_00>(sevens));
    Scales::of_16(odd_of_16(u64_at(block, 66)), u16_at(block, 0)).with_signs(signs)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn iq2_s([block]: &[[u8; 82]; 1], i: usize) -> __m256i {
    entries_of_8(&iq2_s::GRID, numbers((u32_at(block, 2 + 4 * i).into(), 8), (block[66 + i].into(), 2)))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn iq2_s_scales([block]: &[[u8; 82]; 1]) -> Scales {
    Scales::of_16(odd_of_16(u64_at(block, 74)), u16_at(block, 0)).with_signs(load256_at(block, 34))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn iq3_xxs([block]: &[[u8; 98]; 1], i: usize) -> __m256i {
    entries_of_4(&iq3_xxs::GRID, numbers((u64_at(block, 2 + 8 * i), 8), (0, 0)))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn iq3_xxs_scales([block]: &[[u8; 98]; 1]) -> Scales {
    let words = load256_at(block, 66);
    Scales::of_32(odd_of_32(words), u16_at(block, 0)).with_signs(even_signs(sevens(words)))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn iq3_s([block]: &[[u8; 110]; 1], i: usize) -> __m256i {
    entries_of_4(&iq3_s::GRID, numbers((u64_at(block, 2 + 8 * i), 8), (block[66 + i].into(), 1)))
}

#[target_feature(enable = "avx2,bmi2")]
#[inline]
pub(in super::super) fn iq3_s_scales([block]: &[[u8; 110]; 1]) -> Scales {
    // 2 sc + 1
    let sc = 2 * _pdep_u64(u32_at(block, 106).into(), 0x0f0f_0f0f_0f0f_0f0f) + 0x0101_0101_0101_0101;
    let sc = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(sc.cast_signed()));
    Scales::of_32(sc, u16_at(block, 0)).with_signs(load256_at(block, 74))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn iq1_s([block]: &[[u8; 50]; 1], i: usize) -> __m256i {
    let high = u16_at(block, 34 + 2 * i);
    let numbers = numbers((u32_at(block, 2 + 4 * i).into(), 8), (high.into(), 3));
    // One more or one less, and 9.
    let shift = if high >> 15 == 0 { 10 } else { 8 };
    _mm256_add_epi8(entries_of_8(&iq1_s::GRID, numbers), _mm256_set1_epi8(shift))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn iq1_s_scales([block]: &[[u8; 50]; 1]) -> Scales {
    // 2 sc + 1
    let sc = _mm_and_si128(_mm_srli_epi16::<11>(load128(block, 34)), _mm_set1_epi16(14));
    Scales::of_32(_mm_or_si128(sc, _mm_set1_epi16(1)), u16_at(block, 0))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(in super::super) fn iq1_m([block]: &[[u8; 56]; 1], i: usize) -> __m256i {
    let high = usize::from(u16_at(block, 32 + 2 * i));
    // The fourth bit of each nibble is no part of the number.
    let numbers = numbers((u32_at(block, 4 * i).into(), 8), (high, 4));
    // One more or one less, eight at a time, and 9.
    let shift = |j: usize| 0x0101_0101_0101_0101 * if high >> (4 * j + 3) & 1 == 0 { 10 } else { 8 };
    let shifts = _mm256_setr_epi64x(shift(0), shift(1), shift(2), shift(3));
    _mm256_add_epi8(entries_of_8(&iq1_s::GRID, numbers), shifts)
}

#[target_feature(enable = "avx2,bmi2")]
#[inline]
pub(in super::super) fn iq1_m_scales([block]: &[[u8; 56]; 1]) -> Scales {
    let packed = u64_at(block, 48);
    let unit = _pext_u64(packed, 0xf000_f000_f000_f000) as u16;
    // 2 sc + 1: a byte each.
    let half = |words: u64| _pdep_u64(_pext_u64(words, 0x0fff_0fff), 0x0707_0707_0707_0707) * 2 + 0x0101_0101_0101_0101;
    let sc = _mm_set_epi64x(half(packed >> 32).cast_signed(), half(packed).cast_signed());
    Scales::of_16(_mm256_cvtepu8_epi16(sc), unit)
}
