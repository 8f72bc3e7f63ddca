//! A chunk of one row in registers: unpacked there where it is whole blocks, else by [`quant`], through memory.

pub(super) mod iq;
pub(super) mod k;
pub(super) mod of_32;

use super::super::bytes::{load128, load256_at, u16_at, u32_at, u64_at};
use super::Format;
use crate::arch::integer::Row;
use core::arch::x86_64::*;

/// 256 weights.
#[derive(Clone, Copy)]
pub(in crate::arch) struct Weights {
    pub(super) codes: Codes,
    pub(super) scales: Scales,
}

impl Weights {
    /// Nothing.
    pub(super) const ZERO: Self = {
        // SAFETY: vectors of zeros are values, whatever the instructions.
        unsafe { core::mem::zeroed() }
    };
}

/// 256 codes, unsigned: raised by [`Format::RAISE`] where the type's own are signed. Blocks of 16 one after another; blocks of 32 as
/// [`halves`] puts them.
pub(super) type Codes = [__m512i; 4];

/// What the codes of 256 weights are scaled with.
#[derive(Clone, Copy)]
pub(in crate::arch) struct Scales {
    /// One a block: eight of 32, or sixteen of 16; f32, or with units i32.
    pub(super) scales: __m512i,
    /// One a block.
    pub(super) offsets: __m512i,
    /// The f16 that the units are made from: the scales' in the lower half, the offsets' in the upper.
    pub(super) units: u32,
}

impl Scales {
    /// Nothing.
    pub(super) const ZERO: Self = {
        // SAFETY: vectors of zeros are values, whatever the instructions.
        unsafe { core::mem::zeroed() }
    };

    /// Without units: eight f32 each.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn new(scales: __m256, offsets: __m256) -> Self {
        let wide = |v| _mm512_castsi256_si512(_mm256_castps_si256(v));
        Self { scales: wide(scales), offsets: wide(offsets), units: 0 }
    }

    /// With units, without offsets: eight i32.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn of_32(scales: __m256i, unit: u16) -> Self {
        Self::of_16(_mm512_castsi256_si512(scales), unit)
    }

    /// With units, without offsets: sixteen i32.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn of_16(scales: __m512i, unit: u16) -> Self {
        Self { scales, offsets: _mm512_setzero_si512(), units: unit.into() }
    }
}

/// The scales and offsets of four chunks, in the order in which the sums come.
#[derive(Clone, Copy)]
pub(in crate::arch) struct Beside {
    pub(super) scales: [__m512i; 4],
    pub(super) offsets: [__m512i; 4],
    /// [`Scales::units`] of each.
    pub(super) units: __m128i,
}

impl Beside {
    #[target_feature(enable = "avx2,avx512f")]
    #[inline]
    pub(super) fn new(wide: bool, chunks: &[Scales; 4]) -> Self {
        let zeros = [_mm512_setzero_si512(); 4];
        Self {
            scales: beside(wide, each!(i in zeros => chunks[i].scales)),
            offsets: beside(wide, each!(i in zeros => chunks[i].offsets)),
            units: {
                let [a, b, c, d] = each!(i in [0; 4] => chunks[i].units.cast_signed());
                _mm_setr_epi32(a, b, c, d)
            },
        }
    }
}

/// Numbers of four chunks' blocks in the order in which their sums come. Of blocks of 32: of chunks 0 and 1, then of 2 and 3,
/// in lane l blocks 2 l and 2 l + 1 of the one, then those of the other. Of blocks of 16: each chunk's as [`by_lane`] has
/// them.
#[target_feature(enable = "avx2,avx512f")]
#[inline]
pub(super) fn beside(wide: bool, of: [__m512i; 4]) -> [__m512i; 4] {
    let zero = _mm512_setzero_si512();
    if wide {
        let [a, b, c, d] = of;
        let order = _mm512_setr_epi32(0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23);
        [_mm512_permutex2var_epi32(a, order, b), _mm512_permutex2var_epi32(c, order, d), zero, zero]
    } else {
        each!(i in [zero; 4] => _mm512_permutexvar_epi32(by_lane(), of[i]))
    }
}

/// A vector a lane.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn in_lanes([a, b, c, d]: [__m128i; 4]) -> __m512i {
    let ab = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
    _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(ab, c), d)
}

/// What four chunks of Q4_K or Q5_K are scaled with.
#[derive(Clone, Copy)]
pub(in crate::arch) struct Words {
    /// [chunk][block], i16.
    pub(super) scales: __m512i,
    /// [chunk][block], i16.
    pub(super) offsets: __m512i,
    /// [scales, offsets][chunk], f16: what the units are made from.
    pub(super) units: __m128i,
}

/// In lane l, element i: number 4 i + l. The order is its own inverse.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn by_lane() -> __m512i {
    _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)
}

/// Columns `start..start + len` of a type without units; those with units have whole chunks alone, and do not come here.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn generic<F: Format>(row: Row<'_>, start: usize, len: usize) -> Weights {
    let w = row.unpack(start, len);
    let codes = w.codes.as_chunks::<64>().0;
    let raise = _mm512_set1_epi8(F::RAISE as i8);
    let codes = each!(i in [_mm512_setzero_si512(); 4] => _mm512_add_epi8(load512(&codes[i]), raise));
    // Each value is there twice.
    let even = |v| {
        // SAFETY: sixteen values are read.
        let v = unsafe { _mm512_loadu_si512(core::ptr::from_ref::<[f32; 16]>(v).cast()) };
        _mm256_castsi256_ps(_mm512_cvtepi64_epi32(v))
    };
    Weights { codes: halves(codes), scales: Scales::new(even(&w.scales), even(&w.offsets)) }
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load512(bytes: &[impl bytemuck::Pod; 64]) -> __m512i {
    // SAFETY: 64 elements of at least a byte are readable.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_codes(codes: &[i8; 256]) -> Codes {
    let codes = codes.as_chunks::<64>().0;
    each!(i in [_mm512_setzero_si512(); 4] => load512(&codes[i]))
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn store_codes(codes: Codes, to: &mut [i8; 256]) {
    let to = to.as_chunks_mut::<64>().0;
    for i in 0..4 {
        // SAFETY: 64 bytes are written.
        unsafe { _mm512_storeu_si512(to[i].as_mut_ptr().cast(), codes[i]) };
    }
}

/// Eight blocks of 32 codes, one after another, as products add up best: the first halves of blocks 0 2 4 6, their second
/// halves, and the same of blocks 1 3 5 7. A block's halves then meet in one lane.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn halves(codes: Codes) -> Codes {
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

/// `codes`, plus `value` where a bit is set.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn plus_where(codes: Codes, bits: [u64; 4], value: i8) -> Codes {
    each!(i in [_mm512_setzero_si512(); 4] => _mm512_mask_add_epi8(codes[i], bits[i], codes[i], _mm512_set1_epi8(value)))
}

/// The table's values, raised (-128 does as 128), at each of `numbers` (below 16).
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn of_table(table: &[i8; 16], raise: i8, numbers: Codes) -> Codes {
    // SAFETY: sixteen bytes are read.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    let table = _mm512_add_epi8(_mm512_broadcast_i32x4(table), _mm512_set1_epi8(raise));
    each!(i in [_mm512_setzero_si512(); 4] => _mm512_shuffle_epi8(table, numbers[i]))
}

/// Eight unsigned bytes as i32.
#[target_feature(enable = "avx2")]
#[inline]
fn eight(bytes: u64) -> __m256i {
    _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes.cast_signed()))
}
