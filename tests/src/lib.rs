//! What the tests share.

pub mod gguf_writer;
pub mod memory;
pub mod synthetic;
