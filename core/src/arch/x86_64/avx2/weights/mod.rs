//! A chunk of one row in registers: unpacked there where it is whole blocks, else by [`crate::quant`], through memory.

pub(super) mod iq;
pub(super) mod k;
pub(super) mod of_32;

use super::super::bytes::{load256, u16_at};
use super::Format;
use crate::arch::integer::Row;
use core::arch::x86_64::*;

/// 256 weights.
#[derive(Clone, Copy)]
pub(in crate::arch) struct Weights {
    /// 32 to a vector, in their order; raised, or signed.
    pub(super) codes: [__m256i; 8],
    pub(super) scales: Scales,
}

/// What the codes of 256 weights are scaled with.
#[derive(Clone, Copy)]
pub(in crate::arch) struct Scales {
    /// One a block: eight of 32 in the first vector, or sixteen of 16 as [`ordered_16`] puts them.
    pub(super) scales: [__m256; 2],
    /// One a block.
    pub(super) offsets: [__m256; 2],
}

impl Weights {
    /// Nothing.
    pub(super) const ZERO: Self = {
        // SAFETY: vectors of zeros are values, whatever the instructions.
        unsafe { core::mem::zeroed() }
    };

    #[target_feature(enable = "avx2")]
    #[inline]
    fn of_32(codes: [__m256i; 8], scales: __m256) -> Self {
        let zero = _mm256_setzero_ps();
        Self { codes, scales: Scales { scales: [scales, zero], offsets: [zero; 2] } }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn of_16(codes: [__m256i; 8], scales: [__m256; 2]) -> Self {
        Self { codes, scales: Scales { scales, offsets: [_mm256_setzero_ps(); 2] } }
    }
}

/// Sixteen bytes, one a block, as sums come: of each eight the even ones, then the odd ones.
#[target_feature(enable = "avx2")]
#[inline]
fn ordered_16(bytes: __m128i) -> __m128i {
    _mm_shuffle_epi8(bytes, _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15))
}

/// Columns `start..start + len` of any type.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
pub(super) fn generic<F: Format>(row: Row<'_>, start: usize, len: usize) -> Weights {
    let w = row.unpack(start, len);
    let mut weights = Weights::ZERO;
    for i in 0..8 {
        let raise = _mm256_set1_epi8(F::RAISE as i8);
        weights.codes[i] = _mm256_add_epi8(load256(&w.codes.as_chunks().0[i]), raise);
    }
    for (to, from) in [(&mut weights.scales.scales, &w.scales), (&mut weights.scales.offsets, &w.offsets)] {
        for i in 0..2 {
            let mut values = [0.0; 8];
            for j in 0..8 {
                // Of blocks of 32 each value is there twice.
                let block = if F::WIDE { 2 * j % 16 } else { 8 * i + 2 * (j % 4) + j / 4 };
                values[j] = from[block];
            }
            // SAFETY: eight values are read.
            to[i] = unsafe { _mm256_loadu_ps(values.as_ptr()) };
        }
    }
    weights
}

/// An f16 at `at`, in f32, eight times. (Alone in a register it would depend on what the register held before.)
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn f16_at(block: &[u8], at: usize) -> __m256 {
    _mm256_cvtph_ps(_mm_set1_epi16(u16_at(block, at).cast_signed()))
}

#[target_feature(enable = "avx2")]
#[inline]
fn negative(v: __m256) -> __m256 {
    _mm256_xor_ps(v, _mm256_set1_ps(-0.0))
}

/// `factor * value`: eight scales.
#[target_feature(enable = "avx2")]
#[inline]
fn scaled_8(factor: __m256, values: __m256i) -> __m256 {
    _mm256_mul_ps(factor, _mm256_cvtepi32_ps(values))
}

/// `factor * value`: sixteen signed bytes as scales.
#[target_feature(enable = "avx2")]
#[inline]
fn scaled_16(factor: __m256, values: __m128i) -> [__m256; 2] {
    let values = ordered_16(values);
    [
        scaled_8(factor, _mm256_cvtepi8_epi32(values)),
        scaled_8(factor, _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(values, values))),
    ]
}

/// `v`, moved to the left by a known number of bits within 16.
#[target_feature(enable = "avx2")]
#[inline]
fn left(v: __m256i, bits: usize) -> __m256i {
    _mm256_sll_epi16(v, _mm_cvtsi32_si128(bits as i32))
}

/// `v`, moved to the right by a known number of bits within 16.
#[target_feature(enable = "avx2")]
#[inline]
fn right(v: __m256i, bits: usize) -> __m256i {
    _mm256_srl_epi16(v, _mm_cvtsi32_si128(bits as i32))
}

/// Low nibbles.
#[target_feature(enable = "avx2")]
#[inline]
fn low(packed: __m256i) -> __m256i {
    _mm256_and_si256(packed, _mm256_set1_epi8(15))
}

/// High nibbles.
#[target_feature(enable = "avx2")]
#[inline]
fn high(packed: __m256i) -> __m256i {
    low(right(packed, 4))
}

/// Of sixteen bytes the low nibbles, then the high ones.
#[target_feature(enable = "avx2")]
#[inline]
fn nibbles(packed: __m128i) -> __m256i {
    low(_mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed))
}

/// The table's values at each of `numbers` (below 16), plus `raise`.
#[target_feature(enable = "avx2")]
#[inline]
fn of_table(table: &[i8; 16], raise: i8, numbers: __m256i) -> __m256i {
    // SAFETY: sixteen bytes are read.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    let table = _mm_add_epi8(table, _mm_set1_epi8(raise));
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), numbers)
}

/// Bytes of all ones where a bit is set: of four bytes, eight bits each.
#[target_feature(enable = "avx2")]
#[inline]
fn where_set(bits: u32) -> __m256i {
    let eights = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let spread = _mm256_shuffle_epi8(_mm256_set1_epi32(bits.cast_signed()), eights);
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
    _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit)
}
