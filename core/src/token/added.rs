//! Added tokens: found in the text before it is split, the leftmost first, the longest of those.

use super::{Kind, Token};
use core::cmp::Ordering;

/// A set of added tokens, sorted by their text: those that begin alike lie together, the shortest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Added<'m> {
    ids: &'m [u32],
    tokens: &'m [Token],
    pool: &'m [u8],
    /// Bit b: whether a token starts with the byte b. Most text never gets further.
    starts: [u64; 4],
}

/// A stretch of text between added tokens, or one of them.
pub(super) enum Part<'t> {
    Text(&'t str),
    Added(u32),
}

impl<'m> Added<'m> {
    /// Sorts `ids`, the added tokens, into the set found first and the set found in what that left ([`Kind::LATER`]).
    pub(super) fn sort(ids: &'m mut [u32], tokens: &'m [Token], pool: &'m [u8]) -> [Self; 2] {
        let text = |id: u32| tokens[id as usize].bytes(pool);
        let later = |id: u32| tokens[id as usize].kind.has(Kind::LATER);
        ids.sort_unstable_by(|&a, &b| match later(a).cmp(&later(b)) {
            Ordering::Equal => text(a).cmp(text(b)).then(a.cmp(&b)),
            order => order,
        });
        let (first, second) = ids.split_at(ids.partition_point(|&id| !later(id)));
        [first, second].map(|ids| {
            let mut starts = [0; 4];
            for &byte in ids.iter().filter_map(|&id| text(id).first()) {
                starts[usize::from(byte / 64)] |= 1 << (byte % 64);
            }
            Self { ids, tokens, pool, starts }
        })
    }

    /// The added tokens in `text`, and what lies between.
    pub(super) fn parts<'t>(&self, text: &'t str) -> impl Iterator<Item = Part<'t>> + use<'t, 'm> {
        let (set, mut rest, mut found) = (*self, text, None);
        core::iter::from_fn(move || {
            if let Some(id) = found.take() {
                return Some(Part::Added(id));
            }
            if rest.is_empty() {
                return None;
            }
            let Some((at, id, len)) = set.find(rest) else { return Some(Part::Text(core::mem::take(&mut rest))) };
            let before = &rest[..at];
            rest = &rest[at + len..];
            if before.is_empty() {
                return Some(Part::Added(id));
            }
            found = Some(id);
            Some(Part::Text(before))
        })
    }

    /// The first added token in `text`: its place, id and length.
    fn find(&self, text: &str) -> Option<(usize, u32, usize)> {
        let bytes = text.as_bytes();
        let starts = |&(_, &byte): &(usize, &u8)| self.starts[usize::from(byte / 64)] >> (byte % 64) & 1 == 1;
        bytes.iter().enumerate().filter(starts).find_map(|(at, _)| {
            // A token that is not whole characters (a hostile GGUF) is never found.
            let (id, len) = self.longest_at(&bytes[at..])?;
            (text.is_char_boundary(at) && text.is_char_boundary(at + len)).then_some((at, id, len))
        })
    }

    /// The longest token at the start of `text`, and its length: narrows the sorted tokens down byte by byte.
    fn longest_at(&self, text: &[u8]) -> Option<(u32, usize)> {
        let bytes = |id: &u32| self.tokens[*id as usize].bytes(self.pool);
        let (mut alike, mut longest) = (self.ids, None);
        for (depth, &byte) in text.iter().enumerate() {
            // All of `alike` have the `depth` bytes before; those that end there sort before those that go on.
            let at_depth = |id: &u32| bytes(id).get(depth).copied();
            let start = alike.partition_point(|id| at_depth(id) < Some(byte));
            let end = alike.partition_point(|id| at_depth(id) <= Some(byte));
            alike = &alike[start..end];
            let Some(first) = alike.first() else { break };
            if bytes(first).len() == depth + 1 {
                longest = Some((*first, depth + 1));
            }
        }
        longest
    }
}
