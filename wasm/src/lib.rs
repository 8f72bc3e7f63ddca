//! # dsv4-wasm: `dsv4-core` for JavaScript
//!
//! What a page, a worker, Node or Deno calls: **bytes** ([`Loader`]) stream into linear memory, where they stay,
//! **model** ([`Model`]), **tokenizer** ([`Tokenizer`], [`Decoder`]), **session** ([`Session`]) and **sampler**
//! ([`Sampler`]) tie the core's values to memory that they own. All calls are synchronous; `wasm/ts` makes an
//! asynchronous package of them, which runs them in a worker.
//!
//! Errors reach JavaScript as `Error` objects with the core's name and permanent number (`code`).
#![deny(unsafe_code)]
#![deny(missing_docs)]

mod error;
mod loader;
mod memory;
mod model;
mod object;
mod sampler;
mod session;
mod tokenizer;
mod trace;
mod types;

pub use loader::Loader;
pub use model::{Model, plan};
pub use sampler::Sampler;
pub use session::Session;
pub use tokenizer::{Decoder, Tokenizer};

use dsv4_core::arch::disjoint::{Parallel, Serial};
use dsv4_core::arch::level::Level;
use wasm_bindgen::prelude::wasm_bindgen;

/// The name of the instructions that this build uses.
#[wasm_bindgen]
pub fn level() -> String {
    Level::detect().kind().name().to_owned()
}

/// Who runs the parallel work.
fn parallel() -> &'static dyn Parallel {
    &Serial
}
