//! The chat format of DeepSeek-V4, as far as plain turns go.
//!
//! ```text
//! <bos>[effort][system]<User>text<Assistant></think>answer<eos><User>text<Assistant><think>...
//! ```
//!
//! What people write is encoded as plain text, so that nothing in it can pass for structure.

use crate::host::Tokenizer;
use dsv4_core::error::{Error, Result};

/// How much the model thinks before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Think {
    /// Not at all.
    #[default]
    Off,
    /// As much as it likes.
    High,
    /// As much as it can.
    Max,
}

/// What stands before everything else for [`Think::Max`].
const MAX_EFFORT: &str = "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n\
    You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the root cause, \
    rigorously stress-testing your logic against all potential paths, edge cases, and adversarial scenarios.\n\
    Explicitly write out your entire deliberation process, documenting every intermediate step, considered \
    alternative, and rejected hypothesis to ensure absolutely no assumption is left unchecked.\n\n";

/// The tokens that are structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Begins everything.
    pub bos: u32,
    /// Ends an answer.
    pub eos: u32,
    /// Begins what the user says.
    pub user: u32,
    /// Begins what the model says.
    pub assistant: u32,
    /// Begins its reasoning.
    pub think: u32,
    /// Ends its reasoning.
    pub end_think: u32,
}

impl Template {
    /// The tokens as this vocabulary has them; [`Error::Unsupported`] if one is missing.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let core = tokenizer.core();
        let missing = Error::Unsupported { what: "chat: the vocabulary lacks its tokens" };
        let id = |text| core.token_id(text).ok_or(missing);
        Ok(Self {
            bos: core.bos().ok_or(missing)?,
            eos: core.eos().ok_or(missing)?,
            user: id("<｜User｜>")?,
            assistant: id("<｜Assistant｜>")?,
            think: id("<think>")?,
            end_think: id("</think>")?,
        })
    }

    /// What a conversation begins with.
    pub fn begin(&self, tokenizer: &Tokenizer, think: Think, system: &str) -> Result<Vec<u32>> {
        let effort = if think == Think::Max { MAX_EFFORT } else { "" };
        let mut tokens = vec![self.bos];
        tokens.extend(tokenizer.encode(&format!("{effort}{system}"), false)?);
        Ok(tokens)
    }

    /// What the user says, up to where the model takes over.
    pub fn turn(&self, tokenizer: &Tokenizer, think: Think, text: &str) -> Result<Vec<u32>> {
        let mut tokens = vec![self.user];
        tokens.extend(tokenizer.encode(text, false)?);
        tokens.extend([self.assistant, if think == Think::Off { self.end_think } else { self.think }]);
        Ok(tokens)
    }

    /// A turn that is over, as it stands in the conversation from then on: the answer without the reasoning before it.
    pub fn past(&self, tokenizer: &Tokenizer, think: Think, text: &str, answer: &[u32]) -> Result<Vec<u32>> {
        let mut tokens = self.turn(tokenizer, Think::Off, text)?;
        if think == Think::Off {
            tokens.extend(answer);
        } else if let Some(end) = answer.iter().position(|&token| token == self.end_think) {
            tokens.extend(&answer[end + 1..]);
        }
        tokens.push(self.eos);
        Ok(tokens)
    }
}
