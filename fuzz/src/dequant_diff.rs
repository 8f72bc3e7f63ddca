//! Blocks of weights: the core's decoder against the format's formula, element by element in f64, and against itself.
//!
//! The input's first byte chooses the type; the rest are a row's bytes (for the official types after 8 bytes of scales).
//!
//! Oracle: where the formula is short it is written down here once more, and the two differ by f32's rounding at most
//! (the types of codebooks, IQ1 to IQ3, are held to their fixtures elsewhere); in any type, decoding a part of the row
//! gives what decoding all of it gives there, and so does the integer form.

use dsv4_core::dtype::{ALL, DType};
use dsv4_core::quant::{self, Unpacked};

/// Columns of a row at most; a multiple of every block.
const MAX_COLUMNS: usize = 1024;

/// E8M0 scales of a row of an official type.
const SCALES: usize = MAX_COLUMNS / 32;

/// Any bytes.
pub fn check(data: &[u8]) {
    let Some((kind, mut data)) = data.split_first() else { return };
    let dtype = ALL[usize::from(*kind) % ALL.len()];
    let mut scales = [0_u8; SCALES];
    if matches!(dtype, DType::F8_E4M3 | DType::FP4_E2M1) {
        let Some((given, rest)) = data.split_first_chunk::<8>() else { return };
        scales = std::array::from_fn(|i| given[i % 8]);
        data = rest;
    }
    let (elements, bytes) = dtype.block();
    // Whole parts of 256 where a part is unpacked; whole blocks else.
    let part = if matches!(dtype, DType::FP4_E2M1) { 32 } else { elements };
    let columns = (data.len() / bytes * elements).min(MAX_COLUMNS) / part * part;
    let row = &data[..columns / elements * bytes];
    let mut all = vec![0.0; columns];
    quant::decode(dtype, row, &scales, 0, &mut all);

    for (i, got) in all.iter().enumerate() {
        if let Some(want) = formula(dtype, row, &scales, i) {
            assert!(want.admits(*got), "{dtype:?}[{i}] is {got:e}, not {:e}", want.value);
        }
    }
    let mut piece = [0.0; 256];
    let mut start = 0;
    for len in [part, 256 / part * part, part].into_iter().cycle() {
        let len = len.min(columns - start);
        if len == 0 {
            break;
        }
        quant::decode(dtype, row, &scales, start, &mut piece[..len]);
        let same =
            piece[..len].iter().zip(&all[start..]).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
        assert!(same, "{dtype:?}: columns {start}.. decode otherwise alone");
        check_unpacked(dtype, row, &scales, start, &all[start..start + len]);
        start += len;
    }
}

/// `scale * code + offset` is what `decode` gives.
fn check_unpacked(dtype: DType, row: &[u8], scales: &[u8], start: usize, values: &[f32]) {
    let mut unpacked = Unpacked::default();
    let is_integer = quant::unpack(dtype, row, scales, start, values.len(), &mut unpacked);
    assert_eq!(is_integer, quant::is_integer(dtype));
    if !is_integer {
        return;
    }
    for (i, value) in values.iter().enumerate() {
        let (scale, offset) =
            (unpacked.units[0] * unpacked.scales[i / 16], unpacked.units[1] * unpacked.offsets[i / 16]);
        let expected = scale * f32::from(unpacked.codes[i]) + offset;
        assert!(expected == *value || expected.is_nan() && value.is_nan(), "{dtype:?}: {expected:e}, not {value:e}");
    }
    if quant::sub_block(dtype) == 32 {
        assert!(unpacked.scales[..values.len() / 16].as_chunks::<2>().0.iter().all(|[a, b]| same_bits(*a, *b)));
    }
}

fn same_bits(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// What a formula gives, and how far f32 may be off: a few roundings of each of its terms.
struct Want {
    value: f64,
    terms: f64,
}

impl Want {
    fn sum(product: f64, offset: f64) -> Option<Self> {
        Some(Self { value: product + offset, terms: product.abs() + offset.abs() })
    }

    fn admits(&self, got: f32) -> bool {
        if self.value.is_nan() {
            return got.is_nan();
        }
        let nearest = self.value as f32;
        if nearest.is_infinite() || !self.terms.is_finite() {
            return got == nearest;
        }
        let slack = self.terms * f64::from(f32::EPSILON) * 2.0 + f64::from(f32::from_bits(1));
        (f64::from(got) - self.value).abs() <= slack
    }
}

/// An f16 by its definition.
fn f16(bytes: &[u8]) -> f64 {
    let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
    let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    let magnitude = match exponent {
        0 => mantissa * 2f64.powi(-14),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + mantissa) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

fn e8m0(byte: u8) -> f64 {
    if byte == 255 { f64::NAN } else { 2f64.powi(i32::from(byte) - 127) }
}

fn e2m1(code: u8) -> f64 {
    let magnitude = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0][usize::from(code & 7)];
    if code & 8 == 0 { magnitude } else { -magnitude }
}

fn e4m3(code: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f64::from(code & 7) / 8.0);
    let magnitude = match (exponent, code & 7) {
        (15, 7) => f64::NAN,
        (0, _) => mantissa * 2f64.powi(-6),
        _ => (1.0 + mantissa) * 2f64.powi(exponent - 7),
    };
    if code < 128 { magnitude } else { -magnitude }
}

/// The values of IQ4_NL's and IQ4_XS's codes.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Weight `i` of a row, as the format defines it; `None` for types whose definition is a codebook.
fn formula(dtype: DType, row: &[u8], scales: &[u8], i: usize) -> Option<Want> {
    let (elements, bytes) = dtype.block();
    let b = &row[i / elements * bytes..][..bytes];
    let i_in_row = i;
    let i = i % elements;
    // Weights i and i + 16 of 32 share a byte.
    let nibble = |q: &[u8]| f64::from(if i < 16 { q[i] & 15 } else { q[i - 16] >> 4 });
    let fifth = |h: &[u8]| f64::from(h[i / 8] >> (i % 8) & 1) * 16.0;
    // Weights i and i + 32 of 64 share a byte.
    let nibble64 = |q: &[u8]| q[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
    let value = |v: f64| Want::sum(v, 0.0);
    match dtype {
        DType::F32 => value(f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()),
        DType::I32 => value(i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()),
        DType::F16 => value(f16(b)),
        DType::BF16 => value(f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16).into()),
        DType::Q4_0 => value(f16(b) * (nibble(&b[2..]) - 8.0)),
        DType::Q4_1 => Want::sum(f16(b) * nibble(&b[4..]), f16(&b[2..])),
        DType::Q5_0 => value(f16(b) * (nibble(&b[6..]) + fifth(&b[2..]) - 16.0)),
        DType::Q5_1 => Want::sum(f16(b) * (nibble(&b[8..]) + fifth(&b[4..])), f16(&b[2..])),
        DType::Q8_0 => value(f16(b) * f64::from(b[2 + i].cast_signed())),
        DType::IQ4_NL => value(f16(b) * f64::from(IQ4[nibble(&b[2..]) as usize])),
        DType::MXFP4 => value(e8m0(b[0]) * e2m1(nibble(&b[1..]) as u8)),
        DType::Q2_K => {
            let q = b[16 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
            let scale = b[i / 16];
            Want::sum(f16(&b[80..]) * f64::from(scale & 15) * f64::from(q), -(f16(&b[82..]) * f64::from(scale >> 4)))
        }
        DType::Q3_K => {
            let low = b[32 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
            let high = b[i % 32] >> (i / 32) & 1;
            let s = i / 16;
            let packed = &b[96..108];
            let low4 = packed[s % 8] >> (s / 8 * 4) & 15;
            let high2 = packed[8 + s % 4] >> (s / 4 * 2) & 3;
            let scale = f64::from(low4 | high2 << 4) - 32.0;
            value(f16(&b[108..]) * scale * (f64::from(low) - if high == 1 { 0.0 } else { 4.0 }))
        }
        DType::Q4_K | DType::Q5_K => {
            let (s, packed) = (i / 32, &b[4..16]);
            let (scale, min) = if s < 4 {
                (packed[s] & 63, packed[s + 4] & 63)
            } else {
                (packed[s + 4] & 15 | packed[s - 4] >> 6 << 4, packed[s + 4] >> 4 | packed[s] >> 6 << 4)
            };
            let q = match dtype {
                DType::Q4_K => nibble64(&b[16..]),
                _ => nibble64(&b[48..]) | (b[16 + i % 32] >> (i / 32) & 1) << 4,
            };
            Want::sum(f16(b) * f64::from(scale) * f64::from(q), -(f16(&b[2..]) * f64::from(min)))
        }
        DType::Q6_K => {
            let (half, j) = (i / 128, i % 128);
            let low = b[half * 64 + j % 64] >> (j / 64 * 4) & 15;
            let high = b[128 + half * 32 + j % 32] >> (j / 32 * 2) & 3;
            let scale = f64::from(b[192 + i / 16].cast_signed());
            value(f16(&b[208..]) * scale * (f64::from(low | high << 4) - 32.0))
        }
        DType::IQ4_XS => {
            let s = i / 32;
            let high = u16::from_le_bytes([b[2], b[3]]) >> (2 * s) & 3;
            let low = b[4 + s / 2] >> (s % 2 * 4) & 15;
            let scale = f64::from(u16::from(low) | high << 4) - 32.0;
            let q = b[8 + s * 16 + i % 16] >> (i / 16 % 2 * 4) & 15;
            value(f16(b) * scale * f64::from(IQ4[usize::from(q)]))
        }
        DType::F8_E4M3 => value(e4m3(b[0]) * e8m0(scales[i_in_row / 128])),
        DType::FP4_E2M1 => value(e2m1(b[0] >> (i * 4)) * e8m0(scales[i_in_row / 32])),
        _ => None,
    }
}
