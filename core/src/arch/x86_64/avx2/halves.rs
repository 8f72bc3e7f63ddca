//! Few activations against types whose blocks of 32 are sixteen bytes of two codes each ([`Format::HALVES`]): with block
//! `i` in one lane and block `i` + 4 in the other, low and high nibbles are the blocks' halves as they are unpacked.

use super::super::in_order::FOUR;
use super::short::Pending;
use super::weights::Scales;
use super::{Format, Prepared, add_pairs_64, add_trees, leaves, pairs, widen};
use core::arch::x86_64::*;

/// Of blocks `i` and `i` + 4 of a chunk's codes the first halves, then the second.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn halves(codes: &[__m256i; 8]) -> [__m256i; 8] {
    let mut halves = [_mm256_setzero_si256(); 8];
    for i in 0..4 {
        let (a, b) = (codes[i], codes[i + 4]);
        halves[2 * i] = _mm256_permute2x128_si256::<0x20>(a, b);
        halves[2 * i + 1] = _mm256_permute2x128_si256::<0x31>(a, b);
    }
    halves
}

/// The sums of products of each block of 32: those of four fit sixteen bits, and of eight.
#[target_feature(enable = "avx2")]
#[inline]
fn sums_of_32<F: Format>(codes: &[__m256i; 8], x: &[__m256i; 8]) -> __m256i {
    const { assert!(!F::HALVES || F::TOP * 127 * 8 <= 0x7fff) };
    let mut fours = [_mm256_setzero_si256(); 4];
    for i in 0..4 {
        let (first, second) = (pairs::<F>(codes[2 * i], x[2 * i]), pairs::<F>(codes[2 * i + 1], x[2 * i + 1]));
        fours[i] = _mm256_add_epi16(first, second);
    }
    let [a, b, c, d] = fours;
    let ab = _mm256_add_epi16(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi16(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    add_pairs_64(widen(ab), widen(cd))
}

/// Four chunks against T activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
pub(super) fn products<F: Format, const T: usize>(
    codes: impl Fn(usize) -> [__m256i; 8],
    scales: impl Fn(usize) -> Scales,
    x: &[Prepared; T],
) -> [Pending; T] {
    // Scales first, as for types with units.
    let mut of = [Scales::ZERO; FOUR];
    for j in 0..FOUR {
        of[j] = scales(j);
    }
    let mut chunks = [[_mm256_setzero_ps(); FOUR]; T];
    for j in 0..FOUR {
        let codes = codes(j);
        for t in 0..T {
            chunks[t][j] = leaves::<F>(sums_of_32::<F>(&codes, &x[t].codes[j]), &of[j], &x[t], j);
        }
    }
    let mut all = [Pending::ZERO; T];
    for t in 0..T {
        all[t] = Pending::done(add_trees(chunks[t]));
    }
    all
}
