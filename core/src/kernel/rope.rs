//! Rotary position embedding on adjacent pairs of the last r dims of a head (spec page "model", section 3).

use crate::config::{MAX_HEAD_SIZE, Yarn};

/// Fills `frequencies` (r/2 of them) with `f_i = base^(-2i/r)`, scaled by YaRN where given:
/// `corr(n) = r ln(original / (2 pi n)) / (2 ln base)`, `low = max(floor(corr(fast)), 0)`,
/// `high = min(ceil(corr(slow)), r - 1)`, `ramp_i = clamp((i - low) / (high - low), 0, 1)`,
/// `f_i = f_i / factor * ramp_i + f_i * (1 - ramp_i)`. The magnitude of cos and sin is not corrected.
pub fn frequencies(base: f64, yarn: Option<&Yarn>, frequencies: &mut [f64]) {
    let r = 2.0 * frequencies.len() as f64;
    for (i, f) in frequencies.iter_mut().enumerate() {
        *f = libm::pow(base, -2.0 * i as f64 / r);
    }
    let Some(yarn) = yarn else { return };
    let corr =
        |n: f64| r * libm::log(yarn.original_context / (2.0 * core::f64::consts::PI * n)) / (2.0 * libm::log(base));
    let low = libm::floor(corr(yarn.beta_fast)).max(0.0);
    let mut high = libm::ceil(corr(yarn.beta_slow)).min(r - 1.0);
    if low == high {
        high += 0.001;
    }
    for (i, f) in frequencies.iter_mut().enumerate() {
        let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
        *f = *f / yarn.factor * ramp + *f * (1.0 - ramp);
    }
}

/// The cosines and sines of one position's angles, for any number of heads.
pub struct Rotation {
    /// (cos, sin) of pair i.
    pairs: [[f32; 2]; MAX_HEAD_SIZE / 2],
    len: usize,
}

impl Rotation {
    /// By `position * f_i`.
    ///
    /// The angle is computed in f64 and only its cosine and sine are rounded: at a million tokens an f32 angle would be
    /// off by 0.06 radians.
    pub fn new(position: usize, frequencies: &[f64]) -> Self {
        let mut pairs = [[1.0, 0.0]; MAX_HEAD_SIZE / 2];
        for (pair, f) in pairs.iter_mut().zip(frequencies) {
            let (sin, cos) = libm::sincos(position as f64 * f);
            *pair = [cos as f32, sin as f32];
        }
        Self { pairs, len: frequencies.len() }
    }

    /// By the negative angles.
    pub fn inverse(mut self) -> Self {
        self.pairs.iter_mut().for_each(|[_, sin]| *sin = -*sin);
        self
    }

    /// Rotates the pairs (2i, 2i+1) of the last r values of `head`.
    pub fn apply(&self, head: &mut [f32]) {
        let start = head.len().saturating_sub(2 * self.len);
        for (pair, [cos, sin]) in head[start..].as_chunks_mut::<2>().0.iter_mut().zip(&self.pairs) {
            *pair = [pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos];
        }
    }
}
