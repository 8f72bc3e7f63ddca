//! The fixtures of `tests/golden`, and helpers to evaluate any model.

use crate::memory::Memory;
use dsv4_core::arch::disjoint::{Parallel, Serial};
use dsv4_core::model::Model;
use dsv4_core::session::{Logits, Run, Session, SessionParams};
use std::path::PathBuf;

/// Every model of `tests/golden`.
pub const NAMES: [&str; 5] = ["even", "odd", "sigmoid", "softmax", "mixed"];

/// A small model with the logits that another implementation computed for some tokens.
pub struct Golden {
    /// The GGUF file.
    pub model: Vec<u8>,
    /// The input.
    pub tokens: Vec<u32>,
    /// [tokens, V].
    pub logits: Vec<f32>,
}

/// Reads one of [`NAMES`].
pub fn golden(name: &str) -> Golden {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap_or_else(|e| panic!("{name}/{file}: {e}"));
    let words = |file: &str| -> Vec<[u8; 4]> { read(file).as_chunks().0.to_vec() };
    Golden {
        model: read("model.gguf"),
        tokens: words("tokens.i32").into_iter().map(u32::from_le_bytes).collect(),
        logits: words("logits.f32").into_iter().map(f32::from_le_bytes).collect(),
    }
}

/// Loads `file` in exactly the planned memory and hands the model out.
pub fn with_model<T>(file: &[u8], use_it: impl FnOnce(&Model<'_>) -> T) -> T {
    let shards = [file];
    let mut memory = Memory::new(Model::plan(&shards).expect("a plan"));
    use_it(&Model::load(&shards, memory.as_mut(), &mut |_| true).expect("a model"))
}

/// Opens a session in exactly the planned memory and hands it out.
pub fn with_session<T>(model: &Model<'_>, params: &SessionParams, use_it: impl FnOnce(&mut Session<'_>) -> T) -> T {
    let mut memory = Memory::new(Session::plan(model.config(), params).expect("a plan").bytes());
    use_it(&mut Session::new(model, params, memory.as_mut()).expect("a session"))
}

/// The logits [tokens, V] of `tokens`, appended to the session in calls of `chunk` tokens.
pub fn eval(session: &mut Session<'_>, tokens: &[u32], chunk: usize, parallel: &dyn Parallel) -> Vec<f32> {
    let vocab = session.model().config().vocab;
    let mut logits = vec![f32::NAN; tokens.len() * vocab];
    for (tokens, logits) in tokens.chunks(chunk).zip(logits.chunks_mut(chunk * vocab)) {
        let mut run = Run { parallel, progress: &mut |_| true, observer: None };
        session.eval(tokens, Logits::All(logits), &mut run).expect("logits");
    }
    logits
}

/// The logits [tokens, V] of `tokens` in a session of their own, in one call.
pub fn fresh(model: &Model<'_>, params: &SessionParams, tokens: &[u32]) -> Vec<f32> {
    with_session(model, params, |session| eval(session, tokens, tokens.len().max(1), &Serial))
}
