//! A chunk of one row in registers. The types that matter most are unpacked there; the others by [`quant`](crate::quant),
//! through memory.

use crate::arch::integer::{CHUNK, Row};
use crate::dtype::DType;
use crate::quant::{self, codebook_iq2_xs};
use core::arch::x86_64::*;

/// 256 weights.
pub(in crate::arch) struct Weights {
    /// Unsigned: raised by 128 where the type's codes are signed.
    pub(super) codes: [__m512i; 4],
    /// One a block: eight of 32, or sixteen of 16.
    pub(super) scales: __m512,
    /// One a block.
    pub(super) offsets: __m512,
}

/// Columns `start..start + len` of `row`.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn load(row: Row<'_>, start: usize, len: usize) -> Weights {
    let whole = |bytes: usize| row.data.get(start / CHUNK * bytes..).filter(|_| len == CHUNK);
    match row.dtype {
        DType::Q4_K => whole(144).and_then(<[u8]>::first_chunk).map(|block| q4_k(block)),
        DType::Q5_K => whole(176).and_then(<[u8]>::first_chunk).map(|block| q5_k(block)),
        DType::Q6_K => whole(210).and_then(<[u8]>::first_chunk).map(|block| q6_k(block)),
        DType::Q8_0 => whole(272).and_then(<[u8]>::first_chunk).map(|block| q8_0(block)),
        DType::MXFP4 => whole(136).and_then(<[u8]>::first_chunk).map(|block| mxfp4(block)),
        DType::IQ2_XS => whole(74).and_then(<[u8]>::first_chunk).map(|block| iq2_xs(block)),
        _ => None,
    }
    .unwrap_or_else(|| generic(row, start, len))
}

/// Any type, any length.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn generic(row: Row<'_>, start: usize, len: usize) -> Weights {
    let w = row.unpack(start, len);
    let flip = if quant::has_offset(row.dtype) { 0 } else { -128 };
    let codes = w.codes.as_chunks::<64>().0;
    let codes = core::array::from_fn(|i| _mm512_xor_si512(load512(&codes[i]), _mm512_set1_epi8(flip)));
    // SAFETY: each read is of sixteen values.
    let (scales, offsets) = unsafe { (_mm512_loadu_ps(w.scales.as_ptr()), _mm512_loadu_ps(w.offsets.as_ptr())) };
    if quant::sub_block(row.dtype) == 32 {
        let even = |v| _mm512_castps256_ps512(_mm256_castsi256_ps(_mm512_cvtepi64_epi32(_mm512_castps_si512(v))));
        return Weights { codes, scales: even(scales), offsets: even(offsets) };
    }
    Weights { codes, scales, offsets }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load512(bytes: &[impl bytemuck::Pod; 64]) -> __m512i {
    // SAFETY: 64 elements of at least a byte are readable.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Sixteen bytes at `at`; zeros past the end, which no caller reaches.
#[target_feature(enable = "avx512f")]
#[inline]
fn load128(bytes: &[u8], at: usize) -> __m128i {
    let bytes: [u8; 16] = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
    // SAFETY: 16 bytes are read.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Thirty-two bytes at `at`, as [`load128`].
#[target_feature(enable = "avx512f")]
#[inline]
fn load256(bytes: &[u8], at: usize) -> __m256i {
    let bytes: [u8; 32] = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
    // SAFETY: 32 bytes are read.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default())
}

/// Two f16 (d, dmin) in f32.
#[target_feature(enable = "f16c,avx512f")]
#[inline]
fn f16_pair(bits: u32) -> (f32, f32) {
    let v = _mm_cvtph_ps(_mm_cvtsi32_si128(bits.cast_signed()));
    (_mm_cvtss_f32(v), _mm_cvtss_f32(_mm_movehdup_ps(v)))
}

/// Eight bytes times `factor`.
#[target_feature(enable = "avx2,avx512f,avx512vl")]
#[inline]
fn scaled_bytes(bytes: u64, factor: f32) -> __m512 {
    let values = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes.cast_signed())));
    _mm512_castps256_ps512(_mm256_mul_ps(values, _mm256_set1_ps(factor)))
}

/// Q4_K's and Q5_K's (scales, offsets): the 6-bit numbers of `quant::q4_k`, four at a time.
#[target_feature(enable = "avx2,f16c,avx512f,avx512vl")]
#[inline]
fn k_scales(block: &[u8]) -> (__m512, __m512) {
    let (d, dmin) = f16_pair(u32_at(block, 0));
    let (a, b, c) = (u32_at(block, 4), u32_at(block, 8), u32_at(block, 12));
    let (low, high) = (0x0f0f_0f0f, 0x3030_3030);
    let sc = u64::from(a & 0x3f3f_3f3f) | u64::from(c & low | a >> 2 & high) << 32;
    let m = u64::from(b & 0x3f3f_3f3f) | u64::from(c >> 4 & low | b >> 2 & high) << 32;
    (scaled_bytes(sc, d), scaled_bytes(m, -dmin))
}

/// Nibbles of 64 bytes: 32 low ones, their 32 high ones, and again.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn nibbles(packed: __m512i) -> [__m512i; 2] {
    let mask = _mm512_set1_epi8(15);
    let (low, high) = (_mm512_and_si512(packed, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(packed), mask));
    [_mm512_shuffle_i64x2::<0b01_00_01_00>(low, high), _mm512_shuffle_i64x2::<0b11_10_11_10>(low, high)]
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
#[inline]
fn q4_k(block: &[u8; 144]) -> Weights {
    let (scales, offsets) = k_scales(block);
    let packed = block[16..].as_chunks::<64>().0;
    let [a, b] = nibbles(load512(&packed[0]));
    let [c, d] = nibbles(load512(&packed[1]));
    Weights { codes: [a, b, c, d], scales, offsets }
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
#[inline]
fn q5_k(block: &[u8; 176]) -> Weights {
    let (scales, offsets) = k_scales(block);
    // Bit k of byte i of `qh`: the fifth bit of weight 32 k + i.
    let qh = _mm512_broadcast_i64x4(load256(block, 16));
    let packed = block[48..].as_chunks::<64>().0;
    let ([a, b], [c, d]) = (nibbles(load512(&packed[0])), nibbles(load512(&packed[1])));
    let mut codes = [a, b, c, d];
    for (k, codes) in codes.iter_mut().enumerate() {
        let bits = _mm512_inserti64x4::<1>(
            _mm512_set1_epi8((1u8 << (2 * k)).cast_signed()),
            _mm256_set1_epi8((2u8 << (2 * k)).cast_signed()),
        );
        let set = _mm512_test_epi8_mask(qh, bits);
        *codes = _mm512_mask_add_epi8(*codes, set, *codes, _mm512_set1_epi8(16));
    }
    Weights { codes, scales, offsets }
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
#[inline]
fn q6_k(block: &[u8; 210]) -> Weights {
    let (d, _) = f16_pair(u32::from(block[208]) | u32::from(block[209]) << 8);
    let scales = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load128(block, 192)));
    let scales = _mm512_mul_ps(_mm512_set1_ps(d), scales);
    let (ql, qh) = (block.as_chunks::<64>().0, block[128..].as_chunks::<32>().0);
    let mask = _mm512_set1_epi8(15);
    let mut codes = [_mm512_setzero_si512(); 4];
    for half in 0..2 {
        // Weights i (low nibbles) and i + 64 (high ones) of a half lie in its 64 bytes; two more bits, for i, i + 32,
        // i + 64 and i + 96, in its 32.
        let low = load512(&ql[half]);
        let high = load256(&qh[half], 0);
        let two = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(high), _mm256_srli_epi16::<2>(high));
        for (k, two) in [two, _mm512_srli_epi16::<4>(two)].into_iter().enumerate() {
            let nibble = if k == 0 { low } else { _mm512_srli_epi16::<4>(low) };
            let two = _mm512_slli_epi16::<4>(_mm512_and_si512(two, _mm512_set1_epi8(3)));
            let code = _mm512_or_si512(_mm512_and_si512(nibble, mask), two);
            // minus 32, plus 128
            codes[2 * half + k] = _mm512_add_epi8(code, _mm512_set1_epi8(96));
        }
    }
    Weights { codes, scales, offsets: _mm512_setzero_ps() }
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
#[inline]
fn q8_0(blocks: &[u8; 272]) -> Weights {
    let blocks = blocks.as_chunks::<34>().0;
    let d: [[u8; 2]; 8] = core::array::from_fn(|b| [blocks[b][0], blocks[b][1]]);
    // SAFETY: sixteen bytes are read.
    let d = unsafe { _mm_loadu_si128(d.as_ptr().cast()) };
    let codes = core::array::from_fn(|i| {
        let pair = _mm512_castsi256_si512(load256(&blocks[2 * i], 2));
        let pair = _mm512_inserti64x4::<1>(pair, load256(&blocks[2 * i + 1], 2));
        _mm512_xor_si512(pair, _mm512_set1_epi8(-128))
    });
    Weights { codes, scales: _mm512_castps256_ps512(_mm256_cvtph_ps(d)), offsets: _mm512_setzero_ps() }
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
#[inline]
fn mxfp4(blocks: &[u8; 136]) -> Weights {
    let blocks = blocks.as_chunks::<17>().0;
    let e = u64::from_le_bytes(core::array::from_fn(|b| blocks[b][0]));
    // 2^(e - 127) / 2: e = 0 is a subnormal, e = 255 is NaN.
    let e = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(e.cast_signed()));
    let bits = _mm256_max_epi32(_mm256_slli_epi32::<23>(e), _mm256_set1_epi32(1 << 22));
    let nan = _mm256_cmpeq_epi32_mask(e, _mm256_set1_epi32(255));
    let bits = _mm256_mask_mov_epi32(bits, nan, _mm256_set1_epi32(0x7fc0_0000));
    let scales = _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0.5));
    // The table of E2M1, doubled, plus 128.
    let table = _mm512_broadcast_i32x4(_mm_xor_si128(
        _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12),
        _mm_set1_epi8(-128),
    ));
    let mask = _mm512_set1_epi8(15);
    let four = |b: usize| {
        let v = _mm512_castsi128_si512(load128(&blocks[b], 1));
        let v = _mm512_inserti32x4::<1>(v, load128(&blocks[b + 1], 1));
        let v = _mm512_inserti32x4::<2>(v, load128(&blocks[b + 2], 1));
        let v = _mm512_inserti32x4::<3>(v, load128(&blocks[b + 3], 1));
        let low = _mm512_shuffle_epi8(table, _mm512_and_si512(v, mask));
        let high = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16::<4>(v), mask));
        // Of each block the sixteen low nibbles, then the sixteen high ones.
        let first = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high);
        let second = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), high);
        [first, second]
    };
    let ([a, b], [c, d]) = (four(0), four(4));
    Weights { codes: [a, b, c, d], scales: _mm512_castps256_ps512(scales), offsets: _mm512_setzero_ps() }
}

#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline]
fn iq2_xs(block: &[u8; 74]) -> Weights {
    let (d, _) = f16_pair(u32::from(block[0]) | u32::from(block[1]) << 8);
    let packed = _mm_cvtsi64_si128(i64::from_le_bytes(block[66..].first_chunk().copied().unwrap_or_default()));
    let nibble = _mm_set1_epi8(15);
    let scales = _mm_unpacklo_epi8(_mm_and_si128(packed, nibble), _mm_and_si128(_mm_srli_epi16::<4>(packed), nibble));
    let scales = _mm512_add_ps(_mm512_set1_ps(0.5), _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(scales)));
    let scales = _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(d), scales), _mm512_set1_ps(0.25));
    let grid = codebook_iq2_xs();
    let codes = core::array::from_fn(|i| {
        let q = _mm256_cvtepu16_epi32(load128(block, 2 + 16 * i));
        let entry = _mm256_and_si256(q, _mm256_set1_epi32(511));
        // SAFETY: entries are below 512, the codebook's length, and eight bytes each.
        let values = unsafe { _mm512_i32gather_epi64::<8>(entry, grid.as_ptr().cast()) };
        // Seven signs, and an eighth that makes their number even.
        let signs = _mm256_srli_epi32::<9>(q);
        let parity = _mm256_xor_si256(signs, _mm256_srli_epi32::<4>(signs));
        let parity = _mm256_xor_si256(parity, _mm256_srli_epi32::<2>(parity));
        let parity = _mm256_xor_si256(parity, _mm256_srli_epi32::<1>(parity));
        let signs = _mm256_or_si256(signs, _mm256_slli_epi32::<7>(parity));
        let negative = _mm_cvtsi128_si64(_mm256_cvtepi32_epi8(signs)).cast_unsigned();
        let values = _mm512_mask_sub_epi8(values, negative, _mm512_setzero_si512(), values);
        _mm512_xor_si512(values, _mm512_set1_epi8(-128))
    });
    Weights { codes, scales, offsets: _mm512_setzero_ps() }
}
