//! Q2_K: 256 weights of 2 bits; every 16 have a scale and a minimum of 4 bits. `weight = d * sc * q - dmin * m`.

use super::{Unpacked, f16};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// One byte for every 16 weights: sc in the low nibble, m in the high.
    scales: [u8; 16],
    /// In each 32 bytes, weights i, i + 32, i + 64 and i + 96 of a half in byte i.
    qs: [u8; 64],
    /// f16.
    d: [u8; 2],
    /// f16.
    dmin: [u8; 2],
}

/// Writes one block.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], out: &mut Unpacked) {
    let Block { scales, qs, d, dmin } = bytemuck::from_bytes(block);
    out.units = [f16(*d), -f16(*dmin)];
    for ((packed, scale), offset) in scales.iter().zip(&mut out.scales).zip(&mut out.offsets) {
        *scale = f32::from(packed & 15);
        *offset = f32::from(packed >> 4);
    }
    two_bits(qs, &mut out.codes);
}

/// `codes[128h + 32k + i] = bits 2k, 2k + 1 of qs[32h + i]`.
#[inline(always)]
pub(super) fn two_bits(qs: &[u8; 64], codes: &mut [i8; 256]) {
    for (qs, codes) in qs.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<128>().0) {
        for (k, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (code, q) in codes.iter_mut().zip(qs) {
                *code = (q >> (2 * k) & 3) as i8;
            }
        }
    }
}
