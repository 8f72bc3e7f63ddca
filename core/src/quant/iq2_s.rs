//! IQ2_S: 256 weights, eight to an entry of a codebook of 1024, every sign stored; every 16 have a scale of 4 bits.
//! `weight = d/8 * (2 sc + 1) * ±value`.

use super::codebook::{expand, signed};
use super::iq2_xs::scales_of_16;
use super::iq2_xxs::VALUES;
use super::{Unpacked, f16, grids};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

pub(crate) static GRID: [[i8; 8]; 1024] = expand(&grids::IQ2_S, &VALUES);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// f16.
    d: [u8; 2],
    /// The entries' lower 8 bits.
    qs: [u8; 32],
    signs: [u8; 32],
    /// Entry l's upper 2 bits in pair l mod 4 of byte l/4.
    qh: [u8; 8],
    /// Scale j in nibble j mod 2 of byte j/2.
    scales: [u8; 8],
}

/// Writes one block.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], out: &mut Unpacked) {
    let Block { d, qs, signs, qh, scales } = bytemuck::from_bytes(block);
    out.units[0] = f16(*d) * 0.125;
    scales_of_16(scales, &mut out.scales);
    for (l, (codes, q)) in out.codes.as_chunks_mut::<8>().0.iter_mut().zip(qs).enumerate() {
        let high = qh[l / 4] >> (2 * (l % 4)) & 3;
        *codes = signed(&GRID[usize::from(*q) | usize::from(high) << 8], signs[l]);
    }
}
