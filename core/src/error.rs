//! One error type for every layer and every language: a `Copy` enum whose numbers never change.

use core::fmt;

/// A tensor's or key's name inside an error: a copy of its first bytes, so that errors borrow nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    len: u8,
    bytes: [u8; Self::MAX],
}

impl Name {
    /// Bytes kept; GGUF's tensor names are at most 64 bytes long and DeepSeek-V4's shorter than 48.
    pub const MAX: usize = 55;

    /// The first [`Self::MAX`] bytes of `name`, cut at a character boundary; bytes that are not UTF-8 end it.
    pub fn new(name: &[u8]) -> Self {
        let kept = &name[..name.len().min(Self::MAX)];
        let valid = match core::str::from_utf8(kept) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let mut bytes = [0; Self::MAX];
        bytes[..valid].copy_from_slice(&kept[..valid]);
        Self { len: valid as u8, bytes }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("")
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self::new(name.as_bytes())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    /// Control characters of a hostile name are escaped: an error is always one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.as_str().chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

/// Declares [`Error`]: number, variant, fields, message. A number once given is never used again for anything else.
macro_rules! errors {
    ($($(#[$doc:meta])+ $code:literal $variant:ident $({ $($field:ident: $type:ty),+ })? => $message:literal;)+) => {
        /// What went wrong, and where. `Copy`, with permanent numbers ([`Error::code`]) shared by Rust, C and JavaScript.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "fields are named in the variant's own sentence")]
        pub enum Error {
            $($(#[$doc])+ $variant $({ $($field: $type),+ })?,)+
        }

        impl Error {
            /// The permanent number of this error; 0 is never used (it means success in C).
            pub const fn code(&self) -> u32 {
                match self { $(Self::$variant { .. } => $code,)+ }
            }

            /// The variant's name, e.g. `"MissingTensor"`.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant { .. } => stringify!($variant),)+ }
            }

            /// Every (number, name), in order.
            pub const ALL: &'static [(u32, &'static str)] = &[$(($code, stringify!($variant)),)+];
        }

        impl fmt::Display for Error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$variant $({ $($field),+ })? => write!(f, $message),)+ }
            }
        }
    };
}

errors! {
    // Bytes: 1-19.
    /// The bytes end before what they announce; `at` is the offset where more was needed.
    1 Truncated { at: u64 } => "the file ends early: more bytes are needed at offset {at}";
    /// The first bytes are not those of a GGUF file.
    2 NotGguf => "not a GGUF file";
    /// A GGUF version other than 2 and 3.
    3 UnsupportedVersion { version: u32 } => "GGUF version {version} is not supported (2 and 3 are)";
    /// A count or length that cannot be true of these bytes.
    4 BadCount { at: u64, count: u64 } => "impossible count {count} at offset {at}";
    /// A key or tensor name that is not valid (empty, too long, or not UTF-8).
    5 BadName { at: u64 } => "invalid name at offset {at}";
    /// A metadata value of a type that does not exist, or of another type than this key has.
    6 BadValueType { key: Name } => "metadata {key}: wrong or unknown value type";
    /// A metadata value that makes no sense, alone or beside the others.
    7 BadValue { key: Name } => "metadata {key}: invalid value";
    /// A metadata key that is needed and missing.
    8 MissingKey { key: Name } => "metadata {key} is missing";
    /// A metadata key given twice.
    9 DuplicateKey { key: Name } => "metadata {key} is given twice";
    /// Another architecture, refused by its name.
    10 UnsupportedArchitecture { name: Name } => "architecture '{name}' is not supported (deepseek4 is)";
    /// A JSON text that is not valid, or deeper or longer than the limits.
    11 BadJson { at: u64 } => "invalid JSON at offset {at}";

    // Tensors: 20-39.
    /// A tensor that the model needs and no file has.
    20 MissingTensor { name: Name } => "tensor {name} is missing";
    /// A tensor given twice.
    21 DuplicateTensor { name: Name } => "tensor {name} is given twice";
    /// A tensor whose shape is not the one that the sizes demand.
    22 BadShape { name: Name } => "tensor {name}: wrong shape";
    /// A tensor of a type that does not exist, is not supported, or does not fit here.
    23 BadTensorType { name: Name, dtype: u32 } => "tensor {name}: unsupported type {dtype}";
    /// A tensor whose bytes are unaligned, outside the file, or over another tensor's.
    24 BadOffset { name: Name } => "tensor {name}: its bytes lie outside the file or are unaligned";
    /// Split files that are missing, doubled, out of order or of different models.
    25 BadSplit { part: u32 } => "split {part}: missing, doubled, out of order or of another model";

    // Memory: 40-49.
    /// The caller's region is too small: `need` bytes in all.
    40 MemoryTooSmall { need: u64, got: u64 } => "memory too small: {need} bytes are needed, {got} were given";
    /// The caller's region does not start at a multiple of `align`.
    41 MemoryMisaligned { align: u32 } => "memory must start at a multiple of {align} bytes";
    /// A size that this machine's address space cannot hold.
    42 TooLarge => "sizes exceed this machine's address space";

    // Use: 50-69.
    /// An argument that makes no sense; `what` says which.
    50 BadArgument { what: &'static str } => "invalid argument: {what}";
    /// A token id at or past the vocabulary's end.
    51 BadToken { token: u32 } => "token {token} is outside the vocabulary";
    /// More tokens than the session's context holds.
    52 ContextFull { context: u32 } => "the context of {context} tokens is full";
    /// The progress callback asked to stop; what was evaluated before stays valid.
    53 Cancelled => "cancelled";
    /// The hash table of a routing layer names an expert that does not exist.
    54 BadExpert { layer: u32, expert: i32 } => "layer {layer}: the hash table names expert {expert}, which does not exist";
    /// Rewinding further back than the session keeps.
    55 CannotRewind { oldest: u32 } => "cannot go back further than position {oldest}";
    /// A feature that this build or level does not have.
    56 Unsupported { what: &'static str } => "not supported: {what}";

    // Tokenizer: 70-79.
    /// The file has no tokenizer, or one of another kind.
    70 NoTokenizer => "the file has no byte-level BPE tokenizer";
    /// A pre-tokenizer other than `joyai-llm` and `deepseek-v3`.
    71 UnsupportedPreTokenizer { name: Name } => "pre-tokenizer '{name}' is not supported";
    /// A token or merge rule that is not valid.
    72 BadVocabulary { index: u32 } => "tokenizer: entry {index} is invalid";

    // Snapshots: 80-89.
    /// The first bytes are not those of a snapshot.
    80 NotSnapshot => "not a snapshot of a session";
    /// A snapshot of a version that this library does not know.
    81 UnsupportedSnapshot { version: u32 } => "snapshots of version {version} are not supported (1 is)";
    /// A snapshot that ends early, goes on too long, was changed, or contradicts itself.
    82 SnapshotDamaged => "the snapshot is damaged or incomplete";
    /// A snapshot of another model.
    83 SnapshotOfOtherModel => "the snapshot is of another model";
    /// A snapshot of a session that computes or stores its numbers in another way; `what` says which.
    84 SnapshotOfOtherNumbers { what: &'static str } => "the snapshot is of a session with another {what}";

    // Host: 90-99 (core itself never returns these). From 100 on: the web package.
    /// The operating system refused; `os` is its error number.
    90 Io { os: i32 } => "the operating system reported error {os}";
    /// Another call uses the same object at this moment, or other objects still depend on it.
    91 Busy => "in use by another call or by dependent objects";
}

impl core::error::Error for Error {}

/// The result of every fallible call.
pub type Result<T> = core::result::Result<T, Error>;
