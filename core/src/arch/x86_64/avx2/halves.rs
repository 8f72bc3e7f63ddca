//! Few activations against types whose blocks of 32 are sixteen bytes of two codes each ([`Format::HALVES`]): with block
//! `i` in one lane and block `i` + 4 in the other, low and high nibbles are the blocks' halves as they are unpacked.

use super::super::bytes::load256;
use super::{Blocks, Format, add_pairs_64, add_trees, leaves, pairs, widen};
use crate::arch::integer::{CHUNK, ChunkX, SIDE_BY_SIDE};
use core::arch::x86_64::*;

/// Of blocks `i` and `i` + 4 of an activation's codes the first halves, then the second.
#[target_feature(enable = "avx2")]
#[inline]
fn halves(codes: &[i8; CHUNK]) -> [[__m256i; 2]; 4] {
    let blocks = codes.as_chunks().0;
    let mut halves = [[_mm256_setzero_si256(); 2]; 4];
    for i in 0..4 {
        let (a, b) = (load256(&blocks[i]), load256(&blocks[i + 4]));
        halves[i] = [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)];
    }
    halves
}

/// The sums of products of each block of 32: those of four fit sixteen bits, and of eight.
#[target_feature(enable = "avx2")]
#[inline]
fn sums_of_32<F: Format>(codes: &[[__m256i; 2]; 4], x: &[[__m256i; 2]; 4]) -> __m256i {
    const { assert!(!F::HALVES || F::TOP * 127 * 8 <= 0x7fff) };
    let mut fours = [_mm256_setzero_si256(); 4];
    for i in 0..4 {
        fours[i] = _mm256_add_epi16(pairs::<F>(codes[i][0], x[i][0]), pairs::<F>(codes[i][1], x[i][1]));
    }
    let [a, b, c, d] = fours;
    let ab = _mm256_add_epi16(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi16(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    add_pairs_64(widen(ab), widen(cd))
}

/// One chunk of four rows against T activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
pub(super) fn step<F: Format, const T: usize>(
    chunks: [&F::Chunk; SIDE_BY_SIDE],
    x: &[ChunkX<'_>; T],
    out: &mut [__m128; T],
) {
    let (mut blocks, mut x_halves) = ([Blocks::new::<F>(x[0]); T], [halves(x[0].codes); T]);
    for t in 1..T {
        (blocks[t], x_halves[t]) = (Blocks::new::<F>(x[t]), halves(x[t].codes));
    }
    // Scales first, as for types with units.
    // SAFETY: AVX2 is there, as for this function.
    let mut scales = unsafe { [F::scales(chunks[0]); SIDE_BY_SIDE] };
    for r in 1..SIDE_BY_SIDE {
        // SAFETY: as above.
        scales[r] = unsafe { F::scales(chunks[r]) };
    }
    let mut rows = [[_mm256_setzero_ps(); SIDE_BY_SIDE]; T];
    for r in 0..SIDE_BY_SIDE {
        let mut codes = [[_mm256_setzero_si256(); 2]; 4];
        for i in 0..4 {
            // SAFETY: as above.
            codes[i] = unsafe { F::halves(chunks[r], i) };
        }
        for t in 0..T {
            rows[t][r] = leaves::<F>(sums_of_32::<F>(&codes, &x_halves[t]), &scales[r], &blocks[t]);
        }
    }
    for t in 0..T {
        out[t] = _mm_add_ps(out[t], add_trees(rows[t]));
    }
}
