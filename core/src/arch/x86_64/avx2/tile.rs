//! Sixteen rows against many activations: a row an element of two vectors.

use super::super::bytes::{load256, pair_of, prefetch_ahead};
use super::weights::{Scales, Weights};
use super::{Format, block_units, widen};
use crate::arch::integer::{Ahead, CHUNK, ChunkX, Number, Placed, ROWS, RowX, Tile, chunks};
use core::arch::x86_64::*;
use core::hint::black_box;
use core::ops::Range;

/// Activations that are multiplied together.
const TOGETHER: usize = 4;

/// Row `r`'s chunk, as it is.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn place<F: Format>(r: usize, w: &Weights, placed: &mut Placed) {
    let codes = placed.codes[r].as_chunks_mut::<32>().0;
    for i in 0..8 {
        // SAFETY: 32 bytes are written.
        unsafe { _mm256_storeu_si256(codes[i].as_mut_ptr().cast(), w.codes[i]) };
    }
    let Scales { scales, offsets, units, .. } = w.scales;
    let to = placed.scales[r].as_chunks_mut::<8>().0;
    let offsets_to = &mut placed.offsets[r].as_chunks_mut::<8>().0[0];
    if !F::UNITS {
        store(&mut to[0], scales);
        store(offsets_to, offsets);
        return;
    }
    // Each scale twice, as products meet it: neighbours. Offsets meet the sums of two blocks at a time.
    let (low, high) = (_mm256_unpacklo_epi16(scales, scales), _mm256_unpackhi_epi16(scales, scales));
    store(&mut to[0], _mm256_permute2x128_si256::<0x20>(low, high));
    if F::WIDE {
        store(offsets_to, _mm256_permute4x64_epi64::<0b11_10_11_10>(scales));
    } else {
        store(&mut to[1], _mm256_permute2x128_si256::<0x31>(low, high));
        store(offsets_to, offsets);
    }
    for i in 0..2 {
        placed.units[i][r] = _mm_cvtss_f32(block_units(F::DTYPE, units[i].into()));
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(from: &[Number; 8]) -> __m256i {
    // SAFETY: 32 bytes are read.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_f32(from: &[f32; 8]) -> __m256 {
    // SAFETY: eight values are read.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(to: &mut [Number; 8], values: __m256i) {
    // SAFETY: 32 bytes are written.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), values) };
}

/// Codes as [four codes][row], or where they are signed as [half][two codes][8 rows] of each eight rows; scales and offsets as
/// [block][row]; where scales are integers, the offsets of two neighbours (of 16, or of 32 if the type's blocks are) in one.
#[target_feature(enable = "avx2")]
pub(super) fn seal<F: Format>(placed: &Placed, tile: &mut Tile) {
    for (half, rows) in placed.codes.as_chunks::<8>().0.iter().enumerate() {
        for i in 0..8 {
            let mut v = [_mm256_setzero_si256(); 8];
            for r in 0..8 {
                v[r] = load256(&rows[r].as_chunks().0[i]);
            }
            transpose(&mut v);
            for j in 0..8 {
                let unit = &mut tile.codes[8 * i + j].as_chunks_mut::<32>().0[half];
                let v = if F::SIGNED { by_pairs(v[j]) } else { v[j] };
                // SAFETY: 32 bytes are written.
                unsafe { _mm256_storeu_si256(unit.as_mut_ptr().cast(), v) };
            }
        }
    }
    transpose_numbers(&placed.scales, &mut tile.scales, if F::WIDE { 1 } else { 2 });
    if F::OFFSET || F::UNITS && F::RAISE != 0 {
        transpose_numbers(&placed.offsets, &mut tile.offsets, 1);
    }
    tile.units = placed.units;
}

/// [row][block] to [block][row], eight blocks a vector.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose_numbers(from: &[[Number; 16]; ROWS], to: &mut [[Number; ROWS]; 16], vectors: usize) {
    for (half, rows) in from.as_chunks::<8>().0.iter().enumerate() {
        for i in 0..vectors {
            let mut v = [_mm256_setzero_si256(); 8];
            for r in 0..8 {
                v[r] = load(&rows[r].as_chunks().0[i]);
            }
            transpose(&mut v);
            for b in 0..8 {
                store(&mut to[8 * i + b].as_chunks_mut().0[half], v[b]);
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
pub(super) fn all<F: Format>(tile: &Tile, chunk: usize, x: &[RowX<'_>], out: &mut [[f32; ROWS]], ahead: Ahead<'_>) {
    let raise = F::RAISE.into();
    // Fours of codes whose products add up in 16 bits, two neighbours each; none where codes are signed.
    let fit = if F::SIGNED { 0 } else { 0x7fff / (F::TOP * 127 * 2) };
    match (F::UNITS, F::WIDE, F::OFFSET, fit) {
        (false, _, true, 8..) => several::<8, 8, 0, true, false>(raise, tile, chunk, x, out, ahead),
        (false, _, true, _) => several::<8, 4, 0, true, false>(raise, tile, chunk, x, out, ahead),
        (false, _, false, 8..) => several::<8, 8, 0, false, false>(raise, tile, chunk, x, out, ahead),
        (false, _, false, 4..) => several::<8, 4, 0, false, false>(raise, tile, chunk, x, out, ahead),
        (false, _, false, _) => several::<8, 0, CHUNK, false, false>(raise, tile, chunk, x, out, ahead),
        (true, true, true, 8..) => several::<8, 8, 0, true, true>(raise, tile, chunk, x, out, ahead),
        (true, true, true, _) => several::<8, 4, 0, true, true>(raise, tile, chunk, x, out, ahead),
        (true, true, false, 4..) => several::<8, 4, 0, false, true>(raise, tile, chunk, x, out, ahead),
        (true, true, false, 1..) => several::<8, 1, 0, false, true>(raise, tile, chunk, x, out, ahead),
        (true, true, false, _) => several::<8, 0, CHUNK, false, true>(raise, tile, chunk, x, out, ahead),
        (true, false, true, _) => several::<4, 4, 0, true, true>(raise, tile, chunk, x, out, ahead),
        (true, false, false, 4..) => several::<4, 4, 0, false, true>(raise, tile, chunk, x, out, ahead),
        (true, false, false, 2..) => several::<4, 2, 0, false, true>(raise, tile, chunk, x, out, ahead),
        (true, false, false, _) => several::<4, 1, 0, false, true>(raise, tile, chunk, x, out, ahead),
    }
}

/// A few activations at a time, in blocks of FOURS times four codes. IN_16 fours' products add up in 16 bits; where that is
/// 0, codes are signed, and of the activations' WIDENED are made 16 bits.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
fn several<const FOURS: usize, const IN_16: usize, const WIDENED: usize, const OFFSET: bool, const UNITS: bool>(
    raise: i32,
    tile: &Tile,
    chunk: usize,
    x: &[RowX<'_>],
    out: &mut [[f32; ROWS]],
    ahead: Ahead<'_>,
) {
    let (x_many, x_one) = x.as_chunks::<TOGETHER>();
    let (out_many, out_one) = out[..x.len()].as_chunks_mut::<TOGETHER>();
    let n = x_many.len() + x_one.len();
    for (i, (x, out)) in x_many.iter().zip(out_many).enumerate() {
        prefetch_ahead(ahead.part(i, n));
        if let Some(x) = chunks(x, chunk) {
            step::<TOGETHER, FOURS, IN_16, WIDENED, OFFSET, UNITS>(raise, tile, &x, out);
        }
    }
    for (i, (x, out)) in x_one.iter().zip(out_one).enumerate() {
        prefetch_ahead(ahead.part(x_many.len() + i, n));
        if let Some(x) = chunks(&[*x], chunk) {
            step::<1, FOURS, IN_16, WIDENED, OFFSET, UNITS>(raise, tile, &x, core::array::from_mut(out));
        }
    }
}

/// One value for each of the tile's rows and T activations.
type Many<V, const T: usize> = [[V; 2]; T];

/// One chunk of sixteen rows against T activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn step<
    const T: usize,
    const FOURS: usize,
    const IN_16: usize,
    const WIDENED: usize,
    const OFFSET: bool,
    const UNITS: bool,
>(
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
    let products = if UNITS {
        of_units::<T, FOURS, IN_16, WIDENED, OFFSET>(tile, x, &widened)
    } else {
        of_blocks::<T, IN_16, WIDENED, OFFSET>(raise, tile, x, &widened)
    };
    for t in 0..T {
        let out = out[t].as_chunks_mut::<8>().0;
        for half in 0..2 {
            let sum = _mm256_add_ps(load_f32(&out[half]), products[t][half]);
            // SAFETY: eight values are written.
            unsafe { _mm256_storeu_ps(out[half].as_mut_ptr(), sum) };
        }
    }
}

/// The sums of products of some fours, at least one, each in two neighbours of 16 bits.
#[target_feature(enable = "avx2")]
#[inline]
fn sums_in_16<const T: usize>(tile: &Tile, x: &[ChunkX<'_>; T], fours: Range<usize>) -> Many<__m256i, T> {
    // The first is not added to zeros: that is one addition of eight.
    let mut sums = products_in_16(tile, x, fours.start);
    for four in fours.start + 1..fours.end {
        let products = products_in_16(tile, x, four);
        for t in 0..T {
            for half in 0..2 {
                sums[t][half] = _mm256_add_epi16(sums[t][half], products[t][half]);
            }
        }
    }
    sums
}

/// The products of a four, neighbours added.
#[target_feature(enable = "avx2")]
#[inline]
fn products_in_16<const T: usize>(tile: &Tile, x: &[ChunkX<'_>; T], four: usize) -> Many<__m256i, T> {
    let w = tile.codes[four].as_chunks().0;
    let w = [load256(&w[0]), load256(&w[1])];
    let mut products = [[_mm256_setzero_si256(); 2]; T];
    for t in 0..T {
        // SAFETY: a four is below 64, and 64 times 4 bytes are a chunk.
        let x = unsafe { x[t].codes.as_ptr().cast::<i32>().add(four).read_unaligned() };
        let x = _mm256_set1_epi32(x);
        for half in 0..2 {
            products[t][half] = _mm256_maddubs_epi16(w[half], x);
        }
    }
    products
}

/// N, unknown to the compiler where it is large: it would unroll the loop over it, load all weights first, and have no
/// registers left for the sums.
#[inline(always)]
fn opaque<const N: usize>() -> usize {
    if N >= 8 { black_box(N) } else { N }
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

/// The products with a chunk without units: of each block of 32 a leaf of the tree of `integer`.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn of_blocks<const T: usize, const IN_16: usize, const WIDENED: usize, const OFFSET: bool>(
    raise: i32,
    tile: &Tile,
    x: &[ChunkX<'_>; T],
    widened: &[[i16; WIDENED]; T],
) -> Many<__m256, T> {
    let zero = [[_mm256_setzero_ps(); 2]; T];
    let mut sum = zero;
    let mut pending = [zero; 3]; // sums of 1, 2 and 4 leaves that wait for their neighbour
    for leaf in 0..8 {
        sum = block::<T, IN_16, WIDENED, OFFSET>(raise, tile, x, widened, leaf);
        let mut level = 0;
        while level < 3 && leaf >> level & 1 == 1 {
            sum = add(&pending[level], &sum);
            level += 1;
        }
        if level < 3 {
            pending[level] = sum;
        }
    }
    sum
}

/// The scaled products of block `b` of 32 codes.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn block<const T: usize, const IN_16: usize, const WIDENED: usize, const OFFSET: bool>(
    raise: i32,
    tile: &Tile,
    x: &[ChunkX<'_>; T],
    widened: &[[i16; WIDENED]; T],
    b: usize,
) -> Many<__m256, T> {
    let mut x_sums = [0; T];
    let mut sums = [[_mm256_setzero_si256(); 2]; T];
    for t in 0..T {
        let of_16 = x[t].of.sums;
        x_sums[t] = i32::from(of_16[2 * b]) + i32::from(of_16[2 * b + 1]);
        if !OFFSET && IN_16 != 0 {
            sums[t] = [_mm256_set1_epi32(-raise * x_sums[t]); 2];
        }
    }
    if IN_16 == 0 {
        for four in 8 * b..8 * b + 8 {
            signed_four(tile, widened, four, &mut sums);
        }
    } else {
        let n = opaque::<IN_16>();
        for first in (8 * b..8 * b + 8).step_by(IN_16.max(1)) {
            let in_16 = sums_in_16(tile, x, first..first + n);
            for t in 0..T {
                for half in 0..2 {
                    sums[t][half] = _mm256_add_epi32(sums[t][half], widen(in_16[t][half]));
                }
            }
        }
    }
    let (scales, offsets) = (tile.scales[b].as_chunks::<8>().0, tile.offsets[b].as_chunks::<8>().0);
    let mut products = [[_mm256_setzero_ps(); 2]; T];
    for t in 0..T {
        let x_scale = x[t].of.scales[b];
        for half in 0..2 {
            let scale = _mm256_mul_ps(_mm256_castsi256_ps(load(&scales[half])), _mm256_set1_ps(x_scale));
            products[t][half] = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(sums[t][half]));
            if OFFSET {
                let x_sum = _mm256_set1_ps(x_scale * x_sums[t] as f32);
                let offset = _mm256_mul_ps(_mm256_castsi256_ps(load(&offsets[half])), x_sum);
                products[t][half] = _mm256_add_ps(products[t][half], offset);
            }
        }
    }
    products
}

/// Adds the products of the first `pairs` pairs of blocks' offsets with those blocks' sums.
#[target_feature(enable = "avx2")]
#[inline]
fn add_offsets<const T: usize>(
    tile: &Tile,
    pairs: usize,
    x_sums: impl Fn(usize, usize) -> i32,
    sums: &mut Many<__m256i, T>,
) {
    for i in 0..pairs {
        let offsets = tile.offsets[i].as_chunks::<8>().0;
        for t in 0..T {
            let x_sums = _mm256_set1_epi32(x_sums(t, i));
            for half in 0..2 {
                sums[t][half] = _mm256_add_epi32(sums[t][half], _mm256_madd_epi16(load(&offsets[half]), x_sums));
            }
        }
    }
}

/// The products with a chunk with units, in blocks of FOURS times four codes.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn of_units<const T: usize, const FOURS: usize, const IN_16: usize, const WIDENED: usize, const OFFSET: bool>(
    tile: &Tile,
    x: &[ChunkX<'_>; T],
    widened: &[[i16; WIDENED]; T],
) -> Many<__m256, T> {
    let n = opaque::<IN_16>();
    let mut sums = [[_mm256_setzero_si256(); 2]; T];
    for b in 0..64 / FOURS {
        let scales = tile.scales[b].as_chunks::<8>().0;
        let scales = [load(&scales[0]), load(&scales[1])];
        // Of the sums the signed codes give no 16 bits.
        let mut signed = [[_mm256_setzero_si256(); 2]; T];
        if IN_16 == 0 {
            for four in b * FOURS..(b + 1) * FOURS {
                signed_four(tile, widened, four, &mut signed);
            }
        }
        for i in 0..FOURS.checked_div(IN_16).unwrap_or(1) {
            let first = b * FOURS + i * IN_16;
            let in_16 = sums_in_16(tile, x, first..first + n);
            for t in 0..T {
                let multiple = _mm256_set1_epi32(pair_of(&x[t].of.multiples, b * FOURS / 8));
                for half in 0..2 {
                    let scale = _mm256_mullo_epi16(scales[half], multiple);
                    let product = if IN_16 == 0 {
                        _mm256_mullo_epi32(signed[t][half], _mm256_srai_epi32::<16>(scale))
                    } else {
                        _mm256_madd_epi16(in_16[t][half], scale)
                    };
                    sums[t][half] = _mm256_add_epi32(sums[t][half], product);
                }
            }
        }
    }
    // Offsets, or what makes up for raised codes.
    let mut offset_sums = [[_mm256_setzero_si256(); 2]; T];
    if OFFSET || IN_16 != 0 {
        let offset_sums = if OFFSET { &mut offset_sums } else { &mut sums };
        if FOURS == 4 {
            add_offsets(
                tile,
                8,
                #[inline(always)]
                |t, i| pair_of(&x[t].of.multiple_sums, i),
                offset_sums,
            );
        } else if (0..T).all(|t| x[t].of.fit != 0) {
            add_offsets(
                tile,
                4,
                #[inline(always)]
                |t, i| pair_of(&x[t].of.block_sums, i),
                offset_sums,
            );
        } else {
            // Blocks' first halves, then their second.
            for half in 0..2 {
                let sum = |t: usize, b| i32::from(x[t].of.multiple_sums[2 * b + half]);
                add_offsets(
                    tile,
                    4,
                    #[inline(always)]
                    |t, i| sum(t, 2 * i) & 0xffff | sum(t, 2 * i + 1) << 16,
                    offset_sums,
                );
            }
        }
    }
    let mut products = [[_mm256_setzero_ps(); 2]; T];
    let units = [tile.units[0].as_chunks().0, tile.units[1].as_chunks().0];
    for t in 0..T {
        let x_unit = _mm256_set1_ps(x[t].of.unit);
        for half in 0..2 {
            let unit = _mm256_mul_ps(load_f32(&units[0][half]), x_unit);
            products[t][half] = _mm256_mul_ps(unit, _mm256_cvtepi32_ps(sums[t][half]));
            if OFFSET {
                // The unit itself is -dmin.
                let unit = _mm256_mul_ps(load_f32(&units[1][half]), x_unit);
                let offset = _mm256_mul_ps(unit, _mm256_cvtepi32_ps(offset_sums[t][half]));
                products[t][half] = _mm256_sub_ps(products[t][half], offset);
            }
        }
    }
    products
}

/// Adds the products of four signed codes.
#[target_feature(enable = "avx2")]
#[inline]
fn signed_four<const T: usize, const WIDENED: usize>(
    tile: &Tile,
    x: &[[i16; WIDENED]; T],
    four: usize,
    sums: &mut Many<__m256i, T>,
) {
    for pair in 0..2 {
        let mut w = [_mm256_setzero_si256(); 2];
        for half in 0..2 {
            // SAFETY: sixteen of 64 bytes are read.
            let pairs =
                unsafe { _mm_loadu_si128(tile.codes[four].as_chunks::<16>().0[2 * half + pair].as_ptr().cast()) };
            w[half] = _mm256_cvtepi8_epi16(pairs);
        }
        for t in 0..T {
            // SAFETY: a four is below 64, and 64 times two pairs are a chunk, which WIDENED is where codes are signed.
            let x = unsafe { x[t].as_ptr().cast::<i32>().add(2 * four + pair).read_unaligned() };
            let x = _mm256_set1_epi32(x);
            for half in 0..2 {
                sums[t][half] = _mm256_add_epi32(sums[t][half], _mm256_madd_epi16(w[half], x));
            }
        }
    }
}
