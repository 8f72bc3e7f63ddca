//! Blocks: the mechanics of DeepSeek-V4, each over one batch of tokens.

pub mod attention;
pub mod compress;
pub mod experts;
pub mod hyper;
pub mod indexer;
pub mod layer;
pub mod observe;
pub mod router;
pub mod scratch;

use crate::kernel::Context;

/// Consecutive tokens evaluated together.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// Position of the first.
    pub start: usize,
    /// Their ids.
    pub tokens: &'a [u32],
    /// Kernels' context.
    pub cx: Context<'a>,
}

impl Batch<'_> {
    /// How many tokens.
    pub const fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Never, in a session; clippy asks.
    pub const fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}
