//! Types whose blocks are 32 weights, each with a scale of its own: eight blocks are a chunk.

use super::super::super::bytes::{e8m0s, f16s, sixteen_at};
use super::{Beside, Codes, Scales, load128, nibbles, of_table, plus_where};
use crate::arch::integer::raise;
use crate::dtype::DType;
use crate::quant::{fp4, iq4_nl};
use core::arch::asm;
use core::arch::x86_64::*;

/// A scale is all that blocks begin with.
#[target_feature(enable = "avx2,f16c,avx512f")]
#[inline]
pub(in super::super) fn scales<const BYTES: usize>(blocks: &[[u8; BYTES]; 8]) -> Scales {
    Scales::new(f16s(blocks, 0), _mm256_setzero_ps())
}

/// Blocks begin with a scale and an offset.
#[target_feature(enable = "avx2,f16c,avx512f")]
#[inline]
pub(in super::super) fn scales_and_offsets<const BYTES: usize>(blocks: &[[u8; BYTES]; 8]) -> Scales {
    Scales::new(f16s(blocks, 0), f16s(blocks, 2))
}

/// Sixteen bytes at `at` in every other block from `first` on.
#[target_feature(enable = "avx512f")]
#[inline]
fn sixteens<const BYTES: usize>(blocks: &[[u8; BYTES]; 8], first: usize, at: usize) -> __m512i {
    let v = _mm512_castsi128_si512(load128(&blocks[first], at));
    let v = insert::<1>(v, sixteen_at(&blocks[first + 2], at));
    let v = insert::<2>(v, sixteen_at(&blocks[first + 4], at));
    insert::<3>(v, sixteen_at(&blocks[first + 6], at))
}

/// `v` with sixteen bytes in one lane. Of intrinsics the compiler makes shuffles, for which an Intel has one unit alone:
/// products then took a sixth longer.
#[target_feature(enable = "avx512f")]
#[inline]
fn insert<const LANE: i32>(mut v: __m512i, bytes: &[u8; 16]) -> __m512i {
    // SAFETY: AVX-512 is there, and sixteen bytes are read.
    unsafe {
        asm!(
            "vinserti32x4 {v}, {v}, xmmword ptr [{bytes}], {lane}",
            v = inout(zmm_reg) v,
            bytes = in(reg) bytes,
            lane = const LANE,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    v
}

/// Sixteen bytes at `at` in each block: the low nibbles are its first half, the high ones its second.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn packed<const BYTES: usize>(blocks: &[[u8; BYTES]; 8], at: usize) -> Codes {
    let ([a, b], [c, d]) = (nibbles(sixteens(blocks, 0, at)), nibbles(sixteens(blocks, 1, at)));
    [a, b, c, d]
}

/// 32 bits at `at` in each block, one a weight, in the order of [`packed`].
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn bits<const BYTES: usize>(blocks: &[[u8; BYTES]; 8], at: usize) -> [u64; 4] {
    let bit_of_byte = _mm512_set1_epi64(0x8040_2010_0804_0201_u64.cast_signed());
    each!(i in [0; 4] => {
        // Two bytes are of a block's first half, two of its second: each eight times.
        let order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
        let order = _mm512_add_epi8(order, _mm512_set1_epi8(2 * (i % 2) as i8));
        _mm512_test_epi8_mask(_mm512_shuffle_epi8(sixteens(blocks, i / 2, at), order), bit_of_byte)
    })
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn q4_0(blocks: &[[u8; 18]; 8]) -> Codes {
    packed(blocks, 2)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn q4_1(blocks: &[[u8; 20]; 8]) -> Codes {
    packed(blocks, 4)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn q5_0(blocks: &[[u8; 22]; 8]) -> Codes {
    plus_where(packed(blocks, 6), bits(blocks, 2), 16)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn q5_1(blocks: &[[u8; 24]; 8]) -> Codes {
    plus_where(packed(blocks, 8), bits(blocks, 4), 16)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn q8_0(blocks: &[[u8; 34]; 8]) -> Codes {
    each!(i in [_mm512_setzero_si512(); 4] => {
        _mm512_xor_si512(sixteens(blocks, i / 2, 2 + 16 * (i % 2)), _mm512_set1_epi8(-128))
    })
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn iq4_nl(blocks: &[[u8; 18]; 8]) -> Codes {
    of_table(&iq4_nl::VALUES, -128, packed(blocks, 2))
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn mxfp4(blocks: &[[u8; 17]; 8]) -> Codes {
    of_table(&fp4::DOUBLED, raise(DType::MXFP4), packed(blocks, 1))
}

#[target_feature(enable = "avx2,avx512f")]
#[inline]
pub(in super::super) fn mxfp4_scales(blocks: &[[u8; 17]; 8]) -> Scales {
    Scales::new(e8m0s(blocks), _mm256_setzero_ps())
}

/// [`mxfp4_scales`] of four chunks at once, from where they lie: no byte by itself.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(in super::super) fn mxfp4_beside(four: &[[[u8; 17]; 8]; 4]) -> Beside {
    /// Of 64 bytes that begin with a block, the four with which blocks begin: in lane l byte l.
    const FIRST: u64 = 1 | 1 << 17 | 1 << 34 | 1 << 51;
    let bytes = four.as_flattened().as_flattened().as_ptr();
    // 2^(e - 127) / 2: e = 0 is a subnormal, e = 255 is NaN.
    let (least, infinity) = (_mm512_set1_epi32(1 << 22), _mm512_set1_epi32(255 << 23));
    // [half of a chunk's blocks], in lane l, element i: e of chunk i's block 4 half + l, in the bits of an exponent.
    let halves = each!(half in [_mm512_setzero_si512(); 2] => {
        let mut e = _mm512_setzero_si512();
        for i in 0..4 {
            // Read from 4 i bytes before the block on, its first byte comes to lie in element i.
            let at = 136 * i + 68 * half - 4 * i;
            // SAFETY: 132 * 3 + 68 + 64 bytes are among the 544.
            e = unsafe { _mm512_mask_loadu_epi8(e, FIRST << (4 * i), bytes.add(at).cast()) };
        }
        let up = _mm512_setr_epi32(23, 23, 23, 23, 15, 15, 15, 15, 7, 7, 7, 7, 31, 31, 31, 31);
        let e = _mm512_rolv_epi32(e, up);
        let bits = _mm512_max_epi32(e, least);
        let bits = _mm512_mask_or_epi32(bits, _mm512_cmpeq_epi32_mask(e, infinity), bits, least);
        _mm512_castps_si512(_mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0.5)))
    });
    let order = _mm512_setr_epi32(0, 4, 1, 5, 8, 12, 9, 13, 16, 20, 17, 21, 24, 28, 25, 29);
    let two =
        |chunk| _mm512_permutex2var_epi32(halves[0], _mm512_add_epi32(order, _mm512_set1_epi32(chunk)), halves[1]);
    let zero = _mm512_setzero_si512();
    Beside { scales: [two(0), two(2), zero, zero], offsets: [zero; 4], units: _mm_setzero_si128() }
}
