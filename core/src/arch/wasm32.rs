//! WebAssembly's vectors: what `lanes` is written over. SIMD128, and relaxed SIMD's dot product.

use super::disjoint::Columns;
use super::integer::Work;
use super::lanes::{self, Dot};
use core::arch::wasm32::*;

/// The level of SIMD128.
pub(super) fn simd128(work: &Work<'_>, columns: &mut Columns<'_>) {
    lanes::block::<Simd128, Simd128>(work, columns);
}

/// The level of relaxed SIMD.
#[cfg(target_feature = "relaxed-simd")]
pub(super) fn relaxed_simd(work: &Work<'_>, columns: &mut Columns<'_>) {
    lanes::block::<Relaxed<false>, Simd128>(work, columns);
}

/// The level of relaxed SIMD whose sums are of 16 bits.
#[cfg(target_feature = "relaxed-simd")]
pub(super) fn relaxed_simd_16(work: &Work<'_>, columns: &mut Columns<'_>) {
    lanes::block::<Relaxed<true>, Simd128>(work, columns);
}

/// Whether the engine makes relaxed SIMD's 32-bit dot product of the 16-bit one (`pmaddubsw`, of x86-64 processors without
/// AVX-VNNI), in five instructions. It shows in what the standard leaves open: there 255 counts as such, and the sum of
/// two products is cut to 16 bits. Elsewhere one instruction does it.
#[cfg(target_feature = "relaxed-simd")]
pub(super) fn pairs_are_cut() -> bool {
    let sums = i32x4_relaxed_dot_i8x16_i7x16_add(i8x16_splat(127), core::hint::black_box(i8x16_splat(-1)), splat_i(0));
    i32x4_extract_lane::<0>(sums) == 2 * i32::from(i16::MAX)
}

#[cfg(not(target_feature = "relaxed-simd"))]
pub(super) fn pairs_are_cut() -> bool {
    false
}

/// Sixteen bytes.
pub(super) type Bytes = v128;
/// Four i32.
pub(super) type Ints = v128;
/// Four f32.
pub(super) type Floats = v128;

/// Activations of one step of a tile: eight sums, of sixteen registers.
pub(super) const TOGETHER: usize = 2;

#[inline(always)]
pub(super) fn load(bytes: &[u8; 16]) -> Bytes {
    // SAFETY: 16 bytes are read, at any alignment.
    unsafe { v128_load(bytes.as_ptr().cast()) }
}

#[inline(always)]
pub(super) fn store(v: Bytes, bytes: &mut [u8; 16]) {
    // SAFETY: 16 bytes are written, at any alignment.
    unsafe { v128_store(bytes.as_mut_ptr().cast(), v) }
}

macro_rules! operations {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty = $value:expr;)+) => {
        $(#[inline(always)]
        pub(super) fn $name($($arg: $type),*) -> $result {
            $value
        })+
    };
}

operations! {
    splat_8(value: i8) -> Bytes = i8x16_splat(value);
    words(words: [u64; 2]) -> Bytes = u64x2(words[0], words[1]);
    and(a: Bytes, b: Bytes) -> Bytes = v128_and(a, b);
    or(a: Bytes, b: Bytes) -> Bytes = v128_or(a, b);
    xor(a: Bytes, b: Bytes) -> Bytes = v128_xor(a, b);
    add_8(a: Bytes, b: Bytes) -> Bytes = i8x16_add(a, b);
    sub_8(a: Bytes, b: Bytes) -> Bytes = i8x16_sub(a, b);
    eq_8(a: Bytes, b: Bytes) -> Bytes = i8x16_eq(a, b);
    interleave_8(a: Bytes, b: Bytes) -> Bytes =
        i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b);

    splat_i(value: i32) -> Ints = i32x4_splat(value);
    ints(values: [i32; 4]) -> Ints = i32x4(values[0], values[1], values[2], values[3]);
    add_i(a: Ints, b: Ints) -> Ints = i32x4_add(a, b);
    sub_i(a: Ints, b: Ints) -> Ints = i32x4_sub(a, b);
    mul_i(a: Ints, b: Ints) -> Ints = i32x4_mul(a, b);
    max_i(a: Ints, b: Ints) -> Ints = i32x4_max(a, b);
    and_i(a: Ints, b: Ints) -> Ints = v128_and(a, b);
    or_i(a: Ints, b: Ints) -> Ints = v128_or(a, b);
    gt_i(a: Ints, b: Ints) -> Ints = i32x4_gt(a, b);
    select_i(mask: Ints, yes: Ints, no: Ints) -> Ints = v128_bitselect(yes, no, mask);

    splat_f(value: f32) -> Floats = f32x4_splat(value);
    add_f(a: Floats, b: Floats) -> Floats = f32x4_add(a, b);
    mul_f(a: Floats, b: Floats) -> Floats = f32x4_mul(a, b);
    even_f(a: Floats, b: Floats) -> Floats = i32x4_shuffle::<0, 2, 4, 6>(a, b);
    odd_f(a: Floats, b: Floats) -> Floats = i32x4_shuffle::<1, 3, 5, 7>(a, b);
    first_f(a: Floats) -> f32 = f32x4_extract_lane::<0>(a);
    to_f(a: Ints) -> Floats = f32x4_convert_i32x4(a);
    to_i(a: Floats) -> Ints = i32x4_trunc_sat_f32x4(a);
    bytes_i(a: Bytes) -> Ints = a;
    float_bits(a: Floats) -> Ints = a;
    from_bits(a: Ints) -> Floats = a;
    float_bytes(a: Floats) -> Bytes = a;
    from_bytes(a: Bytes) -> Floats = a;
}

#[inline(always)]
pub(super) fn shl_16<const N: u32>(v: Bytes) -> Bytes {
    i16x8_shl(v, N)
}

#[inline(always)]
pub(super) fn shr_16<const N: u32>(v: Bytes) -> Bytes {
    u16x8_shr(v, N)
}

#[inline(always)]
pub(super) fn shl_i<const N: u32>(v: Ints) -> Ints {
    i32x4_shl(v, N)
}

/// `table[index]`, indices below 16.
#[inline(always)]
pub(super) fn lookup(table: Bytes, index: Bytes) -> Bytes {
    #[cfg(target_feature = "relaxed-simd")]
    return i8x16_relaxed_swizzle(table, index);
    #[cfg(not(target_feature = "relaxed-simd"))]
    i8x16_swizzle(table, index)
}

/// Sixteen unsigned bytes as i32.
#[inline(always)]
pub(super) fn widen_u8(v: Bytes) -> [Ints; 4] {
    let (low, high) = (u16x8_extend_low_u8x16(v), u16x8_extend_high_u8x16(v));
    [
        u32x4_extend_low_u16x8(low),
        u32x4_extend_high_u16x8(low),
        u32x4_extend_low_u16x8(high),
        u32x4_extend_high_u16x8(high),
    ]
}

/// Eight i16 as i32.
#[inline(always)]
pub(super) fn widen_i16(v: Bytes) -> [Ints; 2] {
    [i32x4_extend_low_i16x8(v), i32x4_extend_high_i16x8(v)]
}

/// The sums of adjacent i16.
#[inline(always)]
pub(super) fn add_pairs_i16(v: Bytes) -> Ints {
    i32x4_extadd_pairwise_i16x8(v)
}

/// Each vector's sum.
#[inline(always)]
pub(super) fn sums(v: [Ints; 4]) -> Ints {
    let pairs = |a, b| i32x4_add(i32x4_shuffle::<0, 2, 4, 6>(a, b), i32x4_shuffle::<1, 3, 5, 7>(a, b));
    pairs(pairs(v[0], v[1]), pairs(v[2], v[3]))
}

/// Four rows of four 4-byte units as columns.
#[inline(always)]
pub(super) fn transpose(v: [Bytes; 4]) -> [Bytes; 4] {
    let low = |a, b| i32x4_shuffle::<0, 4, 1, 5>(a, b);
    let high = |a, b| i32x4_shuffle::<2, 6, 3, 7>(a, b);
    let (ac, bd) = (low(v[0], v[2]), low(v[1], v[3]));
    let (ac2, bd2) = (high(v[0], v[2]), high(v[1], v[3]));
    [low(ac, bd), high(ac, bd), low(ac2, bd2), high(ac2, bd2)]
}

/// Products in i16, of any codes.
#[derive(Clone, Copy)]
pub(super) struct Simd128;

impl Dot for Simd128 {
    type W = [v128; 2];
    type X = [v128; 2];
    type Sum = Ints;
    const SHORT: bool = false;

    #[inline(always)]
    fn weights(codes: Bytes) -> [v128; 2] {
        [i16x8_extend_low_i8x16(codes), i16x8_extend_high_i8x16(codes)]
    }

    #[inline(always)]
    fn activations(codes: Bytes) -> [v128; 2] {
        Self::weights(codes)
    }

    #[inline(always)]
    fn splat(codes: [u8; 4]) -> [v128; 2] {
        let x = i16x8_extend_low_i8x16(u32x4_splat(u32::from_le_bytes(codes)));
        [i32x4_shuffle::<0, 0, 0, 0>(x, x), i32x4_shuffle::<1, 1, 1, 1>(x, x)]
    }

    /// Every row's first two codes, then every row's last two.
    #[inline(always)]
    fn lay_out(unit: Bytes) -> Bytes {
        i16x8_shuffle::<0, 2, 4, 6, 1, 3, 5, 7>(unit, unit)
    }

    #[inline(always)]
    fn zero() -> Ints {
        splat_i(0)
    }

    #[inline(always)]
    fn dot(sum: Ints, w: [v128; 2], x: [v128; 2]) -> Ints {
        i32x4_add(sum, i32x4_add(i32x4_dot_i16x8(w[0], x[0]), i32x4_dot_i16x8(w[1], x[1])))
    }

    #[inline(always)]
    fn widen(sum: Ints) -> Ints {
        sum
    }
}

/// Relaxed SIMD's products of bytes, whose weights are of seven bits: engines differ only where the second operand's top
/// bit is set, or where two products do not fit 16 bits.
///
/// The sums are of 32 bits, or SHORT: of 16.
#[cfg(target_feature = "relaxed-simd")]
#[derive(Clone, Copy)]
pub(super) struct Relaxed<const SHORT: bool>;

#[cfg(target_feature = "relaxed-simd")]
impl<const SHORT: bool> Dot for Relaxed<SHORT> {
    type W = v128;
    type X = v128;
    type Sum = v128;
    const SHORT: bool = SHORT;

    #[inline(always)]
    fn weights(codes: Bytes) -> v128 {
        codes
    }

    #[inline(always)]
    fn activations(codes: Bytes) -> v128 {
        codes
    }

    #[inline(always)]
    fn splat(codes: [u8; 4]) -> v128 {
        u32x4_splat(u32::from_le_bytes(codes))
    }

    #[inline(always)]
    fn lay_out(unit: Bytes) -> Bytes {
        unit
    }

    #[inline(always)]
    fn zero() -> v128 {
        splat_i(0)
    }

    #[inline(always)]
    fn dot(sum: v128, w: v128, x: v128) -> v128 {
        if SHORT {
            i16x8_add(sum, i16x8_relaxed_dot_i8x16_i7x16(x, w))
        } else {
            i32x4_relaxed_dot_i8x16_i7x16_add(x, w, sum)
        }
    }

    #[inline(always)]
    fn widen(sum: v128) -> Ints {
        if SHORT { i32x4_extadd_pairwise_i16x8(sum) } else { sum }
    }
}
