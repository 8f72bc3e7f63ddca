//! A tokenizer that owns its index.

use crate::error::{Failure, Result};
use crate::memory::Memory;
use dsv4_core::error::Error;
use dsv4_core::format::gguf::Gguf;
use dsv4_core::token::{ChatTokens, Gguf as GgufSource, Source, StreamDecoder, Think, Tokenizer as CoreTokenizer};
use self_cell::{MutBorrow, self_cell};
use std::rc::Rc;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

self_cell!(
    struct Built {
        owner: MutBorrow<Memory>,
        #[covariant]
        dependent: CoreTokenizer,
    }
);

/// Text to tokens and back.
#[wasm_bindgen]
pub struct Tokenizer(Rc<Built>);

impl Tokenizer {
    pub(crate) fn from_header(header: &Gguf<'_>) -> Result<Self> {
        Self::build(&Source::Gguf(GgufSource::from_header(header)?))
    }

    fn build(source: &Source<'_>) -> Result<Self> {
        let memory = MutBorrow::new(Memory::zeroed(CoreTokenizer::plan(source)?)?);
        let built = Built::try_new(memory, |memory| CoreTokenizer::new(source, memory.borrow_mut().bytes_mut()))?;
        Ok(Self(Rc::new(built)))
    }

    fn core(&self) -> &CoreTokenizer<'_> {
        self.0.borrow_dependent()
    }

    fn encode_onto(&self, text: &str, special: bool, tokens: &mut Vec<u32>) -> Result<()> {
        let start = tokens.len();
        tokens.resize(start + text.len(), 0);
        // Enough for pieces of up to 4 KiB; longer ones, which plain text has not, say what they need.
        let mut scratch = vec![0; CoreTokenizer::scratch(text.len().min(4096))];
        let count = match self.core().encode(text, special, &mut scratch, &mut tokens[start..]) {
            Err(Error::MemoryTooSmall { .. }) => {
                scratch = vec![0; CoreTokenizer::scratch(text.len())];
                self.core().encode(text, special, &mut scratch, &mut tokens[start..])
            }
            result => result,
        }?;
        tokens.truncate(start + count);
        Ok(())
    }
}

#[wasm_bindgen]
impl Tokenizer {
    /// The tokenizer of a `tokenizer.json`, or of a GGUF file's header.
    #[wasm_bindgen(constructor)]
    pub fn new(file: &[u8]) -> std::result::Result<Self, JsValue> {
        if file.starts_with(b"GGUF") {
            return Ok(Self::from_header(&Gguf::parse(file).map_err(Failure)?)?);
        }
        Ok(Self::build(&Source::Json(file))?)
    }

    /// One more than the highest id.
    #[wasm_bindgen(getter)]
    pub fn vocab(&self) -> usize {
        self.core().vocab_len()
    }

    /// The token that begins a text.
    #[wasm_bindgen(getter)]
    pub fn bos(&self) -> Option<u32> {
        self.core().bos()
    }

    /// The token that ends a text.
    #[wasm_bindgen(getter)]
    pub fn eos(&self) -> Option<u32> {
        self.core().eos()
    }

    /// Whether the vocabulary has the tokens of the chat format.
    #[wasm_bindgen(getter, js_name = knowsChat)]
    pub fn knows_chat(&self) -> bool {
        ChatTokens::new(self.core()).is_ok()
    }

    /// The token with exactly this text.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.core().token_id(text)
    }

    /// Whether the token is structure that a reader should not see as text.
    #[wasm_bindgen(js_name = isControl)]
    pub fn is_control(&self, id: u32) -> bool {
        self.core().is_control(id)
    }

    /// The tokens of `text`; added tokens in it are recognized if `special`, and else are plain text.
    pub fn encode(&self, text: &str, special: bool) -> std::result::Result<Vec<u32>, JsValue> {
        let mut tokens = Vec::new();
        self.encode_onto(text, special, &mut tokens)?;
        Ok(tokens)
    }

    /// The text of `tokens`; U+FFFD where their bytes are not whole characters.
    pub fn decode(&self, tokens: &[u32]) -> std::result::Result<String, JsValue> {
        let mut bytes = Vec::new();
        for &token in tokens {
            bytes.extend_from_slice(self.core().piece(token).ok_or(Failure(Error::BadToken { token }))?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A conversation, up to where the model answers: message i is `texts[i]`, by `roles[i]` (`system`, which may only
    /// be first, `user` or `assistant`). `think` is `off`, `high` or `max`.
    pub fn chat(&self, roles: Vec<String>, texts: Vec<String>, think: &str) -> std::result::Result<Vec<u32>, JsValue> {
        let bad = |what| Failure(Error::BadArgument { what });
        let structure = ChatTokens::new(self.core()).map_err(Failure)?;
        let think = match think {
            "off" => Think::Off,
            "high" => Think::High,
            "max" => Think::Max,
            _ => Err(bad("think must be off, high or max"))?,
        };
        let mut messages: Vec<_> = roles.iter().map(String::as_str).zip(texts).collect();
        let system = match messages.first() {
            Some(("system", _)) => messages.remove(0).1,
            _ => String::new(),
        };
        let mut tokens = vec![structure.bos];
        self.encode_onto(&format!("{}{system}", think.effort()), false, &mut tokens)?;
        let last = messages.len().wrapping_sub(1);
        for (i, (role, text)) in messages.into_iter().enumerate() {
            match role {
                "user" => {
                    tokens.push(structure.user);
                    self.encode_onto(&text, false, &mut tokens)?;
                    tokens.extend(structure.answer(if i == last { think } else { Think::Off }));
                }
                "assistant" if i < last => {
                    self.encode_onto(&text, false, &mut tokens)?;
                    tokens.push(structure.eos);
                }
                "assistant" => Err(bad("the last message must be the user's"))?,
                _ => Err(bad("a message's role must be system (first only), user or assistant"))?,
            }
        }
        Ok(tokens)
    }

    /// Text from tokens as they come.
    pub fn decoder(&self) -> Decoder {
        Decoder { tokenizer: Self(self.0.clone()), stream: StreamDecoder::new() }
    }
}

/// Text from tokens as they come: a character whose bytes lie in several tokens is held back until it is whole.
#[wasm_bindgen]
pub struct Decoder {
    tokenizer: Tokenizer,
    stream: StreamDecoder,
}

#[wasm_bindgen]
impl Decoder {
    /// The text that `token` completes; nothing for structure.
    pub fn push(&mut self, token: u32) -> std::result::Result<String, JsValue> {
        let core = self.tokenizer.core();
        let bytes = if core.is_control(token) { None } else { core.piece(token) }.unwrap_or_default();
        let mut text = vec![0; StreamDecoder::out_len(bytes.len())];
        Ok(self.stream.push(bytes, &mut text).map_err(Failure)?.to_owned())
    }

    /// What is left: U+FFFD for half a character.
    pub fn finish(&mut self) -> String {
        self.stream.finish().to_owned()
    }
}
