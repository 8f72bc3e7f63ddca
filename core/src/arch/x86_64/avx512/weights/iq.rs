//! The IQ types of blocks of 256: values of a table or of a codebook, which may have signs or shifts of their own.

use super::{Weights, eight, halves, load128, load256_at, load512, nibbles, of_table, u16_at, u32_at, u64_at};
use crate::arch::x86_64::bytes::{even_signs, sevens};
use crate::quant::{iq1_s, iq2_xxs, iq3_s, iq3_xxs, iq4_nl, packed};
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

/// The codebook's words `numbers` (bits above N do not count), looked up in registers, 64 words of it at a time: one by
/// one through memory, or by gathers, takes up to twice the time, and no less even for the largest codebook.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn packed_entries<const N: usize>(packed: &[u16; N], numbers: __m512i) -> __m512i {
    const { assert!(N.is_power_of_two() && N >= 64 && N <= 2048) };
    let mut found = [_mm512_setzero_si512(); 32];
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

/// 32 entries of eight values, 2 bits each.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn entries_of_8<const N: usize>(packed: &[u16; N], values: [i8; 3], numbers: __m512i) -> [__m512i; 4] {
    let packed = packed_entries(packed, numbers);
    // A value's number in bits 0 and 1, or in bits 2 and 3, the other bits being zero.
    let [a, b, c] = values;
    let table = _mm512_broadcast_i32x4(_mm_setr_epi8(a, b, c, 0, b, 0, 0, 0, c, 0, 0, 0, 0, 0, 0, 0));
    // An entry's two bytes four times each, next to its six bytes of zeros.
    let spread = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 8, 8, 8, 8, 9, 9, 9, 9));
    let eight = |words| {
        let bytes = _mm512_shuffle_epi8(_mm512_cvtepu16_epi64(words), spread);
        let nibbles = _mm512_srlv_epi16(bytes, _mm512_set1_epi32(0x0004_0000));
        _mm512_shuffle_epi8(table, _mm512_and_si512(nibbles, _mm512_set1_epi16(0x0c03)))
    };
    [
        eight(_mm512_castsi512_si128(packed)),
        eight(_mm512_extracti32x4_epi32::<1>(packed)),
        eight(_mm512_extracti32x4_epi32::<2>(packed)),
        eight(_mm512_extracti32x4_epi32::<3>(packed)),
    ]
}

/// 64 entries of four values, 4 bits each.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn entries_of_4<const N: usize>(packed: &[u16; N], values: [i8; 8], numbers: [__m512i; 2]) -> [__m512i; 4] {
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
fn signed(values: [__m512i; 4], negative: [u64; 4]) -> [__m512i; 4] {
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

/// Each of eight words four times.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn four_times(words: __m128i) -> __m512i {
    let low = _mm512_shufflelo_epi16::<0>(_mm512_cvtepu16_epi64(words));
    _mm512_shufflehi_epi16::<0>(low)
}

/// `low + 256 * high`: the numbers of 32 entries.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn numbers(low: __m256i, high: __m512i) -> __m512i {
    _mm512_or_si512(_mm512_cvtepu8_epi16(low), _mm512_slli_epi16::<8>(high))
}

#[target_feature(enable = "avx2,bmi2,f16c,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq4_xs([block]: &[[u8; 136]; 1]) -> Weights {
    let (high, low) = (u16_at(block, 2), u32_at(block, 4));
    let sc = _pdep_u64(low.into(), 0x0f0f_0f0f_0f0f_0f0f) | _pdep_u64(high.into(), 0x3030_3030_3030_3030);
    let scales = _mm256_sub_epi32(eight(sc), _mm256_set1_epi32(32));
    // Of sixteen bytes the low nibbles are a block's first half, the high ones its second.
    let packed = block[8..].as_chunks().0;
    let (a, b) = (load512(&packed[0]), load512(&packed[1]));
    let [even_first, even_second] = nibbles(_mm512_shuffle_i64x2::<0b10_00_10_00>(a, b));
    let [odd_first, odd_second] = nibbles(_mm512_shuffle_i64x2::<0b11_01_11_01>(a, b));
    let codes = of_table(&iq4_nl::VALUES, [even_first, even_second, odd_first, odd_second]);
    Weights::of_32(codes, scales, u16_at(block, 0))
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq2_xxs([block]: &[[u8; 66]; 1]) -> Weights {
    // Of each group a word of four numbers and one of signs.
    let groups = load512(&block[2..].as_chunks().0[0]);
    let words = _mm512_cvtepi64_epi32(_mm512_srli_epi64::<32>(groups));
    let scales = odd_8(_mm256_srli_epi32::<28>(words));
    let values = entries_of_8(packed::IQ2_XXS, iq2_xxs::VALUES, _mm512_cvtepu8_epi16(_mm512_cvtepi64_epi32(groups)));
    let codes = signed(values, self::words(even_signs(sevens(words))));
    Weights::of_32(halves(codes), scales, u16_at(block, 0))
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq2_xs([block]: &[[u8; 74]; 1]) -> Weights {
    let scales = scales_of_16(u64_at(block, 66));
    let words = load512(&block[2..].as_chunks().0[0]);
    let values = entries_of_8(packed::IQ2_XS, iq2_xxs::VALUES, words);
    let signs = self::words(even_signs(_mm512_cvtepi16_epi8(_mm512_srli_epi16::<9>(words))));
    Weights::of_16(signed(values, signs), scales, u16_at(block, 0))
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq2_s([block]: &[[u8; 82]; 1]) -> Weights {
    let scales = scales_of_16(u64_at(block, 74));
    let high = four_times(_mm_cvtepu8_epi16(_mm_cvtsi64_si128(u64_at(block, 66).cast_signed())));
    let high = _mm512_srlv_epi16(high, _mm512_set1_epi64(0x0006_0004_0002_0000));
    let numbers = numbers(load256_at(block, 2), high);
    let values = entries_of_8(packed::IQ2_S, iq2_xxs::VALUES, numbers);
    let signs = each!(i in [0; 4] => u64_at(block, 34 + 8 * i));
    Weights::of_16(signed(values, signs), scales, u16_at(block, 0))
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq3_xxs([block]: &[[u8; 98]; 1]) -> Weights {
    let words = load256_at(block, 66);
    let scales = odd_8(_mm256_srli_epi32::<28>(words));
    let numbers = each!(half in [_mm512_setzero_si512(); 2] => _mm512_cvtepu8_epi16(load256_at(block, 2 + 32 * half)));
    let values = entries_of_4(packed::IQ3_XXS, iq3_xxs::VALUES, numbers);
    let codes = signed(values, self::words(even_signs(sevens(words))));
    Weights::of_32(halves(codes), scales, u16_at(block, 0))
}

#[target_feature(enable = "avx2,bmi2,f16c,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq3_s([block]: &[[u8; 110]; 1]) -> Weights {
    let sc = eight(_pdep_u64(u32_at(block, 106).into(), 0x0f0f_0f0f_0f0f_0f0f));
    let scales = odd_8(sc);
    let numbers = each!(half in [_mm512_setzero_si512(); 2] => {
        let high = _mm512_maskz_set1_epi16(u32_at(block, 66 + 4 * half), 1);
        numbers(load256_at(block, 2 + 32 * half), high)
    });
    let values = entries_of_4(packed::IQ3_S, iq3_s::VALUES, numbers);
    let signs = each!(i in [0; 4] => u64_at(block, 74 + 8 * i));
    Weights::of_32(halves(signed(values, signs)), scales, u16_at(block, 0))
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
#[inline]
pub(in super::super) fn iq1_s([block]: &[[u8; 50]; 1]) -> Weights {
    let qh = load128(block, 34);
    let high = _mm512_srlv_epi16(four_times(qh), _mm512_set1_epi64(0x0009_0006_0003_0000));
    let numbers = numbers(load256_at(block, 2), high);
    let values = entries_of_8(packed::IQ1_S, iq1_s::VALUES, numbers);
    let qh = _mm256_cvtepu16_epi32(qh);
    // 2 sc + 1
    let sc = _mm256_and_si256(_mm256_srli_epi32::<11>(qh), _mm256_set1_epi32(14));
    let scales = _mm256_or_si256(sc, _mm256_set1_epi32(1));
    // One more or one less, 32 at a time, and 128.
    let down = _mm256_test_epi32_mask(qh, _mm256_set1_epi32(1 << 15));
    let shifts = _mm256_mask_mov_epi32(_mm256_set1_epi8(-127), down, _mm256_set1_epi8(127));
    let codes = each!(i in [_mm512_setzero_si512(); 4] => {
        let pair = _mm512_add_epi32(
            _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1),
            _mm512_set1_epi32(2 * i as i32),
        );
        _mm512_add_epi8(values[i], _mm512_permutexvar_epi32(pair, _mm512_castsi256_si512(shifts)))
    });
    Weights::of_32(halves(codes), scales, u16_at(block, 0))
}

#[target_feature(enable = "avx2,bmi2,f16c,avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq1_m([block]: &[[u8; 56]; 1]) -> Weights {
    // The two nibbles of each byte, the second above the first; what lies above them is cut off later.
    let high = _mm512_cvtepu8_epi32(load128(block, 32));
    let high = _mm512_or_si512(high, _mm512_slli_epi32::<12>(high));
    let numbers = numbers(load256_at(block, 0), high);
    let values = entries_of_8(packed::IQ1_S, iq1_s::VALUES, numbers);
    let packed = u64_at(block, 48);
    let unit = _pext_u64(packed, 0xf000_f000_f000_f000) as u16;
    // Word j/4 for scale j.
    let words = _mm_cvtepu16_epi32(_mm_cvtsi64_si128(packed.cast_signed()));
    let fourth = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    let words = _mm512_permutexvar_epi32(fourth, _mm512_castsi128_si512(words));
    let threes = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 3, 6, 9));
    let sc = _mm512_and_si512(_mm512_srlv_epi32(words, threes), _mm512_set1_epi32(7));
    let scales = odd_16(sc);
    // One more or one less, eight at a time, and 128.
    let down = _mm512_test_epi16_mask(high, _mm512_set1_epi16(8));
    let codes = each!(i in [_mm512_setzero_si512(); 4] => {
        let down = (down >> (8 * i)) as u8;
        let shifts = _mm512_mask_mov_epi64(_mm512_set1_epi8(-127), down, _mm512_set1_epi8(127));
        _mm512_add_epi8(values[i], shifts)
    });
    Weights::of_16(codes, scales, unit)
}
