//! A chunk of one row in vectors: unpacked there where it is whole blocks, else by [`quant`], through memory.

use super::v::{self, Bytes, Floats, Ints};
use crate::arch::integer::{CHUNK, Row, raise};
use crate::quant::{self, fp4, iq2_s, iq2_xs, iq2_xxs, iq4_nl, signs};

/// 256 weights.
pub(super) struct Weights {
    /// Raised by [`raise`].
    pub(super) codes: [Bytes; 16],
    /// One a block: eight of 32, or sixteen of 16; f32, or with units integers.
    pub(super) scales: [Ints; 4],
    /// One a block.
    pub(super) offsets: [Ints; 4],
    /// The scales' unit, and the offsets'.
    pub(super) units: [f32; 2],
}

impl Weights {
    /// Without units.
    #[inline(always)]
    fn new(codes: [Bytes; 16], scales: [Floats; 2]) -> Self {
        Self::of_32(codes, bits(scales), 1.0)
    }

    #[inline(always)]
    fn of_32(codes: [Bytes; 16], [a, b]: [Ints; 2], unit: f32) -> Self {
        let zero = v::splat_i(0);
        Self::of_16(codes, [a, b, zero, zero], unit)
    }

    #[inline(always)]
    fn of_16(codes: [Bytes; 16], scales: [Ints; 4], unit: f32) -> Self {
        Self { codes, scales, offsets: [v::splat_i(0); 4], units: [unit, 1.0] }
    }

    #[inline(always)]
    fn with_offsets(mut self, [a, b]: [Ints; 2], unit: f32) -> Self {
        (self.offsets[0], self.offsets[1], self.units[1]) = (a, b, unit);
        self
    }
}

#[inline(always)]
fn bits([a, b]: [Floats; 2]) -> [Ints; 2] {
    [v::float_bits(a), v::float_bits(b)]
}

/// Loaders of columns `start..start + len` of a row, from functions of a chunk's blocks.
macro_rules! loaders {
    ($($name:ident($block:ident: [$bytes:literal; $blocks:literal]) $body:block)+) => {
        $(
            #[inline(always)]
            pub(super) fn $name(row: Row<'_>, start: usize, len: usize) -> Option<Weights> {
                let $block = whole::<$bytes, $blocks>(row, start, len)?;
                Some($body)
            }
        )+
    };
}

/// A whole chunk's BLOCKS blocks of BYTES.
#[inline(always)]
fn whole<const BYTES: usize, const BLOCKS: usize>(
    row: Row<'_>,
    start: usize,
    len: usize,
) -> Option<&[[u8; BYTES]; BLOCKS]> {
    let bytes = row.data.get(start / CHUNK * (BYTES * BLOCKS)..).filter(|_| len == CHUNK)?;
    bytes.get(..BYTES * BLOCKS)?.as_chunks().0.first_chunk()
}

/// Types that are always unpacked by [`generic`].
#[inline(always)]
pub(super) const fn none(_: Row<'_>, _: usize, _: usize) -> Option<Weights> {
    None
}

/// Any type, any length.
#[inline(never)]
pub(super) fn generic(row: Row<'_>, start: usize, len: usize) -> Weights {
    let w = row.unpack(start, len);
    let mut codes = [v::splat_8(raise(row.dtype)); 16];
    for (code, stored) in codes.iter_mut().zip(bytemuck::cast_ref::<_, [[u8; 16]; 16]>(&w.codes)) {
        *code = v::add_8(*code, v::load(stored));
    }
    let mut weights = Weights::of_16(codes, [v::splat_i(0); 4], w.units[0]);
    weights.units = w.units;
    for (to, from) in [(&mut weights.scales, &w.scales), (&mut weights.offsets, &w.offsets)] {
        let mut values = [v::splat_f(0.0); 4];
        for (value, from) in values.iter_mut().zip(bytemuck::cast_ref::<_, [[u8; 16]; 4]>(from)) {
            *value = v::from_bytes(v::load(from));
        }
        if quant::sub_block(row.dtype) == 32 {
            // Each scale is there twice.
            (values[0], values[1]) = (v::even_f(values[0], values[1]), v::even_f(values[2], values[3]));
        }
        for (to, value) in to.iter_mut().zip(values) {
            *to = if quant::has_units(row.dtype) { v::to_i(value) } else { v::float_bits(value) };
        }
    }
    weights
}

/// N bytes at `at`; zeros past the end, which no caller reaches.
#[inline(always)]
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

#[inline(always)]
fn load(bytes: &[u8], at: usize) -> Bytes {
    v::load(&bytes_at(bytes, at))
}

#[inline(always)]
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, at))
}

#[inline(always)]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

#[inline(always)]
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    quant::f16(bytes_at(bytes, at))
}

/// Four f16 in f32, as [`quant::f16`].
#[inline(always)]
fn f16(bits: Ints) -> Floats {
    let magnitude = v::and_i(bits, v::splat_i(0x7fff));
    let moved = v::shl_i::<13>(magnitude);
    let normal = v::add_i(moved, v::splat_i(112 << 23));
    let subnormal = v::float_bits(v::mul_f(v::to_f(magnitude), v::splat_f(1.0 / 16_777_216.0)));
    let value = v::select_i(v::gt_i(v::splat_i(0x0400), magnitude), subnormal, normal);
    let infinite_or_nan = v::or_i(moved, v::splat_i(0xff << 23));
    let value = v::select_i(v::gt_i(magnitude, v::splat_i(0x7bff)), infinite_or_nan, value);
    v::from_bits(v::or_i(value, v::shl_i::<16>(v::and_i(bits, v::splat_i(0x8000)))))
}

/// A value of each of eight blocks.
#[inline(always)]
fn each<const BYTES: usize>(blocks: &[[u8; BYTES]; 8], value: impl Fn(&[u8; BYTES]) -> i32) -> [Ints; 2] {
    let four =
        |b: usize| v::ints([value(&blocks[b]), value(&blocks[b + 1]), value(&blocks[b + 2]), value(&blocks[b + 3])]);
    [four(0), four(4)]
}

/// An f16 at `at` in each block.
#[inline(always)]
fn f16s<const BYTES: usize>(blocks: &[[u8; BYTES]; 8], at: usize) -> [Floats; 2] {
    let [a, b] = each(
        blocks,
        #[inline(always)]
        |block| i32::from(u16_at(block, at)),
    );
    [f16(a), f16(b)]
}

#[inline(always)]
fn low(packed: Bytes) -> Bytes {
    v::and(packed, v::splat_8(15))
}

#[inline(always)]
fn high(packed: Bytes) -> Bytes {
    low(v::shr_16::<4>(packed))
}

/// Sixteen bytes at `at` in each block: of each block the low nibbles, then the high ones.
#[inline(always)]
fn nibbles_of_16<const BYTES: usize>(blocks: &[[u8; BYTES]; 8], at: usize) -> [Bytes; 16] {
    let mut codes = [v::splat_8(0); 16];
    for b in 0..8 {
        let packed = load(&blocks[b], at);
        codes[2 * b] = low(packed);
        codes[2 * b + 1] = high(packed);
    }
    codes
}

/// 128 bytes: of each 32 the low nibbles, then the high ones.
#[inline(always)]
fn nibbles_of_32(packed: &[u8]) -> [Bytes; 16] {
    let mut codes = [v::splat_8(0); 16];
    for i in 0..4 {
        let (a, b) = (load(packed, 32 * i), load(packed, 32 * i + 16));
        codes[4 * i] = low(a);
        codes[4 * i + 1] = low(b);
        codes[4 * i + 2] = high(a);
        codes[4 * i + 3] = high(b);
    }
    codes
}

/// Bits 2k, 2k + 1 of byte 32 h + i, of weight 128 h + 32 k + i.
#[inline(always)]
fn two_bits(packed: &[u8]) -> [Bytes; 16] {
    let mut codes = [v::splat_8(0); 16];
    for h in 0..2 {
        for i in 0..2 {
            let byte = load(packed, 32 * h + 16 * i);
            let mask = v::splat_8(3);
            codes[8 * h + i] = v::and(byte, mask);
            codes[8 * h + 2 + i] = v::and(v::shr_16::<2>(byte), mask);
            codes[8 * h + 4 + i] = v::and(v::shr_16::<4>(byte), mask);
            codes[8 * h + 6 + i] = v::and(v::shr_16::<6>(byte), mask);
        }
    }
    codes
}

/// `value` where a bit of `bits` (one bit, the same in each byte) is set in `v`.
#[inline(always)]
fn where_set(v: Bytes, bits: Bytes, value: i8) -> Bytes {
    v::and(v::eq_8(v::and(v, bits), bits), v::splat_8(value))
}

/// Adds `value` where bit k of byte i of 32 is set, to weight 32 k + i.
#[inline(always)]
fn add_planes(codes: &mut [Bytes; 16], planes: [Bytes; 2], value: i8) {
    for k in 0..8 {
        let bit = v::splat_8((1u8 << k).cast_signed());
        for i in 0..2 {
            codes[2 * k + i] = v::add_8(codes[2 * k + i], where_set(planes[i], bit, value));
        }
    }
}

/// Adds 16 where a bit of the 32 at `at` in each block is set, one a weight.
#[inline(always)]
fn add_sixteens<const BYTES: usize>(codes: &mut [Bytes; 16], blocks: &[[u8; BYTES]; 8], at: usize) {
    let bits = v::words([0x8040_2010_0804_0201; 2]);
    for b in 0..8 {
        for half in 0..2 {
            let word = u16_at(&blocks[b], at + 2 * half);
            let spread =
                v::words([u64::from(word & 255) * 0x0101_0101_0101_0101, u64::from(word >> 8) * 0x0101_0101_0101_0101]);
            let code = &mut codes[2 * b + half];
            *code = v::add_8(*code, where_set(spread, bits, 16));
        }
    }
}

/// The table's values at each of `numbers` (below 16), plus `raise`.
#[inline(always)]
fn of_table(table: &[i8; 16], raise: i8, numbers: [Bytes; 16]) -> [Bytes; 16] {
    let table = v::add_8(v::load(bytemuck::cast_ref(table)), v::splat_8(raise));
    numbers.map(
        #[inline(always)]
        |numbers| v::lookup(table, numbers),
    )
}

/// Eight bytes as scales.
#[inline(always)]
fn eight(values: u64) -> [Ints; 2] {
    let [a, b, _, _] = v::widen_u8(v::words([values, 0]));
    [a, b]
}

/// Sixteen signed bytes as i32.
#[inline(always)]
fn widen_i8(values: Bytes) -> [Ints; 4] {
    // As unsigned, raised by 128.
    v::widen_u8(v::xor(values, v::splat_8(-128))).map(
        #[inline(always)]
        |values| v::sub_i(values, v::splat_i(128)),
    )
}

/// Codes with Q4_K's and Q5_K's scales and offsets.
#[inline(always)]
fn with_scales(codes: [Bytes; 16], block: &[u8]) -> Weights {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    let (a, b, c) = (u32_at(block, 4), u32_at(block, 8), u32_at(block, 12));
    let (low, high) = (0x0f0f_0f0f, 0x3030_3030);
    let sc = u64::from(a & 0x3f3f_3f3f) | u64::from(c & low | a >> 2 & high) << 32;
    let m = u64::from(b & 0x3f3f_3f3f) | u64::from(c >> 4 & low | b >> 2 & high) << 32;
    Weights::of_32(codes, eight(sc), d).with_offsets(eight(m), -dmin)
}

/// 2^(e - 127) / 2: e = 0 is a subnormal, e = 255 is NaN.
#[inline(always)]
fn half_e8m0(e: Ints) -> Floats {
    let bits = v::max_i(v::shl_i::<23>(e), v::splat_i(1 << 22));
    let bits = v::select_i(v::gt_i(e, v::splat_i(254)), v::splat_i(0x7fc0_0000), bits);
    v::mul_f(v::from_bits(bits), v::splat_f(0.5))
}

/// Two entries of eight values with the signs of their masks, raised by 43.
#[inline(always)]
fn signed(entries: [[i8; 8]; 2], masks: [[u8; 8]; 2]) -> Bytes {
    let values = v::words(entries.map(
        #[inline(always)]
        |entry| u64::from_le_bytes(bytemuck::cast(entry)),
    ));
    let masks = v::words(masks.map(
        #[inline(always)]
        |mask| u64::from_le_bytes(mask),
    ));
    v::sub_8(v::add_8(v::xor(values, masks), v::splat_8(43)), masks)
}

/// `2 sc + 1` of the nibbles of eight bytes.
#[inline(always)]
fn scales_of_16(packed: u64) -> [Ints; 4] {
    let packed = v::words([packed, 0]);
    v::widen_u8(v::interleave_8(low(packed), high(packed))).map(
        #[inline(always)]
        |sc| v::add_i(v::add_i(sc, sc), v::splat_i(1)),
    )
}

loaders! {
    q4_0(blocks: [18; 8]) {
        Weights::new(nibbles_of_16(blocks, 2), f16s(blocks, 0))
    }

    q4_1(blocks: [20; 8]) {
        Weights::new(nibbles_of_16(blocks, 4), f16s(blocks, 0)).with_offsets(bits(f16s(blocks, 2)), 1.0)
    }

    q5_0(blocks: [22; 8]) {
        let mut codes = nibbles_of_16(blocks, 6);
        add_sixteens(&mut codes, blocks, 2);
        Weights::new(codes, f16s(blocks, 0))
    }

    q5_1(blocks: [24; 8]) {
        let mut codes = nibbles_of_16(blocks, 8);
        add_sixteens(&mut codes, blocks, 4);
        Weights::new(codes, f16s(blocks, 0)).with_offsets(bits(f16s(blocks, 2)), 1.0)
    }

    q8_0(blocks: [34; 8]) {
        let mut codes = [v::splat_8(0); 16];
        for b in 0..8 {
            codes[2 * b] = load(&blocks[b], 2);
            codes[2 * b + 1] = load(&blocks[b], 18);
        }
        Weights::new(codes, f16s(blocks, 0))
    }

    iq4_nl(blocks: [18; 8]) {
        Weights::new(of_table(&iq4_nl::VALUES, 0, nibbles_of_16(blocks, 2)), f16s(blocks, 0))
    }

    mxfp4(blocks: [17; 8]) {
        let [a, b] = each(blocks, #[inline(always)] |block| i32::from(block[0]));
        Weights::new(of_table(&fp4::DOUBLED, 12, nibbles_of_16(blocks, 1)), [half_e8m0(a), half_e8m0(b)])
    }

    q2_k(block: [84; 1]) {
        let block = &block[0];
        let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
        let packed = load(block, 0);
        let (scales, offsets) = (v::widen_u8(low(packed)), v::widen_u8(high(packed)));
        Weights { codes: two_bits(&block[16..]), scales, offsets, units: [d, -dmin] }
    }

    q3_k(block: [110; 1]) {
        let block = &block[0];
        // Lower 4 bits: the nibbles of eight bytes, the low ones first; upper 2: the pairs of four bytes likewise.
        let four = u64::from_le_bytes(bytes_at(block, 96));
        let nibbles = v::words([four & 0x0f0f_0f0f_0f0f_0f0f, four >> 4 & 0x0f0f_0f0f_0f0f_0f0f]);
        let two = u64::from(u32_at(block, 104));
        let pairs = |two: u64| (two & 0x0303_0303 | (two >> 2 & 0x0303_0303) << 32) << 4;
        let scales = v::sub_8(v::or(nibbles, v::words([pairs(two), pairs(two >> 4)])), v::splat_8(32));
        let mut codes = two_bits(&block[32..]);
        add_planes(&mut codes, [load(block, 0), load(block, 16)], 4);
        Weights::of_16(codes, widen_i8(scales), f16_at(block, 108))
    }

    q4_k(block: [144; 1]) {
        with_scales(nibbles_of_32(&block[0][16..]), &block[0])
    }

    q5_k(block: [176; 1]) {
        let block = &block[0];
        let mut codes = nibbles_of_32(&block[48..]);
        add_planes(&mut codes, [load(block, 16), load(block, 32)], 16);
        with_scales(codes, block)
    }

    q6_k(block: [210; 1]) {
        let block = &block[0];
        let mut codes = two_bits(&block[128..]);
        for h in 0..2 {
            // Of each half's 64 bytes the low nibbles, then the high ones.
            for i in 0..4 {
                let packed = load(block, 64 * h + 16 * i);
                let (a, b) = (8 * h + i, 8 * h + 4 + i);
                codes[a] = v::or(low(packed), v::shl_16::<4>(codes[a]));
                codes[b] = v::or(high(packed), v::shl_16::<4>(codes[b]));
            }
        }
        Weights::of_16(codes, widen_i8(load(block, 192)), f16_at(block, 208))
    }

    iq2_xxs(block: [66; 1]) {
        let block = &block[0];
        let mut codes = [v::splat_8(0); 16];
        let mut sc = [0; 8];
        for b in 0..8 {
            let entries: [u8; 4] = bytes_at(block, 2 + 8 * b);
            let words = u32_at(block, 6 + 8 * b);
            sc[b] = (2 * (words >> 28) + 1).cast_signed();
            for l in 0..2 {
                let entry = |i: usize| iq2_xxs::GRID[usize::from(entries[i])];
                let mask = |i: usize| signs::EVEN[(words >> (7 * i) & 127) as usize];
                codes[2 * b + l] = signed([entry(2 * l), entry(2 * l + 1)], [mask(2 * l), mask(2 * l + 1)]);
            }
        }
        let [e, f, g, h, i, j, k, l] = sc;
        Weights::of_32(codes, [v::ints([e, f, g, h]), v::ints([i, j, k, l])], f16_at(block, 0) * 0.125)
    }

    iq2_xs(block: [74; 1]) {
        let block = &block[0];
        let mut codes = [v::splat_8(0); 16];
        for (i, codes) in codes.iter_mut().enumerate() {
            let words = u32_at(block, 2 + 4 * i);
            let (a, b) = (words & 0xffff, words >> 16);
            let entry = |word: u32| iq2_xs::GRID[(word & 511) as usize];
            let mask = |word: u32| signs::EVEN[(word >> 9 & 127) as usize];
            *codes = signed([entry(a), entry(b)], [mask(a), mask(b)]);
        }
        Weights::of_16(codes, scales_of_16(u64::from_le_bytes(bytes_at(block, 66))), f16_at(block, 0) * 0.125)
    }

    iq2_s(block: [82; 1]) {
        let block = &block[0];
        let mut codes = [v::splat_8(0); 16];
        for (i, codes) in codes.iter_mut().enumerate() {
            let high = usize::from(block[66 + i / 2]) >> (4 * (i % 2));
            let [a, b]: [u8; 2] = bytes_at(block, 2 + 2 * i);
            let [c, d]: [u8; 2] = bytes_at(block, 34 + 2 * i);
            let entry = |low: u8, high: usize| iq2_s::GRID[usize::from(low) | (high & 3) << 8];
            *codes = signed([entry(a, high), entry(b, high >> 2)], [signs::ALL[usize::from(c)], signs::ALL[usize::from(d)]]);
        }
        Weights::of_16(codes, scales_of_16(u64::from_le_bytes(bytes_at(block, 74))), f16_at(block, 0) * 0.125)
    }

    iq4_xs(block: [136; 1]) {
        let block = &block[0];
        let upper = u32::from(u16_at(block, 2));
        let lower = u32_at(block, 4);
        let sc = |j: u32| ((lower >> (4 * j) & 15 | (upper >> (2 * j) & 3) << 4).cast_signed()) - 32;
        let four = |j: u32| v::ints([sc(j), sc(j + 1), sc(j + 2), sc(j + 3)]);
        let mut codes = [v::splat_8(0); 16];
        for b in 0..8 {
            let packed = load(block, 8 + 16 * b);
            codes[2 * b] = low(packed);
            codes[2 * b + 1] = high(packed);
        }
        Weights::of_32(of_table(&iq4_nl::VALUES, 0, codes), [four(0), four(4)], f16_at(block, 0))
    }
}
