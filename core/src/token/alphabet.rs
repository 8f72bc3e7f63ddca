//! GPT-2's byte alphabet: vocabularies spell bytes as printable characters.
//!
//! Bytes that print (`!` to `~`, `¡` to `¬`, `®` to `ÿ`) stand for themselves as U+0021 to U+00FF; the other 68, in their
//! order, are U+0100, U+0101, ...: a space is `Ġ`, a newline `Ċ`.

/// Whether `byte` stands for itself.
const fn prints(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// The bytes that U+0100, U+0101, ... spell.
const HIDDEN: [u8; 68] = {
    let (mut hidden, mut len, mut byte) = ([0; 68], 0, 0);
    while byte < 256 {
        if !prints(byte as u8) {
            hidden[len] = byte as u8;
            len += 1;
        }
        byte += 1;
    }
    hidden
};

/// The byte that `c` spells, if `c` is in the alphabet.
fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ 0..=0xff => Some(code as u8).filter(|&b| prints(b)),
        code => HIDDEN.get((code - 0x100) as usize).copied(),
    }
}

/// The character that spells `byte`.
pub(super) fn char_of(byte: u8) -> char {
    let hidden = HIDDEN.iter().position(|&h| h == byte).filter(|_| !prints(byte));
    hidden.and_then(|i| char::from_u32(0x100 + i as u32)).unwrap_or(char::from(byte))
}

/// The bytes that `text` spells, in `out`. `None` when a character is not in the alphabet, or `out` is too small.
pub(super) fn decode<'b>(text: &[u8], out: &'b mut [u8]) -> Option<&'b [u8]> {
    let mut len = 0;
    for c in core::str::from_utf8(text).ok()?.chars() {
        *out.get_mut(len)? = byte_of(c)?;
        len += 1;
    }
    out.get(..len)
}
