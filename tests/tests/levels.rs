//! Every instruction set gives the bits of the scalar specification, one activation or many, for every type.

use dsv4_core::arch::disjoint::Serial;
use dsv4_core::arch::level::{Kind, Level};
use dsv4_core::arena::Arena;
use dsv4_core::dtype::{ALL, DType};
use dsv4_core::kernel::acts::{Acts, Q8Buffer};
use dsv4_core::kernel::matmul::{Job, Rows, matmul};
use dsv4_core::kernel::{Context, MatmulMode};
use dsv4_core::tensor::Matrix;
use dsv4_tests::memory::Memory;
use proptest::prelude::*;

fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let x = *seed ^ (*seed >> 33);
    x.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 8
}

/// `weights . x` for `count` activations, on one level.
fn product(level: Level, mode: MatmulMode, weights: Matrix<'_>, x: &[f32], count: usize) -> Vec<u32> {
    let cx = Context { parallel: &Serial, matmul: mode, level };
    let cols = weights.cols();
    let values = count * Q8Buffer::padded(cols);
    let mut counting = Arena::counting();
    Q8Buffer::carve(&mut counting, values).unwrap();
    let mut memory = Memory::new(counting.used());
    let mut buffer = Q8Buffer::carve(&mut Arena::new(memory.as_mut()).unwrap(), values).unwrap();
    let acts = Acts::new(&cx, x, cols, &mut buffer);
    let mut out = vec![0.0; count * weights.rows()];
    matmul(&cx, &mut [Job::new(&cx, weights, &acts, Rows::From(0), &mut out)]);
    // NaN payloads are not part of the specification.
    out.iter().map(|y| if y.is_nan() { f32::NAN.to_bits() } else { y.to_bits() }).collect()
}

fn check(dtype: DType, rows: usize, cols: usize, count: usize, seed: &mut u64) {
    let bytes = rows * dtype.row_bytes(cols as u64).unwrap() as usize;
    let data: Vec<u8> = (0..bytes).map(|_| random(seed) as u8).collect();
    let scales = match dtype {
        DType::F8_E4M3 => rows.div_ceil(128) * cols.div_ceil(128),
        DType::FP4_E2M1 => rows * cols / 32,
        _ => 0,
    };
    let scales: Vec<u8> = (0..scales).map(|_| 120 + (random(seed) % 16) as u8).collect();
    let weights = Matrix::new(dtype, rows, cols, &data, &scales).unwrap();
    let x: Vec<f32> = (0..count * cols).map(|_| (random(seed) % 2000) as f32 / 1000.0 - 1.0).collect();
    for mode in [MatmulMode::Fast, MatmulMode::Exact] {
        let want = product(Level::SCALAR, mode, weights, &x, count);
        for level in Kind::ALL.into_iter().filter_map(Level::new) {
            let got = product(level, mode, weights, &x, count);
            assert!(want == got, "{dtype:?} {rows}x{cols} {mode:?} {level:?}, {count} activations");
            // The same activations alone.
            let alone: Vec<u32> = x.chunks(cols).flat_map(|x| product(level, mode, weights, x, 1)).collect();
            assert!(want == alone, "{dtype:?} {rows}x{cols} {mode:?} {level:?}, one by one");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn all_levels_give_the_same_bits(seed: u64, rows in 1usize..40, blocks in 1usize..4, count in 1usize..70) {
        let mut seed = seed;
        for dtype in ALL {
            if dtype != DType::I32 {
                let (block, _) = dtype.block();
                // Whole chunks of 256, and for small blocks something beyond them.
                let cols = match if dtype == DType::FP4_E2M1 { 32 } else { block } {
                    1 => 37 * blocks,
                    32 => 256 * (blocks - 1) + 32 * (1 + random(&mut seed) as usize % 8),
                    block => block * blocks,
                };
                check(dtype, rows, cols, count, &mut seed);
            }
        }
    }
}

#[test]
fn this_machine_tests_more_than_scalar() {
    eprintln!("levels tested here: {:?}", Kind::ALL.into_iter().filter_map(Level::new).collect::<Vec<_>>());
}
