//! The regions that the core carves: aligned, zeroed, of the planned size.

use bytemuck::{Pod, Zeroable};
use dsv4_core::arena::ALIGN;
use dsv4_core::error::{Error, Result};

/// What regions are made of. The system has pages that are zero and that nobody has touched for allocations of no more than
/// this alignment; it writes a zero to every byte of those that ask for more.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(16))]
struct Unit([u8; 16]);

/// A region that starts at a multiple of [`ALIGN`], freed when dropped. The operating system zeroes its pages as they
/// are first touched.
pub struct Memory {
    /// [`ALIGN`] bytes more than the region has, which starts at the first multiple of that.
    units: Box<[Unit]>,
}

impl Memory {
    /// At least `bytes` bytes; [`Error::MemoryTooSmall`] if the system has not got them.
    pub fn new(bytes: usize) -> Result<Self> {
        let none = Error::MemoryTooSmall { need: bytes as u64, got: 0 };
        let whole = bytes.checked_add(ALIGN).ok_or(none)?;
        let units = bytemuck::allocation::try_zeroed_slice_box(whole.div_ceil(size_of::<Unit>()));
        Ok(Self { units: units.map_err(|()| none)? })
    }

    /// Its bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        let whole: &mut [u8] = bytemuck::cast_slice_mut(&mut self.units);
        let start = whole.as_ptr().addr().wrapping_neg() % ALIGN;
        &mut whole[start..]
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
