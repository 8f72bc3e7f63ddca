//! Q3_K: 256 weights of 3 bits around 4; every 16 have a scale of 6 bits around 32. `weight = d * (sc - 32) * (q - 4)`.

use super::q2_k::two_bits;
use super::{Unpacked, f16};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// The weights' third bits: weight 32k + i's in bit k of byte i.
    hmask: [u8; 32],
    /// The lower two, as Q2_K has them.
    qs: [u8; 64],
    /// Scale j's lower 4 bits in nibble j/8 of byte j mod 8; its upper 2 in pair j/4 of byte 8 + j mod 4.
    scales: [u8; 12],
    /// f16.
    d: [u8; 2],
}

/// Writes one block.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], out: &mut Unpacked) {
    let Block { hmask, qs, scales, d } = bytemuck::from_bytes(block);
    out.units[0] = f16(*d);
    for (j, scale) in out.scales.iter_mut().enumerate() {
        let low = scales[j % 8] >> (4 * (j / 8)) & 15;
        let high = scales[8 + j % 4] >> (2 * (j / 4)) & 3;
        *scale = f32::from((low | high << 4) as i8 - 32);
    }
    two_bits(qs, &mut out.codes);
    for (k, codes) in out.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (code, hmask) in codes.iter_mut().zip(hmask) {
            *code += ((hmask >> k & 1) << 2) as i8 - 4;
        }
    }
}
