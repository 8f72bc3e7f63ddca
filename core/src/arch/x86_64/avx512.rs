//! AVX-512 with VNNI.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes: signed weights go in raised by [`Format::RAISE`], and that times the sum of
//! the activations comes off again.
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

mod float;
mod short;
mod tile;
mod weights;

use super::bytes::{load128, unit_factor};
use super::in_order::{self, FOUR, Fours};
use crate::arch::disjoint::Columns;
use crate::arch::integer::{
    self, Ahead, CHUNK, ChunkX, Form, Isa, Outputs, Placed, Row, RowX, Work, largest, looked_up, raise,
};
use crate::arch::level::{Ask, Level};
use crate::dtype::DType;
use crate::quant;
use core::arch::x86_64::*;
use core::marker::PhantomData;
pub(in crate::arch) use float::F32x16;
use short::Pending;
use tile::Tile;
use weights::{Beside, Codes, Scales, Weights, beside, by_lane, halves, in_lanes, load_codes, store_codes};

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
        ($(
            $dtype:ident: $codes:path, $scales:path
                $(, LEFT = $left:literal: $left_codes:path)? $(, BESIDE = $beside:path)?;
        )+) => {
            match work.weights.dtype() {
                $(DType::$dtype => {
                    #[derive(Clone, Copy)]
                    struct Known;
                    impl Format for Known {
                        const DTYPE: DType = DType::$dtype;
                        $(const LEFT: i32 = $left;)?
                        type Chunk = [[u8; DType::$dtype.block().1]; CHUNK / DType::$dtype.block().0];

                        #[inline(always)]
                        fn chunks(row: &[u8]) -> &[Self::Chunk] {
                            row.as_chunks().0.as_chunks().0
                        }

                        #[inline(always)]
                        unsafe fn header(chunk: &Self::Chunk) -> __m128i {
                            // SAFETY: AVX2 is there: this function's contract.
                            unsafe { load128(&chunk[0], 0) }
                        }

                        #[inline(always)]
                        unsafe fn codes(chunk: &Self::Chunk) -> Codes {
                            // SAFETY: AVX-512 is there: this function's contract.
                            unsafe { $codes(chunk) }
                        }

                        #[inline(always)]
                        unsafe fn scales(chunk: &Self::Chunk) -> Scales {
                            // SAFETY: AVX-512 is there: this function's contract.
                            unsafe { $scales(chunk) }
                        }

                        $(
                            #[inline(always)]
                            unsafe fn left_codes(chunk: &Self::Chunk) -> Codes {
                                // SAFETY: AVX-512 is there: this function's contract.
                                unsafe { $left_codes(chunk) }
                            }
                        )?

                        $(
                            #[inline(always)]
                            unsafe fn beside(four: &[Self::Chunk; FOUR]) -> Beside {
                                // SAFETY: AVX-512 is there: this function's contract.
                                unsafe { $beside(four) }
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

                        unsafe fn header(_: &Self::Chunk) -> __m128i {
                            bytemuck::Zeroable::zeroed()
                        }

                        unsafe fn codes(_: &Self::Chunk) -> Codes {
                            Weights::ZERO.codes
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
        Q4_0: of_32::q4_0, of_32::scales;
        Q4_1: of_32::q4_1, of_32::scales_and_offsets;
        Q5_0: of_32::q5_0, of_32::scales;
        Q5_1: of_32::q5_1, of_32::scales_and_offsets;
        Q8_0: of_32::q8_0, of_32::scales;
        IQ4_NL: of_32::iq4_nl, of_32::scales;
        MXFP4: of_32::mxfp4, of_32::mxfp4_scales, BESIDE = of_32::mxfp4_beside;
        Q2_K: k::q2_k, k::q2_k_scales;
        Q3_K: k::q3_k, k::q3_k_scales;
        Q4_K: k::q4_k, k::q4_k_and_q5_k_scales, LEFT = 4: k::q4_k_left;
        Q5_K: k::q5_k, k::q4_k_and_q5_k_scales;
        Q6_K: k::q6_k, k::q6_k_scales;
        IQ4_XS: iq::iq4_xs, iq::iq4_xs_scales;
        IQ1_S: iq::iq1_s, iq::iq1_s_scales;
        IQ1_M: iq::iq1_m, iq::iq1_m_scales;
        IQ2_XXS: iq::iq2_xxs, iq::iq2_xxs_scales;
        IQ2_XS: iq::iq2_xs, iq::iq2_xs_scales;
        IQ2_S: iq::iq2_s, iq::iq2_s_scales;
        IQ3_XXS: iq::iq3_xxs, iq::iq3_xxs_scales;
        IQ3_S: iq::iq3_s, iq::iq3_s_scales;
    );
}

/// A type of weights.
trait Format: Copy {
    const DTYPE: DType;
    const FORM: Form = Form::of(Self::DTYPE);
    const WIDE: bool = quant::sub_block(Self::DTYPE) == 32;
    /// What makes codes unsigned: no more than that if sums are to fit sixteen bits, else 128, the sign bit flipped.
    const RAISE: i32 = match Self::DTYPE {
        dtype @ (DType::Q3_K | DType::Q4_0 | DType::Q5_0 | DType::Q6_K | DType::MXFP4 | DType::FP4_E2M1) => {
            raise(dtype) as i32
        }
        _ if Self::FORM.offset => 0,
        _ => 128,
    };
    /// The largest code that goes in.
    const TOP: i32 = if Self::RAISE == 128 { 255 } else { largest(Self::DTYPE) };
    /// Whether sums of eight products fit sixteen bits, where blocks are of 32 and their scales f32.
    const EIGHTS: bool = Self::WIDE && !Self::FORM.units && Self::TOP * 127 * 8 <= 0x7fff;
    /// Whether codes come from a codebook: too much work to stand in the midst of products, where it would take the
    /// registers that those need.
    const LOOKED_UP: bool = looked_up(Self::DTYPE);
    /// Whether sums of eight products fit sixteen bits, with blocks of 32 whose scales and offsets are integers: Q4_K, Q5_K.
    const SHORT: bool = Self::WIDE && Self::FORM.units && Self::FORM.offset;
    /// Whether those of sixteen do: codes of four bits, 15 * 127 * 16 < 2^15.
    const SIXTEEN: bool = matches!(Self::DTYPE, DType::Q4_K);
    /// Bits by which [`Format::left_codes`] leaves the codes of odd blocks too far left.
    const LEFT: i32 = 0;
    /// The bytes of 256 weights.
    type Chunk: Copy;

    /// A row's whole chunks, as far as they can be loaded where they lie.
    fn chunks(row: &[u8]) -> &[Self::Chunk];

    /// The first sixteen bytes.
    ///
    /// # Safety
    /// Only inside [`vectorize`].
    unsafe fn header(chunk: &Self::Chunk) -> __m128i;

    /// # Safety
    /// Only inside [`vectorize`].
    unsafe fn codes(chunk: &Self::Chunk) -> Codes;

    /// # Safety
    /// Only inside [`vectorize`].
    unsafe fn scales(chunk: &Self::Chunk) -> Scales;

    /// What four chunks are scaled with.
    ///
    /// # Safety
    /// Only inside [`vectorize`].
    #[inline(always)]
    unsafe fn beside(four: &[Self::Chunk; FOUR]) -> Beside {
        // SAFETY: AVX-512 is there: this function's contract.
        unsafe { Beside::new(Self::WIDE, &each!(i in [Scales::ZERO; FOUR] => Self::scales(&four[i]))) }
    }

    /// [`Format::codes`] of a type that is [`Format::SHORT`], those of odd blocks times 2^[`Format::LEFT`].
    ///
    /// # Safety
    /// Only inside [`vectorize`].
    #[inline(always)]
    unsafe fn left_codes(chunk: &Self::Chunk) -> Codes {
        // SAFETY: AVX-512 is there: this function's contract.
        unsafe { Self::codes(chunk) }
    }
}

/// [`integer::block`] of a known type.
fn run<F: Format>(level: Level, _: F, work: &Work<'_>, columns: &mut Columns<'_>) {
    level.vectorize(
        #[inline(always)]
        || {
            let multiples = tile::multiples::<F>(work.x.len());
            integer::block(Avx512::<F> { multiples, ask: level.ask(), format: PhantomData }, work, columns);
        },
    );
}

/// Only to be used inside [`vectorize`].
#[derive(Clone, Copy)]
struct Avx512<F> {
    /// [`tile::multiples`]
    multiples: bool,
    ask: Ask,
    format: PhantomData<F>,
}

impl<F: Format> Isa for Avx512<F> {
    type Tile = Tile;
    const TILE: Tile = Tile::ZERO;

    #[inline(always)]
    fn few<const T: usize>(self, work: &Work<'_>, x: &[RowX<'_>; T], columns: &mut Columns<'_>) {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe {
            // Where codes are looked up, that is what takes the time, and memory waits.
            match self.ask {
                Ask::Both if !F::LOOKED_UP => few::<F, T, { Ask::Both as usize }>(work, x, columns),
                Ask::First if !F::LOOKED_UP => few::<F, T, { Ask::First as usize }>(work, x, columns),
                _ => few::<F, T, { Ask::Second as usize }>(work, x, columns),
            }
        }
    }

    #[inline(always)]
    fn place(self, r: usize, row: Row<'_>, (start, len): (usize, usize), placed: &mut Placed) {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe {
            match F::chunks(row.data).get(start / CHUNK) {
                Some(chunk) => {
                    match F::LOOKED_UP {
                        true => look_up::<F>(chunk, &mut placed.codes[r]),
                        false => store_codes(F::codes(chunk), &mut placed.codes[r]),
                    }
                    tile::place::<F>(r, F::scales(chunk), placed);
                }
                None => {
                    let w = weights::generic::<F>(row, start, len);
                    store_codes(w.codes, &mut placed.codes[r]);
                    tile::place::<F>(r, w.scales, placed);
                }
            }
        }
    }

    #[inline(always)]
    fn seal(self, placed: &Placed, tile: &mut Tile) {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe { tile::seal::<F>(placed, self.multiples, tile) }
    }

    #[inline(always)]
    fn tiles(self, _: Form, tiles: &[Tile], chunk: usize, x: &[RowX<'_>], out: &mut [Outputs], ahead: Ahead<'_>) {
        // SAFETY: AVX-512 is there: this type's contract.
        unsafe {
            match (tiles, &mut *out) {
                // Blocks' sums on their way up the tree leave no registers for a second tile.
                ([a, b], [out_a, out_b]) if F::FORM.units => tile::all::<F, 2>([a, b], chunk, x, [out_a, out_b], ahead),
                _ => {
                    for (i, (tile, out)) in tiles.iter().zip(out).enumerate() {
                        tile::all::<F, 1>([tile], chunk, x, [out], ahead.part(i, tiles.len()));
                    }
                }
            }
        }
    }
}

/// [`Isa::few`].
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn few<F: Format, const T: usize, const ASK: usize>(work: &Work<'_>, x: &[RowX<'_>; T], columns: &mut Columns<'_>) {
    // SAFETY: AVX-512 is there, as for this function.
    unsafe { in_order::few::<Avx512<F>, T, ASK>(work, x, columns) }
}

impl<F: Format> Fours for Avx512<F> {
    type Chunk = F::Chunk;
    type Weights = Weights;
    type Prepared = Prepared;
    type Pending = Pending;
    const REGISTERS: usize = 32;
    const WEIGHTS: Weights = Weights::ZERO;
    const PENDING: Pending = Pending::ZERO;

    #[inline(always)]
    fn chunks(bytes: &[u8]) -> &[F::Chunk] {
        F::chunks(bytes)
    }

    #[inline(always)]
    unsafe fn prepare(four: [ChunkX<'_>; FOUR]) -> Prepared {
        // SAFETY: AVX-512 is there: this function's contract.
        unsafe { Prepared::new::<F>(four) }
    }

    #[inline(always)]
    unsafe fn multiply<const T: usize>(four: &[F::Chunk; FOUR], x: &[Prepared; T]) -> [Pending; T] {
        // SAFETY: AVX-512 is there: this function's contract.
        unsafe { multiply::<F, T>(four, x) }
    }

    #[inline(always)]
    unsafe fn unpack(row: Row<'_>, start: usize, len: usize) -> Weights {
        // SAFETY: AVX-512 is there: this function's contract.
        unsafe { weights::generic::<F>(row, start, len) }
    }

    #[inline(always)]
    unsafe fn multiply_unpacked<const T: usize>(four: &[Weights; FOUR], x: &[Prepared; T]) -> [Pending; T] {
        // SAFETY: AVX-512 is there: this function's contract.
        unsafe { multiply_unpacked::<F, T>(four, x) }
    }

    #[inline(always)]
    unsafe fn add_up(pending: Pending) -> __m128 {
        // SAFETY: AVX-512 is there: this function's contract.
        unsafe { pending.add_up::<F>() }
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

/// In each lane a0 + a1, a2 + a3, b0 + b1, b2 + b3.
#[target_feature(enable = "avx512f")]
#[inline]
fn add_neighbours(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (_mm512_castsi512_ps(a), _mm512_castsi512_ps(b));
    let (even, odd) = (_mm512_shuffle_ps::<0b10_00_10_00>(a, b), _mm512_shuffle_ps::<0b11_01_11_01>(a, b));
    _mm512_add_epi32(_mm512_castps_si512(even), _mm512_castps_si512(odd))
}

/// Four chunks of one activation, in the order in which the weights meet them.
#[derive(Clone, Copy)]
struct Prepared {
    codes: [Codes; FOUR],
    /// As [`beside`] has them, f32; with units their multiples, i32, or of a [`Format::SHORT`] type in the first vector i16,
    /// eight a chunk.
    scales: [__m512i; FOUR],
    /// [`Format::RAISE`] times the sums of the codes, for types whose codes were raised.
    raised: [__m512i; FOUR],
    /// The sums times the scales or multiples, for types with offsets; of a [`Format::SHORT`] type of blocks' first halves,
    /// and in the second vector of their second, i16, eight a chunk.
    sums: [__m512i; FOUR],
    units: __m128,
}

impl Prepared {
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
    fn new<F: Format>(x: [ChunkX<'_>; FOUR]) -> Self {
        let zero = _mm512_setzero_si512();
        let zeros = [zero; FOUR];
        let [a, b, c, d] = x;
        let units = _mm_setr_ps(a.of.unit, b.of.unit, c.of.unit, d.of.unit);
        let codes = each!(i in [zeros; FOUR] => load_codes(x[i].codes));
        if F::SHORT {
            let codes = each!(i in [zeros; FOUR] => halves(codes[i]));
            let (mut multiples, mut sums) = ([_mm_setzero_si128(); FOUR], [_mm256_setzero_si256(); FOUR]);
            for i in 0..FOUR {
                // The lower halves of 32 bits each; the others say the same.
                multiples[i] = _mm256_cvtepi32_epi16(load_16(&x[i].of.multiples));
                sums[i] = load_16(&x[i].of.multiple_sums);
            }
            let first = each!(i in multiples => _mm256_cvtepi32_epi16(sums[i]));
            let second = each!(i in multiples => _mm256_cvtepi32_epi16(_mm256_srli_epi32::<16>(sums[i])));
            let sums = [in_lanes(first), in_lanes(second), zero, zero];
            return Self { codes, scales: [in_lanes(multiples), zero, zero, zero], raised: zeros, sums, units };
        }
        let (mut scales, mut sums) = (zeros, zeros);
        for i in 0..FOUR {
            let of = x[i].of;
            let of_32 = if F::FORM.units {
                // Each twice: one.
                _mm256_and_si256(load_16(&of.multiples), _mm256_set1_epi32(0xffff))
            } else {
                // SAFETY: an array exactly as long is read.
                unsafe { _mm256_loadu_si256(of.scales.as_ptr().cast()) }
            };
            if F::WIDE {
                scales[i] = _mm512_castsi256_si512(of_32);
                sums[i] = _mm512_castsi256_si512(_mm256_madd_epi16(load_16(&of.sums), _mm256_set1_epi16(1)));
            } else {
                let twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
                scales[i] = _mm512_permutexvar_epi32(twice, _mm512_castsi256_si512(of_32));
                sums[i] = _mm512_cvtepi16_epi32(load_16(&of.sums));
            }
        }
        let codes = each!(i in [zeros; FOUR] => if F::WIDE { halves(codes[i]) } else { codes[i] });
        let (scales, sums) = (beside(F::WIDE, scales), beside(F::WIDE, sums));
        let raised = each!(i in zeros => _mm512_mullo_epi32(sums[i], _mm512_set1_epi32(F::RAISE)));
        let sums = each!(i in zeros => if F::FORM.units {
            _mm512_mullo_epi32(scales[i], sums[i])
        } else {
            _mm512_castps_si512(_mm512_mul_ps(_mm512_castsi512_ps(scales[i]), _mm512_cvtepi32_ps(sums[i])))
        });
        Self { codes, scales, raised, sums, units }
    }
}

/// Sixteen numbers.
#[target_feature(enable = "avx2")]
#[inline]
fn load_16(numbers: &[i16; 16]) -> __m256i {
    // SAFETY: sixteen are read.
    unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) }
}

/// `(scale * x_scale) * sum [ + offset * (x_scale * x_sum) ]`; with units `(scale * multiple) * sum` in integers.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn scaled(form: Form, [scales, offsets]: [__m512i; 2], sums: __m512i, x: &Prepared, i: usize) -> __m512i {
    let sums = if form.offset { sums } else { _mm512_sub_epi32(sums, x.raised[i]) };
    if form.units {
        // Multiples are 16 bits and not negative, so the upper halves add nothing.
        return _mm512_mullo_epi32(_mm512_madd_epi16(scales, x.scales[i]), sums);
    }
    let scales = _mm512_mul_ps(_mm512_castsi512_ps(scales), _mm512_castsi512_ps(x.scales[i]));
    let products = _mm512_mul_ps(scales, _mm512_cvtepi32_ps(sums));
    if form.offset {
        let offsets = _mm512_mul_ps(_mm512_castsi512_ps(offsets), _mm512_castsi512_ps(x.sums[i]));
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

/// The leaves of each of four chunks added up as a tree, from where [`beside`] has them.
#[target_feature(enable = "avx512f")]
#[inline]
fn add_up<F: Format>([a, b, c, d]: [__m512i; 4]) -> __m128i {
    // In lane l of each chunk, a chunk an element: leaves 2 l and 2 l + 1 of the tree, added.
    let pairs = if F::WIDE {
        let (ab, cd) = (_mm512_castsi512_ps(a), _mm512_castsi512_ps(b));
        let (even, odd) = (_mm512_shuffle_ps::<0b10_00_10_00>(ab, cd), _mm512_shuffle_ps::<0b11_01_11_01>(ab, cd));
        add(F::FORM, _mm512_castps_si512(even), _mm512_castps_si512(odd))
    } else {
        // Leaves 2 i in the even lanes, 2 i + 1 in the odd ones: of the first chunk, then of the second.
        let leaves = |a, b| {
            let (even, odd) =
                (_mm512_shuffle_i32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b));
            add(F::FORM, even, odd)
        };
        // A lane a chunk, an element a pair: turned round.
        _mm512_permutexvar_epi32(by_lane(), leaves(leaves(a, b), leaves(c, d)))
    };
    let fours = add(F::FORM, pairs, _mm512_shuffle_i32x4::<0b10_11_00_01>(pairs, pairs));
    _mm512_castsi512_si128(add(F::FORM, fours, _mm512_shuffle_i32x4::<0b01_00_11_10>(fours, fours)))
}

/// The units of the scales of four blocks of 256, and of their offsets, from their f16: lower and upper halves of each.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn block_units(dtype: DType, f16: __m128i) -> [__m128; 2] {
    let halves = _mm_shuffle_epi8(f16, _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    let units = _mm256_mul_ps(_mm256_cvtph_ps(halves), _mm256_set1_ps(unit_factor(dtype)));
    [_mm256_castps256_ps128(units), _mm256_extractf128_ps::<1>(units)]
}

/// Four chunks, where they lie, against T activations.
///
/// # Safety
/// Only inside [`vectorize`]. It is always inlined, as is what it calls: else what is pending would pass through memory.
#[inline(always)]
unsafe fn multiply<F: Format, const T: usize>(four: &[F::Chunk; FOUR], x: &[Prepared; T]) -> [Pending; T] {
    // SAFETY: AVX-512 is there: this function's contract.
    unsafe {
        if F::SHORT {
            return Pending::new::<F, T>(four, x);
        }
        let mut codes = LookedUp([[0; CHUNK]; FOUR]);
        if F::LOOKED_UP {
            for i in 0..FOUR {
                look_up::<F>(&four[i], &mut codes.0[i]);
            }
        }
        // Scales first: processors run ahead by less than a chunk, and what waits for many bytes must start early.
        let beside = F::beside(four);
        products::<F, T>(
            #[inline(always)]
            |i| match F::LOOKED_UP {
                true => load_codes(&codes.0[i]),
                false => F::codes(&four[i]),
            },
            beside,
            x,
        )
    }
}

/// Four chunks, unpacked, against T activations.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
fn multiply_unpacked<F: Format, const T: usize>(w: &[Weights; FOUR], x: &[Prepared; T]) -> [Pending; T] {
    // SAFETY: AVX-512 is there, as for this function.
    unsafe {
        products::<F, T>(
            #[inline(always)]
            |i| w[i].codes,
            Beside::new(F::WIDE, &each!(i in [Scales::ZERO; FOUR] => w[i].scales)),
            x,
        )
    }
}

/// The codes of four chunks, none in two lines of the cache.
#[repr(align(64))]
struct LookedUp([[i8; CHUNK]; FOUR]);

/// [`Format::codes`] as a function of its own.
#[target_feature(enable = "avx2,bmi1,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
fn look_up<F: Format>(chunk: &F::Chunk, codes: &mut [i8; CHUNK]) {
    // SAFETY: AVX-512 is there, as for this function.
    store_codes(unsafe { F::codes(chunk) }, codes);
}

/// Four chunks against T activations.
///
/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn products<F: Format, const T: usize>(
    codes: impl Fn(usize) -> Codes,
    w: Beside,
    x: &[Prepared; T],
) -> [Pending; T] {
    // SAFETY: AVX-512 is there: this function's contract.
    unsafe {
        let (form, zero) = (F::FORM, _mm512_setzero_si512());
        let [unit, offset_unit] = block_units(F::DTYPE, w.units);
        // By activation and chunk: the sums' vector, or both.
        let mut sums = [[[zero; 2]; FOUR]; T];
        for i in 0..FOUR {
            let codes = &codes(i);
            for t in 0..T {
                let x = &x[t].codes[i];
                sums[t][i] = if F::WIDE { quarter_sums(codes, x) } else { [sums_of_16(codes, x), zero] };
            }
        }
        let n = if F::WIDE { 2 } else { 4 };
        let mut all = [Pending::ZERO; T];
        for t in 0..T {
            let x = &x[t];
            let mut leaves = [zero; 4];
            for i in 0..n {
                let sums = if F::WIDE {
                    let ([a, b], [c, d]) = (sums[t][2 * i], sums[t][2 * i + 1]);
                    if F::EIGHTS {
                        let one = _mm512_set1_epi16(1);
                        let first = _mm512_madd_epi16(_mm512_packs_epi32(a, b), one);
                        add_neighbours(first, _mm512_madd_epi16(_mm512_packs_epi32(c, d), one))
                    } else {
                        add_pairs_64(add_pairs_32(a, b), add_pairs_32(c, d))
                    }
                } else {
                    sums[t][i][0]
                };
                leaves[i] = scaled(form, [w.scales[i], w.offsets[i]], sums, x, i);
            }
            let sums = add_up::<F>(leaves);
            if !form.units {
                all[t] = Pending::done(_mm_castsi128_ps(sums));
                continue;
            }
            let mut chunk = _mm_mul_ps(_mm_mul_ps(unit, x.units), _mm_cvtepi32_ps(sums));
            if form.offset {
                let mut leaves = [zero; 4];
                for i in 0..n {
                    leaves[i] = _mm512_mullo_epi32(w.offsets[i], x.sums[i]);
                }
                // The unit itself is -dmin.
                let offset = _mm_mul_ps(_mm_mul_ps(offset_unit, x.units), _mm_cvtepi32_ps(add_up::<F>(leaves)));
                chunk = _mm_sub_ps(chunk, offset);
            }
            all[t] = Pending::done(chunk);
        }
        all
    }
}
