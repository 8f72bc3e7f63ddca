//! A small writer of GGUF files: true ones, split ones, and ones that lie about anything.

/// The metadata value types' numbers.
pub mod kind {
    #![allow(missing_docs, reason = "each name is its type")]
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}

/// A metadata value: its type's number and its bytes as the file will have them.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// One of [`kind`], or a lie.
    pub kind: u32,
    /// The bytes after the type.
    pub bytes: Vec<u8>,
}

impl Value {
    /// A value of any type and bytes.
    pub fn raw(kind: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self { kind, bytes: bytes.into() }
    }

    /// An array that claims `len` elements of type `element`.
    pub fn raw_array(element: u32, len: u64, elements: &[u8]) -> Self {
        Self::raw(kind::ARRAY, [&element.to_le_bytes()[..], &len.to_le_bytes(), elements].concat())
    }

    /// An array of values, which must all have the first one's type.
    pub fn array(values: &[Value]) -> Self {
        let element = values.first().map_or(kind::U32, |v| v.kind);
        assert!(values.iter().all(|v| v.kind == element));
        let elements: Vec<u8> = values.iter().flat_map(|v| v.bytes.iter().copied()).collect();
        Self::raw_array(element, values.len() as u64, &elements)
    }
}

macro_rules! from_number {
    ($($type:ty => $kind:ident),+) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::raw(kind::$kind, value.to_le_bytes())
            }
        })+
    };
}
from_number!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, u64 => U64, i64 => I64,
             f64 => F64);

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::raw(kind::BOOL, [value.into()])
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::raw(kind::STRING, string(value.as_bytes()))
    }
}

impl<T: Copy + Into<Value>> From<&[T]> for Value {
    fn from(values: &[T]) -> Self {
        let values: Vec<Value> = values.iter().map(|&v| v.into()).collect();
        Self::array(&values)
    }
}

/// A string as the file has it: its length, then its bytes.
pub fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

/// One tensor to write.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name, UTF-8 or not.
    pub name: Vec<u8>,
    /// Fastest first.
    pub dims: Vec<u64>,
    /// GGML's type number.
    pub dtype: u32,
    /// Its bytes.
    pub data: Vec<u8>,
    /// The offset to claim instead of the true one.
    pub offset: Option<u64>,
    /// The number of dimensions to claim instead of the true one.
    pub rank: Option<u32>,
}

/// A GGUF file in the making.
#[derive(Clone, Debug)]
pub struct GgufWriter {
    /// 2 or 3, or a lie.
    pub version: u32,
    /// The alignment that data is laid out by; writing the key is up to the caller.
    pub alignment: usize,
    /// The metadata, in order.
    pub keys: Vec<(Vec<u8>, Value)>,
    /// The tensors, in order.
    pub tensors: Vec<Tensor>,
    /// The number of keys to claim instead of the true one.
    pub key_count: Option<u64>,
    /// The number of tensors to claim instead of the true one.
    pub tensor_count: Option<u64>,
}

impl Default for GgufWriter {
    fn default() -> Self {
        Self { version: 3, alignment: 32, keys: vec![], tensors: vec![], key_count: None, tensor_count: None }
    }
}

impl GgufWriter {
    /// Adds a key, doubled or not.
    pub fn key(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        self.keys.push((key.as_bytes().to_vec(), value.into()));
        self
    }

    /// Replaces a key's value, or adds it.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        match self.keys.iter_mut().find(|(k, _)| k == key.as_bytes()) {
            Some((_, slot)) => *slot = value.into(),
            None => return self.key(key, value),
        }
        self
    }

    /// Removes a key, which must be there.
    pub fn remove(&mut self, key: &str) -> &mut Self {
        let count = self.keys.len();
        self.keys.retain(|(k, _)| k != key.as_bytes());
        assert!(self.keys.len() < count, "no key {key}");
        self
    }

    /// Adds a tensor.
    pub fn tensor(&mut self, name: &str, dtype: u32, dims: &[u64], data: Vec<u8>) -> &mut Self {
        let (name, dims) = (name.as_bytes().to_vec(), dims.to_vec());
        self.tensors.push(Tensor { name, dims, dtype, data, offset: None, rank: None });
        self
    }

    /// A tensor to change, which must be there.
    pub fn tensor_mut(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.name == name.as_bytes()).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// Removes a tensor, which must be there.
    pub fn remove_tensor(&mut self, name: &str) -> &mut Self {
        let count = self.tensors.len();
        self.tensors.retain(|t| t.name != name.as_bytes());
        assert!(self.tensors.len() < count, "no tensor {name}");
        self
    }

    /// The file's bytes.
    pub fn build(&self) -> Vec<u8> {
        let (header, data) = self.build_parts();
        [header, data].concat()
    }

    /// The header, padded, and the tensors' data.
    pub fn build_parts(&self) -> (Vec<u8>, Vec<u8>) {
        let mut header = b"GGUF".to_vec();
        header.extend(self.version.to_le_bytes());
        header.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        header.extend(self.key_count.unwrap_or(self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            header.extend(string(key));
            header.extend(value.kind.to_le_bytes());
            header.extend(&value.bytes);
        }
        let mut data = vec![];
        for tensor in &self.tensors {
            header.extend(string(&tensor.name));
            header.extend(tensor.rank.unwrap_or(tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|dim| header.extend(dim.to_le_bytes()));
            header.extend(tensor.dtype.to_le_bytes());
            header.extend(tensor.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&tensor.data);
            data.resize(data.len().next_multiple_of(self.alignment), 0);
        }
        header.resize(header.len().next_multiple_of(self.alignment), 0);
        (header, data)
    }

    /// The same model as `parts` files, with the tensors dealt out in runs: metadata in the first, as llama.cpp does.
    pub fn split(&self, parts: usize) -> Vec<GgufWriter> {
        let run = self.tensors.len().div_ceil(parts).max(1);
        let mut chunks = self.tensors.chunks(run);
        (0..parts)
            .map(|part| {
                let mut file = Self { keys: vec![], tensors: vec![], ..self.clone() };
                if part == 0 {
                    file.keys = self.keys.clone();
                }
                file.key("split.no", part as u16);
                file.key("split.count", parts as u16);
                file.key("split.tensors.count", self.tensors.len() as i32);
                file.tensors = chunks.next().unwrap_or(&[]).to_vec();
                file
            })
            .collect()
    }
}
