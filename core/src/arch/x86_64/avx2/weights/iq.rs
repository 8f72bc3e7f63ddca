//! The IQ types of blocks of 256: values of a table or of a codebook, which may have signs or shifts of their own.

use super::super::super::bytes::{even_signs, load128, load256_at, numbers, sevens, u16_at, u32_at, u64_at};
use super::{Weights, nibbles, of_table, where_set};
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
    let mut entries = [0; 4];
    for i in 0..4 {
        entries[i] = bytemuck::cast(grid[numbers[i] & (N - 1)]);
    }
    let [a, b, c, d] = entries;
    _mm256_setr_epi64x(a, b, c, d)
}

/// `values`, negated where a bit is set, plus `raise`.
#[target_feature(enable = "avx2")]
#[inline]
fn signed(values: __m256i, negative: u32, raise: i8) -> __m256i {
    // v or !v + 1.
    let negative = where_set(negative);
    _mm256_add_epi8(_mm256_xor_si256(values, negative), _mm256_sub_epi8(_mm256_set1_epi8(raise), negative))
}

#[target_feature(enable = "avx2")]
#[inline]
fn words(v: __m256i) -> [u32; 8] {
    let mut words = [0; 8];
    // SAFETY: 32 bytes are written.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), v) };
    words
}

#[target_feature(enable = "avx2,bmi2,f16c")]
#[inline]
pub(in super::super) fn iq4_xs([block]: &[[u8; 136]; 1]) -> Weights {
    let (high, low) = (u16_at(block, 2), u32_at(block, 4));
    let sc = _pdep_u64(low.into(), 0x0f0f_0f0f_0f0f_0f0f) | _pdep_u64(high.into(), 0x3030_3030_3030_3030);
    let sc = _mm_sub_epi16(_mm_cvtepu8_epi16(_mm_cvtsi64_si128(sc.cast_signed())), _mm_set1_epi16(32));
    let mut codes = [_mm256_setzero_si256(); 8];
    for b in 0..8 {
        codes[b] = of_table(&iq4_nl::VALUES, 0, nibbles(load128(block, 8 + 16 * b)));
    }
    Weights::of_32(codes, sc, u16_at(block, 0))
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn iq2_xxs([block]: &[[u8; 66]; 1]) -> Weights {
    // Of each group a word of four numbers and one of signs.
    let (a, b) = (load256_at(block, 2), load256_at(block, 34));
    let odd = _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)));
    let odd = _mm256_permute4x64_epi64::<0b11_01_10_00>(odd);
    let signs = words(even_signs(sevens(odd)));
    let mut codes = [_mm256_setzero_si256(); 8];
    for b in 0..8 {
        let numbers = numbers((u32_at(block, 2 + 8 * b).into(), 8), (0, 0));
        codes[b] = signed(entries_of_8(&iq2_xxs::GRID, numbers), signs[b], 43);
    }
    Weights::of_32(codes, odd_of_32(odd), u16_at(block, 0))
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn iq2_xs([block]: &[[u8; 74]; 1]) -> Weights {
    let (a, b) = (load256_at(block, 2), load256_at(block, 34));
    let sevens = _mm256_packus_epi16(_mm256_srli_epi16::<9>(a), _mm256_srli_epi16::<9>(b));
    let signs = words(even_signs(_mm256_permute4x64_epi64::<0b11_01_10_00>(sevens)));
    let mut codes = [_mm256_setzero_si256(); 8];
    for b in 0..8 {
        let numbers = numbers((u64_at(block, 2 + 8 * b), 16), (0, 0));
        codes[b] = signed(entries_of_8(&iq2_xs::GRID, numbers), signs[b], 43);
    }
    Weights::of_16(codes, odd_of_16(u64_at(block, 66)), u16_at(block, 0))
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn iq2_s([block]: &[[u8; 82]; 1]) -> Weights {
    let mut codes = [_mm256_setzero_si256(); 8];
    for b in 0..8 {
        let numbers = numbers((u32_at(block, 2 + 4 * b).into(), 8), (block[66 + b].into(), 2));
        codes[b] = signed(entries_of_8(&iq2_s::GRID, numbers), u32_at(block, 34 + 4 * b), 43);
    }
    Weights::of_16(codes, odd_of_16(u64_at(block, 74)), u16_at(block, 0))
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

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn iq3_xxs([block]: &[[u8; 98]; 1]) -> Weights {
    let words = load256_at(block, 66);
    let signs = self::words(even_signs(sevens(words)));
    let mut codes = [_mm256_setzero_si256(); 8];
    for b in 0..8 {
        let numbers = numbers((u64_at(block, 2 + 8 * b), 8), (0, 0));
        codes[b] = signed(entries_of_4(&iq3_xxs::GRID, numbers), signs[b], 62);
    }
    Weights::of_32(codes, odd_of_32(words), u16_at(block, 0))
}

#[target_feature(enable = "avx2,bmi2,f16c")]
#[inline]
pub(in super::super) fn iq3_s([block]: &[[u8; 110]; 1]) -> Weights {
    // 2 sc + 1
    let sc = 2 * _pdep_u64(u32_at(block, 106).into(), 0x0f0f_0f0f_0f0f_0f0f) + 0x0101_0101_0101_0101;
    let sc = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(sc.cast_signed()));
    let mut codes = [_mm256_setzero_si256(); 8];
    for b in 0..8 {
        let numbers = numbers((u64_at(block, 2 + 8 * b), 8), (block[66 + b].into(), 1));
        codes[b] = signed(entries_of_4(&iq3_s::GRID, numbers), u32_at(block, 74 + 4 * b), 15);
    }
    Weights::of_32(codes, sc, u16_at(block, 0))
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn iq1_s([block]: &[[u8; 50]; 1]) -> Weights {
    let mut codes = [_mm256_setzero_si256(); 8];
    for b in 0..8 {
        let high = u16_at(block, 34 + 2 * b);
        let numbers = numbers((u32_at(block, 2 + 4 * b).into(), 8), (high.into(), 3));
        let entries = entries_of_8(&iq1_s::GRID, numbers);
        // One more or one less, and 9.
        let shift = if high >> 15 == 0 { 10 } else { 8 };
        codes[b] = _mm256_add_epi8(entries, _mm256_set1_epi8(shift));
    }
    // 2 sc + 1
    let sc = _mm_and_si128(_mm_srli_epi16::<11>(load128(block, 34)), _mm_set1_epi16(14));
    Weights::of_32(codes, _mm_or_si128(sc, _mm_set1_epi16(1)), u16_at(block, 0))
}

#[target_feature(enable = "avx2,bmi2,f16c")]
#[inline]
pub(in super::super) fn iq1_m([block]: &[[u8; 56]; 1]) -> Weights {
    let mut codes = [_mm256_setzero_si256(); 8];
    for b in 0..8 {
        let high = usize::from(u16_at(block, 32 + 2 * b));
        // The fourth bit of each nibble is no part of the number.
        let numbers = numbers((u32_at(block, 4 * b).into(), 8), (high, 4));
        let entries = entries_of_8(&iq1_s::GRID, numbers);
        // One more or one less, eight at a time, and 9.
        let shift = |i: usize| 0x0101_0101_0101_0101 * if high >> (4 * i + 3) & 1 == 0 { 10 } else { 8 };
        codes[b] = _mm256_add_epi8(entries, _mm256_setr_epi64x(shift(0), shift(1), shift(2), shift(3)));
    }
    let packed = u64_at(block, 48);
    let unit = _pext_u64(packed, 0xf000_f000_f000_f000) as u16;
    // 2 sc + 1: a byte each.
    let half = |words: u64| _pdep_u64(_pext_u64(words, 0x0fff_0fff), 0x0707_0707_0707_0707) * 2 + 0x0101_0101_0101_0101;
    let sc = _mm_set_epi64x(half(packed >> 32).cast_signed(), half(packed).cast_signed());
    Weights::of_16(codes, _mm256_cvtepu8_epi16(sc), unit)
}
