//! One layer, from its streams to its streams; the embedding before the first and the head after the last.

use super::attention::{self, Seen, attend};
use super::compress::compress;
use super::experts::{self, experts};
use super::indexer;
use super::observe::Observer;
use super::router::route;
use super::scratch::Scratch;
use super::{Batch, hyper};
use crate::cache::{LayerCache, ratio_shape};
use crate::config::Config;
use crate::error::Result;
use crate::kernel::Context;
use crate::kernel::acts::{Acts, Grid};
use crate::kernel::matmul::{Job, Region, Rows, matmul};
use crate::kernel::norm::rms_norm;
use crate::model::Model;
use crate::tensor::Matrix;
use crate::weights::{Head, Layer};

/// `X[i] = embed[token]` for every stream i.
pub fn embed(batch: &Batch<'_>, config: &Config, token_embd: &Matrix<'_>, s: &mut Scratch<'_>) {
    let hidden = config.hidden;
    for (streams, &token) in s.streams.chunks_mut(config.streams * hidden).zip(batch.tokens) {
        let (first, rest) = streams.split_at_mut(hidden);
        token_embd.decode(token as usize, 0, first);
        rest.chunks_mut(hidden).for_each(|stream| stream.copy_from_slice(first));
    }
}

/// Both half-blocks of layer `index`, each wrapped in its hyper-connection.
pub fn forward(
    batch: &Batch<'_>,
    model: &Model<'_>,
    index: usize,
    layer: &Layer<'_>,
    cache: &mut LayerCache<'_>,
    s: &mut Scratch<'_>,
    observer: &mut Option<&mut dyn Observer>,
) -> Result<()> {
    let config = model.config();
    let n = batch.len();
    let (streams, hidden) = (n * config.streams * config.hidden, n * config.hidden);
    let mixes = n * (2 + config.streams) * config.streams;

    let h = &mut s.h[..hidden];
    hyper::before(batch, config, &layer.hyper_attn, &layer.attn_norm, &s.streams[..streams], &mut s.mixes[..mixes], h);
    attention_block(batch, model, index, layer, cache, s);
    if let Some(observer) = observer {
        let selected = layer.indexer.map(|_| &s.selected[..n * config.indexer_top_k]);
        observer.attention(index, batch, &s.mixes[..mixes], selected);
    }
    hyper::after(batch, config, &s.mixes[..mixes], &s.y[..hidden], &mut s.streams[..streams]);

    let h = &mut s.h[..hidden];
    hyper::before(batch, config, &layer.hyper_ffn, &layer.ffn_norm, &s.streams[..streams], &mut s.mixes[..mixes], h);
    moe_block(batch, config, index, layer, s)?;
    if let Some(observer) = observer {
        let chosen = n * config.experts_used;
        observer.experts(index, batch, &s.mixes[..mixes], &s.experts[..chosen], &s.expert_weights[..chosen]);
    }
    hyper::after(batch, config, &s.mixes[..mixes], &s.y[..hidden], &mut s.streams[..streams]);
    Ok(())
}

/// y [tokens, D] = attention(h [tokens, D]).
fn attention_block(
    batch: &Batch<'_>,
    model: &Model<'_>,
    index: usize,
    layer: &Layer<'_>,
    cache: &mut LayerCache<'_>,
    s: &mut Scratch<'_>,
) {
    let config = model.config();
    let (cx, n) = (&batch.cx, batch.len());
    let weights = &layer.attention;
    let ratio = ratio_shape(config.ratios[index]);
    let rope = if ratio.is_some() { model.rope_compress() } else { model.rope_window() };
    let all = Rows::From(0);

    let qr = &mut s.qr[..n * config.q_rank];
    let kv = &mut s.kv[..n * config.head_size];
    let compress_width = layer.compressor.map_or(0, |c| c.kv.rows());
    let values = &mut s.compress_values[..n * compress_width];
    let gates = &mut s.compress_gates[..n * compress_width];
    let index_width = layer.indexer.map_or(0, |i| i.compressor.kv.rows());
    let index_values = &mut s.index_values[..n * index_width];
    let index_gates = &mut s.index_gates[..n * index_width];
    let (index_heads, index_size) =
        if layer.indexer.is_some() { (config.indexer_heads, config.indexer_size) } else { (0, 0) };
    let index_weights = &mut s.index_weights[..n * index_heads];

    // Every matrix that reads h, as one region.
    let compressors = [layer.compressor.as_ref(), layer.indexer.as_ref().map(|indexer| &indexer.compressor)];
    let readers = compressors.into_iter().flatten().flat_map(|c| [c.kv, c.gate]);
    let readers = readers.chain([weights.q_a, weights.kv]).chain(layer.indexer.as_ref().map(|indexer| indexer.proj));
    let grid = Grid::of(readers.map(|matrix| matrix.dtype()));
    let x = Acts::new(cx, &s.h[..n * config.hidden], config.hidden, grid, &mut s.q8);
    let mut region = Region::new(cx);
    region.push(Job::new(cx, weights.q_a, &x, all, &mut *qr));
    region.push(Job::new(cx, weights.kv, &x, all, &mut *kv));
    if let Some(compressor) = &layer.compressor {
        region.push(Job::new(cx, compressor.kv, &x, all, &mut *values));
        region.push(Job::new(cx, compressor.gate, &x, all, &mut *gates));
    }
    if let Some(indexer) = &layer.indexer {
        region.push(Job::new(cx, indexer.compressor.kv, &x, all, &mut *index_values));
        region.push(Job::new(cx, indexer.compressor.gate, &x, all, &mut *index_gates));
        region.push(Job::new(cx, indexer.proj, &x, all, &mut *index_weights));
    }
    region.run();

    for qr in qr.chunks_mut(config.q_rank) {
        rms_norm(qr, &weights.q_a_norm, config.rms_eps);
    }
    let q = &mut s.q[..n * config.heads * config.head_size];
    let index_queries = &mut s.index_queries[..n * index_heads * index_size];
    let grid = Grid::of([weights.q_b.dtype()].into_iter().chain(layer.indexer.as_ref().map(|i| i.q_b.dtype())));
    let x = Acts::new(cx, qr, config.q_rank, grid, &mut s.q8);
    let mut region = Region::new(cx);
    region.push(Job::new(cx, weights.q_b, &x, all, &mut *q));
    if let Some(indexer) = &layer.indexer {
        region.push(Job::new(cx, indexer.q_b, &x, all, &mut *index_queries));
    }
    region.run();

    attention::prepare_queries(batch, config, rope, q);
    attention::remember_keys(batch, config, &weights.kv_norm, rope, kv, (&mut cache.window, cache.ring));
    if let (Some(shape), Some(compressor), Some(cache)) = (ratio, &layer.compressor, &mut cache.compressor) {
        compress(batch, config, compressor, shape, rope, values, gates, cache);
    }
    let mut selected = None;
    if let (Some(shape), Some(indexer), Some(cache)) = (ratio, &layer.indexer, &mut cache.indexer) {
        compress(batch, config, &indexer.compressor, shape, rope, index_values, index_gates, cache);
        indexer::prepare(batch, config, rope, index_queries, index_weights);
        let keys = cache.entries.view();
        indexer::select(batch, config, &keys, index_queries, index_weights, s.scores, s.selected);
        selected = Some((&*s.selected, config.indexer_top_k));
    }

    let attended = &mut s.attended[..n * config.heads * config.head_size];
    let entries = cache.compressor.as_ref().zip(ratio).map(|(c, (m, _))| (c.entries.view(), m));
    let seen = Seen { window: cache.window.view(), ring: cache.ring, entries, selected };
    attend(batch, config, &weights.sinks, rope, &seen, q, attended);

    // Each group of heads through its own rows of output_a, then all through output_b.
    let groups = config.output_groups;
    let grouped = &mut s.grouped[..n * groups * config.output_rank];
    let x = Acts::new(cx, attended, weights.output_a.cols(), Grid::of([weights.output_a.dtype()]), &mut s.q8);
    matmul(cx, &mut [Job::new(cx, weights.output_a, &x, Rows::Groups(groups), grouped)]);
    let x = Acts::new(cx, grouped, groups * config.output_rank, Grid::of([weights.output_b.dtype()]), &mut s.q8);
    matmul(cx, &mut [Job::new(cx, weights.output_b, &x, all, &mut s.y[..n * config.hidden])]);
}

/// y [tokens, D] = moe(h [tokens, D]).
fn moe_block(batch: &Batch<'_>, config: &Config, index: usize, layer: &Layer<'_>, s: &mut Scratch<'_>) -> Result<()> {
    let n = batch.len();
    let k = config.experts_used;
    let (h, router) = (&s.h[..n * config.hidden], &mut s.router[..n * config.experts]);
    let (chosen, weights) = (&mut s.experts[..n * k], &mut s.expert_weights[..n * k]);
    route(batch, config, index, &layer.moe, h, router, chosen, weights)?;
    let shared_types = layer.moe.shared.as_ref().map(|shared| [shared.gate.dtype(), shared.up.dtype()]);
    let types = [layer.moe.gate.dtype(), layer.moe.up.dtype()].into_iter().chain(shared_types.into_iter().flatten());
    let x = Acts::new(&batch.cx, h, config.hidden, Grid::of(types), &mut s.q8);
    let shared = n * config.expert_hidden * config.shared_experts;
    let scratch = experts::Scratch {
        gate: &mut s.gate[..n * k * config.expert_hidden],
        up: &mut s.up[..n * k * config.expert_hidden],
        down: &mut s.down[..n * k * config.hidden],
        shared_gate: &mut s.shared_gate[..shared],
        shared_up: &mut s.shared_up[..shared],
        slot_tokens: &mut s.slot_tokens[..n * k],
        slots: &mut s.slots[..n * k],
        q8: &mut s.inner_q8,
        shared_q8: &mut s.shared_q8,
    };
    let y = &mut s.y[..n * config.hidden];
    experts(batch, config, index, &layer.moe, &x, (&*chosen, &*weights), scratch, y);
    Ok(())
}

/// The logits [rows, V] of the batch's tokens from `first` on, as many rows as `out` holds.
pub fn head(cx: &Context<'_>, config: &Config, head: &Head<'_>, first: usize, s: &mut Scratch<'_>, out: &mut [f32]) {
    let rows = out.len() / config.vocab;
    let width = config.streams * config.hidden;
    let h = &mut s.h[..rows * config.hidden];
    let streams = &s.streams[first * width..][..rows * width];
    hyper::head(cx, config, &head.hyper, &head.output_norm, streams, &mut s.mixes[..rows * config.streams], h);
    let x = Acts::new(cx, h, config.hidden, Grid::of([head.output.dtype()]), &mut s.q8);
    matmul(cx, &mut [Job::new(cx, head.output, &x, Rows::From(0), out)]);
}
