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

mod weights;

use super::bytes::block_units;
use crate::arch::disjoint::Columns;
use crate::arch::integer::{self, CHUNK, ChunkX, Form, Isa, ROWS, Row, RowX, SIDE_BY_SIDE, Tile, Work, chunks};
use crate::arch::level::Level;
use crate::dtype::DType;
use crate::quant;
use core::arch::x86_64::*;
use core::marker::PhantomData;
use core::ops::Range;
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
    fn place(self, r: usize, row: Row<'_>, (start, len): (usize, usize), tile: &mut Tile) {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe {
            match F::chunks(row.data).get(start / CHUNK) {
                Some(chunk) => {
                    // Sixteen rows at a time are more streams than the hardware follows.
                    let next = core::ptr::from_ref(chunk).wrapping_add(2).cast::<i8>();
                    for line in 0..size_of::<F::Chunk>().div_ceil(64) {
                        _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(64 * line));
                    }
                    place::<F>(r, &F::load(chunk), tile);
                }
                None => place::<F>(r, &weights::generic(row, start, len), tile),
            }
        }
    }

    #[inline(always)]
    fn seal(self, tile: &mut Tile) {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe { seal(tile) }
    }

    #[inline(always)]
    fn tile(self, _: Form, tile: &Tile, chunk: usize, x: &[RowX<'_>], out: &mut [[f32; ROWS]]) {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe { tile_all::<F, 4>(tile, chunk, x, out) }
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
        step::<F, T>(
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
        step::<F, T>(load, |loaded| loaded.ordered(F::WIDE), &fresh, &mut sums);
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
fn step<F: Format, const T: usize>(
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

/// What the sums of each 16 activations are to be multiplied by, i16: the offsets, or for raised codes the scales.
#[target_feature(enable = "avx512f")]
#[inline]
fn pairs<F: Format>(w: &Weights) -> __m512i {
    let of_blocks = if F::FORM.offset { w.offsets } else { w.scales };
    if F::WIDE {
        // Both halves of a block have its own.
        let low = _mm512_and_si512(of_blocks, _mm512_set1_epi32(0xffff));
        _mm512_or_si512(low, _mm512_slli_epi32::<16>(of_blocks))
    } else {
        _mm512_castsi256_si512(_mm512_cvtepi32_epi16(of_blocks))
    }
}

/// Row `r`'s chunk into the tile, as it is.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn place<F: Format>(r: usize, w: &Weights, tile: &mut Tile) {
    let codes = tile.rows[r].as_chunks_mut::<64>().0;
    for i in 0..4 {
        // SAFETY: 64 bytes are written.
        unsafe { _mm512_storeu_si512(codes[i].as_mut_ptr().cast(), w.codes[i]) };
    }
    // SAFETY: sixteen values are written to each.
    unsafe {
        _mm512_storeu_si512(tile.row_scales[r].as_mut_ptr().cast(), w.scales);
        _mm512_storeu_si512(
            tile.row_offsets[r].as_mut_ptr().cast(),
            if F::FORM.units { pairs::<F>(w) } else { w.offsets },
        );
    }
    if F::FORM.units {
        for i in 0..2 {
            tile.units[i][r] = _mm_cvtss_f32(block_units(F::DTYPE, [w.units[i], 0, 0, 0]));
        }
    }
}

/// Codes as [four codes][row], 4 bytes of each of the sixteen rows beside one another; scales and offsets as [block][row].
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn seal(tile: &mut Tile) {
    for (quarter, units) in tile.codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        // SAFETY: 64 bytes are read.
        let mut v: [__m512i; ROWS] = each!(r in [_mm512_setzero_si512(); ROWS] => unsafe {
            _mm512_loadu_si512(tile.rows[r].as_chunks::<64>().0[quarter].as_ptr().cast())
        });
        transpose(&mut v);
        for r in 0..ROWS {
            // SAFETY: 64 bytes are written.
            unsafe { _mm512_storeu_si512(units[r].as_mut_ptr().cast(), v[r]) };
        }
    }
    for (rows, columns) in [(&tile.row_scales, &mut tile.scales), (&tile.row_offsets, &mut tile.offsets)] {
        let mut v: [__m512i; ROWS] = each!(r in [_mm512_setzero_si512(); ROWS] => {
            // SAFETY: sixteen values are read.
            unsafe { _mm512_loadu_si512(rows[r].as_ptr().cast()) }
        });
        transpose(&mut v);
        for r in 0..ROWS {
            // SAFETY: sixteen values are written.
            unsafe { _mm512_storeu_si512(columns[r].as_mut_ptr().cast(), v[r]) };
        }
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

/// One chunk of sixteen rows against all activations, T at a time.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn tile_all<F: Format, const T: usize>(tile: &Tile, chunk: usize, x: &[RowX<'_>], out: &mut [[f32; ROWS]]) {
    let (many, x1) = x.as_chunks::<T>();
    let (out_many, out1) = out[..x.len()].as_chunks_mut::<T>();
    for (x, out) in many.iter().zip(out_many) {
        if let Some(x) = chunks(x, chunk) {
            tile_step::<F, T>(tile, &x, out);
        }
    }
    for (x, out) in x1.iter().zip(out1) {
        if let Some(x) = chunks(&[*x], chunk) {
            tile_step::<F, 1>(tile, &x, core::array::from_mut(out));
        }
    }
}

/// One chunk of sixteen rows, an element each, against T activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn tile_step<F: Format, const T: usize>(tile: &Tile, x: &[ChunkX<'_>; T], out: &mut [[f32; ROWS]; T]) {
    let products = if F::FORM.units { tile_of_units::<F, T>(tile, x) } else { tile_of_blocks::<F, T>(tile, x) };
    for t in 0..T {
        let out = &mut out[t];
        // SAFETY: sixteen values are read and written.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_add_ps(_mm512_loadu_ps(out.as_ptr()), products[t])) };
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn add_all<const T: usize>(a: &[__m512; T], b: &[__m512; T]) -> [__m512; T] {
    let mut sum = *a;
    for t in 0..T {
        sum[t] = _mm512_add_ps(a[t], b[t]);
    }
    sum
}

/// Where four codes of a row lie in the tile: blocks of 32 are in the order of `halves`.
const fn placed(wide: bool, four: usize) -> usize {
    let (block, half, i) = (four / 8, four / 4 % 2, four % 4);
    if wide { (block % 2 * 2 + half) * 16 + block / 2 * 4 + i } else { four }
}

/// `sums` plus the products of `fours`: T vectors of sixteen rows.
///
/// Plain loops over indices, as in `each`.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_products<F: Format, const T: usize>(
    mut sums: [__m512i; T],
    tile: &Tile,
    x: &[ChunkX<'_>; T],
    fours: Range<usize>,
) -> [__m512i; T] {
    for four in fours {
        // SAFETY: 64 bytes are read.
        let w = unsafe { _mm512_loadu_si512(tile.codes[placed(F::WIDE, four)].as_ptr().cast()) };
        for t in 0..T {
            // SAFETY: a four is below 64, and 64 times 4 bytes are a chunk.
            let x = unsafe { x[t].codes.as_ptr().cast::<i32>().add(four).read_unaligned() };
            sums[t] = _mm512_dpbusd_epi32(sums[t], w, _mm512_set1_epi32(x));
        }
    }
    sums
}

/// `sum` plus the products of pairs of i16 in every element with the two of block `b`'s halves.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn add_of_halves(sum: __m512i, pairs: __m512i, of_16: &[i16; 16], b: usize) -> __m512i {
    let [low, high] = of_16.as_chunks().0[b];
    _mm512_dpwssd_epi32(sum, pairs, _mm512_set1_epi32(i32::from(low) & 0xffff | i32::from(high) << 16))
}

/// The products with a chunk without units: of each block of 32 a leaf of the tree of [`integer`].
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn tile_of_blocks<F: Format, const T: usize>(tile: &Tile, x: &[ChunkX<'_>; T]) -> [__m512; T] {
    let mut sum = [_mm512_setzero_ps(); T];
    let mut pending = [sum; 3]; // sums of 1, 2 and 4 leaves that wait for their neighbour
    for leaf in 0..8 {
        let mut sums = [_mm512_setzero_si512(); T];
        if !F::FORM.offset {
            for t in 0..T {
                sums[t] = add_of_halves(sums[t], _mm512_set1_epi16(-128), &x[t].of.sums, leaf);
            }
        }
        let sums = add_products::<F, T>(sums, tile, x, 8 * leaf..8 * leaf + 8);
        // SAFETY: sixteen values are read from each.
        let (scales, offsets) = unsafe {
            (_mm512_loadu_ps(tile.scales[leaf].as_ptr().cast()), _mm512_loadu_ps(tile.offsets[leaf].as_ptr().cast()))
        };
        for t in 0..T {
            let x_scale = x[t].of.scales[leaf];
            sum[t] = _mm512_mul_ps(_mm512_mul_ps(scales, _mm512_set1_ps(x_scale)), _mm512_cvtepi32_ps(sums[t]));
            if F::FORM.offset {
                let [a, b] = x[t].of.sums.as_chunks().0[leaf];
                let x_sum = (i32::from(a) + i32::from(b)) as f32;
                sum[t] = _mm512_add_ps(sum[t], _mm512_mul_ps(offsets, _mm512_set1_ps(x_scale * x_sum)));
            }
        }
        let mut level = 0;
        while level < 3 && leaf >> level & 1 == 1 {
            sum = add_all(&pending[level], &sum);
            level += 1;
        }
        if level < 3 {
            pending[level] = sum;
        }
    }
    sum
}

/// The products with a chunk with units.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn tile_of_units<F: Format, const T: usize>(tile: &Tile, x: &[ChunkX<'_>; T]) -> [__m512; T] {
    let mut sums = [_mm512_setzero_si512(); T];
    let mut pair_sums = sums;
    // Blocks in 32 codes.
    let n = if F::WIDE { 1 } else { 2 };
    for b in 0..8 {
        for b in n * b..n * b + n {
            let fours = 8 / n * b..8 / n * (b + 1);
            let products = add_products::<F, T>([_mm512_setzero_si512(); T], tile, x, fours);
            // SAFETY: sixteen values are read.
            let scales = unsafe { _mm512_loadu_si512(tile.scales[b].as_ptr().cast()) };
            for t in 0..T {
                // As in `scaled`.
                let multiple = i32::from(x[t].of.multiples[2 / n * b]);
                let scale = _mm512_madd_epi16(scales, _mm512_set1_epi32(multiple));
                sums[t] = _mm512_add_epi32(sums[t], _mm512_mullo_epi32(products[t], scale));
            }
        }
        // SAFETY: sixteen values are read.
        let pairs = unsafe { _mm512_loadu_si512(tile.offsets[b].as_ptr().cast()) };
        for t in 0..T {
            pair_sums[t] = add_of_halves(pair_sums[t], pairs, &x[t].of.multiple_sums, b);
        }
    }
    let mut products = [_mm512_setzero_ps(); T];
    // SAFETY: sixteen values are read from each.
    let (unit, offset_unit) =
        unsafe { (_mm512_loadu_ps(tile.units[0].as_ptr()), _mm512_loadu_ps(tile.units[1].as_ptr())) };
    for t in 0..T {
        let x_unit = _mm512_set1_ps(x[t].of.unit);
        if !F::FORM.offset {
            // The sums before and after may pass i32 and come back.
            sums[t] = _mm512_sub_epi32(sums[t], _mm512_slli_epi32::<7>(pair_sums[t]));
        }
        products[t] = _mm512_mul_ps(_mm512_mul_ps(unit, x_unit), _mm512_cvtepi32_ps(sums[t]));
        if F::FORM.offset {
            // units[1] is -dmin.
            let offset = _mm512_mul_ps(_mm512_mul_ps(offset_unit, x_unit), _mm512_cvtepi32_ps(pair_sums[t]));
            products[t] = _mm512_sub_ps(products[t], offset);
        }
    }
    products
}
