//! Q4_0: 32 weights of 4 bits around 8 and a scale. `weight = d * (q - 8)`.

use super::{f16, nibbles};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// f16.
    d: [u8; 2],
    /// Weights i and i + 16 in byte i.
    qs: [u8; 16],
}

/// Writes the codes of one block; gives its scale and its offset (0).
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], codes: &mut [i8; 32]) -> (f32, f32) {
    let Block { d, qs } = bytemuck::from_bytes(block);
    nibbles(qs, codes);
    for code in codes {
        *code -= 8;
    }
    (f16(*d), 0.0)
}
