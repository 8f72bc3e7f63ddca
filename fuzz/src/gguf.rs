//! A model file from a stranger: planned, loaded, and evaluated for a few tokens.
//!
//! The input is a file; or, if it does not begin as one, a list of edits of the seed `tiny.gguf` (three bytes each:
//! position, modulo the length, and what to exclusive-or), so that the fuzzer gets past the header.
//!
//! Oracle: a plan is the same for the header alone; one byte less memory is refused with the plan's number; every view of
//! a loaded model lies inside the file; a few tokens give the same logits at once with this processor's instructions as
//! one by one without them; no float of a weight leads to more than an error.

use crate::memory::Region;
use dsv4_core::arch::disjoint::Serial;
use dsv4_core::arch::level::Level;
use dsv4_core::error::{Error, Result};
use dsv4_core::format::gguf::Gguf;
use dsv4_core::kernel::MatmulMode;
use dsv4_core::model::Model;
use dsv4_core::session::{Logits, Run, Session, SessionParams};
use dsv4_core::tensor::Matrix;
use dsv4_core::weights::{Choice, Compressor, Hyper, SwiGlu};

/// What edits change.
pub static TINY: &[u8] = include_bytes!("../corpus/gguf/tiny.gguf");

/// More memory than this is not worth the fuzzer's time.
const MAX_MEMORY: usize = 16 << 20;

/// Tokens evaluated: past two entries of ratio 4, and past a window of 4.
const TOKENS: usize = 10;

/// Any bytes.
pub fn check(data: &[u8]) {
    if data.starts_with(b"GGUF") { check_file(data) } else { check_file(&edited(data)) }
}

fn edited(edits: &[u8]) -> Vec<u8> {
    let mut file = TINY.to_vec();
    for [low, high, bits] in edits.as_chunks::<3>().0 {
        let at = usize::from(u16::from_le_bytes([*low, *high])) % file.len();
        file[at] ^= bits;
    }
    file
}

fn check_file(file: &[u8]) {
    let Ok(header) = Gguf::parse(file) else {
        assert!(Model::plan(&[file]).is_err());
        return;
    };
    assert_eq!(header.tensors().count() as u64, header.tensor_count());
    assert_eq!(header.metadata().count() as u64, header.key_count());
    let plan = Model::plan(&[file]);
    let end = usize::try_from(header.header_bytes()).unwrap_or(usize::MAX).min(file.len());
    assert_eq!(Model::plan(&[&file[..end]]), plan, "the header alone plans otherwise");
    let Ok(need) = plan else { return };
    if need > MAX_MEMORY {
        return;
    }
    let shards = [file];
    if let Some(less) = need.checked_sub(1) {
        let refused = Model::load(&shards, Region::new(less).bytes(), &mut |_| true).err();
        assert_eq!(refused, Some(Error::MemoryTooSmall { need: need as u64, got: less as u64 }));
    }
    let mut memory = Region::new(need);
    let Ok(model) = Model::load(&shards, memory.bytes(), &mut |_| true) else { return };
    every_view(&model, &mut |view| {
        assert!(view.rows() > 0 && view.cols() > 0, "a view of nothing");
        let (first, last) = (view.row(0), view.row(view.rows() - 1));
        let (start, end) = (first.as_ptr().addr(), last.as_ptr().addr() + last.len());
        assert!(file.as_ptr().addr() <= start && end <= file.as_ptr().addr() + file.len(), "a view outside the file");
    });
    for matmul in [MatmulMode::Exact, MatmulMode::Fast] {
        check_session(&model, matmul);
    }
}

fn check_session(model: &Model<'_>, matmul: MatmulMode) {
    let config = model.config();
    let context = TOKENS.min(config.context);
    let whole = SessionParams { batch: context, rewind: 0, matmul, ..SessionParams::new(context) };
    let single = SessionParams { batch: 1, level: Level::SCALAR, ..whole };
    let small = |params: &SessionParams| Session::plan(config, params).is_ok_and(|plan| plan.bytes() <= MAX_MEMORY);
    if !small(&whole) || !small(&single) || config.vocab * context > MAX_MEMORY / 4 {
        return;
    }
    let tokens: Vec<u32> = (0..context).map(|i| (i * 7 % config.vocab) as u32).collect();
    let (at_once, one_by_one) = (evaluate(model, &whole, &tokens), evaluate(model, &single, &tokens));
    match (at_once, one_by_one) {
        (Ok(a), Ok(b)) => {
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(a.iter().zip(&b).all(same), "the split of the input, or the level, changed the logits");
        }
        (a, b) => assert_eq!(a.err(), b.err(), "the split of the input, or the level, changed the error"),
    }
}

/// The logits [tokens, V].
fn evaluate(model: &Model<'_>, params: &SessionParams, tokens: &[u32]) -> Result<Vec<f32>> {
    let mut memory = Region::new(Session::plan(model.config(), params)?.bytes());
    let mut session = Session::new(model, params, memory.bytes())?;
    let mut logits = vec![0.0; tokens.len() * model.config().vocab];
    let mut run = Run { parallel: &Serial, progress: &mut |_| true, observer: None };
    session.eval(tokens, Logits::All(&mut logits), &mut run)?;
    Ok(logits)
}

fn every_view(model: &Model<'_>, look: &mut dyn FnMut(Matrix<'_>)) {
    let hyper = |hyper: &Hyper<'_>, look: &mut dyn FnMut(Matrix<'_>)| {
        [hyper.fn_, hyper.base, hyper.scale].into_iter().for_each(look);
    };
    let compressor = |c: &Compressor<'_>, look: &mut dyn FnMut(Matrix<'_>)| {
        [c.kv, c.gate, c.ape, c.norm].into_iter().for_each(look);
    };
    let head = model.weights().head();
    [head.token_embd, head.output_norm, head.output].into_iter().for_each(&mut *look);
    hyper(&head.hyper, look);
    for index in 0..model.config().layers {
        let layer = model.weights().layer(index);
        let (a, moe) = (&layer.attention, &layer.moe);
        hyper(&layer.hyper_attn, look);
        hyper(&layer.hyper_ffn, look);
        [layer.attn_norm, layer.ffn_norm, a.q_a, a.q_a_norm, a.q_b, a.kv, a.kv_norm, a.sinks, a.output_a, a.output_b]
            .into_iter()
            .for_each(&mut *look);
        if let Some(c) = &layer.compressor {
            compressor(c, look);
        }
        if let Some(indexer) = &layer.indexer {
            [indexer.q_b, indexer.proj].into_iter().for_each(&mut *look);
            compressor(&indexer.compressor, look);
        }
        [moe.router, moe.gate.stacked(), moe.up.stacked(), moe.down.stacked()].into_iter().for_each(&mut *look);
        if let Some(SwiGlu { gate, up, down }) = moe.shared {
            [gate, up, down].into_iter().for_each(&mut *look);
        }
        match moe.choice {
            Choice::Score(bias) => look(bias),
            // Any number may stand in the table; the last one must be there.
            Choice::Hash(table) => _ = table.get(model.config().vocab - 1, model.config().experts_used - 1),
        }
    }
}
