//! The structure of DeepSeek-V4's chat format, as far as plain turns go. What people write goes between its tokens,
//! encoded as plain text, so that nothing in it can pass for structure.
//!
//! ```text
//! <bos>[effort][system]<User>text<Assistant></think>answer<eos><User>text<Assistant><think>...
//! ```

use super::Tokenizer;
use crate::error::{Error, Result};

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

impl Think {
    /// What stands before everything else.
    pub const fn effort(self) -> &'static str {
        match self {
            Self::Off | Self::High => "",
            Self::Max => MAX_EFFORT,
        }
    }
}

/// [`Think::Max`]'s.
const MAX_EFFORT: &str = "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n\
    You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the root cause, \
    rigorously stress-testing your logic against all potential paths, edge cases, and adversarial scenarios.\n\
    Explicitly write out your entire deliberation process, documenting every intermediate step, considered \
    alternative, and rejected hypothesis to ensure absolutely no assumption is left unchecked.\n\n";

/// The tokens of the chat format's structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatTokens {
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

impl ChatTokens {
    /// The tokens as this vocabulary has them; [`Error::Unsupported`] if one is missing.
    pub fn new(tokenizer: &Tokenizer<'_>) -> Result<Self> {
        let missing = Error::Unsupported { what: "chat: the vocabulary lacks its tokens" };
        let id = |text| tokenizer.token_id(text).ok_or(missing);
        Ok(Self {
            bos: tokenizer.bos().ok_or(missing)?,
            eos: tokenizer.eos().ok_or(missing)?,
            user: id("<｜User｜>")?,
            assistant: id("<｜Assistant｜>")?,
            think: id("<think>")?,
            end_think: id("</think>")?,
        })
    }

    /// What follows the user's text, up to where the model takes over.
    pub const fn answer(&self, think: Think) -> [u32; 2] {
        [self.assistant, if matches!(think, Think::Off) { self.end_think } else { self.think }]
    }
}
