//! AVX-512 with VNNI.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes: signed weights go in as code + 128 (the sign bit flipped), and 128
//! times the sum of the activations comes off again.
#![allow(clippy::needless_range_loop, reason = "see `each`")]

/// `[value of 0, value of 1, ...]` by a plain loop: closures that adapters like `map` and `from_fn` call, and iterators
/// over vectors, are compiled apart from this module's instructions wherever the optimizer does not see through them
/// (a host with its own profile has no link-time optimization), and then each vector passes through memory.
macro_rules! each {
    ($i:ident in $zeros:expr => $value:expr) => {{
        let mut all = $zeros;
        for $i in 0..all.len() {
            all[$i] = $value;
        }
        all
    }};
}

mod tile;
mod weights;

use super::bytes::block_units;
use crate::arch::disjoint::Columns;
use crate::arch::integer::{self, CHUNK, ChunkX, Form, Isa, Outputs, Placed, Row, RowX, SIDE_BY_SIDE, Tile, Work};
use crate::arch::level::Level;
use crate::dtype::DType;
use crate::quant;
use core::arch::x86_64::*;
use core::marker::PhantomData;
use weights::{Beside, Weights, by_lane, halves, load512};

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
        ($($dtype:ident: $load:path $(as $beside:path)?),+ $(,)?) => {
            match work.weights.dtype() {
                $(DType::$dtype => {
                    #[derive(Clone, Copy)]
                    struct Known;
                    impl Format for Known {
                        const DTYPE: DType = DType::$dtype;
                        type Chunk = [[u8; DType::$dtype.block().1]; CHUNK / DType::$dtype.block().0];

                        #[inline(always)]
                        fn chunks(row: &[u8]) -> &[Self::Chunk] {
                            row.as_chunks().0.as_chunks().0
                        }

                        #[inline(always)]
                        unsafe fn load(chunk: &Self::Chunk) -> Weights {
                            // SAFETY: AVX-512 is there: this function's contract.
                            unsafe { $load(chunk) }
                        }

                        $(
                            #[inline(always)]
                            unsafe fn beside(chunks: [&Self::Chunk; SIDE_BY_SIDE], _: Beside) -> Beside {
                                // SAFETY: AVX-512 is there: this function's contract.
                                unsafe { $beside(chunks) }
                            }
                        )?
                    }
                    run(level, Known, work, columns)
                })+
                // Its scales lie elsewhere.
                DType::FP4_E2M1 => {
                    #[derive(Clone, Copy)]
                    struct Unpacked;
                    impl Format for Unpacked {
                        const DTYPE: DType = DType::FP4_E2M1;
                        type Chunk = [u8; 0];

                        fn chunks(_: &[u8]) -> &[Self::Chunk] {
                            &[]
                        }

                        unsafe fn load(_: &Self::Chunk) -> Weights {
                            Weights::ZERO
                        }
                    }
                    run(level, Unpacked, work, columns)
                }
                // They have no integer form, and do not come here.
                DType::F32 | DType::F16 | DType::BF16 | DType::I32 | DType::F8_E4M3 => {}
            }
        };
    }
    by_type!(
        Q4_0: weights::of_32::q4_0,
        Q4_1: weights::of_32::q4_1,
        Q5_0: weights::of_32::q5_0,
        Q5_1: weights::of_32::q5_1,
        Q8_0: weights::of_32::q8_0,
        Q2_K: weights::k::q2_k,
        Q3_K: weights::k::q3_k,
        Q4_K: weights::k::q4_k as weights::k::beside,
        Q5_K: weights::k::q5_k as weights::k::beside,
        Q6_K: weights::k::q6_k,
        IQ1_S: weights::iq::iq1_s,
        IQ1_M: weights::iq::iq1_m,
        IQ2_XXS: weights::iq::iq2_xxs,
        IQ2_XS: weights::iq::iq2_xs,
        IQ2_S: weights::iq::iq2_s,
        IQ3_XXS: weights::iq::iq3_xxs,
        IQ3_S: weights::iq::iq3_s,
        IQ4_NL: weights::of_32::iq4_nl,
        IQ4_XS: weights::iq::iq4_xs,
        MXFP4: weights::of_32::mxfp4,
    );
}

/// A type of weights.
trait Format: Copy {
    const DTYPE: DType;
    const FORM: Form = Form::of(Self::DTYPE);
    const WIDE: bool = quant::sub_block(Self::DTYPE) == 32;
    /// The bytes of 256 weights.
    type Chunk;

    /// A row's whole chunks, as far as they can be loaded where they lie.
    fn chunks(row: &[u8]) -> &[Self::Chunk];

    /// # Safety
    /// Only inside [`vectorize`].
    unsafe fn load(chunk: &Self::Chunk) -> Weights;

    /// The scales and offsets of four rows' chunks: `loaded` as [`Format::load`] gave them, which is not worked out
    /// where a type has a better way for four.
    ///
    /// # Safety
    /// Only inside [`vectorize`].
    #[inline(always)]
    unsafe fn beside(_chunks: [&Self::Chunk; SIDE_BY_SIDE], loaded: Beside) -> Beside {
        // SAFETY: AVX-512 is there: this function's contract.
        unsafe { loaded.ordered(Self::WIDE) }
    }
}

/// Chunks of activations that are prepared before all rows of a block rather than before each four of them.
const PREPARED: usize = 32;

/// [`integer::block`] of a known type.
fn run<F: Format>(level: Level, _: F, work: &Work<'_>, columns: &mut Columns<'_>) {
    level.vectorize(
        #[inline(always)]
        || {
            let mut prepared = [Prepared::ZERO; PREPARED];
            let count = work.x.len();
            if count <= 2 {
                for (i, prepared) in prepared.iter_mut().enumerate() {
                    if let Some(x) = work.x.get(i % count.max(1)).and_then(|x| x.chunk(i / count.max(1))) {
                        // SAFETY: AVX-512 is there: `level` says so.
                        *prepared = unsafe { Prepared::new::<F>(x) };
                    }
                }
            }
            let isa = Avx512::<F> { prepared: &prepared, format: PhantomData };
            integer::block(isa, work, columns);
        },
    );
}

/// Only to be used inside [`vectorize`].
struct Avx512<'p, F> {
    /// [chunk][activation], of few activations.
    prepared: &'p [Prepared; PREPARED],
    format: PhantomData<F>,
}

impl<F> Clone for Avx512<'_, F> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Avx512<'_, F> {}

impl<F: Format> Isa for Avx512<'_, F> {
    #[inline(always)]
    fn side_by_side<const T: usize>(
        self,
        _: Form,
        rows: &[Row<'_>; SIDE_BY_SIDE],
        cols: usize,
        x: &[RowX<'_>; T],
    ) -> [[f32; SIDE_BY_SIDE]; T] {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe { side_by_side::<F, T>(rows, cols, x, self.prepared) }
    }

    #[inline(always)]
    fn place(self, r: usize, row: Row<'_>, (start, len): (usize, usize), placed: &mut Placed) {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe {
            match F::chunks(row.data).get(start / CHUNK) {
                Some(chunk) => {
                    // Sixteen rows at a time are more streams than the hardware follows.
                    let next = core::ptr::from_ref(chunk).wrapping_add(2).cast::<i8>();
                    for line in 0..size_of::<F::Chunk>().div_ceil(64) {
                        _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(64 * line));
                    }
                    tile::place::<F>(r, &F::load(chunk), placed);
                }
                None => tile::place::<F>(r, &weights::generic(row, start, len), placed),
            }
        }
    }

    #[inline(always)]
    fn seal(self, placed: &Placed, tile: &mut Tile) {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe { tile::seal::<F>(placed, tile) }
    }

    #[inline(always)]
    fn tiles(self, _: Form, tiles: &[Tile], chunk: usize, x: &[RowX<'_>], out: &mut [Outputs]) {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe {
            match (tiles, &mut *out) {
                // Blocks' sums on their way up the tree leave no registers for a second tile.
                ([a, b], [out_a, out_b]) if F::FORM.units => tile::all::<F, 2>([a, b], chunk, x, [out_a, out_b]),
                _ => {
                    for (tile, out) in tiles.iter().zip(out) {
                        tile::all::<F, 1>([tile], chunk, x, [out]);
                    }
                }
            }
        }
    }
}

/// Blocks of sixteen: the sums of products of a row's codes with an activation's, in lane l, element i, that of block
/// 4 i + l.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn sums_of_16(codes: &[__m512i; 4], x: &[__m512i; 4]) -> __m512i {
    let p = each!(i in [_mm512_setzero_si512(); 4] => _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes[i], x[i]));
    add_pairs_64(add_pairs_32(p[0], p[1]), add_pairs_32(p[2], p[3]))
}

/// Blocks of 32: four sums of products, to be added, of each block: of block 2 l in lane l of the first vector, of block
/// 2 l + 1 in that of the second.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn quarter_sums(codes: &[__m512i; 4], x: &[__m512i; 4]) -> [__m512i; 2] {
    let zero = _mm512_setzero_si512();
    [
        _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, codes[0], x[0]), codes[1], x[1]),
        _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, codes[2], x[2]), codes[3], x[3]),
    ]
}

/// In each lane a0 + a2, b0 + b2, a1 + a3, b1 + b3.
#[target_feature(enable = "avx512f")]
#[inline]
fn add_pairs_32(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b))
}

/// In each lane a0 + a2, a1 + a3, b0 + b2, b1 + b3.
#[target_feature(enable = "avx512f")]
#[inline]
fn add_pairs_64(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
}

/// A chunk of one activation, in the order in which the weights meet it.
#[derive(Clone, Copy)]
struct Prepared {
    codes: [__m512i; 4],
    /// f32; with units their multiples, i32.
    scales: __m512i,
    /// 128 times the sums of the codes, for types whose codes were raised.
    raised: __m512i,
    /// The sums times the scales or multiples, for types with offsets.
    sums: __m512i,
    unit: f32,
}

impl Prepared {
    const ZERO: Self = {
        // SAFETY: vectors of zeros are values, whatever the instructions.
        unsafe { core::mem::zeroed() }
    };

    #[target_feature(enable = "avx2,avx512f,avx512bw")]
    #[inline]
    fn new<F: Format>(x: ChunkX<'_>) -> Self {
        let codes = x.codes.as_chunks::<64>().0;
        let codes = each!(i in [_mm512_setzero_si512(); 4] => load512(&codes[i]));
        // SAFETY: each read is of an array exactly as long.
        let (sums, scales) = unsafe {
            let scales = if F::FORM.units {
                // Each twice: one.
                let twice = _mm256_loadu_si256(x.of.multiples.as_ptr().cast());
                _mm256_and_si256(twice, _mm256_set1_epi32(0xffff))
            } else {
                _mm256_loadu_si256(x.of.scales.as_ptr().cast())
            };
            (_mm256_loadu_si256(x.of.sums.as_ptr().cast()), _mm512_castsi256_si512(scales))
        };
        let (codes, scales, sums) = if F::WIDE {
            let twice = _mm512_setr_epi32(0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7);
            let of_32 = _mm512_castsi256_si512(_mm256_madd_epi16(sums, _mm256_set1_epi16(1)));
            (halves(codes), _mm512_permutexvar_epi32(twice, scales), _mm512_permutexvar_epi32(twice, of_32))
        } else {
            let of_32 = _mm512_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6, 1, 3, 5, 7, 1, 3, 5, 7);
            let sums = _mm512_permutexvar_epi32(by_lane(), _mm512_cvtepi16_epi32(sums));
            (codes, _mm512_permutexvar_epi32(of_32, scales), sums)
        };
        let raised = _mm512_slli_epi32::<7>(sums);
        let sums = if F::FORM.units {
            _mm512_mullo_epi32(scales, sums)
        } else {
            _mm512_castps_si512(_mm512_mul_ps(_mm512_castsi512_ps(scales), _mm512_cvtepi32_ps(sums)))
        };
        Self { codes, scales, raised, sums, unit: x.of.unit }
    }
}

/// `(scale * x_scale) * sum [ + offset * (x_scale * x_sum) ]`; with units `(scale * multiple) * sum` in integers.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn scaled(form: Form, scales: __m512i, offsets: __m512i, sums: __m512i, x: &Prepared) -> __m512i {
    let sums = if form.offset { sums } else { _mm512_sub_epi32(sums, x.raised) };
    if form.units {
        // Multiples are 16 bits and not negative, so the upper halves add nothing.
        return _mm512_mullo_epi32(_mm512_madd_epi16(scales, x.scales), sums);
    }
    let scales = _mm512_mul_ps(_mm512_castsi512_ps(scales), _mm512_castsi512_ps(x.scales));
    let products = _mm512_mul_ps(scales, _mm512_cvtepi32_ps(sums));
    if form.offset {
        let offsets = _mm512_mul_ps(_mm512_castsi512_ps(offsets), _mm512_castsi512_ps(x.sums));
        return _mm512_castps_si512(_mm512_add_ps(products, offsets));
    }
    _mm512_castps_si512(products)
}

/// f32, or with units i32.
#[target_feature(enable = "avx512f")]
#[inline]
fn add(form: Form, a: __m512i, b: __m512i) -> __m512i {
    if form.units {
        _mm512_add_epi32(a, b)
    } else {
        _mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b)))
    }
}

/// The leaves of each of four rows added up as a tree, from where [`Beside::ordered`] has them.
#[target_feature(enable = "avx512f")]
#[inline]
fn add_up<F: Format>([a, b, c, d]: [__m512i; 4]) -> __m128i {
    // In lane l of each row, a row an element: leaves 2 l and 2 l + 1 of the tree, added.
    let pairs = if F::WIDE {
        let (ab, cd) = (_mm512_castsi512_ps(a), _mm512_castsi512_ps(b));
        let (even, odd) = (_mm512_shuffle_ps::<0b10_00_10_00>(ab, cd), _mm512_shuffle_ps::<0b11_01_11_01>(ab, cd));
        add(F::FORM, _mm512_castps_si512(even), _mm512_castps_si512(odd))
    } else {
        // Leaves 2 i in the even lanes, 2 i + 1 in the odd ones: of the first row, then of the second.
        let leaves = |a, b| {
            let (even, odd) =
                (_mm512_shuffle_i32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b));
            add(F::FORM, even, odd)
        };
        // A lane a row, an element a pair: turned round.
        _mm512_permutexvar_epi32(by_lane(), leaves(leaves(a, b), leaves(c, d)))
    };
    let fours = add(F::FORM, pairs, _mm512_shuffle_i32x4::<0b10_11_00_01>(pairs, pairs));
    _mm512_castsi512_si128(add(F::FORM, fours, _mm512_shuffle_i32x4::<0b01_00_11_10>(fours, fours)))
}

/// Bytes by which weights are asked for ahead of their use, about: what the memory's latency and rate make.
const AHEAD: usize = 16 << 10;

/// Four rows of `cols` columns against T activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn side_by_side<F: Format, const T: usize>(
    rows: &[Row<'_>; SIDE_BY_SIDE],
    cols: usize,
    x: &[RowX<'_>; T],
    prepared: &[Prepared; PREPARED],
) -> [[f32; SIDE_BY_SIDE]; T] {
    let prepared = prepared.as_chunks::<T>().0;
    let mut sums = [_mm_setzero_ps(); T];
    let of_row = each!(r in [&[][..]; SIDE_BY_SIDE] => F::chunks(rows[r].data));
    let [a, b, c, d] = of_row;
    let whole = (cols / CHUNK).min(a.len()).min(b.len()).min(c.len()).min(d.len());
    // Bytes from four rows to those to be asked for: whole steps, and far enough to arrive in time.
    let step_bytes = (SIDE_BY_SIDE * rows[0].data.len()).max(1);
    let ahead = step_bytes * (AHEAD / step_bytes).max(1);
    for chunk in 0..whole {
        let mut fresh = [Prepared::ZERO; T];
        let x = match prepared.get(chunk) {
            Some(x) => x,
            None => {
                prepare::<F, T>(x, chunk, &mut fresh);
                &fresh
            }
        };
        let w = [&a[chunk], &b[chunk], &c[chunk], &d[chunk]];
        four_rows::<F, T>(
            // SAFETY: AVX-512 is there, as for this function.
            #[inline(always)]
            |r| unsafe { F::load(w[r]) },
            // SAFETY: as above.
            #[inline(always)]
            |loaded| unsafe { F::beside(w, loaded) },
            x,
            &mut sums,
        );
        // The same columns of four rows to come, for the second-level cache: the hardware's own prefetchers stop at the
        // end of a page, and start anew with every row.
        for w in w {
            let next = core::ptr::from_ref(w).cast::<i8>().wrapping_add(ahead);
            for line in 0..size_of::<F::Chunk>().div_ceil(64) {
                _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(64 * line));
            }
        }
    }
    for chunk in whole..cols.div_ceil(CHUNK) {
        let mut fresh = [Prepared::ZERO; T];
        prepare::<F, T>(x, chunk, &mut fresh);
        let start = chunk * CHUNK;
        let load = |r: usize| weights::generic(rows[r], start, CHUNK.min(cols - start));
        four_rows::<F, T>(load, |loaded| loaded.ordered(F::WIDE), &fresh, &mut sums);
    }
    let mut out = [[0.0; SIDE_BY_SIDE]; T];
    for t in 0..T {
        // SAFETY: four values are written.
        unsafe { _mm_storeu_ps(out[t].as_mut_ptr(), sums[t]) };
    }
    out
}

/// Chunk `chunk` of each activation.
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn prepare<F: Format, const T: usize>(x: &[RowX<'_>; T], chunk: usize, prepared: &mut [Prepared; T]) {
    for t in 0..T {
        if let Some(x) = x[t].chunk(chunk) {
            prepared[t] = Prepared::new::<F>(x);
        }
    }
}

/// One chunk of four rows against T activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn four_rows<F: Format, const T: usize>(
    load: impl Fn(usize) -> Weights,
    beside: impl Fn(Beside) -> Beside,
    x: &[Prepared; T],
    out: &mut [__m128; T],
) {
    let (form, zero) = (F::FORM, _mm512_setzero_si512());
    // By activation and row: the sums' vector, or both.
    let mut sums = [[[zero; 2]; SIDE_BY_SIDE]; T];
    let mut w = Beside::ZERO;
    let mut units = [[0; SIDE_BY_SIDE]; 2];
    for r in 0..SIDE_BY_SIDE {
        let loaded = load(r);
        (w.scales[r], w.offsets[r]) = (loaded.scales, loaded.offsets);
        (units[0][r], units[1][r]) = (loaded.units[0], loaded.units[1]);
        let codes = &loaded.codes;
        for t in 0..T {
            sums[t][r] =
                if F::WIDE { quarter_sums(codes, &x[t].codes) } else { [sums_of_16(codes, &x[t].codes), zero] };
        }
    }
    let w = beside(w);
    let n = if F::WIDE { 2 } else { 4 };
    for t in 0..T {
        let x = &x[t];
        let mut leaves = [zero; 4];
        for i in 0..n {
            let sums = if F::WIDE {
                let ([a, b], [c, d]) = (sums[t][2 * i], sums[t][2 * i + 1]);
                add_pairs_64(add_pairs_32(a, b), add_pairs_32(c, d))
            } else {
                sums[t][i][0]
            };
            leaves[i] = scaled(form, w.scales[i], w.offsets[i], sums, x);
        }
        let all = add_up::<F>(leaves);
        if !form.units {
            out[t] = _mm_add_ps(out[t], _mm_castsi128_ps(all));
            continue;
        }
        let x_unit = _mm_set1_ps(x.unit);
        let mut chunk = _mm_mul_ps(_mm_mul_ps(block_units(F::DTYPE, units[0]), x_unit), _mm_cvtepi32_ps(all));
        if form.offset {
            let mut leaves = [zero; 4];
            for i in 0..n {
                leaves[i] = _mm512_mullo_epi32(w.offsets[i], x.sums);
            }
            // units[1] is -dmin.
            let unit = _mm_mul_ps(block_units(F::DTYPE, units[1]), x_unit);
            chunk = _mm_sub_ps(chunk, _mm_mul_ps(unit, _mm_cvtepi32_ps(add_up::<F>(leaves))));
        }
        out[t] = _mm_add_ps(out[t], chunk);
    }
}
