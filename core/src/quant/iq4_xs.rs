//! IQ4_XS: 256 weights of 4 bits over IQ4_NL's values; every 32 have a scale of 6 bits around 32.
//! `weight = d * (sc - 32) * value[q]`.

use super::iq4_nl::VALUES;
use super::{Unpacked, f16, nibbles_of};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// f16.
    d: [u8; 2],
    /// Scale j's upper 2 bits in bits 2j, 2j + 1.
    scales_h: [u8; 2],
    /// Scale j's lower 4 bits in nibble j mod 2 of byte j/2.
    scales_l: [u8; 4],
    /// In each 16 bytes, weights i and i + 16 of 32 in byte i.
    qs: [u8; 128],
}

/// Writes one block.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], out: &mut Unpacked) {
    let Block { d, scales_h, scales_l, qs } = bytemuck::from_bytes(block);
    let scales_h = u16::from_le_bytes(*scales_h);
    out.units[0] = f16(*d);
    for (j, scale) in out.scales.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let low = scales_l[j / 2] >> (4 * (j % 2)) & 15;
        let high = (scales_h >> (2 * j) & 3) as u8;
        *scale = [f32::from((low | high << 4) as i8 - 32); 2];
    }
    for (qs, codes) in qs.as_chunks::<16>().0.iter().zip(out.codes.as_chunks_mut::<32>().0) {
        nibbles_of(&VALUES, qs, codes);
    }
}
