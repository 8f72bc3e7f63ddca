//! A conversation as tokens.

use crate::host::Tokenizer;
use dsv4_core::error::Result;
use dsv4_core::token::{ChatTokens, Think};

/// The chat format, in a vocabulary that has its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// The tokens that are structure.
    pub tokens: ChatTokens,
}

impl Template {
    /// The format in this vocabulary; an error if it lacks one of the tokens.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        Ok(Self { tokens: ChatTokens::new(tokenizer.core())? })
    }

    /// What a conversation begins with.
    pub fn begin(&self, tokenizer: &Tokenizer, think: Think, system: &str) -> Result<Vec<u32>> {
        let mut tokens = vec![self.tokens.bos];
        tokens.extend(tokenizer.encode(&format!("{}{system}", think.effort()), false)?);
        Ok(tokens)
    }

    /// What the user says, up to where the model takes over.
    pub fn turn(&self, tokenizer: &Tokenizer, think: Think, text: &str) -> Result<Vec<u32>> {
        let mut tokens = vec![self.tokens.user];
        tokens.extend(tokenizer.encode(text, false)?);
        tokens.extend(self.tokens.answer(think));
        Ok(tokens)
    }

    /// A turn that is over, as it stands in the conversation from then on: the answer without the reasoning before it.
    pub fn past(&self, tokenizer: &Tokenizer, think: Think, text: &str, answer: &[u32]) -> Result<Vec<u32>> {
        let mut tokens = self.turn(tokenizer, Think::Off, text)?;
        if think == Think::Off {
            tokens.extend(answer);
        } else if let Some(end) = answer.iter().position(|&token| token == self.tokens.end_think) {
            tokens.extend(&answer[end + 1..]);
        }
        tokens.push(self.tokens.eos);
        Ok(tokens)
    }
}
