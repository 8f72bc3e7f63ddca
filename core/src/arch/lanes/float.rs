//! Vectors of sixteen f32, in four.

use super::v::{self, Floats};
use crate::arch::float::{LANES, Lanes};

/// Sixteen f32.
#[derive(Clone, Copy)]
pub(in crate::arch) struct F32x16([Floats; 4]);

impl Lanes for F32x16 {
    const KEYS: usize = v::TOGETHER / 2;
    const WIDE: usize = v::TOGETHER / 2;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([v::splat_f(value); 4])
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        let from: &[[u8; 16]; 4] = bytemuck::cast_ref(from);
        Self(from.map(|from| v::from_bytes(v::load(&from))))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        let to: &mut [[u8; 16]; 4] = bytemuck::cast_mut(to);
        for i in 0..4 {
            v::store(v::float_bytes(self.0[i]), &mut to[i]);
        }
    }

    #[inline(always)]
    fn add(mut self, other: Self) -> Self {
        for i in 0..4 {
            self.0[i] = v::add_f(self.0[i], other.0[i]);
        }
        self
    }

    #[inline(always)]
    fn mul(mut self, other: Self) -> Self {
        for i in 0..4 {
            self.0[i] = v::mul_f(self.0[i], other.0[i]);
        }
        self
    }

    #[inline(always)]
    fn magnitude(self, other: Self) -> f32 {
        let magnitude = |v| v::and_i(v::float_bits(v), v::splat_i(i32::MAX));
        let mut most = v::splat_i(0);
        for i in 0..4 {
            most = v::max_i(most, v::max_i(magnitude(self.0[i]), magnitude(other.0[i])));
        }
        let halves = |v| {
            let v = v::from_bits(v);
            v::max_i(v::float_bits(v::even_f(v, v)), v::float_bits(v::odd_f(v, v)))
        };
        v::first_f(v::from_bits(halves(halves(most))))
    }

    #[inline(always)]
    fn low_bytes(self, to: &mut [i8; LANES]) {
        let index = v::words([0x0c08_0400_0c08_0400; 2]);
        let [of_4, ..] = v::transpose(self.0.map(|v| v::lookup(v::float_bytes(v), index)));
        v::store(of_4, bytemuck::cast_mut(to));
    }

    #[inline(always)]
    fn sums<const K: usize>(lanes: &[[Self; 2]; K]) -> [[f32; K]; 2] {
        let mut sums = [[0.0; K]; 2];
        for k in 0..K {
            // l and l + 8, then l and l + 4: four elements each.
            let [a, b] = lanes[k].map(|Self([a, b, c, d])| v::add_f(v::add_f(a, c), v::add_f(b, d)));
            // Elements 0 and 2 of each, then 1 and 3: l and l + 2.
            let (even, odd) = (v::even_f(a, b), v::odd_f(a, b));
            let two = |v| v::add_f(v::even_f(v, v), v::odd_f(v, v));
            let both = v::add_f(two(even), two(odd));
            (sums[0][k], sums[1][k]) = (v::first_f(both), v::first_f(v::odd_f(both, both)));
        }
        sums
    }
}
