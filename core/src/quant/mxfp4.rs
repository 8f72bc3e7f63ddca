//! MXFP4: 32 E2M1 codes and an E8M0 scale. `weight = 2^(e - 127) * value[q]`, here with doubled values and half the
//! scale.

use super::{e8m0, fp4, nibbles_of};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// E8M0. 255 is NaN as the format's standard has it, where GGML reads on to 2^128.
    e: u8,
    /// Weights i and i + 16 in byte i.
    qs: [u8; 16],
}

/// Writes the codes of one block; gives its scale and its offset (0).
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], codes: &mut [i8; 32]) -> (f32, f32) {
    let Block { e, qs } = bytemuck::from_bytes(block);
    nibbles_of(&fp4::DOUBLED, qs, codes);
    (e8m0(*e) / 2.0, 0.0)
}
