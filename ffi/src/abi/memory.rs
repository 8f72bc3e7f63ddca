//! The simple way of memory: the library asks a caller's two functions, or the C library.

use crate::ptr::{self, Alloc, Allocator, Free, User, Versioned};
use bytemuck::Zeroable;
use dsv4_core::error::{Error, Result};
use std::ffi::c_void;

/// Two functions that give memory and take it back. Both may be called on any thread that calls the library.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct dsv4_allocator {
    /// sizeof(dsv4_allocator).
    pub size: usize,
    /// Gives `bytes` bytes that start at a multiple of `align` (64), or NULL. Their values do not matter.
    pub alloc: Option<extern "C" fn(user: *mut c_void, bytes: usize, align: usize) -> *mut c_void>,
    /// Takes back what `alloc` gave, with the number of bytes it was asked for.
    pub free: Option<extern "C" fn(user: *mut c_void, memory: *mut c_void, bytes: usize)>,
    /// The first argument of both.
    pub user: *mut c_void,
}

impl Versioned for dsv4_allocator {}

/// The allocator that a caller's pointer means: NULL is the system's.
pub(super) fn allocator(from: *const dsv4_allocator) -> Result<Allocator> {
    if from.is_null() {
        return Ok(Allocator::System);
    }
    let given = ptr::read_sized(from, "allocator")?;
    let missing = Error::BadArgument { what: "allocator without alloc and free" };
    let (alloc, free): (Alloc, Free) = given.alloc.zip(given.free).ok_or(missing)?;
    Ok(Allocator::Caller { alloc, free, user: User(given.user) })
}
