//! A tokenizer that owns its index.

use crate::file::{FileError, Files};
use crate::memory::Memory;
use dsv4_core::error::{Error, Result};
use dsv4_core::format::gguf::Gguf;
use dsv4_core::token::{Gguf as GgufSource, Source, Tokenizer as CoreTokenizer};
use self_cell::{MutBorrow, self_cell};
use std::path::Path;

self_cell!(
    struct Built {
        owner: MutBorrow<Memory>,
        #[covariant]
        dependent: CoreTokenizer,
    }
);

/// Text to tokens and back; immutable and shareable.
pub struct Tokenizer {
    built: Built,
}

impl Tokenizer {
    /// The tokenizer in the file at `path`: a GGUF file's, or a `tokenizer.json`.
    pub fn open(path: &Path) -> std::result::Result<Self, FileError> {
        let files = Files::open_one(path)?;
        Self::from_file(files.first()).map_err(|error| FileError::new(path, error))
    }

    /// The tokenizer in a file's bytes: a GGUF file's, or a `tokenizer.json`.
    pub fn from_file(bytes: &[u8]) -> Result<Self> {
        if bytes.starts_with(b"GGUF") { Self::from_gguf(&Gguf::parse(bytes)?) } else { Self::new(&Source::Json(bytes)) }
    }

    /// A GGUF file's tokenizer, from its header.
    pub fn from_gguf(header: &Gguf<'_>) -> Result<Self> {
        Self::new(&Source::Gguf(GgufSource::from_header(header)?))
    }

    /// Builds the index; `source` is not needed afterwards.
    pub fn new(source: &Source<'_>) -> Result<Self> {
        let memory = MutBorrow::new(Memory::new(CoreTokenizer::plan(source)?)?);
        Ok(Self { built: Built::try_new(memory, |memory| CoreTokenizer::new(source, memory.borrow_mut().bytes()))? })
    }

    /// The bytes of memory that a GGUF file's tokenizer takes, from its header.
    pub fn plan(header: &Gguf<'_>) -> Result<usize> {
        CoreTokenizer::plan(&Source::Gguf(GgufSource::from_header(header)?))
    }

    /// The core's tokenizer.
    pub fn core(&self) -> &CoreTokenizer<'_> {
        self.built.borrow_dependent()
    }

    /// The tokens of `text`; added tokens in it are recognized if `special`, and else are plain text.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        // Enough for pieces of up to 4 KiB; longer ones, which plain text has not, say what they need.
        let mut scratch = vec![0; CoreTokenizer::scratch(text.len().min(4096))];
        let mut tokens = vec![0; text.len()];
        let count = match self.core().encode(text, special, &mut scratch, &mut tokens) {
            Err(Error::MemoryTooSmall { .. }) => {
                scratch = vec![0; CoreTokenizer::scratch(text.len())];
                self.core().encode(text, special, &mut scratch, &mut tokens)
            }
            result => result,
        }?;
        tokens.truncate(count);
        tokens.shrink_to_fit();
        Ok(tokens)
    }

    /// The bytes of `tokens`, one after the other: whole characters only if the tokens end with one.
    pub fn decode(&self, tokens: &[u32]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for &token in tokens {
            bytes.extend_from_slice(self.core().piece(token).ok_or(Error::BadToken { token })?);
        }
        Ok(bytes)
    }
}
