//! # dsv4: the std host of `dsv4-core`
//!
//! The core computes over memory, bytes and threads that its caller brings; this crate brings them on an operating
//! system: **files** ([`mod@file`], mapped), **memory** ([`memory`]), **threads** ([`pool`]), and ties them to the core's
//! model, session and tokenizer as values that own what they borrow ([`host`]). The C ABI and the `dsv4` command are
//! thin over the same layer.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use dsv4::host::{Generate, Model, Session};
//! let model = Model::open("model.gguf".as_ref())?;
//! let prompt = model.tokenizer()?.encode("Once upon a time", false)?;
//! let mut session = Session::new(model, &dsv4::SessionParams::new(4096), dsv4::pool::Pool::physical())?;
//! Generate::new(256).run(&mut session, &prompt, &mut |event| {
//!     print!("{}", event.text());
//!     true
//! })?;
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]
#![deny(missing_docs)]

mod abi;
pub mod cost;
pub mod file;
pub mod host;
pub mod memory;
pub mod pool;
mod ptr;

pub use dsv4_core as core;
pub use dsv4_core::cache::CacheFormat;
pub use dsv4_core::error::{Error, Result};
pub use dsv4_core::kernel::MatmulMode;
pub use dsv4_core::sampler::{Sampler, Sampling};
pub use dsv4_core::session::{Logits, Progress, SessionParams};
