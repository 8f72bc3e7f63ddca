//! Integer products: 8-bit activations against weights in integer form.
//!
//! The specification of one output, for a chunk of 256 weights. Where scales belong to blocks of 32 alone:
//!
//! ```text
//! w[i] = scale_b code[i] + offset_b         x[i] = x_scale_b x_code[i]
//! p_b = (scale_b * x_scale_b) * f32(sum_i code[i] x_code[i])  [ + offset_b * (x_scale_b * f32(sum_i x_code[i])) ]
//! chunk = adjacent p_b added pairwise, again and again, until one is left
//! ```
//! Where they are integers times a unit ([`quant::has_units`]), in blocks b of 16:
//!
//! ```text
//! w[i] = unit scale_b code[i] + unit' offset_b         x[i] = x_unit multiple_b x_code[i]
//! chunk = (unit * x_unit) * f32(sum_b scale_b multiple_b sum_i code[i] x_code[i])
//!     [ + (unit' * x_unit) * f32(sum_b offset_b multiple_b sum_i x_code[i]) ]
//! ```
//! Each operation is rounded once; output = chunk 0 + chunk 1 + ..., in this order. The sums of integers are exact: the
//! largest, 256 * 32 * 127 * 128 * 16 of Q6_K, is just below 2^31. So a level may compute them in any order, one row at a
//! time (decode) or sixteen rows against many activations (prefill), and all give the same bits.

use super::disjoint::Columns;
use super::level::Kind;
use super::level::Level;
use crate::dtype::DType;
use crate::kernel::acts::{Q8Row, Scales};
use crate::quant::{self, Unpacked};
use crate::tensor::Matrix;
use core::ops::Range;

/// Weights of one step.
pub const CHUNK: usize = crate::kernel::acts::CHUNK;

/// Rows of weights that a tile holds.
pub const ROWS: usize = 16;

/// Rows of weights that most levels multiply side by side where activations are too few for tiles.
pub(super) const SIDE_BY_SIDE: usize = 4;

/// Activations whose outputs are accumulated beside one another.
const BATCH: usize = 256;

/// What codes are raised by to be unsigned and of seven bits; 0 where they are already, or never can be.
pub(super) const fn raise(dtype: DType) -> i8 {
    match dtype {
        DType::Q3_K => 4,
        DType::Q4_0 => 8,
        DType::IQ1_S | DType::IQ1_M => 9,
        DType::MXFP4 | DType::FP4_E2M1 => 12,
        DType::IQ3_S => 15,
        DType::Q5_0 => 16,
        DType::Q6_K => 32,
        DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => 43,
        DType::IQ3_XXS => 62,
        _ => 0,
    }
}

/// The largest magnitude of a code, as raised.
pub(super) const fn largest(dtype: DType) -> i32 {
    match dtype {
        DType::Q2_K => 3,
        DType::Q3_K => 7,
        DType::Q4_0 | DType::Q4_1 | DType::Q4_K => 15,
        DType::IQ1_S | DType::IQ1_M => 18,
        DType::MXFP4 | DType::FP4_E2M1 => 24,
        DType::IQ3_S => 30,
        DType::Q5_0 | DType::Q5_1 | DType::Q5_K => 31,
        DType::Q6_K => 63,
        DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => 86,
        DType::IQ3_XXS => 124,
        _ => 128,
    }
}

/// Whether codes come from a codebook: too much work to stand in the midst of products.
#[cfg(target_arch = "x86_64")]
pub(super) const fn looked_up(dtype: DType) -> bool {
    use DType::{IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS};
    matches!(dtype, IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S)
}

/// The sum of products of each 16 weights of a chunk.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Sums(pub(super) [i32; 16]);

/// One activation, cut into chunks.
#[derive(Clone, Copy)]
pub(super) struct RowX<'a> {
    codes: &'a [[i8; CHUNK]],
    scales: &'a [Scales],
}

/// A chunk of one activation.
#[derive(Clone, Copy)]
pub(super) struct ChunkX<'a> {
    pub(super) codes: &'a [i8; CHUNK],
    pub(super) of: &'a Scales,
}

impl<'a> RowX<'a> {
    const EMPTY: Self = Self { codes: &[], scales: &[] };

    fn new(row: &Q8Row<'a>) -> Self {
        Self { codes: row.codes.as_chunks().0, scales: row.scales }
    }

    /// Chunk `chunk`; `None` past the end, which no caller reaches: activations are padded to whole chunks.
    #[inline(always)]
    pub(super) fn chunk(&self, chunk: usize) -> Option<ChunkX<'a>> {
        Some(ChunkX { codes: self.codes.get(chunk)?, of: self.scales.get(chunk)? })
    }
}

/// What the type of the weights says about its scales.
#[derive(Clone, Copy)]
pub(super) struct Form {
    /// Whether they are integers times a unit.
    pub(super) units: bool,
    /// Whether offsets are to be added.
    pub(super) offset: bool,
}

impl Form {
    pub(super) const fn of(dtype: DType) -> Self {
        Self { units: quant::has_units(dtype), offset: quant::has_offset(dtype) }
    }
}

/// Sixteen rows of one chunk as they come.
#[repr(C, align(64))]
pub(super) struct Placed {
    /// [row][256]
    pub(super) codes: [[i8; CHUNK]; ROWS],
    /// [row][block], f32 or integers.
    pub(super) scales: [[Number; 16]; ROWS],
    /// [row][block], f32 or integers.
    pub(super) offsets: [[Number; 16]; ROWS],
    /// [scales, offsets][row]: what integers are times.
    pub(super) units: [[f32; ROWS]; 2],
}

impl Placed {
    const ZERO: Self = Self {
        codes: [[0; CHUNK]; ROWS],
        scales: [[[0; 4]; 16]; ROWS],
        offsets: [[[0; 4]; 16]; ROWS],
        units: [[0.0; ROWS]; 2],
    };
}

/// Sixteen rows of one chunk as most levels' [`Isa::tiles`] reads them; a level without a layout of its own leaves them as
/// they come.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Tile {
    pub(super) codes: [[i8; 4 * ROWS]; CHUNK / 4],
    /// [block][row], f32 or integers.
    pub(super) scales: [[Number; ROWS]; 16],
    /// [block][row], f32 or integers.
    pub(super) offsets: [[Number; ROWS]; 16],
    /// [scales, offsets][row]: what integers are times.
    pub(super) units: [[f32; ROWS]; 2],
}

/// Tiles that are multiplied side by side.
const TILES: usize = 2;

/// A tile's sums with each activation of a batch.
pub(super) type Outputs = [[f32; ROWS]; BATCH];

/// Four bytes of whatever a level reads as scales.
pub(super) type Number = [u8; 4];

impl Tile {
    pub(super) const ZERO: Self = Self {
        codes: [[0; 4 * ROWS]; CHUNK / 4],
        scales: [[[0; 4]; ROWS]; 16],
        offsets: [[[0; 4]; ROWS]; 16],
        units: [[0.0; ROWS]; 2],
    };
}

/// The integer part of a level. The provided methods are the specification.
pub(super) trait Isa: Copy {
    /// Sixteen rows of one chunk as [`Isa::tiles`] reads them.
    type Tile: Copy;

    /// A tile of nothing.
    const TILE: Self::Tile;

    /// The columns of few activations: weights are read where they lie.
    fn few<const T: usize>(self, work: &Work<'_>, x: &[RowX<'_>; T], columns: &mut Columns<'_>);

    /// Unpacks columns `start..start + len` of a row as row `r`.
    fn place(self, r: usize, row: Row<'_>, columns: (usize, usize), placed: &mut Placed);

    /// Lays sixteen rows out.
    fn seal(self, placed: &Placed, tile: &mut Self::Tile);

    /// Adds each tile's products with each activation, of this chunk, to the tile's outputs; beside them it may ask for
    /// what lies `ahead`.
    fn tiles(
        self,
        form: Form,
        tiles: &[Self::Tile],
        chunk: usize,
        x: &[RowX<'_>],
        out: &mut [Outputs],
        ahead: Ahead<'_>,
    );
}

/// The weights that are placed after a chunk: the same rows' next chunk, or the next rows' first. Levels that can ask for
/// memory ahead of its use do so beside the chunk's products, a few lines of the cache at a time: asked for all at once,
/// they are so many that other loads have to wait, and rows are more streams than the hardware follows by itself.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "others are not asked"))]
pub(super) struct Ahead<'a> {
    /// The first row.
    row: &'a [u8],
    /// Where its chunk starts.
    start: usize,
    /// From which line to which, counted row by row and then along the rows.
    lines: (usize, usize),
}

#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "as above"))]
impl<'a> Ahead<'a> {
    /// Rows `first..`; past the last row, that row.
    #[inline(always)]
    fn new(weights: &Matrix<'a>, first: usize, chunk: usize) -> Self {
        let (block, bytes) = weights.dtype().block();
        let bytes = CHUNK / block * bytes;
        let row = weights.row(first.min(weights.rows() - 1));
        Self { row, start: chunk * bytes, lines: (0, bytes.div_ceil(64) * TILES * ROWS) }
    }

    /// Part `i` of `n`.
    #[inline(always)]
    pub(super) const fn part(self, i: usize, n: usize) -> Self {
        let (from, to) = self.lines;
        let all = to - from;
        Self { lines: (from + i * all / n, from + (i + 1) * all / n), ..self }
    }

    /// The numbers of the lines.
    #[inline(always)]
    pub(super) const fn lines(&self) -> Range<usize> {
        self.lines.0..self.lines.1
    }

    /// Where a line lies, or would past the end of the weights.
    #[inline(always)]
    pub(super) const fn at(&self, line: usize) -> *const u8 {
        let (row, line) = (line % (TILES * ROWS), line / (TILES * ROWS));
        self.row.as_ptr().wrapping_add(row * self.row.len() + self.start + 64 * line)
    }
}

/// A row of weights.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) dtype: DType,
    pub(super) data: &'a [u8],
    /// Of the official types.
    pub(super) scales: &'a [u8],
}

impl<'a> Row<'a> {
    #[inline(always)]
    fn new(weights: &Matrix<'a>, row: usize) -> Self {
        Self { dtype: weights.dtype(), data: weights.row(row), scales: weights.row_scales(row) }
    }

    /// Columns `start..start + len` (`len` at most a chunk; scales beyond it are zero).
    #[inline(always)]
    pub(super) fn unpack(&self, start: usize, len: usize) -> Unpacked {
        let mut w = Unpacked::default();
        quant::unpack(self.dtype, self.data, self.scales, start, len, &mut w);
        w
    }
}

/// `sums[s] = sum_i w[16 s + i] x[16 s + i]`: the only thing in which levels without tiles differ.
pub(super) trait Products: Copy {
    fn sums(self, w: &[i8; CHUNK], x: &[i8; CHUNK], sums: &mut Sums);
}

/// The specification itself.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

impl Products for Scalar {
    #[inline(always)]
    fn sums(self, w: &[i8; CHUNK], x: &[i8; CHUNK], sums: &mut Sums) {
        for ((sum, w), x) in sums.0.iter_mut().zip(w.as_chunks::<16>().0).zip(x.as_chunks::<16>().0) {
            *sum = 0;
            for i in 0..16 {
                *sum += i32::from(w[i]) * i32::from(x[i]);
            }
        }
    }
}

/// One chunk of one row against one activation: the specification.
#[inline(always)]
fn row_chunk<P: Products>(products: P, form: Form, w: &Unpacked, x: ChunkX<'_>) -> f32 {
    let mut sums = Sums([0; 16]);
    products.sums(&w.codes, x.codes, &mut sums);
    if form.units {
        let (mut sum, mut offset_sum) = (0, 0);
        for b in 0..16 {
            sum += w.scales[b] as i32 * i32::from(x.of.multiples[b]) * sums.0[b];
            offset_sum += w.offsets[b] as i32 * i32::from(x.of.multiple_sums[b]);
        }
        let chunk = (w.units[0] * x.of.unit) * sum as f32;
        return if form.offset { chunk + (w.units[1] * x.of.unit) * offset_sum as f32 } else { chunk };
    }
    let mut p = [0.0; 8];
    for (b, p) in p.iter_mut().enumerate() {
        let sum = sums.0[2 * b] + sums.0[2 * b + 1];
        let x_scale = x.of.scales[b];
        *p = (w.scales[2 * b] * x_scale) * sum as f32;
        if form.offset {
            let x_sum = i32::from(x.of.sums[2 * b]) + i32::from(x.of.sums[2 * b + 1]);
            *p += w.offsets[2 * b] * (x_scale * x_sum as f32);
        }
    }
    let mut width = p.len();
    while width > 1 {
        width /= 2;
        for i in 0..width {
            p[i] = p[2 * i] + p[2 * i + 1];
        }
    }
    p[0]
}

impl<P: Products> Isa for P {
    type Tile = Tile;
    const TILE: Tile = Tile::ZERO;

    #[inline(always)]
    fn few<const T: usize>(self, work: &Work<'_>, x: &[RowX<'_>; T], columns: &mut Columns<'_>) {
        let (form, cols) = (Form::of(work.weights.dtype()), work.weights.cols());
        for i in (0..columns.width()).step_by(SIDE_BY_SIDE) {
            let rows = work.rows(i, columns.width());
            let mut out = [[0.0; SIDE_BY_SIDE]; T];
            for chunk in 0..cols.div_ceil(CHUNK) {
                let start = chunk * CHUNK;
                let Some(x) = chunks(x, chunk) else { continue };
                for (r, row) in rows.iter().enumerate() {
                    let w = row.unpack(start, CHUNK.min(cols - start));
                    for t in 0..T {
                        out[t][r] += row_chunk(self, form, &w, x[t]);
                    }
                }
            }
            work.put(i, &out, columns);
        }
    }

    #[inline(always)]
    fn place(self, r: usize, row: Row<'_>, (start, len): (usize, usize), placed: &mut Placed) {
        let w = row.unpack(start, len);
        placed.codes[r] = w.codes;
        placed.scales[r] = bytemuck::cast(w.scales);
        placed.offsets[r] = bytemuck::cast(w.offsets);
        (placed.units[0][r], placed.units[1][r]) = (w.units[0], w.units[1]);
    }

    #[inline(always)]
    fn seal(self, placed: &Placed, tile: &mut Tile) {
        let Placed { codes, scales, offsets, units } = *placed;
        *tile = Tile { codes: bytemuck::cast(codes), scales, offsets, units };
    }

    #[inline(always)]
    fn tiles(self, form: Form, tiles: &[Tile], chunk: usize, x: &[RowX<'_>], out: &mut [Outputs], _: Ahead<'_>) {
        for (tile, out) in tiles.iter().zip(out) {
            for (r, codes) in bytemuck::cast_ref::<_, [[i8; CHUNK]; ROWS]>(&tile.codes).iter().enumerate() {
                let w = Unpacked {
                    codes: *codes,
                    scales: bytemuck::cast(tile.scales[r]),
                    offsets: bytemuck::cast(tile.offsets[r]),
                    units: [tile.units[0][r], tile.units[1][r]],
                };
                for (x, out) in x.iter().zip(&mut *out) {
                    if let Some(x) = x.chunk(chunk) {
                        out[r] += row_chunk(self, form, &w, x);
                    }
                }
            }
        }
    }
}

/// Rows `first..` of `weights` (of an integer type), as many as `columns` is wide, times `count` activations;
/// `x(t)` is the t-th.
pub fn matmul<'x>(
    level: Level,
    weights: &Matrix<'_>,
    first: usize,
    x: &dyn Fn(usize) -> Q8Row<'x>,
    count: usize,
    columns: &mut Columns<'_>,
) {
    if count <= 2 {
        // They need no room for many, which takes its time to clear.
        if count > 0 {
            let rows = [RowX::new(&x(0)), RowX::new(&x(count - 1))];
            run(level, &Work { weights: *weights, first, x: &rows[..count], start: 0 }, columns);
        }
        return;
    }
    for start in (0..count).step_by(BATCH) {
        let n = BATCH.min(count - start);
        let mut rows = [RowX::EMPTY; BATCH];
        for (t, row) in rows[..n].iter_mut().enumerate() {
            *row = RowX::new(&x(start + t));
        }
        run(level, &Work { weights: *weights, first, x: &rows[..n], start }, columns);
    }
}

/// One batch by the level's kernels.
fn run(level: Level, work: &Work<'_>, columns: &mut Columns<'_>) {
    match level.kind() {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => super::x86_64::avx512::block(level, work, columns),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => super::x86_64::avx2::block(level, work, columns),
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => super::aarch64::neon(work, columns),
        #[cfg(target_arch = "aarch64")]
        Kind::NeonDot => super::aarch64::neon_dot(work, columns),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Kind::Simd128 => super::wasm32::simd128(work, columns),
        #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
        Kind::RelaxedSimd => super::wasm32::relaxed_simd(work, columns),
        #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
        Kind::RelaxedSimd16 => super::wasm32::relaxed_simd_16(work, columns),
        _ => block(Scalar, work, columns),
    }
}

/// A block of rows against a batch of activations.
pub(super) struct Work<'a> {
    pub(super) weights: Matrix<'a>,
    /// The first row.
    pub(super) first: usize,
    pub(super) x: &'a [RowX<'a>],
    /// Where the batch's outputs start among the columns' rows.
    pub(super) start: usize,
}

impl<'a> Work<'a> {
    /// Row `i` of those to be computed.
    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> Row<'a> {
        Row::new(&self.weights, self.first + i)
    }

    /// Rows `i..i + 4` of the `width` to be computed; past the last one, that row again.
    #[inline(always)]
    pub(super) fn rows(&self, i: usize, width: usize) -> [Row<'a>; SIDE_BY_SIDE] {
        let mut rows = [Row { dtype: self.weights.dtype(), data: &[], scales: &[] }; SIDE_BY_SIDE];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = self.row((i + r).min(width - 1));
        }
        rows
    }

    /// Writes the outputs of these rows.
    #[inline(always)]
    pub(super) fn put<const T: usize>(&self, i: usize, out: &[[f32; SIDE_BY_SIDE]; T], columns: &mut Columns<'_>) {
        for (t, out) in out.iter().enumerate() {
            put(&mut columns.row(self.start + t)[i..], out);
        }
    }
}

/// Computes the columns, whose width is the number of rows.
#[inline(always)]
pub(super) fn block<I: Isa>(isa: I, work: &Work<'_>, columns: &mut Columns<'_>) {
    let Work { weights, first, x, start } = *work;
    let (dtype, cols) = (weights.dtype(), weights.cols());
    let form = Form::of(dtype);
    let chunks = cols.div_ceil(CHUNK);
    let len = |chunk: usize| CHUNK.min(cols - chunk * CHUNK);
    match *x {
        [x] => return isa.few(work, &[x], columns),
        [x, y] => return isa.few(work, &[x, y], columns),
        _ => {}
    }
    let mut placed = Placed::ZERO;
    let mut tiles = [I::TILE; TILES];
    let mut out = [[[0.0; ROWS]; BATCH]; TILES];
    // Plain loops: adapters are compiled apart from the level's instructions where a host has no link-time optimization.
    let width = columns.width();
    for i in (0..width).step_by(TILES * ROWS) {
        let n = (width - i).min(TILES * ROWS);
        let used = n.div_ceil(ROWS);
        for out in &mut out[..used] {
            out[..x.len()].fill([0.0; ROWS]);
        }
        for chunk in 0..chunks {
            for r in 0..n {
                isa.place(r % ROWS, Row::new(&weights, first + i + r), (chunk * CHUNK, len(chunk)), &mut placed);
                if r % ROWS == ROWS - 1 || r == n - 1 {
                    isa.seal(&placed, &mut tiles[r / ROWS]);
                }
            }
            let (row, next) = if chunk + 1 < chunks { (i, chunk + 1) } else { (i + TILES * ROWS, 0) };
            let ahead = Ahead::new(&weights, first + row, next);
            isa.tiles(form, &tiles[..used], chunk, x, &mut out[..used], ahead);
        }
        for t in 0..x.len() {
            let columns = columns.row(start + t);
            for (tile, out) in out[..used].iter().enumerate() {
                put(&mut columns[i + tile * ROWS..], &out[t]);
            }
        }
    }
}

/// Writes as many outputs as there are columns; most often all, at a length known to the compiler.
#[inline(always)]
fn put<const N: usize>(columns: &mut [f32], out: &[f32; N]) {
    match columns.first_chunk_mut() {
        Some(columns) => *columns = *out,
        None => put_some(columns, out),
    }
}

/// Apart, or both cases become one copy of some length.
#[cold]
#[inline(never)]
fn put_some(columns: &mut [f32], out: &[f32]) {
    columns.copy_from_slice(&out[..columns.len()]);
}

/// Chunk `chunk` of each row; `None` past the rows' end, which no caller reaches.
#[inline(always)]
pub(super) fn chunks<'a, const T: usize>(x: &[RowX<'a>; T], chunk: usize) -> Option<[ChunkX<'a>; T]> {
    let mut chunks = [x.first()?.chunk(chunk)?; T];
    for t in 1..T {
        chunks[t] = x[t].chunk(chunk)?;
    }
    Some(chunks)
}
