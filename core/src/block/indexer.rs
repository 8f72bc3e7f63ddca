//! The indexer of a layer of ratio 4: which entries each query sees.
//!
//! ```text
//! qi = Wqb_i . qr  as heads, RoPE on their last r dims;   w_h = (Wproj . h)_h / sqrt(size * heads)
//! score(s) = sum_h w_h relu(qi_h . k_s);   the top k of the finished entries, ties to the lower index
//! ```

use super::Batch;
use crate::arch::disjoint::for_each_chunk;
use crate::cache::Entries;
use crate::config::Config;
use crate::kernel::math::dot4;
use crate::kernel::rope::Rotation;
use crate::kernel::top_k::top_k;

/// Entries scored by one task.
const CHUNK: usize = 64;

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
    let last = visible(batch.start + tokens - 1, 4);
    if last <= k {
        return;
    }
    let stride = last.next_multiple_of(CHUNK);
    for first in (0..tokens).step_by(GROUP) {
        let n = GROUP.min(tokens - first);
        if visible(batch.start + first + n - 1, 4) <= k {
            continue;
        }
        let scores = &mut scores[..n * stride];
        for_each_chunk(batch.cx.parallel, scores, CHUNK, |i, scores| {
            let (t, s) = (first + i * CHUNK / stride, i * CHUNK % stride);
            let end = visible(batch.start + t, 4);
            let query = &queries[t * heads * size..][..heads * size];
            let head_weights = &head_weights[t * heads..][..heads];
            batch.cx.level.vectorize(
                #[inline(always)]
                || {
                    for (s, score) in (s..end).zip(scores) {
                        *score = self::score(query, head_weights, size, keys.get(s));
                    }
                },
            );
        });
        let scores = &*scores;
        for_each_chunk(batch.cx.parallel, &mut selected[first * k..][..n * k], k, |i, selected| {
            let end = visible(batch.start + first + i, 4);
            if end > k {
                top_k(&scores[i * stride..][..end], selected);
            }
        });
    }
}

/// `sum_h w_h relu(q_h . k)`, in the order of the heads.
#[inline(always)]
fn score(query: &[f32], head_weights: &[f32], size: usize, key: &[f32]) -> f32 {
    let mut score = 0.0;
    for (queries, w) in query.chunks(4 * size).zip(head_weights.chunks(4)) {
        // A group that is not full repeats its first head, and forgets what comes of that.
        let head = |h: usize| queries.get(h * size..(h + 1) * size).unwrap_or(&queries[..size]);
        let products = dot4(key, [head(0), head(1), head(2), head(3)]);
        for (w, product) in w.iter().zip(products) {
            score += w * product.max(0.0);
        }
    }
    score
}
