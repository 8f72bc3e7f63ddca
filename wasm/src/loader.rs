//! Model files on their way into memory: each goes straight to where it stays, as it comes.
//!
//! How long a file is follows from its own header, so a region of exactly that size is reserved as soon as the header is
//! there, whatever the source says or does not say of its length. What comes behind the last tensor is not kept.

use crate::error::{Failure, Result};
use crate::memory::Memory;
use crate::model::Model;
use dsv4_core::error::{Error, Name};
use dsv4_core::format::gguf::Gguf;
use dsv4_core::model::Model as CoreModel;
use js_sys::Uint8Array;
use wasm_bindgen::prelude::wasm_bindgen;

/// Bytes copied at a time while the header is not complete.
const PIECE: u32 = 1 << 18;

/// One file.
#[derive(Default)]
struct File {
    /// The bytes so far, until the header is complete.
    header: Vec<u8>,
    /// How many bytes the header had when it was last looked at and found incomplete, and a quarter more.
    enough: usize,
    /// The whole file, once its length is known: reserved, and filled as the bytes come.
    memory: Memory,
    /// The file's length; 0 while it is not known.
    total: usize,
}

impl File {
    /// Takes bytes as long as the header is incomplete, and says how many.
    fn push_header(&mut self, chunk: &Uint8Array, alone: bool) -> Result<u32> {
        let mut taken = 0;
        while self.total == 0 && taken < chunk.length() {
            let piece = chunk.subarray(taken, chunk.length().min(taken + PIECE));
            let start = self.header.len();
            self.header.resize(start + piece.length() as usize, 0);
            piece.copy_to(&mut self.header[start..]);
            taken += piece.length();
            if self.header.len() < self.enough {
                continue;
            }
            match extent(&self.header, alone) {
                Err(Error::Truncated { .. }) => self.enough = self.header.len() + self.header.len() / 4,
                Err(error) => return Err(error.into()),
                Ok(total) => {
                    self.memory = Memory::reserve(total)?;
                    self.total = total;
                    let header = std::mem::take(&mut self.header);
                    let kept = header.len().min(total);
                    self.memory.extend(kept).copy_from_slice(&header[..kept]);
                }
            }
        }
        Ok(taken)
    }

    fn push(&mut self, chunk: &Uint8Array, alone: bool) -> Result<()> {
        let taken = self.push_header(chunk, alone)?;
        let left = (self.total - self.memory.len().min(self.total)).min((chunk.length() - taken) as usize);
        if left > 0 {
            chunk.subarray(taken, taken + left as u32).copy_to(self.memory.extend(left));
        }
        Ok(())
    }

    /// Bytes so far.
    const fn len(&self) -> usize {
        if self.total == 0 { self.header.len() } else { self.memory.len() }
    }

    /// The whole file, or what is wrong with what there is of it.
    fn finish(self) -> Result<Memory> {
        if self.total == 0 {
            return match extent(&self.header, false) {
                Err(error) => Err(error.into()),
                // The header was complete, and nothing asked.
                Ok(_) => Err(Error::Truncated { at: self.header.len() as u64 }.into()),
            };
        }
        if self.memory.len() < self.total {
            return Err(Error::Truncated { at: self.memory.len() as u64 }.into());
        }
        Ok(self.memory)
    }
}

/// The length of the file with this header: to the end of its last tensor. [`Error::Truncated`] while the header is not
/// complete. A model `alone` in its file is planned too, so that one that can not be loaded is not fetched.
fn extent(header: &[u8], alone: bool) -> dsv4_core::error::Result<usize> {
    let parsed = Gguf::parse(header)?;
    if alone {
        CoreModel::plan(&[header])?;
    }
    let mut end = parsed.header_bytes();
    for tensor in parsed.tensors() {
        let name = Name::from(tensor.name);
        let bytes = tensor.bytes().ok_or(Error::BadTensorType { name, dtype: tensor.dtype })?;
        let start = parsed.header_bytes().checked_add(tensor.offset).ok_or(Error::BadOffset { name })?;
        end = end.max(start.checked_add(bytes).ok_or(Error::BadOffset { name })?);
    }
    usize::try_from(end).ok().filter(|&end| end <= isize::MAX as usize).ok_or(Error::TooLarge)
}

/// Takes the bytes of a model's file, or of all its splits in order, and makes a [`Model`] of them.
#[wasm_bindgen]
pub struct Loader {
    parts: usize,
    files: Vec<File>,
}

#[wasm_bindgen]
impl Loader {
    /// For a model in `parts` files.
    #[wasm_bindgen(constructor)]
    pub fn new(parts: usize) -> Self {
        Self { parts, files: Vec::new() }
    }

    /// Begins the next file.
    pub fn begin(&mut self) {
        self.files.push(File::default());
    }

    /// The next bytes of the file begun last. Throws as soon as the header shows what cannot be loaded.
    pub fn push(&mut self, chunk: &Uint8Array) -> std::result::Result<(), wasm_bindgen::JsValue> {
        let alone = self.parts == 1;
        let file = self.files.last_mut().ok_or(Failure(Error::BadArgument { what: "no file was begun" }))?;
        Ok(file.push(chunk, alone)?)
    }

    /// Bytes of the file begun last that have come.
    #[wasm_bindgen(getter)]
    pub fn loaded(&self) -> usize {
        self.files.last().map_or(0, File::len)
    }

    /// Bytes of the file begun last in all; 0 while they are not known.
    #[wasm_bindgen(getter)]
    pub fn total(&self) -> usize {
        self.files.last().map_or(0, |file| file.total)
    }

    /// The model, once all bytes have come.
    pub fn finish(self) -> std::result::Result<Model, wasm_bindgen::JsValue> {
        let files = self.files.into_iter().map(File::finish).collect::<Result<Vec<_>>>()?;
        Ok(Model::load(files)?)
    }
}
