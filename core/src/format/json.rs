//! JSON read in place: a pull reader without allocation or recursion, for `tokenizer.json`, `config.json` and the headers
//! of safetensors.
//!
//! ```text
//! {"a": [1, true]}   ->   Object  Key("a")  Array  Number(1)  Bool(true)  ArrayEnd  ObjectEnd  End
//! ```
//!
//! [`Reader`] is a `Copy` cursor: a copy taken before a value reads that value again later, which is how a file whose
//! parts refer to one another is read in any order. Nesting is at most [`DEPTH`]; everything else is linear in the text.
//! Keys may repeat, and may be escaped: [`Text`] compares by what is meant, so that callers can refuse duplicates.

use crate::error::{Error, Result};

/// Arrays and objects open at once; deeper texts are refused.
pub const DEPTH: u32 = 128;

/// One step through a JSON text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// `{`
    Object,
    /// `}`
    ObjectEnd,
    /// `[`
    Array,
    /// `]`
    ArrayEnd,
    /// A member's name; its value follows.
    Key(Text<'a>),
    /// A string.
    Text(Text<'a>),
    /// A number.
    Number(Number<'a>),
    /// `true` or `false`
    Bool(bool),
    /// `null`
    Null,
    /// The text ended, with nothing but white space after its one value.
    End,
}

/// What the grammar allows next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value.
    Value,
    /// A member's name.
    Key,
    /// The first element or member, or the close.
    Open,
    /// A comma or the close; at depth 0, the end.
    After,
}

/// A position in a JSON text.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    /// Bit d: whether the container at depth d + 1 is an object.
    objects: u128,
    state: State,
}

impl<'a> Reader<'a> {
    /// Starts before the text's one value.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0, objects: 0, state: State::Value }
    }

    /// The offset reached, in bytes.
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// [`Error::BadJson`] at this offset.
    pub const fn error(&self) -> Error {
        Error::BadJson { at: self.at as u64 }
    }

    /// The next event.
    pub fn event(&mut self) -> Result<Event<'a>> {
        if matches!(self.state, State::Open | State::After) {
            if self.depth == 0 {
                self.skip_space();
                return if self.at == self.bytes.len() { Ok(Event::End) } else { Err(self.error()) };
            }
            let object = self.in_object();
            if !self.more()? {
                return Ok(if object { Event::ObjectEnd } else { Event::ArrayEnd });
            }
        }
        if self.state == State::Key { self.member() } else { self.value() }
    }

    /// Whether the open array or object has another element or member: the reader is then before it; otherwise it has
    /// left the container.
    pub fn more(&mut self) -> Result<bool> {
        self.skip_space();
        let close = if self.in_object() { b'}' } else { b']' };
        match self.state {
            State::Open | State::After if self.depth > 0 && self.peek() == Some(close) => {
                self.at += 1;
                self.depth -= 1;
                self.state = State::After;
                return Ok(false);
            }
            State::Open if self.depth > 0 => {}
            State::After if self.depth > 0 && self.peek() == Some(b',') => self.at += 1,
            _ => return Err(self.error()),
        }
        self.state = if self.in_object() { State::Key } else { State::Value };
        Ok(true)
    }

    /// Enters the array or object that must come next.
    pub fn enter(&mut self, container: Event<'_>) -> Result<()> {
        let error = self.error();
        if self.event()? == container { Ok(()) } else { Err(error) }
    }

    /// The name of the next member.
    pub fn key(&mut self) -> Result<Text<'a>> {
        let error = self.error();
        if let Event::Key(key) = self.event()? { Ok(key) } else { Err(error) }
    }

    /// The string that must come next.
    pub fn text(&mut self) -> Result<Text<'a>> {
        let error = self.error();
        if let Event::Text(text) = self.event()? { Ok(text) } else { Err(error) }
    }

    /// The number that must come next.
    pub fn number(&mut self) -> Result<Number<'a>> {
        let error = self.error();
        if let Event::Number(number) = self.event()? { Ok(number) } else { Err(error) }
    }

    /// The `true` or `false` that must come next.
    pub fn bool(&mut self) -> Result<bool> {
        let error = self.error();
        if let Event::Bool(value) = self.event()? { Ok(value) } else { Err(error) }
    }

    /// Passes over the value that comes next, whatever it holds, checking its grammar.
    pub fn skip_value(&mut self) -> Result<()> {
        let depth = self.depth;
        loop {
            let error = self.error();
            if matches!(self.event()?, Event::End | Event::Key(_)) && self.depth == depth {
                return Err(error);
            }
            if self.depth <= depth {
                return Ok(());
            }
        }
    }

    fn in_object(&self) -> bool {
        self.depth > 0 && self.objects >> (self.depth - 1) & 1 == 1
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn member(&mut self) -> Result<Event<'a>> {
        self.skip_space();
        let key = self.string()?;
        self.skip_space();
        self.literal(b":")?;
        self.state = State::Value;
        Ok(Event::Key(key))
    }

    fn value(&mut self) -> Result<Event<'a>> {
        self.skip_space();
        let event = match self.peek() {
            Some(b'{') => return self.open(true),
            Some(b'[') => return self.open(false),
            Some(b'"') => Event::Text(self.string()?),
            Some(b't') => self.literal(b"true").map(|()| Event::Bool(true))?,
            Some(b'f') => self.literal(b"false").map(|()| Event::Bool(false))?,
            Some(b'n') => self.literal(b"null").map(|()| Event::Null)?,
            Some(b'-' | b'0'..=b'9') => Event::Number(self.digits()?),
            _ => return Err(self.error()),
        };
        self.state = State::After;
        Ok(event)
    }

    fn open(&mut self, object: bool) -> Result<Event<'a>> {
        if self.depth == DEPTH {
            return Err(self.error());
        }
        let bit = 1 << self.depth;
        self.objects = if object { self.objects | bit } else { self.objects & !bit };
        self.depth += 1;
        self.at += 1;
        self.state = State::Open;
        Ok(if object { Event::Object } else { Event::Array })
    }

    fn literal(&mut self, word: &[u8]) -> Result<()> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.error());
        }
        self.at += word.len();
        Ok(())
    }

    /// `"` characters and escapes `"`
    fn string(&mut self) -> Result<Text<'a>> {
        self.literal(b"\"")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    let rest = self.bytes.get(self.at + 1..).unwrap_or(&[]);
                    let (_, len) = escape(rest).ok_or(self.error())?;
                    self.at += 1 + len;
                }
                Some(0..0x20) | None => return Err(self.error()),
                Some(_) => self.at += 1,
            }
        }
        let raw = self.bytes.get(start..self.at).unwrap_or(&[]);
        let raw = core::str::from_utf8(raw).map_err(|e| Error::BadJson { at: (start + e.valid_up_to()) as u64 })?;
        self.at += 1;
        Ok(Text { raw, escaped })
    }

    /// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
    fn digits(&mut self) -> Result<Number<'a>> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let first = self.peek();
        let whole = self.digit_run()?;
        if first == Some(b'0') && whole > 1 {
            return Err(self.error());
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digit_run()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digit_run()?;
        }
        let text = self.bytes.get(start..self.at).and_then(|t| core::str::from_utf8(t).ok());
        text.map(|text| Number { text }).ok_or(self.error())
    }

    fn digit_run(&mut self) -> Result<usize> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start { Ok(self.at - start) } else { Err(self.error()) }
    }
}

/// The character that an escape means and the escape's length, both without its backslash. Surrogates must come in pairs.
fn escape(rest: &[u8]) -> Option<(char, usize)> {
    let c = match rest.first()? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let high = hex4(rest.get(1..5)?)?;
            if !(0xd800..0xdc00).contains(&high) {
                return Some((char::from_u32(high)?, 5));
            }
            let low = hex4(rest.get(5..11)?.strip_prefix(b"\\u")?)?;
            let pair = 0x10000 + ((high - 0xd800) << 10) + low.checked_sub(0xdc00).filter(|&l| l < 0x400)?;
            return Some((char::from_u32(pair)?, 11));
        }
        _ => return None,
    };
    Some((c, 1))
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |n, &d| Some(n << 4 | char::from(d).to_digit(16)?))
}

/// A string of a JSON text, escapes checked but not replaced. Equality is of the meaning, not the spelling.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// The characters meant.
    pub fn chars(&self) -> impl Iterator<Item = char> + Clone + 'a {
        let mut rest = self.raw;
        core::iter::from_fn(move || {
            let c = rest.chars().next()?;
            let mut after = rest.get(c.len_utf8()..)?;
            let c = if c == '\\' {
                let (c, len) = escape(after.as_bytes())?;
                after = after.get(len..)?;
                c
            } else {
                c
            };
            rest = after;
            Some(c)
        })
    }

    /// The string itself where no escape is in it.
    pub fn as_str(&self) -> Option<&'a str> {
        (!self.escaped).then_some(self.raw)
    }

    /// The meaning as UTF-8 in `buffer`; `None` when it is too small.
    pub fn copy_to<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let mut len = 0;
        if let Some(text) = self.as_str() {
            len = text.len();
            buffer.get_mut(..len)?.copy_from_slice(text.as_bytes());
        } else {
            for c in self.chars() {
                let end = len + c.len_utf8();
                c.encode_utf8(buffer.get_mut(len..end)?);
                len = end;
            }
        }
        buffer.get(..len)
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        if self.escaped || other.escaped { self.chars().eq(other.chars()) } else { self.raw == other.raw }
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        if self.escaped { self.chars().eq(other.chars()) } else { self.raw == other }
    }
}

/// A number of a JSON text, as it is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number<'a> {
    text: &'a str,
}

impl<'a> Number<'a> {
    /// The spelling.
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// The value of a number spelled as an integer, where it fits (`1.0` and `1e3` are none).
    pub fn u64(&self) -> Option<u64> {
        self.text.parse().ok()
    }

    /// The value of a number spelled as an integer, where it fits.
    pub fn i64(&self) -> Option<i64> {
        self.text.parse().ok()
    }

    /// The nearest double; `None` where that is infinite (`1e400`).
    pub fn f64(&self) -> Option<f64> {
        self.text.parse().ok().filter(|x: &f64| x.is_finite())
    }
}
