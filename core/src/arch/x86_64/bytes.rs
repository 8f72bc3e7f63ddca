//! A block's bytes in registers: what AVX2 and AVX-512 read alike.

use crate::arch::integer::Ahead;
use crate::dtype::DType;
use core::arch::x86_64::*;
use core::hint::black_box;

/// Asks for these lines.
#[inline(always)]
pub(super) fn prefetch_ahead(ahead: Ahead<'_>) {
    for line in ahead.lines() {
        // SAFETY: a prefetch reads nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.at(line).cast()) };
    }
}

/// Sixteen bytes at `at`; zeros past the end, which no caller reaches.
#[inline(always)]
pub(super) fn sixteen_at(bytes: &[u8], at: usize) -> &[u8; 16] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; 16])
}

/// [`sixteen_at`] in a register.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load128(bytes: &[u8], at: usize) -> __m128i {
    // SAFETY: 16 bytes are read.
    unsafe { _mm_loadu_si128(sixteen_at(bytes, at).as_ptr().cast()) }
}

/// Thirty-two bytes at `at`, as [`load128`].
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load256_at(bytes: &[u8], at: usize) -> __m256i {
    let bytes: [u8; 32] = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
    load256(&bytes)
}

/// An f16 at `at` in each block. Not number by number: eight insertions wait for one another.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn f16s<const BYTES: usize>(blocks: &[[u8; BYTES]; 8], at: usize) -> __m256 {
    let mut twos = [_mm_setzero_si128(); 4];
    for (i, two) in twos.iter_mut().enumerate() {
        *two = _mm_unpacklo_epi16(load128(&blocks[2 * i], at), load128(&blocks[2 * i + 1], at));
    }
    let [a, b, c, d] = twos;
    _mm256_cvtph_ps(_mm_unpacklo_epi64(_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d)))
}

/// MXFP4's scales, halved since its codes are doubled: of the byte that each block begins with.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn e8m0s(blocks: &[[u8; 17]; 8]) -> __m256 {
    // Beside the vectors, in a general register: as vectors, which the compiler would make of it, seven shuffles wait for
    // the one unit that an Intel has for them.
    let mut e = 0;
    for (i, block) in blocks.iter().enumerate() {
        e |= u64::from(block[0]) << (8 * i);
    }
    let e = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(black_box(e).cast_signed()));
    // 2^(e - 127) / 2: e = 0 is a subnormal, e = 255 is NaN.
    let bits = _mm256_max_epi32(_mm256_slli_epi32::<23>(e), _mm256_set1_epi32(1 << 22));
    let nan = _mm256_cmpeq_epi32(e, _mm256_set1_epi32(255));
    let bits = _mm256_blendv_epi8(bits, _mm256_set1_epi32(0x7fc0_0000), nan);
    _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0.5))
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load256(bytes: &[impl bytemuck::Pod; 32]) -> __m256i {
    // SAFETY: 32 elements of at least a byte are readable.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline(always)]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default())
}

#[inline(always)]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default())
}

#[inline(always)]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default())
}

/// N numbers: field i of `low`, of `bits` bits, and above its 8 bits field i of `high`, of `high_bits`.
#[inline(always)]
pub(super) fn numbers<const N: usize>((low, bits): (u64, usize), (high, high_bits): (usize, usize)) -> [usize; N] {
    let mut numbers = [0; N];
    for (i, number) in numbers.iter_mut().enumerate() {
        *number = (low >> (bits * i) & ((1 << bits) - 1)) as usize | (high >> (high_bits * i)) << 8;
    }
    numbers
}

/// Numbers 2 i and 2 i + 1, as instructions that multiply pairs take them.
#[inline(always)]
pub(super) fn pair_of<const N: usize>(numbers: &[i16; N], i: usize) -> i32 {
    let [low, high] = numbers.as_chunks().0[i];
    i32::from(low) & 0xffff | i32::from(high) << 16
}

/// What a block of 256's f16 is to be multiplied by to be the unit of its scales.
pub(super) const fn unit_factor(dtype: DType) -> f32 {
    match dtype {
        DType::IQ1_S | DType::IQ1_M | DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => 0.125,
        DType::IQ3_XXS => 0.25,
        _ => 1.0,
    }
}

/// Q4_K's and Q5_K's (scales, minimums), a byte each: the 6-bit numbers of `quant::q4_k`, four at a time.
#[inline(always)]
pub(super) fn q4_k_scales(block: &[u8]) -> (u64, u64) {
    let (a, b, c) = (u32_at(block, 4), u32_at(block, 8), u32_at(block, 12));
    let (low, high) = (0x0f0f_0f0f, 0x3030_3030);
    let sc = u64::from(a & 0x3f3f_3f3f) | u64::from(c & low | a >> 2 & high) << 32;
    let m = u64::from(b & 0x3f3f_3f3f) | u64::from(c >> 4 & low | b >> 2 & high) << 32;
    (sc, m)
}

/// Q3_K's scales, a signed byte each.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn q3_k_scales(block: &[u8]) -> __m128i {
    // Lower 4 bits: the nibbles of eight bytes, the low ones first; upper 2: the pairs of four bytes likewise.
    let low = _mm_srlv_epi64(_mm_set1_epi64x(u64_at(block, 96).cast_signed()), _mm_set_epi64x(4, 0));
    let high = _mm_srlv_epi32(_mm_set1_epi32(u32_at(block, 104).cast_signed()), _mm_setr_epi32(0, 2, 4, 6));
    let low = _mm_and_si128(low, _mm_set1_epi8(15));
    let high = _mm_slli_epi16::<4>(_mm_and_si128(high, _mm_set1_epi8(3)));
    _mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32))
}

/// Seven signs in each byte, and an eighth that makes their number even.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn even_signs(seven: __m256i) -> __m256i {
    // The sign bit where a nibble's number of ones is odd.
    let odd = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0,
    ));
    let nibble = _mm256_xor_si256(seven, _mm256_srli_epi16::<4>(seven));
    let eighth = _mm256_shuffle_epi8(odd, _mm256_and_si256(nibble, _mm256_set1_epi8(15)));
    _mm256_or_si256(seven, eighth)
}

/// Four times seven signs in the lower 28 bits of each word: a byte for each seven.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn sevens(words: __m256i) -> __m256i {
    let mask = |v, bits| _mm256_and_si256(v, _mm256_set1_epi32(bits));
    let fourteens = _mm256_or_si256(mask(words, 0x3fff), _mm256_slli_epi32::<2>(mask(words, 0x0fff_c000)));
    _mm256_or_si256(mask(fourteens, 0x007f_007f), _mm256_slli_epi32::<1>(mask(fourteens, 0x3f80_3f80)))
}
