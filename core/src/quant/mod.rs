//! The storage formats of weights, one file each, and what follows from them for all: rows in integer form
//! ([`unpack`]) and in f32 ([`decode`]).
//!
//! Every quantized format says one thing only, how a block of it becomes [`Unpacked`]; the values are bit for bit those
//! of PyPI `gguf`. No bytes are invalid: NaN and infinite scales propagate, and every table is as long as its index can
//! reach.

mod codebook;
mod e8m0;
pub mod fp4;
pub mod fp8;
mod grids;
pub mod iq1_m;
pub mod iq1_s;
pub mod iq2_s;
pub mod iq2_xs;
pub mod iq2_xxs;
pub mod iq3_s;
pub mod iq3_xxs;
pub mod iq4_nl;
pub mod iq4_xs;
pub mod mxfp4;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;

use crate::dtype::DType;
#[cfg(any(target_arch = "aarch64", target_arch = "wasm32"))]
pub(crate) use codebook::signs;
pub use e8m0::e8m0;

/// The codebooks as [`grids`] has them, for levels that look them up in their own way.
#[cfg(target_arch = "x86_64")]
pub(crate) mod packed {
    use super::grids;

    pub(crate) const IQ3_XXS: &[u16; 256] = &grids::IQ3_XXS;
    pub(crate) const IQ3_S: &[u16; 512] = &grids::IQ3_S;
}

/// Up to 256 consecutive weights of a row in integer form:
/// `weight[i] = (units[0] * scales[i/16]) * codes[i] + units[1] * offsets[i/16]`.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Unpacked {
    /// One a weight.
    pub codes: [i8; 256],
    /// One for every 16 weights (formats that share a scale among 32 repeat it). Integers of -128 to 127 where the type
    /// [`has_units`].
    pub scales: [f32; 16],
    /// One for every 16 weights; zeros unless [`has_offset`]. Integers of 0 to 63 where the type [`has_units`].
    pub offsets: [f32; 16],
    /// What scales and offsets are multiples of; ones unless [`has_units`].
    pub units: [f32; 2],
}

impl Default for Unpacked {
    fn default() -> Self {
        Self { codes: [0; 256], scales: [0.0; 16], offsets: [0.0; 16], units: [1.0; 2] }
    }
}

/// Whether the type has an integer form: all but the floats (FP8 among them) and I32.
pub const fn is_integer(dtype: DType) -> bool {
    !matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::I32 | DType::F8_E4M3)
}

/// Whether the type's [`Unpacked::offsets`] are other than zero.
pub const fn has_offset(dtype: DType) -> bool {
    matches!(dtype, DType::Q4_1 | DType::Q5_1 | DType::Q2_K | DType::Q4_K | DType::Q5_K)
}

/// Whether scales and offsets are integers times a unit of their block of 256: the K types, and the IQ types but IQ4_NL.
pub const fn has_units(dtype: DType) -> bool {
    dtype.block().0 == 256
}

/// How many consecutive weights share a scale in the type's integer form: 16 or 32.
pub const fn sub_block(dtype: DType) -> usize {
    use DType as T;
    if matches!(dtype, T::Q2_K | T::Q3_K | T::Q6_K | T::IQ2_XS | T::IQ2_S | T::IQ1_M) { 16 } else { 32 }
}

/// Columns `start..start + len` of a row in integer form; `false` (and `out` as it was) unless [`is_integer`].
///
/// `row` and `scales` are the whole row's bytes, as [`Matrix`](crate::tensor::Matrix) gives them; `start` and `len`, at
/// most 256, are whole blocks (FP4: multiples of 32).
#[inline(always)]
pub fn unpack(dtype: DType, row: &[u8], scales: &[u8], start: usize, len: usize, out: &mut Unpacked) -> bool {
    if !is_integer(dtype) {
        return false;
    }
    (out.offsets, out.units) = ([0.0; 16], [1.0; 2]);
    match dtype {
        DType::Q4_0 => blocks_of_32(q4_0::unpack, row, start, len, out),
        DType::Q4_1 => blocks_of_32(q4_1::unpack, row, start, len, out),
        DType::Q5_0 => blocks_of_32(q5_0::unpack, row, start, len, out),
        DType::Q5_1 => blocks_of_32(q5_1::unpack, row, start, len, out),
        DType::Q8_0 => blocks_of_32(q8_0::unpack, row, start, len, out),
        DType::IQ4_NL => blocks_of_32(iq4_nl::unpack, row, start, len, out),
        DType::MXFP4 => blocks_of_32(mxfp4::unpack, row, start, len, out),
        DType::Q2_K => block_of_256(q2_k::unpack, row, start, out),
        DType::Q3_K => block_of_256(q3_k::unpack, row, start, out),
        DType::Q4_K => block_of_256(q4_k::unpack, row, start, out),
        DType::Q5_K => block_of_256(q5_k::unpack, row, start, out),
        DType::Q6_K => block_of_256(q6_k::unpack, row, start, out),
        DType::IQ1_S => block_of_256(iq1_s::unpack, row, start, out),
        DType::IQ1_M => block_of_256(iq1_m::unpack, row, start, out),
        DType::IQ2_XXS => block_of_256(iq2_xxs::unpack, row, start, out),
        DType::IQ2_XS => block_of_256(iq2_xs::unpack, row, start, out),
        DType::IQ2_S => block_of_256(iq2_s::unpack, row, start, out),
        DType::IQ3_XXS => block_of_256(iq3_xxs::unpack, row, start, out),
        DType::IQ3_S => block_of_256(iq3_s::unpack, row, start, out),
        DType::IQ4_XS => block_of_256(iq4_xs::unpack, row, start, out),
        DType::FP4_E2M1 => fp4::unpack(row, scales, start, len, out),
        DType::F32 | DType::F16 | DType::BF16 | DType::I32 | DType::F8_E4M3 => return false,
    }
    true
}

/// Columns `start..start + out.len()` of a row in f32. `row` and `scales` are the whole row's bytes, as
/// [`Matrix`](crate::tensor::Matrix) gives them; `start` and `out` are whole blocks of the type.
#[inline(always)]
pub fn decode(dtype: DType, row: &[u8], scales: &[u8], start: usize, out: &mut [f32]) {
    match dtype {
        // Written out as loops: a function passed by name may be called once a value, and is compiled without the
        // caller's instructions.
        DType::F32 => {
            for (out, bytes) in out.iter_mut().zip(elements(row, start)) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        DType::I32 => {
            for (out, bytes) in out.iter_mut().zip(elements(row, start)) {
                *out = i32::from_le_bytes(*bytes) as f32;
            }
        }
        DType::F16 => {
            for (out, bytes) in out.iter_mut().zip(elements(row, start)) {
                *out = f16(*bytes);
            }
        }
        DType::BF16 => {
            for (out, bytes) in out.iter_mut().zip(elements(row, start)) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        DType::F8_E4M3 => fp8::decode(row, scales, start, out),
        DType::FP4_E2M1 => fp4::decode(row, scales, start, out),
        _ => {
            let mut block = Unpacked::default();
            for (i, out) in out.chunks_mut(256).enumerate() {
                unpack(dtype, row, scales, start + i * 256, out.len(), &mut block);
                expand(&block, has_offset(dtype), out);
            }
        }
    }
}

/// `out[i] = scale * code[i] + offset`, each operation rounded.
#[inline(always)]
fn expand(block: &Unpacked, has_offset: bool, out: &mut [f32]) {
    let codes = block.codes.as_chunks::<16>().0;
    for (s, (out, codes)) in out.as_chunks_mut::<16>().0.iter_mut().zip(codes).enumerate() {
        // Adding minus zero changes no value, not even minus zero itself.
        let offset = if has_offset { block.units[1] * block.offsets[s] } else { -0.0 };
        let scale = block.units[0] * block.scales[s];
        for (out, code) in out.iter_mut().zip(codes) {
            *out = scale * f32::from(*code) + offset;
        }
    }
}

/// The N-byte elements of a row from number `start` on.
#[inline(always)]
fn elements<const N: usize>(row: &[u8], start: usize) -> &[[u8; N]] {
    &row.as_chunks().0[start..]
}

/// Runs a format whose block of 32 gives codes, one scale and one offset.
#[inline(always)]
fn blocks_of_32<const N: usize>(
    unpack: impl Fn(&[u8; N], &mut [i8; 32]) -> (f32, f32),
    row: &[u8],
    start: usize,
    len: usize,
    out: &mut Unpacked,
) {
    let blocks = &row.as_chunks::<N>().0[start / 32..][..len / 32];
    let codes = out.codes.as_chunks_mut::<32>().0;
    let scales = out.scales.as_chunks_mut::<2>().0;
    let offsets = out.offsets.as_chunks_mut::<2>().0;
    for (((block, codes), scale), offset) in blocks.iter().zip(codes).zip(scales).zip(offsets) {
        let (s, o) = unpack(block, codes);
        *scale = [s; 2];
        *offset = [o; 2];
    }
}

/// Runs a format whose block is 256.
#[inline(always)]
fn block_of_256<const N: usize>(
    unpack: impl Fn(&[u8; N], &mut Unpacked),
    row: &[u8],
    start: usize,
    out: &mut Unpacked,
) {
    unpack(&row.as_chunks::<N>().0[start / 256], out);
}

/// A stored f16 in f32 (exact): 1 sign bit, 5 of exponent (bias 15), 10 of mantissa. All cases are computed and one is
/// chosen, so that loops vectorize.
#[inline(always)]
pub(crate) fn f16(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    let magnitude = bits & 0x7FFF;
    // The same fields in f32: the mantissa moves up by 23 - 10 bits, the exponent's bias grows by 127 - 15.
    let normal = (magnitude << 13) + (112 << 23);
    let subnormal = (magnitude as f32 / 16_777_216.0).to_bits();
    let infinite_or_nan = magnitude << 13 | 0xFF << 23;
    let value = if magnitude < 0x0400 { subnormal } else { normal };
    let value = if magnitude >= 0x7C00 { infinite_or_nan } else { value };
    f32::from_bits(value | (bits & 0x8000) << 16)
}

/// `codes[i] = low nibble of packed[i]`, then `codes[n + i] = high nibble of packed[i]`: GGML's order.
#[inline(always)]
fn nibbles(packed: &[u8], codes: &mut [i8]) {
    let (low, high) = codes.split_at_mut(packed.len());
    for ((low, high), packed) in low.iter_mut().zip(high).zip(packed) {
        *low = (packed & 15) as i8;
        *high = (packed >> 4) as i8;
    }
}

/// Nibbles (in the same order) as numbers of `table`'s values.
#[inline(always)]
fn nibbles_of(table: &[i8; 16], packed: &[u8], codes: &mut [i8]) {
    let (low, high) = codes.split_at_mut(packed.len());
    for ((low, high), packed) in low.iter_mut().zip(high).zip(packed) {
        *low = table[usize::from(packed & 15)];
        *high = table[usize::from(packed >> 4)];
    }
}

/// Adds `value` to `codes[i]` where bit i of `bits` is set.
#[inline(always)]
fn add_bits(bits: [u8; 4], value: i8, codes: &mut [i8; 32]) {
    for (bits, codes) in bits.iter().zip(codes.as_chunks_mut::<8>().0) {
        for (i, code) in codes.iter_mut().enumerate() {
            *code += if bits & (1 << i) != 0 { value } else { 0 };
        }
    }
}
