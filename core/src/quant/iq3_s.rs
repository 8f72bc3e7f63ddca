//! IQ3_S: 256 weights, four to an entry of a codebook of 512, every sign stored; every 32 have a scale of 4 bits.
//! `weight = d * (2 sc + 1) * ±value`.

use super::codebook::{expand, signed};
use super::{Unpacked, f16, grids};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

/// The values that entries are made of.
pub(crate) const VALUES: [i8; 8] = [1, 3, 5, 7, 9, 11, 13, 15];

pub(crate) static GRID: [[i8; 4]; 512] = expand(&grids::IQ3_S, &VALUES);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// f16.
    d: [u8; 2],
    /// The entries' lower 8 bits.
    qs: [u8; 64],
    /// Entry l's ninth bit in bit l mod 8 of byte l/8.
    qh: [u8; 8],
    /// Entry l's signs in nibble l mod 2 of byte l/2.
    signs: [u8; 32],
    /// Scale j in nibble j mod 2 of byte j/2.
    scales: [u8; 4],
}

/// Writes one block.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], out: &mut Unpacked) {
    let Block { d, qs, qh, signs, scales } = bytemuck::from_bytes(block);
    out.units[0] = f16(*d);
    for (j, scale) in out.scales.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        *scale = [f32::from(2 * (scales[j / 2] >> (4 * (j % 2)) & 15) + 1); 2];
    }
    for (l, (codes, q)) in out.codes.as_chunks_mut::<4>().0.iter_mut().zip(qs).enumerate() {
        let high = qh[l / 8] >> (l % 8) & 1;
        *codes = signed(&GRID[usize::from(*q) | usize::from(high) << 8], signs[l / 2] >> (4 * (l % 2)));
    }
}
