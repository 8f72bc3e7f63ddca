//! A chunk of one row in registers: unpacked there where it is whole blocks, else by [`quant`], through memory.

pub(super) mod iq;
pub(super) mod k;
pub(super) mod of_32;

use super::super::bytes::{eight, f16, load128, load256_at, u16_at, u32_at, u64_at};
use crate::arch::integer::{Form, Row};
use crate::quant;
use core::arch::x86_64::*;

/// 256 weights.
#[derive(Clone, Copy)]
pub(in crate::arch) struct Weights {
    /// Unsigned: raised by 128 where the type's codes are signed. Blocks of 16 one after another; blocks of 32 as
    /// [`halves`] puts them.
    pub(super) codes: [__m512i; 4],
    /// One a block: eight of 32, or sixteen of 16.
    pub(super) scales: __m512,
    /// One a block.
    pub(super) offsets: __m512,
}

impl Weights {
    /// Nothing.
    pub(super) const ZERO: Self = {
        // SAFETY: vectors of zeros are values, whatever the instructions.
        unsafe { core::mem::zeroed() }
    };
}

/// The scales and offsets of four rows: first a row a vector, then [`Beside::ordered`].
#[derive(Clone, Copy)]
pub(in crate::arch) struct Beside {
    pub(super) scales: [__m512; 4],
    pub(super) offsets: [__m512; 4],
}

impl Beside {
    /// Nothing.
    pub(super) const ZERO: Self = {
        // SAFETY: vectors of zeros are values, whatever the instructions.
        unsafe { core::mem::zeroed() }
    };

    /// In the order in which the sums come: blocks of 32 of rows 0 and 1, and of rows 2 and 3, in lane l blocks 2 l and
    /// 2 l + 1 of the one, then those of the other; or each row's blocks of 16 as [`by_lane`] has them.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn ordered(self, form: Form) -> Self {
        let order = |v: [__m512; 4]| {
            let [a, b, c, d] = v;
            if form.wide {
                let order = _mm512_setr_epi32(0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23);
                let (ab, cd) = (_mm512_permutex2var_ps(a, order, b), _mm512_permutex2var_ps(c, order, d));
                [ab, cd, _mm512_setzero_ps(), _mm512_setzero_ps()]
            } else {
                each!(r in [_mm512_setzero_ps(); 4] => _mm512_permutexvar_ps(by_lane(), v[r]))
            }
        };
        Self { scales: order(self.scales), offsets: order(self.offsets) }
    }
}

/// In lane l, element i: number 4 i + l. The order is its own inverse.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn by_lane() -> __m512i {
    _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)
}

/// Columns `start..start + len` of any type.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn generic(row: Row<'_>, start: usize, len: usize) -> Weights {
    let w = row.unpack(start, len);
    let flip = if quant::has_offset(row.dtype) { 0 } else { -128 };
    let codes = w.codes.as_chunks::<64>().0;
    let codes = each!(i in [_mm512_setzero_si512(); 4] => _mm512_xor_si512(load512(&codes[i]), _mm512_set1_epi8(flip)));
    // SAFETY: each read is of sixteen values.
    let (scales, offsets) = unsafe { (_mm512_loadu_ps(w.scales.as_ptr()), _mm512_loadu_ps(w.offsets.as_ptr())) };
    if quant::sub_block(row.dtype) == 32 {
        let even = |v| _mm512_castps256_ps512(_mm256_castsi256_ps(_mm512_cvtepi64_epi32(_mm512_castps_si512(v))));
        return Weights { codes: halves(codes), scales: even(scales), offsets: even(offsets) };
    }
    Weights { codes, scales, offsets }
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load512(bytes: &[impl bytemuck::Pod; 64]) -> __m512i {
    // SAFETY: 64 elements of at least a byte are readable.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// `factor * value`: the scales of eight blocks of 32.
#[target_feature(enable = "avx512f")]
#[inline]
fn scaled_8(factor: f32, values: __m256i) -> __m512 {
    _mm512_castps256_ps512(_mm256_mul_ps(_mm256_set1_ps(factor), _mm256_cvtepi32_ps(values)))
}

/// `factor * value`: the scales of sixteen blocks of 16.
#[target_feature(enable = "avx512f")]
#[inline]
fn scaled_16(factor: f32, values: __m512i) -> __m512 {
    _mm512_mul_ps(_mm512_set1_ps(factor), _mm512_cvtepi32_ps(values))
}

/// Eight blocks of 32 codes, one after another, as products add up best: the first halves of blocks 0 2 4 6, their second
/// halves, and the same of blocks 1 3 5 7. A block's halves then meet in one lane.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn halves(codes: [__m512i; 4]) -> [__m512i; 4] {
    let [a, b, c, d] = codes;
    let (even_ab, even_cd) = (_mm512_shuffle_i64x2::<0b01_00_01_00>(a, b), _mm512_shuffle_i64x2::<0b01_00_01_00>(c, d));
    let (odd_ab, odd_cd) = (_mm512_shuffle_i64x2::<0b11_10_11_10>(a, b), _mm512_shuffle_i64x2::<0b11_10_11_10>(c, d));
    [
        _mm512_shuffle_i64x2::<0b10_00_10_00>(even_ab, even_cd),
        _mm512_shuffle_i64x2::<0b11_01_11_01>(even_ab, even_cd),
        _mm512_shuffle_i64x2::<0b10_00_10_00>(odd_ab, odd_cd),
        _mm512_shuffle_i64x2::<0b11_01_11_01>(odd_ab, odd_cd),
    ]
}

/// Low and high nibbles.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn nibbles(packed: __m512i) -> [__m512i; 2] {
    let mask = _mm512_set1_epi8(15);
    [_mm512_and_si512(packed, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(packed), mask)]
}

/// `codes`, all plus `value`.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn plus(codes: [__m512i; 4], value: i8) -> [__m512i; 4] {
    each!(i in [_mm512_setzero_si512(); 4] => _mm512_add_epi8(codes[i], _mm512_set1_epi8(value)))
}

/// `codes`, plus `value` where a bit is set.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn plus_where(codes: [__m512i; 4], bits: [u64; 4], value: i8) -> [__m512i; 4] {
    each!(i in [_mm512_setzero_si512(); 4] => _mm512_mask_add_epi8(codes[i], bits[i], codes[i], _mm512_set1_epi8(value)))
}

/// The table's values, raised by 128, at each of `numbers` (below 16).
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn of_table(table: &[i8; 16], numbers: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: sixteen bytes are read.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    let table = _mm512_xor_si512(_mm512_broadcast_i32x4(table), _mm512_set1_epi8(-128));
    each!(i in [_mm512_setzero_si512(); 4] => _mm512_shuffle_epi8(table, numbers[i]))
}
