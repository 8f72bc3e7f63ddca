//! From logits to a token.
//!
//! The stages, in the order of the `transformers` library, which is also what the parameters of hosted APIs mean:
//!
//! ```text
//! 1. penalties     repetition, presence, frequency, of the tokens in a window that the caller chooses
//! 2. bias          added to single logits; infinite to force or to forbid
//! 3. temperature   w = exp((l - max l) / T); T = 0 takes the highest logit, and no random number
//! 4. top-k         the k highest
//! 5. top-p         of these the fewest, highest first, whose weights reach the share p of all of them
//! 6. min-p         of these the ones of at least the share min_p of the highest weight
//! 7. draw          one of the rest, by weight
//! ```
//!
//! Penalties and bias are about logits and so come before all that is about probabilities. Temperature comes before the cuts,
//! so that p is a share of the distribution that is drawn from. Every cut keeps a prefix of the same order: logits downwards, the
//! lower id first among equals. Which token is drawn depends on the kept set, its logits and one random number alone, not on how the
//! set was found.
//!
//! Hostile logits have a meaning: NaN is minus infinity, infinity is the largest finite number. If nothing is left, token 0 is taken.
//! All arithmetic is this crate's own or libm's, so that the same seed gives the same tokens on every machine.

use crate::error::{Error, Result};
use bytemuck::{Pod, Zeroable};
use core::cmp::Ordering;

/// SplitMix64 (Steele, Lea and Flood, 2014): one word of state, a counter through a bijective mixer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// Any seed is as good as any other.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 random bits.
    pub const fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.state;
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Uniform in [0, 1), in steps of 2^-53.
    pub const fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// How to choose. [`Sampling::default`] is the plain distribution: temperature 1, nothing cut, nothing penalized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 or more; 0 always takes the highest logit.
    pub temperature: f32,
    /// Keep this many; 0 keeps all.
    pub top_k: u32,
    /// Keep this share of the weight, 0 to 1; at least one token is kept, 1 keeps all.
    pub top_p: f32,
    /// Keep what has at least this share of the highest weight, 0 to 1.
    pub min_p: f32,
    /// Positive logits are divided by it, negative ones multiplied, once a token of the window; more than 0, 1 for none.
    pub repetition: f32,
    /// Subtracted once a token of the window.
    pub presence: f32,
    /// Subtracted once an occurrence in the window.
    pub frequency: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition: 1.0, presence: 0.0, frequency: 0.0 }
    }
}

impl Sampling {
    /// Always the highest logit.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// [`Error::BadArgument`] names the first parameter that makes no sense.
    pub fn check(&self) -> Result<()> {
        let checks = [
            (self.temperature >= 0.0 && self.temperature.is_finite(), "temperature"),
            ((0.0..=1.0).contains(&self.top_p), "top_p"),
            ((0.0..=1.0).contains(&self.min_p), "min_p"),
            (self.repetition > 0.0 && self.repetition.is_finite(), "repetition"),
            (self.presence.is_finite(), "presence"),
            (self.frequency.is_finite(), "frequency"),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(Error::BadArgument { what }),
            None => Ok(()),
        }
    }
}

/// What to add to one token's logit; infinite to force or to forbid it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct LogitBias {
    /// The token.
    pub token: u32,
    /// Added before temperature.
    pub add: f32,
}

/// A way of choosing and the state of its randomness. `Copy`: a session that goes back keeps the sampler it had there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// How to choose; may change between calls.
    pub sampling: Sampling,
    /// Moves on by one number a call, whatever the logits; not at all at temperature 0.
    pub rng: Rng,
}

impl Sampler {
    /// A sampler at the start of its random numbers.
    pub const fn new(sampling: Sampling, seed: u64) -> Self {
        Self { sampling, rng: Rng::new(seed) }
    }

    /// Words of scratch for a vocabulary of `vocab` tokens.
    pub const fn scratch(vocab: usize) -> usize {
        vocab
    }

    /// Chooses a token by `logits [V]`, which it spoils. `recent` are the tokens to penalize, `bias` what to add to single
    /// logits; `scratch` has [`Self::scratch`] words.
    ///
    /// [`Error::BadArgument`] for parameters that make no sense and empty logits, [`Error::BadToken`] for an id past the logits in
    /// `recent` or `bias`, [`Error::MemoryTooSmall`] with the bytes of scratch needed: nothing has changed then.
    pub fn sample(
        &mut self,
        logits: &mut [f32],
        recent: &[u32],
        bias: &[LogitBias],
        scratch: &mut [u32],
    ) -> Result<u32> {
        self.sampling.check()?;
        if logits.is_empty() || u32::try_from(logits.len()).is_err() {
            return Err(Error::BadArgument { what: "logits" });
        }
        let ids = scratch_of(logits.len(), scratch)?;
        let bad = recent.iter().chain(bias.iter().map(|bias| &bias.token)).find(|t| **t as usize >= logits.len());
        if let Some(&token) = bad {
            return Err(Error::BadToken { token });
        }

        self.penalize(logits, recent, ids);
        for bias in bias {
            logits[bias.token as usize] += bias.add;
        }
        logits.iter_mut().for_each(|logit| *logit = clean(*logit));
        let best = argmax(logits);
        let highest = logits[best as usize];
        if self.sampling.temperature == 0.0 {
            return Ok(best);
        }
        let uniform = self.rng.uniform();
        if highest == f32::NEG_INFINITY {
            return Ok(best);
        }
        let weight = |logit: f32| libm::expf((logit - highest) / self.sampling.temperature);
        let kept = self.cut(logits, ids, weight);

        // By id, so that the draw does not depend on how the set was found.
        kept.sort_unstable();
        let mut total = 0.0;
        for &id in kept.iter() {
            let logit = &mut logits[id as usize];
            *logit = weight(*logit);
            total += f64::from(*logit);
        }
        let mut left = uniform * total;
        for &id in kept.iter() {
            left -= f64::from(logits[id as usize]);
            if left < 0.0 {
                return Ok(id);
            }
        }
        // Rounding may leave a hair over: the last token of any weight, which the highest is.
        Ok(kept.iter().rev().copied().find(|&id| logits[id as usize] > 0.0).unwrap_or(best))
    }

    /// Stage 1. `counts` [V] is scratch.
    fn penalize(&self, logits: &mut [f32], recent: &[u32], counts: &mut [u32]) {
        let Sampling { repetition, presence, frequency, .. } = self.sampling;
        counts.fill(0);
        recent.iter().for_each(|&token| counts[token as usize] += 1);
        for &token in recent {
            // Once a token: its count is gone afterwards.
            let count = core::mem::take(&mut counts[token as usize]);
            if count > 0 {
                let logit = &mut logits[token as usize];
                *logit = if *logit > 0.0 { *logit / repetition } else { *logit * repetition };
                *logit -= presence + frequency * count as f32;
            }
        }
    }

    /// Stages 4 to 6: the ids kept, in any order. `ids` [V] is scratch.
    fn cut<'s>(&self, logits: &[f32], ids: &'s mut [u32], weight: impl Fn(f32) -> f32) -> &'s mut [u32] {
        let Sampling { top_k, top_p, min_p, .. } = self.sampling;
        let weight_of = |id: u32| weight(logits[id as usize]);
        let mut ids = possible(logits, ids);
        if top_k > 0 && (top_k as usize) < ids.len() {
            ids = highest_first(logits, ids, top_k as usize);
        }
        if top_p < 1.0 {
            let total: f64 = ids.iter().map(|&id| f64::from(weight_of(id))).sum();
            let (mut kept, mut sorted, mut reached) = (0, 0, 0.0);
            // Few tokens have most of the weight: sort no more than it takes.
            while kept < ids.len() && (kept == 0 || reached < f64::from(top_p) * total) {
                if kept == sorted {
                    let more = (7 * sorted).max(64).min(ids.len() - sorted);
                    highest_first(logits, &mut ids[sorted..], more);
                    sorted += more;
                }
                reached += f64::from(weight_of(ids[kept]));
                kept += 1;
            }
            ids = &mut ids[..kept];
        }
        if min_p > 0.0 {
            let mut kept = 0;
            for i in 0..ids.len() {
                if weight_of(ids[i]) >= min_p {
                    ids[kept] = ids[i];
                    kept += 1;
                }
            }
            ids = &mut ids[..kept];
        }
        ids
    }
}

/// The highest logit's id, the lowest of equals; NaN is never chosen. 0 where there is none.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in (0..=u32::MAX).zip(logits) {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    best.0
}

/// A token and the logarithm of its probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct TokenLogProb {
    /// The token.
    pub token: u32,
    /// ln p, at most 0.
    pub log_prob: f32,
}

/// The model's own distribution, as logarithms: `ln p = l - max l - ln(sum exp(l - max l))`.
///
/// Of the raw logits: before penalties, bias, temperature and cuts, as hosted APIs report it. Make it before
/// [`Sampler::sample`] spoils them.
#[derive(Clone, Copy, Debug)]
pub struct LogSoftmax<'a> {
    logits: &'a [f32],
    highest: f32,
    log_sum: f64,
}

impl<'a> LogSoftmax<'a> {
    /// Sums up `logits [V]`.
    pub fn new(logits: &'a [f32]) -> Self {
        let highest = logits.get(argmax(logits) as usize).map_or(f32::NEG_INFINITY, |&l| clean(l));
        let sum: f64 = logits.iter().map(|&l| f64::from(libm::expf(clean(l) - highest))).sum();
        Self { logits, highest, log_sum: libm::log(sum) }
    }

    /// The logarithm of `token`'s probability; minus infinity for what can not be, ids past the vocabulary included.
    pub fn of(&self, token: u32) -> f32 {
        let logit = self.logits.get(token as usize).map_or(f32::NEG_INFINITY, |&l| clean(l));
        if logit == f32::NEG_INFINITY {
            logit
        } else {
            (f64::from(logit) - f64::from(self.highest) - self.log_sum) as f32
        }
    }

    /// The most probable tokens, downwards, as many as `out` holds or have any probability; gives their number. `scratch` has
    /// [`Sampler::scratch`] words.
    pub fn top(&self, scratch: &mut [u32], out: &mut [TokenLogProb]) -> Result<usize> {
        let ids = possible(self.logits, scratch_of(self.logits.len(), scratch)?);
        let count = out.len().min(ids.len());
        let ids = highest_first(self.logits, ids, count);
        for (place, &token) in out.iter_mut().zip(ids.iter()) {
            *place = TokenLogProb { token, log_prob: self.of(token) };
        }
        Ok(count)
    }
}

/// The first `vocab` words of `scratch`, or an error with the bytes needed.
fn scratch_of(vocab: usize, scratch: &mut [u32]) -> Result<&mut [u32]> {
    let (need, got) = (4 * Sampler::scratch(vocab) as u64, 4 * scratch.len() as u64);
    scratch.get_mut(..vocab).ok_or(Error::MemoryTooSmall { need, got })
}

/// A logit without NaN and infinity.
fn clean(logit: f32) -> f32 {
    if logit.is_nan() { f32::NEG_INFINITY } else { logit.min(f32::MAX) }
}

/// The ids of the logits above minus infinity, upwards, in the first places of `ids` [V].
fn possible<'s>(logits: &[f32], ids: &'s mut [u32]) -> &'s mut [u32] {
    let mut count = 0;
    for (id, &logit) in (0..=u32::MAX).zip(logits) {
        if logit > f32::NEG_INFINITY {
            ids[count] = id;
            count += 1;
        }
    }
    &mut ids[..count]
}

/// The `count` (at most all) of `ids` with the highest logits, first in `ids` and in that order, the lower id first among equals:
/// O(ids + count log count).
fn highest_first<'s>(logits: &[f32], ids: &'s mut [u32], count: usize) -> &'s mut [u32] {
    let order = |a: &u32, b: &u32| {
        let (x, y) = (logits[*a as usize], logits[*b as usize]);
        y.partial_cmp(&x).unwrap_or(Ordering::Equal).then(a.cmp(b))
    };
    if count < ids.len() {
        ids.select_nth_unstable_by(count, order);
    }
    let first = &mut ids[..count];
    first.sort_unstable_by(order);
    first
}
