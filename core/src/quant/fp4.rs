//! The official FP4: two E2M1 codes a byte, the even column in the low nibble, and one E8M0 scale for every 32 columns
//! of a row.

use super::e8m0::for_each_run;
use super::{Unpacked, e8m0};

/// Columns that share a scale.
const RUN: usize = 32;

/// E2M1's values, doubled: 1 sign bit, 2 of exponent (bias 1), 1 of mantissa.
pub const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// E2M1's values. Unlike an integer, code 8 is minus zero.
pub const VALUES: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Columns `start..start + len`, multiples of 32, in integer form: `weight = scale/2 * doubled`.
#[inline(always)]
pub fn unpack(row: &[u8], scales: &[u8], start: usize, len: usize, out: &mut Unpacked) {
    let packed = &row.as_chunks::<{ RUN / 2 }>().0[start / RUN..][..len / RUN];
    let runs = packed.iter().zip(&scales[start / RUN..]);
    for (((packed, byte), codes), scale) in
        runs.zip(out.codes.as_chunks_mut::<RUN>().0).zip(out.scales.as_chunks_mut::<2>().0)
    {
        *scale = [e8m0(*byte) / 2.0; 2];
        for (pair, packed) in codes.as_chunks_mut::<2>().0.iter_mut().zip(packed) {
            *pair = [DOUBLED[usize::from(packed & 15)], DOUBLED[usize::from(packed >> 4)]];
        }
    }
}

/// Columns `start..start + out.len()`, both even, of a row: `value * scale`.
#[inline(always)]
pub fn decode(row: &[u8], scales: &[u8], start: usize, out: &mut [f32]) {
    for_each_run(RUN, scales, start, out, |column, scale, out| {
        for (pair, packed) in out.as_chunks_mut::<2>().0.iter_mut().zip(&row[column / 2..]) {
            *pair = [VALUES[usize::from(packed & 15)] * scale, VALUES[usize::from(packed >> 4)] * scale];
        }
    });
}
