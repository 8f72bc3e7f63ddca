//! Borrowed views of tensors: checked once when made, at any alignment, decoded where they lie.

use crate::dtype::DType;
use crate::quant;

/// A matrix [rows, cols] of any type, row-major, whole blocks a row. After [`Matrix::new`] no accessor can fail for
/// indices below `rows`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    dtype: DType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    /// `rows * row_bytes` bytes.
    data: &'a [u8],
    /// E8M0 scales of the official types (FP8: [ceil(rows/128), ceil(cols/128)], FP4: [rows, cols/32]); else empty.
    scales: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// No rows and no columns.
    pub const EMPTY: Self = Self { dtype: DType::F32, rows: 0, cols: 0, row_bytes: 0, data: &[], scales: &[] };

    /// A view of `data` (and `scales`, for FP8 and FP4), or `None` unless their lengths are exactly the shape's.
    pub fn new(dtype: DType, rows: usize, cols: usize, data: &'a [u8], scales: &'a [u8]) -> Option<Self> {
        let row_bytes = usize::try_from(dtype.row_bytes(cols as u64)?).ok()?;
        let scale_count = match dtype {
            DType::F8_E4M3 => rows.div_ceil(128).checked_mul(cols.div_ceil(128))?,
            DType::FP4_E2M1 if !cols.is_multiple_of(32) => return None,
            DType::FP4_E2M1 => rows.checked_mul(cols / 32)?,
            _ => 0,
        };
        let fits = rows.checked_mul(row_bytes)? == data.len() && scale_count == scales.len();
        fits.then_some(Self { dtype, rows, cols, row_bytes, data, scales })
    }

    /// Element type.
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of rows (outputs of `y = W.x`).
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (inputs).
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes that the matrix occupies, scales included.
    pub const fn bytes(&self) -> usize {
        self.data.len() + self.scales.len()
    }

    /// The stored bytes of row `row`.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &'a [u8] {
        self.rows_bytes(row, 1)
    }

    /// The stored bytes of rows `start..start + count`.
    #[inline(always)]
    pub fn rows_bytes(&self, start: usize, count: usize) -> &'a [u8] {
        &self.data[start * self.row_bytes..][..count * self.row_bytes]
    }

    /// Row `row` where it lies, if it is F32, stored in this machine's byte order, and aligned.
    #[inline(always)]
    pub fn as_f32(&self, row: usize) -> Option<&'a [f32]> {
        let plain = self.dtype == DType::F32 && cfg!(target_endian = "little");
        if plain { bytemuck::try_cast_slice(self.row(row)).ok() } else { None }
    }

    /// The E8M0 scales that serve row `row` (of its tile row for FP8); empty for GGML's types.
    #[inline(always)]
    pub fn row_scales(&self, row: usize) -> &'a [u8] {
        match self.dtype {
            DType::F8_E4M3 => {
                let n = self.cols.div_ceil(128);
                &self.scales[row / 128 * n..][..n]
            }
            DType::FP4_E2M1 => {
                let n = self.cols / 32;
                &self.scales[row * n..][..n]
            }
            _ => &[],
        }
    }

    /// Rows `start..start + count` as a matrix of their own. FP8's `start` must be a multiple of 128.
    pub fn slice_rows(&self, start: usize, count: usize) -> Self {
        let scales = match self.dtype {
            DType::F8_E4M3 => {
                debug_assert!(start.is_multiple_of(128));
                let n = self.cols.div_ceil(128);
                &self.scales[start / 128 * n..(start + count).div_ceil(128) * n]
            }
            DType::FP4_E2M1 => &self.scales[start * (self.cols / 32)..][..count * (self.cols / 32)],
            _ => &[],
        };
        Self { rows: count, data: self.rows_bytes(start, count), scales, ..*self }
    }

    /// Decodes row `row`, columns `start..start + out.len()`, to f32. `start` must be a multiple of the type's block
    /// and `out` whole blocks.
    #[inline(always)]
    pub fn decode(&self, row: usize, start: usize, out: &mut [f32]) {
        quant::decode(self.dtype, self.row(row), self.row_scales(row), start, out);
    }

    /// One value in f32: decodes the block around it.
    pub fn value(&self, row: usize, col: usize) -> f32 {
        let (len, _) = self.dtype.block();
        let mut block = [0.0; 256];
        self.decode(row, col / len * len, &mut block[..len]);
        block[col % len]
    }
}

/// Expert matrices [experts, rows, cols]: expert `e` is one [`Matrix`].
#[derive(Clone, Copy, Debug)]
pub struct Experts<'a> {
    /// All of them, stacked: [experts * rows, cols].
    stacked: Matrix<'a>,
    rows: usize,
}

impl<'a> Experts<'a> {
    /// None at all.
    pub const EMPTY: Self = Self { stacked: Matrix::EMPTY, rows: 1 };

    /// Storage type.
    pub const fn dtype(&self) -> DType {
        self.stacked.dtype()
    }

    /// Cuts `stacked` into experts of `rows` rows; `None` unless they come out even.
    pub fn new(stacked: Matrix<'a>, rows: usize) -> Option<Self> {
        (rows > 0 && stacked.rows().is_multiple_of(rows)).then_some(Self { stacked, rows })
    }

    /// Number of experts.
    pub const fn count(&self) -> usize {
        self.stacked.rows() / self.rows
    }

    /// Expert `e`'s matrix [rows, cols].
    pub fn expert(&self, e: usize) -> Matrix<'a> {
        self.stacked.slice_rows(e * self.rows, self.rows)
    }

    /// All of them as one matrix [experts * rows, cols].
    pub const fn stacked(&self) -> Matrix<'a> {
        self.stacked
    }
}

/// A table of 32-bit integers [rows, cols] (the hash routing table).
#[derive(Clone, Copy, Debug)]
pub struct IntTable<'a> {
    cols: usize,
    data: &'a [u8],
}

impl<'a> IntTable<'a> {
    /// No rows and no columns.
    pub const EMPTY: Self = Self { cols: 0, data: &[] };

    /// A view, or `None` unless `data` is exactly rows * cols little-endian `i32`.
    pub fn new(rows: usize, cols: usize, data: &'a [u8]) -> Option<Self> {
        (rows.checked_mul(cols)?.checked_mul(4)? == data.len()).then_some(Self { cols, data })
    }

    /// The value at (row, col).
    pub fn get(&self, row: usize, col: usize) -> i32 {
        let at = (row * self.cols + col) * 4;
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.data[at..at + 4]);
        i32::from_le_bytes(bytes)
    }
}
