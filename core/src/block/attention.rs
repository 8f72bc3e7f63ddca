//! Hybrid attention: one shared key-value head, a sliding window, compressed entries, a learned sink.
//!
//! ```text
//! q_h = rope(q_h / rms(q_h));   o_h = sum_j p_j k_j,  p = softmax over the seen k_j of (q_h . k_j / sqrt(d)), and sink_h
//! o_h's last r dims are rotated back by -t: the values carried rotary phase
//! ```
//! The seen keys are the window's, oldest first, then the entries in ascending order. The softmax runs over tiles of
//! 16 keys counted from the first: the order of every addition follows from the position alone.

use super::Batch;
use super::indexer::visible;
use crate::arch::disjoint::{for_each_chunk, for_each_chunk2};
use crate::cache::{Entries, EntriesMut};
use crate::config::Config;
use crate::kernel::math::{self, dot4, exp, weighted_sum};
use crate::kernel::norm::{rms_norm, rms_norm_plain};
use crate::kernel::rope::Rotation;
use crate::weights::Vector;

/// Keys of one step of the softmax: sixteen of 512 values fit the first cache.
const TILE: usize = 16;

/// Heads that one task computes.
const HEADS: usize = 8;

/// Normalizes and rotates the queries [tokens, H, d], in place.
pub fn prepare_queries(batch: &Batch<'_>, config: &Config, rope: &[f64], queries: &mut [f32]) {
    let size = config.head_size;
    for_each_chunk(batch.cx.parallel, queries, config.heads * size, |t, query| {
        let rotation = Rotation::new(batch.start + t, rope);
        for head in query.chunks_mut(size) {
            batch.cx.level.vectorize(
                #[inline(always)]
                || rms_norm_plain(head, config.rms_eps),
            );
            rotation.apply(head);
        }
    });
}

/// Normalizes and rotates the keys [tokens, d] and stores them in the window's ring.
pub fn remember_keys(
    batch: &Batch<'_>,
    config: &Config,
    norm: &Vector<'_>,
    rope: &[f64],
    keys: &mut [f32],
    (window, ring): (&mut EntriesMut<'_>, usize),
) {
    let size = config.head_size;
    for (t, key) in keys.chunks_mut(size).enumerate() {
        rms_norm(key, norm, config.rms_eps);
        Rotation::new(batch.start + t, rope).apply(key);
        window.set((batch.start + t) % ring, key);
    }
}

/// What the queries of a batch see.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// The window's ring.
    pub window: Entries<'a>,
    /// Its rows.
    pub ring: usize,
    /// Entries and their ratio m.
    pub entries: Option<(Entries<'a>, usize)>,
    /// For ratio 4: the indexer's choice [tokens, k], meaningful for tokens that see more than k entries.
    pub selected: Option<(&'a [u32], usize)>,
}

impl Seen<'_> {
    /// (keys of the window, keys of the entries) that the query at `position` sees.
    fn counts(&self, config: &Config, position: usize) -> (usize, usize) {
        let entries = self.entries.map_or(0, |(_, m)| visible(position, m));
        let kept = self.selected.map_or(entries, |(_, k)| entries.min(k));
        ((position + 1).min(config.window), kept)
    }
}

/// The keys that one query sees, in their order.
struct Keys<'a> {
    seen: &'a Seen<'a>,
    /// The query's token in the batch, and its position.
    t: usize,
    position: usize,
    /// [`Seen::counts`]
    counts: (usize, usize),
}

impl Keys<'_> {
    const fn len(&self) -> usize {
        self.counts.0 + self.counts.1
    }

    /// Key `j` [d]: the window's, then the entries'.
    #[inline(always)]
    fn get(&self, j: usize) -> &[f32] {
        let (in_window, kept) = self.counts;
        if j < in_window {
            return self.seen.window.get((self.position + 1 - in_window + j) % self.seen.ring);
        }
        let Some((entries, m)) = &self.seen.entries else { return &[] };
        let mut entry = j - in_window;
        if let Some((selected, k)) = self.seen.selected
            && visible(self.position, *m) > kept
        {
            entry = selected[self.t * k + entry] as usize;
        }
        entries.get(entry)
    }
}

/// Attends with the queries [tokens, H, d]; writes [tokens, H, d] to `out`, rotated back.
pub fn attend(
    batch: &Batch<'_>,
    config: &Config,
    sinks: &Vector<'_>,
    rope: &[f64],
    seen: &Seen<'_>,
    queries: &mut [f32],
    out: &mut [f32],
) {
    let (size, heads) = (config.head_size, config.heads);
    // Heads of one task: a divisor of H, so that no task crosses a token.
    let group = (1..=HEADS.min(heads)).rev().find(|g| heads % g == 0).unwrap_or(1);
    for_each_chunk2(batch.cx.parallel, (out, group * size), (queries, group * size), |i, out, queries| {
        let (t, first_head) = (i * group / heads, i * group % heads);
        let position = batch.start + t;
        // Running (maximum, sum) of each head's softmax: the sink is a key without a value.
        let mut state = [(0.0f32, 1.0f32); HEADS];
        for (h, state) in state[..group].iter_mut().enumerate() {
            state.0 = sinks.value(0, first_head + h);
        }
        let keys = Keys { seen, t, position, counts: seen.counts(config, position) };
        batch.cx.level.vectorize(
            #[inline(always)]
            || attend_heads(&keys, queries, size, &mut state, out),
        );
        let back = Rotation::new(position, rope).inverse();
        for (out, (_, sum)) in out.chunks_mut(size).zip(state) {
            let inverse = 1.0 / sum;
            out.iter_mut().for_each(|o| *o *= inverse);
            back.apply(out);
        }
    });
}

/// `out_h = sum_j exp(q_h . k_j / sqrt(d) - max_h) k_j` for a few heads [heads, d], tile by tile; the state is left at
/// each head's (maximum, sum).
#[inline(always)]
fn attend_heads(keys: &Keys<'_>, queries: &[f32], size: usize, state: &mut [(f32, f32); HEADS], out: &mut [f32]) {
    let scale = 1.0 / libm::sqrtf(size as f32);
    out.fill(0.0);
    for start in (0..keys.len()).step_by(TILE) {
        let n = TILE.min(keys.len() - start);
        // A tile that is not full repeats its last key, and forgets what comes of that.
        let tile: [&[f32]; TILE] = core::array::from_fn(|j| keys.get(start + j.min(n - 1)));
        let heads = queries.chunks(size).zip(&mut *state).zip(out.chunks_mut(size));
        for ((query, (max, sum)), out) in heads {
            let mut p = [0.0; TILE];
            for (p, keys) in p.as_chunks_mut().0.iter_mut().zip(tile.as_chunks().0) {
                *p = dot4(query, *keys);
            }
            p.iter_mut().for_each(|p| *p *= scale);
            let new_max = math::max(*max, &p[..n]);
            let correction = exp(*max - new_max);
            *max = new_max;
            p.iter_mut().for_each(|p| *p = exp(*p - new_max));
            *sum *= correction;
            p[..n].iter().for_each(|p| *sum += p);
            weighted_sum(correction, &p[..n], &tile[..n], out);
        }
    }
}
