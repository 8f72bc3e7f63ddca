//! File formats: borrowed views of a model file's header, checked once, read where they lie.

pub mod gguf;
pub mod json;
pub mod split;
