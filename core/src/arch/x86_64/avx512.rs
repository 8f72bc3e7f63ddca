//! AVX-512 with VNNI.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes: signed weights go in as code + 128 (the sign bit flipped), and 128
//! times the sum of the activations comes off again.

mod weights;

use crate::arch::disjoint::Columns;
use crate::arch::integer::{self, ChunkX, Form, Isa, ROWS, Row, RowX, Tile, Work};
use crate::arch::level::Level;
use crate::dtype::DType;
use crate::quant;
use core::arch::x86_64::*;
use weights::Weights;

/// Runs `work` compiled for AVX-512.
///
/// # Safety
/// The processor must have AVX-512 F, BW, DQ, VL and VNNI, BMI1, BMI2 and F16C.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(crate) unsafe fn vectorize<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// [`integer::block`], compiled once for each type: with the type known, no weight goes through memory.
pub(crate) fn block(level: Level, work: &Work<'_>, columns: &mut Columns<'_>) {
    macro_rules! by_type {
        ($($dtype:ident: $load:path),+ $(,)?) => {
            match work.weights.dtype() {
                $(DType::$dtype => {
                    #[derive(Clone, Copy)]
                    struct Known;
                    impl Format for Known {
                        const FORM: Form = Form {
                            wide: quant::sub_block(DType::$dtype) == 32,
                            offset: quant::has_offset(DType::$dtype),
                        };

                        #[inline(always)]
                        unsafe fn load(row: Row<'_>, start: usize, len: usize) -> Weights {
                            // SAFETY: AVX-512 is there: this function's contract.
                            unsafe { $load(row, start, len) }
                        }
                    }
                    level.vectorize(#[inline(always)] || integer::block(Avx512(Known), work, columns))
                })+
                // They have no integer form, and do not come here.
                DType::F32 | DType::F16 | DType::BF16 | DType::I32 | DType::F8_E4M3 => {}
            }
        };
    }
    by_type!(
        Q4_0: weights::q4_0,
        Q4_1: weights::q4_1,
        Q5_0: weights::q5_0,
        Q5_1: weights::q5_1,
        Q8_0: weights::q8_0,
        Q2_K: weights::q2_k,
        Q3_K: weights::q3_k,
        Q4_K: weights::q4_k,
        Q5_K: weights::q5_k,
        Q6_K: weights::q6_k,
        IQ1_S: weights::iq1_s,
        IQ1_M: weights::iq1_m,
        IQ2_XXS: weights::iq2_xxs,
        IQ2_XS: weights::iq2_xs,
        IQ2_S: weights::iq2_s,
        IQ3_XXS: weights::iq3_xxs,
        IQ3_S: weights::iq3_s,
        IQ4_NL: weights::iq4_nl,
        IQ4_XS: weights::iq4_xs,
        MXFP4: weights::mxfp4,
        FP4_E2M1: weights::generic,
    );
}

/// A type of weights.
trait Format: Copy {
    const FORM: Form;

    /// Columns `start..start + len` of `row`.
    ///
    /// # Safety
    /// Only inside [`vectorize`].
    unsafe fn load(row: Row<'_>, start: usize, len: usize) -> Weights;
}

/// Only to be used inside [`vectorize`].
#[derive(Clone, Copy)]
struct Avx512<F>(F);

impl<F: Format> Isa for Avx512<F> {
    type Weights = Weights;

    #[inline(always)]
    fn load(self, row: Row<'_>, start: usize, len: usize) -> Weights {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe { F::load(row, start, len) }
    }

    #[inline(always)]
    fn chunk(self, _: Form, w: &Weights, x: ChunkX<'_>) -> f32 {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe { chunk(F::FORM, w, x) }
    }

    #[inline(always)]
    fn place(self, r: usize, w: &Weights, tile: &mut Tile) {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe { place(r, w, tile) }
    }

    #[inline(always)]
    fn seal(self, tile: &mut Tile) {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe { seal(tile) }
    }

    #[inline(always)]
    fn tile(self, _: Form, tile: &Tile, chunk: usize, x: &[RowX<'_>], out: &mut [[f32; ROWS]]) {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe {
            match (F::FORM.wide, F::FORM.offset) {
                (true, true) => tile_all::<true, true>(tile, chunk, x, out),
                (true, false) => tile_all::<true, false>(tile, chunk, x, out),
                (false, true) => tile_all::<false, true>(tile, chunk, x, out),
                (false, false) => tile_all::<false, false>(tile, chunk, x, out),
            }
        }
    }
}

impl Form {
    /// What codes are raised by to be unsigned bytes. Types with offsets have codes from 0 up and need nothing.
    const fn bias(self) -> i32 {
        if self.offset { 0 } else { 128 }
    }
}

/// One chunk of one row against one activation.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn chunk(form: Form, w: &Weights, x: ChunkX<'_>) -> f32 {
    let x_codes = x.codes.as_chunks::<64>().0;
    // Four-byte products of codes 64 i.., one 128-bit lane per 16 codes.
    let product = |i: usize| {
        // SAFETY: 64 bytes are read.
        let x = unsafe { _mm512_loadu_si512(x_codes[i].as_ptr().cast()) };
        _mm512_dpbusd_epi32(_mm512_setzero_si512(), w.codes[i], x)
    };
    let pairs = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (a, b) = (pairs(product(0), product(1)), pairs(product(2), product(3)));
    // Lane l, element i: the sum of 16-block 4 i + l.
    let by_lane = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let mut sums = _mm512_permutexvar_epi32(order, by_lane);
    // SAFETY: each read is of an array exactly as long.
    let (x_sums, x_scales) = unsafe {
        (_mm512_cvtepi16_epi32(_mm256_loadu_si256(x.sums.as_ptr().cast())), _mm256_loadu_ps(x.scales.as_ptr()))
    };
    if form.bias() != 0 {
        sums = _mm512_sub_epi32(sums, _mm512_slli_epi32::<7>(x_sums)); // 128 times
    }
    if form.wide {
        let (scales, offsets) = (_mm512_castps512_ps256(w.scales), _mm512_castps512_ps256(w.offsets));
        // Adjacent 16-blocks make one of 32: add the odd ones to the even ones and keep those.
        let add_odd = |v| _mm512_cvtepi64_epi32(_mm512_add_epi32(v, _mm512_srli_epi64::<32>(v)));
        let mut p = _mm256_mul_ps(_mm256_mul_ps(scales, x_scales), _mm256_cvtepi32_ps(add_odd(sums)));
        if form.offset {
            let x_sums = _mm256_mul_ps(x_scales, _mm256_cvtepi32_ps(add_odd(x_sums)));
            p = _mm256_add_ps(p, _mm256_mul_ps(offsets, x_sums));
        }
        add_adjacent(p)
    } else {
        let doubled = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
        let x_scales = _mm512_permutexvar_ps(doubled, _mm512_castps256_ps512(x_scales));
        let mut p = _mm512_mul_ps(_mm512_mul_ps(w.scales, x_scales), _mm512_cvtepi32_ps(sums));
        if form.offset {
            let x_sums = _mm512_mul_ps(x_scales, _mm512_cvtepi32_ps(x_sums));
            p = _mm512_add_ps(p, _mm512_mul_ps(w.offsets, x_sums));
        }
        let pairs = _mm512_add_ps(p, _mm512_permute_ps::<0b10_11_00_01>(p));
        add_adjacent(_mm256_castsi256_ps(_mm512_cvtepi64_epi32(_mm512_castps_si512(pairs))))
    }
}

/// Row `r`'s chunk into the tile, as it is.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn place(r: usize, w: &Weights, tile: &mut Tile) {
    for (codes, v) in tile.rows[r].as_chunks_mut::<64>().0.iter_mut().zip(w.codes) {
        // SAFETY: 64 bytes are written.
        unsafe { _mm512_storeu_si512(codes.as_mut_ptr().cast(), v) };
    }
    // SAFETY: sixteen values are written to each.
    unsafe {
        _mm512_storeu_ps(tile.row_scales[r].as_mut_ptr(), w.scales);
        _mm512_storeu_ps(tile.row_offsets[r].as_mut_ptr(), w.offsets);
    }
}

/// Codes as [four codes][row], 4 bytes of each of the sixteen rows beside one another; scales and offsets as [block][row].
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn seal(tile: &mut Tile) {
    for (quarter, units) in tile.codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        // SAFETY: 64 bytes are read.
        let mut v: [__m512i; ROWS] = core::array::from_fn(|r| unsafe {
            _mm512_loadu_si512(tile.rows[r].as_chunks::<64>().0[quarter].as_ptr().cast())
        });
        transpose(&mut v);
        for (unit, v) in units.iter_mut().zip(v) {
            // SAFETY: 64 bytes are written.
            unsafe { _mm512_storeu_si512(unit.as_mut_ptr().cast(), v) };
        }
    }
    for (rows, columns) in [(&tile.row_scales, &mut tile.scales), (&tile.row_offsets, &mut tile.offsets)] {
        // SAFETY: sixteen values are read.
        let mut v: [__m512i; ROWS] = core::array::from_fn(|r| unsafe { _mm512_loadu_si512(rows[r].as_ptr().cast()) });
        transpose(&mut v);
        for (column, v) in columns.iter_mut().zip(v) {
            // SAFETY: sixteen values are written.
            unsafe { _mm512_storeu_si512(column.as_mut_ptr().cast(), v) };
        }
    }
}

/// ((p0 + p1) + (p2 + p3)) + ((p4 + p5) + (p6 + p7)).
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn add_adjacent(p: __m256) -> f32 {
    let pairs = _mm256_add_ps(p, _mm256_permute_ps::<0b10_11_00_01>(p));
    let fours = _mm256_add_ps(pairs, _mm256_permute_ps::<0b01_00_11_10>(pairs));
    _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(fours), _mm256_extractf128_ps::<1>(fours)))
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

/// One chunk of sixteen rows against all activations, four at a time.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn tile_all<const WIDE: bool, const OFFSET: bool>(tile: &Tile, chunk: usize, x: &[RowX<'_>], out: &mut [[f32; ROWS]]) {
    let (x4, x1) = x.as_chunks::<4>();
    let (out4, out1) = out[..x.len()].as_chunks_mut::<4>();
    for (x, out) in x4.iter().zip(out4) {
        if let Some(x) = chunks(x, chunk) {
            tile_step::<4, WIDE, OFFSET>(tile, &x, out);
        }
    }
    for (x, out) in x1.iter().zip(out1) {
        if let Some(x) = chunks(&[*x], chunk) {
            tile_step::<1, WIDE, OFFSET>(tile, &x, core::array::from_mut(out));
        }
    }
}

/// One chunk of sixteen rows, a lane each, against T activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn tile_step<const T: usize, const WIDE: bool, const OFFSET: bool>(
    tile: &Tile,
    x: &[ChunkX<'_>; T],
    out: &mut [[f32; ROWS]; T],
) {
    // Blocks of 32, or pairs of blocks of 16: the leaves of the tree of `crate::arch::integer` either way.
    let mut pending = [[_mm512_setzero_ps(); T]; 3]; // sums of 1, 2 and 4 leaves that wait for their neighbour
    for leaf in 0..8 {
        let mut sum = if WIDE {
            tile_block::<T, 8, OFFSET>(tile, x, leaf)
        } else {
            let (a, b) =
                (tile_block::<T, 4, OFFSET>(tile, x, 2 * leaf), tile_block::<T, 4, OFFSET>(tile, x, 2 * leaf + 1));
            add(&a, &b)
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
        for (out, sum) in out.iter_mut().zip(sum) {
            // SAFETY: sixteen values are read and written.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_add_ps(_mm512_loadu_ps(out.as_ptr()), sum)) };
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn add<const T: usize>(a: &[__m512; T], b: &[__m512; T]) -> [__m512; T] {
    let mut sum = *a;
    for t in 0..T {
        sum[t] = _mm512_add_ps(a[t], b[t]);
    }
    sum
}

/// The scaled products of block `b`, of 4 * UNITS codes: T vectors of sixteen rows.
///
/// Plain loops over indices: adapters of iterators are functions of their own, compiled without these instructions
/// wherever the optimizer does not see through them.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
#[allow(clippy::needless_range_loop)]
fn tile_block<const T: usize, const UNITS: usize, const OFFSET: bool>(
    tile: &Tile,
    x: &[ChunkX<'_>; T],
    b: usize,
) -> [__m512; T] {
    let mut x_sums = [0; T];
    let mut sums = [_mm512_setzero_si512(); T];
    for t in 0..T {
        let of_16 = x[t].sums;
        x_sums[t] =
            if UNITS == 8 { i32::from(of_16[2 * b]) + i32::from(of_16[2 * b + 1]) } else { i32::from(of_16[b]) };
        if !OFFSET {
            sums[t] = _mm512_set1_epi32(-128 * x_sums[t]);
        }
    }
    for unit in b * UNITS..(b + 1) * UNITS {
        // SAFETY: 64 bytes are read.
        let w = unsafe { _mm512_loadu_si512(tile.codes[unit].as_ptr().cast()) };
        for t in 0..T {
            // SAFETY: a unit is below 64, and 64 units of 4 bytes are a chunk.
            let x = unsafe { x[t].codes.as_ptr().cast::<i32>().add(unit).read_unaligned() };
            sums[t] = _mm512_dpbusd_epi32(sums[t], w, _mm512_set1_epi32(x));
        }
    }
    // SAFETY: sixteen values are read from each.
    let (scales, offsets) =
        unsafe { (_mm512_loadu_ps(tile.scales[b].as_ptr()), _mm512_loadu_ps(tile.offsets[b].as_ptr())) };
    let mut products = [_mm512_setzero_ps(); T];
    for t in 0..T {
        let x_scale = x[t].scales[b * UNITS / 8];
        products[t] = _mm512_mul_ps(_mm512_mul_ps(scales, _mm512_set1_ps(x_scale)), _mm512_cvtepi32_ps(sums[t]));
        if OFFSET {
            let offset = _mm512_mul_ps(offsets, _mm512_set1_ps(x_scale * x_sums[t] as f32));
            products[t] = _mm512_add_ps(products[t], offset);
        }
    }
    products
}

/// Chunk `chunk` of each row; `None` past the rows' end, which no caller reaches.
fn chunks<'a, const T: usize>(x: &[RowX<'a>; T], chunk: usize) -> Option<[ChunkX<'a>; T]> {
    let mut chunks = [x.first()?.chunk(chunk)?; T];
    for (chunk_x, x) in chunks.iter_mut().zip(x) {
        *chunk_x = x.chunk(chunk)?;
    }
    Some(chunks)
}
