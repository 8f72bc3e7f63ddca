//! Hybrid attention: one shared key-value head, a sliding window, compressed entries, a learned sink.
//!
//! ```text
//! q_h = rope(q_h / rms(q_h));   o_h = sum_j p_j k_j,  p = softmax over the seen k_j of (q_h . k_j / sqrt(d)), and sink_h
//! o_h's last r dims are rotated back by -t: the values carried rotary phase
//! ```
//! The seen keys are the window's, oldest first, then the entries in ascending order. The softmax runs over tiles of
//! 8 keys counted from the first: the order of every addition follows from the position alone.

use super::Batch;
use super::indexer::visible;
use crate::arch::disjoint::{for_each_chunk, for_each_chunk2};
use crate::arch::float::{dots, weighted_sums};
use crate::arch::level::Level;
use crate::cache::{Entries, EntriesMut};
use crate::config::{Config, MAX_HEAD_SIZE};
use crate::kernel::math::{self, exp};
use crate::kernel::norm::{rms_norm, rms_norm_plain};
use crate::kernel::rope::Rotation;
use crate::weights::Vector;

/// Keys of one step of the softmax: eight of 512 values leave room in the first cache for a query and its output.
const TILE: usize = 8;

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
        // The sink is a key without a value.
        let mut softmax = Softmax { max: [0.0; HEADS], sum: [1.0; HEADS] };
        for (h, max) in softmax.max[..group].iter_mut().enumerate() {
            *max = sinks.value(0, first_head + h);
        }
        let keys = Keys { seen, t, position, counts: seen.counts(config, position) };
        batch.cx.level.vectorize(
            #[inline(always)]
            || attend_heads(batch.cx.level, &keys, queries, size, &mut softmax, out),
        );
        let back = Rotation::new(position, rope).inverse();
        for (out, sum) in out.chunks_mut(size).zip(softmax.sum) {
            let inverse = 1.0 / sum;
            out.iter_mut().for_each(|o| *o *= inverse);
            back.apply(out);
        }
    });
}

/// The running softmax of a few heads.
struct Softmax {
    /// The largest logit so far.
    max: [f32; HEADS],
    /// `sum_j exp(logit_j - max)`
    sum: [f32; HEADS],
}

impl Softmax {
    /// Takes the first `n` logits of each head's row and leaves `exp(logit - max)` in their place. Gives what the sums
    /// before them are to be multiplied by.
    #[inline(always)]
    fn update(&mut self, logits: &mut [[f32; TILE]; HEADS], n: usize) -> [f32; HEADS] {
        let mut correction = self.max;
        for (max, logits) in self.max.iter_mut().zip(&*logits) {
            *max = math::max(*max, &logits[..n]);
        }
        for h in 0..HEADS {
            correction[h] = exp(correction[h] - self.max[h]);
            self.sum[h] *= correction[h];
            for p in &mut logits[h] {
                *p = exp(*p - self.max[h]);
            }
        }
        for (sum, p) in self.sum.iter_mut().zip(logits) {
            p[..n].iter().for_each(|p| *sum += p);
        }
        correction
    }
}

/// `out_h = sum_j exp(q_h . k_j / sqrt(d) - max_h) k_j` for a few heads [heads, d], tile by tile; `softmax` is left at
/// each head's maximum and sum.
#[inline(always)]
fn attend_heads(level: Level, keys: &Keys<'_>, queries: &[f32], size: usize, softmax: &mut Softmax, out: &mut [f32]) {
    let scale = 1.0 / libm::sqrtf(size as f32);
    // Where the number of heads is odd, the last one's partner.
    let mut nobody = [0.0; MAX_HEAD_SIZE];
    out.fill(0.0);
    for start in (0..keys.len()).step_by(TILE) {
        let n = TILE.min(keys.len() - start);
        // A tile that is not full repeats its last key, and forgets what comes of that.
        let tile: [&[f32]; TILE] = core::array::from_fn(|j| keys.get(start + j.min(n - 1)));
        let mut p = [[0.0; TILE]; HEADS];
        for (pair, p) in queries.chunks(2 * size).zip(p.as_chunks_mut::<2>().0) {
            *p = dots(level, [&pair[..size], &pair[pair.len() - size..]], &tile);
            p.as_flattened_mut().iter_mut().for_each(|p| *p *= scale);
        }
        let correction = softmax.update(&mut p, n);
        let factors = correction.as_chunks().0.iter().zip(p.as_chunks::<2>().0);
        for (pair, (factor, [p0, p1])) in out.chunks_mut(2 * size).zip(factors) {
            let (first, second) = pair.split_at_mut(size);
            let second = if second.is_empty() { &mut nobody[..size] } else { second };
            weighted_sums(level, *factor, [&p0[..n], &p1[..n]], &tile[..n], [first, second]);
        }
    }
}
