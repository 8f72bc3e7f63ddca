//! A chunk of one row in registers: unpacked there where it is whole blocks, else by [`crate::quant`], through memory.

pub(super) mod iq;
pub(super) mod k;
pub(super) mod of_32;

use super::super::bytes::load256;
use super::Format;
use crate::arch::integer::Row;
use core::arch::x86_64::*;

/// 256 weights.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    /// 32 to a vector, in their order; raised, or signed.
    pub(super) codes: [__m256i; 8],
    pub(super) scales: Scales,
}

impl Weights {
    /// Nothing.
    pub(super) const ZERO: Self = {
        // SAFETY: vectors of zeros are values, whatever the instructions.
        unsafe { core::mem::zeroed() }
    };
}

/// What the codes of 256 weights are scaled with.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    /// Eight f32, one a block of 32. With units i16: sixteen, one a block of 16; or eight of blocks of 32, then their
    /// offsets.
    pub(super) scales: __m256i,
    /// As the scales; unused where these hold them.
    pub(super) offsets: __m256i,
    /// The f16 that the units are made from: the scales', then the offsets'.
    pub(super) units: [u16; 2],
    /// Of a type whose signs lie apart ([`Format::APART`]) a bit a code: whether it is to be negative.
    pub(super) signs: __m256i,
}

impl Scales {
    /// Nothing.
    pub(super) const ZERO: Self = {
        // SAFETY: vectors of zeros are values, whatever the instructions.
        unsafe { core::mem::zeroed() }
    };

    /// Without units: eight f32 each.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn of_blocks(scales: __m256, offsets: __m256) -> Self {
        Self { scales: _mm256_castps_si256(scales), offsets: _mm256_castps_si256(offsets), ..Self::ZERO }
    }

    /// With units: eight scales of blocks of 32.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn of_32(scales: __m128i, unit: u16) -> Self {
        Self::of_16(_mm256_broadcastsi128_si256(scales), unit)
    }

    /// With units: sixteen scales of blocks of 16.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn of_16(scales: __m256i, unit: u16) -> Self {
        Self { scales, units: [unit, 0], ..Self::ZERO }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn with_signs(self, signs: __m256i) -> Self {
        Self { signs, ..self }
    }

    /// Where the type has units and no offsets of its own: with those that make up for raised codes.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn with_raise<F: Format>(mut self) -> Self {
        if F::UNITS && !F::OFFSET {
            let less = _mm_set1_epi16(-F::RAISE);
            if F::WIDE {
                self.scales = _mm256_mullo_epi16(self.scales, _mm256_set_m128i(less, _mm_set1_epi16(1)));
            } else {
                self.offsets = _mm256_mullo_epi16(self.scales, _mm256_broadcastsi128_si256(less));
            }
        }
        self
    }
}

/// A chunk's weights.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
pub(super) fn load<F: Format>(chunk: &F::Chunk) -> Weights {
    // SAFETY: AVX2 is there, as for this function.
    let scales = unsafe { F::scales(chunk) }.with_raise::<F>();
    let signs = in_both_lanes(scales.signs);
    let mut codes = [_mm256_setzero_si256(); 8];
    for i in 0..8 {
        // SAFETY: as above.
        codes[i] = unsafe { F::codes(chunk, i) };
        if F::APART {
            // v or !v + 1.
            let negative = where_set(signs[i / 4], 4 * (i % 4));
            let more = _mm256_sub_epi8(_mm256_set1_epi8(F::RAISE as i8), negative);
            codes[i] = _mm256_add_epi8(_mm256_xor_si256(codes[i], negative), more);
        }
    }
    Weights { codes, scales }
}

/// Columns `start..start + len` of a type without units; those with units have whole chunks alone, and do not come here.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
pub(super) fn generic<F: Format>(row: Row<'_>, start: usize, len: usize) -> Weights {
    let w = row.unpack(start, len);
    let mut codes = [_mm256_setzero_si256(); 8];
    for i in 0..8 {
        codes[i] = _mm256_add_epi8(load256(&w.codes.as_chunks().0[i]), _mm256_set1_epi8(F::RAISE as i8));
    }
    // Each value is there twice.
    let (mut scales, mut offsets) = ([0.0; 8], [0.0; 8]);
    for b in 0..8 {
        (scales[b], offsets[b]) = (w.scales[2 * b], w.offsets[2 * b]);
    }
    // SAFETY: eight values are read from each.
    let scales = unsafe { Scales::of_blocks(_mm256_loadu_ps(scales.as_ptr()), _mm256_loadu_ps(offsets.as_ptr())) };
    Weights { codes, scales }
}

/// The lower lane twice, and the upper.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn in_both_lanes(v: __m256i) -> [__m256i; 2] {
    [_mm256_permute2x128_si256::<0x00>(v, v), _mm256_permute2x128_si256::<0x11>(v, v)]
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

/// Bytes of all ones where a bit is set: of four bytes from `first` on, which are in both lanes, eight bits each.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn where_set(bits: __m256i, first: usize) -> __m256i {
    let eights = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let spread = _mm256_shuffle_epi8(bits, _mm256_add_epi8(eights, _mm256_set1_epi8(first as i8)));
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
    _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit)
}
