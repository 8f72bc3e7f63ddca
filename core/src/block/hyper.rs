//! Manifold-constrained hyper-connections: n residual streams, mixed before and after each block.
//!
//! ```text
//! m = fn . flat(X) / rms(flat(X))                     [(2+n)*n]
//! pre = sigmoid(m * scale0 + base) + eps              [n]
//! post = 2 sigmoid(m * scale1 + base)                 [n]
//! comb = sinkhorn(softmax_rows(m * scale2 + base) + eps)   [n, n]
//! h = sum_i pre[i] X[i];   y = block(h);   X'[j] = post[j] y + sum_i comb[i][j] X[i]
//! ```

use super::Batch;
use crate::arch::disjoint::{for_each_chunk, for_each_chunk2};
use crate::config::{Config, MAX_STREAMS};
use crate::kernel::acts::Acts;
use crate::kernel::math::{exp, sigmoid};
use crate::kernel::matmul::{Job, Rows, matmul};
use crate::kernel::norm::{inverse_rms, rms_norm};
use crate::kernel::{Context, MatmulMode};
use crate::weights::{Hyper, Vector};

/// Channels combined at a time.
const CHUNK: usize = 64;

/// The mixing weights of every token of a batch: `mixes` [tokens, mixes a token] from `streams` [tokens, n*D].
/// The products are always in f32, as the reference's.
fn logits(cx: &Context<'_>, hyper: &Hyper<'_>, streams: &[f32], rms_eps: f32, mixes: &mut [f32]) {
    let (cols, width) = (hyper.fn_.cols(), hyper.fn_.rows());
    let x = Acts::exact(streams, cols);
    let exact = Context { matmul: MatmulMode::Exact, ..*cx };
    matmul(&exact, &mut [Job::new(&exact, hyper.fn_, &x, Rows::From(0), mixes)]);
    // fn . (x / rms) = (fn . x) / rms
    for_each_chunk(cx.parallel, mixes, width, |t, mixes| {
        let inverse = cx.level.vectorize(
            #[inline(always)]
            || inverse_rms(&streams[t * cols..][..cols], rms_eps),
        );
        mixes.iter_mut().for_each(|m| *m *= inverse);
    });
}

/// A small vector, decoded.
fn decode<const N: usize>(vector: &Vector<'_>) -> [f32; N] {
    let mut values = [0.0; N];
    vector.decode(0, 0, &mut values[..vector.cols().min(N)]);
    values
}

/// Values in a layer's mix, at most.
const MAX_MIX: usize = (2 + MAX_STREAMS) * MAX_STREAMS;

/// Before a block: mixes [tokens, (2+n)*n] and `h = RMSNorm_w(sum_i pre[i] X[i])` [tokens, D] from streams
/// [tokens, n, D].
pub fn before(
    batch: &Batch<'_>,
    config: &Config,
    hyper: &Hyper<'_>,
    norm: &Vector<'_>,
    streams: &[f32],
    mixes: &mut [f32],
    h: &mut [f32],
) {
    let n = config.streams;
    logits(&batch.cx, hyper, streams, config.rms_eps, mixes);
    let base: [f32; MAX_MIX] = decode(&hyper.base);
    let scale: [f32; 3] = decode(&hyper.scale);
    for_each_chunk2(batch.cx.parallel, (mixes, (2 + n) * n), (h, config.hidden), |t, mix, h| {
        activate(mix, &base, &scale, n, config.sinkhorn, config.hyper_eps);
        batch.cx.level.vectorize(
            #[inline(always)]
            || {
                weighted_sum(&mix[..n], &streams[t * n * config.hidden..], h);
                rms_norm(h, norm, config.rms_eps);
            },
        );
    });
}

/// `h = sum_i weights[i] * streams[i]`, streams [n, D].
#[inline(always)]
fn weighted_sum(weights: &[f32], streams: &[f32], h: &mut [f32]) {
    h.fill(0.0);
    for (w, x) in weights.iter().zip(streams.chunks(h.len())) {
        for (h, x) in h.iter_mut().zip(x) {
            *h += w * x;
        }
    }
}

/// Logits to weights, in place: pre [n], post [n], comb [n, n].
fn activate(mix: &mut [f32], base: &[f32], scale: &[f32; 3], n: usize, iterations: usize, eps: f32) {
    let (pre, rest) = mix.split_at_mut(n);
    let (post, comb) = rest.split_at_mut(n);
    for (m, b) in pre.iter_mut().zip(base) {
        *m = sigmoid(*m * scale[0] + b) + eps;
    }
    for (m, b) in post.iter_mut().zip(&base[n..]) {
        *m = 2.0 * sigmoid(*m * scale[1] + b);
    }
    for (row, base) in comb.chunks_mut(n).zip(base[2 * n..].chunks(n)) {
        for (m, b) in row.iter_mut().zip(base) {
            *m = *m * scale[2] + b;
        }
        let max = row.iter().fold(f32::NEG_INFINITY, |max, &m| max.max(m));
        row.iter_mut().for_each(|m| *m = exp(*m - max));
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|m| *m = *m / sum + eps);
    }
    sinkhorn(comb, n, iterations, eps);
}

/// Alternately divides columns and rows by (their sum + eps): columns first, then (iterations - 1) times rows, columns.
fn sinkhorn(comb: &mut [f32], n: usize, iterations: usize, eps: f32) {
    for iteration in 0..iterations {
        if iteration > 0 {
            for row in comb.chunks_mut(n) {
                let sum = row.iter().sum::<f32>() + eps;
                row.iter_mut().for_each(|m| *m /= sum);
            }
        }
        for j in 0..n {
            let sum = comb[j..].iter().step_by(n).sum::<f32>() + eps;
            comb[j..].iter_mut().step_by(n).for_each(|m| *m /= sum);
        }
    }
}

/// After a block: `X'[j] = post[j] y + sum_i comb[i][j] X[i]`, in place. y [tokens, D], streams [tokens, n, D].
pub fn after(batch: &Batch<'_>, config: &Config, mixes: &[f32], y: &[f32], streams: &mut [f32]) {
    let (n, hidden) = (config.streams, config.hidden);
    for_each_chunk(batch.cx.parallel, streams, n * hidden, |t, streams| {
        let mix = &mixes[t * (2 + n) * n..][..(2 + n) * n];
        batch.cx.level.vectorize(
            #[inline(always)]
            || remix(mix, &y[t * hidden..][..hidden], streams, n),
        );
    });
}

/// [`after`] for one token: y [D], streams [n, D].
#[inline(always)]
fn remix(mix: &[f32], y: &[f32], streams: &mut [f32], n: usize) {
    let hidden = y.len();
    let (post, comb) = (&mix[n..2 * n], &mix[2 * n..]);
    let mut old = [[0.0; CHUNK]; MAX_STREAMS];
    for start in (0..hidden).step_by(CHUNK) {
        let len = CHUNK.min(hidden - start);
        for (i, old) in old[..n].iter_mut().enumerate() {
            old[..len].copy_from_slice(&streams[i * hidden + start..][..len]);
        }
        let y = &y[start..][..len];
        for j in 0..n {
            let new = &mut streams[j * hidden + start..][..len];
            for (new, y) in new.iter_mut().zip(y) {
                *new = post[j] * y;
            }
            for (i, old) in old[..n].iter().enumerate() {
                for (new, old) in new.iter_mut().zip(old) {
                    *new += comb[i * n + j] * old;
                }
            }
        }
    }
}

/// Before the output matrix: `h = RMSNorm_w(sum_i (sigmoid(m * scale + base) + eps)[i] X[i])`, [tokens, D].
pub fn head(
    cx: &Context<'_>,
    config: &Config,
    hyper: &Hyper<'_>,
    norm: &Vector<'_>,
    streams: &[f32],
    mixes: &mut [f32],
    h: &mut [f32],
) {
    let n = config.streams;
    logits(cx, hyper, streams, config.rms_eps, mixes);
    let base: [f32; MAX_STREAMS] = decode(&hyper.base);
    let [scale]: [f32; 1] = decode(&hyper.scale);
    for_each_chunk2(cx.parallel, (mixes, n), (h, config.hidden), |t, mix, h| {
        for (m, b) in mix.iter_mut().zip(&base) {
            *m = sigmoid(*m * scale + b) + config.hyper_eps;
        }
        weighted_sum(mix, &streams[t * n * config.hidden..], h);
        rms_norm(h, norm, config.rms_eps);
    });
}
