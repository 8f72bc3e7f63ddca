//! Sixteen rows against many activations: a row an element of two vectors.

use super::super::bytes::load256;
use super::weights::Weights;
use super::{Format, widen};
use crate::arch::integer::{CHUNK, ChunkX, ROWS, RowX, Tile, chunks};
use core::arch::x86_64::*;

/// Activations that are multiplied together.
const TOGETHER: usize = 4;

/// Row `r`'s chunk into the tile, as it is.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn place<F: Format>(r: usize, w: &Weights, tile: &mut Tile) {
    let codes = tile.rows[r].as_chunks_mut::<32>().0;
    for i in 0..8 {
        // SAFETY: 32 bytes are written.
        unsafe { _mm256_storeu_si256(codes[i].as_mut_ptr().cast(), w.codes[i]) };
    }
    for i in 0..if F::WIDE { 1 } else { 2 } {
        store(&mut tile.row_scales[r].as_chunks_mut().0[i], w.scales.scales[i]);
        if F::OFFSET {
            store(&mut tile.row_offsets[r].as_chunks_mut().0[i], w.scales.offsets[i]);
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(from: &[f32; 8]) -> __m256 {
    // SAFETY: eight values are read.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(to: &mut [f32; 8], values: __m256) {
    // SAFETY: eight values are written.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), values) };
}

/// Codes as [four codes][row], or where they are signed as [half][two codes][8 rows] of each eight rows; scales and offsets as
/// [block][row].
#[target_feature(enable = "avx2")]
pub(super) fn seal(tile: &mut Tile, signed: bool, wide: bool, offset: bool) {
    for (half, rows) in tile.rows.as_chunks::<8>().0.iter().enumerate() {
        for i in 0..8 {
            let mut v = [_mm256_setzero_si256(); 8];
            for r in 0..8 {
                v[r] = load256(&rows[r].as_chunks().0[i]);
            }
            transpose(&mut v);
            for j in 0..8 {
                let unit = &mut tile.codes[8 * i + j].as_chunks_mut::<32>().0[half];
                let v = if signed { by_pairs(v[j]) } else { v[j] };
                // SAFETY: 32 bytes are written.
                unsafe { _mm256_storeu_si256(unit.as_mut_ptr().cast(), v) };
            }
        }
    }
    let vectors = if wide { 1 } else { 2 };
    transpose_floats(&tile.row_scales, &mut tile.scales, vectors);
    if offset {
        transpose_floats(&tile.row_offsets, &mut tile.offsets, vectors);
    }
}

/// [row][block] to [block][row], eight blocks a vector.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose_floats(from: &[[f32; 16]; ROWS], to: &mut [[f32; ROWS]; 16], vectors: usize) {
    for (half, rows) in from.as_chunks::<8>().0.iter().enumerate() {
        for i in 0..vectors {
            let mut v = [_mm256_setzero_si256(); 8];
            for r in 0..8 {
                v[r] = _mm256_castps_si256(load(&rows[r].as_chunks().0[i]));
            }
            transpose(&mut v);
            for b in 0..8 {
                store(&mut to[8 * i + b].as_chunks_mut().0[half], _mm256_castsi256_ps(v[b]));
            }
        }
    }
}

/// Of eight rows of four bytes the first two bytes each, then the others.
#[target_feature(enable = "avx2")]
#[inline]
fn by_pairs(unit: __m256i) -> __m256i {
    let pairs = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_shuffle_epi8(unit, pairs))
}

/// Transposes eight rows of eight 4-byte units.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose(v: &mut [__m256i; 8]) {
    let mut a = *v;
    for i in 0..4 {
        a[2 * i] = _mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    let mut b = a;
    for i in 0..2 {
        for j in 0..2 {
            b[4 * i + 2 * j] = _mm256_unpacklo_epi64(a[4 * i + j], a[4 * i + 2 + j]);
            b[4 * i + 2 * j + 1] = _mm256_unpackhi_epi64(a[4 * i + j], a[4 * i + 2 + j]);
        }
    }
    // b[4 i + j], lane l: column 4 l + j of rows 4 i..4 i + 4.
    for j in 0..4 {
        v[j] = _mm256_permute2x128_si256::<0x20>(b[j], b[4 + j]);
        v[4 + j] = _mm256_permute2x128_si256::<0x31>(b[j], b[4 + j]);
    }
}

/// One chunk of sixteen rows against all activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
pub(super) fn all<F: Format>(tile: &Tile, chunk: usize, x: &[RowX<'_>], out: &mut [[f32; ROWS]]) {
    let raise = F::RAISE.into();
    // Units whose products add up in 16 bits, two neighbours each; none where codes are signed.
    match (F::WIDE, F::OFFSET, if F::SIGNED { 0 } else { 0x7fff / (F::TOP * 127 * 2) }) {
        (true, true, 8..) => several::<8, 8, 0, true>(raise, tile, chunk, x, out),
        (true, true, _) => several::<8, 4, 0, true>(raise, tile, chunk, x, out),
        (true, false, 8..) => several::<8, 8, 0, false>(raise, tile, chunk, x, out),
        (true, false, 4..) => several::<8, 4, 0, false>(raise, tile, chunk, x, out),
        (true, false, 1..) => several::<8, 1, 0, false>(raise, tile, chunk, x, out),
        (true, false, _) => several::<8, 0, CHUNK, false>(raise, tile, chunk, x, out),
        (false, true, _) => several::<4, 4, 0, true>(raise, tile, chunk, x, out),
        (false, false, 4..) => several::<4, 4, 0, false>(raise, tile, chunk, x, out),
        (false, false, 2..) => several::<4, 2, 0, false>(raise, tile, chunk, x, out),
        (false, false, _) => several::<4, 1, 0, false>(raise, tile, chunk, x, out),
    }
}

/// A few activations at a time, in blocks of UNITS times four codes. IN_16 units' products add up in 16 bits; where that is 0,
/// codes are signed, and of the activations' WIDENED are made 16 bits.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
fn several<const UNITS: usize, const IN_16: usize, const WIDENED: usize, const OFFSET: bool>(
    raise: i32,
    tile: &Tile,
    chunk: usize,
    x: &[RowX<'_>],
    out: &mut [[f32; ROWS]],
) {
    let (x_many, x_one) = x.as_chunks::<TOGETHER>();
    let (out_many, out_one) = out[..x.len()].as_chunks_mut::<TOGETHER>();
    for (x, out) in x_many.iter().zip(out_many) {
        if let Some(x) = chunks(x, chunk) {
            step::<TOGETHER, UNITS, IN_16, WIDENED, OFFSET>(raise, tile, &x, out);
        }
    }
    for (x, out) in x_one.iter().zip(out_one) {
        if let Some(x) = chunks(&[*x], chunk) {
            step::<1, UNITS, IN_16, WIDENED, OFFSET>(raise, tile, &x, core::array::from_mut(out));
        }
    }
}

/// One value for each of the tile's rows and T activations.
type Many<V, const T: usize> = [[V; 2]; T];

/// One chunk of sixteen rows against T activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn step<const T: usize, const UNITS: usize, const IN_16: usize, const WIDENED: usize, const OFFSET: bool>(
    raise: i32,
    tile: &Tile,
    x: &[ChunkX<'_>; T],
    out: &mut [[f32; ROWS]; T],
) {
    let mut widened = [[0; WIDENED]; T];
    for t in 0..T {
        for i in 0..WIDENED {
            widened[t][i] = i16::from(x[t].codes[i]);
        }
    }
    // Blocks of 32, or pairs of blocks of 16: the leaves of the tree of `integer` either way.
    let mut pending = [[[_mm256_setzero_ps(); 2]; T]; 3]; // sums of 1, 2 and 4 leaves that wait for their neighbour
    for leaf in 0..8 {
        let mut sum = if UNITS == 8 {
            block::<T, UNITS, IN_16, WIDENED, OFFSET>(raise, tile, x, &widened, leaf)
        } else {
            let first = block::<T, UNITS, IN_16, WIDENED, OFFSET>(raise, tile, x, &widened, 2 * leaf);
            add(&first, &block::<T, UNITS, IN_16, WIDENED, OFFSET>(raise, tile, x, &widened, 2 * leaf + 1))
        };
        let mut level = 0;
        while level < 3 && leaf >> level & 1 == 1 {
            sum = add(&pending[level], &sum);
            level += 1;
        }
        if level < 3 {
            pending[level] = sum;
            continue;
        }
        for t in 0..T {
            let out = out[t].as_chunks_mut().0;
            for half in 0..2 {
                let sum = _mm256_add_ps(load(&out[half]), sum[t][half]);
                store(&mut out[half], sum);
            }
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn add<const T: usize>(a: &Many<__m256, T>, b: &Many<__m256, T>) -> Many<__m256, T> {
    let mut sum = *a;
    for t in 0..T {
        for half in 0..2 {
            sum[t][half] = _mm256_add_ps(a[t][half], b[t][half]);
        }
    }
    sum
}

/// The scaled products of block `b`, of 4 * UNITS codes.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn block<const T: usize, const UNITS: usize, const IN_16: usize, const WIDENED: usize, const OFFSET: bool>(
    raise: i32,
    tile: &Tile,
    x: &[ChunkX<'_>; T],
    widened: &[[i16; WIDENED]; T],
    b: usize,
) -> Many<__m256, T> {
    let mut x_sums = [0; T];
    let mut sums = [[_mm256_setzero_si256(); 2]; T];
    for t in 0..T {
        let of_16 = x[t].sums;
        x_sums[t] =
            if UNITS == 8 { i32::from(of_16[2 * b]) + i32::from(of_16[2 * b + 1]) } else { i32::from(of_16[b]) };
        if !OFFSET && IN_16 != 0 {
            sums[t] = [_mm256_set1_epi32(-raise * x_sums[t]); 2];
        }
    }
    let units = b * UNITS..(b + 1) * UNITS;
    if IN_16 == 0 {
        units.for_each(|unit| signed_unit(tile, widened, unit, &mut sums));
    } else {
        for first in units.step_by(IN_16.max(1)) {
            let mut in_16 = [[_mm256_setzero_si256(); 2]; T];
            for unit in first..first + IN_16 {
                let w = tile.codes[unit].as_chunks().0;
                let w = [load256(&w[0]), load256(&w[1])];
                for t in 0..T {
                    // SAFETY: a unit is below 64, and 64 units of 4 bytes are a chunk.
                    let x = unsafe { x[t].codes.as_ptr().cast::<i32>().add(unit).read_unaligned() };
                    let x = _mm256_set1_epi32(x);
                    for half in 0..2 {
                        let products = _mm256_maddubs_epi16(w[half], x);
                        in_16[t][half] = _mm256_add_epi16(in_16[t][half], products);
                    }
                }
            }
            for t in 0..T {
                for half in 0..2 {
                    sums[t][half] = _mm256_add_epi32(sums[t][half], widen(in_16[t][half]));
                }
            }
        }
    }
    // Blocks of 16 in the order of `ordered_16`.
    let at = if UNITS == 8 { b } else { b / 8 * 8 + b % 2 * 4 + b % 8 / 2 };
    let (scales, offsets) = (tile.scales[at].as_chunks().0, tile.offsets[at].as_chunks().0);
    let mut products = [[_mm256_setzero_ps(); 2]; T];
    for t in 0..T {
        let x_scale = x[t].scales[b * UNITS / 8];
        for half in 0..2 {
            let scale = _mm256_mul_ps(load(&scales[half]), _mm256_set1_ps(x_scale));
            products[t][half] = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(sums[t][half]));
            if OFFSET {
                let offset = _mm256_mul_ps(load(&offsets[half]), _mm256_set1_ps(x_scale * x_sums[t] as f32));
                products[t][half] = _mm256_add_ps(products[t][half], offset);
            }
        }
    }
    products
}

/// Adds the products of four signed codes.
#[target_feature(enable = "avx2")]
#[inline]
fn signed_unit<const T: usize, const WIDENED: usize>(
    tile: &Tile,
    x: &[[i16; WIDENED]; T],
    unit: usize,
    sums: &mut Many<__m256i, T>,
) {
    for pair in 0..2 {
        let mut w = [_mm256_setzero_si256(); 2];
        for half in 0..2 {
            // SAFETY: sixteen of 64 bytes are read.
            let pairs =
                unsafe { _mm_loadu_si128(tile.codes[unit].as_chunks::<16>().0[2 * half + pair].as_ptr().cast()) };
            w[half] = _mm256_cvtepi8_epi16(pairs);
        }
        for t in 0..T {
            // SAFETY: a unit is below 64, and 64 units of two pairs are a chunk, which WIDENED is where codes are signed.
            let x = unsafe { x[t].as_ptr().cast::<i32>().add(2 * unit + pair).read_unaligned() };
            let x = _mm256_set1_epi32(x);
            for half in 0..2 {
                sums[t][half] = _mm256_add_epi32(sums[t][half], _mm256_madd_epi16(w[half], x));
            }
        }
    }
}
