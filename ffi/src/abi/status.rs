//! The one enum of statuses, and what the library is.

use dsv4_core::error::Error;
use std::ffi::{CStr, c_char};

/// What came of a call. The numbers are permanent and the same in every language; new ones may be added.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dsv4_status {
    /// All went well: the outputs are written.
    DSV4_OK = 0,
    /// The file ends early.
    DSV4_TRUNCATED = 1,
    /// Not a GGUF file.
    DSV4_NOT_GGUF = 2,
    /// A GGUF version other than 2 and 3.
    DSV4_UNSUPPORTED_VERSION = 3,
    /// A count or length that cannot be true of these bytes.
    DSV4_BAD_COUNT = 4,
    /// A key or tensor name that is not valid.
    DSV4_BAD_NAME = 5,
    /// A metadata value of a wrong or unknown type.
    DSV4_BAD_VALUE_TYPE = 6,
    /// A metadata value that makes no sense.
    DSV4_BAD_VALUE = 7,
    /// A metadata key that is needed and missing.
    DSV4_MISSING_KEY = 8,
    /// A metadata key given twice.
    DSV4_DUPLICATE_KEY = 9,
    /// Another architecture than deepseek4.
    DSV4_UNSUPPORTED_ARCHITECTURE = 10,
    /// A JSON text that is not valid.
    DSV4_BAD_JSON = 11,
    /// A tensor that is needed and missing.
    DSV4_MISSING_TENSOR = 20,
    /// A tensor given twice.
    DSV4_DUPLICATE_TENSOR = 21,
    /// A tensor whose shape is not the one that the sizes demand.
    DSV4_BAD_SHAPE = 22,
    /// A tensor of a type that does not exist, is not supported, or does not fit.
    DSV4_BAD_TENSOR_TYPE = 23,
    /// A tensor whose bytes lie outside the file, are unaligned, or overlap another's.
    DSV4_BAD_OFFSET = 24,
    /// Split files that are missing, doubled, out of order or of different models.
    DSV4_BAD_SPLIT = 25,
    /// Memory or an output too small (`need` of dsv4_error says how much), or the allocator has none.
    DSV4_MEMORY_TOO_SMALL = 40,
    /// Memory that does not start at a multiple of 64.
    DSV4_MEMORY_MISALIGNED = 41,
    /// Sizes that this machine's address space cannot hold.
    DSV4_TOO_LARGE = 42,
    /// An argument that makes no sense: NULL, misaligned, a wrong length, a handle that was freed.
    DSV4_BAD_ARGUMENT = 50,
    /// A token outside the vocabulary.
    DSV4_BAD_TOKEN = 51,
    /// More tokens than the session's context holds.
    DSV4_CONTEXT_FULL = 52,
    /// A callback or dsv4_session_cancel stopped it; what was evaluated before stays valid.
    DSV4_CANCELLED = 53,
    /// The hash table of a routing layer names an expert that does not exist.
    DSV4_BAD_EXPERT = 54,
    /// Rewinding further back than the session keeps.
    DSV4_CANNOT_REWIND = 55,
    /// Something that this build does not have.
    DSV4_UNSUPPORTED = 56,
    /// The file has no byte-level BPE tokenizer.
    DSV4_NO_TOKENIZER = 70,
    /// A pre-tokenizer that is not supported.
    DSV4_UNSUPPORTED_PRE_TOKENIZER = 71,
    /// A token or merge rule that is not valid.
    DSV4_BAD_VOCABULARY = 72,
    /// The bytes are not a snapshot.
    DSV4_NOT_SNAPSHOT = 80,
    /// A snapshot of a version that this library does not know.
    DSV4_UNSUPPORTED_SNAPSHOT = 81,
    /// A snapshot that ends early, goes on too long, was changed, or contradicts itself.
    DSV4_SNAPSHOT_DAMAGED = 82,
    /// A snapshot of another model.
    DSV4_SNAPSHOT_OF_OTHER_MODEL = 83,
    /// A snapshot of a session with another `matmul` or `cache`.
    DSV4_SNAPSHOT_OF_OTHER_NUMBERS = 84,
    /// The operating system refused.
    DSV4_IO = 90,
    /// The handle is used by another call at this moment, or other handles still depend on it.
    DSV4_BUSY = 91,
}

use dsv4_status::*;

/// Every status and its name.
const ALL: [(dsv4_status, &CStr); 38] = [
    (DSV4_OK, c"DSV4_OK"),
    (DSV4_TRUNCATED, c"DSV4_TRUNCATED"),
    (DSV4_NOT_GGUF, c"DSV4_NOT_GGUF"),
    (DSV4_UNSUPPORTED_VERSION, c"DSV4_UNSUPPORTED_VERSION"),
    (DSV4_BAD_COUNT, c"DSV4_BAD_COUNT"),
    (DSV4_BAD_NAME, c"DSV4_BAD_NAME"),
    (DSV4_BAD_VALUE_TYPE, c"DSV4_BAD_VALUE_TYPE"),
    (DSV4_BAD_VALUE, c"DSV4_BAD_VALUE"),
    (DSV4_MISSING_KEY, c"DSV4_MISSING_KEY"),
    (DSV4_DUPLICATE_KEY, c"DSV4_DUPLICATE_KEY"),
    (DSV4_UNSUPPORTED_ARCHITECTURE, c"DSV4_UNSUPPORTED_ARCHITECTURE"),
    (DSV4_BAD_JSON, c"DSV4_BAD_JSON"),
    (DSV4_MISSING_TENSOR, c"DSV4_MISSING_TENSOR"),
    (DSV4_DUPLICATE_TENSOR, c"DSV4_DUPLICATE_TENSOR"),
    (DSV4_BAD_SHAPE, c"DSV4_BAD_SHAPE"),
    (DSV4_BAD_TENSOR_TYPE, c"DSV4_BAD_TENSOR_TYPE"),
    (DSV4_BAD_OFFSET, c"DSV4_BAD_OFFSET"),
    (DSV4_BAD_SPLIT, c"DSV4_BAD_SPLIT"),
    (DSV4_MEMORY_TOO_SMALL, c"DSV4_MEMORY_TOO_SMALL"),
    (DSV4_MEMORY_MISALIGNED, c"DSV4_MEMORY_MISALIGNED"),
    (DSV4_TOO_LARGE, c"DSV4_TOO_LARGE"),
    (DSV4_BAD_ARGUMENT, c"DSV4_BAD_ARGUMENT"),
    (DSV4_BAD_TOKEN, c"DSV4_BAD_TOKEN"),
    (DSV4_CONTEXT_FULL, c"DSV4_CONTEXT_FULL"),
    (DSV4_CANCELLED, c"DSV4_CANCELLED"),
    (DSV4_BAD_EXPERT, c"DSV4_BAD_EXPERT"),
    (DSV4_CANNOT_REWIND, c"DSV4_CANNOT_REWIND"),
    (DSV4_UNSUPPORTED, c"DSV4_UNSUPPORTED"),
    (DSV4_NO_TOKENIZER, c"DSV4_NO_TOKENIZER"),
    (DSV4_UNSUPPORTED_PRE_TOKENIZER, c"DSV4_UNSUPPORTED_PRE_TOKENIZER"),
    (DSV4_BAD_VOCABULARY, c"DSV4_BAD_VOCABULARY"),
    (DSV4_NOT_SNAPSHOT, c"DSV4_NOT_SNAPSHOT"),
    (DSV4_UNSUPPORTED_SNAPSHOT, c"DSV4_UNSUPPORTED_SNAPSHOT"),
    (DSV4_SNAPSHOT_DAMAGED, c"DSV4_SNAPSHOT_DAMAGED"),
    (DSV4_SNAPSHOT_OF_OTHER_MODEL, c"DSV4_SNAPSHOT_OF_OTHER_MODEL"),
    (DSV4_SNAPSHOT_OF_OTHER_NUMBERS, c"DSV4_SNAPSHOT_OF_OTHER_NUMBERS"),
    (DSV4_IO, c"DSV4_IO"),
    (DSV4_BUSY, c"DSV4_BUSY"),
];

impl From<Error> for dsv4_status {
    fn from(error: Error) -> Self {
        let same = |status: &&(Self, &CStr)| u32::try_from(status.0 as i32) == Ok(error.code());
        // The test below sees to it that none is missing.
        ALL.iter().find(same).map_or(DSV4_UNSUPPORTED, |status| status.0)
    }
}

/// The name of `status`, e.g. "DSV4_NOT_GGUF"; "unknown status" for other numbers. Static; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_status_name(status: i32) -> *const c_char {
    ALL.iter().find(|(s, _)| *s as i32 == status).map_or(c"unknown status", |(_, name)| name).as_ptr()
}

/// The version of the ABI that this header describes. It changes only if a program compiled against an older header
/// would break: functions, statuses and fields at the ends of structs are added without it.
pub const DSV4_ABI_VERSION: u32 = 1;

/// The library's DSV4_ABI_VERSION: a program that loads it at run time compares it with its header's. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_abi_version() -> u32 {
    DSV4_ABI_VERSION
}

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

/// The library's version, e.g. "0.1.0". Static; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsv4_version() -> *const c_char {
    VERSION.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_numbers_and_names_of_the_core() {
        let screaming = |camel: &str| {
            let mut name = String::from("DSV4");
            for c in camel.chars() {
                if c.is_ascii_uppercase() {
                    name.push('_');
                }
                name.push(c.to_ascii_uppercase());
            }
            name
        };
        let core = Error::ALL.iter().map(|&(code, name)| (code as i32, screaming(name)));
        let expected: Vec<_> = std::iter::once((0, "DSV4_OK".to_owned())).chain(core).collect();
        let ours: Vec<_> = ALL.iter().map(|(s, name)| (*s as i32, name.to_str().unwrap().to_owned())).collect();
        assert_eq!(ours, expected);
        for (status, name) in ALL {
            assert_eq!(format!("{status:?}"), name.to_str().unwrap());
        }
    }
}
