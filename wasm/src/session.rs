//! A session that owns its memory and shares its model.

use crate::error::{Failure, Result};
use crate::memory::Memory;
use crate::model::{Loaded, Model};
use crate::object::object;
use crate::sampler::Sampler;
use crate::trace::Trace;
use dsv4_core::block::observe::Observer;
use dsv4_core::kernel::MatmulMode;
use dsv4_core::sampler::{LogSoftmax, LogitBias, Sampler as CoreSampler, TokenLogProb};
use dsv4_core::session::{Logits, Run, Session as CoreSession, SessionParams};
use js_sys::{Float32Array, Object, Uint32Array};
use self_cell::{MutBorrow, self_cell};
use std::rc::Rc;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

struct Owned {
    model: Rc<Loaded>,
    memory: MutBorrow<Memory>,
}

self_cell!(
    struct Timeline {
        owner: Owned,
        #[not_covariant]
        dependent: CoreSession,
    }
);

/// A session's parameters; a `batch` of 0 is the core's choice.
pub(crate) fn params(context: usize, batch: usize, exact: bool) -> SessionParams {
    let mut params = SessionParams::new(context);
    // A page's memory is small: batches are shorter than elsewhere unless somebody asks.
    params.batch = if batch > 0 { batch } else { params.batch.min(128) };
    if exact {
        params.matmul = MatmulMode::Exact;
    }
    params
}

/// One timeline over a model.
#[wasm_bindgen]
pub struct Session {
    timeline: Timeline,
    /// [V] of the last token evaluated
    logits: Vec<f32>,
    /// [V] what sampling spoils
    spoiled: Vec<f32>,
    scratch: Vec<u32>,
    trace: Option<Trace>,
}

impl Session {
    fn with<T>(&self, look: impl FnOnce(&CoreSession<'_>) -> T) -> T {
        self.timeline.with_dependent(|_, session| look(session))
    }

    fn with_mut<T>(&mut self, change: impl FnOnce(&mut CoreSession<'_>) -> T) -> T {
        self.timeline.with_dependent_mut(|_, session| change(session))
    }

    fn open(model: &Model, params: &SessionParams) -> Result<Self> {
        let config = model.0.core().config();
        let need = CoreSession::plan(config, params)?.bytes();
        let vocab = config.vocab;
        let owned = Owned { model: model.0.clone(), memory: MutBorrow::new(Memory::zeroed(need)?) };
        let timeline = Timeline::try_new(owned, |owned| {
            CoreSession::new(owned.model.core(), params, owned.memory.borrow_mut().bytes_mut())
        })?;
        let scratch = vec![0; CoreSampler::scratch(vocab)];
        Ok(Self { timeline, logits: vec![0.0; vocab], spoiled: vec![0.0; vocab], scratch, trace: None })
    }
}

#[wasm_bindgen]
impl Session {
    /// An empty timeline of up to `context` tokens, evaluated `batch` at a time (0: the core's choice); `exact` keeps
    /// activations in f32.
    #[wasm_bindgen(constructor)]
    pub fn new(model: &Model, context: usize, batch: usize, exact: bool) -> std::result::Result<Self, JsValue> {
        Ok(Self::open(model, &params(context, batch, exact))?)
    }

    /// Tokens evaluated so far.
    #[wasm_bindgen(getter)]
    pub fn position(&self) -> usize {
        self.with(|session| session.position())
    }

    /// Tokens at most.
    #[wasm_bindgen(getter)]
    pub fn context(&self) -> usize {
        self.with(|session| session.params().context)
    }

    /// Tokens evaluated together at most.
    #[wasm_bindgen(getter)]
    pub fn batch(&self) -> usize {
        self.with(|session| session.params().batch)
    }

    /// The tokens evaluated so far.
    #[wasm_bindgen(getter)]
    pub fn tokens(&self) -> Vec<u32> {
        self.with(|session| session.tokens().to_vec())
    }

    /// Forgets every token.
    pub fn clear(&mut self) {
        self.with_mut(|session| session.clear());
    }

    /// Goes back to `position` tokens.
    pub fn rewind(&mut self, position: usize) -> std::result::Result<(), JsValue> {
        Ok(self.with_mut(|session| session.rewind(position)).map_err(Failure)?)
    }

    /// Goes back to where the timeline and `tokens` part, and gives how many need not be evaluated again. At least one
    /// is left, so that there are logits.
    #[wasm_bindgen(js_name = keepPrefix)]
    pub fn keep_prefix(&mut self, tokens: &[u32]) -> usize {
        self.with_mut(|session| session.keep_prefix(tokens))
    }

    /// Appends `tokens`; the last one's logits are kept.
    pub fn eval(&mut self, tokens: &[u32]) -> std::result::Result<(), JsValue> {
        let Self { timeline, logits, trace, .. } = self;
        let observer = trace.as_mut().map(|trace| trace as &mut dyn Observer);
        let mut run = Run { parallel: crate::parallel(), progress: &mut |_| true, observer };
        timeline
            .with_dependent_mut(|_, session| session.eval(tokens, Logits::Last(logits), &mut run))
            .map_err(Failure)?;
        Ok(())
    }

    /// The logits `[V]` of the token evaluated last.
    #[wasm_bindgen(getter)]
    pub fn logits(&self) -> Float32Array {
        Float32Array::from(&self.logits[..])
    }

    /// The token that `sampler` chooses next; `recent` are those that it penalizes, and `ids` and `bias` what it adds
    /// to single logits.
    pub fn sample(
        &mut self,
        sampler: &mut Sampler,
        recent: &[u32],
        ids: &[u32],
        bias: &[f32],
    ) -> std::result::Result<u32, JsValue> {
        self.spoiled.copy_from_slice(&self.logits);
        let bias: Vec<_> = ids.iter().zip(bias).map(|(&token, &add)| LogitBias { token, add }).collect();
        Ok(sampler.0.sample(&mut self.spoiled, recent, &bias, &mut self.scratch).map_err(Failure)?)
    }

    /// The `n` most probable next tokens, downwards, and the logarithms of their probabilities.
    #[wasm_bindgen(unchecked_return_type = "{ tokens: Uint32Array, logProbs: Float32Array }")]
    pub fn top(&mut self, n: usize) -> std::result::Result<Object, JsValue> {
        let mut top = vec![TokenLogProb::default(); n.min(self.logits.len())];
        let count = LogSoftmax::new(&self.logits).top(&mut self.scratch, &mut top).map_err(Failure)?;
        let tokens: Vec<u32> = top[..count].iter().map(|t| t.token).collect();
        let log_probs: Vec<f32> = top[..count].iter().map(|t| t.log_prob).collect();
        let (tokens, log_probs) = (Uint32Array::from(&tokens[..]), Float32Array::from(&log_probs[..]));
        Ok(object([("tokens", tokens.into()), ("logProbs", log_probs.into())]))
    }

    /// The logarithm of `token`'s probability to be the next.
    #[wasm_bindgen(js_name = logProb)]
    pub fn log_prob(&self, token: u32) -> f32 {
        LogSoftmax::new(&self.logits).of(token)
    }

    /// Keeps from now on what the layers do, or no more.
    pub fn observe(&mut self, on: bool) {
        self.trace = on.then(|| Trace::new(self.timeline.borrow_owner().model.core().config()));
    }

    /// What the layers did since the last call: the experts' counts, and the last token's choices.
    #[wasm_bindgen(unchecked_return_type = "Trace | undefined")]
    pub fn trace(&mut self) -> JsValue {
        self.trace.as_mut().map_or(JsValue::UNDEFINED, |trace| trace.take().into())
    }
}
