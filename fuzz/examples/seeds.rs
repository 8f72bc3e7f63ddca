//! Writes the seed corpus: `cargo run --example seeds`, in this folder.

use dsv4_core::dtype::{ALL, DType};
use dsv4_tests::synthetic::Sizes;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = root.join("corpus");
    let write = |name: &str, bytes: &[u8]| {
        let path = corpus.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder"))?;
        std::fs::write(path, bytes)
    };

    // A whole model; another with every key but no layer's data; two edits of the first.
    let model = Sizes::tiny().writer(1);
    write("gguf/tiny.gguf", &model.build())?;
    write("gguf/header.gguf", &Sizes { hash_layers: 3, ..Sizes::tiny() }.writer(2).build_parts().0)?;
    write("gguf/version2.gguf", &{
        let mut file = dsv4_tests::gguf_writer::GgufWriter { version: 2, ..Default::default() };
        file.key("general.architecture", "deepseek4").key("general.alignment", 64_u32).tensor("x", 0, &[1], vec![0; 4]);
        file.build()
    })?;
    write("gguf/edits", &[0, 60, 0x40, 7, 70, 0x7f, 9, 70, 0xff])?;

    // A session's snapshot, and an edit of another: a position one further.
    write("snapshot/whole", &dsv4_fuzz::snapshot::seed())?;
    write("snapshot/edits", &[32, 0, 1])?;

    // Two blocks of counted bytes of each type.
    for (number, dtype) in (0..).zip(ALL) {
        let mut bytes = vec![number];
        if matches!(dtype, DType::F8_E4M3 | DType::FP4_E2M1) {
            bytes.extend([127, 0, 1, 254, 255, 120, 130, 128]);
        }
        let blocks = 2_usize.max(64 / dtype.block().0);
        bytes.extend((0..blocks * dtype.block().1).map(|i| (i * 37 % 251) as u8));
        write(&format!("dequant_diff/{}", dtype.name().to_lowercase()), &bytes)?;
    }

    let texts = [
        ("escapes", r#"{"a":"\u00e9\ud83d\ude00\n\/\\\"","\u0061":[true,false,null]}"#),
        ("numbers", "[0,-0,1.5,-1e-3,1E+30,18446744073709551615,-9223372036854775808,18446744073709551616,0.1]"),
        ("nested", "[[[[{\"k\":[{}, [ ] ]}]]]]"),
        ("header", r#"{"__metadata__":{"format":"pt"},"w":{"dtype":"F8_E4M3","shape":[2,3],"data_offsets":[0,6]}}"#),
    ];
    for (name, text) in texts {
        write(&format!("json/{name}.json"), text.as_bytes())?;
    }

    // The small model's vocabulary, cut to the bytes, the added tokens and the first merges.
    let small = std::fs::read(root.join("../tests/small/tokenizer.json"))?;
    let json = vocabulary(&serde_json::from_slice(&small)?);
    write("token/tiny.json", json.as_bytes())?;
    let both = |text: &str| [json.as_bytes(), &[0xff], text.as_bytes()].concat();
    write("token/both", &both("the <think>rat</think> 1234 é中文🙂\r\n\n  <｜User｜>"))?;
    write(
        "token/text",
        "In 2024 there were 1,234,567 hens;\n\n\tthe end. <think> ｜DSML｜ 中文かな e\u{301} \u{3000}🙂".as_bytes(),
    )
}

/// `full` with its 64 first merges and the tokens that they leave.
fn vocabulary(full: &serde_json::Value) -> String {
    let merges: Vec<_> = full["model"]["merges"].as_array().expect("merges").iter().take(64).collect();
    let text = |v: &serde_json::Value| v.as_str().expect("a string").to_string();
    let made: Vec<String> = merges.iter().map(|pair| text(&pair[0]) + &text(&pair[1])).collect();
    let mut kept: Vec<(u64, &String)> = full["model"]["vocab"]
        .as_object()
        .expect("tokens")
        .iter()
        .filter(|(token, _)| token.chars().count() == 1 || made.contains(token))
        .map(|(token, id)| (id.as_u64().expect("an id"), token))
        .collect();
    kept.sort();
    let vocab: serde_json::Map<_, _> = kept.into_iter().map(|(id, token)| (token.clone(), id.into())).collect();
    serde_json::json!({
        "added_tokens": full["added_tokens"],
        "normalizer": full["normalizer"],
        "pre_tokenizer": full["pre_tokenizer"],
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    })
    .to_string()
}
