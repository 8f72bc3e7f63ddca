//! What the library has to say, said to the caller: it never prints.

use super::error::write_text;
use crate::ptr::User;
use std::ffi::{c_char, c_int, c_void};
use std::fmt;

/// How much a line of the log matters.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum dsv4_log_level {
    /// Something failed; the same call returns a status other than DSV4_OK.
    DSV4_LOG_ERROR = 1,
    /// Something is assumed or unusual.
    DSV4_LOG_WARNING = 2,
    /// What was done.
    DSV4_LOG_INFO = 3,
}

/// Takes one line of the log: `level` is a dsv4_log_level, `message` one line in UTF-8 without line feed that exists only
/// during the call. Called on the thread whose call has something to say, never by others; it must not call the library
/// on the same handle.
pub type dsv4_log_fn = Option<extern "C" fn(user: *mut c_void, level: c_int, message: *const c_char)>;

/// A model's log.
#[derive(Clone, Copy)]
pub(super) struct Log {
    pub(super) callback: dsv4_log_fn,
    pub(super) user: User,
}

impl Log {
    /// One line, cut after about 500 bytes: nothing is allocated for it.
    pub(super) fn line(&self, level: dsv4_log_level, message: fmt::Arguments<'_>) {
        let Some(callback) = self.callback else { return };
        let mut line = [0; 512];
        write_text(&mut line, &message);
        callback(self.user.0, level as c_int, line.as_ptr());
    }
}
