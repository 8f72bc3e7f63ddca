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
use super::in_order::{self, FOUR, Fours};
use crate::arch::disjoint::Columns;
use crate::arch::integer::{
    self, Ahead, CHUNK, ChunkX, Form, Isa, Outputs, Placed, Row, RowX, Tile, Work, largest, looked_up, raise,
};
use crate::arch::level::{Ask, Level};
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
            $dtype:ident: $codes:path, $scales:path
            $(where words = $words:path)? $(where halves = $halves:path)?
        ),+ $(,)?) => {
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
                            unsafe fn words(four: &[Self::Chunk; FOUR]) -> Words {
                                // SAFETY: AVX2 is there: this function's contract.
                                unsafe { $words(four) }
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
        Q4_0: of_32::q4_0, of_32::scales where halves = of_32::q4_0_halves,
        Q4_1: of_32::q4_1, of_32::scales_offsets where halves = of_32::q4_1_halves,
        Q5_0: of_32::q5_0, of_32::scales,
        Q5_1: of_32::q5_1, of_32::scales_offsets,
        Q8_0: of_32::q8_0, of_32::scales,
        Q2_K: k::q2_k, k::q2_k_scales,
        Q3_K: k::q3_k, k::q3_k_scales,
        Q4_K: k::q4_k, k::scales_offsets where words = k::words,
        Q5_K: k::q5_k, k::scales_offsets where words = k::words,
        Q6_K: k::q6_k, k::q6_k_scales,
        IQ1_S: iq::iq1_s, iq::iq1_s_scales,
        IQ1_M: iq::iq1_m, iq::iq1_m_scales,
        IQ2_XXS: iq::iq2_xxs, iq::iq2_xxs_scales,
        IQ2_XS: iq::iq2_xs, iq::iq2_xs_scales,
        IQ2_S: iq::iq2_s, iq::iq2_s_scales,
        IQ3_XXS: iq::iq3_xxs, iq::iq3_xxs_scales,
        IQ3_S: iq::iq3_s, iq::iq3_s_scales,
        IQ4_NL: of_32::iq4_nl, of_32::scales,
        IQ4_XS: iq::iq4_xs, iq::iq4_xs_scales,
        MXFP4: of_32::mxfp4, of_32::mxfp4_scales where halves = of_32::mxfp4_halves,
    );
}

/// A type of weights.
trait Format: Copy {
    const DTYPE: DType;
    /// The largest raised code; above 127 codes are signed and not raised.
    const TOP: i32 = largest(Self::DTYPE);
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
    type Chunk: Copy;

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

    /// The scales of four chunks, of a type that is [`Format::SHORT`].
    ///
    /// # Safety
    /// Only inside [`vectorize`].
    #[inline(always)]
    unsafe fn words(_four: &[Self::Chunk; FOUR]) -> Words {
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
        || integer::block(Avx2::<F> { ask: level.ask(), format: PhantomData }, work, columns),
    );
}

/// Only to be used inside [`vectorize`].
#[derive(Clone, Copy)]
struct Avx2<F> {
    ask: Ask,
    format: PhantomData<F>,
}

impl<F: Format> Isa for Avx2<F> {
    type Tile = Tile;
    const TILE: Tile = Tile::ZERO;

    #[inline(always)]
    fn few<const T: usize>(self, work: &Work<'_>, x: &[RowX<'_>; T], columns: &mut Columns<'_>) {
        // SAFETY: AVX2 is there: this type's contract.
        unsafe {
            // Looking codes up is what takes the time, and memory waits. Asking in the first-level cache alone was no
            // faster with these instructions.
            match self.ask {
                Ask::Both if !looked_up(F::DTYPE) => few::<F, T, { Ask::Both as usize }>(work, x, columns),
                _ => few::<F, T, { Ask::Second as usize }>(work, x, columns),
            }
        }
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
        // SAFETY: AVX2 is there: this type's contract.
        unsafe { tile::all::<F>(tiles, chunk, x, out, ahead) }
    }
}

/// [`Isa::few`].
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
fn few<F: Format, const T: usize, const ASK: usize>(work: &Work<'_>, x: &[RowX<'_>; T], columns: &mut Columns<'_>) {
    // SAFETY: AVX2 is there, as for this function.
    unsafe { in_order::few::<Avx2<F>, T, ASK>(work, x, columns) }
}

impl<F: Format> Fours for Avx2<F> {
    type Chunk = F::Chunk;
    type Weights = Weights;
    type Prepared = Prepared;
    type Pending = Pending;
    const REGISTERS: usize = 16;
    const WEIGHTS: Weights = Weights::ZERO;
    const PENDING: Pending = Pending::ZERO;

    #[inline(always)]
    fn chunks(bytes: &[u8]) -> &[F::Chunk] {
        F::chunks(bytes)
    }

    #[inline(always)]
    unsafe fn prepare(four: [ChunkX<'_>; FOUR]) -> Prepared {
        // SAFETY: AVX2 is there: this function's contract.
        unsafe { Prepared::new::<F>(four) }
    }

    #[inline(always)]
    unsafe fn multiply<const T: usize>(four: &[F::Chunk; FOUR], x: &[Prepared; T]) -> [Pending; T] {
        // SAFETY: AVX2 is there: this function's contract.
        unsafe { multiply::<F, T>(four, x) }
    }

    #[inline(always)]
    unsafe fn unpack(row: Row<'_>, start: usize, len: usize) -> Weights {
        // SAFETY: AVX2 is there: this function's contract.
        unsafe { weights::generic::<F>(row, start, len) }
    }

    #[inline(always)]
    unsafe fn multiply_unpacked<const T: usize>(four: &[Weights; FOUR], x: &[Prepared; T]) -> [Pending; T] {
        // SAFETY: AVX2 is there: this function's contract.
        unsafe { multiply_unpacked::<F, T>(four, x) }
    }

    #[inline(always)]
    unsafe fn add_up(pending: Pending) -> __m128 {
        // SAFETY: AVX2 is there: this function's contract.
        unsafe { pending.add_up::<F>() }
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
fn sums_of_32<F: Format>(codes: &[__m256i; 8], x: &[__m256i; 8]) -> __m256i {
    let mut sums = [_mm256_setzero_si256(); 2];
    for i in 0..2 {
        let mut p = [_mm256_setzero_si256(); 4];
        for j in 0..4 {
            p[j] = pairs::<F>(codes[4 * i + j], x[4 * i + j]);
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

/// Four chunks of one activation, as the weights meet them.
#[derive(Clone, Copy)]
struct Prepared {
    /// 32 to a vector, in their order; for types with [`Format::HALVES`] as [`halves::halves`] has them.
    codes: [[__m256i; 8]; FOUR],
    /// Eight f32, one a block of 32. With units their multiples, i16, in the places of the weights' own scales ([`Scales`]);
    /// for a [`Format::SHORT`] type the first eight of chunks 0 and 2, a lane a chunk, the others, and both of 1 and 3.
    scales: [__m256i; FOUR],
    /// The sums of the codes times the type's raise, i32, one a block of 32; none with units.
    raised: [__m256i; FOUR],
    /// The sums of the codes times the scales, f32. With units i16: of blocks of 16 times the multiples; or of blocks of 32,
    /// in the offsets' places, the scales' being zero; for a [`Format::SHORT`] type as its scales.
    sums: [__m256i; FOUR],
    /// By chunk; for a [`Format::SHORT`] type each twice.
    units: __m256,
}

impl Prepared {
    #[target_feature(enable = "avx2")]
    fn new<F: Format>(x: [ChunkX<'_>; FOUR]) -> Self {
        let zero = _mm256_setzero_si256();
        let mut all = Self {
            codes: [[zero; 8]; FOUR],
            scales: [zero; FOUR],
            raised: [zero; FOUR],
            sums: [zero; FOUR],
            units: _mm256_setzero_ps(),
        };
        for j in 0..FOUR {
            for i in 0..8 {
                all.codes[j][i] = load256(&x[j].codes.as_chunks().0[i]);
            }
            if F::HALVES {
                all.codes[j] = halves::halves(&all.codes[j]);
            }
        }
        let [a, b, c, d] = x;
        let units = [a.of.unit, b.of.unit, c.of.unit, d.of.unit];
        if F::SHORT {
            all.units = _mm256_setr_ps(units[0], units[0], units[1], units[1], units[2], units[2], units[3], units[3]);
            for p in 0..2 {
                let (multiples, sums) = (
                    [load_16(&x[p].of.multiples), load_16(&x[p + 2].of.multiples)],
                    [load_16(&x[p].of.multiple_sums), load_16(&x[p + 2].of.multiple_sums)],
                );
                all.scales[2 * p] = _mm256_permute2x128_si256::<0x20>(multiples[0], multiples[1]);
                all.scales[2 * p + 1] = _mm256_permute2x128_si256::<0x31>(multiples[0], multiples[1]);
                all.sums[2 * p] = _mm256_permute2x128_si256::<0x20>(sums[0], sums[1]);
                all.sums[2 * p + 1] = _mm256_permute2x128_si256::<0x31>(sums[0], sums[1]);
            }
            return all;
        }
        all.units = _mm256_setr_ps(units[0], units[1], units[2], units[3], 0.0, 0.0, 0.0, 0.0);
        for j in 0..FOUR {
            let of = x[j].of;
            let sums = load_16(&of.sums);
            if !F::UNITS {
                // SAFETY: an array exactly as long is read.
                let scales = unsafe { _mm256_loadu_ps(of.scales.as_ptr()) };
                all.scales[j] = _mm256_castps_si256(scales);
                all.raised[j] = _mm256_madd_epi16(sums, _mm256_set1_epi16(F::RAISE));
                all.sums[j] = _mm256_castps_si256(_mm256_mul_ps(scales, _mm256_cvtepi32_ps(widen(sums))));
            } else if F::WIDE {
                // Of 32 bits each the lower half: eight numbers, in both lanes.
                let multiples = _mm256_and_si256(load_16(&of.multiples), _mm256_set1_epi32(0xffff));
                all.scales[j] = _mm256_permute4x64_epi64::<0b10_00_10_00>(_mm256_packus_epi32(multiples, multiples));
                all.sums[j] = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(zero, widen(sums)));
            } else {
                all.scales[j] = load_16(&of.multiples);
                all.sums[j] = load_16(&of.multiple_sums);
            }
        }
        all
    }
}

/// Sixteen numbers.
#[target_feature(enable = "avx2")]
#[inline]
fn load_16(numbers: &[i16; 16]) -> __m256i {
    // SAFETY: sixteen are read.
    unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) }
}

/// The eight leaves of the tree of [`integer`]: `(scale * x_scale) * sum [ + offset * (x_scale * x_sum) ]` of each 32 of
/// chunk `j`.
#[target_feature(enable = "avx2")]
#[inline]
fn leaves<F: Format>(mut sums: __m256i, w: &Scales, x: &Prepared, j: usize) -> __m256 {
    if F::RAISE != 0 {
        sums = _mm256_sub_epi32(sums, x.raised[j]);
    }
    let scales = _mm256_mul_ps(_mm256_castsi256_ps(w.scales), _mm256_castsi256_ps(x.scales[j]));
    let products = _mm256_mul_ps(scales, _mm256_cvtepi32_ps(sums));
    if F::OFFSET {
        let offsets = _mm256_mul_ps(_mm256_castsi256_ps(w.offsets), _mm256_castsi256_ps(x.sums[j]));
        return _mm256_add_ps(products, offsets);
    }
    products
}

/// The products of a chunk with chunk `of_four` of each activation, times `scales`, which are those of the weights times the
/// activation's multiples; to be added up.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn scaled_sums<F: Format, const T: usize>(
    chunk: &F::Chunk,
    scales: [__m256i; T],
    signs: __m256i,
    x: &[Prepared; T],
    of_four: usize,
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
                let mut x = x[t].codes[of_four][i];
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

/// The trees of four chunks' leaves.
#[target_feature(enable = "avx2")]
#[inline]
fn add_trees([a, b, c, d]: [__m256; 4]) -> __m128 {
    let fours = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_add_ps(_mm256_castps256_ps128(fours), _mm256_extractf128_ps::<1>(fours))
}

/// Four chunks, where they lie, against T activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn multiply<F: Format, const T: usize>(four: &[F::Chunk; FOUR], x: &[Prepared; T]) -> [Pending; T] {
    if F::SHORT {
        return Pending::new::<F, T>(four, x);
    }
    if F::UNITS {
        return of_units::<F, T>(four, x);
    }
    if F::HALVES {
        return halves::products::<F, T>(
            #[inline(always)]
            |j| {
                let mut codes = [_mm256_setzero_si256(); 8];
                for i in 0..4 {
                    // SAFETY: AVX2 is there, as for this function.
                    let [first, second] = unsafe { F::halves(&four[j], i) };
                    (codes[2 * i], codes[2 * i + 1]) = (first, second);
                }
                codes
            },
            // SAFETY: as above.
            #[inline(always)]
            |j| unsafe { F::scales(&four[j]) },
            x,
        );
    }
    of_blocks::<F, T>(
        #[inline(always)]
        |j| weights::load::<F>(&four[j]),
        x,
    )
}

/// Four chunks of a type without units, unpacked, against T activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline(never)]
fn multiply_unpacked<F: Format, const T: usize>(w: &[Weights; FOUR], x: &[Prepared; T]) -> [Pending; T] {
    if F::HALVES {
        return halves::products::<F, T>(
            #[inline(always)]
            |j| halves::halves(&w[j].codes),
            #[inline(always)]
            |j| w[j].scales,
            x,
        );
    }
    of_blocks::<F, T>(
        #[inline(always)]
        |j| w[j],
        x,
    )
}

/// Four chunks of a type without units against T activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn of_blocks<F: Format, const T: usize>(load: impl Fn(usize) -> Weights, x: &[Prepared; T]) -> [Pending; T] {
    let mut chunks = [[_mm256_setzero_ps(); FOUR]; T];
    for j in 0..FOUR {
        let w = load(j);
        for t in 0..T {
            chunks[t][j] = leaves::<F>(sums_of_32::<F>(&w.codes, &x[t].codes[j]), &w.scales, &x[t], j);
        }
    }
    let mut all = [Pending::ZERO; T];
    for t in 0..T {
        all[t] = Pending::done(add_trees(chunks[t]));
    }
    all
}

/// The units of four blocks of 256, from their f16, the first the lowest.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn block_units(dtype: DType, f16: u64) -> __m128 {
    _mm_mul_ps(_mm_cvtph_ps(_mm_cvtsi64_si128(f16.cast_signed())), _mm_set1_ps(unit_factor(dtype)))
}

/// Four chunks of a type with units against T activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c")]
#[inline]
fn of_units<F: Format, const T: usize>(four: &[F::Chunk; FOUR], x: &[Prepared; T]) -> [Pending; T] {
    let zeros = [[_mm256_setzero_si256(); FOUR]; T];
    let (mut scales, mut offset_sums, mut sums, mut signs) = (zeros, zeros, zeros, zeros[0]);
    // In a register: reading four numbers at once just after they were written would have to wait.
    let mut f16 = [0_u64; 2];
    // Scales first: processors run ahead by less than four chunks.
    for j in 0..FOUR {
        // SAFETY: AVX2 is there, as for this function.
        let mut w = unsafe { F::scales(&four[j]) };
        if !F::APART {
            w = w.with_raise::<F>();
        }
        signs[j] = w.signs;
        for i in 0..2 {
            f16[i] = f16[i] >> 16 | u64::from(w.units[i]) << 48;
        }
        for t in 0..T {
            scales[t][j] = _mm256_mullo_epi16(w.scales, x[t].scales[j]);
            offset_sums[t][j] = _mm256_madd_epi16(if F::WIDE { scales[t][j] } else { w.offsets }, x[t].sums[j]);
        }
    }
    for j in 0..FOUR {
        let mut of_chunk = [_mm256_setzero_si256(); T];
        for t in 0..T {
            of_chunk[t] = scales[t][j];
        }
        let of_chunk = scaled_sums::<F, T>(&four[j], of_chunk, signs[j], x, j);
        for t in 0..T {
            sums[t][j] = of_chunk[t];
            if F::RAISE != 0 && !F::APART {
                // Types with offsets of their own are not raised.
                sums[t][j] = _mm256_add_epi32(sums[t][j], offset_sums[t][j]);
            }
        }
    }
    let (unit, offset_unit) = (block_units(F::DTYPE, f16[0]), block_units(F::DTYPE, f16[1]));
    let mut all = [Pending::ZERO; T];
    for t in 0..T {
        let x_units = _mm256_castps256_ps128(x[t].units);
        let mut chunks = _mm_mul_ps(_mm_mul_ps(unit, x_units), _mm_cvtepi32_ps(add_up(sums[t])));
        if F::OFFSET {
            // units[1] is -dmin.
            let offset = _mm_mul_ps(_mm_mul_ps(offset_unit, x_units), _mm_cvtepi32_ps(add_up(offset_sums[t])));
            chunks = _mm_sub_ps(chunks, offset);
        }
        all[t] = Pending::done(chunks);
    }
    all
}
