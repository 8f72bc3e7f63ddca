//! GGUF files that are what they say: metadata, sizes, tensors, splits, memory.

use dsv4_core::arena::ALIGN;
use dsv4_core::config::{Config, Ratio, Scoring, Yarn};
use dsv4_core::dtype::DType;
use dsv4_core::error::{Error, Result};
use dsv4_core::format::gguf::{Gguf, Value as Read};
use dsv4_core::model::Model;
use dsv4_core::tensor::Matrix;
use dsv4_core::weights::Choice;
use dsv4_tests::gguf_writer::{GgufWriter, Value, kind, string};
use dsv4_tests::memory::Memory;
use dsv4_tests::synthetic::Sizes;

/// Loads `shards` in exactly the planned memory and looks at the model.
fn load<T>(shards: &[Vec<u8>], look: impl FnOnce(&Model<'_>) -> T) -> Result<T> {
    let shards: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
    let mut memory = Memory::new(Model::plan(&shards)?);
    Ok(look(&Model::load(&shards, memory.as_mut(), &mut |_| true)?))
}

fn load_one<T>(writer: &GgufWriter, look: impl FnOnce(&Model<'_>) -> T) -> Result<T> {
    load(&[writer.build()], look)
}

fn config(writer: &GgufWriter) -> Result<Config> {
    Config::from_gguf(&Gguf::parse(&writer.build()).unwrap())
}

fn tiny() -> GgufWriter {
    Sizes::tiny().writer(1)
}

#[test]
fn metadata_of_every_type_round_trips() {
    for version in [2, 3] {
        let mut w = GgufWriter { version, ..Default::default() };
        w.key("u8", 200_u8).key("i8", -5_i8).key("u16", 60_000_u16).key("i16", -300_i16);
        w.key("u32", 4_000_000_000_u32).key("i32", -7_i32).key("f32", 1.5_f32).key("bool", true);
        w.key("string", "text").key("u64", u64::MAX).key("i64", i64::MIN).key("f64", 0.1_f64);
        w.key("empty", "").key("array", &[1_u32, 2, 3][..]).key("strings", &["a", "", "ccc"][..]);
        let inner = Value::array(&[Value::array(&["x".into()]), Value::array(&["y".into(), "z".into()])]);
        // Array elements carry no type of their own: an inner array is its element type, count and elements.
        w.key("nested", inner).key("none", Value::raw_array(kind::STRING, 0, &[])).key("last", 1_u8);
        let bytes = w.build();
        let file = Gguf::parse(&bytes).unwrap();
        assert_eq!((file.version(), file.key_count(), file.tensor_count()), (version, 18, 0));
        let found: Vec<(&str, Read<'_>)> = file.metadata().collect();
        let plain = [
            ("u8", Read::U8(200)),
            ("i8", Read::I8(-5)),
            ("u16", Read::U16(60_000)),
            ("i16", Read::I16(-300)),
            ("u32", Read::U32(4_000_000_000)),
            ("i32", Read::I32(-7)),
            ("f32", Read::F32(1.5)),
            ("bool", Read::Bool(true)),
            ("string", Read::String(b"text")),
            ("u64", Read::U64(u64::MAX)),
            ("i64", Read::I64(i64::MIN)),
            ("f64", Read::F64(0.1)),
            ("empty", Read::String(b"")),
        ];
        assert_eq!(found[..plain.len()], plain);
        assert_eq!(found[17], ("last", Read::U8(1)));
        let array = |i: usize| found[i].1.as_array().unwrap();
        assert_eq!(array(13).values().collect::<Vec<_>>(), [Read::U32(1), Read::U32(2), Read::U32(3)]);
        assert_eq!((array(13).len(), array(13).element(), array(13).bytes().len()), (3, 4, 12));
        let strings: Vec<_> = array(14).values().map(|v| v.as_string().unwrap()).collect();
        assert_eq!(strings, [&b"a"[..], b"", b"ccc"]);
        let nested: Vec<Vec<_>> =
            array(15).values().map(|v| v.as_array().unwrap().values().map(|v| v.as_string()).collect()).collect();
        assert_eq!(nested, [vec![Some(&b"x"[..])], vec![Some(&b"y"[..]), Some(b"z")]]);
        assert!(array(16).is_empty());
    }
}

#[test]
fn sizes_are_read() {
    let c = config(&tiny()).unwrap();
    assert_eq!((c.hidden, c.layers, c.mtp_layers, c.vocab), (8, 3, 0, 16));
    assert_eq!((c.heads, c.head_size, c.rotary, c.q_rank), (2, 4, 2, 4));
    assert_eq!((c.output_groups, c.output_rank, c.window), (2, 3, 4));
    assert_eq!(c.ratios[..3], [Ratio::Window, Ratio::Sparse, Ratio::Heavy(8)]);
    assert_eq!((c.indexer_heads, c.indexer_size, c.indexer_top_k), (2, 4, 2));
    assert_eq!((c.experts, c.experts_used, c.expert_hidden, c.shared_experts, c.hash_layers), (4, 2, 5, 1, 1));
    assert_eq!((c.expert_scale, c.clamp[2], c.clamp_shared[2], c.scoring), (1.5, 10.0, 10.0, Scoring::SqrtSoftplus));
    assert_eq!((c.streams, c.sinkhorn, c.hyper_eps, c.rms_eps), (2, 3, 1e-6, 1e-6));
    assert_eq!((c.rope_base, c.compress_rope_base, c.context), (10_000.0, 160_000.0, 64));
    assert_eq!(c.yarn, Some(Yarn { factor: 16.0, original_context: 32.0, beta_fast: 32.0, beta_slow: 1.0 }));
    assert!(!c.yarn_assumed);
}

#[test]
fn numbers_may_have_any_width() {
    let expected = config(&tiny()).unwrap();
    let mut w = tiny();
    w.set("deepseek4.embedding_length", 8_u64).set("deepseek4.vocab_size", 16_i16);
    w.set("deepseek4.block_count", 3_u8).set("deepseek4.attention.sliding_window", 4_i64);
    w.set("deepseek4.rope.freq_base", 10_000.0_f64).set("deepseek4.attention.layer_norm_rms_epsilon", 1e-6_f64);
    w.set("deepseek4.attention.head_count", &[2_u32, 2, 2][..]).set("deepseek4.swiglu_clamp_exp", 10.0_f32);
    w.set("deepseek4.attention.compress_ratios", &[0_i32, 4, 8, 0, 0][..]).remove("deepseek4.swiglu_clamp_shexp");
    assert_eq!(config(&w).unwrap(), expected);

    w.set("deepseek4.attention.head_count", &[2_u32, 4, 2][..]);
    assert_eq!(config(&w), Err(Error::BadValueType { key: "deepseek4.attention.head_count".into() }));
}

#[test]
fn the_vocabulary_may_be_said_by_the_token_list() {
    let mut w = tiny();
    w.remove("deepseek4.vocab_size");
    assert_eq!(config(&w), Err(Error::MissingKey { key: "deepseek4.vocab_size".into() }));
    w.key("tokenizer.ggml.tokens", &["a"; 16][..]);
    assert_eq!(config(&w).unwrap().vocab, 16);
}

#[test]
fn clamps_differ_by_layer() {
    let mut w = tiny();
    w.set("deepseek4.swiglu_clamp_exp", &[1.0_f32, 2.0, 3.0][..]).remove("deepseek4.swiglu_clamp_shexp");
    let c = config(&w).unwrap();
    assert_eq!((&c.clamp[..3], &c.clamp_shared[..3]), (&[1.0, 2.0, 3.0][..], &[1.0, 2.0, 3.0][..]));
    w.key("deepseek4.swiglu_clamp_shexp", 7.0_f64);
    assert_eq!(config(&w).unwrap().clamp_shared[..3], [7.0; 3]);
}

#[test]
fn missing_yarn_keys_are_never_silently_no_yarn() {
    let mut w = tiny();
    w.remove("deepseek4.rope.scaling.yarn_beta_fast").remove("deepseek4.rope.scaling.yarn_beta_slow");
    assert_eq!(config(&w).unwrap(), config(&tiny()).unwrap(), "the betas have defaults");
    w.remove("deepseek4.rope.scaling.type");
    assert_eq!(config(&w).unwrap(), config(&tiny()).unwrap(), "a factor says enough");
    w.remove("deepseek4.rope.scaling.factor");
    assert_eq!(config(&w), Err(Error::MissingKey { key: "deepseek4.rope.scaling.factor".into() }));
    w.remove("deepseek4.rope.scaling.original_context_length");
    let c = config(&w).unwrap();
    assert_eq!((c.yarn, c.yarn_assumed), (Some(Yarn::PUBLISHED), true));

    w.set("deepseek4.rope.scaling.type", "yarn");
    assert_eq!(config(&w), Err(Error::MissingKey { key: "deepseek4.rope.scaling.factor".into() }));
    w.set("deepseek4.rope.scaling.type", "none");
    let c = config(&w).unwrap();
    assert_eq!((c.yarn, c.yarn_assumed), (None, false));
    w.set("deepseek4.rope.scaling.type", "linear");
    assert_eq!(config(&w), Err(Error::BadValue { key: "deepseek4.rope.scaling.type".into() }));
}

#[test]
fn mtp_modules_are_counted_among_the_blocks() {
    let mut w = tiny();
    w.set("deepseek4.block_count", 4_u32).key("deepseek4.nextn_predict_layers", 1_u32);
    w.set("deepseek4.attention.compress_ratios", &[0_u32, 4, 8, 0][..]);
    w.set("deepseek4.swiglu_clamp_exp", &[10.0_f32; 4][..]).set("deepseek4.swiglu_clamp_shexp", &[10.0_f32; 4][..]);
    w.tensor("blk.3.attn_norm.weight", 0, &[1], vec![0; 4]);
    w.tensor("blk.3.nextn.eh_proj.weight", 0, &[16, 8], vec![0; 512]);
    for parts in [1, 3] {
        let files: Vec<_> = w.split(parts).iter().map(GgufWriter::build).collect();
        load(&files, |model| {
            assert_eq!((model.config().layers, model.config().mtp_layers), (3, 1));
            assert!(model.tensors().any(|t| t.name == "blk.3.nextn.eh_proj.weight"));
        })
        .unwrap();
    }
}

#[test]
fn mtp_modules_may_be_announced_and_left_out() {
    let mut w = tiny();
    w.key("deepseek4.nextn_predict_layers", 1_u32);
    w.set("deepseek4.attention.compress_ratios", &[0_u32, 4, 8, 0][..]);
    load_one(&w, |model| assert_eq!((model.config().layers, model.config().mtp_layers), (3, 0))).unwrap();
}

/// The bytes of the tensor that a view shows.
fn shown(view: &Matrix<'_>) -> Vec<u8> {
    (0..view.rows()).flat_map(|row| view.row(row).to_vec()).collect()
}

/// Checks every view of a model of [`Sizes::tiny`] against the writer's tensors.
fn check_views(w: &GgufWriter, model: &Model<'_>) {
    let mut w = w.clone();
    let mut check = |name: &str, rows: usize, cols: usize, view: &Matrix<'_>| {
        assert_eq!((view.rows(), view.cols()), (rows, cols), "{name}");
        assert_eq!(shown(view), w.tensor_mut(name).data, "{name}");
        w.remove_tensor(name);
    };
    let head = model.weights().head();
    check("token_embd.weight", 16, 8, &head.token_embd);
    check("output.weight", 16, 8, &head.output);
    check("output_norm.weight", 1, 8, &head.output_norm);
    check("output_hc_fn.weight", 2, 16, &head.hyper.fn_);
    check("output_hc_base.weight", 1, 2, &head.hyper.base);
    check("output_hc_scale.weight", 1, 1, &head.hyper.scale);
    for i in 0..3 {
        let mut check = |name: &str, rows: usize, cols: usize, view: &Matrix<'_>| {
            check(&format!("blk.{i}.{name}"), rows, cols, view)
        };
        let layer = model.weights().layer(i);
        for (half, hyper, norm) in
            [("attn", &layer.hyper_attn, &layer.attn_norm), ("ffn", &layer.hyper_ffn, &layer.ffn_norm)]
        {
            check(&format!("hc_{half}_fn.weight"), 8, 16, &hyper.fn_);
            check(&format!("hc_{half}_base.weight"), 1, 8, &hyper.base);
            check(&format!("hc_{half}_scale.weight"), 1, 3, &hyper.scale);
            check(&format!("{half}_norm.weight"), 1, 8, norm);
        }
        let attention = &layer.attention;
        check("attn_q_a.weight", 4, 8, &attention.q_a);
        check("attn_q_a_norm.weight", 1, 4, &attention.q_a_norm);
        check("attn_q_b.weight", 8, 4, &attention.q_b);
        check("attn_kv.weight", 4, 8, &attention.kv);
        check("attn_kv_a_norm.weight", 1, 4, &attention.kv_norm);
        check("attn_sinks.weight", 1, 2, &attention.sinks);
        check("attn_output_a.weight", 6, 4, &attention.output_a);
        check("attn_output_b.weight", 8, 6, &attention.output_b);
        assert_eq!((layer.compressor.is_some(), layer.indexer.is_some()), (i > 0, i == 1));
        let compressors = [
            ("attn_compressor", layer.compressor, 4, [0, 4, 8][i]),
            ("indexer_compressor", layer.indexer.map(|x| x.compressor), 4, 4),
        ];
        for (name, compressor, size, m) in compressors {
            let Some(compressor) = compressor else { continue };
            let width = if m == 4 { 2 * size } else { size };
            check(&format!("{name}_kv.weight"), width, 8, &compressor.kv);
            check(&format!("{name}_gate.weight"), width, 8, &compressor.gate);
            check(&format!("{name}_ape.weight"), m, width, &compressor.ape);
            check(&format!("{name}_norm.weight"), 1, size, &compressor.norm);
        }
        if let Some(indexer) = &layer.indexer {
            check("indexer.attn_q_b.weight", 8, 4, &indexer.q_b);
            check("indexer.proj.weight", 2, 8, &indexer.proj);
        }
        let moe = &layer.moe;
        check("ffn_gate_inp.weight", 4, 8, &moe.router);
        if let Choice::Score(bias) = &moe.choice {
            check("exp_probs_b.bias", 1, 4, bias);
        }
        check("ffn_gate_exps.weight", 20, 8, &moe.gate.stacked());
        check("ffn_up_exps.weight", 20, 8, &moe.up.stacked());
        check("ffn_down_exps.weight", 32, 5, &moe.down.stacked());
        assert_eq!([moe.gate.count(), moe.up.count(), moe.down.count()], [4; 3]);
        assert_eq!((moe.down.expert(3).rows(), moe.gate.expert(3).rows()), (8, 5));
        let shared = moe.shared.unwrap();
        check("ffn_gate_shexp.weight", 5, 8, &shared.gate);
        check("ffn_up_shexp.weight", 5, 8, &shared.up);
        check("ffn_down_shexp.weight", 8, 5, &shared.down);
    }
    // What is left is the hash table.
    let Choice::Hash(table) = model.weights().layer(0).moe.choice else { panic!("layer 0 routes by hash") };
    let data = &w.tensor_mut("blk.0.ffn_gate_tid2eid.weight").data;
    for (i, bytes) in data.chunks(4).enumerate() {
        assert_eq!(table.get(i / 2, i % 2), i32::from_le_bytes(bytes.try_into().unwrap()));
    }
    assert_eq!(w.tensors.len(), 1);
}

#[test]
fn every_view_shows_its_tensor() {
    for version in [2, 3] {
        for alignment in [None, Some(1), Some(8), Some(32), Some(64), Some(4096)] {
            let mut w = GgufWriter { version, ..tiny() };
            if let Some(alignment) = alignment {
                w.alignment = alignment;
                w.key("general.alignment", alignment as u32);
            }
            w.tensors.reverse();
            load_one(&w, |model| check_views(&w, model)).unwrap();
        }
    }
}

#[test]
fn splits_are_one_model() {
    let w = tiny();
    for parts in 1..=9 {
        let files: Vec<_> = w.split(parts).iter().map(GgufWriter::build).collect();
        load(&files, |model| {
            check_views(&w, model);
            assert_eq!(model.tensors().count(), w.tensors.len());
        })
        .unwrap();
    }
}

#[test]
fn grouped_output_may_be_three_dimensional() {
    let mut w = tiny();
    w.tensor_mut("blk.1.attn_output_a.weight").dims = vec![4, 3, 2];
    load_one(&w, |model| check_views(&w, model)).unwrap();
    w.tensor_mut("blk.1.attn_output_a.weight").dims = vec![4, 2, 3];
    assert!(matches!(load_one(&w, |_| ()), Err(Error::BadShape { .. })));
}

#[test]
fn output_falls_back_to_the_embedding() {
    let mut w = tiny();
    w.remove_tensor("output.weight");
    load_one(&w, |model| {
        let head = model.weights().head();
        assert_eq!(shown(&head.output), shown(&head.token_embd));
    })
    .unwrap();
}

#[test]
fn tensors_may_have_any_type_that_fits() {
    let sizes = Sizes { hidden: 256, ..Sizes::tiny() };
    let mut w = sizes.writer(1);
    let fill = |w: &mut GgufWriter, name: &str, dtype: DType| {
        let tensor = w.tensor_mut(name);
        let (elements, bytes) = dtype.block();
        let count = tensor.dims.iter().product::<u64>() as usize;
        (tensor.dtype, tensor.data) = (dtype as u32, vec![0; count / elements * bytes]);
    };
    let types = dsv4_core::dtype::ALL.into_iter().filter(|&t| (t as u32) < 1000 && t != DType::I32);
    for dtype in types {
        for name in
            ["token_embd.weight", "blk.0.attn_norm.weight", "blk.1.ffn_gate_exps.weight", "blk.2.attn_kv.weight"]
        {
            fill(&mut w, name, dtype);
        }
        let shown = load_one(&w, |model| model.weights().layer(1).moe.gate.expert(1).dtype());
        assert_eq!(shown, Ok(dtype));
    }
}

#[test]
fn a_model_without_shared_experts_or_hash_layers() {
    let sizes = Sizes { shared_experts: 0, hash_layers: 0, ..Sizes::tiny() };
    load_one(&sizes.writer(1), |model| {
        let moe = model.weights().layer(0).moe;
        assert!(moe.shared.is_none() && matches!(moe.choice, Choice::Score(_)));
    })
    .unwrap();
}

#[test]
fn a_model_of_window_layers_needs_no_compression_keys() {
    let mut w = Sizes { ratios: vec![0, 0], ..Sizes::tiny() }.writer(1);
    for key in ["indexer.head_count", "indexer.key_length", "indexer.top_k", "compress_rope_freq_base"] {
        w.remove(&format!("deepseek4.attention.{key}"));
    }
    load_one(&w, |model| assert_eq!((model.config().yarn, model.config().indexer_heads), (None, 0))).unwrap();
}

#[test]
fn every_memory_smaller_than_the_plan_is_refused() {
    let bytes = tiny().build();
    let shards: &[&[u8]] = &[&bytes];
    let need = Model::plan(shards).unwrap();
    let mut memory = Memory::new(need);
    for got in 0..need {
        let error = Model::load(shards, &mut memory.as_mut()[..got], &mut |_| true).err();
        assert_eq!(error, Some(Error::MemoryTooSmall { need: need as u64, got: got as u64 }));
    }
    assert!(Model::load(shards, memory.as_mut(), &mut |_| true).is_ok());
    let error = Model::load(shards, memory.misaligned(), &mut |_| true).err();
    assert_eq!(error, Some(Error::MemoryMisaligned { align: ALIGN as u32 }));
}

#[test]
fn memory_beyond_the_plan_is_left_alone() {
    let bytes = tiny().build();
    let shards: &[&[u8]] = &[&bytes];
    let need = Model::plan(shards).unwrap();
    let mut memory = Memory::new(need + 4096);
    memory.as_mut().fill(0x5a);
    Model::load(shards, memory.as_mut(), &mut |_| true).unwrap();
    assert!(memory.as_mut()[need..].iter().all(|&b| b == 0x5a));
}

#[test]
fn the_plan_needs_the_header_alone() {
    let w = tiny();
    let (header, data) = w.build_parts();
    let whole = [&header[..], &data].concat();
    assert_eq!(Model::plan(&[&header]), Model::plan(&[&whole]));
    assert_eq!(Gguf::parse(&header).unwrap().header_bytes(), header.len() as u64);
    let mut memory = Memory::new(Model::plan(&[&header]).unwrap());
    let error = Model::load(&[&header], memory.as_mut(), &mut |_| true).err();
    assert!(matches!(error, Some(Error::BadOffset { .. })));
}

#[test]
fn progress_rises_and_cancels() {
    let files: Vec<_> = tiny().split(3).iter().map(GgufWriter::build).collect();
    let shards: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let mut memory = Memory::new(Model::plan(&shards).unwrap());
    let mut seen = vec![];
    Model::load(&shards, memory.as_mut(), &mut |done| {
        seen.push(done);
        true
    })
    .unwrap();
    assert_eq!(seen, [0.0, 0.25, 0.5, 0.75, 1.0]);
    for stop in 0..seen.len() {
        let mut calls = 0;
        let error = Model::load(&shards, memory.as_mut(), &mut |_| {
            calls += 1;
            calls <= stop
        })
        .err();
        assert_eq!((error, calls), (Some(Error::Cancelled), stop + 1));
    }
}

#[test]
fn rotary_frequencies() {
    load_one(&Sizes { rotary: 4, ..Sizes::tiny() }.writer(1), |model| {
        assert_eq!(model.rope_window(), [1.0, 0.01]);
        // corr(n) = 4 ln(32 / (2 pi n)) / (2 ln 160000): below 0 for 32 turns, 0.27 for one.
        // So low = 0, high = 1, ramp = 0, 1: the first frequency stays, the second is divided by 16.
        let expected = [1.0, 1.0 / 400.0 / 16.0];
        for (got, expected) in model.rope_compress().iter().zip(expected) {
            assert!((got - expected).abs() < 1e-15, "{got} {expected}");
        }
    })
    .unwrap();
}

#[test]
fn the_tokenizer_comes_raw() {
    let mut w = tiny();
    assert!(Gguf::parse(&w.build()).unwrap().tokenizer().unwrap().tokens.is_none());
    w.key("tokenizer.ggml.model", "gpt2").key("tokenizer.ggml.pre", "joyai-llm");
    w.key("tokenizer.ggml.tokens", &["a", "b", "ab"][..]).key("tokenizer.ggml.token_type", &[1_i32, 1, 3][..]);
    w.key("tokenizer.ggml.merges", &["a b"][..]).key("tokenizer.ggml.eos_token_id", 2_u32);
    w.key("tokenizer.ggml.add_bos_token", false);
    let bytes = w.build();
    let t = Gguf::parse(&bytes).unwrap().tokenizer().unwrap();
    assert_eq!((t.model, t.pre), (Some(&b"gpt2"[..]), Some(&b"joyai-llm"[..])));
    assert_eq!((t.bos, t.eos, t.add_bos, t.chat_template), (None, Some(2), Some(false), None));
    let tokens = t.tokens.unwrap();
    assert_eq!(tokens.bytes(), [string(b"a"), string(b"b"), string(b"ab")].concat());
    assert_eq!((tokens.len(), t.token_type.unwrap().len(), t.merges.unwrap().element()), (3, 3, kind::STRING));

    w.set("tokenizer.ggml.tokens", 5_u32);
    let error = Gguf::parse(&w.build()).unwrap().tokenizer().err();
    assert_eq!(error, Some(Error::BadValueType { key: "tokenizer.ggml.tokens".into() }));
}

#[test]
fn a_model_is_shared_between_threads() {
    fn shared<T: Sync + Send + Copy>() {}
    shared::<Model<'_>>();
}

/// The models that another package wrote from `transformers`' own.
#[test]
fn reference_models_load() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path().join("model.gguf");
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let tensors = load(std::slice::from_ref(&bytes), |model| {
            let config = model.config();
            for i in 0..config.layers {
                let layer = model.weights().layer(i);
                assert_eq!(layer.attention.kv.rows(), config.head_size);
                assert_eq!(layer.moe.down.count(), config.experts);
            }
            assert_eq!(model.weights().head().output.rows(), config.vocab);
            model.tensors().map(|t| t.bytes().unwrap()).sum::<u64>() - model.weights().bytes()
        });
        assert_eq!(tensors, Ok(0), "{}: every tensor is bound", path.display());
        count += 1;
    }
    assert!(count >= 5);
}
