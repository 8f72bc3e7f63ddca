//! Which experts a token goes to, and with what weights.
//!
//! ```text
//! s = score(Wg . h)                        sqrt(softplus), softmax or sigmoid, in f32
//! chosen: tid2eid[token] in hash layers, else the top k of s + bias (ties to the lower expert)
//! w = s[chosen] / (sum of them + 1e-20) * scale      (softmax: not divided)
//! ```

use super::Batch;
use crate::config::{Config, MAX_EXPERTS, MAX_EXPERTS_USED, Scoring};
use crate::error::{Error, Result};
use crate::kernel::acts::Acts;
use crate::kernel::math::{exp, sigmoid, softplus};
use crate::kernel::matmul::{Job, Rows, matmul};
use crate::kernel::top_k::top_k;
use crate::kernel::{Context, MatmulMode};
use crate::weights::{Choice, Moe};

/// Writes the experts [tokens, k] and their weights [tokens, k], from h [tokens, D]; `logits` is scratch [tokens, E].
///
/// [`Error::BadExpert`] when the hash table of `layer` names an expert that does not exist.
#[allow(clippy::too_many_arguments, reason = "a block's operands")]
pub fn route(
    batch: &Batch<'_>,
    config: &Config,
    layer: usize,
    moe: &Moe<'_>,
    h: &[f32],
    logits: &mut [f32],
    experts: &mut [u32],
    weights: &mut [f32],
) -> Result<()> {
    let k = config.experts_used;
    let x = Acts::exact(h, config.hidden);
    let exact = Context { matmul: MatmulMode::Exact, ..batch.cx };
    matmul(&exact, &mut [Job::new(&exact, moe.router, &x, Rows::From(0), logits)]);

    let mut bias = [0.0; MAX_EXPERTS];
    if let Choice::Score(vector) = &moe.choice {
        vector.decode(0, 0, &mut bias[..config.experts]);
    }
    let rows = logits.chunks_mut(config.experts).zip(experts.chunks_mut(k)).zip(weights.chunks_mut(k));
    for (((scores, experts), weights), &token) in rows.zip(batch.tokens) {
        score(config.scoring, scores);
        match &moe.choice {
            Choice::Hash(table) => {
                for (i, expert) in experts.iter_mut().enumerate() {
                    let named = table.get(token as usize, i);
                    *expert = u32::try_from(named)
                        .ok()
                        .filter(|&e| (e as usize) < config.experts)
                        .ok_or(Error::BadExpert { layer: layer as u32, expert: named })?;
                }
            }
            Choice::Score(_) => {
                let mut biased = [0.0; MAX_EXPERTS];
                for ((biased, score), bias) in biased.iter_mut().zip(&*scores).zip(&bias) {
                    *biased = score + bias;
                }
                let mut chosen = [0; MAX_EXPERTS_USED];
                top_k(&biased[..config.experts], &mut chosen[..k]);
                experts.copy_from_slice(&chosen[..k]);
            }
        }
        for (weight, &expert) in weights.iter_mut().zip(&*experts) {
            *weight = scores[expert as usize];
        }
        let total = match config.scoring {
            Scoring::Softmax => 1.0,
            Scoring::Sigmoid | Scoring::SqrtSoftplus => weights.iter().sum::<f32>() + 1e-20,
        };
        weights.iter_mut().for_each(|w| *w = *w / total * config.expert_scale);
    }
    Ok(())
}

/// Logits to scores, in place.
fn score(scoring: Scoring, logits: &mut [f32]) {
    match scoring {
        Scoring::SqrtSoftplus => logits.iter_mut().for_each(|s| *s = libm::sqrtf(softplus(*s))),
        Scoring::Sigmoid => logits.iter_mut().for_each(|s| *s = sigmoid(*s)),
        Scoring::Softmax => {
            let max = logits.iter().fold(f32::NEG_INFINITY, |max, &s| max.max(s));
            logits.iter_mut().for_each(|s| *s = exp(*s - max));
            let sum: f32 = logits.iter().sum();
            logits.iter_mut().for_each(|s| *s /= sum);
        }
    }
}
