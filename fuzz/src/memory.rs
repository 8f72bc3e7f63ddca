//! Memory as the core wants it: aligned, and exactly as long as planned.

use dsv4_core::arena::ALIGN;

/// A region between two canaries.
pub struct Region {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

/// What lies around the region, and in it at first.
const CANARY: u8 = 0xa5;

impl Region {
    /// `len` bytes of no meaning.
    pub fn new(len: usize) -> Self {
        let bytes = vec![CANARY; len + 3 * ALIGN];
        let start = ALIGN + bytes[ALIGN..].as_ptr().align_offset(ALIGN);
        Self { bytes, start, len }
    }

    /// All of it.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let (before, rest) = self.bytes.split_at(self.start);
        assert!(before.iter().chain(&rest[self.len..]).all(|b| *b == CANARY), "written outside the region");
    }
}
