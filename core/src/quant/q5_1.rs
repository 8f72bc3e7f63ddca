//! Q5_1: 32 weights of 5 bits, a scale and a minimum. `weight = d * q + m`.

use super::{add_bits, f16, nibbles};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// f16.
    d: [u8; 2],
    /// f16.
    m: [u8; 2],
    /// The weights' fifth bits, weight i's in bit i.
    qh: [u8; 4],
    /// Weights i and i + 16 in byte i.
    qs: [u8; 16],
}

/// Writes the codes of one block; gives its scale and its offset.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], codes: &mut [i8; 32]) -> (f32, f32) {
    let Block { d, m, qh, qs } = bytemuck::from_bytes(block);
    nibbles(qs, codes);
    add_bits(*qh, 16, codes);
    (f16(*d), f16(*m))
}
