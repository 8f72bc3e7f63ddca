//! Q6_K: 256 weights of 6 bits around 32; every 16 have a scale of 8 bits. `weight = d * sc * (q - 32)`.

use super::{Unpacked, f16, nibbles};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// The lower 4 bits: in each 64 bytes, weights i and i + 64 of a half in byte i.
    ql: [u8; 128],
    /// The upper 2: in each 32 bytes, weights i, i + 32, i + 64 and i + 96 of a half in byte i.
    qh: [u8; 64],
    scales: [i8; 16],
    /// f16.
    d: [u8; 2],
}

/// Writes one block.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], out: &mut Unpacked) {
    let Block { ql, qh, scales, d } = bytemuck::from_bytes(block);
    out.units[0] = f16(*d);
    for (scale, sc) in out.scales.iter_mut().zip(scales) {
        *scale = f32::from(*sc);
    }
    let halves = ql.as_chunks::<64>().0.iter().zip(qh.as_chunks::<32>().0);
    for ((ql, qh), codes) in halves.zip(out.codes.as_chunks_mut::<128>().0) {
        nibbles(ql, codes);
        for (k, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (code, qh) in codes.iter_mut().zip(qh) {
                *code = (*code | ((qh >> (2 * k) & 3) << 4) as i8) - 32;
            }
        }
    }
}
