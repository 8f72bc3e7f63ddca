//! Byte-pair encoding: the pair of neighbours whose merge has the lowest rank becomes one, again and again.
//!
//! Symbols form a linked list over the bytes; a heap holds the mergeable pairs by (rank, position). A merge changes two
//! pairs, so n bytes take O(n log n) steps, however long the piece. Entries whose symbols have changed since are dropped when
//! they come up. In all this, ties included, the order is that of the `tokenizers` crate.

use super::table::{Table, hash_pair};
use bytemuck::{Pod, Zeroable};

/// A merge: `left` and `right`, next to each other, become `joined`. Its rank is its index.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Merge {
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) joined: u32,
}

/// All merges, by rank and by pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merges<'m> {
    pub(super) by_rank: &'m [Merge],
    pub(super) by_pair: Table<'m>,
}

impl Merges<'_> {
    fn rank(&self, left: u32, right: u32) -> Option<u32> {
        let is_it = |rank: u32| {
            let merge = &self.by_rank[rank as usize];
            (merge.left, merge.right) == (left, right)
        };
        self.by_pair.find(|seed| hash_pair(seed, left, right), is_it)
    }
}

/// No symbol, or no id.
const NONE: u32 = u32::MAX;

/// A token so far, and its neighbours in the list. A symbol merged into its left neighbour has the id [`NONE`].
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Symbol {
    id: u32,
    previous: u32,
    next: u32,
}

/// A pair that may merge: the symbol at `at` with its next.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Candidate {
    rank: u32,
    at: u32,
}

impl Candidate {
    /// The order of merging: by rank, the leftmost of equals.
    fn order(self) -> u64 {
        u64::from(self.rank) << 32 | u64::from(self.at)
    }
}

/// Words of scratch for a piece of `len` bytes: 3 a symbol; 2 a candidate, of which there are never more than two a symbol,
/// one from the start and one more, net, from each merge.
pub(super) const fn scratch(len: usize) -> usize {
    len.saturating_mul(7)
}

/// Encodes a piece whose bytes' tokens are `ids`, and calls `emit` with each resulting token. `scratch` holds
/// [`scratch`] words.
pub(super) fn merge(
    merges: &Merges<'_>,
    ids: impl ExactSizeIterator<Item = u32>,
    scratch: &mut [u32],
    mut emit: impl FnMut(u32),
) {
    let len = ids.len();
    let (symbols, heap) = scratch.split_at_mut(3 * len);
    let symbols: &mut [Symbol] = bytemuck::cast_slice_mut(symbols);
    let mut heap = Heap { entries: bytemuck::cast_slice_mut(&mut heap[..4 * len]), len: 0 };

    for (i, (symbol, id)) in symbols.iter_mut().zip(ids).enumerate() {
        let next = if i + 1 < len { i as u32 + 1 } else { NONE };
        *symbol = Symbol { id, previous: (i as u32).wrapping_sub(1), next };
    }
    for (at, pair) in symbols.windows(2).enumerate() {
        if let Some(rank) = merges.rank(pair[0].id, pair[1].id) {
            heap.push(Candidate { rank, at: at as u32 });
        }
    }
    while let Some(Candidate { rank, at }) = heap.pop() {
        let left = symbols[at as usize];
        if left.id == NONE || left.next == NONE {
            continue;
        }
        let right = symbols[left.next as usize];
        // Stale unless the pair is still the same, or another that makes the same token.
        let Merge { joined, .. } = merges.by_rank[rank as usize];
        let still = |merge: Merge| (merge.left, merge.right) == (left.id, right.id);
        let makes = |rank| merges.by_rank[rank as usize].joined;
        if !still(merges.by_rank[rank as usize]) && merges.rank(left.id, right.id).map(makes) != Some(joined) {
            continue;
        }
        symbols[left.next as usize].id = NONE;
        symbols[at as usize] = Symbol { id: joined, next: right.next, ..left };
        if left.previous != NONE
            && let Some(rank) = merges.rank(symbols[left.previous as usize].id, joined)
        {
            heap.push(Candidate { rank, at: left.previous });
        }
        if right.next != NONE {
            symbols[right.next as usize].previous = at;
            if let Some(rank) = merges.rank(joined, symbols[right.next as usize].id) {
                heap.push(Candidate { rank, at });
            }
        }
    }
    // The first symbol is never merged away: it has no left neighbour.
    symbols.iter().filter(|s| s.id != NONE).for_each(|s| emit(s.id));
}

/// A binary heap, least first.
struct Heap<'a> {
    entries: &'a mut [Candidate],
    len: usize,
}

impl Heap<'_> {
    fn push(&mut self, entry: Candidate) {
        let mut i = self.len;
        self.len += 1;
        while i > 0 && entry.order() < self.entries[(i - 1) / 2].order() {
            self.entries[i] = self.entries[(i - 1) / 2];
            i = (i - 1) / 2;
        }
        self.entries[i] = entry;
    }

    fn pop(&mut self) -> Option<Candidate> {
        self.len = self.len.checked_sub(1)?;
        let entries = &mut self.entries[..=self.len];
        let (least, last) = (entries[0], entries[self.len]);
        let mut i = 0;
        loop {
            let mut child = 2 * i + 1;
            if child >= self.len {
                break;
            }
            child += usize::from(child + 1 < self.len && entries[child + 1].order() < entries[child].order());
            if last.order() <= entries[child].order() {
                break;
            }
            entries[i] = entries[child];
            i = child;
        }
        entries[i] = last;
        Some(least)
    }
}
