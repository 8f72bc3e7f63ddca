//! Memory regions as the core wants them, and as it does not.

use dsv4_core::arena::ALIGN;

/// Memory that starts at a multiple of [`ALIGN`].
pub struct Memory {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Memory {
    /// `len` bytes of 0xFF (NaN as floats), so that what is read before it is written shows.
    pub fn new(len: usize) -> Self {
        let bytes = vec![0xff; len + 2 * ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN);
        Self { bytes, start, len }
    }

    /// As many bytes, one past the alignment.
    pub fn misaligned(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start + 1..][..self.len]
    }
}

impl AsMut<[u8]> for Memory {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}
