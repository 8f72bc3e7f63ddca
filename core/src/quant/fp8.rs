//! The official FP8: E4M3 codes, and one E8M0 scale for every tile of 128x128 weights.

use super::e8m0::for_each_run;

/// Columns of a tile.
const TILE: usize = 128;

/// The value of an E4M3 code: 1 sign bit, 4 of exponent (bias 7), 3 of mantissa. There is no infinity; all ones is NaN.
///
/// `exponent > 0: 2^(exponent - 7) * (1 + mantissa/8)`, `exponent = 0: 2^-6 * mantissa/8`. Both are computed and one is
/// chosen, so that loops vectorize.
#[inline(always)]
pub const fn e4m3(code: u8) -> f32 {
    let magnitude = (code & 0x7F) as u32;
    // The same fields in f32: the mantissa moves up by 23 - 3 bits, the exponent's bias grows by 127 - 7.
    let normal = (magnitude << 20) + (120 << 23);
    let subnormal = (magnitude as f32 / 512.0).to_bits();
    let bits = if magnitude < 8 { subnormal } else { normal };
    let bits = if magnitude == 0x7F { f32::NAN.to_bits() } else { bits };
    f32::from_bits(bits | ((code & 0x80) as u32) << 24)
}

/// Columns `start..start + out.len()` of a row: `value * scale`, scales one for every 128 columns.
#[inline(always)]
pub fn decode(row: &[u8], scales: &[u8], start: usize, out: &mut [f32]) {
    for_each_run(TILE, scales, start, out, |column, scale, out| {
        for (out, code) in out.iter_mut().zip(&row[column..]) {
            *out = e4m3(*code) * scale;
        }
    });
}
