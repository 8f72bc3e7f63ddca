//! Few activations against Q4_K and Q5_K ([`Format::SHORT`]): sums of eight products fit sixteen bits.

use super::super::bytes::unit_factor;
use super::weights::{by_lane, k};
use super::{Format, Prepared, add_pairs_32, quarter_sums};
use crate::arch::integer::SIDE_BY_SIDE;
use core::arch::x86_64::*;

/// Lanes of `a` and `b` that A names, plus those that B names.
#[target_feature(enable = "avx512f")]
#[inline]
fn add_lanes<const A: i32, const B: i32>(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_shuffle_i32x4::<A>(a, b), _mm512_shuffle_i32x4::<B>(a, b))
}

/// One chunk of four rows against one activation, of a type that is [`Format::SHORT`], before its sums are added up.
#[derive(Clone, Copy)]
pub(super) struct Pending {
    /// By row, to be added up.
    sums: [__m512i; SIDE_BY_SIDE],
    /// In lane r four sums of row r, to be added up.
    offsets: __m512i,
    /// What sums are times, by row; then what the offsets' sums are.
    units: __m256,
}

impl Pending {
    /// Nothing: adds 0.
    pub(super) const ZERO: Self = {
        // SAFETY: vectors of zeros are values, whatever the instructions.
        unsafe { core::mem::zeroed() }
    };

    /// Mostly in sixteen bits: sums of eight products, and scales times multiples, which one instruction multiplies and
    /// adds up.
    #[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn new<F: Format, const T: usize>(chunks: [&F::Chunk; SIDE_BY_SIDE], x: &[Prepared; T]) -> [Self; T] {
        // Scales first, then a row from its codes to its sums: processors run ahead by less than a chunk.
        // SAFETY: AVX-512 is there, as for this function.
        let w = k::words(each!(r in [_mm_setzero_si128(); SIDE_BY_SIDE] => unsafe { F::header(chunks[r]) }));
        let scales = each!(t in [_mm512_setzero_si512(); T] => _mm512_mullo_epi16(w.scales, x[t].scales));
        let mut all = [Self::ZERO; T];
        let up = _mm_cvtsi32_si128(16 - F::LEFT);
        for r in 0..SIDE_BY_SIDE {
            // SAFETY: as above.
            let codes = &unsafe { F::left_codes(chunks[r]) };
            // Blocks 2 l and 2 l + 1 of this row, four times.
            let order = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            let order = _mm512_add_epi32(order, _mm512_set1_epi32(4 * r as i32));
            for t in 0..T {
                let [even, odd] = quarter_sums(codes, &x[t].codes);
                // Four sums of each block: of block 2 l in the lower halves of lane l, of 2 l + 1 in the upper.
                let both = _mm512_mask_mov_epi16(_mm512_sll_epi32(odd, up), 0x5555_5555, even);
                all[t].sums[r] = _mm512_madd_epi16(both, _mm512_permutexvar_epi32(order, scales[t]));
            }
        }
        let units = _mm256_mul_ps(_mm256_cvtph_ps(w.units), _mm256_set1_ps(unit_factor(F::DTYPE)));
        for t in 0..T {
            let [first, second] = x[t].half_sums;
            all[t].offsets = _mm512_dpwssd_epi32(_mm512_madd_epi16(w.offsets, first), w.offsets, second);
            all[t].units = _mm256_mul_ps(units, _mm256_set1_ps(x[t].unit));
        }
        all
    }

    /// `sum + unit * f32(sums) - offset_unit * f32(offsets)`
    #[target_feature(enable = "avx2,avx512f")]
    #[inline]
    pub(super) fn add_to(self, sum: __m128) -> __m128 {
        let [a, b, c, d] = self.sums;
        // A lane a row.
        let all = add_lanes::<0b10_00_10_00, 0b11_01_11_01>(
            add_lanes::<0b01_00_01_00, 0b11_10_11_10>(a, b),
            add_lanes::<0b01_00_01_00, 0b11_10_11_10>(c, d),
        );
        // Rows' sums, then their offsets': two of each to be added.
        let halves = _mm512_permutexvar_epi32(by_lane(), add_pairs_32(all, self.offsets));
        let both = _mm256_add_epi32(_mm512_castsi512_si256(halves), _mm512_extracti64x4_epi64::<1>(halves));
        let both = _mm256_mul_ps(self.units, _mm256_cvtepi32_ps(both));
        // The offsets' unit itself is -dmin.
        _mm_add_ps(sum, _mm_sub_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps::<1>(both)))
    }
}
