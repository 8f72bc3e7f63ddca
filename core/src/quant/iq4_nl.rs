//! IQ4_NL: 32 weights of 4 bits over unevenly spaced values, and a scale. `weight = d * value[q]`.

use super::{f16, nibbles_of};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

/// The values of IQ4_NL's and IQ4_XS's codes.
pub const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

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
    nibbles_of(&VALUES, qs, codes);
    (f16(*d), 0.0)
}
