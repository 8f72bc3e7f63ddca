//! What exactly went wrong: beside the status, the tensor, key, offset or need, and a sentence.

use super::status::dsv4_status;
use crate::file::FileError;
use crate::ptr::{self, Versioned};
use bytemuck::Zeroable;
use dsv4_core::error::{Error, Name, Result};
use std::ffi::c_char;
use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};

/// The details of an error. Set `size` to sizeof(dsv4_error) before it is passed.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct dsv4_error {
    /// sizeof(dsv4_error).
    pub size: usize,
    /// The dsv4_status.
    pub status: i32,
    /// The operating system's number for DSV4_IO, or 0.
    pub os: i32,
    /// Bytes needed in all, for DSV4_MEMORY_TOO_SMALL; else 0.
    pub need: u64,
    /// Offset in the file, or position in the text, where there is one; else 0.
    pub at: u64,
    /// The tensor or key in question, ended by NUL; "" where there is none.
    pub name: [c_char; 64],
    /// A sentence in English on one line, ended by NUL; cut if it is longer. "" if there is no error.
    pub message: [c_char; 512],
}

impl Versioned for dsv4_error {}

/// An error as the library has it.
pub(super) enum Failure {
    Plain(Error),
    File(FileError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Plain(error)
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
        }
    }
}

impl Failure {
    pub(super) fn error(&self) -> Error {
        match self {
            Self::Plain(error) => *error,
            Self::File(error) => error.error,
        }
    }

    /// The same for C.
    fn details(&self) -> dsv4_error {
        let error = self.error();
        let mut details = dsv4_error::zeroed();
        details.status = dsv4_status::from(error) as i32;
        let mut name = None;
        match error {
            Error::Truncated { at } | Error::BadCount { at, .. } | Error::BadName { at } | Error::BadJson { at } => {
                details.at = at;
            }
            Error::BadValueType { key }
            | Error::BadValue { key }
            | Error::MissingKey { key }
            | Error::DuplicateKey { key } => name = Some(key),
            Error::MissingTensor { name: tensor }
            | Error::DuplicateTensor { name: tensor }
            | Error::BadShape { name: tensor }
            | Error::BadTensorType { name: tensor, .. }
            | Error::BadOffset { name: tensor } => name = Some(tensor),
            Error::UnsupportedArchitecture { name: other } | Error::UnsupportedPreTokenizer { name: other } => {
                name = Some(other);
            }
            Error::MemoryTooSmall { need, .. } => details.need = need,
            Error::Io { os } => details.os = os,
            _ => {}
        }
        if let Some(name) = name {
            write_text(&mut details.name, &Escaped(name));
        }
        write_text(&mut details.message, self);
        details
    }
}

/// A name on one line.
struct Escaped(Name);

impl fmt::Display for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What has a status: `Ok`, or the error's, whose details go to `to` unless that is NULL.
pub(super) fn report(result: std::result::Result<(), Failure>, to: *mut dsv4_error) -> dsv4_status {
    let Err(failure) = result else { return dsv4_status::DSV4_OK };
    if !to.is_null() {
        // The first error is the one to report.
        let _ = ptr::write_sized(to, &failure.details(), "error");
    }
    failure.error().into()
}

/// The last error of a handle.
#[derive(Default)]
pub(super) struct LastError(Mutex<Option<Error>>);

impl LastError {
    /// Remembers the error that there is.
    pub(super) fn keep(&self, result: Result<()>) -> dsv4_status {
        let Err(error) = result else { return dsv4_status::DSV4_OK };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        error.into()
    }

    /// Its details; all zeros if there was none.
    pub(super) fn write(&self, to: *mut dsv4_error) -> Result<()> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let details = last.map_or_else(dsv4_error::zeroed, |error| Failure::Plain(error).details());
        ptr::write_sized(to, &details, "error")
    }
}

/// The status of a result that no handle remembers.
pub(super) fn status(result: Result<()>) -> dsv4_status {
    result.map_or_else(Into::into, |()| dsv4_status::DSV4_OK)
}

/// Writes `text` and a NUL into `to`, cut at a character's end if it is too long.
pub(super) fn write_text(to: &mut [c_char], text: &dyn fmt::Display) {
    /// Writes into what is left.
    struct Cut<'a> {
        to: &'a mut [u8],
        len: usize,
    }
    impl Write for Cut<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for c in text.chars() {
                let end = self.len + c.len_utf8();
                // One byte stays for the NUL.
                if end >= self.to.len() {
                    return Err(fmt::Error);
                }
                c.encode_utf8(&mut self.to[self.len..end]);
                self.len = end;
            }
            Ok(())
        }
    }
    let mut cut = Cut { to: bytemuck::cast_slice_mut(to), len: 0 };
    // An error means cut.
    let _ = write!(cut, "{text}");
    if let Some(end) = cut.to.get_mut(cut.len) {
        *end = 0;
    }
}
