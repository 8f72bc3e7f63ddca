//! Vectors of sixteen f32, in two.

use crate::arch::float::{LANES, Lanes};
use core::arch::x86_64::*;

/// Sixteen f32. Only to be used inside [`vectorize`](super::vectorize).
#[derive(Clone, Copy)]
pub(in crate::arch) struct F32x16(__m256, __m256);

impl Lanes for F32x16 {
    const KEYS: usize = 2;
    const WIDE: usize = 2;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: AVX2 is there: this type's contract.
        let v = unsafe { _mm256_set1_ps(value) };
        Self(v, v)
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        // SAFETY: AVX2 is there; twice eight of sixteen values are read.
        unsafe { Self(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))) }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        // SAFETY: AVX2 is there; twice eight of sixteen values are written.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), self.0);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), self.1);
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: AVX2 is there: this type's contract.
        unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: AVX2 is there: this type's contract.
        unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn magnitude(self, other: Self) -> f32 {
        // SAFETY: AVX2 is there: this type's contract.
        unsafe { magnitude([self.0, self.1, other.0, other.1]) }
    }

    #[inline(always)]
    fn low_bytes(self, to: &mut [i8; LANES]) {
        // SAFETY: AVX2 is there, and sixteen bytes are written.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), low_bytes(self)) };
    }

    #[inline(always)]
    fn sums<const K: usize>(lanes: &[[Self; 2]; K]) -> [[f32; K]; 2] {
        let mut sums = [[0.0; K]; 2];
        for (k, pair) in lanes.as_chunks::<2>().0.iter().enumerate() {
            // SAFETY: AVX2 is there: this type's contract.
            let [s00, s01, s10, s11] = unsafe { sums_of_four([pair[0][0], pair[0][1], pair[1][0], pair[1][1]]) };
            (sums[0][2 * k], sums[0][2 * k + 1]) = (s00, s10);
            (sums[1][2 * k], sums[1][2 * k + 1]) = (s01, s11);
        }
        sums
    }
}

/// The largest of 32 magnitudes.
#[target_feature(enable = "avx2")]
#[inline]
fn magnitude(v: [__m256; 4]) -> f32 {
    let mut of_8 = _mm256_setzero_si256();
    for i in 0..4 {
        of_8 = _mm256_max_epu32(of_8, _mm256_and_si256(_mm256_castps_si256(v[i]), _mm256_set1_epi32(i32::MAX)));
    }
    let of_4 = _mm_max_epu32(_mm256_castsi256_si128(of_8), _mm256_extracti128_si256::<1>(of_8));
    let of_2 = _mm_max_epu32(of_4, _mm_shuffle_epi32::<0b00_00_11_10>(of_4));
    let of_1 = _mm_max_epu32(of_2, _mm_shuffle_epi32::<0b00_00_00_01>(of_2));
    f32::from_bits(_mm_cvtsi128_si32(of_1) as u32)
}

/// The lowest byte of each.
#[target_feature(enable = "avx2")]
#[inline]
fn low_bytes(F32x16(a, b): F32x16) -> __m128i {
    // In each lane those of four elements, twice.
    let order = _mm256_set1_epi64x(0x0c08_0400_0c08_0400);
    let a = _mm256_shuffle_epi8(_mm256_castps_si256(a), order);
    let b = _mm256_shuffle_epi8(_mm256_castps_si256(b), order);
    // a's and b's of the lower lane, then of the upper.
    let both = _mm256_blend_epi32::<0b1010_1010>(a, b);
    let (lower, upper) = (_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both));
    _mm_shuffle_epi32::<0b11_01_10_00>(_mm_unpacklo_epi64(lower, upper))
}

/// The sums of four vectors' lanes, all taken together from step to step.
#[target_feature(enable = "avx2")]
#[inline]
fn sums_of_four(lanes: [F32x16; 4]) -> [f32; 4] {
    // l and l + 8, then l and l + 4: four elements each.
    let mut of_4 = [_mm_setzero_ps(); 4];
    for k in 0..4 {
        let of_8 = _mm256_add_ps(lanes[k].0, lanes[k].1);
        of_4[k] = _mm_add_ps(_mm256_castps256_ps128(of_8), _mm256_extractf128_ps::<1>(of_8));
    }
    // l and l + 2: two elements each.
    let mut of_2 = [_mm_setzero_ps(); 2];
    for k in 0..2 {
        let (a, b) = (of_4[2 * k], of_4[2 * k + 1]);
        of_2[k] = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
    }
    let [a, b] = of_2;
    let all = _mm_add_ps(_mm_shuffle_ps::<0b10_00_10_00>(a, b), _mm_shuffle_ps::<0b11_01_11_01>(a, b));
    let mut sums = [0.0; 4];
    // SAFETY: four values are written.
    unsafe { _mm_storeu_ps(sums.as_mut_ptr(), all) };
    sums
}
