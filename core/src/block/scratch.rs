//! The activations of one batch: all that a pass needs beside weights and cache.

use super::indexer;
use crate::arena::Arena;
use crate::cache::ratio_shape;
use crate::config::{Config, Ratio};
use crate::error::{Error, Result};
use crate::kernel::MatmulMode;
use crate::kernel::acts::Q8Buffer;
use crate::session::SessionParams;

/// Activations of one batch of B tokens; each shape is named where the session's layers use it.
#[derive(Debug)]
pub struct Scratch<'a> {
    /// X [B, n, D]
    pub(super) streams: &'a mut [f32],
    /// [B, (2+n)*n]
    pub(super) mixes: &'a mut [f32],
    /// [B, D]: a block's input
    pub(super) h: &'a mut [f32],
    /// [B, D]: a block's output
    pub(super) y: &'a mut [f32],
    /// [B, q rank]
    pub(super) qr: &'a mut [f32],
    /// [B, d]
    pub(super) kv: &'a mut [f32],
    /// [B, H*d]
    pub(super) q: &'a mut [f32],
    /// [B, H*d]
    pub(super) attended: &'a mut [f32],
    /// [B, G*o rank]
    pub(super) grouped: &'a mut [f32],
    /// [B, c*d]
    pub(super) compress_values: &'a mut [f32],
    /// [B, c*d]
    pub(super) compress_gates: &'a mut [f32],
    /// [B, 2*indexer size]
    pub(super) index_values: &'a mut [f32],
    /// [B, 2*indexer size]
    pub(super) index_gates: &'a mut [f32],
    /// [B, indexer heads*indexer size]
    pub(super) index_queries: &'a mut [f32],
    /// [B, indexer heads]
    pub(super) index_weights: &'a mut [f32],
    /// [GROUP, context/4]
    pub(super) scores: &'a mut [f32],
    /// [B, top-k]
    pub(super) selected: &'a mut [u32],
    /// [B, E]
    pub(super) router: &'a mut [f32],
    /// [B, k]
    pub(super) experts: &'a mut [u32],
    /// [B, k]
    pub(super) expert_weights: &'a mut [f32],
    /// [B*k, I]
    pub(super) gate: &'a mut [f32],
    /// [B*k, I]
    pub(super) up: &'a mut [f32],
    /// [B*k, D]
    pub(super) down: &'a mut [f32],
    /// [B, I * shared]
    pub(super) shared_gate: &'a mut [f32],
    /// [B, I * shared]
    pub(super) shared_up: &'a mut [f32],
    /// [B*k]
    pub(super) slot_tokens: &'a mut [u32],
    /// [B*k]
    pub(super) slots: &'a mut [u32],
    /// 8-bit forms of h, qr, attended and grouped, one at a time
    pub(super) q8: Q8Buffer<'a>,
    /// of the experts' inner activations
    pub(super) inner_q8: Q8Buffer<'a>,
    /// of the shared expert's
    pub(super) shared_q8: Q8Buffer<'a>,
}

/// The product of sizes, or [`Error::TooLarge`].
fn product(sizes: &[usize]) -> Result<usize> {
    sizes.iter().try_fold(1usize, |p, &s| p.checked_mul(s)).ok_or(Error::TooLarge)
}

impl<'a> Scratch<'a> {
    /// Carves it, or counts.
    pub fn carve(arena: &mut Arena<'a>, c: &Config, params: &SessionParams) -> Result<Self> {
        let b = params.batch;
        let ratios = &c.ratios[..c.layers];
        let compressed = ratios.iter().filter_map(|&r| ratio_shape(r)).map(|(_, overlap)| overlap).max().unwrap_or(0);
        let sparse = usize::from(ratios.contains(&Ratio::Sparse));
        let floats = |arena: &mut Arena<'a>, sizes: &[usize]| -> Result<&'a mut [f32]> { arena.take(product(sizes)?) };
        let ints = |arena: &mut Arena<'a>, sizes: &[usize]| -> Result<&'a mut [u32]> { arena.take(product(sizes)?) };
        let a = arena;
        let padded = [
            product(&[b, Q8Buffer::padded(c.hidden)])?,
            product(&[b, Q8Buffer::padded(c.q_rank)])?,
            product(&[b, c.output_groups, Q8Buffer::padded(c.heads / c.output_groups * c.head_size)])?,
            product(&[b, Q8Buffer::padded(c.output_groups * c.output_rank)])?,
        ];
        let fast = usize::from(params.matmul == MatmulMode::Fast);
        let k = c.experts_used;
        let shared = product(&[c.expert_hidden, c.shared_experts])?;
        Ok(Self {
            streams: floats(a, &[b, c.streams, c.hidden])?,
            mixes: floats(a, &[b, 2 + c.streams, c.streams])?,
            h: floats(a, &[b, c.hidden])?,
            y: floats(a, &[b, c.hidden])?,
            qr: floats(a, &[b, c.q_rank])?,
            kv: floats(a, &[b, c.head_size])?,
            q: floats(a, &[b, c.heads, c.head_size])?,
            attended: floats(a, &[b, c.heads, c.head_size])?,
            grouped: floats(a, &[b, c.output_groups, c.output_rank])?,
            compress_values: floats(a, &[b, compressed, c.head_size])?,
            compress_gates: floats(a, &[b, compressed, c.head_size])?,
            index_values: floats(a, &[sparse, b, 2, c.indexer_size])?,
            index_gates: floats(a, &[sparse, b, 2, c.indexer_size])?,
            index_queries: floats(a, &[sparse, b, c.indexer_heads, c.indexer_size])?,
            index_weights: floats(a, &[sparse, b, c.indexer_heads])?,
            scores: floats(a, &[sparse, indexer::GROUP.min(b), indexer::score_stride(params.context)])?,
            selected: ints(a, &[sparse, b, c.indexer_top_k])?,
            router: floats(a, &[b, c.experts])?,
            experts: ints(a, &[b, k])?,
            expert_weights: floats(a, &[b, k])?,
            gate: floats(a, &[b, k, c.expert_hidden])?,
            up: floats(a, &[b, k, c.expert_hidden])?,
            down: floats(a, &[b, k, c.hidden])?,
            shared_gate: floats(a, &[b, shared])?,
            shared_up: floats(a, &[b, shared])?,
            slot_tokens: ints(a, &[b, k])?,
            slots: ints(a, &[b, k])?,
            q8: Q8Buffer::carve(a, fast * padded.into_iter().max().unwrap_or(0))?,
            inner_q8: Q8Buffer::carve(a, product(&[fast, b, k, Q8Buffer::padded(c.expert_hidden)])?)?,
            shared_q8: Q8Buffer::carve(a, product(&[fast, b, Q8Buffer::padded(shared)])?)?,
        })
    }
}
