//! The K types.

use super::{
    Weights, eight, f16, load128, load256, load512, plus, plus_where, scaled_8, scaled_16, u16_at, u32_at, u64_at,
};
use core::arch::x86_64::*;

/// Q4_K's and Q5_K's (scales, offsets): the 6-bit numbers of `quant::q4_k`, four at a time.
#[target_feature(enable = "avx2,f16c,avx512f")]
#[inline]
fn scales(block: &[u8]) -> (__m512, __m512) {
    let (d, dmin) = (f16(u16_at(block, 0)), f16(u16_at(block, 2)));
    let (a, b, c) = (u32_at(block, 4), u32_at(block, 8), u32_at(block, 12));
    let (low, high) = (0x0f0f_0f0f, 0x3030_3030);
    let sc = u64::from(a & 0x3f3f_3f3f) | u64::from(c & low | a >> 2 & high) << 32;
    let m = u64::from(b & 0x3f3f_3f3f) | u64::from(c >> 4 & low | b >> 2 & high) << 32;
    (scaled_8(d, eight(sc)), scaled_8(-dmin, eight(m)))
}

/// Nibbles of 128 bytes: of each 32 bytes the low ones, then the high ones.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn nibbles_of_32(packed: &[[u8; 64]]) -> [__m512i; 4] {
    let two = |packed| {
        let mask = _mm512_set1_epi8(15);
        let (low, high) = (_mm512_and_si512(packed, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(packed), mask));
        [_mm512_shuffle_i64x2::<0b01_00_01_00>(low, high), _mm512_shuffle_i64x2::<0b11_10_11_10>(low, high)]
    };
    let ([a, b], [c, d]) = (two(load512(&packed[0])), two(load512(&packed[1])));
    [a, b, c, d]
}

/// Bits 2k, 2k + 1 of byte 32 h + i: of weight 128 h + 32 k + i.
#[target_feature(enable = "avx512f")]
#[inline]
fn two_bits(packed: &[u8]) -> [__m512i; 4] {
    let mask = _mm512_set1_epi8(3);
    let half = |h: usize| {
        let v = _mm512_broadcast_i64x4(load256(packed, 32 * h));
        let v = _mm512_srlv_epi64(v, _mm512_setr_epi64(0, 0, 0, 0, 2, 2, 2, 2));
        [_mm512_and_si512(v, mask), _mm512_and_si512(_mm512_srli_epi64::<4>(v), mask)]
    };
    let ([a, b], [c, d]) = (half(0), half(1));
    [a, b, c, d]
}

/// Bit k of byte i of 32: of weight 32 k + i.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn bits(packed: __m256i) -> [u64; 4] {
    let packed = _mm512_broadcast_i64x4(packed);
    core::array::from_fn(|i| {
        let bits = _mm512_inserti64x4::<1>(
            _mm512_set1_epi8((1u8 << (2 * i)).cast_signed()),
            _mm256_set1_epi8((2u8 << (2 * i)).cast_signed()),
        );
        _mm512_test_epi8_mask(packed, bits)
    })
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn q2_k([block]: &[[u8; 84]; 1]) -> Weights {
    let (d, dmin) = (f16(u16_at(block, 80)), f16(u16_at(block, 82)));
    let packed = _mm512_cvtepu8_epi32(load128(block, 0));
    let scales = scaled_16(d, _mm512_and_si512(packed, _mm512_set1_epi32(15)));
    let offsets = scaled_16(-dmin, _mm512_srli_epi32::<4>(packed));
    Weights { codes: two_bits(&block[16..80]), scales, offsets }
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn q3_k([block]: &[[u8; 110]; 1]) -> Weights {
    // Lower 4 bits: the nibbles of eight bytes, the low ones first; upper 2: the pairs of four bytes likewise.
    let low = _mm_srlv_epi64(_mm_set1_epi64x(u64_at(block, 96).cast_signed()), _mm_set_epi64x(4, 0));
    let high = _mm_srlv_epi32(_mm_set1_epi32(u32_at(block, 104).cast_signed()), _mm_setr_epi32(0, 2, 4, 6));
    let low = _mm_and_si128(low, _mm_set1_epi8(15));
    let high = _mm_slli_epi16::<4>(_mm_and_si128(high, _mm_set1_epi8(3)));
    let scales = _mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32));
    let scales = scaled_16(f16(u16_at(block, 108)), _mm512_cvtepi8_epi32(scales));
    let codes = plus_where(two_bits(&block[32..96]), bits(load256(block, 0)), 4);
    // minus 4, plus 128
    Weights { codes: plus(codes, 124), scales, offsets: _mm512_setzero_ps() }
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn q4_k([block]: &[[u8; 144]; 1]) -> Weights {
    let (scales, offsets) = scales(block);
    Weights { codes: nibbles_of_32(block[16..].as_chunks().0), scales, offsets }
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn q5_k([block]: &[[u8; 176]; 1]) -> Weights {
    let (scales, offsets) = scales(block);
    let codes = nibbles_of_32(block[48..].as_chunks().0);
    Weights { codes: plus_where(codes, bits(load256(block, 16)), 16), scales, offsets }
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn q6_k([block]: &[[u8; 210]; 1]) -> Weights {
    let scales = scaled_16(f16(u16_at(block, 208)), _mm512_cvtepi8_epi32(load128(block, 192)));
    let low = block.as_chunks::<64>().0;
    let high = two_bits(&block[128..192]);
    let codes = core::array::from_fn(|i| {
        // Of each half's 64 bytes the low nibbles, then the high ones.
        let packed = load512(&low[i / 2]);
        let packed = if i % 2 == 0 { packed } else { _mm512_srli_epi16::<4>(packed) };
        let low = _mm512_and_si512(packed, _mm512_set1_epi8(15));
        _mm512_or_si512(low, _mm512_slli_epi16::<4>(high[i]))
    });
    // minus 32, plus 128
    Weights { codes: plus(codes, 96), scales, offsets: _mm512_setzero_ps() }
}
