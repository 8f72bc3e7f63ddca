//! Vectors of 128 bits: NEON's and WebAssembly's, of which `v` is the target's.
//!
//! Weights go in as unsigned codes of at most seven bits where their type allows it, raised by RAISE, and come off
//! again: `sum(code x) = sum((code + RAISE) x) - RAISE sum(x)`. So they may be the narrower operand of relaxed SIMD's
//! dot product.

mod float;
mod weights;

#[cfg(target_arch = "aarch64")]
use super::aarch64 as v;
#[cfg(target_arch = "wasm32")]
use super::wasm32 as v;

use super::disjoint::Columns;
use super::integer::{
    self, Ahead, CHUNK, ChunkX, Form, Isa, Number, Outputs, Placed, ROWS, Row, RowX, SIDE_BY_SIDE, Tile, Work, chunks,
    largest, raise,
};
use crate::dtype::DType;
use crate::quant;
use core::hint::black_box;
use core::marker::PhantomData;
pub(super) use float::F32x16;
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

/// A type of weights.
trait Format: Copy {
    const DTYPE: DType;
    const WIDE: bool = quant::sub_block(Self::DTYPE) == 32;
    const OFFSET: bool = quant::has_offset(Self::DTYPE);
    const RAISE: i32 = raise(Self::DTYPE) as i32;
    const UNITS: bool = quant::has_units(Self::DTYPE);
    /// Pairs of products that surely fit 16 bits, activations being at most 127.
    const FIT: usize = i16::MAX as usize / (2 * 127 * largest(Self::DTYPE) as usize);

    /// Columns `start..start + len` of `row`, where they are a whole chunk of whole blocks.
    fn whole(row: Row<'_>, start: usize, len: usize) -> Option<Weights>;
}

#[derive(Clone, Copy)]
struct Lanes<F, D>(PhantomData<(F, D)>);

impl<F: Format, D: Dot> Isa for Lanes<F, D> {
    type Tile = Tile;
    const TILE: Tile = Tile::ZERO;

    #[inline(always)]
    fn few<const T: usize>(self, work: &Work<'_>, x: &[RowX<'_>; T], columns: &mut Columns<'_>) {
        for i in (0..columns.width()).step_by(SIDE_BY_SIDE) {
            let mut out = [[0.0; SIDE_BY_SIDE]; T];
            for (r, row) in work.rows(i, columns.width()).iter().enumerate() {
                let sums = one_row::<F, D, T>(*row, work.weights.cols(), x);
                for t in 0..T {
                    out[t][r] = sums[t];
                }
            }
            work.put(i, &out, columns);
        }
    }

    #[inline(always)]
    fn place(self, r: usize, row: Row<'_>, (start, len): (usize, usize), placed: &mut Placed) {
        match F::whole(row, start, len) {
            Some(w) => put::<F>(&w, r, placed),
            None => put::<F>(&weights::generic(row, start, len), r, placed),
        }
    }

    #[inline(always)]
    fn seal(self, placed: &Placed, tile: &mut Tile) {
        seal::<D>(placed, tile, F::WIDE, F::OFFSET);
    }

    #[inline(always)]
    fn tiles(self, _: Form, tiles: &[Tile], chunk: usize, x: &[RowX<'_>], out: &mut [Outputs], _: Ahead<'_>) {
        for (tile, out) in tiles.iter().zip(out) {
            tile_all::<F, D>(tile, chunk, x, out);
        }
    }
}

/// Writes row `r`.
#[inline(always)]
fn put<F: Format>(w: &Weights, r: usize, placed: &mut Placed) {
    let codes = bytemuck::cast_mut::<_, [[u8; 16]; 16]>(&mut placed.codes[r]);
    for i in 0..16 {
        v::store(w.codes[i], &mut codes[i]);
    }
    let scales = bytemuck::cast_mut::<_, [[u8; 16]; 4]>(&mut placed.scales[r]);
    let offsets = bytemuck::cast_mut::<_, [[u8; 16]; 4]>(&mut placed.offsets[r]);
    for i in 0..if F::WIDE { 2 } else { 4 } {
        v::store(v::float_bytes(v::from_bits(w.scales[i])), &mut scales[i]);
        if F::OFFSET {
            v::store(v::float_bytes(v::from_bits(w.offsets[i])), &mut offsets[i]);
        }
    }
    (placed.units[0][r], placed.units[1][r]) = (w.units[0], w.units[1]);
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
    if F::UNITS { chunk_of_units::<F, D>(w, x) } else { chunk_of_blocks::<F, D>(w, x) }
}

/// The sums of products of blocks 4 i to 4 i + 3, `x_sum` being those of the activation's codes.
#[inline(always)]
fn four_sums<F: Format, D: Dot>(w: &Weights, x: ChunkX<'_>, i: usize, x_sum: Ints) -> Ints {
    let codes = bytemuck::cast_ref::<_, [[u8; 16]; 16]>(x.codes);
    let mut sums = [zero(); 4];
    for b in 0..4 {
        let product = |sum, i: usize| D::dot(sum, D::weights(w.codes[i]), D::activations(v::load(&codes[i])));
        let i = 4 * i + b;
        sums[b] = if !F::WIDE {
            D::widen(product(D::zero(), i))
        } else if !D::SHORT || F::FIT >= 2 {
            D::widen(product(product(D::zero(), 2 * i), 2 * i + 1))
        } else {
            v::add_i(D::widen(product(D::zero(), 2 * i)), D::widen(product(D::zero(), 2 * i + 1)))
        };
    }
    let sums = v::sums(sums);
    if F::RAISE == 0 { sums } else { v::sub_i(sums, v::mul_i(x_sum, v::splat_i(F::RAISE))) }
}

/// One chunk of one row without units: blocks of 32 are the leaves of the tree of [`integer`].
#[inline(always)]
fn chunk_of_blocks<F: Format, D: Dot>(w: &Weights, x: ChunkX<'_>) -> f32 {
    let x_sums = bytemuck::cast_ref::<_, [[u8; 16]; 2]>(&x.of.sums);
    let x_scales = bytemuck::cast_ref::<_, [[u8; 16]; 2]>(&x.of.scales);
    let mut p = [v::splat_f(0.0); 2];
    for half in 0..2 {
        let x_sum = v::add_pairs_i16(v::load(&x_sums[half]));
        let sum = four_sums::<F, D>(w, x, half, x_sum);
        let x_scale = v::from_bytes(v::load(&x_scales[half]));
        p[half] = v::mul_f(v::mul_f(v::from_bits(w.scales[half]), x_scale), v::to_f(sum));
        if F::OFFSET {
            let offset = v::mul_f(v::from_bits(w.offsets[half]), v::mul_f(x_scale, v::to_f(x_sum)));
            p[half] = v::add_f(p[half], offset);
        }
    }
    last(add_adjacent(p[0], p[1]))
}

/// One chunk of one row with units.
#[inline(always)]
fn chunk_of_units<F: Format, D: Dot>(w: &Weights, x: ChunkX<'_>) -> f32 {
    let (mut sum, mut offset_sum) = (zero(), zero());
    for half in 0..2 {
        // Of eight blocks of 16: four of 32, or twice four of 16.
        let of_half = |numbers: &[i16; 16]| v::load(&bytemuck::cast_ref::<_, [[u8; 16]; 2]>(numbers)[half]);
        let summed = |numbers: &[i16; 16]| match F::WIDE {
            true => [v::add_pairs_i16(of_half(numbers)), zero()],
            false => v::widen_i16(of_half(numbers)),
        };
        let multiples = match F::WIDE {
            // Each is there twice.
            true => [v::and_i(v::bytes_i(of_half(&x.of.multiples)), v::splat_i(0xffff)), zero()],
            false => v::widen_i16(of_half(&x.of.multiples)),
        };
        let (x_sums, offset_sums) = (summed(&x.of.sums), summed(&x.of.multiple_sums));
        for i in 0..if F::WIDE { 1 } else { 2 } {
            let four = if F::WIDE { half } else { 2 * half + i };
            let products = four_sums::<F, D>(w, x, four, x_sums[i]);
            sum = v::add_i(sum, v::mul_i(products, v::mul_i(w.scales[four], multiples[i])));
            if F::OFFSET {
                offset_sum = v::add_i(offset_sum, v::mul_i(w.offsets[four], offset_sums[i]));
            }
        }
    }
    let sums = v::to_f(v::sums([sum, offset_sum, zero(), zero()]));
    let chunk = (w.units[0] * x.of.unit) * v::first_f(sums);
    if F::OFFSET { chunk + (w.units[1] * x.of.unit) * v::first_f(v::odd_f(sums, sums)) } else { chunk }
}

/// (p0 + p1) + (p2 + p3).
#[inline(always)]
fn last(p: Floats) -> f32 {
    let pairs = add_adjacent(p, p);
    v::first_f(add_adjacent(pairs, pairs))
}

/// Codes as [four codes][row], as `D` lays out four rows; scales and offsets as [block][row].
fn seal<D: Dot>(placed: &Placed, tile: &mut Tile, wide: bool, offset: bool) {
    let rows = bytemuck::cast_ref::<_, [[[u8; 16]; 16]; ROWS]>(&placed.codes);
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
    transpose_numbers(&placed.scales, &mut tile.scales, quarters);
    if offset {
        transpose_numbers(&placed.offsets, &mut tile.offsets, quarters);
    }
    tile.units = placed.units;
}

/// [row][block] to [block][row], four times `quarters` blocks.
#[inline(always)]
fn transpose_numbers(from: &[[Number; 16]; 16], to: &mut [[Number; 16]; 16], quarters: usize) {
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
    let products = match (F::UNITS, F::WIDE) {
        (false, _) => tile_of_blocks::<F, D, T>(tile, x, fit, waiting),
        (true, true) => tile_of_units::<F, D, T, 8>(tile, x, fit),
        (true, false) => tile_of_units::<F, D, T, 4>(tile, x, fit),
    };
    for t in 0..T {
        let out = bytemuck::cast_mut::<_, [[u8; 16]; ROWS / 4]>(&mut out[t]);
        for four in 0..ROWS / 4 {
            let sum = v::add_f(v::from_bytes(v::load(&out[four])), products[t][four]);
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

/// The sum of an activation's numbers of block `b`, of 4 * FOURS codes.
#[inline(always)]
fn sum_of<const FOURS: usize>(numbers: &[i16; 16], b: usize) -> i32 {
    if FOURS == 8 { i32::from(numbers[2 * b]) + i32::from(numbers[2 * b + 1]) } else { i32::from(numbers[b]) }
}

/// The sums of products of block `b`, of 4 * FOURS codes, of which `fit` fours at a time are added before they are widened.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn block_sums<F: Format, D: Dot, const T: usize, const FOURS: usize>(
    tile: &Tile,
    x: &[ChunkX<'_>; T],
    fit: usize,
    b: usize,
) -> Many<Ints, T> {
    // Cut to the block first: then all that follows lies at fixed distances.
    let fours = &bytemuck::cast_ref::<_, [[[u8; 16]; 4]; 64]>(&tile.codes).as_chunks::<FOURS>().0[b];
    let mut x_fours = [&[[0; 4]; FOURS]; T];
    for t in 0..T {
        x_fours[t] = &bytemuck::cast_ref::<_, [[u8; 4]; 64]>(x[t].codes).as_chunks::<FOURS>().0[b];
    }
    let mut sums = [[zero(); ROWS / 4]; T];
    if F::RAISE != 0 {
        for t in 0..T {
            sums[t] = [v::splat_i(-F::RAISE * sum_of::<FOURS>(&x[t].of.sums, b)); ROWS / 4];
        }
    }
    for start in (0..FOURS).step_by(fit) {
        let mut few = [[D::zero(); ROWS / 4]; T];
        for four in start..FOURS.min(start + fit) {
            let mut splats = [D::splat([0; 4]); T];
            for t in 0..T {
                splats[t] = D::splat(x_fours[t][four]);
            }
            for rows in 0..ROWS / 4 {
                let w = D::weights(v::load(&fours[four][rows]));
                for t in 0..T {
                    few[t][rows] = D::dot(few[t][rows], w, splats[t]);
                }
            }
        }
        for t in 0..T {
            for rows in 0..ROWS / 4 {
                sums[t][rows] = v::add_i(sums[t][rows], D::widen(few[t][rows]));
            }
        }
    }
    sums
}

/// Four times four numbers of the tile, as integers.
#[inline(always)]
fn ints_of(numbers: &[Number; ROWS]) -> [Ints; ROWS / 4] {
    let numbers = bytemuck::cast_ref::<_, [[u8; 16]; ROWS / 4]>(numbers);
    let mut ints = [zero(); ROWS / 4];
    for i in 0..ROWS / 4 {
        ints[i] = v::bytes_i(v::load(&numbers[i]));
    }
    ints
}

/// The products with a chunk without units: of each block of 32 a leaf of the tree of [`integer`].
#[inline(always)]
fn tile_of_blocks<F: Format, D: Dot, const T: usize>(
    tile: &Tile,
    x: &[ChunkX<'_>; T],
    fit: usize,
    waiting: &mut [Many<Floats, T>; 3],
) -> Many<Floats, T> {
    let mut sum = waiting[0];
    for b in 0..8 {
        let sums = block_sums::<F, D, T, 8>(tile, x, fit, b);
        let (scales, offsets) = (ints_of(&tile.scales[b]), ints_of(&tile.offsets[b]));
        for t in 0..T {
            let x_scale = x[t].of.scales[b];
            for four in 0..ROWS / 4 {
                let scale = v::mul_f(v::from_bits(scales[four]), v::splat_f(x_scale));
                sum[t][four] = v::mul_f(scale, v::to_f(sums[t][four]));
                if F::OFFSET {
                    let x_sum = v::splat_f(x_scale * sum_of::<8>(&x[t].of.sums, b) as f32);
                    sum[t][four] = v::add_f(sum[t][four], v::mul_f(v::from_bits(offsets[four]), x_sum));
                }
            }
        }
        for (level, waiting) in waiting.iter_mut().enumerate() {
            if b >> level & 1 == 0 {
                *waiting = sum;
                break;
            }
            sum = add_many(waiting, &sum);
        }
    }
    sum
}

/// The products with a chunk with units.
#[inline(always)]
fn tile_of_units<F: Format, D: Dot, const T: usize, const FOURS: usize>(
    tile: &Tile,
    x: &[ChunkX<'_>; T],
    fit: usize,
) -> Many<Floats, T> {
    let mut sums = [[zero(); ROWS / 4]; T];
    let mut offset_sums = sums;
    for b in 0..64 / FOURS {
        let products = block_sums::<F, D, T, FOURS>(tile, x, fit, b);
        let (scales, offsets) = (ints_of(&tile.scales[b]), ints_of(&tile.offsets[b]));
        for t in 0..T {
            let multiple = v::splat_i(x[t].of.multiples[b * FOURS / 4].into());
            let offset_sum = v::splat_i(sum_of::<FOURS>(&x[t].of.multiple_sums, b));
            for four in 0..ROWS / 4 {
                let product = v::mul_i(products[t][four], v::mul_i(scales[four], multiple));
                sums[t][four] = v::add_i(sums[t][four], product);
                if F::OFFSET {
                    offset_sums[t][four] = v::add_i(offset_sums[t][four], v::mul_i(offsets[four], offset_sum));
                }
            }
        }
    }
    let units = bytemuck::cast_ref::<_, [[[u8; 16]; ROWS / 4]; 2]>(&tile.units);
    let mut products = [[v::splat_f(0.0); ROWS / 4]; T];
    for t in 0..T {
        let x_unit = v::splat_f(x[t].of.unit);
        let scaled = |i: usize, four: usize, sums: Ints| {
            v::mul_f(v::mul_f(v::from_bytes(v::load(&units[i][four])), x_unit), v::to_f(sums))
        };
        for four in 0..ROWS / 4 {
            products[t][four] = scaled(0, four, sums[t][four]);
            if F::OFFSET {
                products[t][four] = v::add_f(products[t][four], scaled(1, four, offset_sums[t][four]));
            }
        }
    }
    products
}
