//! IQ2_XXS: 256 weights, eight to an entry of a codebook of 256, seven signs for eight; every 32 have a scale of 4
//! bits. `weight = d/8 * (2 sc + 1) * ±value`.

use super::codebook::{even_signs, expand, signed};
use super::{Unpacked, f16, grids};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

/// The values that the entries of IQ2_XXS, IQ2_XS and IQ2_S are made of.
pub(crate) const VALUES: [i8; 3] = [8, 25, 43];

pub(crate) static GRID: [[i8; 8]; 256] = expand(&grids::IQ2_XXS, &VALUES);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// f16.
    d: [u8; 2],
    groups: [Group; 8],
}

/// 32 weights.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Group {
    entries: [u8; 4],
    /// u32: signs of entry l in bits 7l..7l + 7, sc in the upper 4.
    signs: [u8; 4],
}

/// Writes one block.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], out: &mut Unpacked) {
    let Block { d, groups } = bytemuck::from_bytes(block);
    out.units[0] = f16(*d) * 0.125;
    let codes = out.codes.as_chunks_mut::<32>().0;
    for ((group, codes), scale) in groups.iter().zip(codes).zip(out.scales.as_chunks_mut::<2>().0) {
        let signs = u32::from_le_bytes(group.signs);
        *scale = [(2 * (signs >> 28) + 1) as f32; 2];
        for (l, (codes, entry)) in codes.as_chunks_mut::<8>().0.iter_mut().zip(group.entries).enumerate() {
            *codes = signed(&GRID[usize::from(entry)], even_signs(signs >> (7 * l)));
        }
    }
}
