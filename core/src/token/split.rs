//! The pre-tokenizer `joyai-llm`, which `deepseek-v3` names too: where tokens can not cross.
//!
//! Three regular expressions, each applied to the pieces that the one before left, both its matches and what lay between:
//!
//! 1. `\p{N}{1,3}`: digits in threes, counted from the left of each run.
//! 2. `[一-龥぀-ゟ゠-ヿ]+`: runs of Chinese characters and kana.
//! 3. the general pattern; in the order of its alternatives:
//!    - `[!-/:-@\[-`{-~][A-Za-z]+`: one ASCII punctuation character and the ASCII letters after it;
//!    - `[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+`: a word, combining marks included, with whatever single character
//!      (a space, mostly) comes before it;
//!    - ` ?[\p{P}\p{S}]+[\r\n]*`: punctuation, with a space before it and the newlines after it;
//!    - `\s*[\r\n]+`: white space up to the last newline of the run;
//!    - `\s+(?!\S)`: white space, but for its last character where something else follows: that belongs to what follows;
//!    - `\s+`: that last character, where nothing took it.
//!
//! What no alternative matches is a piece of its own, up to the next match. All in one pass, each character looked at a few
//! times at most: whatever the text, the time is linear.

use super::unicode::Class;

/// The regular expressions above, as `tokenizer.json` spells them.
pub(super) const PATTERNS: [&str; 3] = [
    r"\p{N}{1,3}",
    "[一-龥\u{3040}-ゟ゠-ヿ]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];

/// The same, where the newlines of the third are escapes of JSON and not of the regular expression.
pub(super) const GENERAL_WITH_NEWLINES: &str = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

/// The pieces of `text`, in order; together they are `text`.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    // What is left of the piece that the first two expressions made.
    let mut section = 0;
    core::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let len = if section == 0 && Class::of(first) == Class::Number {
            digits(rest)
        } else {
            if section == 0 {
                section = self::section(rest, first);
            }
            let len = general(&rest[..section]);
            section -= len;
            len
        };
        let (piece, after) = rest.split_at(len);
        rest = after;
        Some(piece)
    })
}

/// Length of the characters of `text` that `wanted` accepts, from its start.
fn run(text: &str, wanted: impl Fn(char) -> bool) -> usize {
    text.find(|c| !wanted(c)).unwrap_or(text.len())
}

/// Length of up to three digits.
fn digits(text: &str) -> usize {
    text.chars().take(3).take_while(|&c| Class::of(c) == Class::Number).map(char::len_utf8).sum()
}

/// Length of the piece that starts with `first`, no digit: a run of the second expression's, or what lies between two.
fn section(text: &str, first: char) -> usize {
    let eastern = is_eastern(first);
    run(text, |c| is_eastern(c) == eastern && (eastern || Class::of(c) != Class::Number))
}

/// `[一-龥぀-ゟ゠-ヿ]`: none of them a digit.
fn is_eastern(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{4e00}'..='\u{9fa5}')
}

/// Length of the first piece of `section` by the general pattern: its first match, or what comes before that.
fn general(section: &str) -> usize {
    let mut skipped = 0;
    for c in section.chars() {
        let len = at_start(&section[skipped..], c);
        if len > 0 {
            return if skipped > 0 { skipped } else { len };
        }
        skipped += c.len_utf8();
    }
    skipped
}

/// Length of the general pattern's match at the start of `text`, whose first character is `first`; 0 for none.
fn at_start(text: &str, first: char) -> usize {
    let class = Class::of(first);
    let after = &text[first.len_utf8()..];
    if first.is_ascii_punctuation() {
        let letters = run(after, |c| c.is_ascii_alphabetic());
        if letters > 0 {
            return 1 + letters;
        }
    }
    let is_word = |c| Class::of(c) == Class::Word;
    if matches!(class, Class::Word | Class::Space | Class::Other | Class::Number) {
        let word = run(after, is_word);
        if word > 0 || class == Class::Word {
            return first.len_utf8() + word;
        }
    }
    let marks = if first == ' ' { after } else { text };
    let punctuation = run(marks, |c| Class::of(c) == Class::Punctuation);
    if punctuation > 0 {
        let newlines = run(&marks[punctuation..], |c| Class::of(c) == Class::Newline);
        return text.len() - marks.len() + punctuation + newlines;
    }
    if !matches!(class, Class::Space | Class::Newline) {
        return 0;
    }
    let space = run(text, |c| matches!(Class::of(c), Class::Space | Class::Newline));
    if let Some(newline) = text[..space].rfind(['\r', '\n']) {
        return newline + 1;
    }
    let last = text[..space].chars().next_back().map_or(0, char::len_utf8);
    if space == text.len() || space == last { space } else { space - last }
}
