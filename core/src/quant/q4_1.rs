//! Q4_1: 32 weights of 4 bits, a scale and a minimum. `weight = d * q + m`.

use super::{f16, nibbles};
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
    /// Weights i and i + 16 in byte i.
    qs: [u8; 16],
}

/// Writes the codes of one block; gives its scale and its offset.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], codes: &mut [i8; 32]) -> (f32, f32) {
    let Block { d, m, qs } = bytemuck::from_bytes(block);
    nibbles(qs, codes);
    (f16(*d), f16(*m))
}
