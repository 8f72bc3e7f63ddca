//! IQ1_S: 256 weights, eight to an entry of a codebook of 2048; every 32 have a scale of 3 bits and a shift up or down.
//! `weight = d * (2 sc + 1) * (value ± 1/8)`, here in eighths: scale/8 and 8 value ± 1, both exact.

use super::codebook::expand;
use super::{Unpacked, f16, grids};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

/// The values that entries are made of, in eighths.
pub(crate) const VALUES: [i8; 3] = [-8, 0, 8];

/// The codebook of IQ1_S and IQ1_M, in eighths.
pub(crate) static GRID: [[i8; 8]; 2048] = expand(&grids::IQ1_S, &VALUES);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// f16.
    d: [u8; 2],
    /// The entries' lower 8 bits.
    qs: [[u8; 4]; 8],
    /// u16 for every 32 weights: entry l's upper 3 bits in bits 3l..3l + 3, then sc, then whether the shift is down.
    qh: [[u8; 2]; 8],
}

/// Writes one block.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], out: &mut Unpacked) {
    let Block { d, qs, qh } = bytemuck::from_bytes(block);
    out.units[0] = f16(*d) * 0.125;
    let groups = qs.iter().zip(qh);
    for (((qs, qh), codes), scale) in
        groups.zip(out.codes.as_chunks_mut::<32>().0).zip(out.scales.as_chunks_mut::<2>().0)
    {
        let qh = u16::from_le_bytes(*qh);
        *scale = [f32::from(2 * (qh >> 12 & 7) + 1); 2];
        let shift = if qh >> 15 == 0 { 1 } else { -1 };
        for (l, (codes, q)) in codes.as_chunks_mut::<8>().0.iter_mut().zip(qs).enumerate() {
            let high = qh >> (3 * l) & 7;
            *codes = GRID[usize::from(*q) | usize::from(high) << 8].map(|value| value + shift);
        }
    }
}
