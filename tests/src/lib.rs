//! What the tests share.

pub mod gguf_writer;
pub mod golden;
pub mod levels;
pub mod memory;
pub mod oracle;
pub mod synth;
pub mod synthetic;
