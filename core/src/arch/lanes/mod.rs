//! Vectors of 128 bits: NEON's and WebAssembly's, of which `v` is the target's.
//!
//! Weights go in as unsigned codes of at most seven bits where their type allows it, raised by RAISE, and come off
//! again: `sum(code x) = sum((code + RAISE) x) - RAISE sum(x)`. So they may be the narrower operand of relaxed SIMD's
//! dot product.

mod weights;

#[cfg(target_arch = "aarch64")]
use super::aarch64 as v;
#[cfg(target_arch = "wasm32")]
use super::wasm32 as v;

use super::disjoint::Columns;
use super::integer::{self, CHUNK, ChunkX, Form, Isa, ROWS, Row, RowX, SIDE_BY_SIDE, Tile, Work, chunks, raise};
use crate::dtype::DType;
use crate::quant;
use core::hint::black_box;
use core::marker::PhantomData;
use v::{Bytes, Floats, Ints, TOGETHER};
use weights::Weights;

/// How a level multiplies codes.
pub(super) trait Dot: Copy {
    /// Sixteen weights.
    type W: Copy;
    /// Sixteen activations, or four of them four times.
    type X: Copy;
    /// Sums of a few products.
    type Sum: Copy;
    /// Whether these are of 16 bits, each of two products at a time: then only some fit ([`Format::FIT`]).
    const SHORT: bool;

    fn weights(codes: Bytes) -> Self::W;

    fn activations(codes: Bytes) -> Self::X;

    /// Four activations, four times, for weights that [`Dot::lay_out`] made.
    fn splat(codes: [u8; 4]) -> Self::X;

    /// Four rows of four codes, so that the products of each row come to its lane.
    fn lay_out(unit: Bytes) -> Bytes;

    fn zero() -> Self::Sum;

    /// `sum` plus sixteen products, four to a lane.
    fn dot(sum: Self::Sum, w: Self::W, x: Self::X) -> Self::Sum;

    fn widen(sum: Self::Sum) -> Ints;
}

/// [`integer::block`], compiled once for each type. `F` multiplies codes of eight bits, `D` those of seven.
pub(super) fn block<D: Dot, F: Dot>(work: &Work<'_>, columns: &mut Columns<'_>) {
    macro_rules! by_type {
        ($($dtype:ident $dot:ident: $load:path),+ $(,)?) => {
            match work.weights.dtype() {
                $(DType::$dtype => {
                    #[derive(Clone, Copy)]
                    struct Known;
                    impl Format for Known {
                        const DTYPE: DType = DType::$dtype;

                        #[inline(always)]
                        fn whole(row: Row<'_>, start: usize, len: usize) -> Option<Weights> {
                            $load(row, start, len)
                        }
                    }
                    integer::block(Lanes::<Known, $dot>(PhantomData), work, columns);
                })+
                // They have no integer form, and do not come here.
                DType::F32 | DType::F16 | DType::BF16 | DType::I32 | DType::F8_E4M3 => {}
            }
        };
    }
    by_type!(
        Q4_0 D: weights::q4_0,
        Q4_1 D: weights::q4_1,
        Q5_0 D: weights::q5_0,
        Q5_1 D: weights::q5_1,
        Q8_0 F: weights::q8_0,
        Q2_K D: weights::q2_k,
        Q3_K D: weights::q3_k,
        Q4_K D: weights::q4_k,
        Q5_K D: weights::q5_k,
        Q6_K D: weights::q6_k,
        IQ1_S D: weights::none,
        IQ1_M D: weights::none,
        IQ2_XXS D: weights::iq2_xxs,
        IQ2_XS D: weights::iq2_xs,
        IQ2_S D: weights::iq2_s,
        IQ3_XXS D: weights::none,
        IQ3_S D: weights::none,
        IQ4_NL F: weights::iq4_nl,
        IQ4_XS F: weights::iq4_xs,
        MXFP4 D: weights::mxfp4,
        FP4_E2M1 D: weights::none,
    );
}

/// The largest magnitude of a code, as raised.
const fn largest(dtype: DType) -> i32 {
    match dtype {
        DType::Q2_K => 3,
        DType::Q3_K => 7,
        DType::Q4_0 | DType::Q4_1 | DType::Q4_K => 15,
        DType::IQ1_S | DType::IQ1_M => 18,
        DType::MXFP4 | DType::FP4_E2M1 => 24,
        DType::IQ3_S => 30,
        DType::Q5_0 | DType::Q5_1 | DType::Q5_K => 31,
        DType::Q6_K => 63,
        DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => 86,
        DType::IQ3_XXS => 124,
        _ => 128,
    }
}

/// A type of weights.
trait Format: Copy {
    const DTYPE: DType;
    const WIDE: bool = quant::sub_block(Self::DTYPE) == 32;
    const OFFSET: bool = quant::has_offset(Self::DTYPE);
    const RAISE: i32 = raise(Self::DTYPE) as i32;
    /// Pairs of products that surely fit 16 bits, activations being at most 127.
    const FIT: usize = i16::MAX as usize / (2 * 127 * largest(Self::DTYPE) as usize);

    /// Columns `start..start + len` of `row`, where they are a whole chunk of whole blocks.
    fn whole(row: Row<'_>, start: usize, len: usize) -> Option<Weights>;
}

#[derive(Clone, Copy)]
struct Lanes<F, D>(PhantomData<(F, D)>);

impl<F: Format, D: Dot> Isa for Lanes<F, D> {
    #[inline(always)]
    fn side_by_side<const T: usize>(
        self,
        _: Form,
        rows: &[Row<'_>; SIDE_BY_SIDE],
        cols: usize,
        x: &[RowX<'_>; T],
    ) -> [[f32; SIDE_BY_SIDE]; T] {
        let mut out = [[0.0; SIDE_BY_SIDE]; T];
        for (r, row) in rows.iter().enumerate() {
            let sums = one_row::<F, D, T>(*row, cols, x);
            for t in 0..T {
                out[t][r] = sums[t];
            }
        }
        out
    }

    #[inline(always)]
    fn place(self, r: usize, row: Row<'_>, (start, len): (usize, usize), tile: &mut Tile) {
        match F::whole(row, start, len) {
            Some(w) => put::<F>(&w, r, tile),
            None => put::<F>(&weights::generic(row, start, len), r, tile),
        }
    }

    #[inline(always)]
    fn seal(self, tile: &mut Tile) {
        seal::<D>(tile, F::WIDE, F::OFFSET);
    }

    #[inline(always)]
    fn tile(self, _: Form, tile: &Tile, chunk: usize, x: &[RowX<'_>], out: &mut [[f32; ROWS]]) {
        tile_all::<F, D>(tile, chunk, x, out);
    }
}

/// Writes a row of the tile.
#[inline(always)]
fn put<F: Format>(w: &Weights, r: usize, tile: &mut Tile) {
    let codes = bytemuck::cast_mut::<_, [[u8; 16]; 16]>(&mut tile.rows[r]);
    for i in 0..16 {
        v::store(w.codes[i], &mut codes[i]);
    }
    let scales = bytemuck::cast_mut::<_, [[u8; 16]; 4]>(&mut tile.row_scales[r]);
    let offsets = bytemuck::cast_mut::<_, [[u8; 16]; 4]>(&mut tile.row_offsets[r]);
    for i in 0..if F::WIDE { 2 } else { 4 } {
        v::store(v::float_bytes(w.scales[i]), &mut scales[i]);
        if F::OFFSET {
            v::store(v::float_bytes(w.offsets[i]), &mut offsets[i]);
        }
    }
}

#[inline(always)]
fn zero() -> Ints {
    v::splat_i(0)
}

/// `a[0] + a[1]`, `a[2] + a[3]`, `b[0] + b[1]`, `b[2] + b[3]`.
#[inline(always)]
fn add_adjacent(a: Floats, b: Floats) -> Floats {
    v::add_f(v::even_f(a, b), v::odd_f(a, b))
}

/// A row against each activation. A function of its own: sixteen registers hold no more than one row's chunk.
#[inline(never)]
fn one_row<F: Format, D: Dot, const T: usize>(row: Row<'_>, cols: usize, x: &[RowX<'_>; T]) -> [f32; T] {
    let mut out = [0.0; T];
    for chunk in 0..cols.div_ceil(CHUNK) {
        let Some(x) = chunks(x, chunk) else { break };
        let (start, len) = (chunk * CHUNK, CHUNK.min(cols - chunk * CHUNK));
        match F::whole(row, start, len) {
            Some(w) => {
                for t in 0..T {
                    out[t] += one_chunk::<F, D>(&w, x[t]);
                }
            }
            None => odd_chunk::<F, D, T>(row, (start, len), &x, &mut out),
        }
    }
    out
}

/// A chunk that is not whole, or of a type that is unpacked through memory.
#[inline(never)]
fn odd_chunk<F: Format, D: Dot, const T: usize>(
    row: Row<'_>,
    (start, len): (usize, usize),
    x: &[ChunkX<'_>; T],
    out: &mut [f32; T],
) {
    let w = weights::generic(row, start, len);
    for t in 0..T {
        out[t] += one_chunk::<F, D>(&w, x[t]);
    }
}

/// One chunk of one row against one activation.
#[inline(always)]
fn one_chunk<F: Format, D: Dot>(w: &Weights, x: ChunkX<'_>) -> f32 {
    if F::WIDE { chunk_of_32::<F, D>(w, x) } else { chunk_of_16::<F, D>(w, x) }
}

/// One chunk of one row, in blocks of 32, against one activation.
#[inline(always)]
fn chunk_of_32<F: Format, D: Dot>(w: &Weights, x: ChunkX<'_>) -> f32 {
    let codes = bytemuck::cast_ref::<_, [[u8; 16]; 16]>(x.codes);
    let x_sums = bytemuck::cast_ref::<_, [[u8; 16]; 2]>(x.sums);
    let x_scales = bytemuck::cast_ref::<_, [[u8; 16]; 2]>(x.scales);
    let mut p = [v::splat_f(0.0); 2];
    for half in 0..2 {
        let mut sums = [zero(); 4];
        for b in 0..4 {
            let i = 8 * half + 2 * b;
            let (w0, w1) = (D::weights(w.codes[i]), D::weights(w.codes[i + 1]));
            let (x0, x1) = (D::activations(v::load(&codes[i])), D::activations(v::load(&codes[i + 1])));
            sums[b] = if !D::SHORT || F::FIT >= 2 {
                D::widen(D::dot(D::dot(D::zero(), w0, x0), w1, x1))
            } else {
                v::add_i(D::widen(D::dot(D::zero(), w0, x0)), D::widen(D::dot(D::zero(), w1, x1)))
            };
        }
        let mut sum = v::sums(sums);
        let x_sum = v::add_pairs_i16(v::load(&x_sums[half]));
        if F::RAISE != 0 {
            sum = v::sub_i(sum, v::mul_i(x_sum, v::splat_i(F::RAISE)));
        }
        let x_scale = v::from_bytes(v::load(&x_scales[half]));
        p[half] = v::mul_f(v::mul_f(w.scales[half], x_scale), v::to_f(sum));
        if F::OFFSET {
            p[half] = v::add_f(p[half], v::mul_f(w.offsets[half], v::mul_f(x_scale, v::to_f(x_sum))));
        }
    }
    last(add_adjacent(p[0], p[1]))
}

/// One chunk of one row, in blocks of 16, against one activation.
#[inline(always)]
fn chunk_of_16<F: Format, D: Dot>(w: &Weights, x: ChunkX<'_>) -> f32 {
    let codes = bytemuck::cast_ref::<_, [[u8; 16]; 16]>(x.codes);
    let x_sums = bytemuck::cast_ref::<_, [[u8; 16]; 2]>(x.sums);
    let x_scales = bytemuck::cast_ref::<_, [[u8; 16]; 2]>(x.scales);
    let mut p = [v::splat_f(0.0); 4];
    for half in 0..2 {
        let x_scale = v::from_bytes(v::load(&x_scales[half]));
        let x_scale = [v::double_low_f(x_scale), v::double_high_f(x_scale)];
        let x_sum = v::widen_i16(v::load(&x_sums[half]));
        for quarter in 0..2 {
            let q = 2 * half + quarter;
            let mut sums = [zero(); 4];
            for b in 0..4 {
                let (w, x) = (w.codes[4 * q + b], v::load(&codes[4 * q + b]));
                sums[b] = D::widen(D::dot(D::zero(), D::weights(w), D::activations(x)));
            }
            let mut sum = v::sums(sums);
            if F::RAISE != 0 {
                sum = v::sub_i(sum, v::mul_i(x_sum[quarter], v::splat_i(F::RAISE)));
            }
            p[q] = v::mul_f(v::mul_f(w.scales[q], x_scale[quarter]), v::to_f(sum));
            if F::OFFSET {
                let x_sum = v::mul_f(x_scale[quarter], v::to_f(x_sum[quarter]));
                p[q] = v::add_f(p[q], v::mul_f(w.offsets[q], x_sum));
            }
        }
    }
    last(add_adjacent(add_adjacent(p[0], p[1]), add_adjacent(p[2], p[3])))
}

/// (p0 + p1) + (p2 + p3).
#[inline(always)]
fn last(p: Floats) -> f32 {
    let pairs = add_adjacent(p, p);
    v::first_f(add_adjacent(pairs, pairs))
}

/// Codes as [four codes][row], as `D` lays out four rows; scales and offsets as [block][row].
fn seal<D: Dot>(tile: &mut Tile, wide: bool, offset: bool) {
    let rows = bytemuck::cast_ref::<_, [[[u8; 16]; 16]; ROWS]>(&tile.rows);
    let units = bytemuck::cast_mut::<_, [[[u8; 16]; 4]; 64]>(&mut tile.codes);
    for four in 0..ROWS / 4 {
        let [a, b, c, d] = &rows.as_chunks::<4>().0[four];
        for i in 0..16 {
            let columns = v::transpose([v::load(&a[i]), v::load(&b[i]), v::load(&c[i]), v::load(&d[i])]);
            for j in 0..4 {
                v::store(D::lay_out(columns[j]), &mut units[4 * i + j][four]);
            }
        }
    }
    let quarters = if wide { 2 } else { 4 };
    transpose_floats(&tile.row_scales, &mut tile.scales, quarters);
    if offset {
        transpose_floats(&tile.row_offsets, &mut tile.offsets, quarters);
    }
}

/// [row][block] to [block][row], four times `quarters` blocks.
#[inline(always)]
fn transpose_floats(from: &[[f32; 16]; 16], to: &mut [[f32; 16]; 16], quarters: usize) {
    let from = bytemuck::cast_ref::<_, [[[u8; 16]; 4]; 16]>(from);
    let to = bytemuck::cast_mut::<_, [[[u8; 16]; 4]; 16]>(to);
    for four in 0..4 {
        let [a, b, c, d] = &from.as_chunks::<4>().0[four];
        for i in 0..quarters {
            let columns = v::transpose([v::load(&a[i]), v::load(&b[i]), v::load(&c[i]), v::load(&d[i])]);
            for j in 0..4 {
                v::store(columns[j], &mut to[4 * i + j][four]);
            }
        }
    }
}

/// One chunk of sixteen rows against all activations, a few at a time. A function of its own, for each type: engines
/// allot registers badly in long ones.
#[inline(never)]
fn tile_all<F: Format, D: Dot>(tile: &Tile, chunk: usize, x: &[RowX<'_>], out: &mut [[f32; ROWS]]) {
    let mut waiting = [[[v::splat_f(0.0); ROWS / 4]; TOGETHER]; 3];
    // Units whose products are added before they are widened. Not known to the compiler, or it would unroll the loop over
    // them, load all their weights first, and have no registers left.
    let fit = black_box(if D::SHORT { F::FIT } else { usize::MAX / 2 });
    let (x_many, x_one) = x.as_chunks::<TOGETHER>();
    let (out_many, out_one) = out[..x.len()].as_chunks_mut::<TOGETHER>();
    for (x, out) in x_many.iter().zip(out_many) {
        if let Some(x) = chunks(x, chunk) {
            tile_step::<F, D, TOGETHER>(tile, &x, fit, &mut waiting, out);
        }
    }
    let mut waiting = [[[v::splat_f(0.0); ROWS / 4]; 1]; 3];
    for (x, out) in x_one.iter().zip(out_one) {
        if let Some(x) = chunks(&[*x], chunk) {
            tile_step::<F, D, 1>(tile, &x, fit, &mut waiting, core::array::from_mut(out));
        }
    }
}

/// One value for each of the tile's rows and T activations.
type Many<V, const T: usize> = [[V; ROWS / 4]; T];

/// One chunk of sixteen rows against T activations; `waiting` is scratch: sums of 1, 2 and 4 leaves, until there are as
/// many more.
#[inline(always)]
fn tile_step<F: Format, D: Dot, const T: usize>(
    tile: &Tile,
    x: &[ChunkX<'_>; T],
    fit: usize,
    waiting: &mut [Many<Floats, T>; 3],
    out: &mut [[f32; ROWS]; T],
) {
    let mut sum = waiting[0];
    for b in 0..8 {
        // Blocks of 32, or pairs of blocks of 16: the leaves of the tree of `integer` either way.
        sum = if F::WIDE {
            tile_block::<F, D, T, 8>(tile, x, fit, b)
        } else {
            let first = tile_block::<F, D, T, 4>(tile, x, fit, 2 * b);
            add_many(&first, &tile_block::<F, D, T, 4>(tile, x, fit, 2 * b + 1))
        };
        for (level, waiting) in waiting.iter_mut().enumerate() {
            if b >> level & 1 == 0 {
                *waiting = sum;
                break;
            }
            sum = add_many(waiting, &sum);
        }
    }
    for t in 0..T {
        let out = bytemuck::cast_mut::<_, [[u8; 16]; ROWS / 4]>(&mut out[t]);
        for four in 0..ROWS / 4 {
            let sum = v::add_f(v::from_bytes(v::load(&out[four])), sum[t][four]);
            v::store(v::float_bytes(sum), &mut out[four]);
        }
    }
}

#[inline(always)]
fn add_many<const T: usize>(a: &Many<Floats, T>, b: &Many<Floats, T>) -> Many<Floats, T> {
    let mut sum = *a;
    for t in 0..T {
        for four in 0..ROWS / 4 {
            sum[t][four] = v::add_f(a[t][four], b[t][four]);
        }
    }
    sum
}

/// The scaled products of block `b`, of 4 * UNITS codes, of which `fit` units at a time are added before they are widened.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn tile_block<F: Format, D: Dot, const T: usize, const UNITS: usize>(
    tile: &Tile,
    x: &[ChunkX<'_>; T],
    fit: usize,
    b: usize,
) -> Many<Floats, T> {
    // Cut to the block first: then all that follows lies at fixed distances.
    let units = &bytemuck::cast_ref::<_, [[[u8; 16]; 4]; 64]>(&tile.codes).as_chunks::<UNITS>().0[b];
    let mut x_units = [&[[0; 4]; UNITS]; T];
    for t in 0..T {
        x_units[t] = &bytemuck::cast_ref::<_, [[u8; 4]; 64]>(x[t].codes).as_chunks::<UNITS>().0[b];
    }
    let mut x_sums = [0; T];
    let mut sums = [[zero(); ROWS / 4]; T];
    for t in 0..T {
        let of_16 = x[t].sums;
        x_sums[t] =
            if UNITS == 8 { i32::from(of_16[2 * b]) + i32::from(of_16[2 * b + 1]) } else { i32::from(of_16[b]) };
        if F::RAISE != 0 {
            sums[t] = [v::splat_i(-F::RAISE * x_sums[t]); ROWS / 4];
        }
    }
    for start in (0..UNITS).step_by(fit) {
        let mut few = [[D::zero(); ROWS / 4]; T];
        for unit in start..UNITS.min(start + fit) {
            let mut splats = [D::splat([0; 4]); T];
            for t in 0..T {
                splats[t] = D::splat(x_units[t][unit]);
            }
            for four in 0..ROWS / 4 {
                let w = D::weights(v::load(&units[unit][four]));
                for t in 0..T {
                    few[t][four] = D::dot(few[t][four], w, splats[t]);
                }
            }
        }
        for t in 0..T {
            for four in 0..ROWS / 4 {
                sums[t][four] = v::add_i(sums[t][four], D::widen(few[t][four]));
            }
        }
    }
    let scales = bytemuck::cast_ref::<_, [[u8; 16]; 4]>(&tile.scales[b]);
    let offsets = bytemuck::cast_ref::<_, [[u8; 16]; 4]>(&tile.offsets[b]);
    let mut products = [[v::splat_f(0.0); ROWS / 4]; T];
    for t in 0..T {
        let x_scale = x[t].scales[b * UNITS / 8];
        for four in 0..ROWS / 4 {
            let scale = v::mul_f(v::from_bytes(v::load(&scales[four])), v::splat_f(x_scale));
            products[t][four] = v::mul_f(scale, v::to_f(sums[t][four]));
            if F::OFFSET {
                let x_sum = v::splat_f(x_scale * x_sums[t] as f32);
                let offset = v::mul_f(v::from_bytes(v::load(&offsets[four])), x_sum);
                products[t][four] = v::add_f(products[t][four], offset);
            }
        }
    }
    products
}
