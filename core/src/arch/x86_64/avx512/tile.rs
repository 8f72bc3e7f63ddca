//! Tiles of sixteen rows against many activations: a row an element of a vector.

use super::super::bytes::{pair_of, prefetch_ahead, unit_factor};
use super::Format;
use super::weights::{Scales, load512};
use crate::arch::integer::{Ahead, CHUNK, ChunkX, Number, Outputs, Placed, ROWS, RowX, chunks};
use crate::kernel::acts::MOST;
use core::arch::x86_64::*;
use core::ops::Range;

/// Sixteen rows of one chunk, laid out by [`seal`].
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Tile {
    /// [four codes][row]
    codes: [[i8; 4 * ROWS]; CHUNK / 4],
    /// [block][row], f32, or with units i16, their upper halves zero.
    scales: [[Number; ROWS]; 16],
    /// [block][row], f32, or with units [`pairs`].
    offsets: [[Number; ROWS]; 8],
    /// [scales, offsets][row], f32: what integers are times.
    units: [[f32; ROWS]; 2],
    /// With [`multiples`]: [block][multiple - 1][row], i32, each scale times each multiple that an activation may have.
    multiples: [[[Number; ROWS]; MOST as usize]; CHUNK / 32],
}

impl Tile {
    pub(super) const ZERO: Self = Self {
        codes: [[0; 4 * ROWS]; CHUNK / 4],
        scales: [[[0; 4]; ROWS]; 16],
        offsets: [[[0; 4]; ROWS]; 8],
        units: [[0.0; ROWS]; 2],
        multiples: [[[[0; 4]; ROWS]; MOST as usize]; CHUNK / 32],
    };
}

/// Whether the scales' multiples are worth a table: multiplications are what a tile's time goes into, and it makes a load of
/// one in eleven. By count sixteen activations pay for it; with four it made products a fifth slower.
pub(super) const fn multiples<F: Format>(activations: usize) -> bool {
    F::WIDE && F::FORM.units && activations >= 32
}

/// Sixteen numbers.
#[target_feature(enable = "avx512f")]
#[inline]
fn load<V: bytemuck::Pod>(from: &[V; ROWS]) -> __m512i {
    const { assert!(size_of::<[V; ROWS]>() == 64) };
    // SAFETY: 64 bytes are read, as many as there are.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

/// Writes sixteen numbers.
#[target_feature(enable = "avx512f")]
#[inline]
fn store(to: &mut [Number; ROWS], values: __m512i) {
    // SAFETY: 64 bytes are written.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), values) };
}

/// What activations' sums are to be multiplied by, i16, those of two neighbouring blocks (of 16, or of 32 if the type's
/// blocks are) in one: the offsets, or for raised codes the scales.
#[target_feature(enable = "avx512f")]
#[inline]
fn pairs<F: Format>(w: &Scales) -> __m512i {
    let of_blocks = if F::FORM.offset { w.offsets } else { w.scales };
    _mm512_castsi256_si512(_mm512_cvtepi32_epi16(of_blocks))
}

/// The scales of row `r`'s chunk, as they are.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn place<F: Format>(r: usize, w: Scales, placed: &mut Placed) {
    let (scales, offsets) = if F::FORM.units {
        (_mm512_and_si512(w.scales, _mm512_set1_epi32(0xffff)), pairs::<F>(&w))
    } else {
        (w.scales, w.offsets)
    };
    if F::WIDE {
        // Eight of each, which turn into columns together.
        store(&mut placed.scales[r], _mm512_inserti64x4::<1>(scales, _mm512_castsi512_si256(offsets)));
    } else {
        store(&mut placed.scales[r], scales);
        store(&mut placed.offsets[r], offsets);
    }
    // Still the two f16.
    placed.units[0][r] = f32::from_bits(w.units);
}

/// Turns rows into a tile's columns.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn seal<F: Format>(placed: &Placed, multiples: bool, tile: &mut Tile) {
    let zeros = [_mm512_setzero_si512(); ROWS];
    for (quarter, columns) in tile.codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let mut v = each!(r in zeros => load512(&placed.codes[r].as_chunks::<64>().0[quarter]));
        transpose(&mut v);
        for i in 0..16 {
            store(bytemuck::cast_mut(&mut columns[i]), v[i]);
        }
    }
    let mut v = each!(r in zeros => load(&placed.scales[r]));
    transpose(&mut v);
    if multiples {
        for b in 0..8 {
            let scale = _mm512_madd_epi16(v[b], _mm512_set1_epi32(1));
            let mut product = _mm512_setzero_si512();
            for m in 0..MOST as usize {
                product = _mm512_add_epi32(product, scale);
                store(&mut tile.multiples[b][m], product);
            }
        }
    }
    let blocks = if F::WIDE { 8 } else { 16 };
    for b in 0..blocks {
        store(&mut tile.scales[b], v[b]);
    }
    if !F::WIDE {
        v = each!(r in zeros => load(&placed.offsets[r]));
        transpose(&mut v);
    }
    for b in 0..8 {
        store(&mut tile.offsets[b], v[b + blocks % 16]);
    }
    let f16 = load(&placed.units[0]);
    let f16 = [f16, _mm512_srli_epi32::<16>(f16)];
    for i in 0..2 {
        let units = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(f16[i]));
        let units = _mm512_mul_ps(units, _mm512_set1_ps(unit_factor(F::DTYPE)));
        store(bytemuck::cast_mut(&mut tile.units[i]), _mm512_castps_si512(units));
    }
}

/// Transposes sixteen rows of sixteen 4-byte units.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn transpose(v: &mut [__m512i; 16]) {
    let mut a = *v;
    for i in 0..8 {
        a[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    let mut b = a;
    for i in 0..4 {
        for j in 0..2 {
            b[4 * i + 2 * j] = _mm512_unpacklo_epi64(a[4 * i + j], a[4 * i + 2 + j]);
            b[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(a[4 * i + j], a[4 * i + 2 + j]);
        }
    }
    // b[4 i + j], lane l: column 4 l + j of rows 4 i..4 i + 4.
    for j in 0..4 {
        let ab = _mm512_shuffle_i32x4::<0b10_00_10_00>(b[j], b[4 + j]);
        let cd = _mm512_shuffle_i32x4::<0b10_00_10_00>(b[8 + j], b[12 + j]);
        v[j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(ab, cd);
        v[8 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(ab, cd);
        let ab = _mm512_shuffle_i32x4::<0b11_01_11_01>(b[j], b[4 + j]);
        let cd = _mm512_shuffle_i32x4::<0b11_01_11_01>(b[8 + j], b[12 + j]);
        v[4 + j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(ab, cd);
        v[12 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(ab, cd);
    }
}

/// Activations that are multiplied together.
const TOGETHER: usize = 4;

/// One chunk of R tiles against all activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn all<F: Format, const R: usize>(
    tiles: [&Tile; R],
    chunk: usize,
    x: &[RowX<'_>],
    mut out: [&mut Outputs; R],
    ahead: Ahead<'_>,
) {
    match multiples::<F>(x.len()) {
        true => steps::<F, R, true>(tiles, chunk, x, &mut out, ahead),
        false => steps::<F, R, false>(tiles, chunk, x, &mut out, ahead),
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn steps<F: Format, const R: usize, const MULTIPLES: bool>(
    tiles: [&Tile; R],
    chunk: usize,
    x: &[RowX<'_>],
    out: &mut [&mut Outputs; R],
    ahead: Ahead<'_>,
) {
    let (many, one) = x.as_chunks::<TOGETHER>();
    let n = many.len() + one.len();
    for (i, x) in many.iter().enumerate() {
        prefetch_ahead(ahead.part(i, n));
        if let Some(x) = chunks(x, chunk) {
            step::<F, R, TOGETHER, MULTIPLES>(tiles, &x, out, TOGETHER * i);
        }
    }
    for (i, x) in one.iter().enumerate() {
        prefetch_ahead(ahead.part(many.len() + i, n));
        if let Some(x) = chunks(&[*x], chunk) {
            step::<F, R, 1, MULTIPLES>(tiles, &x, out, TOGETHER * many.len() + i);
        }
    }
}

/// One value for each of sixteen rows a vector, of R tiles and T activations.
type Many<V, const R: usize, const T: usize> = [[V; T]; R];

/// One chunk of R tiles against T activations, the `first` one on.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn step<F: Format, const R: usize, const T: usize, const MULTIPLES: bool>(
    tiles: [&Tile; R],
    x: &[ChunkX<'_>; T],
    out: &mut [&mut Outputs; R],
    first: usize,
) {
    let products =
        if F::FORM.units { of_units::<F, R, T, MULTIPLES>(tiles, x) } else { of_blocks::<F, R, T>(tiles, x) };
    for r in 0..R {
        for t in 0..T {
            let out = &mut out[r][first + t];
            // SAFETY: sixteen values are read and written.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_add_ps(_mm512_loadu_ps(out.as_ptr()), products[r][t])) };
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn add_all<const R: usize, const T: usize>(a: &Many<__m512, R, T>, b: &Many<__m512, R, T>) -> Many<__m512, R, T> {
    let mut sum = *a;
    for r in 0..R {
        for t in 0..T {
            sum[r][t] = _mm512_add_ps(a[r][t], b[r][t]);
        }
    }
    sum
}

/// Where four codes of a row lie in the tile: blocks of 32 are in the order of `halves`.
const fn placed(wide: bool, four: usize) -> usize {
    let (block, half, i) = (four / 8, four / 4 % 2, four % 4);
    if wide { (block % 2 * 2 + half) * 16 + block / 2 * 4 + i } else { four }
}

/// `sums` plus the products of `fours`.
///
/// Plain loops over indices, as in `super::each`.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_products<F: Format, const R: usize, const T: usize>(
    mut sums: Many<__m512i, R, T>,
    tiles: [&Tile; R],
    x: &[ChunkX<'_>; T],
    fours: Range<usize>,
) -> Many<__m512i, R, T> {
    for four in fours {
        let w = each!(r in [_mm512_setzero_si512(); R] => load512(&tiles[r].codes[placed(F::WIDE, four)]));
        for t in 0..T {
            // SAFETY: a four is below 64, and 64 times 4 bytes are a chunk.
            let x = unsafe { x[t].codes.as_ptr().cast::<i32>().add(four).read_unaligned() };
            let x = _mm512_set1_epi32(x);
            for r in 0..R {
                sums[r][t] = _mm512_dpbusd_epi32(sums[r][t], w[r], x);
            }
        }
    }
    sums
}

/// A pair of i16 in every element: the two of block `b`'s halves.
#[target_feature(enable = "avx512f")]
#[inline]
fn of_halves(of_16: &[i16; 16], b: usize) -> __m512i {
    _mm512_set1_epi32(pair_of(of_16, b))
}

/// The products with a chunk without units: of each block of 32 a leaf of the tree of [`integer`].
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn of_blocks<F: Format, const R: usize, const T: usize>(tiles: [&Tile; R], x: &[ChunkX<'_>; T]) -> Many<__m512, R, T> {
    let zero = [[_mm512_setzero_ps(); T]; R];
    let mut sum = zero;
    let mut pending = [zero; 3]; // sums of 1, 2 and 4 leaves that wait for their neighbour
    for b in 0..8 {
        sum = leaf::<F, R, T>(tiles, x, b);
        let mut level = 0;
        while level < 3 && b >> level & 1 == 1 {
            sum = add_all(&pending[level], &sum);
            level += 1;
        }
        if level < 3 {
            pending[level] = sum;
        }
    }
    sum
}

/// The scaled products of block `b` of 32 codes.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn leaf<F: Format, const R: usize, const T: usize>(
    tiles: [&Tile; R],
    x: &[ChunkX<'_>; T],
    b: usize,
) -> Many<__m512, R, T> {
    let mut sums = [[_mm512_setzero_si512(); T]; R];
    if !F::FORM.offset {
        for t in 0..T {
            let raised = _mm512_madd_epi16(_mm512_set1_epi16(-F::RAISE as i16), of_halves(&x[t].of.sums, b));
            for r in 0..R {
                sums[r][t] = raised;
            }
        }
    }
    let sums = add_products::<F, R, T>(sums, tiles, x, 8 * b..8 * b + 8);
    let mut products = [[_mm512_setzero_ps(); T]; R];
    for r in 0..R {
        let scales = _mm512_castsi512_ps(load(&tiles[r].scales[b]));
        let offsets = _mm512_castsi512_ps(load(&tiles[r].offsets[b]));
        for t in 0..T {
            let x_scale = x[t].of.scales[b];
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(x_scale));
            products[r][t] = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(sums[r][t]));
            if F::FORM.offset {
                let [low, high] = x[t].of.sums.as_chunks().0[b];
                let x_sum = (i32::from(low) + i32::from(high)) as f32;
                let offset = _mm512_mul_ps(offsets, _mm512_set1_ps(x_scale * x_sum));
                products[r][t] = _mm512_add_ps(products[r][t], offset);
            }
        }
    }
    products
}

/// Adds the products of the first `pairs` pairs of blocks' offsets with those blocks' sums.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_offsets<const R: usize, const T: usize>(
    tiles: [&Tile; R],
    pairs: usize,
    x_sums: impl Fn(usize, usize) -> i32,
    sums: &mut Many<__m512i, R, T>,
) {
    for i in 0..pairs {
        let offsets = each!(r in [_mm512_setzero_si512(); R] => load(&tiles[r].offsets[i]));
        for t in 0..T {
            let x_sums = _mm512_set1_epi32(x_sums(t, i));
            for r in 0..R {
                sums[r][t] = _mm512_dpwssd_epi32(sums[r][t], offsets[r], x_sums);
            }
        }
    }
}

/// The products with a chunk with units.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn of_units<F: Format, const R: usize, const T: usize, const MULTIPLES: bool>(
    tiles: [&Tile; R],
    x: &[ChunkX<'_>; T],
) -> Many<__m512, R, T> {
    let zero = [[_mm512_setzero_si512(); T]; R];
    let mut sums = zero;
    // Blocks in 32 codes.
    let n = if F::WIDE { 1 } else { 2 };
    for b in 0..8 {
        for b in n * b..n * (b + 1) {
            let products = add_products::<F, R, T>(zero, tiles, x, 8 / n * b..8 / n * (b + 1));
            for r in 0..R {
                let scales = load(&tiles[r].scales[b]);
                for t in 0..T {
                    let scale = if F::WIDE && MULTIPLES {
                        // From 1 on; what it is of a chunk past the end does not matter.
                        let multiple = (x[t].of.multiples[2 * b] - 1) as usize;
                        load(&tiles[r].multiples[b][multiple % MOST as usize])
                    } else {
                        // The scales' upper halves are zero.
                        _mm512_madd_epi16(scales, of_halves(&x[t].of.multiples, b / n))
                    };
                    sums[r][t] = _mm512_add_epi32(sums[r][t], _mm512_mullo_epi32(products[r][t], scale));
                }
            }
        }
    }
    // Of offsets, or of what makes up for raised codes.
    let mut pair_sums = zero;
    if !F::WIDE {
        add_offsets::<R, T>(
            tiles,
            8,
            #[inline(always)]
            |t, i| pair_of(&x[t].of.multiple_sums, i),
            &mut pair_sums,
        );
    } else if (0..T).all(|t| x[t].of.fit != 0) {
        add_offsets::<R, T>(
            tiles,
            4,
            #[inline(always)]
            |t, i| pair_of(&x[t].of.block_sums, i),
            &mut pair_sums,
        );
    } else {
        // Blocks' first halves, then their second.
        for half in 0..2 {
            let sum = |t: usize, b| i32::from(x[t].of.multiple_sums[2 * b + half]);
            add_offsets::<R, T>(
                tiles,
                4,
                #[inline(always)]
                |t, i| sum(t, 2 * i) & 0xffff | sum(t, 2 * i + 1) << 16,
                &mut pair_sums,
            );
        }
    }
    let mut products = [[_mm512_setzero_ps(); T]; R];
    for r in 0..R {
        let [unit, offset_unit] = each!(i in [_mm512_setzero_ps(); 2] => _mm512_castsi512_ps(load(&tiles[r].units[i])));
        for t in 0..T {
            let x_unit = _mm512_set1_ps(x[t].of.unit);
            if !F::FORM.offset {
                // The sums before and after may pass i32 and come back.
                let raised = _mm512_mullo_epi32(pair_sums[r][t], _mm512_set1_epi32(F::RAISE));
                sums[r][t] = _mm512_sub_epi32(sums[r][t], raised);
            }
            products[r][t] = _mm512_mul_ps(_mm512_mul_ps(unit, x_unit), _mm512_cvtepi32_ps(sums[r][t]));
            if F::FORM.offset {
                // The unit itself is -dmin.
                let offset = _mm512_mul_ps(_mm512_mul_ps(offset_unit, x_unit), _mm512_cvtepi32_ps(pair_sums[r][t]));
                products[r][t] = _mm512_sub_ps(products[r][t], offset);
            }
        }
    }
    products
}
