//! AVX2.

use crate::arch::integer::{CHUNK, Products, Sums};
use core::arch::x86_64::*;

/// Runs `work` compiled for AVX2.
///
/// # Safety
/// The processor must have AVX2, BMI1, BMI2 and F16C.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
pub(crate) unsafe fn vectorize<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Only to be used inside [`vectorize`].
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

impl Products for Avx2 {
    #[inline(always)]
    fn sums(self, w: &[i8; CHUNK], x: &[i8; CHUNK], out: &mut Sums) {
        // SAFETY: AVX2 is there: this type's contract.
        unsafe { sums(w, x, out) }
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
fn sums(w: &[i8; CHUNK], x: &[i8; CHUNK], sums: &mut Sums) {
    let (w, x) = (w.as_chunks::<32>().0, x.as_chunks::<32>().0);
    for ((w, x), sums) in w.iter().zip(x).zip(sums.0.as_chunks_mut::<2>().0) {
        // SAFETY: 32 bytes are read from each.
        let (w, x) = unsafe { (_mm256_loadu_si256(w.as_ptr().cast()), _mm256_loadu_si256(x.as_ptr().cast())) };
        // |w| * (x with w's sign): the first operand is unsigned and at most 128, so pairs fit 16 bits.
        let pairs = _mm256_maddubs_epi16(_mm256_sign_epi8(w, w), _mm256_sign_epi8(x, w));
        let quads = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
        let halves = _mm256_add_epi32(quads, _mm256_shuffle_epi32::<0b01_00_11_10>(quads));
        let all = _mm256_add_epi32(halves, _mm256_shuffle_epi32::<0b10_11_00_01>(halves));
        *sums = [_mm256_extract_epi32::<0>(all), _mm256_extract_epi32::<4>(all)];
    }
}
