//! GGUF (versions 2 and 3, little-endian): one file's metadata and tensor directory.
//!
//! ```text
//! "GGUF"  version: u32  tensors: u64  keys: u64
//! keys x    (name: string, type: u32, value)            a string is its length (u64) and its bytes,
//! tensors x (name: string, n: u32, dims: u64 x n,       an array its element type (u32), its count (u64)
//!            type: u32, offset: u64)                    and its elements
//! padding to general.alignment, then the tensors' bytes, each at its offset from here
//! ```
//!
//! [`Gguf::parse`] walks all of it once, in time linear in the header. After it no accessor can fail: the iterators
//! walk the same bytes again. Only the header must be there; whether the tensors' bytes are is asked of
//! [`Gguf::data_offset`], a tensor at a time.

use crate::bytes::Cursor;
use crate::dtype::DType;
use crate::error::{Error, Name, Result};
use core::fmt;

/// Arrays within arrays within ...: levels read, more are refused.
const MAX_NESTING: usize = 8;
/// Bytes of a key at most (the format's own limit).
const MAX_KEY: u64 = 65535;
/// Bytes of a tensor's name at most (the format's own limit).
const MAX_TENSOR_NAME: u64 = 64;
/// Dimensions of a tensor at most.
pub const MAX_DIMS: usize = 4;
/// A count beyond this is no count, however long the file may be.
const MAX_COUNT: u64 = 1 << 32;
/// The least bytes that a metadata entry takes: length, one byte of key, type, one byte of value.
const MIN_ENTRY: u64 = 8 + 1 + 4 + 1;
/// The least bytes that a tensor's entry takes: length, one byte of name, dimensions, type, offset.
const MIN_TENSOR: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// Alignment of the tensors' bytes where `general.alignment` is not given.
const DEFAULT_ALIGNMENT: u32 = 32;

/// A metadata value; strings and arrays are borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "each name is its type")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Should be UTF-8; not checked.
    String(&'a [u8]),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// The format's number of the type [`Value::String`].
pub const STRING: u32 = 8;
/// The format's number of the type [`Value::Array`].
pub const ARRAY: u32 = 9;

/// The least bytes of one value of this type (the exact number, but for strings and arrays); `None`: no such type.
const fn value_bytes(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        STRING | 10..=12 => Some(8),
        ARRAY => Some(12),
        _ => None,
    }
}

impl<'a> Value<'a> {
    /// The value of type `kind` at the cursor, which moves past it. `key` is for errors alone.
    fn read(c: &mut Cursor<'a>, kind: u32, key: &str) -> Result<Self> {
        Ok(match kind {
            0 => Self::U8(c.u8()?),
            1 => Self::I8(i8::from_le_bytes(c.array()?)),
            2 => Self::U16(u16::from_le_bytes(c.array()?)),
            3 => Self::I16(i16::from_le_bytes(c.array()?)),
            4 => Self::U32(c.u32()?),
            5 => Self::I32(i32::from_le_bytes(c.array()?)),
            6 => Self::F32(f32::from_le_bytes(c.array()?)),
            7 => match c.u8()? {
                0 => Self::Bool(false),
                1 => Self::Bool(true),
                _ => return Err(Error::BadValue { key: key.into() }),
            },
            STRING => Self::String(string(c)?),
            ARRAY => Self::Array(Array::read(c, key)?),
            10 => Self::U64(c.u64()?),
            11 => Self::I64(i64::from_le_bytes(c.array()?)),
            12 => Self::F64(f64::from_le_bytes(c.array()?)),
            _ => return Err(Error::BadValueType { key: key.into() }),
        })
    }

    /// An integer of any width, if it is one and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::U64(v) => Some(v),
            Self::I8(v) => v.try_into().ok(),
            Self::I16(v) => v.try_into().ok(),
            Self::I32(v) => v.try_into().ok(),
            Self::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// A float of either width.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(v) => Some(v.into()),
            Self::F64(v) => Some(v),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(v) = *self { Some(v) } else { None }
    }

    /// A string's bytes.
    pub fn as_string(&self) -> Option<&'a [u8]> {
        if let Self::String(v) = *self { Some(v) } else { None }
    }

    /// An array.
    pub fn as_array(&self) -> Option<Array<'a>> {
        if let Self::Array(v) = *self { Some(v) } else { None }
    }
}

/// An array of metadata values, all of one type, still in the file's bytes.
#[derive(Clone, Copy, PartialEq)]
pub struct Array<'a> {
    element: u32,
    len: u64,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    fn read(c: &mut Cursor<'a>, key: &str) -> Result<Self> {
        let mut end = *c;
        skip_array(&mut end, key)?;
        let (element, len) = (c.u32()?, c.u64()?);
        let bytes = c.take((end.offset() - c.offset()) as u64)?;
        Ok(Self { element, len, bytes })
    }

    /// The format's number of the elements' type, e.g. [`STRING`].
    pub const fn element(&self) -> u32 {
        self.element
    }

    /// Number of elements.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements as they lie in the file: numbers little-endian, strings each after its length (u64).
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements in order.
    pub fn values(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (element, mut left, mut c) = (self.element, self.len, Cursor::new(self.bytes));
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            Value::read(&mut c, element, "").ok()
        })
    }
}

impl fmt::Debug for Array<'_> {
    /// Type and count alone: a vocabulary has 129,280 elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[type {}; {}]", self.element, self.len)
    }
}

/// Moves past an array, whatever lies nested in it, without recursion.
fn skip_array(c: &mut Cursor<'_>, key: &str) -> Result<()> {
    // The open arrays of arrays: how many of their arrays are still to come.
    let mut open = [0_u64; MAX_NESTING];
    let mut depth = 0;
    loop {
        let element = c.u32()?;
        let least = value_bytes(element).ok_or(Error::BadValueType { key: key.into() })?;
        let len = count(c, least)?;
        match element {
            ARRAY => {
                *open.get_mut(depth).ok_or(Error::BadValue { key: key.into() })? = len;
                depth += 1;
            }
            STRING => (0..len).try_for_each(|_| string(c).map(drop))?,
            // No overflow: the product is at most what `count` found to be left.
            _ => {
                c.take(len * least)?;
            }
        }
        loop {
            let Some(left) = depth.checked_sub(1).and_then(|d| open.get_mut(d)) else { return Ok(()) };
            if let Some(fewer) = left.checked_sub(1) {
                *left = fewer;
                break;
            }
            depth -= 1;
        }
    }
}

/// A count of things that take at least `least` bytes each: one that the bytes left cannot hold is refused here,
/// before anyone loops over it.
fn count(c: &mut Cursor<'_>, least: u64) -> Result<u64> {
    let at = c.offset() as u64;
    let count = c.u64()?;
    if count > MAX_COUNT {
        return Err(Error::BadCount { at, count });
    }
    let left = c.remaining() as u64;
    if count * least > left {
        return Err(Error::Truncated { at: c.offset() as u64 + left });
    }
    Ok(count)
}

fn string<'a>(c: &mut Cursor<'a>) -> Result<&'a [u8]> {
    let len = c.u64()?;
    c.take(len)
}

/// A key or a tensor's name: 1 to `max` bytes of UTF-8 without NUL.
fn name<'a>(c: &mut Cursor<'a>, max: u64) -> Result<&'a str> {
    let bad = Error::BadName { at: c.offset() as u64 };
    let len = c.u64()?;
    if len == 0 || len > max {
        return Err(bad);
    }
    let name = core::str::from_utf8(c.take(len)?).map_err(|_| bad)?;
    if name.contains('\0') { Err(bad) } else { Ok(name) }
}

/// One metadata entry.
fn entry<'a>(c: &mut Cursor<'a>) -> Result<(&'a str, Value<'a>)> {
    let key = name(c, MAX_KEY)?;
    let kind = c.u32()?;
    Ok((key, Value::read(c, kind, key)?))
}

/// One tensor of the directory. Its type may be unknown here, its bytes may lie anywhere: only what binds it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// GGML's number of its type.
    pub dtype: u32,
    /// Where its bytes begin, from the start of the file's data.
    pub offset: u64,
    rank: usize,
    dims: [u64; MAX_DIMS],
}

impl<'a> TensorInfo<'a> {
    fn read(c: &mut Cursor<'a>) -> Result<Self> {
        let name = name(c, MAX_TENSOR_NAME)?;
        let bad = Error::BadShape { name: name.into() };
        let rank = c.u32()? as usize;
        let mut dims = [1; MAX_DIMS];
        for dim in dims.get_mut(..rank).filter(|d| !d.is_empty()).ok_or(bad)? {
            *dim = c.u64()?;
        }
        let elements = dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim)).ok_or(bad)?;
        if elements == 0 || elements > i64::MAX as u64 {
            return Err(bad);
        }
        Ok(Self { name, dtype: c.u32()?, offset: c.u64()?, rank, dims })
    }

    /// The dimensions as the file has them, fastest first: `[columns, rows, experts]`.
    pub fn dims(&self) -> &[u64] {
        self.dims.get(..self.rank).unwrap_or(&[])
    }

    /// The dimensions, fastest first, filled up with ones.
    pub const fn padded_dims(&self) -> [u64; MAX_DIMS] {
        self.dims
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }

    /// Its type, if this crate reads it from GGUF files.
    pub fn known_type(&self) -> Option<DType> {
        // The official checkpoint's types have numbers of this crate's own, which mean nothing in a file.
        DType::from_number(self.dtype).filter(|t| !matches!(t, DType::F8_E4M3 | DType::FP4_E2M1))
    }

    /// The bytes it takes; `None` for an unknown type, for rows that are not whole blocks, or past `u64`.
    pub fn bytes(&self) -> Option<u64> {
        let [cols, rows @ ..] = self.dims;
        rows.iter().try_fold(self.known_type()?.row_bytes(cols)?, |bytes, &n| bytes.checked_mul(n))
    }
}

/// One GGUF file: a view of its checked header.
#[derive(Clone, Copy)]
pub struct Gguf<'a> {
    bytes: &'a [u8],
    version: u32,
    key_count: u64,
    tensor_count: u64,
    keys_at: usize,
    tensors_at: usize,
    /// Where the tensors' bytes begin; past the end in a file cut after its header.
    data_at: u64,
    alignment: u32,
}

impl fmt::Debug for Gguf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GGUF v{}, {} keys, {} tensors", self.version, self.key_count, self.tensor_count)
    }
}

impl<'a> Gguf<'a> {
    /// Checks the header at the start of `bytes`. [`Error::Truncated`] where it goes on past their end (more of the
    /// file may help); any other error is final.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut c = Cursor::new(bytes);
        if c.array()? != *b"GGUF" {
            return Err(Error::NotGguf);
        }
        let version = c.u32()?;
        if !matches!(version, 2 | 3) {
            return Err(Error::UnsupportedVersion { version });
        }
        let tensor_count = count(&mut c, MIN_TENSOR)?;
        let key_count = count(&mut c, MIN_ENTRY)?;

        let keys_at = c.offset();
        let mut alignment = None;
        for _ in 0..key_count {
            let (key, value) = entry(&mut c)?;
            if key == "general.alignment" {
                let Value::U32(given) = value else { return Err(Error::BadValueType { key: key.into() }) };
                if !given.is_power_of_two() {
                    return Err(Error::BadValue { key: key.into() });
                }
                if alignment.replace(given).is_some() {
                    return Err(Error::DuplicateKey { key: key.into() });
                }
            }
        }
        let alignment = alignment.unwrap_or(DEFAULT_ALIGNMENT);

        let tensors_at = c.offset();
        for _ in 0..tensor_count {
            TensorInfo::read(&mut c)?;
        }
        // No overflow: a slice's length is below 2^63, the alignment at most 2^31.
        let data_at = (c.offset() as u64).next_multiple_of(alignment.into());
        Ok(Self { bytes, version, key_count, tensor_count, keys_at, tensors_at, data_at, alignment })
    }

    /// The format's version: 2 or 3.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The alignment of the tensors' bytes.
    pub const fn alignment(&self) -> u32 {
        self.alignment
    }

    /// Number of metadata entries.
    pub const fn key_count(&self) -> u64 {
        self.key_count
    }

    /// Number of tensors.
    pub const fn tensor_count(&self) -> u64 {
        self.tensor_count
    }

    /// Bytes before the tensors' data: a file's first bytes up to here are all that [`Gguf::parse`] needs.
    pub const fn header_bytes(&self) -> u64 {
        self.data_at
    }

    /// All metadata, in the file's order, doubled keys twice.
    pub fn metadata(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        let (mut c, mut left) = (Cursor::at(self.bytes, self.keys_at), self.key_count);
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            entry(&mut c).ok()
        })
    }

    /// All tensors, in the file's order, doubled names twice.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'a>> + use<'a> {
        let (mut c, mut left) = (Cursor::at(self.bytes, self.tensors_at), self.tensor_count);
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            TensorInfo::read(&mut c).ok()
        })
    }

    /// The values of `keys`, found in one pass over the metadata. [`Error::DuplicateKey`] if one is given twice.
    pub fn find<const N: usize>(&self, keys: &'static [&'static str; N]) -> Result<Found<'a, N>> {
        let mut values = [None; N];
        for (key, value) in self.metadata() {
            let Some((_, slot)) = keys.iter().zip(&mut values).find(|(wanted, _)| **wanted == key) else { continue };
            if slot.replace(value).is_some() {
                return Err(Error::DuplicateKey { key: key.into() });
            }
        }
        Ok(Found { keys, values })
    }

    /// Where the `bytes` bytes of `tensor` begin in the file. [`Error::BadOffset`] unless they start aligned and all
    /// lie within it.
    pub fn data_offset(&self, tensor: &TensorInfo<'_>, bytes: u64) -> Result<u64> {
        let bad = Error::BadOffset { name: Name::from(tensor.name) };
        let start = self.data_at.checked_add(tensor.offset).ok_or(bad)?;
        let end = start.checked_add(bytes).ok_or(bad)?;
        let aligned = tensor.offset.is_multiple_of(self.alignment.into());
        if aligned && end <= self.bytes.len() as u64 { Ok(start) } else { Err(bad) }
    }

    /// What the file says of its tokenizer. [`Error::DuplicateKey`] if it says so twice, [`Error::BadValueType`] if a
    /// value has another type than the key.
    pub fn tokenizer(&self) -> Result<Tokenizer<'a>> {
        let found = self.find(&TOKENIZER_KEYS)?;
        Ok(Tokenizer {
            model: found.get("tokenizer.ggml.model", Value::as_string)?,
            pre: found.get("tokenizer.ggml.pre", Value::as_string)?,
            tokens: found.get("tokenizer.ggml.tokens", Value::as_array)?,
            token_type: found.get("tokenizer.ggml.token_type", Value::as_array)?,
            merges: found.get("tokenizer.ggml.merges", Value::as_array)?,
            bos: found.get("tokenizer.ggml.bos_token_id", Value::as_u64)?,
            eos: found.get("tokenizer.ggml.eos_token_id", Value::as_u64)?,
            padding: found.get("tokenizer.ggml.padding_token_id", Value::as_u64)?,
            add_bos: found.get("tokenizer.ggml.add_bos_token", Value::as_bool)?,
            chat_template: found.get("tokenizer.chat_template", Value::as_string)?,
        })
    }
}

/// The keys that [`Gguf::tokenizer`] reads.
const TOKENIZER_KEYS: [&str; 10] = [
    "tokenizer.ggml.model",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.chat_template",
];

/// The values of some keys, as [`Gguf::find`] found them.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a, const N: usize> {
    keys: &'static [&'static str; N],
    values: [Option<Value<'a>>; N],
}

impl<'a, const N: usize> Found<'a, N> {
    /// The value of `key`, one of those asked for, as `read` sees it; `None` where the file does not have it.
    /// [`Error::BadValueType`] if it does and `read` refuses it.
    pub fn get<T>(&self, key: &str, read: impl FnOnce(&Value<'a>) -> Option<T>) -> Result<Option<T>> {
        let value = self.keys.iter().zip(&self.values).find(|(k, _)| **k == key).and_then(|(_, value)| value.as_ref());
        value.map(|v| read(v).ok_or(Error::BadValueType { key: key.into() })).transpose()
    }

    /// Like [`Self::get`]; [`Error::MissingKey`] where the file does not have it.
    pub fn need<T>(&self, key: &str, read: impl FnOnce(&Value<'a>) -> Option<T>) -> Result<T> {
        self.get(key, read)?.ok_or(Error::MissingKey { key: key.into() })
    }
}

/// The `tokenizer.*` metadata, as raw as it lies in the file: lengths, ids and texts are not checked here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tokenizer<'a> {
    /// Its kind: `gpt2` is byte-level BPE.
    pub model: Option<&'a [u8]>,
    /// Its pre-tokenizer.
    pub pre: Option<&'a [u8]>,
    /// The tokens' texts by id; strings, unless the file is hostile.
    pub tokens: Option<Array<'a>>,
    /// The tokens' types by id (1 normal, 3 control, 4 user-defined, 5 unused, ...); integers.
    pub token_type: Option<Array<'a>>,
    /// The merges by rank, `"left right"`; strings.
    pub merges: Option<Array<'a>>,
    /// The token that begins a text.
    pub bos: Option<u64>,
    /// The token that ends a text.
    pub eos: Option<u64>,
    /// The token that fills up.
    pub padding: Option<u64>,
    /// Whether every text begins with `bos`.
    pub add_bos: Option<bool>,
    /// The chat template.
    pub chat_template: Option<&'a [u8]>,
}
