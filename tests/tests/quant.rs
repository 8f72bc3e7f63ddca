//! The storage formats against the values that PyPI `gguf` and torch give (tests/reference/quant_fixtures.py), bit for
//! bit; against candle on any bytes; and against themselves.

use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use dsv4_core::dtype::{ALL, DType};
use dsv4_core::quant::{self, Unpacked, e8m0, fp8::e4m3};
use dsv4_core::tensor::Matrix;
use proptest::prelude::*;
use std::path::Path;

/// A fixture: its u32 header numbers, then its bytes.
fn fixture<const N: usize>(name: &str) -> ([usize; N], Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/quant").join(name.to_lowercase() + ".bin");
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let header = std::array::from_fn(|i| u32::from_le_bytes(bytes[i * 4..][..4].try_into().unwrap()) as usize);
    (header, bytes[N * 4..].to_vec())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The same value: the same bits, or both NaN.
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

#[track_caller]
fn assert_same(what: impl std::fmt::Debug, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what:?}");
    let differs = got.iter().zip(want).position(|(g, w)| !same(*g, *w));
    if let Some(i) = differs {
        panic!("{what:?}: value {i} is {:e}, not {:e}", got[i], want[i]);
    }
}

/// A row of `dtype` in f32, from its bytes and scales.
fn decode(dtype: DType, row: &[u8], scales: &[u8]) -> Vec<f32> {
    let (elements, bytes) = dtype.block();
    let mut out = vec![0.0; row.len() / bytes * elements];
    quant::decode(dtype, row, scales, 0, &mut out);
    out
}

/// The types that carry their scales within their blocks, or need none.
fn self_contained() -> impl Iterator<Item = DType> {
    ALL.into_iter().filter(|t| !matches!(t, DType::F8_E4M3 | DType::FP4_E2M1))
}

#[test]
fn every_type_equals_gguf_bit_for_bit() {
    for dtype in self_contained().filter(|t| !matches!(t, DType::F32 | DType::I32)) {
        let ([count], bytes) = fixture(dtype.name());
        let (blocks, values) = bytes.split_at(count * dtype.block().1);
        assert_same(dtype, &decode(dtype, blocks, &[]), &floats(values));
    }
}

#[test]
fn official_types_equal_torch_bit_for_bit() {
    for (name, dtype) in [("fp8_tiles", DType::F8_E4M3), ("fp4_rows", DType::FP4_E2M1)] {
        let ([rows, cols], bytes) = fixture(name);
        let (data, rest) = bytes.split_at(rows * dtype.row_bytes(cols as u64).unwrap() as usize);
        let (scales, values) = rest.split_at(rest.len() - rows * cols * 4);
        let matrix = Matrix::new(dtype, rows, cols, data, scales).unwrap();
        let mut row = vec![0.0; cols];
        for (r, want) in floats(values).chunks(cols).enumerate() {
            matrix.decode(r, 0, &mut row);
            assert_same((dtype, r), &row, want);
        }
    }
}

#[test]
fn plain_types_are_read_as_they_are() {
    let values = [0.0f32, -0.0, 1.5, f32::MIN_POSITIVE / 4.0, f32::INFINITY, f32::NAN];
    assert_same("f32", &decode(DType::F32, &values.map(f32::to_le_bytes).concat(), &[]), &values);
    let values = [0i32, -1, 7, 1 << 24, i32::MIN];
    assert_same("i32", &decode(DType::I32, &values.map(i32::to_le_bytes).concat(), &[]), &values.map(|v| v as f32));
}

#[test]
fn f16_follows_its_definition() {
    for bits in 0..=u16::MAX {
        let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3FF) / 1024.0);
        let magnitude = match (exponent, bits & 0x3FF) {
            (31, 0) => f64::INFINITY,
            (31, _) => f64::NAN,
            (0, _) => mantissa * 2f64.powi(-14),
            _ => (1.0 + mantissa) * 2f64.powi(exponent - 15),
        };
        let want = if bits >> 15 == 0 { magnitude } else { -magnitude };
        assert_same(bits, &decode(DType::F16, &bits.to_le_bytes(), &[]), &[want as f32]);
    }
}

#[test]
fn e8m0_is_a_power_of_two() {
    for byte in 0..255 {
        assert_eq!(f64::from(e8m0(byte)), (f64::from(byte) - 127.0).exp2(), "{byte}");
    }
    assert!(e8m0(255).is_nan());
}

#[test]
fn e4m3_follows_its_definition() {
    for code in 0..=255u8 {
        let (exponent, mantissa) = (i32::from(code >> 3 & 15), f64::from(code & 7) / 8.0);
        let magnitude = match (exponent, code & 7) {
            (15, 7) => f64::NAN,
            (0, _) => mantissa * 2f64.powi(-6),
            _ => (1.0 + mantissa) * 2f64.powi(exponent - 7),
        };
        let want = if code < 128 { magnitude } else { -magnitude };
        assert!(same(e4m3(code), want as f32), "{code:#x}: {} {want}", e4m3(code));
    }
}

/// Bytes that no quantizer writes: all NaN, all zero, infinite scales. Nothing panics, whatever comes out.
#[test]
fn no_bytes_panic() {
    for dtype in ALL {
        for byte in 0..=255 {
            let row = vec![byte; 256 / dtype.block().0 * dtype.block().1];
            let scales = [byte; 8];
            let all = decode(dtype, &row, &scales);
            assert_eq!(all.len(), 256);
            let mut unpacked = Unpacked::default();
            assert_eq!(quant::unpack(dtype, &row, &scales, 0, 256, &mut unpacked), quant::is_integer(dtype));
        }
    }
    let nan_scale = [[0x00, 0x7E], [0xFF; 2]].concat(); // the f16 scale and 2 bytes of codes
    assert!(decode(DType::Q8_0, &[&nan_scale[..], &[1; 30]].concat(), &[]).iter().all(|v| v.is_nan()));
    assert!(decode(DType::MXFP4, &[255; 17], &[]).iter().all(|v| v.is_nan()));
    assert!(decode(DType::FP4_E2M1, &[0; 16], &[255]).iter().all(|v| v.is_nan()));
}

const CANDLE: [(DType, GgmlDType); 10] = [
    (DType::Q4_0, GgmlDType::Q4_0),
    (DType::Q4_1, GgmlDType::Q4_1),
    (DType::Q5_0, GgmlDType::Q5_0),
    (DType::Q5_1, GgmlDType::Q5_1),
    (DType::Q8_0, GgmlDType::Q8_0),
    (DType::Q2_K, GgmlDType::Q2K),
    (DType::Q3_K, GgmlDType::Q3K),
    (DType::Q4_K, GgmlDType::Q4K),
    (DType::Q5_K, GgmlDType::Q5K),
    (DType::Q6_K, GgmlDType::Q6K),
];

/// A row of 512 weights of any type from any bytes, with as many scales as any type could want.
fn any_row() -> impl Strategy<Value = (DType, Vec<u8>, Vec<u8>)> {
    proptest::sample::select(ALL.as_slice()).prop_flat_map(|dtype| {
        let (elements, bytes) = dtype.block();
        let row = proptest::collection::vec(any::<u8>(), 512 / elements * bytes);
        (Just(dtype), row, proptest::collection::vec(any::<u8>(), 16))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// candle computes the same products and differences in the same order, so the bits are the same.
    #[test]
    fn equals_candle(
        (dtype, theirs, bytes) in proptest::sample::select(CANDLE.as_slice()).prop_flat_map(|(dtype, theirs)| {
            let len = 256 / dtype.block().0 * dtype.block().1;
            (Just(dtype), Just(theirs), proptest::collection::vec(any::<u8>(), len))
        })
    ) {
        let tensor = qtensor_from_ggml(theirs, &bytes, vec![256], &Device::Cpu).unwrap();
        let want: Vec<f32> = tensor.dequantize(&Device::Cpu).unwrap().to_vec1().unwrap();
        assert_same(dtype, &decode(dtype, &bytes, &[]), &want);
    }

    /// The integer form says what `decode` says (integers know no minus zero).
    #[test]
    fn integer_form_gives_the_values((dtype, row, scales) in any_row()) {
        let values = decode(dtype, &row, &scales);
        let step = quant::sub_block(dtype);
        let mut unpacked = Unpacked::default();
        for start in [0, 256] {
            if !quant::unpack(dtype, &row, &scales, start, 256, &mut unpacked) {
                prop_assert!(!quant::is_integer(dtype));
                continue;
            }
            for i in 0..256 {
                let (scale, offset) = (unpacked.scales[i / 16], unpacked.offsets[i / 16]);
                let [unit, offset_unit] = unpacked.units;
                let value = unit * scale * f32::from(unpacked.codes[i]) + offset_unit * offset;
                let want = values[start + i];
                prop_assert!(value == want || value.is_nan() && want.is_nan(), "{dtype:?} {i}: {value} {want}");
                let first = i / step * step / 16;
                prop_assert!(same(scale, unpacked.scales[first]) && same(offset, unpacked.offsets[first]), "{dtype:?}");
                prop_assert!(quant::has_offset(dtype) || offset.to_bits() == 0);
                let integers = (-128.0..=127.0).contains(&scale) && (0.0..=63.0).contains(&offset) && scale.fract() == 0.0;
                prop_assert!(if quant::has_units(dtype) { integers } else { unpacked.units == [1.0; 2] }, "{dtype:?}");
            }
        }
    }

    /// Any piece of whole blocks is that piece of the whole.
    #[test]
    fn pieces_equal_the_whole((dtype, row, scales) in any_row(), a in 0..=512usize, b in 0..=512usize) {
        let whole = decode(dtype, &row, &scales);
        let block = dtype.block().0;
        let (start, end) = (a.min(b) / block * block, a.max(b) / block * block);
        let mut piece = vec![0.0; end - start];
        quant::decode(dtype, &row, &scales, start, &mut piece);
        assert_same((dtype, start, end), &piece, &whole[start..end]);

        // The integer form of a piece: the same codes and scales from its first place on.
        let block = block.max(32);
        let (start, len) = (a.min(480) / block * block, (b % 8 * 32 + 32) / block * block);
        let len = len.max(block).min(512 - start);
        let (mut part, mut full) = (Unpacked::default(), Unpacked::default());
        if quant::unpack(dtype, &row, &scales, start, len, &mut part) {
            quant::unpack(dtype, &row, &scales, start / 256 * 256, 256, &mut full);
            let at = start % 256;
            let shared = len.min(256 - at);
            prop_assert_eq!(&part.codes[..shared], &full.codes[at..at + shared]);
            assert_same(dtype, &part.scales[..shared / 16], &full.scales[at / 16..][..shared / 16]);
            assert_same(dtype, &part.units, &full.units);
            assert_same(dtype, &part.offsets[..shared / 16], &full.offsets[at / 16..][..shared / 16]);
        }
    }
}
