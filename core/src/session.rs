//! One mutable timeline over a model: tokens in, logits out.

mod snapshot;

use crate::arch::disjoint::Parallel;
use crate::arch::level::Level;
use crate::arena::Arena;
use crate::block::observe::Observer;
use crate::block::scratch::Scratch;
use crate::block::{Batch, layer};
use crate::cache::{Cache, CacheFormat, CacheParams};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::kernel::{Context, MatmulMode};
use crate::model::Model;

/// What a session is made for. Its memory follows from these and the model's sizes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionParams {
    /// Positions at most.
    pub context: usize,
    /// Tokens evaluated together at most: more make prefill faster and scratch larger. Never changes results.
    pub batch: usize,
    /// Positions that [`Session::rewind`] can go back from the furthest evaluated, at least.
    pub rewind: usize,
    /// How matrices are multiplied.
    pub matmul: MatmulMode,
    /// How the cache is stored.
    pub cache: CacheFormat,
    /// The instructions to use; never changes results.
    pub level: Level,
}

impl SessionParams {
    /// `context` positions, batches of up to 512 tokens, 32 positions of rewind, the default numbers, the best level.
    pub fn new(context: usize) -> Self {
        let (matmul, cache) = (MatmulMode::default(), CacheFormat::default());
        Self { context, batch: context.clamp(1, 512), rewind: 32.min(context), matmul, cache, level: Level::detect() }
    }

    fn check(&self, config: &Config) -> Result<()> {
        let bad = |what| Err(Error::BadArgument { what });
        if self.context == 0 || self.context > config.context {
            return bad("context must be at least 1 and at most the model's");
        }
        if self.batch == 0 || self.batch > self.context {
            return bad("batch must be at least 1 and at most the context");
        }
        if self.rewind > self.context {
            return bad("rewind must be at most the context");
        }
        Ok(())
    }

    const fn cache(&self) -> CacheParams {
        CacheParams { context: self.context, batch: self.batch, rewind: self.rewind, format: self.cache }
    }
}

/// The bytes of a session's memory, by use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPlan {
    /// Window, compressors' state and entries, and the tokens themselves.
    pub cache: usize,
    /// Activations of one batch.
    pub scratch: usize,
}

impl SessionPlan {
    /// The whole region.
    pub const fn bytes(&self) -> usize {
        self.cache + self.scratch
    }
}

/// Which logits an evaluation gives.
#[derive(Debug)]
pub enum Logits<'a> {
    /// None.
    None,
    /// The last token's, `[V]` f32.
    Last(&'a mut [f32]),
    /// Every token's, [tokens, V] f32, row-major.
    All(&'a mut [f32]),
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Tokens of this call that are evaluated: what a cancel leaves valid.
    pub tokens: usize,
    /// Tokens of this call.
    pub of: usize,
    /// Layers done for the batch in work.
    pub layer: usize,
}

/// Who runs an evaluation, and who watches it.
pub struct Run<'a> {
    /// Runs the parallel work.
    pub parallel: &'a dyn Parallel,
    /// Called after every layer of every batch; `false` cancels.
    pub progress: &'a mut dyn FnMut(Progress) -> bool,
    /// Sees what the layers do, if anybody wants to.
    pub observer: Option<&'a mut dyn Observer>,
}

/// One timeline: tokens are appended by [`Session::eval`], and taken back by [`Session::rewind`].
///
/// A failed or cancelled call leaves the session at the last batch that it finished: [`Session::position`] says where,
/// and everything before that stays valid.
#[derive(Debug)]
pub struct Session<'a> {
    model: &'a Model<'a>,
    params: SessionParams,
    cache: Cache<'a>,
    /// [context] the tokens of positions 0..position
    tokens: &'a mut [u32],
    scratch: Scratch<'a>,
    position: usize,
    /// Position up to which the rings were ever written: rewinding counts from here.
    written: usize,
    /// The lowest position, beside 0, that a snapshot brought the rows of.
    restored: usize,
}

impl<'a> Session<'a> {
    /// The bytes that [`Session::new`] needs, exactly.
    pub fn plan(config: &Config, params: &SessionParams) -> Result<SessionPlan> {
        params.check(config)?;
        let mut arena = Arena::counting();
        Self::carve(&mut arena, config, params).map(|_| ())?;
        let all = arena.used();
        let mut arena = Arena::counting();
        Scratch::carve(&mut arena, config, params)?;
        Ok(SessionPlan { cache: all - arena.used(), scratch: arena.used() })
    }

    fn carve(
        arena: &mut Arena<'a>,
        config: &Config,
        params: &SessionParams,
    ) -> Result<(Cache<'a>, &'a mut [u32], Scratch<'a>)> {
        let cache = Cache::carve(arena, config, params.cache())?;
        let tokens = arena.take(params.context)?;
        Ok((cache, tokens, Scratch::carve(arena, config, params)?))
    }

    /// An empty timeline in `memory`, which must start at a multiple of [`crate::arena::ALIGN`] and hold
    /// [`Session::plan`]'s bytes.
    pub fn new(model: &'a Model<'a>, params: &SessionParams, memory: &'a mut [u8]) -> Result<Self> {
        let need = Self::plan(model.config(), params)?.bytes();
        let mut arena = Arena::new(memory)?;
        arena.check(need)?;
        let (cache, tokens, scratch) = Self::carve(&mut arena, model.config(), params)?;
        Ok(Self { model, params: *params, cache, tokens, scratch, position: 0, written: 0, restored: 0 })
    }

    /// The model.
    pub const fn model(&self) -> &'a Model<'a> {
        self.model
    }

    /// What the session was made for.
    pub const fn params(&self) -> &SessionParams {
        &self.params
    }

    /// Tokens evaluated so far.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// The tokens evaluated so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens[..self.position]
    }

    /// Forgets every token.
    pub const fn clear(&mut self) {
        (self.position, self.written, self.restored) = (0, 0, 0);
    }

    /// The lowest position that [`Session::rewind`] accepts now, beside 0: at least `rewind` below the furthest
    /// evaluated, but for what [`Session::restore`] could not bring back.
    pub const fn oldest(&self) -> usize {
        let in_rings = self.written.saturating_sub(self.params.batch + self.params.rewind);
        if in_rings > self.restored { in_rings } else { self.restored }
    }

    /// Goes back to `position` tokens: what follows gives the same bits as if the rest had never been evaluated.
    ///
    /// 0 is always possible; else [`Error::CannotRewind`] below [`Session::oldest`], and [`Error::BadArgument`] past
    /// the present.
    pub const fn rewind(&mut self, position: usize) -> Result<()> {
        if position > self.position {
            return Err(Error::BadArgument { what: "cannot rewind forward" });
        }
        if position == 0 {
            self.clear();
            return Ok(());
        }
        if position < self.oldest() {
            return Err(Error::CannotRewind { oldest: self.oldest() as u32 });
        }
        self.position = position;
        Ok(())
    }

    /// A timeline of `position` tokens (all of them 0) that nobody evaluated: `fill` gives every vector that the cache
    /// would hold of them, layer by layer: the window's keys `[d]`, the compressors' recent c and z rows `[c*s]`, their
    /// entries `[d]` and the indexer's keys.
    ///
    /// For measurements: what follows runs the same code over the same memory as behind real tokens, whose keys are
    /// normalized and so have values of unit variance. [`Error::ContextFull`] for more than the context.
    pub fn pretend(&mut self, position: usize, fill: &mut dyn FnMut(&mut [f32])) -> Result<()> {
        if position > self.params.context {
            return Err(Error::ContextFull { context: self.params.context as u32 });
        }
        self.cache.fill(self.model.config(), position, fill);
        self.tokens[..position].fill(0);
        (self.position, self.written, self.restored) = (position, position, 0);
        Ok(())
    }

    /// Goes back to where the timeline and `tokens` part, so that evaluating the rest of `tokens` is all that is left to
    /// do: gives how many need not be evaluated again. At least one is left, so that there are logits.
    pub fn keep_prefix(&mut self, tokens: &[u32]) -> usize {
        let same = self.tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let keep = same.min(tokens.len().saturating_sub(1));
        if self.rewind(keep).is_err() {
            self.clear();
        }
        self.position
    }

    /// Appends `tokens` and computes the logits asked for.
    ///
    /// Errors: [`Error::BadToken`], [`Error::ContextFull`] and [`Error::BadArgument`] (a logits slice of another
    /// length) before anything is computed; [`Error::Cancelled`] and [`Error::BadExpert`] after a whole number of
    /// batches, which stay.
    pub fn eval(&mut self, tokens: &[u32], mut logits: Logits<'_>, run: &mut Run<'_>) -> Result<()> {
        let config = self.model.config();
        let vocab = config.vocab;
        if let Some(&token) = tokens.iter().find(|&&t| t as usize >= vocab) {
            return Err(Error::BadToken { token });
        }
        if tokens.len() > self.params.context - self.position {
            return Err(Error::ContextFull { context: self.params.context as u32 });
        }
        let fits = match &logits {
            Logits::None => true,
            Logits::Last(out) => !tokens.is_empty() && out.len() == vocab,
            Logits::All(out) => tokens.len().checked_mul(vocab) == Some(out.len()),
        };
        if !fits {
            return Err(Error::BadArgument { what: "logits: wrong length" });
        }
        let cx = Context { parallel: run.parallel, matmul: self.params.matmul, level: self.params.level };
        for (i, tokens_now) in tokens.chunks(self.params.batch).enumerate() {
            let done = i * self.params.batch;
            let batch = Batch { start: self.position, tokens: tokens_now, cx };
            self.written = self.written.max(self.position + tokens_now.len());
            let progress = &mut |layer| (run.progress)(Progress { tokens: done, of: tokens.len(), layer });
            self.forward(&batch, progress, &mut run.observer)?;
            let rows = match &mut logits {
                Logits::All(out) => Some((0, &mut out[done * vocab..][..tokens_now.len() * vocab])),
                Logits::Last(out) if done + tokens_now.len() == tokens.len() => {
                    Some((tokens_now.len() - 1, &mut **out))
                }
                _ => None,
            };
            if let Some((first, out)) = rows {
                self.head(&cx, first, out)?;
            }
            self.tokens[self.position..][..tokens_now.len()].copy_from_slice(tokens_now);
            self.position += tokens_now.len();
        }
        Ok(())
    }

    /// All layers over one batch: leaves its final streams in scratch.
    fn forward(
        &mut self,
        batch: &Batch<'_>,
        progress: &mut dyn FnMut(usize) -> bool,
        observer: &mut Option<&mut dyn Observer>,
    ) -> Result<()> {
        let weights = self.model.weights();
        layer::embed(batch, self.model.config(), &weights.head().token_embd, &mut self.scratch);
        for index in 0..self.model.config().layers {
            let mut cache = self.cache.layer(self.model.config(), index);
            layer::forward(batch, self.model, index, &weights.layer(index), &mut cache, &mut self.scratch, observer)?;
            if !progress(index + 1) {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }

    /// The logits [rows, V] of the batch in scratch, from its token `first` on, as many as `out` holds.
    fn head(&mut self, cx: &Context<'_>, first: usize, out: &mut [f32]) -> Result<()> {
        layer::head(cx, self.model.config(), &self.model.weights().head(), first, &mut self.scratch, out);
        Ok(())
    }
}
