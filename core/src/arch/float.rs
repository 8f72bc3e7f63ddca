//! f32 products: dot products and weighted sums, each multiplication and each addition rounded by itself, in one order. And
//! what makes 8-bit activations of f32: magnitudes and rounding.
//!
//! ```text
//! dot(a, b) = the lanes added pairwise, l to l + 8, then + 4, + 2, + 1;   lane[l] = sum_c a[16 c + l] b[16 c + l]
//! weighted sum: y[i] = ((factor y[i] + a[0] x_0[i]) + a[1] x_1[i]) + ...
//! ```
//! Several are formed together, so that each value is read once for many products. Written once over vectors of sixteen
//! (`Lanes`): left to itself, the compiler works backwards from the lanes' sums and takes vectors apart.

use super::level::{Kind, Level};

/// Lanes of every f32 sum.
pub const LANES: usize = 16;

/// Adding 1.5 * 2^23 rounds to the nearest even integer and leaves it in the low bits.
pub const ROUND: f32 = 12_582_912.0;

/// The lanes of products of two vectors with N others: those of `a[i] . b[j]` at `[j][i]`.
pub type Sums<const N: usize> = [[[f32; LANES]; 2]; N];

/// Sixteen f32 of a level.
pub(super) trait Lanes: Copy {
    /// Vectors whose products with two others are formed at once: as many as the registers hold the sums of.
    const KEYS: usize;
    /// Vectors of two weighted sums that are added to at once.
    const WIDE: usize;

    fn splat(value: f32) -> Self;
    fn load(from: &[f32; LANES]) -> Self;
    fn store(self, to: &mut [f32; LANES]);
    fn add(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;

    /// The largest magnitude of these and those; NaN if there is one.
    #[inline(always)]
    fn magnitude(self, other: Self) -> f32 {
        let mut both = [[0.0f32; LANES]; 2];
        self.store(&mut both[0]);
        other.store(&mut both[1]);
        // Magnitudes order as their bits do, and integers have a maximum that vectorizes.
        f32::from_bits(both.as_flattened().iter().fold(0, |most, value| most.max(value.abs().to_bits())))
    }

    /// The lowest byte of each.
    #[inline(always)]
    fn low_bytes(self, to: &mut [i8; LANES]) {
        let mut values = [0.0f32; LANES];
        self.store(&mut values);
        for l in 0..LANES {
            to[l] = values[l].to_bits() as i8;
        }
    }

    /// `sums[i][k]`: the lanes of `lanes[k][i]`, added pairwise.
    #[inline(always)]
    fn sums<const K: usize>(lanes: &[[Self; 2]; K]) -> [[f32; K]; 2] {
        let mut sums = [[0.0; K]; 2];
        for k in 0..K {
            for i in 0..2 {
                let mut all = [0.0; LANES];
                lanes[k][i].store(&mut all);
                sums[i][k] = sum_lanes(all);
            }
        }
        sums
    }
}

/// The specification.
impl Lanes for [f32; LANES] {
    const KEYS: usize = 2;
    const WIDE: usize = 2;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        [value; LANES]
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        *from
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self;
    }

    #[inline(always)]
    fn add(mut self, other: Self) -> Self {
        for l in 0..LANES {
            self[l] += other[l];
        }
        self
    }

    #[inline(always)]
    fn mul(mut self, other: Self) -> Self {
        for l in 0..LANES {
            self[l] *= other[l];
        }
        self
    }
}

/// Adds the lanes pairwise: l and l + N/2, then + N/4, and so on; N is a power of two.
#[inline(always)]
pub fn sum_lanes<const N: usize>(mut lanes: [f32; N]) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// `$run` with the level's `$lanes`, compiled for its instructions.
macro_rules! by_level {
    ($level:expr, |$lanes:ident| $run:expr) => {
        match $level.kind() {
            // SAFETY: a `Level` of this kind is only made where these instructions were detected.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe {
                super::x86_64::avx512::vectorize(
                    #[inline(always)]
                    || {
                        type $lanes = super::x86_64::avx512::F32x16;
                        $run
                    },
                )
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe {
                super::x86_64::avx2::vectorize(
                    #[inline(always)]
                    || {
                        type $lanes = super::x86_64::avx2::F32x16;
                        $run
                    },
                )
            },
            #[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
            Kind::Neon | Kind::NeonDot | Kind::Simd128 | Kind::RelaxedSimd | Kind::RelaxedSimd16 => {
                type $lanes = super::lanes::F32x16;
                $run
            }
            _ => {
                type $lanes = [f32; LANES];
                $run
            }
        }
    };
}

/// The dot products of two vectors with N others, N even: `products[i][j] = a[i] . b[j]`. The others are at least as long
/// as the first.
#[inline(never)]
pub fn dots<const N: usize>(level: Level, a: [&[f32]; 2], b: &[&[f32]; N]) -> [[f32; N]; 2] {
    by_level!(level, |L| {
        let mut products = [[0.0; N]; 2];
        let (many, few) = b.as_chunks::<{ L::KEYS }>();
        for (k, b) in many.iter().enumerate() {
            put(&mut products, k * L::KEYS, L::sums(&add_dots([[L::splat(0.0); 2]; L::KEYS], a, b)));
        }
        for (k, b) in few.as_chunks::<2>().0.iter().enumerate() {
            put(&mut products, many.len() * L::KEYS + 2 * k, L::sums(&add_dots([[L::splat(0.0); 2]; 2], a, b)));
        }
        products
    })
}

/// [`dots`] piece by piece: `lanes[j][i]` take what `a[i] . b[j]` adds to them. All but the last pieces are whole lanes.
#[inline(never)]
pub fn dots_into<const N: usize>(level: Level, lanes: &mut Sums<N>, a: [&[f32]; 2], b: &[&[f32]; N]) {
    by_level!(level, |L| {
        let ((many, few), (lanes, few_lanes)) = (b.as_chunks::<{ L::KEYS }>(), lanes.as_chunks_mut::<{ L::KEYS }>());
        for (b, lanes) in many.iter().zip(lanes) {
            add_dots_to::<L, { L::KEYS }>(lanes, a, b);
        }
        for (b, lanes) in few.as_chunks::<2>().0.iter().zip(few_lanes.as_chunks_mut().0) {
            add_dots_to::<L, 2>(lanes, a, b);
        }
    });
}

/// The products whose lanes these are: `sums[i][j]`.
#[inline(never)]
pub fn sums<const N: usize>(level: Level, lanes: &Sums<N>) -> [[f32; N]; 2] {
    by_level!(level, |L| {
        let mut sums = [[0.0; N]; 2];
        let (many, few) = lanes.as_chunks::<{ L::KEYS }>();
        for (k, lanes) in many.iter().enumerate() {
            put(&mut sums, k * L::KEYS, L::sums(&load::<L, { L::KEYS }>(lanes)));
        }
        for (k, lanes) in few.as_chunks::<2>().0.iter().enumerate() {
            put(&mut sums, many.len() * L::KEYS + 2 * k, L::sums(&load::<L, 2>(lanes)));
        }
        sums
    })
}

/// `y[i] = factor[i] * y[i] + sum_j a[i][j] x[j]` for two i, added in the order of j: each value of y is read and written
/// once, and each of x is read once for both. All vectors are at least as long as the first y, the a as x.
#[inline(never)]
pub fn weighted_sums(level: Level, factor: [f32; 2], a: [&[f32]; 2], x: &[&[f32]], mut y: [&mut [f32]; 2]) {
    by_level!(level, |L| {
        let whole = y[0].len() / LANES;
        let done = whole / L::WIDE * L::WIDE;
        add_weighted::<L, { L::WIDE }>(factor, a, x, &mut y, 0..done);
        add_weighted::<L, 1>(factor, a, x, &mut y, done..whole);
    });
    let tail = y[0].len() / LANES * LANES..y[0].len();
    for i in 0..2 {
        for l in tail.clone() {
            let mut sum = factor[i] * y[i][l];
            for (a, x) in a[i].iter().zip(x) {
                sum += a * x[l];
            }
            y[i][l] = sum;
        }
    }
}

/// Of each 32 values the largest magnitude; NaN if there is one.
#[inline(never)]
pub fn magnitudes<const N: usize>(level: Level, x: &[[[f32; LANES]; 2]; N]) -> [f32; N] {
    by_level!(level, |L| {
        let mut magnitudes = [0.0; N];
        for b in 0..N {
            magnitudes[b] = L::load(&x[b][0]).magnitude(L::load(&x[b][1]));
        }
        magnitudes
    })
}

/// `codes[b][i] = x[b][i] * factor[b]`, rounded to the nearest even integer, which must be of eight bits. Gives the sums of
/// each 16 codes: `sums[i][b]` of block b's half i.
#[inline(never)]
pub fn round<const N: usize>(
    level: Level,
    x: &[[[f32; LANES]; 2]; N],
    factor: &[f32; N],
    codes: &mut [[[i8; LANES]; 2]; N],
) -> [[f32; N]; 2] {
    by_level!(level, |L| {
        let (up, down) = (L::splat(ROUND), L::splat(-ROUND));
        let mut rounded = [[L::splat(0.0); 2]; N];
        for b in 0..N {
            for i in 0..2 {
                let raised = L::load(&x[b][i]).mul(L::splat(factor[b])).add(up);
                raised.low_bytes(&mut codes[b][i]);
                rounded[b][i] = raised.add(down);
            }
        }
        // Exact: integers.
        L::sums(&rounded)
    })
}

/// `lanes[k][i]` plus those of `a[i] . b[k]`.
#[inline(always)]
fn add_dots<L: Lanes, const K: usize>(mut lanes: [[L; 2]; K], a: [&[f32]; 2], b: &[&[f32]; K]) -> [[L; 2]; K] {
    let n = a[0].len() / LANES;
    let mut b_whole: [&[[f32; LANES]]; K] = [&[]; K];
    for k in 0..K {
        b_whole[k] = &b[k].as_chunks().0[..n];
    }
    let [a0, a1] = [&a[0].as_chunks().0[..n], &a[1].as_chunks().0[..n]];
    for c in 0..n {
        let a = [L::load(&a0[c]), L::load(&a1[c])];
        for k in 0..K {
            let b = L::load(&b_whole[k][c]);
            for i in 0..2 {
                lanes[k][i] = lanes[k][i].add(a[i].mul(b));
            }
        }
    }
    if !a[0].len().is_multiple_of(LANES) {
        // Filled up with zeros: no lane is -0.0, so adding 0.0 changes none.
        let tail = |v: &[f32]| {
            let v = &v[n * LANES..a[0].len()];
            let mut padded = [0.0; LANES];
            padded[..v.len()].copy_from_slice(v);
            padded
        };
        for k in 0..K {
            let b = L::load(&tail(b[k]));
            for i in 0..2 {
                lanes[k][i] = lanes[k][i].add(L::load(&tail(a[i])).mul(b));
            }
        }
    }
    lanes
}

#[inline(always)]
fn add_dots_to<L: Lanes, const K: usize>(lanes: &mut Sums<K>, a: [&[f32]; 2], b: &[&[f32]; K]) {
    let sums = add_dots::<L, K>(load(lanes), a, b);
    for k in 0..K {
        for i in 0..2 {
            sums[k][i].store(&mut lanes[k][i]);
        }
    }
}

#[inline(always)]
fn load<L: Lanes, const K: usize>(lanes: &Sums<K>) -> [[L; 2]; K] {
    let mut loaded = [[L::splat(0.0); 2]; K];
    for k in 0..K {
        for i in 0..2 {
            loaded[k][i] = L::load(&lanes[k][i]);
        }
    }
    loaded
}

/// Writes K columns.
#[inline(always)]
fn put<const N: usize, const K: usize>(all: &mut [[f32; N]; 2], first: usize, some: [[f32; K]; 2]) {
    for i in 0..2 {
        all[i][first..first + K].copy_from_slice(&some[i]);
    }
}

/// [`weighted_sums`] of some vectors of sixteen, W at once.
#[inline(always)]
fn add_weighted<L: Lanes, const W: usize>(
    factor: [f32; 2],
    a: [&[f32]; 2],
    x: &[&[f32]],
    y: &mut [&mut [f32]; 2],
    vectors: core::ops::Range<usize>,
) {
    let [y0, y1] = y;
    let (y0, y1) = (y0.as_chunks_mut::<LANES>().0, y1.as_chunks_mut::<LANES>().0);
    let a = [&a[0][..x.len()], &a[1][..x.len()]];
    for c in vectors.step_by(W) {
        let mut sums = [[L::splat(0.0); W]; 2];
        for w in 0..W {
            sums[0][w] = L::load(&y0[c + w]).mul(L::splat(factor[0]));
            sums[1][w] = L::load(&y1[c + w]).mul(L::splat(factor[1]));
        }
        for j in 0..x.len() {
            let x = &x[j].as_chunks::<LANES>().0[c..c + W];
            let a = [L::splat(a[0][j]), L::splat(a[1][j])];
            for w in 0..W {
                let x = L::load(&x[w]);
                for i in 0..2 {
                    sums[i][w] = sums[i][w].add(a[i].mul(x));
                }
            }
        }
        for w in 0..W {
            sums[0][w].store(&mut y0[c + w]);
            sums[1][w].store(&mut y1[c + w]);
        }
    }
}
