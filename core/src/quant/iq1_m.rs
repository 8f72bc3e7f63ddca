//! IQ1_M: 256 weights, eight to an entry of IQ1_S's codebook with a shift of its own; every 16 have a scale of 3 bits.
//! `weight = d * (2 sc + 1) * (value ± 1/8)`, here in eighths: scale/8 and 8 value ± 1, both exact.

use super::iq1_s::GRID;
use super::{Unpacked, f16};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// The entries' lower 8 bits.
    qs: [u8; 32],
    /// Nibble l mod 2 of byte l/2: entry l's upper 3 bits, then whether its shift is down.
    qh: [u8; 16],
    /// u16 for every 64 weights: four scales of 3 bits, then a nibble of d (f16), the lowest first.
    scales: [[u8; 2]; 4],
}

/// Writes one block.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], out: &mut Unpacked) {
    let Block { qs, qh, scales } = bytemuck::from_bytes(block);
    let scales = scales.map(u16::from_le_bytes);
    let d = scales.iter().enumerate().fold(0, |d, (j, word)| d | word >> 12 << (4 * j));
    out.units[0] = f16(d.to_le_bytes()) * 0.125;
    for (j, scale) in out.scales.iter_mut().enumerate() {
        *scale = f32::from(2 * (scales[j / 4] >> (3 * (j % 4)) & 7) + 1);
    }
    for (l, (codes, q)) in out.codes.as_chunks_mut::<8>().0.iter_mut().zip(qs).enumerate() {
        let high = qh[l / 2] >> (4 * (l % 2)) & 15;
        let shift = if high & 8 == 0 { 1 } else { -1 };
        *codes = GRID[usize::from(*q) | usize::from(high & 7) << 8].map(|value| value + shift);
    }
}
