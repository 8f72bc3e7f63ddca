//! Few activations against Q4_K and Q5_K ([`Format::SHORT`]): sums of eight products fit sixteen bits.

use super::super::bytes::unit_factor;
use super::super::in_order::FOUR;
use super::weights::k;
use super::{Format, Prepared, add_neighbours, add_pairs_64, quarter_sums};
use core::arch::x86_64::*;

/// Four chunks against one activation, before their sums are added up; of types that are not [`Format::SHORT`] after it.
#[derive(Clone, Copy)]
pub(super) struct Pending {
    /// Of chunks 0 and 1, and of 2 and 3: in every lane two sums of the one and two of the other, to be added up.
    sums: [__m512i; 2],
    /// In lane i four sums of chunk i, to be added up.
    offsets: __m512i,
    /// What sums are times, by chunk; then what the offsets' sums are.
    units: __m256,
    /// What comes of them.
    done: __m128,
}

impl Pending {
    /// Nothing: adds 0.
    pub(super) const ZERO: Self = {
        // SAFETY: vectors of zeros are values, whatever the instructions.
        unsafe { core::mem::zeroed() }
    };

    /// Nothing left to be added up.
    #[inline(always)]
    pub(super) fn done(done: __m128) -> Self {
        Self { done, ..Self::ZERO }
    }

    /// Mostly in sixteen bits: sums of eight products, and scales times multiples, which one instruction multiplies and
    /// adds up.
    ///
    /// # Safety
    /// As for [`multiply`](super::multiply).
    #[inline(always)]
    pub(super) unsafe fn new<F: Format, const T: usize>(four: &[F::Chunk; FOUR], x: &[Prepared; T]) -> [Self; T] {
        // SAFETY: AVX-512 is there: this function's contract.
        unsafe {
            // Scales first, then a chunk from its codes to its sums: processors run ahead by less than four.
            let w = k::words(each!(i in [_mm_setzero_si128(); FOUR] => F::header(&four[i])));
            let scales = each!(t in [_mm512_setzero_si512(); T] => _mm512_mullo_epi16(w.scales, x[t].scales[0]));
            let mut all = [Self::ZERO; T];
            let up = _mm_cvtsi32_si128(16 - F::LEFT);
            for pair in 0..2 {
                let mut both = [[_mm512_setzero_si512(); 2]; T];
                for i in 0..2 {
                    let codes = &F::left_codes(&four[2 * pair + i]);
                    for t in 0..T {
                        let [even, odd] = quarter_sums(codes, &x[t].codes[2 * pair + i]);
                        // Four sums of each block: of block 2 l in the lower halves of lane l, of 2 l + 1 in the upper.
                        both[t][i] = _mm512_mask_mov_epi16(_mm512_sll_epi32(odd, up), 0x5555_5555, even);
                    }
                }
                for t in 0..T {
                    let [a, b] = both[t];
                    all[t].sums[pair] = if F::SIXTEEN {
                        let sums = _mm512_add_epi16(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
                        _mm512_madd_epi16(sums, in_turn(scales[t], 2 * pair, 2 * pair + 1))
                    } else {
                        let a = _mm512_madd_epi16(a, in_turn(scales[t], 2 * pair, 2 * pair));
                        add_pairs_64(a, _mm512_madd_epi16(b, in_turn(scales[t], 2 * pair + 1, 2 * pair + 1)))
                    };
                }
            }
            let units = _mm256_mul_ps(_mm256_cvtph_ps(w.units), _mm256_set1_ps(unit_factor(F::DTYPE)));
            for t in 0..T {
                let [first, second, ..] = x[t].sums;
                all[t].offsets = _mm512_dpwssd_epi32(_mm512_madd_epi16(w.offsets, first), w.offsets, second);
                all[t].units = _mm256_mul_ps(units, _mm256_set_m128(x[t].units, x[t].units));
            }
            all
        }
    }

    /// `unit * f32(sums) - offset_unit * f32(offsets)`
    #[target_feature(enable = "avx2,avx512f")]
    #[inline]
    pub(super) fn add_up<F: Format>(self) -> __m128 {
        if !F::SHORT {
            return self.done;
        }
        // In every lane a sum a chunk; of the offsets in lane i four sums of chunk i. Two of each, and the other two: first
        // the chunks' own.
        let (sums, offsets) = (add_neighbours(self.sums[0], self.sums[1]), self.offsets);
        let two = _mm512_setr_epi32(0, 1, 2, 3, 16, 20, 24, 28, 4, 5, 6, 7, 17, 21, 25, 29);
        let others = _mm512_setr_epi32(8, 9, 10, 11, 18, 22, 26, 30, 12, 13, 14, 15, 19, 23, 27, 31);
        let all = _mm512_add_epi32(
            _mm512_permutex2var_epi32(sums, two, offsets),
            _mm512_permutex2var_epi32(sums, others, offsets),
        );
        let both = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
        let both = _mm256_mul_ps(self.units, _mm256_cvtepi32_ps(both));
        // The offsets' unit itself is -dmin.
        _mm_sub_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps::<1>(both))
    }
}

/// In lane l what belongs to blocks 2 l and 2 l + 1 of chunk `a`, twice, then the same of chunk `b`; of i16, eight a chunk.
#[target_feature(enable = "avx512f")]
#[inline]
fn in_turn(numbers: __m512i, a: usize, b: usize) -> __m512i {
    let (a, b) = (4 * a as i32, 4 * b as i32);
    let lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    let chunks = _mm512_setr_epi32(a, a, b, b, a, a, b, b, a, a, b, b, a, a, b, b);
    _mm512_permutexvar_epi32(_mm512_add_epi32(lanes, chunks), numbers)
}
