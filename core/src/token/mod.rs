//! The tokenizer: byte-level BPE over a borrowed vocabulary, indexed in the caller's memory.
//!
//! ```text
//! text -> added tokens -> pieces (split) -> bytes -> merges (bpe) -> ids
//! ids -> bytes -> text (stream)
//! ```
//!
//! The vocabulary comes from GGUF metadata or from a `tokenizer.json` ([`Source`]); [`Tokenizer::plan`] says how much memory
//! its index takes (5.5 MB for V4's 129,280 tokens and 127,741 merges), [`Tokenizer::new`] builds it there. The
//! tokenizer then holds the tokens' bytes itself and needs the source no more. Ids are those of the `tokenizers` crate.
//!
//! What a vocabulary may not do: a token longer than [`MAX_TOKEN`] bytes, an id given twice, a merge of or into what is no
//! token, or ids so sparse that most of them are holes, make [`Error::BadVocabulary`] of it (llama.cpp ignores broken merges; the
//! `tokenizers` crate refuses them too). Of tokens with the same bytes the lowest id is the one used; of merges of the same pair
//! the last.

mod added;
mod alphabet;
mod bpe;
mod chat;
mod source;
mod split;
mod stream;
mod table;
mod unicode;

pub use chat::{ChatTokens, Think};
pub use source::{Gguf, Source, Strings};
pub use stream::StreamDecoder;

use crate::arena::Arena;
use crate::error::{Error, Result};
use added::{Added, Part};
use bpe::{Merge, Merges};
use bytemuck::{Pod, Zeroable};
use source::Opened;
use table::{Table, hash_bytes, hash_pair};

/// The most bytes of one token (V4's longest has 128).
pub const MAX_TOKEN: usize = 1024;

/// No token.
const NONE: u32 = u32::MAX;

/// The names of the tokens that begin and end a text, where the source does not give their ids.
const BOS: &str = "<｜begin▁of▁sentence｜>";
const EOS: &str = "<｜end▁of▁sentence｜>";

/// What a token is, as a set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
struct Kind(u16);

impl Kind {
    /// There is such a token: ids may have holes.
    const PRESENT: Self = Self(1);
    /// Its bytes were spelled in the byte alphabet.
    const BYTES: Self = Self(2);
    /// Found in the text before it is split.
    const ADDED: Self = Self(4);
    /// Found after the other added tokens, in what those left (`normalized` in `tokenizer.json`).
    const LATER: Self = Self(8);
    /// Structure, not text.
    const CONTROL: Self = Self(16);
    /// Fills up the vocabulary.
    const UNUSED: Self = Self(32);

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }
}

/// Where a token's bytes lie in the pool.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Token {
    start: u32,
    len: u16,
    kind: Kind,
}

impl Token {
    fn bytes(self, pool: &[u8]) -> &[u8] {
        &pool[self.start as usize..][..usize::from(self.len)]
    }
}

/// What a source holds, counted.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// The highest id and one.
    tokens: usize,
    /// Bytes of all tokens.
    pool: usize,
    added: usize,
    merges: usize,
}

impl Sizes {
    fn of(source: &Opened<'_>) -> Result<Self> {
        let (mut count, mut tokens, mut pool, mut added, mut merges) = (0u64, 0u64, 0u64, 0, 0);
        source.tokens(|id, bytes, kind| {
            count += 1;
            tokens = tokens.max(u64::from(id) + 1);
            pool += bytes.len() as u64;
            added += usize::from(kind.has(Kind::ADDED));
            Ok(())
        })?;
        source.merges(|rank, _, _| {
            merges = rank as usize + 1;
            Ok(())
        })?;
        // A few bytes of source must not demand gigabytes of memory: at most about half of the ids are holes.
        if tokens > (2 * count + 1024).min(i32::MAX as u64) || pool > u32::MAX.into() {
            return Err(Error::BadVocabulary { index: tokens.saturating_sub(1) as u32 });
        }
        let size = |n| usize::try_from(n).map_err(|_| Error::TooLarge);
        Ok(Self { tokens: size(tokens)?, pool: size(pool)?, added, merges })
    }
}

/// The index's memory.
struct Region<'m> {
    tokens: &'m mut [Token],
    pool: &'m mut [u8],
    token_slots: &'m mut [u32],
    merges: &'m mut [Merge],
    merge_slots: &'m mut [u32],
    added: &'m mut [u32],
    of_byte: &'m mut [u32],
}

impl<'m> Region<'m> {
    fn carve(arena: &mut Arena<'m>, sizes: &Sizes) -> Result<Self> {
        Ok(Self {
            tokens: arena.take_zeroed(sizes.tokens)?,
            pool: arena.take_zeroed(sizes.pool)?,
            token_slots: arena.take_zeroed(table::slots(sizes.tokens).ok_or(Error::TooLarge)?)?,
            merges: arena.take_zeroed(sizes.merges)?,
            merge_slots: arena.take_zeroed(table::slots(sizes.merges).ok_or(Error::TooLarge)?)?,
            added: arena.take_zeroed(sizes.added)?,
            of_byte: arena.take_zeroed(256)?,
        })
    }
}

/// Byte-level BPE, immutable and shareable; everything it knows lies in the caller's memory.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'m> {
    words: Words<'m>,
    merges: Merges<'m>,
    /// The added tokens found first, and those found in what is left.
    added: [Added<'m>; 2],
    /// [256] the token of each byte, or [`NONE`].
    of_byte: &'m [u32],
    bos: Option<u32>,
    eos: Option<u32>,
}

impl<'m> Tokenizer<'m> {
    /// The bytes of memory that [`Self::new`] needs.
    pub fn plan(source: &Source<'_>) -> Result<usize> {
        Self::plan_for(&Sizes::of(&source.open()?)?)
    }

    fn plan_for(sizes: &Sizes) -> Result<usize> {
        let mut arena = Arena::counting();
        Region::carve(&mut arena, sizes)?;
        Ok(arena.used())
    }

    /// Builds the index in `memory` ([`Self::plan`] bytes, aligned to [`crate::arena::ALIGN`]).
    pub fn new(source: &Source<'_>, memory: &'m mut [u8]) -> Result<Self> {
        let opened = source.open()?;
        let sizes = Sizes::of(&opened)?;
        let mut arena = Arena::new(memory)?;
        arena.check(Self::plan_for(&sizes)?)?;
        let region = Region::carve(&mut arena, &sizes)?;

        let added_count = fill(&opened, region.tokens, region.pool, region.added)?;
        let words = Words::build(region.tokens, region.pool, region.token_slots)?;
        let merges = build_merges(&opened, &words, region.merges, region.merge_slots)?;
        let added = Added::sort(&mut region.added[..added_count], words.tokens, words.pool);
        for (byte, id) in (0..=u8::MAX).zip(region.of_byte.iter_mut()) {
            *id = words.find(&[byte], Kind::BYTES).or_else(|| words.spelled(&[byte])).unwrap_or(NONE);
        }
        let (bos, eos) = match *source {
            Source::Gguf(gguf) => (gguf.bos, gguf.eos),
            Source::Json(_) => (None, None),
        };
        let special = |id: Option<u32>, name: &str| match id {
            Some(token) if token as usize >= words.tokens.len() => Err(Error::BadToken { token }),
            Some(token) => Ok(Some(token)),
            None => Ok(words.find(name.as_bytes(), Kind::default())),
        };
        let (bos, eos) = (special(bos, BOS)?, special(eos, EOS)?);
        Ok(Self { words, merges, added, of_byte: region.of_byte, bos, eos })
    }

    /// One more than the highest id.
    pub const fn vocab_len(&self) -> usize {
        self.words.tokens.len()
    }

    /// The token that begins a text.
    pub const fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text.
    pub const fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token with exactly this text, an added token before one of plain text.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        let bytes = text.as_bytes();
        self.words.find(bytes, Kind::default()).or_else(|| self.words.find(bytes, Kind::BYTES))
    }

    /// The token's bytes, which need not be whole characters; `None` past the vocabulary, nothing for ids that no token has.
    pub fn piece(&self, id: u32) -> Option<&'m [u8]> {
        self.words.tokens.get(id as usize).map(|token| token.bytes(self.words.pool))
    }

    /// Whether the token is structure that a reader should not see as text: control tokens in GGUF, special ones in a
    /// `tokenizer.json`, and `<｜...｜>` in either.
    pub fn is_control(&self, id: u32) -> bool {
        self.words.tokens.get(id as usize).is_some_and(|token| token.kind.has(Kind::CONTROL))
    }

    /// Whether [`Self::encode`] finds the token in a text with `special` only.
    pub fn is_added(&self, id: u32) -> bool {
        self.words.tokens.get(id as usize).is_some_and(|token| token.kind.has(Kind::ADDED))
    }

    /// Words of scratch that [`Self::encode`] needs for any text of `len` bytes. Less will do where the pieces that the text is
    /// split into are short: as much as the longest of them needs, `scratch(longest)`.
    pub const fn scratch(len: usize) -> usize {
        bpe::scratch(len)
    }

    /// Encodes `text` into `out` and gives the number of tokens: at most one a byte.
    ///
    /// With `special`, added tokens in the text are recognized: for text that a program wrote. Without, all of it is plain
    /// text, and none of it can become an added token: for text of strangers. (`<｜User｜>`, `<think>` and `｜DSML｜` are not
    /// flagged as special in V4's file; half a switch, as other tokenizers have it, would let them through.)
    ///
    /// [`Error::MemoryTooSmall`] carries the bytes that `scratch` needs for any text of this length, or the bytes (four a token) that
    /// `out` needs for this text.
    pub fn encode(&self, text: &str, special: bool, scratch: &mut [u32], out: &mut [u32]) -> Result<usize> {
        let mut ids = Ids { out, len: 0 };
        if special {
            for part in self.added[0].parts(text) {
                match part {
                    Part::Added(id) => ids.push(id),
                    Part::Text(between) => {
                        for part in self.added[1].parts(between) {
                            match part {
                                Part::Added(id) => ids.push(id),
                                Part::Text(plain) => self.encode_plain(plain, text.len(), scratch, &mut ids)?,
                            }
                        }
                    }
                }
            }
        } else {
            self.encode_plain(text, text.len(), scratch, &mut ids)?;
        }
        if ids.len > ids.out.len() {
            return Err(too_small(ids.len, ids.out.len()));
        }
        Ok(ids.len)
    }

    fn encode_plain(&self, text: &str, whole: usize, scratch: &mut [u32], ids: &mut Ids<'_>) -> Result<()> {
        for piece in split::pieces(text) {
            let bytes = piece.as_bytes();
            if u32::try_from(bytes.len()).is_err() {
                return Err(Error::TooLarge);
            }
            if scratch.len() < Self::scratch(bytes.len()) {
                return Err(too_small(Self::scratch(whole), scratch.len()));
            }
            let of_byte = |&byte: &u8| self.of_byte[usize::from(byte)];
            if let Some(&byte) = bytes.iter().find(|byte| of_byte(byte) == NONE) {
                return Err(Error::BadVocabulary { index: byte.into() });
            }
            bpe::merge(&self.merges, bytes.iter().map(of_byte), scratch, |id| ids.push(id));
        }
        Ok(())
    }

    /// The bytes of `ids`, one after the other, in `out`; gives their number. [`Error::MemoryTooSmall`] carries the need.
    pub fn decode(&self, ids: &[u32], out: &mut [u8]) -> Result<usize> {
        let mut len = 0usize;
        for &token in ids {
            let bytes = self.piece(token).ok_or(Error::BadToken { token })?;
            let end = len.checked_add(bytes.len()).ok_or(Error::TooLarge)?;
            if let Some(place) = out.get_mut(len..end) {
                place.copy_from_slice(bytes);
            }
            len = end;
        }
        if len > out.len() {
            return Err(Error::MemoryTooSmall { need: len as u64, got: out.len() as u64 });
        }
        Ok(len)
    }
}

/// [`Error::MemoryTooSmall`] in words of four bytes.
fn too_small(need: usize, got: usize) -> Error {
    Error::MemoryTooSmall { need: 4 * need as u64, got: 4 * got as u64 }
}

/// Ids written as far as there is room, and counted.
struct Ids<'o> {
    out: &'o mut [u32],
    len: usize,
}

impl Ids<'_> {
    fn push(&mut self, id: u32) {
        if let Some(place) = self.out.get_mut(self.len) {
            *place = id;
        }
        self.len += 1;
    }
}

/// The tokens, by id and by their bytes.
#[derive(Clone, Copy, Debug)]
struct Words<'m> {
    /// [V]
    tokens: &'m [Token],
    pool: &'m [u8],
    by_bytes: Table<'m>,
}

impl<'m> Words<'m> {
    fn build(tokens: &'m [Token], pool: &'m [u8], slots: &'m mut [u32]) -> Result<Self> {
        // A token spelled in the byte alphabet and one of plain text differ, even with the same bytes.
        let key = |i: usize| (tokens[i].bytes(pool), tokens[i].kind.has(Kind::BYTES));
        let hash = |seed, i: usize| tokens[i].kind.has(Kind::PRESENT).then(|| hash_bytes(seed, key(i).0));
        let by_bytes = Table::build(slots, tokens.len(), false, hash, |i, j| key(i) == key(j))
            .map_err(|index| Error::BadVocabulary { index })?;
        Ok(Self { tokens, pool, by_bytes })
    }

    /// The token with these bytes, spelled in the byte alphabet ([`Kind::BYTES`]) or not.
    fn find(&self, bytes: &[u8], kind: Kind) -> Option<u32> {
        let is_it = |id: u32| {
            let token = self.tokens[id as usize];
            token.kind.has(Kind::BYTES) == kind.has(Kind::BYTES) && token.bytes(self.pool) == bytes
        };
        self.by_bytes.find(|seed| hash_bytes(seed, bytes), is_it)
    }

    /// The token of plain text whose text is the byte alphabet's spelling of `bytes`: an added token that merges know.
    fn spelled(&self, bytes: &[u8]) -> Option<u32> {
        let mut buffer = [0; 2 * MAX_TOKEN];
        let mut len = 0;
        for c in bytes.iter().map(|&b| alphabet::char_of(b)) {
            len += c.encode_utf8(buffer.get_mut(len..len + c.len_utf8())?).len();
        }
        self.find(&buffer[..len], Kind::default())
    }

    /// The token that a merge rule spells in the byte alphabet.
    fn spelling(&self, text: &[u8]) -> Option<u32> {
        let mut buffer = [0; MAX_TOKEN];
        let bytes = alphabet::decode(text, &mut buffer);
        bytes.and_then(|bytes| self.find(bytes, Kind::BYTES)).or_else(|| self.find(text, Kind::default()))
    }
}

/// Copies the tokens' bytes into the pool and lists the added tokens; gives the number of those.
fn fill(source: &Opened<'_>, tokens: &mut [Token], pool: &mut [u8], added: &mut [u32]) -> Result<usize> {
    let (mut end, mut added_count) = (0, 0);
    source.tokens(|id, bytes, kind| {
        let bad = Error::BadVocabulary { index: id };
        let token = tokens.get_mut(id as usize).ok_or(bad)?;
        if token.kind.has(Kind::PRESENT) {
            // The vocabulary may list an added token again, by the same text.
            let text = token.bytes(pool);
            let spelling = bytes.iter().map(|&b| alphabet::char_of(b));
            let same = if kind.has(Kind::BYTES) {
                core::str::from_utf8(text).is_ok_and(|text| text.chars().eq(spelling))
            } else {
                text == bytes
            };
            let again = token.kind.has(Kind::ADDED) && !kind.has(Kind::ADDED) && same;
            return if again { Ok(()) } else { Err(bad) };
        }
        let start = end;
        end += bytes.len();
        pool.get_mut(start..end).ok_or(bad)?.copy_from_slice(bytes);
        *token = Token { start: start as u32, len: bytes.len() as u16, kind: kind.and(Kind::PRESENT) };
        if kind.has(Kind::ADDED) {
            *added.get_mut(added_count).ok_or(bad)? = id;
            added_count += 1;
        }
        Ok(())
    })?;
    Ok(added_count)
}

/// Resolves the merges to ids, and indexes them by their pairs.
fn build_merges<'m>(
    source: &Opened<'_>,
    words: &Words<'_>,
    by_rank: &'m mut [Merge],
    slots: &'m mut [u32],
) -> Result<Merges<'m>> {
    source.merges(|rank, left, right| {
        let bad = Error::BadVocabulary { index: rank };
        let mut buffer = [0; 2 * MAX_TOKEN];
        let len = left.len() + right.len();
        let joined = buffer.get_mut(..len).ok_or(bad)?;
        joined[..left.len()].copy_from_slice(left);
        joined[left.len()..].copy_from_slice(right);
        let id = |text: &[u8]| words.spelling(text).ok_or(bad);
        let merge = Merge { left: id(left)?, right: id(right)?, joined: id(joined)? };
        *by_rank.get_mut(rank as usize).ok_or(bad)? = merge;
        Ok(())
    })?;
    let by_rank: &'m [Merge] = by_rank;
    let pair = |i: usize| (by_rank[i].left, by_rank[i].right);
    let hash = |seed, i: usize| Some(hash_pair(seed, pair(i).0, pair(i).1));
    let by_pair = Table::build(slots, by_rank.len(), true, hash, |i, j| pair(i) == pair(j))
        .map_err(|index| Error::BadVocabulary { index })?;
    Ok(Merges { by_rank, by_pair })
}
