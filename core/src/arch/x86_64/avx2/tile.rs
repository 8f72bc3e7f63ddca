//! Sixteen rows against many activations: a row an element of two vectors.

use super::super::bytes::{load256, pair_of, prefetch_ahead};
use super::weights::{Scales, Weights};
use super::{Format, block_units, load_16, widen};
use crate::arch::integer::{Ahead, CHUNK, ChunkX, Number, Outputs, Placed, ROWS, RowX, Tile, chunks};
use crate::kernel::acts::Scales as ScalesX;
use core::arch::x86_64::*;
use core::hint::black_box;
use core::mem::MaybeUninit;
use core::ops::Range;

/// Activations that are multiplied together.
const TOGETHER: usize = 4;

/// Groups of them that are arranged at once.
const RUN: usize = 4;

/// Row `r`'s chunk, its codes as [`turns`] has them.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn place<F: Format>(r: usize, w: &Weights, placed: &mut Placed) {
    let to = placed.codes[r].as_chunks_mut::<32>().0.as_chunks_mut::<2>().0;
    for (codes, to) in w.codes.as_chunks().0.iter().zip(to) {
        let codes = turns::<F>(*codes);
        for i in 0..2 {
            // SAFETY: 32 bytes are written.
            unsafe { _mm256_storeu_si256(to[i].as_mut_ptr().cast(), codes[i]) };
        }
    }
    let Scales { scales, offsets, units, .. } = w.scales;
    store(&mut placed.scales[r].as_chunks_mut().0[0], scales);
    // With units, offsets meet the sums of two blocks at a time.
    let offsets = if F::UNITS && F::WIDE { _mm256_permute4x64_epi64::<0b11_10_11_10>(scales) } else { offsets };
    store(&mut placed.offsets[r].as_chunks_mut().0[0], offsets);
    if F::UNITS {
        for i in 0..2 {
            placed.units[i][r] = _mm_cvtss_f32(block_units(F::DTYPE, units[i].into()));
        }
    }
}

/// With units, of 64 codes two of a block and two of its neighbour in turns, so that sums of both come to lie side by side, as
/// their scales do. First come the blocks' first sixteen codes; of blocks of 16, the first two blocks.
#[target_feature(enable = "avx2")]
#[inline]
fn turns<F: Format>(codes: [__m256i; 2]) -> [__m256i; 2] {
    if !F::UNITS || F::SIGNED {
        return codes;
    }
    // The first sixteen at the lanes' lower ends.
    let [even, odd] =
        [_mm256_permute4x64_epi64::<0b11_01_10_00>(codes[0]), _mm256_permute4x64_epi64::<0b11_01_10_00>(codes[1])];
    if F::WIDE {
        return [_mm256_unpacklo_epi16(even, odd), _mm256_unpackhi_epi16(even, odd)];
    }
    let words = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    [_mm256_shuffle_epi8(even, words), _mm256_shuffle_epi8(odd, words)]
}

/// Where four codes, or a word of an activation, lie: of each eight, a lane's four between the other lane's, as
/// [`Words::put`] comes to have them.
#[inline(always)]
const fn slot(i: usize) -> usize {
    i / 8 * 8 + i % 4 * 2 + i / 4 % 2
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

/// Codes as [four codes][row], fours in the order of [`slot`]; where they are signed, in their own, as [half][two codes][8
/// rows] of each eight rows. Scales and offsets as [block][row]; where they are integers, those of two neighbours (of 16, or
/// of 32 if the type's blocks are) in one.
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
                let four = 8 * i + j;
                let unit = &mut tile.codes[if F::SIGNED { four } else { slot(four) }].as_chunks_mut::<32>().0[half];
                let v = if F::SIGNED { by_pairs(v[j]) } else { v[j] };
                // SAFETY: 32 bytes are written.
                unsafe { _mm256_storeu_si256(unit.as_mut_ptr().cast(), v) };
            }
        }
    }
    transpose_numbers(&placed.scales, &mut tile.scales);
    if F::OFFSET || F::UNITS && F::RAISE != 0 {
        transpose_numbers(&placed.offsets, &mut tile.offsets);
    }
    tile.units = placed.units;
}

/// [row][block] to [block][row], eight blocks.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose_numbers(from: &[[Number; 16]; ROWS], to: &mut [[Number; ROWS]; 16]) {
    for (half, rows) in from.as_chunks::<8>().0.iter().enumerate() {
        let mut v = [_mm256_setzero_si256(); 8];
        for r in 0..8 {
            v[r] = load(&rows[r].as_chunks().0[0]);
        }
        transpose(&mut v);
        for b in 0..8 {
            store(&mut to[b].as_chunks_mut().0[half], v[b]);
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

/// A chunk of T activations as products meet it.
#[repr(C, align(64))]
struct Words<const T: usize> {
    /// [word][activation], words in the order of [`slot`]: four codes each; where the weights' are signed, two of 16 bits.
    codes: MaybeUninit<[[i32; T]; CHUNK / 2]>,
    /// [two blocks][activation], with units: the multiples of two blocks that lie side by side.
    multiples: MaybeUninit<[[i32; T]; 8]>,
}

impl<const T: usize> Words<T> {
    const NONE: Self = Self { codes: MaybeUninit::uninit(), multiples: MaybeUninit::uninit() };

    /// Makes them: codes as the weights' tile has them ([`turns`], [`slot`]).
    #[target_feature(enable = "avx2")]
    #[inline]
    fn arrange<F: Format>(&mut self, x: &[ChunkX<'_>; T]) {
        let codes: *mut __m256i = self.codes.as_mut_ptr().cast();
        for i in 0..if F::SIGNED { 8 } else { 4 } {
            let mut v = [[_mm256_setzero_si256(); T]; 2];
            for t in 0..T {
                let mut two = [_mm256_setzero_si256(); 2];
                for j in 0..2 {
                    two[j] = if F::SIGNED {
                        // SAFETY: sixteen bytes are read.
                        let codes =
                            unsafe { _mm_loadu_si128(x[t].codes.as_chunks::<16>().0[2 * i + j].as_ptr().cast()) };
                        _mm256_cvtepi8_epi16(codes)
                    } else {
                        load256(&x[t].codes.as_chunks().0[2 * i + j])
                    };
                }
                [v[0][t], v[1][t]] = turns::<F>(two);
            }
            for j in 0..2 {
                // SAFETY: T vectors are written, 2 i + j times T behind the first, of sixteen times T.
                unsafe { Self::put(v[j], codes.add((2 * i + j) * T)) };
            }
        }
        if F::UNITS {
            let mut v = [_mm256_setzero_si256(); T];
            for t in 0..T {
                let multiples = load_16(&x[t].of.multiples);
                // Each is there twice, once for each sixteen codes: a block of 32's, and its neighbour's.
                let both = _mm256_blend_epi16::<0b1010_1010>(multiples, _mm256_srli_epi64::<32>(multiples));
                v[t] = if F::WIDE { both } else { multiples };
            }
            // SAFETY: T vectors are written, which are all.
            unsafe { Self::put(v, self.multiples.as_mut_ptr().cast()) };
        }
    }

    /// Eight words of each activation.
    ///
    /// # Safety
    /// `to` must have room for T vectors.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn put(v: [__m256i; T], to: *mut __m256i) {
        const { assert!(T == 4 || T == 1) };
        let mut all = v;
        if let [a, b, c, d] = v[..] {
            let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
            (all[0], all[1]) = (_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
            let (ab, cd) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
            (all[2], all[3]) = (_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
        } else if let [a] = v[..] {
            all[0] = _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        }
        for t in 0..T {
            // SAFETY: this function's contract.
            unsafe { _mm256_store_si256(to.add(t), all[t]) };
        }
    }

    /// The word at place `i` of activation `t`, in every lane.
    ///
    /// # Safety
    /// It must have been arranged: 64 are, or 128 of signed types.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn code(&self, i: usize, t: usize) -> __m256i {
        // SAFETY: this function's contract.
        _mm256_set1_epi32(unsafe { self.codes.as_ptr().cast::<i32>().add(i * T + t).read() })
    }

    /// The multiples of the `i`-th eight codes' blocks, in every lane.
    ///
    /// # Safety
    /// They must have been arranged.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn multiple(&self, i: usize, t: usize) -> __m256i {
        // SAFETY: this function's contract.
        _mm256_set1_epi32(unsafe { self.multiples.as_ptr().cast::<i32>().add(slot(i) * T + t).read() })
    }
}

/// A chunk of T activations, and what belongs to it.
struct Codes<'a, const T: usize> {
    words: &'a Words<T>,
    of: [&'a ScalesX; T],
}

/// One chunk of some tiles against all activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
pub(super) fn all<F: Format>(tiles: &[Tile], chunk: usize, x: &[RowX<'_>], out: &mut [Outputs], ahead: Ahead<'_>) {
    let (many, one) = x.as_chunks::<TOGETHER>();
    let n = many.len() + one.len();
    run::<F, TOGETHER, RUN>(tiles, chunk, many, out, (0, n), ahead);
    run::<F, 1, TOGETHER>(tiles, chunk, one.as_chunks().0, out, (many.len(), n), ahead);
}

/// Groups of T activations: number `first` and those behind it, of `n`; those before it are of [`TOGETHER`].
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn run<F: Format, const T: usize, const RUN: usize>(
    tiles: &[Tile],
    chunk: usize,
    groups: &[[RowX<'_>; T]],
    out: &mut [Outputs],
    (first, n): (usize, usize),
    ahead: Ahead<'_>,
) {
    // Several are arranged at once: what has just been written can be read at once only in the same pieces.
    let mut words = [Words::<T>::NONE; RUN];
    for (i, groups) in groups.chunks(RUN).enumerate() {
        for (x, words) in groups.iter().zip(&mut words) {
            if let Some(x) = chunks(x, chunk) {
                words.arrange::<F>(&x);
            }
        }
        for (j, (x, words)) in groups.iter().zip(&words).enumerate() {
            prefetch_ahead(ahead.part(first + RUN * i + j, n));
            if let Some(x) = chunks(x, chunk) {
                several::<F, T>(tiles, &x, words, out, TOGETHER * first + T * (RUN * i + j));
            }
        }
    }
}

/// T activations; their outputs are the `at`-th and those behind it.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn several<F: Format, const T: usize>(
    tiles: &[Tile],
    x: &[ChunkX<'_>; T],
    words: &Words<T>,
    out: &mut [Outputs],
    at: usize,
) {
    let mut peak = 0;
    for x in x {
        peak = peak.max(i32::from(x.of.peak));
    }
    let x = Codes { words, of: x.map(|x| x.of) };
    // Fours of codes whose products add up in 16 bits, two neighbours each; none where codes are signed.
    let fit = if F::SIGNED { 0 } else { 0x7fff / (F::TOP * 127 * 2) };
    // Whether these do: eight have sixteen codes of a block in each neighbour. Most often they do.
    let fits = |fours: i32| F::TOP * peak * fours <= 8 * 0x7fff;
    let raise = F::RAISE.into();
    match (F::UNITS, F::WIDE, F::OFFSET, fit) {
        (false, _, true, 8..) => step::<T, 8, 8, true, false>(raise, tiles, &x, out, at),
        (false, _, true, _) => step::<T, 8, 4, true, false>(raise, tiles, &x, out, at),
        (false, _, false, 8..) => step::<T, 8, 8, false, false>(raise, tiles, &x, out, at),
        (false, _, false, 4..) => step::<T, 8, 4, false, false>(raise, tiles, &x, out, at),
        (false, _, false, _) => step::<T, 8, 0, false, false>(raise, tiles, &x, out, at),
        (true, true, true, 8..) if fits(16) => step::<T, 16, 16, true, true>(raise, tiles, &x, out, at),
        (true, true, true, 8..) => step::<T, 16, 8, true, true>(raise, tiles, &x, out, at),
        (true, true, true, _) if fits(8) => step::<T, 16, 8, true, true>(raise, tiles, &x, out, at),
        (true, true, true, _) => step::<T, 16, 4, true, true>(raise, tiles, &x, out, at),
        (true, true, false, 1..) => step::<T, 16, 1, false, true>(raise, tiles, &x, out, at),
        (true, true, false, _) => step::<T, 16, 0, false, true>(raise, tiles, &x, out, at),
        (true, false, true, _) => step::<T, 8, 8, true, true>(raise, tiles, &x, out, at),
        (true, false, false, 8..) => step::<T, 8, 8, false, true>(raise, tiles, &x, out, at),
        (true, false, false, 4..) if fits(8) => step::<T, 8, 8, false, true>(raise, tiles, &x, out, at),
        (true, false, false, 4..) => step::<T, 8, 4, false, true>(raise, tiles, &x, out, at),
        (true, false, false, 2..) => step::<T, 8, 2, false, true>(raise, tiles, &x, out, at),
        (true, false, false, _) => step::<T, 8, 1, false, true>(raise, tiles, &x, out, at),
    }
}

/// One value for each of the tile's rows and T activations.
type Many<V, const T: usize> = [[V; 2]; T];

/// One chunk of some tiles against T activations, in blocks (with units, two side by side) of FOURS times four codes. IN_16
/// fours' products add up in 16 bits; where that is 0, codes are signed.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn step<const T: usize, const FOURS: usize, const IN_16: usize, const OFFSET: bool, const UNITS: bool>(
    raise: i32,
    tiles: &[Tile],
    x: &Codes<'_, T>,
    out: &mut [Outputs],
    at: usize,
) {
    for (tile, out) in tiles.iter().zip(out) {
        let products = if UNITS {
            of_units::<T, FOURS, IN_16, OFFSET>(tile, x)
        } else {
            of_blocks::<T, IN_16, OFFSET>(raise, tile, x)
        };
        for (out, products) in out[at..].iter_mut().zip(products) {
            let out = out.as_chunks_mut::<8>().0;
            for half in 0..2 {
                let sum = _mm256_add_ps(load_f32(&out[half]), products[half]);
                // SAFETY: eight values are written.
                unsafe { _mm256_storeu_ps(out[half].as_mut_ptr(), sum) };
            }
        }
    }
}

/// The sums of products of some fours, at least one, each in two neighbours of 16 bits.
#[target_feature(enable = "avx2")]
#[inline]
fn sums_in_16<const T: usize>(tile: &Tile, x: &Codes<'_, T>, fours: Range<usize>) -> Many<__m256i, T> {
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
fn products_in_16<const T: usize>(tile: &Tile, x: &Codes<'_, T>, four: usize) -> Many<__m256i, T> {
    let w = tile.codes[four].as_chunks().0;
    let w = [load256(&w[0]), load256(&w[1])];
    let mut products = [[_mm256_setzero_si256(); 2]; T];
    for t in 0..T {
        // SAFETY: a four is below 64.
        let x = unsafe { x.words.code(four, t) };
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
fn of_blocks<const T: usize, const IN_16: usize, const OFFSET: bool>(
    raise: i32,
    tile: &Tile,
    x: &Codes<'_, T>,
) -> Many<__m256, T> {
    let zero = [[_mm256_setzero_ps(); 2]; T];
    let mut sum = zero;
    let mut pending = [zero; 3]; // sums of 1, 2 and 4 leaves that wait for their neighbour
    for leaf in 0..8 {
        sum = block::<T, IN_16, OFFSET>(raise, tile, x, leaf);
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
fn block<const T: usize, const IN_16: usize, const OFFSET: bool>(
    raise: i32,
    tile: &Tile,
    x: &Codes<'_, T>,
    b: usize,
) -> Many<__m256, T> {
    let mut x_sums = [0; T];
    let mut sums = [[_mm256_setzero_si256(); 2]; T];
    for t in 0..T {
        let of_16 = x.of[t].sums;
        x_sums[t] = i32::from(of_16[2 * b]) + i32::from(of_16[2 * b + 1]);
        if !OFFSET && IN_16 != 0 {
            sums[t] = [_mm256_set1_epi32(-raise * x_sums[t]); 2];
        }
    }
    if IN_16 == 0 {
        for four in 8 * b..8 * b + 8 {
            signed_four(tile, x, four, &mut sums);
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
        let x_scale = x.of[t].scales[b];
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

/// The products with a chunk with units.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn of_units<const T: usize, const FOURS: usize, const IN_16: usize, const OFFSET: bool>(
    tile: &Tile,
    x: &Codes<'_, T>,
) -> Many<__m256, T> {
    let n = opaque::<IN_16>();
    let mut sums = [[_mm256_setzero_si256(); 2]; T];
    // The blocks' scales are multiplied anew for long sums, for which the compiler has no registers else.
    let step = if IN_16 < 8 { FOURS } else { IN_16 };
    for start in (0..64).step_by(step) {
        let scales = tile.scales[start / FOURS].as_chunks::<8>().0;
        let scales = [load(&scales[0]), load(&scales[1])];
        // SAFETY: with units they are arranged.
        let multiple = |t: usize| unsafe { x.words.multiple(start / FOURS * FOURS / 8, t) };
        if IN_16 == 0 {
            // The signed codes' sums are none of 16 bits.
            for odd in 0..2 {
                let mut signed = [[_mm256_setzero_si256(); 2]; T];
                for four in start + 8 * odd..start + 8 * odd + 8 {
                    signed_four(tile, x, four, &mut signed);
                }
                for t in 0..T {
                    for half in 0..2 {
                        let both = _mm256_mullo_epi16(scales[half], multiple(t));
                        let upper = if odd == 1 { both } else { _mm256_slli_epi32::<16>(both) };
                        let product = _mm256_mullo_epi32(signed[t][half], _mm256_srai_epi32::<16>(upper));
                        sums[t][half] = _mm256_add_epi32(sums[t][half], product);
                    }
                }
            }
            continue;
        }
        for first in (start..start + step).step_by(IN_16.max(1)) {
            let in_16 = sums_in_16(tile, x, first..first + n);
            for t in 0..T {
                for half in 0..2 {
                    let scale = _mm256_mullo_epi16(scales[half], multiple(t));
                    sums[t][half] = _mm256_add_epi32(sums[t][half], _mm256_madd_epi16(in_16[t][half], scale));
                }
            }
        }
    }
    // Offsets, or what makes up for raised codes.
    let mut offset_sums = [[_mm256_setzero_si256(); 2]; T];
    if OFFSET || IN_16 != 0 {
        let offset_sums = if OFFSET { &mut offset_sums } else { &mut sums };
        if FOURS == 8 {
            add_offsets(
                tile,
                8,
                #[inline(always)]
                |t, i| pair_of(&x.of[t].multiple_sums, i),
                offset_sums,
            );
        } else if x.of.iter().all(|of| of.fit != 0) {
            add_offsets(
                tile,
                4,
                #[inline(always)]
                |t, i| pair_of(&x.of[t].block_sums, i),
                offset_sums,
            );
        } else {
            // Blocks' first halves, then their second.
            for half in 0..2 {
                let sum = |t: usize, b| i32::from(x.of[t].multiple_sums[2 * b + half]);
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
        let x_unit = _mm256_set1_ps(x.of[t].unit);
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
fn signed_four<const T: usize>(tile: &Tile, x: &Codes<'_, T>, four: usize, sums: &mut Many<__m256i, T>) {
    for pair in 0..2 {
        let mut w = [_mm256_setzero_si256(); 2];
        for half in 0..2 {
            // SAFETY: sixteen of 64 bytes are read.
            let pairs =
                unsafe { _mm_loadu_si128(tile.codes[four].as_chunks::<16>().0[2 * half + pair].as_ptr().cast()) };
            w[half] = _mm256_cvtepi8_epi16(pairs);
        }
        for t in 0..T {
            // SAFETY: a four is below 64, and of signed codes 128 are arranged.
            let x = unsafe { x.words.code(slot(2 * four + pair), t) };
            for half in 0..2 {
                sums[t][half] = _mm256_add_epi32(sums[t][half], _mm256_madd_epi16(w[half], x));
            }
        }
    }
}
