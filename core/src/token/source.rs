//! Where a vocabulary comes from: GGUF's metadata arrays, or a `tokenizer.json`; both read in place.
//!
//! Whichever it is, [`Opened::tokens`] and [`Opened::merges`] tell the same: each token's id, bytes and kind, each merge's two
//! halves. They read the source anew each time: once to measure, once to build.

use super::{Kind, MAX_TOKEN, alphabet, split};
use crate::bytes::Cursor;
use crate::error::{Error, Name, Result};
use crate::format::gguf::{Array, Gguf as File, STRING};
use crate::format::json::{Event, Reader, Text};

/// An array of strings as it lies in a GGUF file: each its length (`u64`, little-endian) and its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strings<'a> {
    /// The strings, one after the other.
    pub bytes: &'a [u8],
    /// How many there are.
    pub count: u64,
}

impl<'a> Strings<'a> {
    fn each(&self, mut f: impl FnMut(u32, &'a [u8]) -> Result<()>) -> Result<()> {
        let mut cursor = Cursor::new(self.bytes);
        for i in 0..self.count {
            let len = cursor.u64()?;
            f(u32::try_from(i).map_err(|_| Error::TooLarge)?, cursor.take(len)?)?;
        }
        Ok(())
    }
}

/// A GGUF file's tokenizer: its `tokenizer.ggml.*` metadata.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gguf<'a> {
    /// `model`: `gpt2`, byte-level BPE.
    pub model: &'a [u8],
    /// `pre`: `joyai-llm` or `deepseek-v3`.
    pub pre: &'a [u8],
    /// `tokens`, in the order of their ids.
    pub tokens: Strings<'a>,
    /// `token_type`: one little-endian `i32` a token (1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused); empty: all normal.
    pub token_types: &'a [u8],
    /// `merges`, in the order of their ranks: two tokens with a space between.
    pub merges: Strings<'a>,
    /// `bos_token_id`
    pub bos: Option<u32>,
    /// `eos_token_id`
    pub eos: Option<u32>,
}

impl<'a> Gguf<'a> {
    /// What a file's header says of its tokenizer. [`Error::BadValueType`] or [`Error::BadValue`] name the key that makes
    /// no sense.
    pub fn from_header(header: &File<'a>) -> Result<Self> {
        /// The format's number of 32-bit signed integers.
        const I32: u32 = 5;
        /// The same, unsigned.
        const U32: u32 = 4;

        let found = header.tokenizer()?;
        let strings = |array: Option<Array<'a>>, key: &str| match array {
            None => Ok(Strings::default()),
            Some(array) if array.element() == STRING => Ok(Strings { bytes: array.bytes(), count: array.len() }),
            Some(_) => Err(Error::BadValueType { key: key.into() }),
        };
        let id = |id: Option<u64>, key: &str| {
            id.map(|id| u32::try_from(id).map_err(|_| Error::BadValue { key: key.into() })).transpose()
        };
        let token_types = match found.token_type {
            None => &[][..],
            Some(array) if matches!(array.element(), I32 | U32) => array.bytes(),
            Some(_) => return Err(Error::BadValueType { key: "tokenizer.ggml.token_type".into() }),
        };
        Ok(Self {
            model: found.model.unwrap_or_default(),
            pre: found.pre.unwrap_or_default(),
            tokens: strings(found.tokens, "tokenizer.ggml.tokens")?,
            token_types,
            merges: strings(found.merges, "tokenizer.ggml.merges")?,
            bos: id(found.bos, "tokenizer.ggml.bos_token_id")?,
            eos: id(found.eos, "tokenizer.ggml.eos_token_id")?,
        })
    }
}

/// A vocabulary in borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// GGUF metadata.
    Gguf(Gguf<'a>),
    /// The bytes of a `tokenizer.json`.
    Json(&'a [u8]),
}

impl<'a> Source<'a> {
    /// Checks what kind of tokenizer this is, and finds its parts.
    pub(super) fn open(&self) -> Result<Opened<'a>> {
        match *self {
            Self::Gguf(gguf) => {
                if gguf.model != b"gpt2" {
                    return Err(Error::NoTokenizer);
                }
                if !matches!(gguf.pre, b"joyai-llm" | b"deepseek-v3") {
                    return Err(Error::UnsupportedPreTokenizer { name: Name::new(gguf.pre) });
                }
                if !gguf.token_types.is_empty()
                    && Some(gguf.token_types.len() as u64) != gguf.tokens.count.checked_mul(4)
                {
                    return Err(Error::BadValue { key: "tokenizer.ggml.token_type".into() });
                }
                Ok(Opened::Gguf(gguf))
            }
            Self::Json(bytes) => open_json(bytes),
        }
    }
}

/// A source whose kind was checked.
pub(super) enum Opened<'a> {
    Gguf(Gguf<'a>),
    /// Before each of these values.
    Json {
        added: Option<Reader<'a>>,
        vocab: Reader<'a>,
        merges: Reader<'a>,
    },
}

impl Opened<'_> {
    /// Every token's id, bytes and kind. A token may come twice: as an added token, then from the vocabulary.
    pub(super) fn tokens(&self, mut f: impl FnMut(u32, &[u8], Kind) -> Result<()>) -> Result<()> {
        match *self {
            Self::Gguf(gguf) => gguf.tokens.each(|id, text| {
                let kind = match gguf.token_types.get(id as usize * 4..).and_then(|t| t.first_chunk()) {
                    None => Kind::default(),
                    Some(&t) => match i32::from_le_bytes(t) {
                        2 | 3 => Kind::ADDED.and(Kind::CONTROL),
                        4 => Kind::ADDED,
                        5 => Kind::UNUSED,
                        _ => Kind::default(),
                    },
                };
                spelled(id, text, kind, &mut f)
            }),
            Self::Json { added, mut vocab, .. } => {
                let mut text_buffer = [0; 2 * MAX_TOKEN];
                if let Some(mut reader) = added {
                    reader.enter(Event::Array)?;
                    while reader.more()? {
                        let (id, text, kind) = added_token(&mut reader)?;
                        let text = text.copy_to(&mut text_buffer).ok_or(Error::BadVocabulary { index: id })?;
                        spelled(id, text, kind, &mut f)?;
                    }
                }
                vocab.enter(Event::Object)?;
                while vocab.more()? {
                    let error = vocab.error();
                    let text = vocab.key()?;
                    let id = vocab.number()?.u64().and_then(|id| u32::try_from(id).ok()).ok_or(error)?;
                    let text = text.copy_to(&mut text_buffer).ok_or(Error::BadVocabulary { index: id })?;
                    spelled(id, text, Kind::default(), &mut f)?;
                }
                Ok(())
            }
        }
    }

    /// Every merge's rank and its two halves, in the spelling of the vocabulary.
    pub(super) fn merges(&self, mut f: impl FnMut(u32, &[u8], &[u8]) -> Result<()>) -> Result<()> {
        match *self {
            Self::Gguf(gguf) => gguf.merges.each(|rank, text| {
                let (left, right) = halves(text).ok_or(Error::BadVocabulary { index: rank })?;
                f(rank, left, right)
            }),
            Self::Json { mut merges, .. } => {
                let mut buffer = [0; 2 * MAX_TOKEN + 1];
                let mut rank = 0u32;
                merges.enter(Event::Array)?;
                while merges.more()? {
                    let bad = Error::BadVocabulary { index: rank };
                    let error = merges.error();
                    match merges.event()? {
                        Event::Text(text) => {
                            let (left, right) = text.copy_to(&mut buffer).and_then(halves).ok_or(bad)?;
                            f(rank, left, right)?;
                        }
                        // The newer form: ["left", "right"].
                        Event::Array if merges.more()? => {
                            let mut right_buffer = [0; 2 * MAX_TOKEN];
                            let left = merges.text()?.copy_to(&mut buffer).ok_or(bad)?;
                            let right = merges.text()?.copy_to(&mut right_buffer).ok_or(bad)?;
                            if merges.more()? {
                                return Err(error);
                            }
                            f(rank, left, right)?;
                        }
                        _ => return Err(error),
                    }
                    rank = rank.checked_add(1).ok_or(Error::TooLarge)?;
                }
                Ok(())
            }
        }
    }
}

/// The two tokens of a merge, which a space separates: the byte alphabet has none.
fn halves(merge: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = merge.iter().position(|&b| b == b' ')?;
    Some((merge.get(..space)?, merge.get(space + 1..)?))
}

/// Passes a token on by its bytes: those that its text spells in the byte alphabet, or the text itself where it is an added
/// token or no such spelling.
fn spelled(id: u32, text: &[u8], kind: Kind, f: &mut impl FnMut(u32, &[u8], Kind) -> Result<()>) -> Result<()> {
    let mut buffer = [0; MAX_TOKEN];
    if !kind.has(Kind::ADDED)
        && let Some(bytes) = alphabet::decode(text, &mut buffer)
    {
        return f(id, bytes, kind.and(Kind::BYTES));
    }
    if text.len() > MAX_TOKEN {
        return Err(Error::BadVocabulary { index: id });
    }
    f(id, text, kind)
}

/// One of `added_tokens`.
fn added_token<'a>(reader: &mut Reader<'a>) -> Result<(u32, Text<'a>, Kind)> {
    let error = reader.error();
    let (mut id, mut content, mut kind) = (None, None, Kind::ADDED);
    reader.enter(Event::Object)?;
    while reader.more()? {
        let key = reader.key()?;
        if key == *"id" {
            id = reader.number()?.u64().and_then(|id| u32::try_from(id).ok());
        } else if key == *"content" {
            content = Some(reader.text()?);
        } else if key == *"special" {
            kind = if reader.bool()? { kind.and(Kind::CONTROL) } else { kind };
        } else if key == *"normalized" {
            kind = if reader.bool()? { kind.and(Kind::LATER) } else { kind };
        } else if key == *"lstrip" || key == *"rstrip" || key == *"single_word" {
            if reader.bool()? {
                return Err(Error::Unsupported { what: "added tokens with lstrip, rstrip or single_word" });
            }
        } else {
            reader.skip_value()?;
        }
    }
    let (id, content) = id.zip(content).ok_or(error)?;
    // Not flagged as special in V4's file: <｜User｜>, <｜Assistant｜> and their like. GGUF's converter sees through it too.
    let surrounded = |open: &str, close: &str| {
        let mut chars = content.chars();
        open.chars().all(|c| chars.next() == Some(c)) && {
            let (len, close_len) = (chars.clone().count(), close.chars().count());
            len >= close_len && chars.skip(len - close_len).eq(close.chars())
        }
    };
    if surrounded("<｜", "｜>") || surrounded("<|", "|>") {
        kind = kind.and(Kind::CONTROL);
    }
    Ok((id, content, kind))
}

/// Walks a `tokenizer.json`: refuses what is not byte-level BPE with this pre-tokenizer, and finds the large parts.
fn open_json(bytes: &[u8]) -> Result<Opened<'_>> {
    let (mut added, mut model, mut pre_tokenizer) = (None, None, None);
    let mut reader = Reader::new(bytes);
    reader.enter(Event::Object)?;
    while reader.more()? {
        let key = reader.key()?;
        let value = reader;
        if key == *"added_tokens" {
            once(&mut added, value, "added_tokens")?;
        } else if key == *"model" {
            once(&mut model, value, "model")?;
        } else if key == *"pre_tokenizer" {
            once(&mut pre_tokenizer, value, "pre_tokenizer")?;
        } else if key == *"normalizer" {
            check_normalizer(value)?;
        }
        reader.skip_value()?;
    }
    if reader.event()? != Event::End {
        return Err(reader.error());
    }
    let (vocab, merges) = open_model(model.ok_or(Error::NoTokenizer)?)?;
    check_pre_tokenizer(pre_tokenizer.ok_or(Error::UnsupportedPreTokenizer { name: "".into() })?)?;
    Ok(Opened::Json { added, vocab, merges })
}

/// Keeps the place of a value that may come only once.
fn once<'a>(place: &mut Option<Reader<'a>>, value: Reader<'a>, key: &str) -> Result<()> {
    if place.replace(value).is_some() { Err(Error::DuplicateKey { key: key.into() }) } else { Ok(()) }
}

/// The places of `vocab` and `merges`. A model with any feature that V4's does not use is refused.
fn open_model(mut reader: Reader<'_>) -> Result<(Reader<'_>, Reader<'_>)> {
    let (mut vocab, mut merges) = (None, None);
    reader.enter(Event::Object)?;
    while reader.more()? {
        let key = reader.key()?;
        let value = reader;
        if key == *"vocab" {
            once(&mut vocab, value, "vocab")?;
            reader.skip_value()?;
        } else if key == *"merges" {
            once(&mut merges, value, "merges")?;
            reader.skip_value()?;
        } else if key == *"type" {
            if reader.text()? != *"BPE" {
                return Err(Error::NoTokenizer);
            }
        } else {
            // Off is null, false or an empty text, whichever the key.
            let off = match reader.event()? {
                Event::Null | Event::Bool(false) => true,
                Event::Text(text) => text == *"",
                _ => false,
            };
            if !off {
                return Err(Error::Unsupported { what: "a tokenizer model other than plain byte-level BPE" });
            }
        }
    }
    vocab.zip(merges).ok_or(Error::NoTokenizer)
}

/// `null`, or a sequence of none.
fn check_normalizer(mut reader: Reader<'_>) -> Result<()> {
    let unsupported = Error::Unsupported { what: "a normalizer" };
    match reader.event()? {
        Event::Null => return Ok(()),
        Event::Object => {}
        _ => return Err(unsupported),
    }
    while reader.more()? {
        let key = reader.key()?;
        let plain = if key == *"type" {
            reader.text()? == *"Sequence"
        } else {
            key == *"normalizers" && reader.event()? == Event::Array && !reader.more()?
        };
        if !plain {
            return Err(unsupported);
        }
    }
    Ok(())
}

/// A sequence of the three splits and the byte alphabet: their settings one by one, in whatever order they are written.
fn check_pre_tokenizer(mut reader: Reader<'_>) -> Result<()> {
    let unsupported = |what: Option<Text<'_>>| {
        let mut buffer = [0; Name::MAX];
        let what = what.and_then(|w| w.copy_to(&mut buffer)).unwrap_or(b"of tokenizer.json");
        Error::UnsupportedPreTokenizer { name: Name::new(what) }
    };
    let mut key = None;
    let (mut splits, mut byte_levels) = (0, 0);
    let (mut depth, mut byte_level_splits) = (0u32, true);
    loop {
        let fits = match reader.event()? {
            Event::Key(k) => {
                key = Some(k);
                true
            }
            Event::Object | Event::Array => {
                depth += 1;
                true
            }
            Event::ObjectEnd | Event::ArrayEnd => {
                depth -= 1;
                true
            }
            Event::Text(text) => match key {
                Some(k) if k == *"type" && text == *"Split" => byte_levels == 0,
                Some(k) if k == *"type" && text == *"ByteLevel" => {
                    byte_levels += 1;
                    true
                }
                Some(k) if k == *"type" => text == *"Sequence",
                Some(k) if k == *"behavior" => text == *"Isolated",
                Some(k) if k == *"Regex" => {
                    let known = split::PATTERNS.get(splits).is_some_and(|p| text == **p)
                        || splits == 2 && text == *split::GENERAL_WITH_NEWLINES;
                    if !known {
                        return Err(unsupported(Some(text)));
                    }
                    splits += 1;
                    true
                }
                _ => false,
            },
            Event::Bool(value) => match key {
                Some(k) if k == *"trim_offsets" => true,
                Some(k) if k == *"use_regex" => {
                    byte_level_splits = value;
                    !value
                }
                _ => !value,
            },
            Event::Null | Event::Number(_) | Event::End => false,
        };
        if !fits {
            return Err(unsupported(key));
        }
        if depth == 0 {
            break;
        }
    }
    if splits == 3 && byte_levels == 1 && !byte_level_splits { Ok(()) } else { Err(unsupported(None)) }
}
