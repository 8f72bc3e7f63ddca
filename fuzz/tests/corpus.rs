//! The seeds, and variations of them, through every target: what a few seconds of fuzzing would do, the same each time.

use std::path::Path;

/// Variations of each seed. `DSV4_FUZZ_VARIATIONS` asks for more.
const VARIATIONS: u64 = 2000;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let variations = std::env::var("DSV4_FUZZ_VARIATIONS").map_or(VARIATIONS, |n| n.parse().expect("a number"));
    let mut files: Vec<_> = std::fs::read_dir(&folder).expect("a corpus").map(|e| e.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let seed = std::fs::read(&file).expect("a seed");
        check(&seed);
        for variation in 0..variations {
            let mutant = mutated(&seed, &mut Random(variation));
            // The test's name and this line are enough to find the input again.
            let outcome = std::panic::catch_unwind(|| check(&mutant));
            assert!(outcome.is_ok(), "{}, variation {variation}", file.display());
        }
    }
}

/// One to four of: a flipped bit, an interesting byte, a cut, a copied range.
fn mutated(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=random.below(4) {
        let len = data.len();
        if len == 0 {
            return data;
        }
        // Headers are at the front: half of the changes fall within the first 64th.
        let reach = if random.below(2) == 0 { len } else { len.div_ceil(64) };
        let at = random.below(reach);
        match random.below(8) {
            0..4 => data[at] ^= 1 << random.below(8),
            4 | 5 => data[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'{'][random.below(8)],
            6 => data.truncate(random.below(len)),
            _ => {
                let end = at + random.below(len - at).min(64);
                let copy = data[at..end].to_vec();
                let to = random.below(len);
                data.splice(to..to, copy);
            }
        }
    }
    data
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

#[test]
fn gguf() {
    replay("gguf", dsv4_fuzz::gguf::check);
}

#[test]
fn dequant_diff() {
    replay("dequant_diff", dsv4_fuzz::dequant_diff::check);
}

#[test]
fn json() {
    replay("json", dsv4_fuzz::json::check);
}

#[test]
fn snapshot() {
    replay("snapshot", dsv4_fuzz::snapshot::check);
}

#[test]
fn token() {
    replay("token", dsv4_fuzz::token::check);
}
