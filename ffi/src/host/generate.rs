//! The loop from a prompt to text.

use crate::host::Session;
use dsv4_core::error::{Error, Result};
use dsv4_core::sampler::{Sampler, Sampling};
use dsv4_core::session::{Logits, Progress};
use dsv4_core::token::StreamDecoder;
use std::time::{Duration, Instant};

/// How to generate.
#[derive(Clone, Debug)]
pub struct Generate {
    /// Tokens at most.
    pub max_tokens: usize,
    /// Chooses the tokens.
    pub sampler: Sampler,
    /// Tokens that end the text; they are not part of it.
    pub stop: Vec<u32>,
}

/// What happens meanwhile.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The prompt is being evaluated.
    Prefill(Progress),
    /// A token was chosen, and completes this text: nothing yet where a character is still half, or the token is
    /// structure.
    Token {
        /// Its id.
        id: u32,
        /// Its text.
        text: &'a str,
    },
    /// The text is at its end, and this is what was left of it.
    End {
        /// A replacement for half a character, if there is one.
        text: &'a str,
    },
}

impl Event<'_> {
    /// The text that has come with it.
    pub const fn text(&self) -> &str {
        match self {
            Self::Prefill(_) => "",
            Self::Token { text, .. } | Self::End { text } => text,
        }
    }
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    Stop,
    /// It has as many tokens as were asked for, or the context is full.
    Length,
    /// The callback ended it.
    Cancelled,
}

impl Finish {
    /// As APIs call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The tokens, without the one that ended them.
    pub tokens: Vec<u32>,
    /// Why they ended.
    pub finish: Finish,
    /// Tokens evaluated before the first was chosen.
    pub prefill_tokens: usize,
    /// Time that took.
    pub prefill: Duration,
    /// Tokens evaluated one by one afterwards.
    pub decode_tokens: usize,
    /// Time from the first token chosen to the end.
    pub decode: Duration,
}

impl Generated {
    /// Prompt tokens a second, if there was anything to measure.
    pub fn prefill_tps(&self) -> Option<f64> {
        rate(self.prefill_tokens, self.prefill)
    }

    /// Generated tokens a second, if there was anything to measure.
    pub fn decode_tps(&self) -> Option<f64> {
        rate(self.decode_tokens, self.decode)
    }
}

/// Tokens a second.
pub fn rate(tokens: usize, time: Duration) -> Option<f64> {
    (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

impl Generate {
    /// `max_tokens` tokens at most, the likeliest one each time, no end but the length.
    pub fn new(max_tokens: usize) -> Self {
        Self { max_tokens, sampler: Sampler::new(Sampling::greedy(), 0), stop: Vec::new() }
    }

    /// Continues `prompt`, all the tokens from the timeline's beginning on: what the timeline shares with it is not
    /// evaluated again. `on_event` is told what happens, and ends it by `false`; the timeline then holds a prefix of
    /// the prompt and the tokens generated, in any case without the last of those.
    pub fn run(
        &mut self,
        session: &mut Session,
        prompt: &[u32],
        on_event: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<Generated> {
        self.sampler.sampling.check()?;
        let model = session.model().clone();
        let vocab = model.core().config().vocab;
        let tokenizer = model.tokenizer()?.core();
        let (mut logits, mut scratch) = (vec![0.0; vocab], vec![0; Sampler::scratch(vocab)]);
        let (mut decoder, mut text) = (StreamDecoder::new(), Vec::new());

        let start = Instant::now();
        let kept = session.keep_prefix(prompt);
        let rest = &prompt[kept..];
        let mut done = Generated {
            tokens: Vec::new(),
            finish: Finish::Length,
            prefill_tokens: rest.len(),
            prefill: Duration::ZERO,
            decode_tokens: 0,
            decode: Duration::ZERO,
        };
        let prefill = session.eval(rest, Logits::Last(&mut logits), &mut |p| on_event(Event::Prefill(p)));
        done.prefill = start.elapsed();
        match prefill {
            Err(Error::Cancelled) => {
                done.finish = Finish::Cancelled;
                return Ok(done);
            }
            result => result?,
        }

        let start = Instant::now();
        while done.tokens.len() < self.max_tokens {
            let id = self.sampler.sample(&mut logits, &[], &[], &mut scratch)?;
            if self.stop.contains(&id) {
                done.finish = Finish::Stop;
                break;
            }
            done.tokens.push(id);
            let bytes = if tokenizer.is_control(id) { None } else { tokenizer.piece(id) }.unwrap_or_default();
            text.resize(StreamDecoder::out_len(bytes.len()), 0);
            if !on_event(Event::Token { id, text: decoder.push(bytes, &mut text)? }) {
                done.finish = Finish::Cancelled;
                break;
            }
            if done.tokens.len() == self.max_tokens {
                break;
            }
            match session.eval(&[id], Logits::Last(&mut logits), &mut |_| true) {
                Err(Error::ContextFull { .. }) => break,
                result => result?,
            }
            done.decode_tokens += 1;
        }
        done.decode = start.elapsed();
        on_event(Event::End { text: decoder.finish() });
        Ok(done)
    }
}
