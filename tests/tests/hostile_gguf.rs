//! GGUF files that lie, each case refused with the error that names it: without a panic, without a loop over a claimed
//! count, in time linear in the bytes. The numbers are those of "Bytes that will come" in the notes on pitfalls.

use dsv4_core::config::{Config, MAX_LAYERS};
use dsv4_core::error::{Error, Result};
use dsv4_core::format::gguf::Gguf;
use dsv4_core::model::Model;
use dsv4_core::tensor::Matrix;
use dsv4_core::weights::Choice;
use dsv4_tests::gguf_writer::{GgufWriter, Tensor, Value, kind, string};
use dsv4_tests::memory::Memory;
use dsv4_tests::synthetic::Sizes;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn tiny() -> GgufWriter {
    Sizes::tiny().writer(1)
}

/// Opens a file as a user would, and looks at everything in it.
fn open(files: &[&[u8]]) -> Result<()> {
    let mut memory = Memory::new(Model::plan(files)?);
    let model = Model::load(files, memory.as_mut(), &mut |_| true)?;
    look(files, &model);
    Ok(())
}

/// Walks all that a loaded model shows: nothing panics, and every view lies within one of the files.
fn look(files: &[&[u8]], model: &Model<'_>) {
    for (_, value) in model.metadata() {
        if let Some(array) = value.as_array() {
            assert_eq!(array.values().count() as u64, array.len());
        }
    }
    for tensor in model.tensors() {
        assert!(!tensor.dims().is_empty() && tensor.elements() > 0);
        let _ = tensor.bytes();
    }
    let _ = model.header().tokenizer();
    let inside = |view: &Matrix<'_>| {
        assert!(view.rows() > 0 && view.cols() > 0);
        let (first, last) = (view.row(0), view.row(view.rows() - 1));
        let (start, end) = (first.as_ptr().addr(), last.as_ptr().addr() + last.len());
        let within = |file: &&[u8]| file.as_ptr().addr() <= start && end <= file.as_ptr().addr() + file.len();
        assert!(files.iter().any(within));
    };
    let head = model.weights().head();
    [head.token_embd, head.output, head.output_norm, head.hyper.fn_, head.hyper.base].iter().for_each(inside);
    let config = model.config();
    for i in 0..config.layers {
        let layer = model.weights().layer(i);
        let (attention, moe) = (&layer.attention, &layer.moe);
        [attention.q_a, attention.q_b, attention.kv, attention.output_a, attention.output_b, attention.sinks]
            .iter()
            .for_each(inside);
        [moe.router, moe.gate.expert(config.experts - 1), moe.up.stacked(), moe.down.stacked()].iter().for_each(inside);
        for compressor in layer.compressor.iter().chain(layer.indexer.as_ref().map(|x| &x.compressor)) {
            [compressor.kv, compressor.gate, compressor.ape, compressor.norm].iter().for_each(inside);
        }
        match moe.choice {
            // Any number may stand in the table; the router checks it when it is used.
            Choice::Hash(table) => _ = table.get(config.vocab - 1, config.experts_used - 1),
            Choice::Score(bias) => inside(&bias),
        }
    }
    assert!(model.rope_compress().iter().chain(model.rope_window()).all(|f| f.is_finite()));
}

fn open_one(writer: &GgufWriter) -> Result<()> {
    open(&[&writer.build()])
}

/// The error that a change to the tiny model gives.
fn after(change: impl FnOnce(&mut GgufWriter)) -> Error {
    let mut w = tiny();
    change(&mut w);
    open_one(&w).unwrap_err()
}

fn bad_value(key: &str) -> Error {
    Error::BadValue { key: key.into() }
}

/// What `body` takes must not grow faster than the input. All inputs here are a few megabytes and take some ten
/// milliseconds; a quadratic walk would take minutes. The limit leaves room for a machine that is busy otherwise.
fn quickly<T>(body: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = body();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    result
}

#[test]
fn case_1_every_truncation() {
    for len in 0..=32 {
        for byte in [0, b'G', 0xff] {
            assert!(Gguf::parse(&vec![byte; len]).is_err());
        }
    }
    let whole = tiny().build();
    assert_eq!(open(&[&whole]), Ok(()));
    let header = tiny().build_parts().0.len();
    for len in 0..whole.len() {
        match open(&[&whole[..len]]) {
            Err(Error::Truncated { at }) => assert!(len < header && at <= len as u64),
            Err(Error::BadOffset { .. }) => assert!(len >= header - 32),
            // The last tensor's padding is no part of it.
            Ok(()) => assert!(len + 32 > whole.len()),
            other => panic!("{len}: {other:?}"),
        }
    }
}

#[test]
fn case_2_magic_and_version() {
    let mut bytes = tiny().build();
    for version in [0_u32, 1, 4, 3_u32.swap_bytes(), 2_u32.swap_bytes(), u32::MAX] {
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        assert_eq!(open(&[&bytes]), Err(Error::UnsupportedVersion { version }));
    }
    for magic in [b"FUGG", b"ggml", b"gguf", b"PK\x03\x04", b"\0\0\0\0"] {
        bytes[..4].copy_from_slice(magic);
        assert_eq!(open(&[&bytes]), Err(Error::NotGguf));
    }
}

#[test]
fn case_3_counts() {
    for count in [1 << 63, u64::MAX, 1 << 33] {
        assert_eq!(after(|w| w.key_count = Some(count)), Error::BadCount { at: 16, count });
        assert_eq!(after(|w| w.tensor_count = Some(count)), Error::BadCount { at: 8, count });
        let array = |w: &mut GgufWriter| w.keys.insert(0, (b"a".into(), Value::raw_array(kind::U8, count, &[0; 8])));
        assert_eq!(after(array), Error::BadCount { at: 41, count });
    }
    for count in [500_000_000, 1 << 32] {
        assert!(matches!(quickly(|| after(|w| w.key_count = Some(count))), Error::Truncated { .. }));
        assert!(matches!(quickly(|| after(|w| w.tensor_count = Some(count))), Error::Truncated { .. }));
        for element in 0..=12 {
            let array = |w: &mut GgufWriter| _ = w.key("a", Value::raw_array(element, count, &[0; 64]));
            assert!(matches!(quickly(|| after(array)), Error::Truncated { .. }));
        }
    }
}

#[test]
fn case_4_strings() {
    for len in [u64::MAX, 1 << 63, 1 << 32, 1 << 20] {
        let value = |w: &mut GgufWriter| _ = w.key("s", Value::raw(kind::STRING, len.to_le_bytes()));
        assert!(matches!(after(value), Error::Truncated { .. }));
    }
    let mut w = GgufWriter { alignment: 1, ..GgufWriter::default() };
    w.key("s", "text");
    let mut bytes = w.build();
    let at = bytes.len() - 12;
    bytes[at] = 5;
    assert_eq!(Gguf::parse(&bytes).err(), Some(Error::Truncated { at: at as u64 + 8 }), "one past the end");
    bytes[at] = 3;
    assert!(Gguf::parse(&bytes).is_ok());

    let long = vec![b'k'; 65536];
    for key in [&b""[..], b"\xff", b"a\0b", b"\xed\xa0\x80", &long] {
        assert_eq!(after(|w| w.keys.insert(0, (key.into(), 1_u8.into()))), Error::BadName { at: 24 });
        let name = |w: &mut GgufWriter| w.tensor_mut("output_norm.weight").name = key.into();
        assert!(matches!(after(name), Error::BadName { .. }));
    }
    let mut w = tiny();
    w.keys.push((long[..65535].into(), 1_u8.into()));
    assert_eq!(open_one(&w), Ok(()));
    // A string value is any bytes: whoever uses it as text looks.
    w.key("bytes", Value::raw(kind::STRING, string(b"\xff\0")));
    assert_eq!(open_one(&w), Ok(()));
    w.set("general.architecture", Value::raw(kind::STRING, string(b"deepseek4\xff")));
    assert!(matches!(open_one(&w), Err(Error::UnsupportedArchitecture { .. })));
}

#[test]
fn case_5_types_and_arrays() {
    for kind in [13, 14, 255, 1 << 31, u32::MAX] {
        assert_eq!(after(|w| _ = w.key("k", Value::raw(kind, [0; 8]))), Error::BadValueType { key: "k".into() });
        let array = |w: &mut GgufWriter| _ = w.key("k", Value::raw_array(kind, 0, &[]));
        assert_eq!(after(array), Error::BadValueType { key: "k".into() });
    }
    assert_eq!(after(|w| _ = w.key("k", Value::raw(kind::BOOL, [2]))), bad_value("k"));
    // Lengths whose product with the element's size wraps to something small.
    for (element, len) in [(kind::U64, 1 << 61), (kind::U32, 1 << 62), (kind::STRING, 1 << 61), (kind::ARRAY, u64::MAX)]
    {
        let array = |w: &mut GgufWriter| _ = w.key("k", Value::raw_array(element, len, &[0; 64]));
        assert!(matches!(after(array), Error::BadCount { .. }));
    }

    let nested = |depth: usize| {
        let level = [&kind::ARRAY.to_le_bytes()[..], &1_u64.to_le_bytes()].concat();
        let mut bytes = level.repeat(depth - 1);
        bytes.extend(kind::U8.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        Value::raw(kind::ARRAY, bytes)
    };
    for depth in 1..=9 {
        assert_eq!(open_one(tiny().key("k", nested(depth))), Ok(()), "{depth}");
    }
    for depth in [10, 11, 1000, 100_000] {
        assert_eq!(quickly(|| after(|w| _ = w.key("k", nested(depth)))), bad_value("k"));
    }
    // Wide rather than deep: 300,000 empty arrays in an array.
    let empty = [&kind::U8.to_le_bytes()[..], &0_u64.to_le_bytes()].concat();
    let wide = Value::raw_array(kind::ARRAY, 300_000, &empty.repeat(300_000));
    assert_eq!(quickly(|| open_one(tiny().key("k", wide))), Ok(()));
}

#[test]
fn case_6_alignment() {
    let key = "general.alignment";
    for alignment in [0_u32, 3, 24, 48, u32::MAX] {
        assert_eq!(after(|w| _ = w.key(key, alignment)), bad_value(key));
    }
    assert!(matches!(after(|w| _ = w.key(key, 1_u32 << 31)), Error::BadOffset { .. }));
    for value in [Value::from(32_u64), 32_u8.into(), 32_i32.into(), "32".into(), 32.0_f32.into()] {
        assert_eq!(after(|w| _ = w.key(key, value)), Error::BadValueType { key: key.into() });
    }
    assert_eq!(after(|w| _ = w.key(key, 32_u32).key(key, 32_u32)), Error::DuplicateKey { key: key.into() });
    // Data laid out by 32 under a claim of 64: whichever of the two it is, no view leaves the file.
    assert!(open_one(tiny().key(key, 64_u32)).is_err());
}

#[test]
fn case_7_duplicates() {
    for (key, value) in tiny().keys {
        let text = String::from_utf8(key.clone()).unwrap();
        let mut w = tiny();
        w.keys.push((key, value));
        let expected =
            if text == "general.name" { Ok(()) } else { Err(Error::DuplicateKey { key: text.as_str().into() }) };
        assert_eq!(open_one(&w), expected);
    }
    for tensor in tiny().tensors {
        let name = String::from_utf8(tensor.name.clone()).unwrap();
        let mut w = tiny();
        w.tensors.push(tensor);
        assert_eq!(open_one(&w), Err(Error::DuplicateTensor { name: name.as_str().into() }));
    }
}

#[test]
fn case_7_time_is_linear() {
    let key = |name: &str| (name.as_bytes().to_vec(), Value::from(1_u8));
    let tensor = |name: &str| Tensor {
        name: name.into(),
        dims: vec![1],
        dtype: 0,
        data: vec![0; 4],
        offset: Some(0),
        rank: None,
    };
    let mut w = tiny();
    w.keys.extend(vec![key("unknown"); 100_000]);
    assert_eq!(quickly(|| open_one(&w)), Ok(()));
    w.keys.extend(vec![key("deepseek4.block_count"); 100_000]);
    assert_eq!(quickly(|| open_one(&w)), Err(Error::DuplicateKey { key: "deepseek4.block_count".into() }));

    let mut w = tiny();
    w.tensors.extend(vec![tensor("blk.0.unknown.weight"); 100_000]);
    w.tensors.extend((0..100_000).map(|i| tensor(&format!("blk.{i}.x"))));
    assert_eq!(quickly(|| open_one(&w)), Ok(()));
    w.tensors.extend(vec![tensor("blk.0.attn_norm.weight"); 100_000]);
    let error = Error::DuplicateTensor { name: "blk.0.attn_norm.weight".into() };
    assert_eq!(quickly(|| open_one(&w)), Err(error));

    let mut w = tiny();
    w.set("deepseek4.attention.compress_ratios", &vec![0_u8; 1 << 22][..]);
    w.set("deepseek4.attention.head_count", &vec![2_u8; 1 << 22][..]);
    assert!(matches!(quickly(|| open_one(&w)), Err(Error::MissingTensor { .. }) | Ok(())));
}

#[test]
fn case_8_dimensions() {
    let name = "blk.1.attn_kv.weight";
    let bad_shape = Error::BadShape { name: name.into() };
    for rank in [0, 5, 6, 1 << 31, u32::MAX] {
        assert_eq!(after(|w| w.tensor_mut(name).rank = Some(rank)), bad_shape);
    }
    let claims: [&[u64]; 14] = [
        &[],
        &[0, 4],
        &[8, 0],
        &[8, 4, 0],
        &[1 << 62, 4],
        &[1 << 40, 1 << 40],
        &[1 << 32, 1 << 32],
        &[u64::MAX, u64::MAX],
        &[1 << 63],
        // Fits 63 bits, but not times four bytes.
        &[1 << 61, 2],
        &[4, 8],
        &[32],
        &[8, 4, 2],
        &[8, 4, 1, 2],
    ];
    for dims in claims {
        assert_eq!(after(|w| w.tensor_mut(name).dims = dims.into()), bad_shape, "{dims:?}");
    }
    let mut w = tiny();
    w.tensor_mut(name).dims = vec![8, 4, 1, 1];
    assert_eq!(open_one(&w), Ok(()), "dimensions of one say nothing");
    // Rows of 8 elements are no whole blocks of 32 or 256.
    for dtype in [2, 8, 12, 39] {
        assert_eq!(after(|w| w.tensor_mut(name).dtype = dtype), bad_shape);
    }
    // A tensor that nobody binds may be as large as it likes, and its size is never guessed.
    let mut w = tiny();
    w.tensor("unknown", 0, &[1 << 62, 1], vec![]);
    assert_eq!(open_one(&w), Ok(()));
}

#[test]
fn case_9_types() {
    let name = "token_embd.weight";
    // Removed (4, 5, 31..=33, 36), of other kinds (24, 25, 27, 28), unknown, huge, and this crate's own numbers.
    for dtype in [4, 5, 9, 15, 24, 25, 27, 28, 31, 32, 33, 36, 40, 41, 999, 1000, 1001, 1 << 31, u32::MAX] {
        let error = Error::BadTensorType { name: name.into(), dtype };
        assert_eq!(after(|w| w.tensor_mut(name).dtype = dtype), error);
    }
    assert_eq!(after(|w| w.tensor_mut(name).dtype = 26), Error::BadTensorType { name: name.into(), dtype: 26 });
    let table = "blk.0.ffn_gate_tid2eid.weight";
    for dtype in [0, 1, 27] {
        assert_eq!(after(|w| w.tensor_mut(table).dtype = dtype), Error::BadTensorType { name: table.into(), dtype });
    }
    let mut w = tiny();
    w.tensor("unknown", 12345, &[3, 5], vec![0; 7]);
    assert_eq!(open_one(&w), Ok(()), "what nobody binds may have any type");
}

#[test]
fn case_10_offsets() {
    let name = "blk.2.attn_q_a.weight";
    let bad = Error::BadOffset { name: name.into() };
    let size = tiny().build().len() as u64;
    for offset in [1, 4, 31, 33, size / 32 * 32, size * 32, 1 << 62, 1 << 63, u64::MAX - 31, u64::MAX] {
        assert_eq!(after(|w| w.tensor_mut(name).offset = Some(offset)), bad, "{offset}");
    }
    // Over another tensor: whichever of the two comes later is named.
    for offset in (0..size / 2).step_by(32) {
        let mut w = tiny();
        w.tensor_mut(name).offset = Some(offset);
        let result = open_one(&w);
        assert!(matches!(result, Err(Error::BadOffset { .. })) || w.build() == tiny().build(), "{offset} {result:?}");
    }
    // All in one place.
    let mut w = tiny();
    w.tensors.iter_mut().for_each(|t| t.offset = Some(0));
    assert!(matches!(open_one(&w), Err(Error::BadOffset { .. })));
    // What nobody binds may lie anywhere.
    let mut w = tiny();
    w.tensor("unknown", 0, &[4], vec![]);
    for offset in [0, 7, u64::MAX] {
        w.tensor_mut("unknown").offset = Some(offset);
        assert_eq!(open_one(&w), Ok(()));
    }
}

#[test]
fn case_11_missing_and_misshaped() {
    for tensor in tiny().tensors {
        let name = String::from_utf8(tensor.name.clone()).unwrap();
        let mut w = tiny();
        w.remove_tensor(&name);
        let missing =
            if name == "output.weight" { Ok(()) } else { Err(Error::MissingTensor { name: name.as_str().into() }) };
        assert_eq!(open_one(&w), missing);

        let bad_shape = Error::BadShape { name: name.as_str().into() };
        for axis in 0..tensor.dims.len() {
            for change in [|n: u64| n + 1, |n| n - 1, |n| n * 2] {
                let wrong = |w: &mut GgufWriter| {
                    let dims = &mut w.tensor_mut(&name).dims;
                    dims[axis] = change(dims[axis]);
                };
                assert_eq!(after(wrong), bad_shape);
            }
        }
    }
    // One layer, one name: zeros before the number, signs and layers past the last are other names.
    for alias in
        ["blk.00.attn_norm.weight", "blk.+0.attn_norm.weight", "blk.3.attn_norm.weight", "blk..attn_norm.weight"]
    {
        let error = after(|w| w.tensor_mut("blk.0.attn_norm.weight").name = alias.into());
        assert_eq!(error, Error::MissingTensor { name: "blk.0.attn_norm.weight".into() });
    }
}

#[test]
fn case_12_sizes() {
    for (key, value) in tiny().keys {
        let key = String::from_utf8(key).unwrap();
        if !key.starts_with("deepseek4.") {
            continue;
        }
        let mut lies = vec![];
        match value.kind {
            kind::U32 => {
                lies.extend([0, 1, 2, 3, 5, 7, 65536, u32::MAX].map(Value::from));
                lies.extend([1 << 32, 1 << 63, u64::MAX].map(Value::from));
                lies.extend([-1_i32, i32::MIN].map(Value::from));
                lies.extend([Value::from("8"), 8.0_f32.into(), true.into()]);
                lies.extend([Value::array(&[]), Value::array(&["x".into()])]);
            }
            kind::F32 => {
                lies.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -1.0, f32::MAX, 1e-45].map(Value::from));
                lies.extend([f64::NAN, 1e300, 1e-300, -0.0].map(Value::from));
                lies.extend([Value::from(1_u32), "1.0".into()]);
            }
            kind::ARRAY => {
                lies.extend([Value::array(&[]), Value::array(&[0_u32.into()]), Value::raw_array(kind::STRING, 0, &[])]);
                for number in [1_u32, 3, 65537, u32::MAX] {
                    lies.push((&[number; 3][..]).into());
                }
                for float in [f32::NAN, 0.0, -1.0, f32::INFINITY] {
                    lies.push((&[1.0, 1.0, float][..]).into());
                }
                lies.extend([Value::from(-1_i32), f32::NAN.into(), "4".into()]);
            }
            kind::BOOL => lies.extend([Value::from(false), 1_u32.into()]),
            _ => lies.extend([Value::from(1_u32), "longrope".into(), "".into()]),
        }
        for lie in lies {
            let mut w = tiny();
            w.set(&key, lie);
            // Some are true enough to load (a context of 1, say); none panics, and what loads is whole.
            let _ = open_one(&w);
        }
        let mut w = tiny();
        w.remove(&key);
        let _ = open_one(&w);
    }
}

#[test]
fn case_12_sizes_that_contradict() {
    let refused = |key: &str, value: Value| {
        let key = format!("deepseek4.{key}");
        assert_eq!(after(|w| _ = w.set(&key, value)), bad_value(&key));
    };
    refused("expert_used_count", 5_u32.into());
    refused("expert_used_count", 0_u32.into());
    refused("rope.dimension_count", 3_u32.into());
    refused("rope.dimension_count", 0_u32.into());
    refused("rope.dimension_count", 6_u32.into());
    refused("attention.output_group_count", 3_u32.into());
    refused("attention.value_length", 8_u32.into());
    refused("attention.head_count_kv", 2_u32.into());
    refused("hash_layer_count", 4_u32.into());
    refused("block_count", 0_u32.into());
    refused("block_count", (MAX_LAYERS as u32 + 1).into());
    refused("attention.compress_ratios", (&[0_u32, 4][..]).into());
    refused("expert_gating_func", 3_u32.into());
    refused("expert_weights_norm", false.into());
    refused("hyper_connection.count", 9_u32.into());
    refused("hyper_connection.sinkhorn_iterations", 0_u32.into());
    refused("nextn_predict_layers", 3_u32.into());
    refused("nextn_predict_layers", 4_u32.into());
}

#[test]
fn case_12_floats() {
    for key in [
        "expert_weights_scale",
        "hyper_connection.epsilon",
        "attention.layer_norm_rms_epsilon",
        "rope.freq_base",
        "attention.compress_rope_freq_base",
        "rope.scaling.factor",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
        "swiglu_clamp_exp",
        "swiglu_clamp_shexp",
    ] {
        let key = format!("deepseek4.{key}");
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e300, 1e-300] {
            let result = open_one(tiny().set(&key, value));
            assert_eq!(result, Err(bad_value(&key)), "{value}");
        }
    }
}

#[test]
fn case_12_other_architectures_by_name() {
    for name in ["deepseek2", "deepseek41", "llama", "deepseek4 ", "", "a\nb"] {
        let error = after(|w| _ = w.set("general.architecture", name));
        assert_eq!(error, Error::UnsupportedArchitecture { name: name.into() });
        assert!(!error.to_string().contains('\n'));
    }
    let key = "general.architecture";
    assert_eq!(after(|w| _ = w.remove(key)), Error::MissingKey { key: key.into() });
}

#[test]
fn case_15_vocabulary_and_embedding() {
    for vocab in [15_u32, 17, 1] {
        let error = after(|w| _ = w.set("deepseek4.vocab_size", vocab));
        assert!(matches!(error, Error::BadShape { .. }));
    }
    // The tokenizer has its own say; the model loads whatever its tokens are.
    let mut w = tiny();
    w.key("tokenizer.ggml.tokens", &["a"; 17][..]).key("tokenizer.ggml.eos_token_id", u64::MAX);
    assert_eq!(open_one(&w), Ok(()));
    assert_eq!(after(|w| _ = w.key("tokenizer.ggml.tokens", 1_u32)), {
        Error::BadValueType { key: "tokenizer.ggml.tokens".into() }
    });
}

#[test]
fn case_16_splits() {
    let parts: Vec<_> = tiny().split(3);
    let bytes = |parts: &[GgufWriter]| -> Vec<Vec<u8>> { parts.iter().map(GgufWriter::build).collect() };
    let files = bytes(&parts);
    let opened = |order: &[usize]| {
        let shards: Vec<&[u8]> = order.iter().map(|&i| files[i].as_slice()).collect();
        open(&shards)
    };
    assert_eq!(opened(&[0, 1, 2]), Ok(()));
    let bad = |part| Err(Error::BadSplit { part });
    assert!(open(&[]).is_err());
    assert_eq!(opened(&[0]), bad(1));
    assert_eq!(opened(&[0, 1]), bad(2));
    assert_eq!(opened(&[1, 2]), bad(0));
    assert_eq!(opened(&[2]), bad(0));
    assert_eq!(opened(&[0, 2]), bad(2));
    assert_eq!(opened(&[0, 0]), bad(2));
    assert_eq!(opened(&[0, 2, 1]), bad(1));
    assert_eq!(opened(&[0, 1, 1]), bad(2));
    assert_eq!(opened(&[0, 1, 2, 2]), bad(3));

    let changed = |part: usize, change: &dyn Fn(&mut GgufWriter)| {
        let mut parts = parts.clone();
        change(&mut parts[part]);
        let files = bytes(&parts);
        open(&files.iter().map(Vec::as_slice).collect::<Vec<_>>())
    };
    assert_eq!(changed(1, &|w| _ = w.set("split.count", 4_u16)), bad(3));
    assert_eq!(changed(1, &|w| _ = w.remove("split.count")), bad(1));
    assert_eq!(changed(2, &|w| _ = w.remove("split.no")), bad(2));
    assert_eq!(changed(2, &|w| _ = w.set("split.no", u64::MAX)), bad(2));
    assert_eq!(changed(1, &|w| _ = w.set("split.tensors.count", 1_i32)), bad(1));
    assert_eq!(changed(0, &|w| _ = w.set("split.tensors.count", 1_i32)), bad(1));
    assert_eq!(changed(1, &|w| _ = w.key("general.architecture", "llama")), bad(1));
    assert_eq!(changed(1, &|w| _ = w.tensors.pop()), bad(0));
    let key = "split.count";
    assert_eq!(changed(1, &|w| _ = w.set(key, -1_i32)), Err(Error::BadValueType { key: key.into() }));
    assert_eq!(changed(1, &|w| _ = w.key(key, 3_u16)), Err(Error::DuplicateKey { key: key.into() }));
    // Two files that are each a whole model.
    let whole = tiny().build();
    assert_eq!(open(&[&whole, &whole]), bad(0));
    // The same tensor in two parts.
    let doubled = |w: &mut GgufWriter| w.tensors[0] = parts[0].tensors[0].clone();
    assert!(matches!(changed(1, &doubled), Err(Error::DuplicateTensor { .. })));
    // A part cut short, or not GGUF at all.
    assert!(open(&[&files[0], &files[1][..100], &files[2]]).is_err());
    assert_eq!(open(&[&files[0], b"not a model", &files[2]]), Err(Error::NotGguf));
}

#[test]
fn layers_past_the_last_are_empty_views() {
    let bytes = tiny().build();
    let shards: &[&[u8]] = &[&bytes];
    let mut memory = Memory::new(Model::plan(shards).unwrap());
    let model = Model::load(shards, memory.as_mut(), &mut |_| true).unwrap();
    for layer in [3, 4, 1 << 20, usize::MAX / 8, usize::MAX] {
        let layer = model.weights().layer(layer);
        assert_eq!((layer.attention.q_a.rows(), layer.moe.gate.count()), (0, 0));
    }
}

/// Opening costs milliseconds: a header as long as the published model's.
#[test]
fn opening_a_long_header_is_quick() {
    let mut w = tiny();
    let tokens: Vec<String> = (0..129_280).map(|i| format!("token {i}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    w.key("tokenizer.ggml.tokens", &tokens[..]).key("tokenizer.ggml.merges", &tokens[..]);
    w.key("tokenizer.ggml.token_type", &vec![1_i32; 129_280][..]);
    let bytes = w.build();
    let start = Instant::now();
    open(&[&bytes]).unwrap();
    println!("{:?} for {} bytes", start.elapsed(), bytes.len());
    assert!(start.elapsed() < Duration::from_secs(2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = open(&[&bytes]);
        let _ = open(&[&[&b"GGUF\x03\0\0\0"[..], &bytes].concat()]);
    }

    #[test]
    fn flipped_bytes(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let w = tiny();
        let (header, data) = w.build_parts();
        // The header is where it hurts.
        let mut bytes = header.clone();
        for (at, byte) in flips {
            bytes[at.index(header.len())] = byte;
        }
        bytes.extend(data);
        let _ = open(&[&bytes]);
    }

    #[test]
    fn random_numbers_in_the_sizes(at in any::<prop::sample::Index>(), to in any::<u64>(), shift in 0..64_u32) {
        let mut w = tiny();
        let at = at.index(w.keys.len());
        w.keys[at].1 = (to >> shift).into();
        let _ = open_one(&w);
        let _ = Config::from_gguf(&Gguf::parse(&w.build()).unwrap());
    }

    #[test]
    fn random_tensor_claims(at in any::<prop::sample::Index>(), dims in proptest::collection::vec(any::<u64>(), 0..6),
                            shift in 0..64_u32, dtype in 0..45_u32, offset in any::<u64>()) {
        let mut w = tiny();
        let at = at.index(w.tensors.len());
        let tensor = &mut w.tensors[at];
        (tensor.dtype, tensor.offset) = (dtype, Some((offset >> shift) / 32 * 32));
        if !dims.is_empty() {
            tensor.dims = dims.iter().map(|d| d >> shift).collect();
        }
        let _ = open_one(&w);
    }
}
