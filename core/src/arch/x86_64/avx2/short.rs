//! Few activations against Q4_K and Q5_K ([`Format::SHORT`]): sums of eight products fit sixteen bits.

use super::super::bytes::{load256, unit_factor};
use super::{Format, add_16, add_pairs_32, add_pairs_64, evens, odds, pairs};
use crate::arch::integer::{CHUNK, ChunkX, SIDE_BY_SIDE};
use core::arch::x86_64::*;

/// What four rows' codes are scaled with.
#[derive(Clone, Copy)]
pub(super) struct Words {
    /// Eight scales, then eight offsets, a byte each: of rows 0 and 2, and of 1 and 3.
    pub(super) numbers: [__m256i; 2],
    /// By row the f16 of the scales' unit and of the offsets'.
    pub(super) units: __m128i,
}

impl Words {
    /// Nothing.
    pub(super) const ZERO: Self = {
        // SAFETY: vectors of zeros are values, whatever the instructions.
        unsafe { core::mem::zeroed() }
    };
}

/// One chunk of four rows against one activation, before its sums are added up.
#[derive(Clone, Copy)]
pub(super) struct Pending {
    /// Four sums a lane, to be added: of rows 0 and 2, and of 1 and 3.
    sums: [__m256i; 2],
    /// As the sums.
    offsets: [__m256i; 2],
    /// By row what sums are times, then what the offsets' are.
    units: __m256,
}

impl Pending {
    /// Nothing: adds 0.
    pub(super) const ZERO: Self = {
        // SAFETY: vectors of zeros are values, whatever the instructions.
        unsafe { core::mem::zeroed() }
    };

    /// Sums in sixteen bits, and scales times multiples, which one instruction multiplies and adds up.
    #[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
    #[inline]
    pub(super) fn new<F: Format, const T: usize>(chunks: [&F::Chunk; SIDE_BY_SIDE], x: &[ChunkX<'_>; T]) -> [Self; T] {
        // Scales first, then a row from its codes to its sums: processors run ahead by less than a chunk.
        // SAFETY: AVX2 is there, as for this function.
        let w = unsafe { F::words(chunks) };
        let units = _mm256_mul_ps(_mm256_cvtph_ps(w.units), _mm256_set1_ps(unit_factor(F::DTYPE)));
        let mut all = [Self::ZERO; T];
        let mut scales = [[[_mm256_setzero_si256(); 2]; 2]; T];
        for t in 0..T {
            all[t].units = _mm256_mul_ps(units, _mm256_set1_ps(x[t].of.unit));
            for p in 0..2 {
                let [low, high] = [twice::<0>(w.numbers[p]), twice::<4>(w.numbers[p])];
                let [multiples_low, multiples_high] = in_both_lanes(&x[t].of.multiples);
                scales[t][p] = [_mm256_mullo_epi16(low, multiples_low), _mm256_mullo_epi16(high, multiples_high)];
                let [low, high] = [twice::<8>(w.numbers[p]), twice::<12>(w.numbers[p])];
                let [sums_low, sums_high] = in_both_lanes(&x[t].of.multiple_sums);
                all[t].offsets[p] =
                    _mm256_add_epi32(_mm256_madd_epi16(low, sums_low), _mm256_madd_epi16(high, sums_high));
            }
        }
        for half in 0..2 {
            let mut rows = [[_mm256_setzero_si256(); SIDE_BY_SIDE]; T];
            for r in 0..SIDE_BY_SIDE {
                let mut codes = [_mm256_setzero_si256(); 4];
                for i in 0..4 {
                    // SAFETY: as above.
                    codes[i] = unsafe { F::codes(chunks[r], 4 * half + i) };
                }
                for t in 0..T {
                    rows[t][r] = sums_of_four_blocks::<F>(&codes, x[t].codes, half);
                }
            }
            for t in 0..T {
                for p in 0..2 {
                    let sums = scaled::<F>(rows[t][p], rows[t][p + 2], scales[t][p][half]);
                    all[t].sums[p] = if half == 0 { sums } else { _mm256_add_epi32(all[t].sums[p], sums) };
                }
            }
        }
        all
    }

    /// `sum + unit * f32(sums) - offset_unit * f32(offsets)`
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn add_to(self, sum: __m128) -> __m128 {
        // By row its sum, then its offsets'.
        let [a, b] = [add_pairs_32(self.sums[0], self.offsets[0]), add_pairs_32(self.sums[1], self.offsets[1])];
        let both = _mm256_mul_ps(self.units, _mm256_cvtepi32_ps(add_pairs_64(a, b)));
        // The offsets' unit itself is -dmin.
        let chunk = _mm256_sub_ps(both, _mm256_movehdup_ps(both));
        let (low, high) = (_mm256_castps256_ps128(chunk), _mm256_extractf128_ps::<1>(chunk));
        let chunk = _mm_shuffle_ps::<0b10_00_10_00>(low, high);
        _mm_add_ps(sum, chunk)
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

/// The first eight numbers, and the others, in both lanes.
#[target_feature(enable = "avx2")]
#[inline]
fn in_both_lanes(numbers: &[i16; 16]) -> [__m256i; 2] {
    let [low, high] = bytemuck::cast_ref::<_, [[i16; 8]; 2]>(numbers);
    // SAFETY: eight numbers are read from each.
    let [low, high] = unsafe { [_mm_loadu_si128(low.as_ptr().cast()), _mm_loadu_si128(high.as_ptr().cast())] };
    [_mm256_broadcastsi128_si256(low), _mm256_broadcastsi128_si256(high)]
}

/// Blocks 4 `half` to 4 `half` + 3: in each lane two sums of eight products of each.
#[target_feature(enable = "avx2")]
#[inline]
fn sums_of_four_blocks<F: Format>(codes: &[__m256i; 4], x: &[i8; CHUNK], half: usize) -> __m256i {
    let x = x.as_chunks().0;
    let mut twos = [_mm256_setzero_si256(); 2];
    for i in 0..2 {
        let b = 4 * half + 2 * i;
        twos[i] = add_16(pairs::<F>(codes[2 * i], load256(&x[b])), pairs::<F>(codes[2 * i + 1], load256(&x[b + 1])));
    }
    let [a, b] = twos;
    _mm256_add_epi16(evens(a, b), odds(a, b))
}

/// The scaled sums of four blocks of two rows, a lane a row.
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
