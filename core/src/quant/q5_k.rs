//! Q5_K: Q4_K with a fifth bit a weight. `weight = d * sc * q - dmin * m`.

use super::q4_k::Scales;
use super::{Unpacked, nibbles};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    scales: Scales,
    /// The weights' fifth bits: weight 32k + i's in bit k of byte i.
    qh: [u8; 32],
    /// In each 32 bytes, weights i and i + 32 of 64 in byte i.
    qs: [u8; 128],
}

/// Writes one block.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], out: &mut Unpacked) {
    let Block { scales, qh, qs } = bytemuck::from_bytes(block);
    scales.unpack(out);
    for (qs, codes) in qs.as_chunks::<32>().0.iter().zip(out.codes.as_chunks_mut::<64>().0) {
        nibbles(qs, codes);
    }
    for (k, codes) in out.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (code, qh) in codes.iter_mut().zip(qh) {
            *code |= ((qh >> k & 1) << 4) as i8;
        }
    }
}
