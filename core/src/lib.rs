//! # dsv4-core: DeepSeek-V4 inference over memory that the caller supplies
//!
//! `no_std`, no allocation, no globals, no environment. The way through the house, each layer knowing only those
//! to its left:
//!
//! **bytes** ([`bytes`], [`arena`], [`hash`], [`error`]) -> **views** ([`dtype`], [`quant`], [`tensor`], [`format`]) ->
//! **weights** ([`config`], [`weights`], [`model`]) -> **kernels** ([`kernel`], over [`arch`]) -> **blocks**
//! ([`block`], [`cache`]) -> **session** ([`session`]) -> **sampler** ([`sampler`]); [`token`] stands beside them.
//!
//! * A model file's bytes are borrowed, as one slice or several, and used where they lie at any alignment.
//! * Memory is planned, then carved: every structure that needs memory counts it exactly from headers alone, and then
//!   cuts it from a region of the caller's ([`arena::Arena`]).
//! * A [`model::Model`] is immutable and `Sync`; a [`session::Session`] is one mutable timeline.
//! * The same tokens give the same bits, however they are split into calls and whatever the number of threads.
//! * No panic is reachable from input: every failure is an [`error::Error`].
//!
//! The mathematics follow the technical report of DeepSeek-V4 as its reference implementations compute it; each block
//! states its formulas before its loops.
#![no_std]
#![deny(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod arch;
pub mod arena;
pub mod block;
pub mod bytes;
pub mod cache;
pub mod config;
pub mod dtype;
pub mod error;
pub mod format;
pub mod hash;
pub mod kernel;
pub mod model;
pub mod quant;
pub mod sampler;
pub mod session;
pub mod tensor;
pub mod token;
pub mod weights;
