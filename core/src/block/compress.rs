//! The compressor: m tokens to one entry, by a softmax over tokens of each channel.
//!
//! ```text
//! c_t = Wkv . h_t,  z_t = Wgate . h_t + ape[t mod m]
//! entry_w[j] = sum_t softmax_t(z_t[j]) c_t[j]      over the tokens of window w, per channel j
//! ```
//! Ratio 4 overlaps: c and z have 2s values; entry w takes the first halves of window w-1 and the last halves of
//! window w (window 0 has no predecessor). Then RMSNorm_w, then RoPE on the last r dims at position w*m.

use super::Batch;
use crate::arch::disjoint::for_each_chunk;
use crate::cache::{CompressorCache, store};
use crate::config::{Config, MAX_HEAD_SIZE};
use crate::kernel::math::exp;
use crate::kernel::norm::rms_norm;
use crate::kernel::rope::Rotation;
use crate::weights::Compressor;

/// Channels, or weights, handled at a time.
const CHUNK: usize = 256;

/// Copies the batch's rows [tokens, c*s] of c, and of z with its ape added, into the rings.
fn remember(
    batch: &Batch<'_>,
    weights: &Compressor<'_>,
    m: usize,
    values: &[f32],
    gates: &[f32],
    cache: &mut CompressorCache<'_>,
) {
    let width = weights.kv.rows();
    for (t, (value, gate)) in values.chunks(width).zip(gates.chunks(width)).enumerate() {
        let position = batch.start + t;
        let slot = position % cache.ring * width;
        cache.values[slot..][..width].copy_from_slice(value);
        let mut decoded = [0.0; CHUNK];
        let kept = cache.gates[slot..][..width].chunks_mut(CHUNK).zip(gate.chunks(CHUNK));
        for (i, (kept, gate)) in kept.enumerate() {
            let ape = &mut decoded[..kept.len()];
            weights.ape.decode(position % m, i * CHUNK, ape);
            for ((kept, gate), ape) in kept.iter_mut().zip(gate).zip(ape) {
                *kept = gate + *ape;
            }
        }
    }
}

/// Takes the batch's c and z [tokens, c*s] and stores every entry that they finish. `m` is the ratio, `overlap` 2 for
/// ratio 4 and else 1, `rope` the compressed layers' frequencies.
#[allow(clippy::too_many_arguments, reason = "a block's operands")]
pub fn compress(
    batch: &Batch<'_>,
    config: &Config,
    weights: &Compressor<'_>,
    (m, overlap): (usize, usize),
    rope: &[f64],
    values: &[f32],
    gates: &[f32],
    cache: &mut CompressorCache<'_>,
) {
    let width = weights.kv.rows();
    let size = width / overlap;
    remember(batch, weights, m, values, gates, cache);

    let first = batch.start / m;
    let finished = (batch.start + batch.len()) / m - first;
    let CompressorCache { values, gates, ring, entries } = cache;
    let (values, gates, ring) = (&**values, &**gates, *ring);
    let (format, stride) = (entries.format(), entries.stride());
    for_each_chunk(batch.cx.parallel, entries.bytes(first, finished), stride, |i, bytes| {
        let w = first + i;
        let mut entry = [0.0; MAX_HEAD_SIZE];
        let entry = &mut entry[..size];
        // Where each slot's s values start in the rings, oldest first.
        let before = if overlap == 2 && w > 0 { m } else { 0 };
        let slots = || {
            (w * m - before..(w + 1) * m).map(|t| {
                let half = if overlap == 2 && t >= w * m { size } else { 0 };
                t % ring * width + half
            })
        };
        batch.cx.level.vectorize(
            #[inline(always)]
            || {
                pool(entry, slots, values, gates);
                rms_norm(entry, &weights.norm, config.rms_eps);
            },
        );
        Rotation::new(w * m, rope).apply(entry);
        store(format, entry, bytes);
    });
}

/// `entry[j] = sum over slots of softmax(z[j]) c[j]`: the maximum, then the sums, a chunk of channels at a time.
#[inline(always)]
fn pool<S: Iterator<Item = usize>>(entry: &mut [f32], slots: impl Fn() -> S, values: &[f32], gates: &[f32]) {
    for (chunk, entry) in entry.chunks_mut(CHUNK).enumerate() {
        let (start, len) = (chunk * CHUNK, entry.len());
        let mut max = [f32::NEG_INFINITY; CHUNK];
        for slot in slots() {
            for (max, z) in max.iter_mut().zip(&gates[slot + start..][..len]) {
                *max = max.max(*z);
            }
        }
        let mut sum = [0.0; CHUNK];
        entry.fill(0.0);
        for slot in slots() {
            let (z, c) = (&gates[slot + start..][..len], &values[slot + start..][..len]);
            for i in 0..len {
                let p = exp(z[i] - max[i]);
                sum[i] += p;
                entry[i] += p * c[i];
            }
        }
        for (entry, sum) in entry.iter_mut().zip(sum) {
            *entry /= sum;
        }
    }
}
