//! IQ2_XS: 256 weights, eight to an entry of a codebook of 512, seven signs for eight; every 16 have a scale of 4 bits.
//! `weight = d/8 * (2 sc + 1) * ±value`.

use super::codebook::{even_signs, expand, signed};
use super::iq2_xxs::VALUES;
use super::{Unpacked, f16, grids};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

/// The codebook: eight values an entry.
pub(crate) static GRID: [[i8; 8]; 512] = expand(&grids::IQ2_XS, &VALUES);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// f16.
    d: [u8; 2],
    /// u16: the entry in the lower 9 bits, its signs in the upper 7.
    qs: [[u8; 2]; 32],
    /// Scale j in nibble j mod 2 of byte j/2.
    scales: [u8; 8],
}

/// Writes one block.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], out: &mut Unpacked) {
    let Block { d, qs, scales } = bytemuck::from_bytes(block);
    out.units[0] = f16(*d) * 0.125;
    scales_of_16(scales, &mut out.scales);
    for (codes, q) in out.codes.as_chunks_mut::<8>().0.iter_mut().zip(qs) {
        let q = u16::from_le_bytes(*q);
        *codes = signed(&GRID[usize::from(q & 511)], even_signs(u32::from(q >> 9)));
    }
}

/// `scale[j] = 2 sc[j] + 1`, as IQ2_XS and IQ2_S have them.
#[inline(always)]
pub(super) fn scales_of_16(packed: &[u8; 8], scales: &mut [f32; 16]) {
    for (j, scale) in scales.iter_mut().enumerate() {
        *scale = f32::from(2 * (packed[j / 2] >> (4 * (j % 2)) & 15) + 1);
    }
}
