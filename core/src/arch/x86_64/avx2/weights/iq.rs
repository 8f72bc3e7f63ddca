//! The IQ types of blocks of 256: values of a table or of a codebook, which may have signs or shifts of their own.

use super::super::super::bytes::{eight, even_signs, load128, load256_at, sevens, u16_at, u32_at, u64_at};
use super::{Weights, f16_at, nibbles, of_table, ordered_16, scaled_8, scaled_16, where_set};
use crate::quant::{iq1_s, iq2_s, iq2_xs, iq2_xxs, iq3_s, iq3_xxs, iq4_nl};
use core::arch::x86_64::*;

/// `(d * (sc + 1/2)) * factor`: eight scales.
#[target_feature(enable = "avx2")]
#[inline]
fn half_scaled(d: __m256, sc: __m256i, factor: f32) -> __m256 {
    let sc = _mm256_add_ps(_mm256_set1_ps(0.5), _mm256_cvtepi32_ps(sc));
    _mm256_mul_ps(_mm256_mul_ps(d, sc), _mm256_set1_ps(factor))
}

/// IQ2_XS's and IQ2_S's scales: of eight bytes a low and a high nibble, and again.
#[target_feature(enable = "avx2")]
#[inline]
fn scales_of_16(d: __m256, packed: u64) -> [__m256; 2] {
    let (packed, nibble) = (_mm_cvtsi64_si128(packed.cast_signed()), _mm_set1_epi8(15));
    let sc = _mm_unpacklo_epi8(_mm_and_si128(packed, nibble), _mm_and_si128(_mm_srli_epi16::<4>(packed), nibble));
    let sc = ordered_16(sc);
    [
        half_scaled(d, _mm256_cvtepu8_epi32(sc), 0.25),
        half_scaled(d, _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(sc, sc)), 0.25),
    ]
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
    let scales = scaled_8(f16_at(block, 0), _mm256_sub_epi32(eight(sc), _mm256_set1_epi32(32)));
    let mut codes = [_mm256_setzero_si256(); 8];
    for b in 0..8 {
        codes[b] = of_table(&iq4_nl::VALUES, 0, nibbles(load128(block, 8 + 16 * b)));
    }
    Weights::of_32(codes, scales)
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
    Weights::of_32(codes, half_scaled(f16_at(block, 0), _mm256_srli_epi32::<28>(odd), 0.25))
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
    Weights::of_16(codes, scales_of_16(f16_at(block, 0), u64_at(block, 66)))
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(in super::super) fn iq2_s([block]: &[[u8; 82]; 1]) -> Weights {
    let mut codes = [_mm256_setzero_si256(); 8];
    for b in 0..8 {
        let numbers = numbers((u32_at(block, 2 + 4 * b).into(), 8), (block[66 + b].into(), 2));
        codes[b] = signed(entries_of_8(&iq2_s::GRID, numbers), u32_at(block, 34 + 4 * b), 43);
    }
    Weights::of_16(codes, scales_of_16(f16_at(block, 0), u64_at(block, 74)))
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

/// N numbers: field i of `low`, of `bits` bits, and above its 8 bits field i of `high`, of `high_bits`.
#[inline(always)]
fn numbers<const N: usize>((low, bits): (u64, usize), (high, high_bits): (usize, usize)) -> [usize; N] {
    let mut numbers = [0; N];
    for i in 0..N {
        numbers[i] = (low >> (bits * i) & ((1 << bits) - 1)) as usize | (high >> (high_bits * i)) << 8;
    }
    numbers
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
    Weights::of_32(codes, half_scaled(f16_at(block, 0), _mm256_srli_epi32::<28>(words), 0.5))
}

#[target_feature(enable = "avx2,bmi2,f16c")]
#[inline]
pub(in super::super) fn iq3_s([block]: &[[u8; 110]; 1]) -> Weights {
    let sc = eight(_pdep_u64(u32_at(block, 106).into(), 0x0f0f_0f0f_0f0f_0f0f));
    let scales = scaled_8(f16_at(block, 0), _mm256_add_epi32(_mm256_add_epi32(sc, sc), _mm256_set1_epi32(1)));
    let mut codes = [_mm256_setzero_si256(); 8];
    for b in 0..8 {
        let numbers = numbers((u64_at(block, 2 + 8 * b), 8), (block[66 + b].into(), 1));
        codes[b] = signed(entries_of_4(&iq3_s::GRID, numbers), u32_at(block, 74 + 4 * b), 15);
    }
    Weights::of_32(codes, scales)
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
    let sc = _mm256_srli_epi32::<11>(_mm256_cvtepu16_epi32(load128(block, 34)));
    let sc = _mm256_or_si256(_mm256_and_si256(sc, _mm256_set1_epi32(14)), _mm256_set1_epi32(1));
    let scales = _mm256_mul_ps(scaled_8(f16_at(block, 0), sc), _mm256_set1_ps(0.125));
    Weights::of_32(codes, scales)
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
    let d = f16_at(&_pext_u64(packed, 0xf000_f000_f000_f000).to_le_bytes(), 0);
    // 2 sc + 1: a byte each.
    let half = |words: u64| _pdep_u64(_pext_u64(words, 0x0fff_0fff), 0x0707_0707_0707_0707) * 2 + 0x0101_0101_0101_0101;
    let sc = _mm_set_epi64x(half(packed >> 32).cast_signed(), half(packed).cast_signed());
    let mut scales = scaled_16(d, sc);
    for i in 0..2 {
        scales[i] = _mm256_mul_ps(scales[i], _mm256_set1_ps(0.125));
    }
    Weights::of_16(codes, scales)
}
