//! Q8_0: 32 weights of 8 bits and a scale. `weight = d * q`.

use super::f16;
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// f16.
    d: [u8; 2],
    qs: [i8; 32],
}

/// Writes the codes of one block; gives its scale and its offset (0).
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], codes: &mut [i8; 32]) -> (f32, f32) {
    let Block { d, qs } = bytemuck::from_bytes(block);
    *codes = *qs;
    (f16(*d), 0.0)
}
