//! Regions of linear memory: aligned as the core wants them, never moved once they are reserved.

use bytemuck::{Pod, Zeroable};
use dsv4_core::arena::ALIGN;
use dsv4_core::error::{Error, Result};

/// What regions are made of: one unit of the core's alignment.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// A region that starts at a multiple of [`ALIGN`].
#[derive(Default)]
pub(crate) struct Memory {
    lines: Vec<Line>,
    len: usize,
}

impl Memory {
    /// An empty region with room for `bytes` bytes; [`Error::MemoryTooSmall`] if there is no such room.
    pub(crate) fn reserve(bytes: usize) -> Result<Self> {
        let mut lines = Vec::new();
        let none = Error::MemoryTooSmall { need: bytes as u64, got: 0 };
        lines.try_reserve_exact(bytes.div_ceil(ALIGN)).map_err(|_| none)?;
        Ok(Self { lines, len: 0 })
    }

    /// `bytes` zeros.
    pub(crate) fn zeroed(bytes: usize) -> Result<Self> {
        let mut memory = Self::reserve(bytes)?;
        memory.extend(bytes);
        Ok(memory)
    }

    /// Appends `more` zeros, within what is reserved, and lends them.
    pub(crate) fn extend(&mut self, more: usize) -> &mut [u8] {
        let start = self.len;
        self.len += more;
        self.lines.resize(self.len.div_ceil(ALIGN), Line::zeroed());
        &mut self.bytes_mut()[start..]
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}
