//! Transcendental functions and reductions with a fixed order: the same bits on every machine.

/// e^x in f32, within 2 ulp; 0 below -87.3, infinity above 88.7, NaN for NaN.
///
/// `n = round(x / ln 2)`, `r = x - n ln 2` (|r| <= 0.35), `e^x = 2^n p(r)`. Without branches, so that loops over it
/// vectorize; libm's own is exact to half an ulp and four times slower.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the rounded integer in the low mantissa bits
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

/// Lanes of every f32 sum: element i adds to lane i mod 16, lanes are then added pairwise. Two 256-bit vectors, so that
/// the sums of four products fit AVX2's sixteen registers.
pub const LANES: usize = 16;

/// Adds the lanes pairwise: i with i + N/2, then + N/4, and so on; N is a power of two.
#[inline(always)]
pub fn sum_lanes<const N: usize>(mut lanes: [f32; N]) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
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

/// The lanes of four dot products: those of `b[j] . a[i]` at `[j][i]`.
pub type Lanes4 = [[[f32; LANES]; 2]; 2];

/// `lanes[j][i][l mod 16] += a[i][l] * b[j][l]`: each value is read once for two products. The vectors are at least as
/// long as the first.
#[inline(always)]
pub fn dots_into(lanes: &mut Lanes4, a: [&[f32]; 2], b: [&[f32]; 2]) {
    let n = a[0].len() / LANES;
    let [a0, a1] = a.map(|a| &a.as_chunks::<LANES>().0[..n]);
    let [b0, b1] = b.map(|b| &b.as_chunks::<LANES>().0[..n]);
    // Named one by one, so that they stay in registers.
    let [[mut s00, mut s01], [mut s10, mut s11]] = *lanes;
    for c in 0..n {
        multiply_add(&mut s00, &a0[c], &b0[c]);
        multiply_add(&mut s01, &a1[c], &b0[c]);
        multiply_add(&mut s10, &a0[c], &b1[c]);
        multiply_add(&mut s11, &a1[c], &b1[c]);
    }
    *lanes = [[s00, s01], [s10, s11]];
    for l in n * LANES..a[0].len() {
        for (lanes, b) in lanes.iter_mut().zip(b) {
            for (lanes, a) in lanes.iter_mut().zip(a) {
                lanes[l % LANES] += a[l] * b[l];
            }
        }
    }
}

/// The sums of four products' lanes: `sum_lanes` of each.
#[inline(always)]
pub fn sum_lanes4(lanes: &Lanes4) -> [[f32; 2]; 2] {
    // In two steps, so that the second is one on vectors across the four.
    let mut quarters = [[0.0; 4]; 4];
    for (quarter, lanes) in quarters.iter_mut().zip(lanes.as_flattened()) {
        let mut half = [0.0; 8];
        for i in 0..8 {
            half[i] = lanes[i] + lanes[i + 8];
        }
        for i in 0..4 {
            quarter[i] = half[i] + half[i + 4];
        }
    }
    let sums = quarters.map(|q| (q[0] + q[2]) + (q[1] + q[3]));
    [[sums[0], sums[1]], [sums[2], sums[3]]]
}

/// The dot products of two vectors with N others, N even: `products[i][j] = a[i] . b[j]`.
#[inline(always)]
pub fn dots<const N: usize>(a: [&[f32]; 2], b: &[&[f32]; N]) -> [[f32; N]; 2] {
    // All lanes first, then all sums: the loops stay simple enough to be vectorized.
    let mut lanes = [[[0.0; LANES]; 2]; N];
    for (lanes, b) in lanes.as_chunks_mut::<2>().0.iter_mut().zip(b.as_chunks::<2>().0) {
        dots_into(lanes, a, *b);
    }
    let mut products = [[0.0; N]; 2];
    for (j, lanes) in lanes.as_chunks::<2>().0.iter().enumerate() {
        for (k, sums) in sum_lanes4(lanes).iter().enumerate() {
            products[0][2 * j + k] = sums[0];
            products[1][2 * j + k] = sums[1];
        }
    }
    products
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

/// `y[i] = factor[i] * y[i] + sum_j a[i][j] x[j]` for two i, added in the order of j: each value of y is read and written
/// once, and each of x is read once for both. All vectors are at least as long as the first y, the a as x.
#[inline(always)]
pub fn weighted_sums(factor: [f32; 2], a: [&[f32]; 2], x: &[&[f32]], [y0, y1]: [&mut [f32]; 2]) {
    const WIDTH: usize = 32;
    let len = y0.len();
    let (chunks0, chunks1) = (y0.as_chunks_mut::<WIDTH>().0, y1.as_chunks_mut::<WIDTH>().0);
    for (c, (y0, y1)) in chunks0.iter_mut().zip(chunks1).enumerate() {
        let (mut s0, mut s1) = (*y0, *y1);
        s0.iter_mut().for_each(|s| *s *= factor[0]);
        s1.iter_mut().for_each(|s| *s *= factor[1]);
        for j in 0..x.len() {
            let x = &x[j].as_chunks::<WIDTH>().0[c];
            let (a0, a1) = (a[0][j], a[1][j]);
            for i in 0..WIDTH {
                s0[i] += a0 * x[i];
            }
            for i in 0..WIDTH {
                s1[i] += a1 * x[i];
            }
        }
        (*y0, *y1) = (s0, s1);
    }
    let start = len / WIDTH * WIDTH;
    for ((y, factor), a) in [&mut y0[start..], &mut y1[start..len]].into_iter().zip(factor).zip(a) {
        y.iter_mut().for_each(|y| *y *= factor);
        for (a, x) in a.iter().zip(x) {
            axpy(*a, &x[start..], y);
        }
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
