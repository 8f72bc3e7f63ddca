//! Levels against the scalar specification, and how fast they are: for whatever target this crate is built.

use dsv4_core::arch::disjoint::Serial;
use dsv4_core::arch::float::{LANES, dots, dots_into, sums, weighted_sums};
use dsv4_core::arch::level::{Kind, Level};
use dsv4_core::arena::Arena;
use dsv4_core::dtype::{ALL, DType};
use dsv4_core::kernel::acts::{Acts, Grid, Q8Buffer, Scales};
use dsv4_core::kernel::math::dot;
use dsv4_core::kernel::matmul::{Job, Rows, matmul};
use dsv4_core::kernel::{Context, MatmulMode};
use dsv4_core::tensor::Matrix;

use crate::memory::Memory;

fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let x = *seed ^ (*seed >> 33);
    x.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 8
}

/// Calls `work` with the rows of `x`, of `cols` values each, as `cx` has activations.
pub fn with_acts<R>(cx: &Context<'_>, x: &[f32], cols: usize, grid: Grid, work: impl FnOnce(&Acts<'_>) -> R) -> R {
    let values = x.len() / cols * Q8Buffer::padded(cols);
    let mut counting = Arena::counting();
    Q8Buffer::carve(&mut counting, values).unwrap();
    let mut memory = Memory::new(counting.used());
    let mut buffer = Q8Buffer::carve(&mut Arena::new(memory.as_mut()).unwrap(), values).unwrap();
    work(&Acts::new(cx, x, cols, grid, &mut buffer))
}

/// The bits of `weights . x` for `count` activations, on one level.
pub fn product(level: Level, mode: MatmulMode, grid: Grid, weights: Matrix<'_>, x: &[f32], count: usize) -> Vec<u32> {
    let cx = Context { parallel: &Serial, matmul: mode, level };
    let mut out = vec![0.0; count * weights.rows()];
    with_acts(&cx, x, weights.cols(), grid, |acts| {
        matmul(&cx, &mut [Job::new(&cx, weights, acts, Rows::From(0), &mut out)]);
    });
    // NaN payloads are not part of the specification.
    out.iter().map(|y| if y.is_nan() { f32::NAN.to_bits() } else { y.to_bits() }).collect()
}

/// Random bytes as a matrix of `dtype`: (data, scales).
fn bytes(dtype: DType, rows: usize, cols: usize, seed: &mut u64) -> (Vec<u8>, Vec<u8>) {
    let bytes = rows * dtype.row_bytes(cols as u64).unwrap() as usize;
    let data = (0..bytes).map(|_| random(seed) as u8).collect();
    let scales = match dtype {
        DType::F8_E4M3 => rows.div_ceil(128) * cols.div_ceil(128),
        DType::FP4_E2M1 => rows * cols / 32,
        _ => 0,
    };
    (data, (0..scales).map(|_| 120 + (random(seed) % 16) as u8).collect())
}

fn activations(len: usize, seed: &mut u64) -> Vec<f32> {
    (0..len).map(|_| (random(seed) % 2000) as f32 / 1000.0 - 1.0).collect()
}

/// Whether every level of this machine gives scalar's bits for a random matrix, for `count` activations together and one
/// by one; else where it does not.
pub fn check(dtype: DType, rows: usize, cols: usize, count: usize, seed: &mut u64) -> Result<(), String> {
    let matrix = bytes(dtype, rows, cols, seed);
    let x = activations(count * cols, seed);
    compare(dtype, (rows, cols), &matrix, &x, count)
}

/// [`check`] of sums as large as they get: nearly all bytes of the matrix are alike, codes of activations are 127 or -127.
fn check_extremes(dtype: DType, rows: usize, cols: usize, count: usize, seed: &mut u64) -> Result<(), String> {
    let (mut data, scales) = bytes(dtype, rows, cols, seed);
    // The largest code of most types, and MXFP4's. Where scales are 16 bits of ones, they are no numbers.
    let most = if random(seed).is_multiple_of(2) { 0xff } else { 0x77 };
    data.iter_mut().for_each(|byte| *byte = if random(seed).is_multiple_of(8) { 0 } else { most });
    // The largest sums that scales with units make, of Q6_K nearly 2^31: codes -32 and scales -128, codes -127 and scales -32.
    match dtype {
        DType::Q6_K => data.chunks_mut(210).for_each(|block| {
            block.fill(0);
            block[192..208].fill(0x80);
            block[209] = 0x3c;
        }),
        DType::IQ4_XS => data.chunks_mut(136).for_each(|block| {
            block.fill(0);
            block[1] = 0x3c;
        }),
        _ => {}
    }
    let x: Vec<f32> = (0..count).flat_map(|t| vec![if t % 2 == 0 { 1.0 } else { -1.0 }; cols]).collect();
    compare(dtype, (rows, cols), &(data, scales), &x, count)
}

/// [`check`] of sums that just fit sixteen bits, or just do not: of each 16 activations `n` have the code 127, all others 0,
/// and all weights the largest code.
fn check_peaks(n: usize, seed: &mut u64) -> Result<(), String> {
    // (type, where its units lie in a block): f16.
    let types = [
        (DType::Q4_K, 0..4),
        (DType::Q5_K, 0..4),
        (DType::Q2_K, 80..84),
        (DType::Q3_K, 108..110),
        (DType::IQ3_S, 0..2),
    ];
    for (dtype, units) in types {
        let (rows, cols, count) = (1 + random(seed) as usize % 39, 512, 1 + random(seed) as usize % 9);
        let mut block = vec![0xff; dtype.block().1];
        block[units].as_chunks_mut().0.fill(0x3c00_u16.to_le_bytes());
        let x: Vec<f32> = (0..count * cols / 16)
            .flat_map(|_| {
                let (mut x, first) = ([0.0; 16], random(seed) as usize);
                (0..n).for_each(|i| x[(first + i) % 16] = 1.0);
                x
            })
            .collect();
        compare(dtype, (rows, cols), &(block.repeat(rows * cols / 256), Vec::new()), &x, count)?;
    }
    Ok(())
}

/// The levels of this machine; of processors whose levels differ in how they read, both ways.
fn levels() -> impl Iterator<Item = Level> {
    Kind::ALL.into_iter().filter_map(Level::new).flat_map(|level| {
        let other = level.in_streams();
        let differs = cfg!(target_arch = "x86_64") && level.kind() != Kind::Scalar && other != level;
        [Some(level), differs.then_some(other)].into_iter().flatten()
    })
}

/// Compares every level with scalar.
fn compare(
    dtype: DType,
    (rows, cols): (usize, usize),
    (data, scales): &(Vec<u8>, Vec<u8>),
    x: &[f32],
    count: usize,
) -> Result<(), String> {
    let weights = Matrix::new(dtype, rows, cols, data, scales).unwrap();
    let own = Grid::of([dtype]);
    for (mode, grid) in [(MatmulMode::Fast, own), (MatmulMode::Fast, Grid::Units), (MatmulMode::Exact, own)] {
        let want = product(Level::SCALAR, mode, grid, weights, x, count);
        for level in levels() {
            let got = product(level, mode, grid, weights, x, count);
            if want != got {
                return Err(format!("{dtype:?} {rows}x{cols} {mode:?} {grid:?} {level:?}, {count} activations"));
            }
            // The same activations alone.
            let alone: Vec<u32> = x.chunks(cols).flat_map(|x| product(level, mode, grid, weights, x, 1)).collect();
            if want != alone {
                return Err(format!("{dtype:?} {rows}x{cols} {mode:?} {grid:?} {level:?}, one by one"));
            }
        }
    }
    Ok(())
}

/// The same of products of f32 vectors of `len` values: with others by twos and eights, in one piece and in many, and of
/// weighted sums.
fn check_f32(len: usize, seed: &mut u64) -> Result<(), String> {
    let mut vectors = |n: usize| -> Vec<Vec<f32>> {
        // Zeros of both signs among them.
        (0..n)
            .map(|_| activations(len, seed).into_iter().map(|x| if x.abs() < 0.1 { 0.0 * x } else { x }).collect())
            .collect()
    };
    let (a, b, y) = (vectors(2), vectors(8), vectors(2));
    let (factor, weights) = ([0.5, -1.5], vectors(2).concat());
    let a = [&a[0][..], &a[1][..]];
    let b: [&[f32]; 8] = core::array::from_fn(|j| &b[j][..]);
    let weights: [[f32; 8]; 2] =
        core::array::from_fn(|i| core::array::from_fn(|j| weights[(8 * i + j) % weights.len()]));

    let bits = |products: &[f32]| -> Vec<u32> { products.iter().map(|p| p.to_bits()).collect() };
    let want: Vec<u32> = a.iter().flat_map(|a| b.iter().map(|b| dot(a, b).to_bits())).collect();
    let mut want_sums = y.clone();
    for i in 0..2 {
        for (l, y) in want_sums[i].iter_mut().enumerate() {
            *y = (0..5).fold(factor[i] * *y, |sum, j| sum + weights[i][j] * b[j][l]);
        }
    }
    for level in Kind::ALL.into_iter().filter_map(Level::new) {
        let differs = |what: &str| Err(format!("{what} of {len}, {level:?}"));
        if bits(dots(level, a, &b).as_flattened()) != want {
            return differs("products with eight");
        }
        for j in 0..4 {
            let two = dots(level, a, &[b[2 * j], b[2 * j + 1]]);
            if bits(two.as_flattened()) != [0, 1, 8, 9].map(|i| want[2 * j + i]) {
                return differs("products with two");
            }
        }
        let mut lanes = [[[0.0; LANES]; 2]; 8];
        for start in (0..len).step_by(3 * LANES) {
            let piece = |v: &[f32]| start..(start + 3 * LANES).min(v.len());
            dots_into(level, &mut lanes, a.map(|a| &a[piece(a)]), &b.map(|b| &b[piece(b)]));
        }
        if bits(sums(level, &lanes).as_flattened()) != want {
            return differs("products in pieces");
        }
        let mut got = y.clone();
        let [first, second] = &mut got[..] else { unreachable!() };
        weighted_sums(level, factor, weights.each_ref().map(|w| &w[..5]), &b[..5], [first, second]);
        if bits(&got.concat()) != bits(&want_sums.concat()) {
            return differs("weighted sums");
        }
    }
    Ok(())
}

/// Whether every level makes the same 8-bit activations of 256 values, and whether those with units are what their formula
/// (`kernel::acts`) says: of values of all magnitudes, of which whole blocks are zeros, infinite, or no numbers.
fn check_activations(seed: &mut u64) -> Result<(), String> {
    // The largest block is of the order of this power of two, the others at most 2^7 below.
    let largest = (random(seed) % 250) as i32 - 149;
    let mut x = activations(256, seed);
    for block in x.chunks_mut(32) {
        let below = largest - (random(seed) % 8) as i32;
        let scale = match random(seed) % 16 {
            0 => 0.0,
            1 => f64::INFINITY,
            2 => f64::NAN,
            _ => 2f64.powi(below),
        };
        let positive = random(seed).is_multiple_of(4);
        block.iter_mut().for_each(|x| *x = (f64::from(if positive { x.abs() } else { *x }) * scale) as f32);
    }
    let row = |level, grid| {
        let cx = Context { parallel: &Serial, matmul: MatmulMode::Fast, level };
        with_acts(&cx, &x, 256, grid, |acts| {
            let row = acts.q8_row(0).unwrap();
            (row.codes.to_vec(), row.scales[0])
        })
    };
    for grid in [Grid::Units, Grid::Blocks] {
        let (codes, scales) = row(Level::SCALAR, grid);
        let wrong = |what: &str| Err(format!("{what} of activations, {grid:?}, of {x:?}"));
        let numbers = |scales: &Scales| {
            let floats = scales.scales.iter().chain([&scales.unit]).map(|x| if x.is_nan() { f32::NAN } else { *x });
            (floats.map(f32::to_bits).collect::<Vec<_>>(), scales.sums, scales.multiples, scales.multiple_sums)
        };
        for level in Kind::ALL.into_iter().filter_map(Level::new) {
            let (other_codes, other_scales) = row(level, grid);
            if (codes != other_codes) || numbers(&scales) != numbers(&other_scales) {
                return wrong(&format!("{level:?}"));
            }
        }
        for (i, codes) in codes.chunks(16).enumerate() {
            let sum: i32 = codes.iter().map(|&code| i32::from(code)).sum();
            let multiple_sum = sum * i32::from(scales.multiples[i]);
            if i32::from(scales.sums[i]) != sum || i32::from(scales.multiple_sums[i]) != multiple_sum {
                return wrong("sums");
            }
        }
        let most = x.iter().fold(0f32, |most, x| if x.is_nan() { f32::NAN } else { most.max(x.abs()) });
        if grid == Grid::Blocks || !x.iter().all(|x| x.is_finite()) || !most.is_normal() {
            continue;
        }
        let unit = most / (127.0 * 16.0);
        for (b, (x, codes)) in x.chunks(32).zip(codes.chunks(32)).enumerate() {
            let max = x.iter().fold(0f32, |max, x| max.max(x.abs()));
            let multiple = (max / most * 16.0).ceil().max(1.0);
            let scale = unit * multiple;
            if scales.scales[b] != scale || f32::from(scales.multiples[2 * b]) != multiple {
                return wrong("scales");
            }
            let inverse = if scale > 1e-38 { 1.0 / scale } else { continue };
            if x.iter().zip(codes).any(|(x, &code)| (x * inverse).round_ties_even() != f32::from(code)) {
                return wrong("codes");
            }
        }
    }
    Ok(())
}

/// [`check`] for every type, at a shape that `case` chooses.
pub fn check_all(case: u64) -> Result<(), String> {
    let mut seed = case;
    let rows = 1 + random(&mut seed) as usize % 39;
    let blocks = 1 + random(&mut seed) as usize % 3;
    let count = 1 + random(&mut seed) as usize % 69;
    for dtype in ALL.into_iter().filter(|&dtype| dtype != DType::I32) {
        let (block, _) = dtype.block();
        // Whole chunks of 256, and for small blocks something beyond them.
        let cols = match if dtype == DType::FP4_E2M1 { 32 } else { block } {
            1 => 37 * blocks,
            32 => 256 * (blocks - 1) + 32 * (1 + random(&mut seed) as usize % 8),
            block => block * blocks,
        };
        check(dtype, rows, cols, count, &mut seed)?;
        check_extremes(dtype, rows, cols, count, &mut seed)?;
        // Few activations, and rows longer than are prepared for at once.
        let (few, long) = (1 + random(&mut seed) as usize % 2, 1 + random(&mut seed) as usize % 70);
        check(dtype, 1 + random(&mut seed) as usize % 9, 256 * long, few, &mut seed)?;
        check(dtype, rows, cols, few, &mut seed)?;
    }
    check_peaks([8, 9, 14, 15, 16][case as usize % 5], &mut seed)?;
    for len in [1 + random(&mut seed) as usize % 600, 64 * (1 + random(&mut seed) as usize % 9)] {
        check_f32(len, &mut seed)?;
    }
    for _ in 0..20 {
        check_activations(&mut seed)?;
    }
    Ok(())
}

/// A product to be timed.
pub struct Bench {
    dtype: DType,
    size: usize,
    count: usize,
    data: Vec<u8>,
    scales: Vec<u8>,
    x: Vec<f32>,
}

impl Bench {
    /// A square matrix of `size`, a multiple of 256, and `count` activations.
    pub fn new(dtype: DType, size: usize, count: usize) -> Self {
        let mut seed = 1;
        let (mut data, scales) = bytes(dtype, size, size, &mut seed);
        // Random bytes are now and then so small a number that processors take their time over it.
        let values = activations(size * size, &mut seed);
        match dtype {
            DType::F32 => data = values.into_iter().flat_map(f32::to_le_bytes).collect(),
            DType::BF16 => data = values.into_iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect(),
            DType::MXFP4 => data.chunks_mut(17).for_each(|block| block[0] = 120 + block[0] % 16),
            _ => {}
        }
        // Bell-shaped, as activations are.
        let mut x = activations(count * size, &mut seed);
        for _ in 0..3 {
            x.iter_mut().zip(activations(count * size, &mut seed)).for_each(|(x, more)| *x += more);
        }
        Self { dtype, size, count, data, scales, x }
    }

    /// Multiplies once; the first output's bits.
    pub fn run(&self, level: Level) -> u32 {
        let weights = Matrix::new(self.dtype, self.size, self.size, &self.data, &self.scales).unwrap();
        product(level, MatmulMode::Fast, Grid::of([self.dtype]), weights, &self.x, self.count)[0]
    }
}
