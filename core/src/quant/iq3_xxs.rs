//! IQ3_XXS: 256 weights, four to an entry of a codebook of 256, seven signs for eight; every 32 have a scale of 4 bits.
//! `weight = d/4 * (2 sc + 1) * ±value`.

use super::codebook::{even_signs, expand, signed};
use super::{Unpacked, f16, grids};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

/// The values that entries are made of.
pub(crate) const VALUES: [i8; 8] = [4, 12, 20, 28, 36, 44, 52, 62];

pub(crate) static GRID: [[i8; 4]; 256] = expand(&grids::IQ3_XXS, &VALUES);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// f16.
    d: [u8; 2],
    /// Pairs of entries.
    qs: [[u8; 2]; 32],
    /// u32 for every 32 weights: signs of pair l in bits 7l..7l + 7, sc in the upper 4.
    signs: [[u8; 4]; 8],
}

/// Writes one block.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], out: &mut Unpacked) {
    let Block { d, qs, signs } = bytemuck::from_bytes(block);
    out.units[0] = f16(*d) * 0.25;
    let groups = signs.iter().zip(qs.as_chunks::<4>().0);
    for (((signs, qs), codes), scale) in
        groups.zip(out.codes.as_chunks_mut::<32>().0).zip(out.scales.as_chunks_mut::<2>().0)
    {
        let signs = u32::from_le_bytes(*signs);
        *scale = [(2 * (signs >> 28) + 1) as f32; 2];
        for (l, ([a, b], codes)) in qs.iter().zip(codes.as_chunks_mut::<8>().0).enumerate() {
            let signs = even_signs(signs >> (7 * l));
            let pair = [signed(&GRID[usize::from(*a)], signs), signed(&GRID[usize::from(*b)], signs >> 4)];
            codes.copy_from_slice(pair.as_flattened());
        }
    }
}
