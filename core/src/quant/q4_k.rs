//! Q4_K: 256 weights of 4 bits; every 32 have a scale and a minimum of 6 bits. `weight = d * sc * q - dmin * m`.

use super::{Unpacked, f16, nibbles};
use bytemuck::{Pod, Zeroable};

/// Bytes of a block.
pub const BYTES: usize = size_of::<Block>();

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Block {
    scales: Scales,
    /// In each 32 bytes, weights i and i + 32 of 64 in byte i.
    qs: [u8; 128],
}

/// Writes one block.
#[inline(always)]
pub fn unpack(block: &[u8; BYTES], out: &mut Unpacked) {
    let Block { scales, qs } = bytemuck::from_bytes(block);
    scales.unpack(out);
    for (qs, codes) in qs.as_chunks::<32>().0.iter().zip(out.codes.as_chunks_mut::<64>().0) {
        nibbles(qs, codes);
    }
}

/// The scales and minimums of Q4_K and Q5_K.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Scales {
    /// f16.
    d: [u8; 2],
    /// f16.
    dmin: [u8; 2],
    /// sc and m number j, j < 4, in the lower 6 bits of bytes j and 4 + j. Number 4 + j has its lower 4 bits in byte
    /// 8 + j (sc low, m high nibble) and its upper 2 above the 6 bits of number j.
    packed: [u8; 12],
}

impl Scales {
    /// Scales and offsets of every 32 weights, and their units.
    #[inline(always)]
    pub(super) fn unpack(&self, out: &mut Unpacked) {
        out.units = [f16(self.d), -f16(self.dmin)];
        let p = &self.packed;
        let (scales, offsets) = (out.scales.as_chunks_mut::<2>().0, out.offsets.as_chunks_mut::<2>().0);
        for (j, (scale, offset)) in scales.iter_mut().zip(offsets).enumerate() {
            let (sc, m) = match j {
                0..4 => (p[j] & 63, p[4 + j] & 63),
                _ => (p[4 + j] & 15 | p[j - 4] >> 6 << 4, p[4 + j] >> 4 | p[j] >> 6 << 4),
            };
            *scale = [f32::from(sc); 2];
            *offset = [f32::from(m); 2];
        }
    }
}
