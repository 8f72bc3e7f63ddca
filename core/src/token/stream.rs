//! Text from tokens as they come: a character whose bytes lie in several tokens is held back until it is whole.

use crate::error::{Error, Result};

/// What stands for bytes that are not UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// The bytes of a character that is not whole yet. `Copy`: a session that goes back keeps the decoder it had there.
///
/// All that [`Self::push`] and [`Self::finish`] give, joined, is `String::from_utf8_lossy` of all bytes pushed, joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamDecoder {
    tail: [u8; 4],
    len: u8,
}

impl StreamDecoder {
    /// Holds nothing back.
    pub const fn new() -> Self {
        Self { tail: [0; 4], len: 0 }
    }

    /// The bytes held back, at most three: a new decoder that they are pushed to is in the same state.
    pub fn held(&self) -> &[u8] {
        &self.tail[..usize::from(self.len)]
    }

    /// The most bytes that [`Self::push`] gives for `bytes` bytes: each may become a U+FFFD, as may those held back.
    pub const fn out_len(bytes: usize) -> usize {
        bytes.saturating_add(1).saturating_mul(REPLACEMENT.len())
    }

    /// Adds a token's bytes; gives the text that is whole by now, written to `out`. On [`Error::MemoryTooSmall`] nothing has
    /// changed; [`Self::out_len`] bytes are always enough.
    pub fn push<'b>(&mut self, bytes: &[u8], out: &'b mut [u8]) -> Result<&'b str> {
        let mut next = *self;
        let need = Error::MemoryTooSmall { need: Self::out_len(bytes.len()) as u64, got: out.len() as u64 };
        let mut written = 0;
        let mut put = |text: &[u8]| {
            let end = written + text.len();
            out.get_mut(written..end).ok_or(need)?.copy_from_slice(text);
            written = end;
            Ok(())
        };
        let mut rest = bytes;
        // Complete the character held back, byte by byte, until it is whole or can not be.
        while next.len > 0 {
            let Some((&byte, after)) = rest.split_first() else { break };
            let held = usize::from(next.len);
            next.tail[held] = byte;
            match core::str::from_utf8(&next.tail[..=held]).map_err(|e| e.error_len()) {
                Ok(whole) => {
                    put(whole.as_bytes())?;
                    (next.len, rest) = (0, after);
                }
                Err(None) => (next.len, rest) = (next.len + 1, after),
                // What was held back is no character; `byte` may begin one.
                Err(Some(_)) => {
                    put(REPLACEMENT)?;
                    next.len = 0;
                }
            }
        }
        let mut left = rest.len();
        for chunk in rest.utf8_chunks() {
            put(chunk.valid().as_bytes())?;
            let invalid = chunk.invalid();
            left -= chunk.valid().len() + invalid.len();
            let incomplete = core::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if left == 0 && incomplete {
                next.tail[..invalid.len()].copy_from_slice(invalid);
                next.len = invalid.len() as u8;
            } else if !invalid.is_empty() {
                put(REPLACEMENT)?;
            }
        }
        *self = next;
        // Only whole characters were put.
        Ok(core::str::from_utf8(&out[..written]).unwrap_or_default())
    }

    /// Ends the text: U+FFFD where a character was left half, nothing otherwise.
    pub fn finish(&mut self) -> &'static str {
        let half = self.len > 0;
        *self = Self::new();
        if half { "\u{fffd}" } else { "" }
    }
}
