//! The regions that the core carves: aligned, zeroed, of the planned size.

use bytemuck::{Pod, Zeroable};
use dsv4_core::arena::ALIGN;
use dsv4_core::error::{Error, Result};

/// What regions are made of: one unit of the core's alignment.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// A region that starts at a multiple of [`ALIGN`], freed when dropped. The operating system zeroes its pages as they
/// are first touched.
pub struct Memory {
    lines: Box<[Line]>,
}

impl Memory {
    /// At least `bytes` bytes; [`Error::MemoryTooSmall`] if the system has not got them.
    pub fn new(bytes: usize) -> Result<Self> {
        let lines = bytemuck::allocation::try_zeroed_slice_box(bytes.div_ceil(ALIGN))
            .map_err(|()| Error::MemoryTooSmall { need: bytes as u64, got: 0 })?;
        Ok(Self { lines })
    }

    /// Its bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_zeroed_and_large_enough() {
        for need in [0, 1, 63, 64, 65, 1 << 20] {
            let mut memory = Memory::new(need).unwrap();
            let bytes = memory.bytes();
            assert!(bytes.len() >= need && bytes.as_ptr().addr().is_multiple_of(ALIGN));
            assert!(bytes.iter().all(|&b| b == 0));
        }
        assert!(matches!(Memory::new(isize::MAX as usize - 63), Err(Error::MemoryTooSmall { .. })));
        assert!(Memory::new(usize::MAX).is_err());
    }
}
