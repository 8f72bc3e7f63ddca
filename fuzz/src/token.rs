//! A vocabulary and a text from strangers.
//!
//! The input is a `tokenizer.json`, a byte 0xFF (which no JSON has), and a text; without that byte it is a text for the
//! seed vocabulary `tiny.json`.
//!
//! Oracle: whatever is encoded decodes to the same bytes, and streams to the same text however it is cut; plain text
//! never becomes an added token; a word of ASCII letters gives the tokens of the naive way to merge (best pair first,
//! leftmost first, again and again).

use crate::memory::Region;
use dsv4_core::error::Error;
use dsv4_core::token::{Source, StreamDecoder, Tokenizer};
use std::collections::HashMap;
use std::sync::LazyLock;

/// The vocabulary of plain texts.
static TINY: &[u8] = include_bytes!("../corpus/token/tiny.json");

/// More memory than this is not worth the fuzzer's time.
const MAX_MEMORY: usize = 16 << 20;

/// Any bytes.
pub fn check(data: &[u8]) {
    match data.iter().position(|b| *b == 0xff) {
        Some(at) => check_vocabulary(&data[..at], &data[at + 1..]),
        None => {
            with_tokenizer(TINY, |tokenizer| {
                let text = String::from_utf8_lossy(data);
                assert!(check_text(tokenizer, &text), "the seed vocabulary has every byte");
                let word: String = data.iter().take(256).map(|b| char::from(b'a' + b % 26)).collect();
                assert_eq!(encode(tokenizer, &word, false), Ok(naive(&word)), "{word}");
            });
        }
    }
}

fn check_vocabulary(json: &[u8], text: &[u8]) {
    with_tokenizer(json, |tokenizer| {
        check_text(tokenizer, &String::from_utf8_lossy(text));
        assert!(tokenizer.piece(u32::MAX).is_none());
        for id in 0..tokenizer.vocab_len() as u32 {
            let piece = tokenizer.piece(id).expect("a token");
            let text = std::str::from_utf8(piece).unwrap_or_default();
            if !text.is_empty() {
                let found = tokenizer.token_id(text).expect("a token of this text");
                assert_eq!(tokenizer.piece(found), Some(piece));
            }
        }
    });
}

fn with_tokenizer(json: &[u8], use_it: impl FnOnce(&Tokenizer<'_>)) {
    let source = Source::Json(json);
    let Ok(need) = Tokenizer::plan(&source) else { return };
    if need > MAX_MEMORY {
        return;
    }
    if let Some(less) = need.checked_sub(1) {
        let refused = Tokenizer::new(&source, Region::new(less).bytes()).err();
        assert_eq!(refused, Some(Error::MemoryTooSmall { need: need as u64, got: less as u64 }));
    }
    let mut memory = Region::new(need);
    if let Ok(tokenizer) = Tokenizer::new(&source, memory.bytes()) {
        use_it(&tokenizer);
    }
}

fn encode(tokenizer: &Tokenizer<'_>, text: &str, special: bool) -> Result<Vec<u32>, Error> {
    let mut scratch = vec![0; Tokenizer::scratch(text.len())];
    let mut ids = vec![0; text.len()];
    let len = tokenizer.encode(text, special, &mut scratch, &mut ids)?;
    ids.truncate(len);
    Ok(ids)
}

/// Whether the vocabulary can say the text.
fn check_text(tokenizer: &Tokenizer<'_>, text: &str) -> bool {
    for special in [false, true] {
        let ids = match encode(tokenizer, text, special) {
            Ok(ids) => ids,
            Err(Error::BadVocabulary { .. }) => return false,
            Err(error) => panic!("{error:?}"),
        };
        let mut bytes = vec![0; text.len()];
        assert_eq!(tokenizer.decode(&ids, &mut bytes), Ok(text.len()));
        assert_eq!(bytes, text.as_bytes());
        assert!(special || !ids.iter().any(|&id| tokenizer.is_control(id) && tokenizer.is_added(id)));
        let (mut stream, mut streamed) = (StreamDecoder::new(), String::new());
        for id in ids {
            let piece = tokenizer.piece(id).expect("a token");
            let mut out = vec![0; StreamDecoder::out_len(piece.len())];
            streamed += stream.push(piece, &mut out).expect("room for any piece");
        }
        streamed += stream.finish();
        assert_eq!(streamed, text);
    }
    true
}

/// The seed vocabulary, read by serde_json: tokens, and the rank of each pair.
struct Naive {
    vocab: HashMap<String, u32>,
    ranks: HashMap<(String, String), usize>,
}

static NAIVE: LazyLock<Naive> = LazyLock::new(|| {
    let json: serde_json::Value = serde_json::from_slice(TINY).expect("JSON");
    let model = &json["model"];
    let text = |v: &serde_json::Value| v.as_str().expect("a string").to_string();
    let vocab = model["vocab"].as_object().expect("tokens").iter();
    let merges = model["merges"].as_array().expect("merges").iter();
    Naive {
        vocab: vocab.map(|(token, id)| (token.clone(), id.as_u64().expect("an id") as u32)).collect(),
        ranks: merges.enumerate().map(|(rank, pair)| ((text(&pair[0]), text(&pair[1])), rank)).collect(),
    }
});

/// The tokens of a word of letters.
fn naive(word: &str) -> Vec<u32> {
    let mut parts: Vec<String> = word.chars().map(String::from).collect();
    loop {
        let rank = |i: usize| NAIVE.ranks.get(&(parts[i].clone(), parts[i + 1].clone())).map(|rank| (*rank, i));
        let Some((_, i)) = (0..parts.len().saturating_sub(1)).filter_map(rank).min() else { break };
        let right = parts.remove(i + 1);
        parts[i] += &right;
    }
    parts.iter().map(|part| NAIVE.vocab[part]).collect()
}
