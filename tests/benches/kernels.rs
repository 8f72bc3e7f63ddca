//! Kernels on one thread: `cargo bench -p dsv4-tests --bench kernels [-- FILTER]`.
//!
//! * `read`: the sum of a region that no cache holds: what the memory gives to one thread.
//! * `decode/cache`, `decode/memory`: one activation times weights that the second-level cache holds, and weights that no
//!   cache holds. GB/s are bytes of weights, to compare with `read`.
//! * `prefill/N`: N activations at once. Gelem/s are 10^9 multiply-adds a second.
//! * `attention`: products of 64 queries with 128 keys of 512 values, and the keys' weighted sums: multiply-adds, too.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use dsv4_core::arch::disjoint::Serial;
use dsv4_core::arch::float::{dots, weighted_sums};
use dsv4_core::arch::level::{Kind, Level};
use dsv4_core::dtype::DType;
use dsv4_core::kernel::acts::Grid;
use dsv4_core::kernel::matmul::{Job, Rows, matmul};
use dsv4_core::kernel::{Context, MatmulMode};
use dsv4_core::tensor::Matrix;
use dsv4_tests::levels::with_acts;
use dsv4_tests::synth;
use std::hint::black_box;
use std::time::Duration;

const TYPES: [DType; 9] = [
    DType::Q4_K,
    DType::Q8_0,
    DType::MXFP4,
    DType::IQ2_XS,
    DType::Q6_K,
    DType::Q3_K,
    DType::Q5_K,
    DType::IQ4_XS,
    DType::F32,
];
const COLS: usize = 4096;
/// Bytes of weights that no cache holds.
const LARGE: usize = 256 << 20;

fn product(c: &mut BenchmarkGroup<'_, WallTime>, level: Level, dtype: DType, rows: usize, count: usize) {
    let data = synth::matrix(dtype, rows, COLS, 1);
    let weights = Matrix::new(dtype, rows, COLS, &data, &[]).unwrap();
    let cx = Context { parallel: &Serial, matmul: MatmulMode::Fast, level };
    let x: Vec<f32> = (0..count * COLS).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    let mut out = vec![0.0; count * rows];
    let throughput = match count {
        1 => Throughput::Bytes(data.len() as u64),
        _ => Throughput::Elements((rows * COLS * count) as u64),
    };
    c.throughput(throughput);
    with_acts(&cx, &x, COLS, Grid::of([dtype]), |acts| {
        c.bench_function(BenchmarkId::new(level.kind().name(), format!("{dtype:?}")), |b| {
            b.iter(|| matmul(&cx, &mut [Job::new(&cx, weights, acts, Rows::From(0), black_box(&mut out))]));
        });
    });
}

/// Attention's products, eight keys at a time, of eight heads after eight.
fn attention(c: &mut BenchmarkGroup<'_, WallTime>, level: Level) {
    const HEADS: usize = 64;
    const KEYS: usize = 128;
    const SIZE: usize = 512;
    // Aligned, as sessions have them.
    let mut memory = vec![0.0_f32; (2 * HEADS + KEYS) * SIZE + 16];
    let start = memory.as_ptr().align_offset(64);
    let values = &mut memory[start..][..(2 * HEADS + KEYS) * SIZE];
    values.iter_mut().enumerate().for_each(|(i, x)| *x = ((i * 37) % 101) as f32 / 50.0 - 1.0);
    let (queries, rest) = values.split_at_mut(HEADS * SIZE);
    let (out, keys) = rest.split_at_mut(HEADS * SIZE);
    let tile = |first: usize| -> [&[f32]; 8] { core::array::from_fn(|j| &keys[(first + j) * SIZE..][..SIZE]) };
    c.throughput(Throughput::Elements((HEADS * KEYS * SIZE) as u64));
    c.bench_function(BenchmarkId::new(level.kind().name(), "dots"), |b| {
        b.iter(|| {
            for queries in queries.chunks(8 * SIZE) {
                for keys in (0..KEYS).step_by(8).map(tile) {
                    for pair in queries.chunks(2 * SIZE) {
                        black_box(dots(level, [&pair[..SIZE], &pair[SIZE..]], &keys));
                    }
                }
            }
        });
    });
    c.bench_function(BenchmarkId::new(level.kind().name(), "weighted sums"), |b| {
        b.iter(|| {
            for out in out.chunks_mut(8 * SIZE) {
                for keys in (0..KEYS).step_by(8).map(tile) {
                    for pair in out.chunks_mut(2 * SIZE) {
                        let (first, second) = pair.split_at_mut(SIZE);
                        weighted_sums(level, [0.5; 2], [&[0.1; 8]; 2], black_box(&keys), [first, second]);
                    }
                }
            }
        });
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(10)
        .configure_from_args();
    let levels = || Kind::ALL.into_iter().rev().filter_map(Level::new);

    let large = vec![1_u8; LARGE];
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Bytes(LARGE as u64));
    group.bench_function("sum", |b| {
        b.iter(|| {
            black_box(&large).as_chunks::<8>().0.iter().fold(0, |s: u64, x| s.wrapping_add(u64::from_le_bytes(*x)))
        });
    });
    group.finish();
    drop(large);

    for (name, count, bytes) in [
        ("decode/cache", 1, 256 << 10),
        ("decode/memory", 1, LARGE),
        ("prefill/4", 4, 4 << 20),
        ("prefill/64", 64, 4 << 20),
        ("prefill/256", 256, 4 << 20),
    ] {
        let mut group = criterion.benchmark_group(name);
        for level in levels() {
            for dtype in TYPES {
                let rows = bytes / dtype.row_bytes(COLS as u64).unwrap() as usize / 16 * 16;
                product(&mut group, level, dtype, rows, count);
            }
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group("attention");
    levels().for_each(|level| attention(&mut group, level));
    group.finish();
    criterion.final_summary();
}
