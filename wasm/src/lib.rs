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
#[cfg(target_feature = "atomics")]
mod threads;
mod tokenizer;
mod trace;
mod types;

pub use loader::Loader;
pub use model::{Model, plan};
pub use sampler::Sampler;
pub use session::Session;
#[cfg(target_feature = "atomics")]
pub use threads::work;
pub use tokenizer::{Decoder, Tokenizer};

use dsv4_core::arch::disjoint::Parallel;
use dsv4_core::arch::level::Level;
use wasm_bindgen::prelude::wasm_bindgen;

/// The name of the instructions that this build uses.
#[wasm_bindgen]
pub fn level() -> String {
    Level::detect().kind().name().to_owned()
}

/// Who runs the parallel work: the workers that share this memory, where the build has shared memory.
fn parallel() -> &'static dyn Parallel {
    #[cfg(target_feature = "atomics")]
    return threads::pool();
    #[cfg(not(target_feature = "atomics"))]
    &dsv4_core::arch::disjoint::Serial
}

/// Threads that run the parallel work.
#[wasm_bindgen]
pub fn threads() -> usize {
    parallel().threads()
}
