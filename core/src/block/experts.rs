//! The mixture of experts: tokens grouped by expert, so that each expert's matrices are read once a batch.
//!
//! ```text
//! expert(h) = W2 . (silu(min(W1 . h, c)) * clamp(W3 . h, -c, c))
//! y = shared(h) + sum_j w_j expert_j(h)          in the order of the router's choice
//! ```

use super::Batch;
use crate::arch::disjoint::{for_each_chunk, for_each_chunk2};
use crate::config::{Config, MAX_EXPERTS};
use crate::kernel::Context;
use crate::kernel::acts::{Acts, Grid, Q8Buffer};
use crate::kernel::math::{axpy, silu};
use crate::kernel::matmul::{Job, Region, Rows};
use crate::weights::Moe;
use core::ops::Range;

/// Scratch of the experts.
pub struct Scratch<'s, 'a> {
    /// [tokens * k, I]
    pub gate: &'s mut [f32],
    /// [tokens * k, I]
    pub up: &'s mut [f32],
    /// [tokens * k, D]
    pub down: &'s mut [f32],
    /// [tokens, I * shared experts]
    pub shared_gate: &'s mut [f32],
    /// [tokens, I * shared experts]
    pub shared_up: &'s mut [f32],
    /// [tokens * k] token of each slot
    pub slot_tokens: &'s mut [u32],
    /// [tokens * k] slot of each (token, choice)
    pub slots: &'s mut [u32],
    /// For the experts' inner activations.
    pub q8: &'s mut Q8Buffer<'a>,
    /// For the shared expert's.
    pub shared_q8: &'s mut Q8Buffer<'a>,
}

/// Sorts the (token, choice) pairs by expert: slots are ordered by expert, then token. Returns the first slot of each
/// expert, and of the end.
fn group(config: &Config, experts: &[u32], slot_tokens: &mut [u32], slots: &mut [u32]) -> [u32; MAX_EXPERTS + 1] {
    let mut starts = [0; MAX_EXPERTS + 1];
    for &e in experts {
        starts[e as usize + 1] += 1;
    }
    for e in 0..config.experts {
        starts[e + 1] += starts[e];
    }
    let mut next = starts;
    for (i, (&e, slot)) in experts.iter().zip(slots).enumerate() {
        *slot = next[e as usize];
        next[e as usize] += 1;
        slot_tokens[*slot as usize] = (i / config.experts_used) as u32;
    }
    starts
}

/// `gate = silu(min(gate, c)) * clamp(up, -c, c)`, in place.
fn swiglu(cx: &Context<'_>, gate: &mut [f32], up: &mut [f32], width: usize, clamp: f32) {
    for_each_chunk2(cx.parallel, (gate, width), (up, width), |_, gate, up| {
        cx.level.vectorize(
            #[inline(always)]
            || {
                for (g, u) in gate.iter_mut().zip(up) {
                    // Not by `f32::clamp`, whose check of its bounds would keep the loop from being vectorized.
                    let low = if *u < -clamp { -clamp } else { *u };
                    *g = silu(if *g > clamp { clamp } else { *g }) * if low > clamp { clamp } else { low };
                }
            },
        );
    });
}

/// Cuts the rows of the next `slots` from the front of `rest`.
fn next_rows<'s>(rest: &mut &'s mut [f32], slots: &Range<usize>, width: usize) -> &'s mut [f32] {
    let (mine, others) = core::mem::take(rest).split_at_mut(slots.len() * width);
    *rest = others;
    mine
}

/// y [tokens, D] from the activations of h [tokens, D], the chosen experts [tokens, k] and their weights [tokens, k].
#[allow(clippy::too_many_arguments, reason = "a block's operands")]
pub fn experts(
    batch: &Batch<'_>,
    config: &Config,
    layer: usize,
    moe: &Moe<'_>,
    h: &Acts<'_>,
    (experts, weights): (&[u32], &[f32]),
    scratch: Scratch<'_, '_>,
    y: &mut [f32],
) {
    let cx = &batch.cx;
    let (k, inner, hidden) = (config.experts_used, config.expert_hidden, config.hidden);
    let Scratch { gate, up, down, shared_gate, shared_up, slot_tokens, slots, q8, shared_q8 } = scratch;
    let starts = group(config, experts, slot_tokens, slots);
    let slot_tokens = &*slot_tokens;
    let active = || {
        let pairs = starts.windows(2).take(config.experts).enumerate();
        pairs.map(|(e, pair)| (e, pair[0] as usize..pair[1] as usize)).filter(|(_, slots)| !slots.is_empty())
    };

    // gate = W1 . h, up = W3 . h: the shared expert's, then the chosen ones'.
    let mut region = Region::new(cx);
    if let Some(shared) = &moe.shared {
        region.push(Job::new(cx, shared.gate, h, Rows::From(0), &mut *shared_gate));
        region.push(Job::new(cx, shared.up, h, Rows::From(0), &mut *shared_up));
    }
    let (mut gate_rest, mut up_rest) = (&mut *gate, &mut *up);
    for (e, slots) in active() {
        let rows = Rows::List(&slot_tokens[slots.clone()]);
        region.push(Job::new(cx, moe.gate.expert(e), h, rows, next_rows(&mut gate_rest, &slots, inner)));
        region.push(Job::new(cx, moe.up.expert(e), h, rows, next_rows(&mut up_rest, &slots, inner)));
    }
    region.run();

    // down = W2 . swiglu(gate, up)
    let shared_inner = inner * config.shared_experts;
    swiglu(cx, shared_gate, shared_up, shared_inner, config.clamp_shared[layer]);
    swiglu(cx, gate, up, inner, config.clamp[layer]);
    let shared_down = moe.shared.as_ref().map(|shared| shared.down.dtype());
    let shared_x = Acts::new(cx, shared_gate, shared_inner, Grid::of(shared_down), shared_q8);
    let x = Acts::new(cx, gate, inner, Grid::of([moe.down.dtype()]), q8);
    let mut region = Region::new(cx);
    match &moe.shared {
        Some(shared) => region.push(Job::new(cx, shared.down, &shared_x, Rows::From(0), &mut *y)),
        None => y.fill(0.0),
    }
    let mut down_rest = &mut *down;
    for (e, slots) in active() {
        let out = next_rows(&mut down_rest, &slots, hidden);
        region.push(Job::new(cx, moe.down.expert(e), &x, Rows::From(slots.start), out));
    }
    region.run();

    for_each_chunk(cx.parallel, y, hidden, |t, y| {
        for (slot, weight) in slots[t * k..][..k].iter().zip(&weights[t * k..]) {
            let down = &down[*slot as usize * hidden..][..hidden];
            cx.level.vectorize(
                #[inline(always)]
                || axpy(*weight, down, y),
            );
        }
    });
}
