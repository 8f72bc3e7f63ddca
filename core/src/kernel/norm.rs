//! Root-mean-square normalization.

use super::math::dot;
use crate::weights::Vector;

/// Weights decoded at a time.
const CHUNK: usize = 256;

/// `1 / sqrt(mean(x^2) + eps)`.
#[inline(always)]
pub fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / libm::sqrtf(dot(x, x) / x.len() as f32 + eps)
}

/// `x[i] *= 1 / sqrt(mean(x^2) + eps)`: without weights.
#[inline(always)]
pub fn rms_norm_plain(x: &mut [f32], eps: f32) {
    let inverse = inverse_rms(x, eps);
    for x in x {
        *x *= inverse;
    }
}

/// `x[i] *= weight[i] / sqrt(mean(x^2) + eps)`, weight [len of x], in any type.
#[inline(always)]
pub fn rms_norm(x: &mut [f32], weight: &Vector<'_>, eps: f32) {
    let inverse = inverse_rms(x, eps);
    let mut decoded = [0.0; CHUNK];
    for (i, x) in x.chunks_mut(CHUNK).enumerate() {
        let w = &mut decoded[..x.len()];
        weight.decode(0, i * CHUNK, w);
        for (x, w) in x.iter_mut().zip(w) {
            *x = *x * inverse * *w;
        }
    }
}
