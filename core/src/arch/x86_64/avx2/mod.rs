//! AVX2.
//!
//! `vpmaddubsw` multiplies unsigned by signed bytes and adds neighbours in 16 bits. Weights go in as unsigned codes of at most
//! seven bits where their type allows it, raised by [`raise`], which comes off again; the fewer bits they have, the longer
//! their sums stay in 16 bits. Types of eight bits ([`Format::TOP`] above 127) keep their signs; of types whose signs lie apart
//! ([`Format::APART`]) few activations take them on, and only tiles have them raised.
#![allow(clippy::needless_range_loop, reason = "plain loops: closures may be compiled without these instructions")]

mod float;
mod halves;
mod short;
mod tile;
mod weights;

use super::bytes::{load256, unit_factor};
use crate::arch::disjoint::Columns;
use crate::arch::integer::{
    self, Ahead, CHUNK, ChunkX, Form, Isa, Outputs, Placed, Row, RowX, SIDE_BY_SIDE, Tile, Work, chunks, raise,
};
use crate::arch::level::Level;
use crate::dtype::DType;
use crate::quant;
use core::arch::x86_64::*;
use core::marker::PhantomData;
pub(in crate::arch) use float::F32x16;
use short::{Pending, Words};
use weights::{Scales, Weights, in_both_lanes, where_set};

/// Runs `work` compiled for AVX2.
///
/// # Safety
/// The processor must have AVX2, BMI1, BMI2 and F16C.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
pub(crate) unsafe fn vectorize<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// [`integer::block`], compiled once for each type: with the type known, no weight goes through memory.
pub(crate) fn block(level: Level, work: &Work<'_>, columns: &mut Columns<'_>) {
    macro_rules! by_type {
        ($(
            $dtype:ident up to $top:literal: $codes:path, $scales:path
            $(where words = $words:path)? $(where halves = $halves:path)?
        ),+ $(,)?) => {
            match work.weights.dtype() {
                $(DType::$dtype => {
                    #[derive(Clone, Copy)]
                    struct Known;
                    impl Format for Known {
                        const DTYPE: DType = DType::$dtype;
                        const TOP: i32 = $top;
                        type Chunk = [[u8; DType::$dtype.block().1]; CHUNK / DType::$dtype.block().0];

                        #[inline(always)]
                        fn chunks(row: &[u8]) -> &[Self::Chunk] {
                            row.as_chunks().0.as_chunks().0
                        }

                        #[inline(always)]
                        unsafe fn codes(chunk: &Self::Chunk, i: usize) -> __m256i {
                            // SAFETY: AVX2 is there: this function's contract.
                            unsafe { $codes(chunk, i) }
                        }

                        #[inline(always)]
                        unsafe fn scales(chunk: &Self::Chunk) -> Scales {
                            // SAFETY: AVX2 is there: this function's contract.
                            unsafe { $scales(chunk) }
                        }

                        $(
                            #[inline(always)]
                            unsafe fn words(chunks: [&Self::Chunk; SIDE_BY_SIDE]) -> Words {
                                // SAFETY: AVX2 is there: this function's contract.
                                unsafe { $words(chunks) }
                            }
                        )?

                        $(
                            const HALVES: bool = true;

                            #[inline(always)]
                            unsafe fn halves(chunk: &Self::Chunk, i: usize) -> [__m256i; 2] {
                                // SAFETY: AVX2 is there: this function's contract.
                                unsafe { $halves(chunk, i) }
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
                        const TOP: i32 = 24;
                        type Chunk = [u8; 0];

                        fn chunks(_: &[u8]) -> &[Self::Chunk] {
                            &[]
                        }

                        unsafe fn codes(_: &Self::Chunk, _: usize) -> __m256i {
                            Scales::ZERO.scales
                        }

                        unsafe fn scales(_: &Self::Chunk) -> Scales {
                            Scales::ZERO
                        }
                    }
                    run(level, Unpacked, work, columns)
                }
                // They have no integer form, and do not come here.
                DType::F32 | DType::F16 | DType::BF16 | DType::I32 | DType::F8_E4M3 => {}
            }
        };
    }
    use weights::{iq, k, of_32};
    by_type!(
        Q4_0 up to 15: of_32::q4_0, of_32::scales where halves = of_32::q4_0_halves,
        Q4_1 up to 15: of_32::q4_1, of_32::scales_offsets where halves = of_32::q4_1_halves,
        Q5_0 up to 31: of_32::q5_0, of_32::scales,
        Q5_1 up to 31: of_32::q5_1, of_32::scales_offsets,
        Q8_0 up to 255: of_32::q8_0, of_32::scales,
        Q2_K up to 3: k::q2_k, k::q2_k_scales,
        Q3_K up to 7: k::q3_k, k::q3_k_scales,
        Q4_K up to 15: k::q4_k, k::scales_offsets where words = k::words,
        Q5_K up to 31: k::q5_k, k::scales_offsets where words = k::words,
        Q6_K up to 63: k::q6_k, k::q6_k_scales,
        IQ1_S up to 18: iq::iq1_s, iq::iq1_s_scales,
        IQ1_M up to 18: iq::iq1_m, iq::iq1_m_scales,
        IQ2_XXS up to 86: iq::iq2_xxs, iq::iq2_xxs_scales,
        IQ2_XS up to 86: iq::iq2_xs, iq::iq2_xs_scales,
        IQ2_S up to 86: iq::iq2_s, iq::iq2_s_scales,
        IQ3_XXS up to 124: iq::iq3_xxs, iq::iq3_xxs_scales,
        IQ3_S up to 30: iq::iq3_s, iq::iq3_s_scales,
        IQ4_NL up to 255: of_32::iq4_nl, of_32::scales,
        IQ4_XS up to 255: iq::iq4_xs, iq::iq4_xs_scales,
        MXFP4 up to 24: of_32::mxfp4, of_32::mxfp4_scales where halves = of_32::mxfp4_halves,
    );
}

/// A type of weights.
trait Format: Copy {
    const DTYPE: DType;
    /// The largest raised code; above 127 codes are signed and not raised.
    const TOP: i32;
    const WIDE: bool = quant::sub_block(Self::DTYPE) == 32;
    const OFFSET: bool = quant::has_offset(Self::DTYPE);
    const SIGNED: bool = Self::TOP > 127;
    const RAISE: i16 = raise(Self::DTYPE) as i16;
    const UNITS: bool = quant::has_units(Self::DTYPE);
    /// Whether signs lie apart from the codes. Few activations take them on, in the codes' stead.
    const APART: bool =
        matches!(Self::DTYPE, DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S | DType::IQ3_XXS | DType::IQ3_S);
    /// Whether sums of eight products fit sixteen bits, with blocks of 32 whose scales and offsets are integers: Q4_K, Q5_K.
    const SHORT: bool = Self::WIDE && Self::UNITS && Self::OFFSET && Self::TOP * 127 * 8 <= 0x7fff;
    /// Whether [`Format::halves`] is there.
    const HALVES: bool = false;
    /// The bytes of 256 weights.
    type Chunk;

    /// A row's whole chunks, as far as they can be loaded where they lie.
    fn chunks(row: &[u8]) -> &[Self::Chunk];

    /// Codes 32 `i` to 32 `i` + 31: raised, or signed, or without signs that lie apart.
    ///
    /// # Safety
    /// Only inside [`vectorize`].
    unsafe fn codes(chunk: &Self::Chunk, i: usize) -> __m256i;

    /// What the chunk's codes are scaled with, and signs that lie apart.
    ///
    /// # Safety
    /// Only inside [`vectorize`].
    unsafe fn scales(chunk: &Self::Chunk) -> Scales;

    /// The scales of four rows' chunks, of a type that is [`Format::SHORT`].
    ///
    /// # Safety
    /// Only inside [`vectorize`].
    #[inline(always)]
    unsafe fn words(_chunks: [&Self::Chunk; SIDE_BY_SIDE]) -> Words {
        Words::ZERO
    }

    /// The codes of blocks `i` (below 4) and `i` + 4, a lane a block: the first halves, then the second.
    ///
    /// # Safety
    /// Only inside [`vectorize`].
    #[inline(always)]
    unsafe fn halves(_chunk: &Self::Chunk, _i: usize) -> [__m256i; 2] {
        [Scales::ZERO.scales; 2]
    }
}

/// [`integer::block`] of a known type.
fn run<F: Format>(level: Level, _: F, work: &Work<'_>, columns: &mut Columns<'_>) {
    level.vectorize(
        #[inline(always)]
        || integer::block(Avx2::<F>(PhantomData), work, columns),
    );
}

/// Only to be used inside [`vectorize`].
#[derive(Clone, Copy)]
struct Avx2<F>(PhantomData<F>);

impl<F: Format> Isa for Avx2<F> {
    type Tile = Tile;
    const TILE: Tile = Tile::ZERO;

    #[inline(always)]
    fn few<const T: usize>(self, work: &Work<'_>, x: &[RowX<'_>; T], columns: &mut Columns<'_>) {
        // SAFETY: AVX2 is there: this type's contract.
        unsafe { few::<F, T>(work, x, columns) }
    }

    #[inline(always)]
    fn place(self, r: usize, row: Row<'_>, (start, len): (usize, usize), placed: &mut Placed) {
        // SAFETY: AVX2 is there: this type's contract.
        unsafe {
            match F::chunks(row.data).get(start / CHUNK) {
                Some(chunk) => {
                    tile::place::<F>(r, &weights::load::<F>(chunk), placed);
                }
                None => tile::place::<F>(r, &weights::generic::<F>(row, start, len), placed),
            }
        }
    }

    #[inline(always)]
    fn seal(self, placed: &Placed, tile: &mut Tile) {
        // SAFETY: AVX2 is there: this type's contract.
        unsafe { tile::seal::<F>(placed, tile) }
    }

    #[inline(always)]
    fn tiles(self, _: Form, tiles: &[Tile], chunk: usize, x: &[RowX<'_>], out: &mut [Outputs], ahead: Ahead<'_>) {
        for (i, (tile, out)) in tiles.iter().zip(out).enumerate() {
            // SAFETY: AVX2 is there: this type's contract.
            unsafe { tile::all::<F>(tile, chunk, x, out, ahead.part(i, tiles.len())) }
        }
    }
}

/// Asks for the cache lines of what may lie at `next`, for the second-level cache.
#[inline(always)]
fn prefetch<V>(next: *const V) {
    for line in 0..size_of::<V>().div_ceil(64) {
        // SAFETY: a prefetch reads nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(next.cast::<i8>().wrapping_add(64 * line)) };
    }
}

/// Elements 0 and 2 of each lane of `a`, then of `b`.
#[target_feature(enable = "avx2")]
#[inline]
fn evens(a: __m256i, b: __m256i) -> __m256i {
    _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)))
}

/// Elements 1 and 3 of each lane of `a`, then of `b`.
#[target_feature(enable = "avx2")]
#[inline]
fn odds(a: __m256i, b: __m256i) -> __m256i {
    _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)))
}

/// Neighbours added: 16 bits to 32.
#[target_feature(enable = "avx2")]
#[inline]
fn widen(v: __m256i) -> __m256i {
    _mm256_madd_epi16(v, _mm256_set1_epi16(1))
}

/// In each lane a0 + a2, b0 + b2, a1 + a3, b1 + b3.
#[target_feature(enable = "avx2")]
#[inline]
fn add_pairs_32(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b))
}

/// In each lane a0 + a2, a1 + a3, b0 + b2, b1 + b3.
#[target_feature(enable = "avx2")]
#[inline]
fn add_pairs_64(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b))
}

/// The 16-bit halves of each lane of `a` added, then those of `b`.
#[target_feature(enable = "avx2")]
#[inline]
fn add_16(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi16(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b))
}

/// The products of 32 codes, neighbours added.
#[target_feature(enable = "avx2")]
#[inline]
fn pairs<F: Format>(codes: __m256i, x: __m256i) -> __m256i {
    if F::SIGNED {
        // |w| * (x with w's sign): at most 128 * 127, so pairs fit 16 bits.
        _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes))
    } else {
        _mm256_maddubs_epi16(codes, x)
    }
}

/// The sums of products of each 32 codes.
#[target_feature(enable = "avx2")]
#[inline]
fn sums_of_32<F: Format>(codes: &[__m256i; 8], x: &[i8; CHUNK]) -> __m256i {
    let mut sums = [_mm256_setzero_si256(); 2];
    for i in 0..2 {
        let mut p = [_mm256_setzero_si256(); 4];
        for j in 0..4 {
            p[j] = pairs::<F>(codes[4 * i + j], load256(&x.as_chunks().0[4 * i + j]));
        }
        let [a, b, c, d] = p;
        sums[i] = if F::TOP * 127 * 8 <= 0x7fff {
            // Eight products fit 16 bits.
            let (ab, cd) = (add_16(a, b), add_16(c, d));
            widen(_mm256_add_epi16(evens(ab, cd), odds(ab, cd)))
        } else {
            add_pairs_64(add_pairs_32(widen(a), widen(b)), add_pairs_32(widen(c), widen(d)))
        };
    }
    // Each sum's halves are in the two lanes.
    let [a, b] = sums;
    _mm256_add_epi32(_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b))
}

/// A chunk of one activation, as the weights of types without units meet it.
#[derive(Clone, Copy)]
struct Blocks {
    /// One for each 32.
    scales: __m256,
    /// The sums of the codes times the type's raise.
    raised: __m256i,
    /// The sums of the codes times the scales.
    sums: __m256,
}

impl Blocks {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new<F: Format>(x: ChunkX<'_>) -> Self {
        // SAFETY: each read is of an array exactly as long.
        let (of_16, scales) =
            unsafe { (_mm256_loadu_si256(x.of.sums.as_ptr().cast()), _mm256_loadu_ps(x.of.scales.as_ptr())) };
        let sums = _mm256_mul_ps(scales, _mm256_cvtepi32_ps(widen(of_16)));
        Self { scales, raised: _mm256_madd_epi16(of_16, _mm256_set1_epi16(F::RAISE)), sums }
    }
}

/// The eight leaves of the tree of [`integer`]: `(scale * x_scale) * sum [ + offset * (x_scale * x_sum) ]` of each 32.
#[target_feature(enable = "avx2")]
#[inline]
fn leaves<F: Format>(mut sums: __m256i, w: &Scales, x: &Blocks) -> __m256 {
    if F::RAISE != 0 {
        sums = _mm256_sub_epi32(sums, x.raised);
    }
    let scales = _mm256_mul_ps(_mm256_castsi256_ps(w.scales), x.scales);
    let products = _mm256_mul_ps(scales, _mm256_cvtepi32_ps(sums));
    if F::OFFSET {
        return _mm256_add_ps(products, _mm256_mul_ps(_mm256_castsi256_ps(w.offsets), x.sums));
    }
    products
}

/// A chunk of one activation's scales, as those of types with units meet them: i16 numbers in the places of the weights' own
/// ([`Scales`]).
#[derive(Clone, Copy)]
struct Units {
    multiples: __m256i,
    /// The sums of the codes: of blocks of 32 in the offsets' places, the scales' being zero; of blocks of 16 times the
    /// multiples.
    sums: __m256i,
}

impl Units {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new<F: Format>(x: ChunkX<'_>) -> Self {
        // SAFETY: each read is of an array exactly as long.
        let (multiples, sums, multiple_sums) = unsafe {
            (
                _mm256_loadu_si256(x.of.multiples.as_ptr().cast()),
                _mm256_loadu_si256(x.of.sums.as_ptr().cast()),
                _mm256_loadu_si256(x.of.multiple_sums.as_ptr().cast()),
            )
        };
        if !F::WIDE {
            return Self { multiples, sums: multiple_sums };
        }
        // Of 32 bits each the lower half: eight numbers, in both lanes.
        let multiples = _mm256_and_si256(multiples, _mm256_set1_epi32(0xffff));
        let multiples = _mm256_permute4x64_epi64::<0b10_00_10_00>(_mm256_packus_epi32(multiples, multiples));
        let sums = _mm256_packs_epi32(_mm256_setzero_si256(), widen(sums));
        Self { multiples, sums: _mm256_permute4x64_epi64::<0b11_01_10_00>(sums) }
    }
}

/// The products of a chunk of one row with each activation, times `scales`, which are those of the weights times the
/// activation's multiples; to be added up.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn scaled_sums<F: Format, const T: usize>(
    chunk: &F::Chunk,
    scales: [__m256i; T],
    signs: __m256i,
    x: &[ChunkX<'_>; T],
) -> [__m256i; T] {
    let signs = in_both_lanes(signs);
    let mut lanes = [[_mm256_setzero_si256(); 2]; T];
    for t in 0..T {
        lanes[t] = in_both_lanes(scales[t]);
    }
    let mut sums = [_mm256_setzero_si256(); T];
    // By halves, lest the compiler not unroll them.
    for half in 0..2 {
        for j in 0..4 {
            let i = 4 * half + j;
            // SAFETY: AVX2 is there, as for this function.
            let codes = unsafe { F::codes(chunk, i) };
            // The scale of each half's sixteen codes.
            let (lane, numbers) = if F::WIDE { (0, [i, i]) } else { (half, [2 * j, 2 * j + 1]) };
            let numbers = _mm256_set_m128i(_mm_set1_epi16(numbers[1] as i16), _mm_set1_epi16(numbers[0] as i16));
            let bytes =
                _mm256_add_epi16(_mm256_set1_epi16(0x0100), _mm256_mullo_epi16(numbers, _mm256_set1_epi16(0x0202)));
            for t in 0..T {
                let mut x = load256(&x[t].codes.as_chunks().0[i]);
                if F::APART {
                    let negative = where_set(signs[half], 4 * j);
                    x = _mm256_sign_epi8(x, _mm256_or_si256(negative, _mm256_set1_epi8(1)));
                }
                let scaled = _mm256_madd_epi16(pairs::<F>(codes, x), _mm256_shuffle_epi8(lanes[t][lane], bytes));
                sums[t] = _mm256_add_epi32(sums[t], scaled);
            }
        }
    }
    sums
}

/// The elements of each of four vectors added.
#[target_feature(enable = "avx2")]
#[inline]
fn add_up([a, b, c, d]: [__m256i; 4]) -> __m128i {
    let fours = add_pairs_64(add_pairs_32(a, b), add_pairs_32(c, d));
    _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256::<1>(fours))
}

/// Bytes by which weights are asked for ahead of their use, about: what the memory's latency and rate make.
const AHEAD: usize = 16 << 10;

/// [`Isa::few`].
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
fn few<F: Format, const T: usize>(work: &Work<'_>, x: &[RowX<'_>; T], columns: &mut Columns<'_>) {
    let width = columns.width();
    for i in (0..width).step_by(SIDE_BY_SIDE) {
        let out = side_by_side::<F, T>(&work.rows(i, width), work.weights.cols(), x);
        work.put(i, &out, columns);
    }
}

/// Four rows of `cols` columns against T activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn side_by_side<F: Format, const T: usize>(
    rows: &[Row<'_>; SIDE_BY_SIDE],
    cols: usize,
    x: &[RowX<'_>; T],
) -> [[f32; SIDE_BY_SIDE]; T] {
    let mut out = [_mm_setzero_ps(); T];
    let mut of_row = [&[][..]; SIDE_BY_SIDE];
    for r in 0..SIDE_BY_SIDE {
        of_row[r] = F::chunks(rows[r].data);
    }
    let [a, b, c, d] = of_row;
    let whole = (cols / CHUNK).min(a.len()).min(b.len()).min(c.len()).min(d.len());
    let mut pending = [Pending::ZERO; T];
    for chunk in 0..whole {
        let w = [&a[chunk], &b[chunk], &c[chunk], &d[chunk]];
        let Some(x) = chunks(x, chunk) else { break };
        if F::SHORT {
            // Added up beside the next chunk's products, lest the processor wait for one sum after another.
            for t in 0..T {
                out[t] = pending[t].add_to(out[t]);
            }
            pending = Pending::new::<F, T>(w, &x);
        } else if F::UNITS {
            step_units::<F, T>(w, &x, &mut out);
        } else if F::HALVES {
            halves::step::<F, T>(w, &x, &mut out);
        } else {
            step_blocks::<F, T>(
                #[inline(always)]
                |r| weights::load::<F>(w[r]),
                &x,
                &mut out,
            );
        }
        // As many bytes of rows to come, in the order in which they lie, for the second-level cache: the hardware's own
        // prefetchers stop at the end of a page, and start anew with every row.
        let next = rows[0].data.as_ptr().wrapping_add(AHEAD + chunk * size_of::<[F::Chunk; SIDE_BY_SIDE]>());
        prefetch::<[F::Chunk; SIDE_BY_SIDE]>(next.cast());
    }
    if F::SHORT {
        for t in 0..T {
            out[t] = pending[t].add_to(out[t]);
        }
    }
    for chunk in whole..cols.div_ceil(CHUNK) {
        let start = chunk * CHUNK;
        let Some(x) = chunks(x, chunk) else { break };
        step_blocks::<F, T>(|r| weights::generic::<F>(rows[r], start, CHUNK.min(cols - start)), &x, &mut out);
    }
    let mut values = [[0.0; SIDE_BY_SIDE]; T];
    for t in 0..T {
        // SAFETY: four values are written.
        unsafe { _mm_storeu_ps(values[t].as_mut_ptr(), out[t]) };
    }
    values
}

/// The trees of four rows' leaves.
#[target_feature(enable = "avx2")]
#[inline]
fn add_trees([a, b, c, d]: [__m256; 4]) -> __m128 {
    let fours = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_add_ps(_mm256_castps256_ps128(fours), _mm256_extractf128_ps::<1>(fours))
}

/// One chunk of four rows against T activations, of a type without units.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn step_blocks<F: Format, const T: usize>(load: impl Fn(usize) -> Weights, x: &[ChunkX<'_>; T], out: &mut [__m128; T]) {
    let mut blocks = [Blocks::new::<F>(x[0]); T];
    for t in 1..T {
        blocks[t] = Blocks::new::<F>(x[t]);
    }
    let mut rows = [[_mm256_setzero_ps(); SIDE_BY_SIDE]; T];
    for r in 0..SIDE_BY_SIDE {
        let w = load(r);
        for t in 0..T {
            rows[t][r] = leaves::<F>(sums_of_32::<F>(&w.codes, x[t].codes), &w.scales, &blocks[t]);
        }
    }
    for t in 0..T {
        out[t] = _mm_add_ps(out[t], add_trees(rows[t]));
    }
}

/// The units of four blocks of 256, from their f16, the first the lowest.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn block_units(dtype: DType, f16: u64) -> __m128 {
    _mm_mul_ps(_mm_cvtph_ps(_mm_cvtsi64_si128(f16.cast_signed())), _mm_set1_ps(unit_factor(dtype)))
}

/// One chunk of four rows against T activations, of a type with units.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn step_units<F: Format, const T: usize>(
    chunks: [&F::Chunk; SIDE_BY_SIDE],
    x: &[ChunkX<'_>; T],
    out: &mut [__m128; T],
) {
    let mut units = [Units::new::<F>(x[0]); T];
    for t in 1..T {
        units[t] = Units::new::<F>(x[t]);
    }
    let zeros = [[_mm256_setzero_si256(); SIDE_BY_SIDE]; T];
    let (mut scales, mut offset_sums, mut sums, mut signs) = (zeros, zeros, zeros, zeros[0]);
    // In a register: reading four numbers at once just after they were written would have to wait.
    let mut f16 = [0_u64; 2];
    // Scales first: processors run ahead by less than a chunk.
    for r in 0..SIDE_BY_SIDE {
        // SAFETY: AVX2 is there, as for this function.
        let mut w = unsafe { F::scales(chunks[r]) };
        if !F::APART {
            w = w.with_raise::<F>();
        }
        signs[r] = w.signs;
        for i in 0..2 {
            f16[i] = f16[i] >> 16 | u64::from(w.units[i]) << 48;
        }
        for t in 0..T {
            scales[t][r] = _mm256_mullo_epi16(w.scales, units[t].multiples);
            offset_sums[t][r] = _mm256_madd_epi16(if F::WIDE { scales[t][r] } else { w.offsets }, units[t].sums);
        }
    }
    for r in 0..SIDE_BY_SIDE {
        let mut of_row = [_mm256_setzero_si256(); T];
        for t in 0..T {
            of_row[t] = scales[t][r];
        }
        let of_row = scaled_sums::<F, T>(chunks[r], of_row, signs[r], x);
        for t in 0..T {
            sums[t][r] = of_row[t];
            if F::RAISE != 0 && !F::APART {
                // Types with offsets of their own are not raised.
                sums[t][r] = _mm256_add_epi32(sums[t][r], offset_sums[t][r]);
            }
        }
    }
    let (unit, offset_unit) = (block_units(F::DTYPE, f16[0]), block_units(F::DTYPE, f16[1]));
    for t in 0..T {
        let x_unit = _mm_set1_ps(x[t].of.unit);
        let mut chunk = _mm_mul_ps(_mm_mul_ps(unit, x_unit), _mm_cvtepi32_ps(add_up(sums[t])));
        if F::OFFSET {
            // units[1] is -dmin.
            let offset = _mm_mul_ps(_mm_mul_ps(offset_unit, x_unit), _mm_cvtepi32_ps(add_up(offset_sums[t])));
            chunk = _mm_sub_ps(chunk, offset);
        }
        out[t] = _mm_add_ps(out[t], chunk);
    }
}
