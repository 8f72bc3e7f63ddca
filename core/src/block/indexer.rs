//! The indexer of a layer of ratio 4: which entries each query sees.
//!
//! ```text
//! qi = Wqb_i . qr  as heads, RoPE on their last r dims;   w_h = (Wproj . h)_h / sqrt(size * heads)
//! score(s) = sum_h w_h relu(qi_h . k_s);   the top k of the finished entries, ties to the lower index
//! ```

use super::Batch;
use crate::arch::disjoint::{Target, for_each_chunk, for_each_columns};
use crate::cache::Entries;
use crate::config::Config;
use crate::kernel::math::axpy;
use crate::kernel::rope::Rotation;
use crate::kernel::top_k::top_k;

/// Entries scored by one task.
const CHUNK: usize = 64;

/// Entries scored side by side, a lane each: two 256-bit vectors.
const KEYS: usize = 16;

/// Heads whose products are summed side by side: with [`KEYS`] lanes each they fill half of AVX2's registers.
const HEADS: usize = 4;

/// Values of a key that are transposed at a time: all that V4's indexer has.
const DEPTH: usize = 128;

/// Tokens whose scores are held at the same time: bounds the memory for scores by this times context / 4.
pub const GROUP: usize = 8;

/// Scores kept a token: context / 4, rounded up to whole tasks.
pub const fn score_stride(context: usize) -> usize {
    (context / 4).next_multiple_of(CHUNK)
}

/// Finished entries that the query at `position` may see.
pub const fn visible(position: usize, m: usize) -> usize {
    (position + 1) / m
}

/// Rotates the queries [tokens, heads, size] and scales the head weights [tokens, heads], in place.
pub fn prepare(batch: &Batch<'_>, config: &Config, rope: &[f64], queries: &mut [f32], head_weights: &mut [f32]) {
    let (heads, size) = (config.indexer_heads, config.indexer_size);
    for_each_chunk(batch.cx.parallel, queries, heads * size, |t, query| {
        let rotation = Rotation::new(batch.start + t, rope);
        query.chunks_mut(size).for_each(|head| rotation.apply(head));
    });
    let scale = 1.0 / libm::sqrtf((size * heads) as f32);
    head_weights.iter_mut().for_each(|w| *w *= scale);
}

/// Writes each token's choice into `selected` [tokens, k] (ascending), for tokens that see more than k entries; the
/// others see all and their rows stay as they are. `scores` is [GROUP, score_stride].
pub fn select(
    batch: &Batch<'_>,
    config: &Config,
    keys: &Entries<'_>,
    queries: &[f32],
    head_weights: &[f32],
    scores: &mut [f32],
    selected: &mut [u32],
) {
    let (heads, size, k) = (config.indexer_heads, config.indexer_size, config.indexer_top_k);
    let tokens = batch.len();
    for first in (0..tokens).step_by(GROUP) {
        let n = GROUP.min(tokens - first);
        let end = |t: usize| visible(batch.start + first + t, 4);
        if end(n - 1) <= k {
            continue;
        }
        let stride = end(n - 1).next_multiple_of(CHUNK);
        let scores = &mut scores[..n * stride];
        let mut target = [Target::new(scores, stride, CHUNK)];
        for_each_columns(
            batch.cx.parallel,
            &mut target,
            |target| target,
            |_, start, mut columns| {
                batch.cx.level.vectorize(
                    #[inline(always)]
                    || {
                        for s in (start..end(n - 1).min(start + CHUNK)).step_by(KEYS) {
                            let block = Block::new(keys, s, end(n - 1));
                            for t in 0..n {
                                let query = &queries[(first + t) * heads * size..][..heads * size];
                                let head_weights = &head_weights[(first + t) * heads..][..heads];
                                columns.row(t)[s - start..][..KEYS].copy_from_slice(&block.scores(query, head_weights));
                            }
                        }
                    },
                );
            },
        );
        let scores = &*scores;
        for_each_chunk(batch.cx.parallel, &mut selected[first * k..][..n * k], k, |t, selected| {
            if end(t) > k {
                top_k(&scores[t * stride..][..end(t)], selected);
            }
        });
    }
}

/// A few entries' keys, to be scored side by side. A block that is not full repeats its last one.
struct Block<'a> {
    keys: [&'a [f32]; KEYS],
    /// The first values of each, transposed.
    first: [[f32; KEYS]; DEPTH],
}

impl<'a> Block<'a> {
    /// Entries `s..`, of which there are `end`.
    #[inline(always)]
    fn new(keys: &Entries<'a>, s: usize, end: usize) -> Self {
        let keys = core::array::from_fn(|j| keys.get((s + j).min(end - 1)));
        let mut first = [[0.0; KEYS]; DEPTH];
        transpose(&keys, 0, &mut first);
        Self { keys, first }
    }

    /// `sum_h w_h relu(q_h . k)` of every key, in the order of the heads; products are summed in the order of the values.
    #[inline(always)]
    fn scores(&self, query: &[f32], head_weights: &[f32]) -> [f32; KEYS] {
        let size = self.keys[0].len();
        let mut scores = [0.0; KEYS];
        for (queries, weights) in query.chunks(HEADS * size).zip(head_weights.chunks(HEADS)) {
            // A group that is not full repeats its first head, and forgets what comes of that.
            let heads = core::array::from_fn(|h| queries.get(h * size..(h + 1) * size).unwrap_or(&queries[..size]));
            let mut products = [[0.0; KEYS]; HEADS];
            add_products(&mut products, heads, &self.first[..size.min(DEPTH)]);
            for start in (DEPTH..size).step_by(DEPTH) {
                let mut more = [[0.0; KEYS]; DEPTH];
                transpose(&self.keys, start, &mut more);
                add_products(&mut products, heads.map(|q| &q[start..]), &more[..DEPTH.min(size - start)]);
            }
            for (w, products) in weights.iter().zip(&products) {
                for i in 0..KEYS {
                    scores[i] += w * products[i].max(0.0);
                }
            }
        }
        scores
    }
}

/// `out[l][j] = keys[j][start + l]`, as far as both go.
#[inline(always)]
fn transpose(keys: &[&[f32]; KEYS], start: usize, out: &mut [[f32; KEYS]; DEPTH]) {
    let len = DEPTH.min(keys[0].len() - start);
    let keys: [&[f32]; KEYS] = core::array::from_fn(|j| &keys[j][start..][..len]);
    for (l, out) in out[..len].iter_mut().enumerate() {
        for j in 0..KEYS {
            out[j] = keys[j][l];
        }
    }
}

/// `products[h][j] += sum_l q_h[l] k[l][j]`, in the order of l.
#[inline(always)]
fn add_products(products: &mut [[f32; KEYS]; HEADS], queries: [&[f32]; HEADS], keys: &[[f32; KEYS]]) {
    let query = |h: usize| &queries[h][..keys.len()];
    let (q0, q1, q2, q3) = (query(0), query(1), query(2), query(3));
    // Named one by one, so that they stay in registers.
    let [mut p0, mut p1, mut p2, mut p3] = *products;
    for l in 0..keys.len() {
        let keys = &keys[l];
        axpy(q0[l], keys, &mut p0);
        axpy(q1[l], keys, &mut p1);
        axpy(q2[l], keys, &mut p2);
        axpy(q3[l], keys, &mut p3);
    }
    *products = [p0, p1, p2, p3];
}
