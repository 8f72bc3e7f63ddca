//! AArch64's vectors: what `lanes` is written over. NEON, which every processor has, and its dot product, which most
//! have.

// The intrinsics of NEON are safe to call, the target having it; older compilers think otherwise of some.
#![allow(unused_unsafe)]

use super::disjoint::Columns;
use super::integer::Work;
use super::lanes::{self, Dot};
use core::arch::aarch64::*;
use core::arch::asm;

/// The level of plain NEON.
pub(super) fn neon(work: &Work<'_>, columns: &mut Columns<'_>) {
    lanes::block::<Multiply, Multiply>(work, columns);
}

/// The level of the dot product.
pub(super) fn neon_dot(work: &Work<'_>, columns: &mut Columns<'_>) {
    lanes::block::<DotProduct, DotProduct>(work, columns);
}

/// Sixteen bytes.
pub(super) type Bytes = uint8x16_t;
/// Four i32.
pub(super) type Ints = int32x4_t;
/// Four f32.
pub(super) type Floats = float32x4_t;

/// Activations of one step of a tile: sixteen sums, of 32 registers.
pub(super) const TOGETHER: usize = 4;

/// Whether the processor has the dot product. Linux lets programs read its identification registers (since 4.11);
/// elsewhere what the target promises counts.
pub(super) fn has_dotprod() -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let features: u64;
        // SAFETY: reads a register that the kernel emulates for programs.
        unsafe { asm!("mrs {}, ID_AA64ISAR0_EL1", out(reg) features, options(nomem, nostack, preserves_flags)) };
        features >> 44 & 15 != 0
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    cfg!(target_feature = "dotprod")
}

#[inline(always)]
pub(super) fn load(bytes: &[u8; 16]) -> Bytes {
    // SAFETY: 16 bytes are read.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[inline(always)]
pub(super) fn store(v: Bytes, bytes: &mut [u8; 16]) {
    // SAFETY: 16 bytes are written.
    unsafe { vst1q_u8(bytes.as_mut_ptr(), v) }
}

macro_rules! operations {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty = $value:expr;)+) => {
        $(#[inline(always)]
        pub(super) fn $name($($arg: $type),*) -> $result {
            // SAFETY: NEON is part of the target.
            unsafe { $value }
        })+
    };
}

operations! {
    splat_8(value: i8) -> Bytes = vreinterpretq_u8_s8(vdupq_n_s8(value));
    words(words: [u64; 2]) -> Bytes =
        vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(words[0]), vcreate_u64(words[1])));
    and(a: Bytes, b: Bytes) -> Bytes = vandq_u8(a, b);
    or(a: Bytes, b: Bytes) -> Bytes = vorrq_u8(a, b);
    xor(a: Bytes, b: Bytes) -> Bytes = veorq_u8(a, b);
    add_8(a: Bytes, b: Bytes) -> Bytes = vaddq_u8(a, b);
    sub_8(a: Bytes, b: Bytes) -> Bytes = vsubq_u8(a, b);
    eq_8(a: Bytes, b: Bytes) -> Bytes = vceqq_u8(a, b);
    interleave_8(a: Bytes, b: Bytes) -> Bytes = vzip1q_u8(a, b);

    splat_i(value: i32) -> Ints = vdupq_n_s32(value);
    ints(values: [i32; 4]) -> Ints = vld1q_s32(values.as_ptr());
    add_i(a: Ints, b: Ints) -> Ints = vaddq_s32(a, b);
    sub_i(a: Ints, b: Ints) -> Ints = vsubq_s32(a, b);
    mul_i(a: Ints, b: Ints) -> Ints = vmulq_s32(a, b);
    max_i(a: Ints, b: Ints) -> Ints = vmaxq_s32(a, b);
    and_i(a: Ints, b: Ints) -> Ints = vandq_s32(a, b);
    or_i(a: Ints, b: Ints) -> Ints = vorrq_s32(a, b);
    gt_i(a: Ints, b: Ints) -> Ints = vreinterpretq_s32_u32(vcgtq_s32(a, b));
    select_i(mask: Ints, yes: Ints, no: Ints) -> Ints = vbslq_s32(vreinterpretq_u32_s32(mask), yes, no);

    splat_f(value: f32) -> Floats = vdupq_n_f32(value);
    add_f(a: Floats, b: Floats) -> Floats = vaddq_f32(a, b);
    mul_f(a: Floats, b: Floats) -> Floats = vmulq_f32(a, b);
    even_f(a: Floats, b: Floats) -> Floats = vuzp1q_f32(a, b);
    odd_f(a: Floats, b: Floats) -> Floats = vuzp2q_f32(a, b);
    first_f(a: Floats) -> f32 = vgetq_lane_f32::<0>(a);
    to_f(a: Ints) -> Floats = vcvtq_f32_s32(a);
    to_i(a: Floats) -> Ints = vcvtq_s32_f32(a);
    bytes_i(a: Bytes) -> Ints = vreinterpretq_s32_u8(a);
    float_bits(a: Floats) -> Ints = vreinterpretq_s32_f32(a);
    from_bits(a: Ints) -> Floats = vreinterpretq_f32_s32(a);
    float_bytes(a: Floats) -> Bytes = vreinterpretq_u8_f32(a);
    from_bytes(a: Bytes) -> Floats = vreinterpretq_f32_u8(a);

    // Indices below 16.
    lookup(table: Bytes, index: Bytes) -> Bytes = vqtbl1q_u8(table, index);
    // Eight i16 as i32.
    widen_i16(v: Bytes) -> [Ints; 2] = {
        let v = vreinterpretq_s16_u8(v);
        [vmovl_s16(vget_low_s16(v)), vmovl_high_s16(v)]
    };
    // Sixteen unsigned bytes as i32.
    widen_u8(v: Bytes) -> [Ints; 4] = {
        let (low, high) = (vmovl_u8(vget_low_u8(v)), vmovl_high_u8(v));
        [vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high)]
            .map(#[inline(always)] |v| vreinterpretq_s32_u32(v))
    };
    // The sums of adjacent i16.
    add_pairs_i16(v: Bytes) -> Ints = vpaddlq_s16(vreinterpretq_s16_u8(v));
    // Each vector's sum.
    sums(v: [Ints; 4]) -> Ints = vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3]));
    // Four rows of four 4-byte units as columns.
    transpose(v: [Bytes; 4]) -> [Bytes; 4] = {
        let [a, b, c, d] = [
            vreinterpretq_u32_u8(v[0]),
            vreinterpretq_u32_u8(v[1]),
            vreinterpretq_u32_u8(v[2]),
            vreinterpretq_u32_u8(v[3]),
        ];
        let (ac, bd, ac2, bd2) = (vzip1q_u32(a, c), vzip1q_u32(b, d), vzip2q_u32(a, c), vzip2q_u32(b, d));
        [
            vreinterpretq_u8_u32(vzip1q_u32(ac, bd)),
            vreinterpretq_u8_u32(vzip2q_u32(ac, bd)),
            vreinterpretq_u8_u32(vzip1q_u32(ac2, bd2)),
            vreinterpretq_u8_u32(vzip2q_u32(ac2, bd2)),
        ]
    };
}

#[inline(always)]
pub(super) fn shl_16<const N: i32>(v: Bytes) -> Bytes {
    // SAFETY: NEON is part of the target.
    unsafe { vreinterpretq_u8_u16(vshlq_n_u16::<N>(vreinterpretq_u16_u8(v))) }
}

#[inline(always)]
pub(super) fn shr_16<const N: i32>(v: Bytes) -> Bytes {
    // SAFETY: NEON is part of the target.
    unsafe { vreinterpretq_u8_u16(vshrq_n_u16::<N>(vreinterpretq_u16_u8(v))) }
}

#[inline(always)]
pub(super) fn shl_i<const N: i32>(v: Ints) -> Ints {
    // SAFETY: NEON is part of the target.
    unsafe { vshlq_n_s32::<N>(v) }
}

/// Products in i16, two of which fit: a code is at most 127 in one operand, 128 in the other.
#[derive(Clone, Copy)]
pub(super) struct Multiply;

impl Dot for Multiply {
    type W = int8x16_t;
    type X = int8x16_t;
    type Sum = int16x8_t;
    const SHORT: bool = true;

    #[inline(always)]
    fn weights(codes: Bytes) -> int8x16_t {
        // SAFETY: NEON is part of the target.
        unsafe { vreinterpretq_s8_u8(codes) }
    }

    #[inline(always)]
    fn activations(codes: Bytes) -> int8x16_t {
        Self::weights(codes)
    }

    #[inline(always)]
    fn splat([a, b, c, d]: [u8; 4]) -> int8x16_t {
        let (ab, cd) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        // SAFETY: NEON is part of the target.
        unsafe { vreinterpretq_s8_u16(vcombine_u16(vdup_n_u16(ab), vdup_n_u16(cd))) }
    }

    /// Every row's first two codes, then every row's last two.
    #[inline(always)]
    fn lay_out(unit: Bytes) -> Bytes {
        // SAFETY: NEON is part of the target.
        unsafe {
            let unit = vreinterpretq_u16_u8(unit);
            vreinterpretq_u8_u16(vuzp1q_u16(unit, vextq_u16::<1>(unit, unit)))
        }
    }

    #[inline(always)]
    fn zero() -> int16x8_t {
        // SAFETY: NEON is part of the target.
        unsafe { vdupq_n_s16(0) }
    }

    #[inline(always)]
    fn dot(sum: int16x8_t, w: int8x16_t, x: int8x16_t) -> int16x8_t {
        // SAFETY: NEON is part of the target.
        unsafe { vmlal_high_s8(vmlal_s8(sum, vget_low_s8(w), vget_low_s8(x)), w, x) }
    }

    #[inline(always)]
    fn widen(sum: int16x8_t) -> Ints {
        // SAFETY: NEON is part of the target.
        unsafe { vpaddlq_s16(sum) }
    }
}

/// The dot product. Only to be used where [`has_dotprod`].
#[derive(Clone, Copy)]
pub(super) struct DotProduct;

impl Dot for DotProduct {
    type W = Bytes;
    type X = Bytes;
    type Sum = Ints;
    const SHORT: bool = false;

    #[inline(always)]
    fn weights(codes: Bytes) -> Bytes {
        codes
    }

    #[inline(always)]
    fn activations(codes: Bytes) -> Bytes {
        codes
    }

    #[inline(always)]
    fn splat(codes: [u8; 4]) -> Bytes {
        // SAFETY: NEON is part of the target.
        unsafe { vreinterpretq_u8_u32(vdupq_n_u32(u32::from_le_bytes(codes))) }
    }

    #[inline(always)]
    fn lay_out(unit: Bytes) -> Bytes {
        unit
    }

    #[inline(always)]
    fn zero() -> Ints {
        splat_i(0)
    }

    /// In assembly: the intrinsic is not stable yet.
    #[inline(always)]
    fn dot(mut sum: Ints, w: Bytes, x: Bytes) -> Ints {
        // SAFETY: the instruction is there: this type's contract.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sum:v}.4s, {w:v}.16b, {x:v}.16b",
                sum = inout(vreg) sum,
                w = in(vreg) w,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sum
    }

    #[inline(always)]
    fn widen(sum: Ints) -> Ints {
        sum
    }
}
