//! Open-addressing hash tables of indices, whose keys lie elsewhere.
//!
//! No chain is longer than [`PROBES`], so that no vocabulary, however made, costs more than a fixed number of steps an
//! entry, to build or to look up. Half the slots at least stay empty: a chain that long is beyond chance, and a few other
//! seeds are tried before the vocabulary is refused.

/// The most slots looked at for one key.
const PROBES: usize = 256;

/// Seeds tried, one after the other.
const SEEDS: u64 = 4;

/// A table over borrowed slots; a slot holds an index plus one, or 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'m> {
    slots: &'m [u32],
    seed: u64,
}

/// Slots for `len` keys: a power of two, twice as many at least.
pub(super) fn slots(len: usize) -> Option<usize> {
    len.checked_mul(2)?.max(2).checked_next_power_of_two()
}

impl<'m> Table<'m> {
    /// Puts the indices 0 to `len` into `slots` ([`slots`] of them). `hash(seed, i)` is index i's, `None` to leave it out.
    /// `same(i, j)`: whether both have the same key; then `replace` says whether the later one takes the earlier's place.
    /// `Err(i)` where no place was found for i.
    pub(super) fn build(
        slots: &'m mut [u32],
        len: usize,
        replace: bool,
        hash: impl Fn(u64, usize) -> Option<u64>,
        same: impl Fn(usize, usize) -> bool,
    ) -> Result<Self, u32> {
        let mut failed = 0;
        for seed in 0..SEEDS {
            slots.fill(0);
            let full = (0..len).find(|&i| {
                let Some(hash) = hash(seed, i) else { return false };
                let slot = chain(slots.len(), hash).find(|&s| slots[s] == 0 || same(slots[s] as usize - 1, i));
                if let Some(slot) = slot.filter(|&s| slots[s] == 0 || replace) {
                    slots[slot] = i as u32 + 1;
                }
                slot.is_none()
            });
            match full {
                None => return Ok(Self { slots, seed }),
                Some(i) => failed = i as u32,
            }
        }
        Err(failed)
    }

    /// The index for which `is_it` holds, among those whose key hashes to `hash(seed)`.
    pub(super) fn find(&self, hash: impl Fn(u64) -> u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        for slot in chain(self.slots.len(), hash(self.seed)) {
            let index = self.slots[slot].checked_sub(1)?;
            if is_it(index) {
                return Some(index);
            }
        }
        None
    }
}

/// The slots where a key may lie; their number `len` is a power of two (or 0: nothing lies anywhere).
fn chain(len: usize, hash: u64) -> impl Iterator<Item = usize> {
    let start = (hash >> 32) as usize;
    (0..PROBES.min(len)).map(move |i| start.wrapping_add(i) & (len - 1))
}

/// The finalizer of SplitMix64: every bit of the result depends on every bit of `x`.
pub(super) const fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// The hash of `bytes`: their words mixed in one after the other.
pub(super) fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(mix(seed ^ (bytes.len() as u64) << 8), |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ u64::from_le_bytes(word))
    })
}

/// The hash of a pair of ids.
pub(super) const fn hash_pair(seed: u64, left: u32, right: u32) -> u64 {
    mix(((left as u64) << 32 | right as u64) ^ mix(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that all hash alike, under every seed, are refused after a bounded number of steps; as many as fit are found.
    #[test]
    fn colliding_keys() {
        let mut memory = [0; 2048];
        let alike = |_, _| Some(7);
        let error = Table::build(&mut memory, 1000, false, alike, |i, j| i == j).err();
        assert_eq!(error, Some(PROBES as u32));
        let table = Table::build(&mut memory, PROBES, false, alike, |i, j| i == j).ok();
        assert!(table.is_some_and(|t| (0..PROBES as u32).all(|i| t.find(|_| 7, |j| i == j) == Some(i))));
        // Colliding under the first seed only: another serves.
        let table =
            Table::build(&mut memory, 1000, false, |seed, i| Some(seed * hash_pair(seed, i as u32, 0)), |i, j| i == j);
        assert!(table.is_ok_and(|t| t.seed == 1));
    }
}
