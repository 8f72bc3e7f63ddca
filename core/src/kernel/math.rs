//! Transcendental functions and reductions with a fixed order: the same bits on every machine.

use crate::arch::float::{LANES, ROUND, sum_lanes};

/// e^x in f32, within 2 ulp; 0 below -87.3, infinity above 88.7, NaN for NaN.
///
/// `n = round(x / ln 2)`, `r = x - n ln 2` (|r| <= 0.35), `e^x = 2^n p(r)`. Without branches, so that loops over it
/// vectorize; libm's own is exact to half an ulp and four times slower.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-88.0, 88.72);
    let shifted = clamped * core::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN2_HI) - n * LN2_LO;
    // Minimax coefficients of e^r on [-0.35, 0.35] (Cephes' expf).
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = (p * r) * r + r + 1.0;
    // 2^n in two factors: n reaches 128, where 2^n alone would overflow.
    let bits = (shifted.to_bits() << 9).cast_signed() >> 9; // sign-extended low bits of the mantissa
    let half = bits >> 1;
    let scale = |n: i32| f32::from_bits((n + 127).cast_unsigned() << 23);
    let y = p * scale(half) * scale(bits - half);
    let y = if x < -87.3 { 0.0 } else { y };
    let y = if x > 88.72 { f32::INFINITY } else { y };
    if x.is_nan() { x } else { y }
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// x * sigmoid(x).
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// ln(1 + e^x), x itself above 20 (as the reference).
pub fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { libm::log1pf(libm::expf(x)) }
}

/// The dot product of two vectors, over the shorter length.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let len = a.len().min(b.len());
    let (a, a_tail) = a[..len].as_chunks::<LANES>();
    let (b, b_tail) = b[..len].as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for c in 0..a.len().min(b.len()) {
        multiply_add(&mut sums, &a[c], &b[c]);
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_tail.iter().zip(b_tail)) {
        *sum += a * b;
    }
    sum_lanes(sums)
}

/// `sum[i] += a[i] * b[i]`.
#[inline(always)]
fn multiply_add<const N: usize>(sum: &mut [f32; N], a: &[f32; N], b: &[f32; N]) {
    for i in 0..N {
        sum[i] += a[i] * b[i];
    }
}

/// The largest of `start` and `values`; NaN is passed over.
#[inline(always)]
pub fn max(start: f32, values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [start; 16];
    let (chunks, tail) = values.as_chunks::<16>();
    for chunk in chunks {
        for i in 0..16 {
            lanes[i] = larger(lanes[i], chunk[i]);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(tail) {
        *lane = larger(*lane, *value);
    }
    lanes.into_iter().fold(start, larger)
}

/// `y += a * x`.
#[inline(always)]
pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp() {
        let mut worst = 0;
        for i in 0..=2_000_000u32 {
            let x = -87.3 + 176.0 * (i as f32 / 2e6);
            let (got, want) = (exp(x), libm::exp(f64::from(x)) as f32);
            if want.is_finite() && want >= f32::MIN_POSITIVE {
                worst = worst.max(got.to_bits().abs_diff(want.to_bits()));
            }
        }
        assert!(worst <= 2, "{worst} ulp");
    }

    #[test]
    fn exp_at_the_edges() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-100.0), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(88.7).is_finite());
    }

    #[test]
    fn silu_and_sigmoid_at_the_edges() {
        assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
        assert_eq!(silu(-200.0), 0.0);
        assert_eq!(silu(0.0), 0.0);
        assert_eq!(softplus(100.0), 100.0);
    }
}
