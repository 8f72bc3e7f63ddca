//! The C ABI: `include/dsv4.h` is made from these files, one for each handle and its verbs.
//!
//! Every handle lies at the start of one region of memory, its caller's or an allocator's, and the core's structures
//! behind it: both ways of memory are the same code. Every function is checked arguments, one call of the core, and a
//! status; what pointers need is in `ptr`. A panic, which no input is meant to reach, ends the process at this
//! boundary, since `extern "C"` functions do not unwind.
#![allow(unsafe_code, reason = "for `#[unsafe(no_mangle)]` alone: tests/run looks")]
#![allow(non_camel_case_types, unreachable_pub, reason = "types have the header's names, and cbindgen wants `pub`")]

mod error;
mod log;
mod memory;
mod model;
mod sampler;
mod session;
mod status;
mod threads;
mod tokenizer;
