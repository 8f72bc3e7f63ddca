//! Rotary position embedding on adjacent pairs of the last r dims of a head (spec page "model", section 3).

use crate::config::Yarn;

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
    let corr = |n: f64| {
        r * libm::log(yarn.original_context / (2.0 * core::f64::consts::PI * n)) / (2.0 * libm::log(base))
    };
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

/// Rotates the pairs (2i, 2i+1) of `tail` (r values) by `position * f_i`, or by the negative angle.
///
/// The angle is computed in f64 and only its cosine and sine are rounded: at a million tokens an f32 angle would be
/// off by 0.06 radians.
pub fn rotate(tail: &mut [f32], position: usize, frequencies: &[f64], inverse: bool) {
    for (pair, f) in tail.chunks_exact_mut(2).zip(frequencies) {
        let angle = position as f64 * f;
        let (sin, cos) = libm::sincos(angle);
        let (sin, cos) = (if inverse { -sin } else { sin } as f32, cos as f32);
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * cos - b * sin;
        pair[1] = a * sin + b * cos;
    }
}

/// Fills `table` with (cos, sin) of `position * f_i`: one per pair, for many heads at one position.
pub fn table(position: usize, frequencies: &[f64], table: &mut [[f32; 2]]) {
    for (entry, f) in table.iter_mut().zip(frequencies) {
        let (sin, cos) = libm::sincos(position as f64 * f);
        *entry = [cos as f32, sin as f32];
    }
}
