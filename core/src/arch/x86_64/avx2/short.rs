//! Few activations against Q4_K and Q5_K ([`Format::SHORT`]): sums of eight products fit sixteen bits.

use super::super::bytes::unit_factor;
use super::super::in_order::FOUR;
use super::{Format, Prepared, add_16, add_pairs_32, add_pairs_64, evens, odds, pairs};
use core::arch::x86_64::*;

/// What four chunks' codes are scaled with.
#[derive(Clone, Copy)]
pub(super) struct Words {
    /// Eight scales, then eight offsets, a byte each: of chunks 0 and 2, and of 1 and 3.
    pub(super) numbers: [__m256i; 2],
    /// By chunk the f16 of the scales' unit and of the offsets'.
    pub(super) units: __m128i,
}

impl Words {
    /// Nothing.
    pub(super) const ZERO: Self = {
        // SAFETY: vectors of zeros are values, whatever the instructions.
        unsafe { core::mem::zeroed() }
    };
}

/// Four chunks against one activation, before their sums are added up; of types that are not [`Format::SHORT`] after it.
#[derive(Clone, Copy)]
pub(super) struct Pending {
    /// Four sums a lane, to be added: of chunks 0 and 2, and of 1 and 3.
    sums: [__m256i; 2],
    /// As the sums.
    offsets: [__m256i; 2],
    /// By chunk what sums are times, then what the offsets' are.
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

    /// Sums in sixteen bits, and scales times multiples, which one instruction multiplies and adds up.
    #[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
    #[inline]
    pub(super) fn new<F: Format, const T: usize>(four: &[F::Chunk; FOUR], x: &[Prepared; T]) -> [Self; T] {
        // Scales first, then a chunk from its codes to its sums: processors run ahead by less than four.
        // SAFETY: AVX2 is there, as for this function.
        let w = unsafe { F::words(four) };
        let units = _mm256_mul_ps(_mm256_cvtph_ps(w.units), _mm256_set1_ps(unit_factor(F::DTYPE)));
        let mut all = [Self::ZERO; T];
        let mut scales = [[[_mm256_setzero_si256(); 2]; 2]; T];
        for t in 0..T {
            all[t].units = _mm256_mul_ps(units, x[t].units);
            for p in 0..2 {
                let [low, high] = [twice::<0>(w.numbers[p]), twice::<4>(w.numbers[p])];
                scales[t][p] =
                    [_mm256_mullo_epi16(low, x[t].scales[2 * p]), _mm256_mullo_epi16(high, x[t].scales[2 * p + 1])];
                let [low, high] = [twice::<8>(w.numbers[p]), twice::<12>(w.numbers[p])];
                all[t].offsets[p] = _mm256_add_epi32(
                    _mm256_madd_epi16(low, x[t].sums[2 * p]),
                    _mm256_madd_epi16(high, x[t].sums[2 * p + 1]),
                );
            }
        }
        for half in 0..2 {
            let mut sums = [[_mm256_setzero_si256(); FOUR]; T];
            for j in 0..FOUR {
                let mut codes = [_mm256_setzero_si256(); 4];
                for i in 0..4 {
                    // SAFETY: as above.
                    codes[i] = unsafe { F::codes(&four[j], 4 * half + i) };
                }
                for t in 0..T {
                    sums[t][j] = sums_of_four_blocks::<F>(&codes, &x[t].codes[j], half);
                }
            }
            for t in 0..T {
                for p in 0..2 {
                    let sums = scaled::<F>(sums[t][p], sums[t][p + 2], scales[t][p][half]);
                    all[t].sums[p] = if half == 0 { sums } else { _mm256_add_epi32(all[t].sums[p], sums) };
                }
            }
        }
        all
    }

    /// `unit * f32(sums) - offset_unit * f32(offsets)`
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn add_up<F: Format>(self) -> __m128 {
        if !F::SHORT {
            return self.done;
        }
        // By chunk its sum, then its offsets'.
        let [a, b] = [add_pairs_32(self.sums[0], self.offsets[0]), add_pairs_32(self.sums[1], self.offsets[1])];
        let both = _mm256_mul_ps(self.units, _mm256_cvtepi32_ps(add_pairs_64(a, b)));
        // The offsets' unit itself is -dmin.
        let chunks = _mm256_sub_ps(both, _mm256_movehdup_ps(both));
        let (low, high) = (_mm256_castps256_ps128(chunks), _mm256_extractf128_ps::<1>(chunks));
        _mm_shuffle_ps::<0b10_00_10_00>(low, high)
    }
}

/// Bytes FIRST to FIRST + 3 of each lane in sixteen bits, each twice.
#[target_feature(enable = "avx2")]
#[inline]
fn twice<const FIRST: i8>(bytes: __m256i) -> __m256i {
    let order = _mm_setr_epi8(0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1);
    // A byte that is to be zero stays above 127.
    let order = _mm_add_epi8(order, _mm_and_si128(_mm_set1_epi16(0x00ff), _mm_set1_epi8(FIRST)));
    _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(order))
}

/// Blocks 4 `half` to 4 `half` + 3: in each lane two sums of eight products of each.
#[target_feature(enable = "avx2")]
#[inline]
fn sums_of_four_blocks<F: Format>(codes: &[__m256i; 4], x: &[__m256i; 8], half: usize) -> __m256i {
    let mut twos = [_mm256_setzero_si256(); 2];
    for i in 0..2 {
        let b = 4 * half + 2 * i;
        twos[i] = add_16(pairs::<F>(codes[2 * i], x[b]), pairs::<F>(codes[2 * i + 1], x[b + 1]));
    }
    let [a, b] = twos;
    _mm256_add_epi16(evens(a, b), odds(a, b))
}

/// The scaled sums of four blocks of two chunks, a lane a chunk.
#[target_feature(enable = "avx2")]
#[inline]
fn scaled<F: Format>(a: __m256i, b: __m256i, scales: __m256i) -> __m256i {
    if F::TOP * 127 * 16 <= 0x7fff {
        let sums = _mm256_add_epi16(_mm256_blend_epi32::<0xf0>(a, b), _mm256_permute2x128_si256::<0x21>(a, b));
        return _mm256_madd_epi16(sums, scales);
    }
    let low = _mm256_madd_epi16(_mm256_permute2x128_si256::<0x20>(a, b), scales);
    _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_permute2x128_si256::<0x31>(a, b), scales))
}
