//! `plan -> caller's slice -> carve`: typed slices cut one after another from one region of the caller's.
//!
//! A structure that needs memory has one `carve(&mut Arena, sizes)`. Run over [`Arena::counting`] it yields the plan
//! (exact bytes, nothing allocated); run over [`Arena::new`] it yields the slices: the two can not disagree.

use crate::error::{Error, Result};
use bytemuck::Pod;

/// The alignment, in bytes, of every region and of every slice within it (a cache line, and a 512-bit vector).
pub const ALIGN: usize = 64;

/// A region being carved, or being counted.
#[derive(Debug)]
pub struct Arena<'a> {
    /// What is left; `None` while counting.
    rest: Option<&'a mut [u8]>,
    used: usize,
    given: usize,
}

impl<'a> Arena<'a> {
    /// Counts only: every slice it gives is empty.
    pub const fn counting() -> Self {
        Self { rest: None, used: 0, given: 0 }
    }

    /// Carves `memory`, which must start at a multiple of [`ALIGN`] ([`Error::MemoryMisaligned`] otherwise).
    pub fn new(memory: &'a mut [u8]) -> Result<Self> {
        if !memory.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(Error::MemoryMisaligned { align: ALIGN as u32 });
        }
        let given = memory.len();
        Ok(Self { rest: Some(memory), used: 0, given })
    }

    /// A slice of `len` values, zeroed: for what is read before all of it is written.
    pub fn take_zeroed<T: Pod>(&mut self, len: usize) -> Result<&'a mut [T]> {
        let taken = self.take(len)?;
        taken.fill(T::zeroed());
        Ok(taken)
    }

    /// A slice of `len` values, as the caller left them: a cache of gigabytes is not touched before it is used. While
    /// counting it is empty. [`Error::TooLarge`] when the sum passes `usize`.
    ///
    /// A region too small gives [`Error::MemoryTooSmall`] with the bytes needed up to here: callers who count first
    /// (all in this crate do, through [`Arena::check`]) report the whole need instead.
    pub fn take<T: Pod>(&mut self, len: usize) -> Result<&'a mut [T]> {
        const { assert!(align_of::<T>() <= ALIGN) };
        let bytes =
            len.checked_mul(size_of::<T>()).and_then(|b| b.checked_next_multiple_of(ALIGN)).ok_or(Error::TooLarge)?;
        self.used = self.used.checked_add(bytes).filter(|&u| u <= isize::MAX as usize).ok_or(Error::TooLarge)?;
        let Some(rest) = self.rest.take() else { return Ok(&mut []) };
        let small = Error::MemoryTooSmall { need: self.used as u64, got: self.given as u64 };
        let (taken, rest) = rest.split_at_mut_checked(bytes).ok_or(small)?;
        self.rest = Some(rest);
        bytemuck::try_cast_slice_mut(&mut taken[..len * size_of::<T>()])
            .map_err(|_| Error::MemoryMisaligned { align: ALIGN as u32 })
    }

    /// Bytes taken so far: after a counting run, the plan.
    pub const fn used(&self) -> usize {
        self.used
    }

    /// [`Error::MemoryTooSmall`] with the whole `need` unless the region holds at least that.
    pub fn check(&self, need: usize) -> Result<()> {
        if self.given < need {
            return Err(Error::MemoryTooSmall { need: need as u64, got: self.given as u64 });
        }
        Ok(())
    }
}
