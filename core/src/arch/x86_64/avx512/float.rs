//! Vectors of sixteen f32.

use crate::arch::float::{LANES, Lanes};
use core::arch::x86_64::*;

/// Sixteen f32. Only to be used inside [`vectorize`](super::vectorize).
#[derive(Clone, Copy)]
pub(in crate::arch) struct F32x16(__m512);

impl Lanes for F32x16 {
    const KEYS: usize = 8;
    const WIDE: usize = 4;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: AVX-512 is there: this type's contract.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        // SAFETY: AVX-512 is there; sixteen values are read.
        Self(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        // SAFETY: AVX-512 is there; sixteen values are written.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) };
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: AVX-512 is there: this type's contract.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: AVX-512 is there: this type's contract.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn magnitude(self, other: Self) -> f32 {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe { magnitude(self.0, other.0) }
    }

    #[inline(always)]
    fn low_bytes(self, to: &mut [i8; LANES]) {
        // SAFETY: AVX-512 is there; sixteen bytes are written.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(_mm512_castps_si512(self.0))) };
    }

    #[inline(always)]
    fn sums<const K: usize>(lanes: &[[Self; 2]; K]) -> [[f32; K]; 2] {
        let mut sums = [[0.0; K]; 2];
        for first in (0..K).step_by(8) {
            // What is missing of eight meets the last.
            let mut eight = [[F32x16::splat(0.0); 2]; 8];
            for k in 0..8 {
                eight[k] = lanes[(first + k).min(K - 1)];
            }
            // SAFETY: AVX-512 is there: this type's contract.
            let of_eight = unsafe { sums_of_eight(&eight) };
            let n = (K - first).min(8);
            for i in 0..2 {
                sums[i][first..first + n].copy_from_slice(&of_eight[i][..n]);
            }
        }
        sums
    }
}

/// The largest of 32 magnitudes.
#[target_feature(enable = "avx512f")]
#[inline]
fn magnitude(a: __m512, b: __m512) -> f32 {
    let all_but_sign = _mm512_set1_epi32(i32::MAX);
    let a = _mm512_and_si512(_mm512_castps_si512(a), all_but_sign);
    let b = _mm512_and_si512(_mm512_castps_si512(b), all_but_sign);
    f32::from_bits(_mm512_reduce_max_epu32(_mm512_max_epu32(a, b)))
}

/// The sums of sixteen vectors' lanes, all sixteen taken together from step to step.
#[target_feature(enable = "avx512f")]
#[inline]
fn sums_of_eight(lanes: &[[F32x16; 2]; 8]) -> [[f32; 8]; 2] {
    let zero = _mm512_setzero_ps();
    // l and l + 8: what is left of k in the lower half, of k + 4 in the upper one.
    let mut of_8 = [[zero; 2]; 4];
    for k in 0..4 {
        for i in 0..2 {
            let (a, b) = (lanes[k][i].0, lanes[k + 4][i].0);
            let (low, high) =
                (_mm512_shuffle_f32x4::<0b01_00_01_00>(a, b), _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b));
            of_8[k][i] = _mm512_add_ps(low, high);
        }
    }
    // l and l + 4: a lane of 128 bits each, of i = 0, then of i = 1.
    let mut of_4 = [zero; 4];
    for k in 0..4 {
        let [a, b] = of_8[k];
        let (low, high) = (_mm512_shuffle_f32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b));
        of_4[k] = _mm512_add_ps(low, high);
    }
    // l and l + 2: two elements each.
    let mut of_2 = [zero; 2];
    for k in 0..2 {
        let (a, b) = (of_4[2 * k], of_4[2 * k + 1]);
        let (low, high) = (_mm512_shuffle_ps::<0b01_00_01_00>(a, b), _mm512_shuffle_ps::<0b11_10_11_10>(a, b));
        of_2[k] = _mm512_add_ps(low, high);
    }
    let [a, b] = of_2;
    let (even, odd) = (_mm512_shuffle_ps::<0b10_00_10_00>(a, b), _mm512_shuffle_ps::<0b11_01_11_01>(a, b));
    let mut sums = [0.0; 16];
    F32x16(_mm512_add_ps(even, odd)).store(&mut sums);
    bytemuck::cast(sums)
}
