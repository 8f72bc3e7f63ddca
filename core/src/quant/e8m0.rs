//! E8M0: a scale that is a power of two, in one byte. The official FP8 and FP4 tensors keep theirs in tensors of their
//! own, one for a run of columns.

/// `2^(byte - 127)`; 0 is 2^-127, which is subnormal in f32 but exact; 255 is NaN.
#[inline(always)]
pub const fn e8m0(byte: u8) -> f32 {
    match byte {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        exponent => f32::from_bits((exponent as u32) << 23),
    }
}

/// Cuts the columns `start..start + out.len()` where the scale changes, after every `run` columns, and calls
/// `decode(first column, scale, its part of out)` for each piece.
pub(super) fn for_each_run(
    run: usize,
    scales: &[u8],
    start: usize,
    mut out: &mut [f32],
    decode: impl Fn(usize, f32, &mut [f32]),
) {
    let mut column = start;
    while !out.is_empty() {
        let len = out.len().min(run - column % run);
        let (piece, rest) = out.split_at_mut(len);
        decode(column, e8m0(scales[column / run]), piece);
        out = rest;
        column += len;
    }
}
