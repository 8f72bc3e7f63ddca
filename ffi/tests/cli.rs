//! The `dsv4` command from outside: its numbers against the reference, its output, its errors and exit statuses.

use serde_json::Value;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests");

fn golden(model: &str, file: &str) -> PathBuf {
    Path::new(TESTS).join("golden").join(model).join(file)
}

fn tokenizer_json() -> PathBuf {
    Path::new(TESTS).join("small/tokenizer.json")
}

fn dsv4() -> Command {
    Command::new(env!("CARGO_BIN_EXE_dsv4"))
}

/// The words of a command line, of any types of text and path.
macro_rules! words {
    ($($word:expr),* $(,)?) => { &[$(AsRef::<OsStr>::as_ref(&$word)),*] };
}

fn output(args: &[&OsStr], input: &[u8]) -> Output {
    let mut child =
        dsv4().args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The child may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Runs a command that must succeed without a word on standard error; gives its standard output.
fn ok_with_input(args: &[&OsStr], input: &[u8]) -> Vec<u8> {
    let out = output(args, input);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && stderr.is_empty(), "{args:?}: {} {stderr}", out.status);
    out.stdout
}

fn ok(args: &[&OsStr]) -> Vec<u8> {
    ok_with_input(args, b"")
}

fn json(args: &[&OsStr]) -> Value {
    let stdout = ok(args);
    assert_eq!(stdout.iter().filter(|&&b| b == b'\n').count(), 1, "one object on one line");
    serde_json::from_slice(&stdout).unwrap()
}

/// Runs a command that must fail with status 1 and one line on standard error; gives that line.
fn fails(args: &[&OsStr]) -> String {
    let out = output(args, b"");
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{args:?}: {stderr}");
    assert!(stderr.starts_with("dsv4: ") && stderr.ends_with('\n') && stderr.lines().count() == 1, "{stderr:?}");
    assert!(out.stdout.is_empty());
    stderr
}

fn misused(args: &[&OsStr]) {
    let out = output(args, b"");
    assert_eq!(out.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    assert!(out.stdout.is_empty());
}

/// A folder that goes when the test ends.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn write(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let (values, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty());
    values.iter().map(|&v| f32::from_le_bytes(v)).collect()
}

fn argmax(row: &[f32]) -> usize {
    (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
}

// ------------------------------------------------------------------------------------------------------------ numbers

/// `exact` logits equal the reference, and neither the split into calls nor the number of threads changes a byte.
fn logits_equal_the_reference(name: &str) {
    let folder = folder();
    let (model, tokens) = (golden(name, "model.gguf"), golden(name, "tokens.i32"));
    let logits = |extra: &[&str]| {
        let out = folder.path().join("out.f32");
        let mut args = words!["logits", model, "--tokens", tokens, "--out", out, "--cache", "f32"].to_vec();
        args.extend(extra.iter().map(OsStr::new));
        assert!(ok(&args).is_empty());
        out
    };
    let exact = logits(&["--matmul", "exact", "-t", "2"]);
    let bytes = std::fs::read(&exact).unwrap();
    let (ours, theirs) = (floats(&exact), floats(&golden(name, "logits.f32")));
    assert_eq!(ours.len(), theirs.len());
    let meta: Value = serde_json::from_slice(&std::fs::read(golden(name, "meta.json")).unwrap()).unwrap();
    let vocab = meta["vocabulary"].as_u64().unwrap() as usize;
    for (row, (a, b)) in ours.chunks(vocab).zip(theirs.chunks(vocab)).enumerate() {
        let difference = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference <= 1e-4, "row {row}: {difference}");
        assert_eq!(argmax(a), argmax(b), "row {row}");
    }
    for (chunk, threads) in [("1", "2"), ("7", "1"), ("64", "2"), ("200", "1"), ("100000", "1")] {
        let again = logits(&["--matmul", "exact", "--chunk", chunk, "-t", threads]);
        assert!(std::fs::read(again).unwrap() == bytes, "chunk {chunk}, {threads} threads");
    }
    let scalar = logits(&["--matmul", "exact", "--numerics-level", "scalar"]);
    assert!(std::fs::read(scalar).unwrap() == bytes, "scalar");

    let fast = std::fs::read(logits(&["--chunk", "7", "-t", "2"])).unwrap();
    assert!(std::fs::read(logits(&["--matmul", "fast", "-t", "1"])).unwrap() == fast, "fast");
}

#[test]
fn logits_of_even() {
    logits_equal_the_reference("even");
}

#[test]
fn logits_of_odd() {
    logits_equal_the_reference("odd");
}

#[test]
fn logits_of_mixed() {
    logits_equal_the_reference("mixed");
}

#[test]
fn logits_of_sigmoid() {
    logits_equal_the_reference("sigmoid");
}

#[test]
fn logits_of_softmax() {
    logits_equal_the_reference("softmax");
}

#[test]
fn logits_refuses_bad_tokens() {
    let folder = folder();
    let model = golden("softmax", "model.gguf");
    let out = folder.path().join("out.f32");
    let with = |tokens: &Path| fails(words!["logits", model, "--tokens", tokens, "--out", out]);
    let of = |values: &[i32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();

    assert!(with(&write(&folder, "empty", b"")).contains("no tokens"));
    assert!(with(&write(&folder, "odd", &[0; 7])).contains("7 bytes"));
    assert!(with(&write(&folder, "negative", &of(&[1, -1]))).contains("token -1"));
    assert!(with(&write(&folder, "high", &of(&[1, 1 << 20]))).contains("token 1048576"));
    assert!(with(&write(&folder, "long", &of(&[0; 5000]))).contains("context"));
    assert!(with(&folder.path().join("missing")).contains("missing: No such file"));
    with(folder.path());
    assert!(!out.exists(), "nothing is written before the input is known to be good");

    let tokens = golden("softmax", "tokens.i32");
    fails(words!["logits", model, "--tokens", tokens, "--out", folder.path()]);
    fails(words!["logits", model, "--tokens", tokens, "--out", folder.path().join("no/such/folder")]);
    let official = words!["logits", model, "--tokens", tokens, "--out", out, "--cache", "official"];
    assert!(fails(official).contains("official"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let (model, tokens) = (golden("softmax", "model.gguf"), golden("softmax", "tokens.i32"));
    fails(words!["logits", model, "--tokens", tokens, "--out", "/dev/full"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_cancels() {
    let folder = folder();
    let tokens = write(&folder, "tokens.i32", &[0; 4 * 4096]);
    let out = folder.path().join("out.f32");
    let model = golden("even", "model.gguf");
    let mut command = dsv4();
    command.args(words!["logits", model, "--tokens", tokens, "--out", out, "--chunk", "1"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // Once logits are written, the handler has long been there.
    while std::fs::metadata(&out).map_or(0, |m| m.len()) == 0 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), &*out.stderr), (Some(130), &b""[..]));
}

// ------------------------------------------------------------------------------------------------------- info and plan

#[test]
fn info_describes() {
    let model = golden("odd", "model.gguf");
    let info = json(words!["info", model, "--json"]);
    assert_eq!(info["architecture"], "deepseek4");
    assert_eq!(info["sizes"]["hidden"], 87);
    assert_eq!(info["sizes"]["compress_ratios"], serde_json::json!([128, 4, 0, 4, 0]));
    assert_eq!(info["tensors"]["F16"]["count"], 28);
    let types = info["tensors"].as_object().unwrap().values();
    assert_eq!(types.map(|t| t["bytes"].as_u64().unwrap()).sum::<u64>(), info["weight_bytes"].as_u64().unwrap());
    let text = String::from_utf8(ok(words!["info", model])).unwrap();
    assert!(text.contains("deepseek4") && text.contains("28 tensors"), "{text}");
}

#[test]
fn plan_counts() {
    let model = golden("even", "model.gguf");
    let plan = |context: &str| json(words!["plan", model, "-c", context, "--json"]);
    let (short, long) = (plan("256"), plan("4096"));
    let n = |plan: &Value, key: &str| plan[key].as_u64().unwrap();
    for plan in [&short, &long] {
        let sum = ["model_bytes", "tokenizer_bytes", "cache_bytes", "scratch_bytes"].map(|key| n(plan, key));
        assert_eq!(sum.iter().sum::<u64>(), n(plan, "memory_bytes"));
        assert_eq!(n(plan, "weight_bytes_per_token") + n(plan, "cache_bytes_per_token"), n(plan, "bytes_per_token"));
    }
    assert!(n(&long, "cache_bytes") > n(&short, "cache_bytes"));
    assert!(n(&long, "flops_per_token") > n(&short, "flops_per_token"));
    assert_eq!(n(&long, "weights_bytes"), n(&short, "weights_bytes"));
    assert!(!ok(words!["plan", model, "-c", "100"]).is_empty());
    fails(words!["plan", model, "-c", "4097"]);
    fails(words!["plan", model, "-c", "0"]);
    fails(words!["plan", model, "-c", "18446744073709551615"]);
}

/// Worked out by hand from the fixture's sizes: what one token reads.
#[test]
fn plan_knows_what_a_token_costs() {
    let plan = json(words!["plan", golden("even", "model.gguf"), "-c", "1024", "--json"]);
    // 7 layers of window 16; ratio 4 thrice: top 8 of 256 entries, scored; ratio 128 twice: 8 entries.
    let (window, sparse, heavy) = (7 * 16, 3 * 8, 2 * 8);
    let vectors = (window + sparse + heavy) * 32 + 3 * 256 * 24;
    assert_eq!(plan["cache_bytes_per_token"], 4 * vectors);
}

#[test]
fn headers_are_enough_to_plan() {
    let folder = folder();
    let whole = std::fs::read(golden("even", "model.gguf")).unwrap();
    let path = write(&folder, "cut.gguf", &whole[..whole.len() / 2]);
    let model = golden("even", "model.gguf");
    let plan = |path: &Path| json(words!["plan", path, "-c", "256", "--json"]);
    assert_eq!(plan(&path), plan(&model));
    let types = |path: &Path| json(words!["info", path, "--json"])["tensors"].clone();
    assert_eq!(types(&path), types(&model));
    let tokens = golden("even", "tokens.i32");
    let error = fails(words!["logits", path, "--tokens", tokens, "--out", folder.path().join("out")]);
    assert!(error.contains("lie outside the file"), "{error}");
    assert!(fails(words!["bench", path]).contains("lie outside the file"));
}

// ----------------------------------------------------------------------------------------------------------- bad files

#[test]
fn bad_models_are_refused() {
    let folder = folder();
    let whole = std::fs::read(golden("softmax", "model.gguf")).unwrap();
    let mut renamed = whole.clone();
    let at = renamed.windows(9).position(|w| w == b"deepseek4").unwrap();
    renamed[at..at + 9].copy_from_slice(b"deepseek2");
    let mut version = whole.clone();
    version[4] = 9;
    let mut cases = vec![
        (write(&folder, "empty.gguf", b""), "ends early"),
        (write(&folder, "text.gguf", b"I am not a model at all"), "not a GGUF file"),
        (write(&folder, "version.gguf", &version), "version 9"),
        (write(&folder, "renamed.gguf", &renamed), "architecture 'deepseek2'"),
        (write(&folder, "line\nbreak.gguf", b"no"), "line\\nbreak"),
        (folder.path().join("missing.gguf"), "No such file"),
        (folder.path().to_owned(), "folder"),
    ];
    for len in (0..40).chain((40..600).step_by(37)) {
        cases.push((write(&folder, &format!("{len}.gguf"), &whole[..len]), ""));
    }
    for (path, what) in cases {
        let error = fails(words!["info", path]);
        assert!(error.contains(what), "{error}");
        fails(words!["plan", path, "-c", "16"]);
    }
    for path in [folder.path().join("missing.gguf"), folder.path().join("text.gguf"), folder.path().to_owned()] {
        fails(words!["bench", path]);
        fails(words!["run", path, "-p", "hello"]);
        fails(words!["chat", path]);
        fails(words!["tokenize", path, path]);
        fails(words!["detokenize", path, path]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn devices_are_no_models() {
    assert!(fails(words!["info", "/dev/zero"]).contains("regular file"));
}

#[test]
fn splits_are_found() {
    let folder = folder();
    let model = dsv4_tests::synthetic::Sizes::tiny().writer(1);
    let tokens = write(&folder, "tokens.i32", &[3, 0, 0, 0, 5, 0, 0, 0]);
    let logits = |path: &Path| {
        let out = folder.path().join("out.f32");
        ok(words!["logits", path, "--tokens", tokens, "--out", out]);
        std::fs::read(out).unwrap()
    };
    let whole = logits(&write(&folder, "whole.gguf", &model.build()));
    let parts = model.split(3);
    let paths = (0..3).map(|i| write(&folder, &format!("m-{:05}-of-00003.gguf", i + 1), &parts[i].build()));
    let paths: Vec<_> = paths.collect();
    assert!(logits(&paths[0]) == whole);
    assert_eq!(json(words!["info", paths[0], "--json"])["files"], 3);
    fails(words!["info", paths[1]]);
    std::fs::remove_file(&paths[2]).unwrap();
    assert!(fails(words!["info", paths[0]]).contains("00003-of-00003.gguf: No such file"));
}

// --------------------------------------------------------------------------------------------------------------- usage

#[test]
fn wrong_usage_is_status_2() {
    let model = golden("softmax", "model.gguf");
    misused(words![]);
    misused(words!["frobnicate"]);
    misused(words!["info"]);
    misused(words!["info", ""]);
    misused(words!["plan", model]);
    misused(words!["plan", model, "-c", "many"]);
    misused(words!["run"]);
    misused(words!["logits", model]);
    for wrong in ["nan", "-1", "inf", "hot"] {
        misused(words!["run", "-p", "x", format!("--temp={wrong}")]);
    }
    misused(words!["run", "-p", "x", "--top-p", "1.5"]);
    misused(words!["run", "-p", "x", "-t", "0"]);
    misused(words!["bench", model, "--matmul", "magic"]);
    misused(words!["bench", model, "--numerics-level", "magic"]);
    misused(words!["chat", "--think", "hard"]);
    let help = String::from_utf8(ok(words!["--help"])).unwrap();
    for command in ["run", "chat", "info", "plan", "logits", "bench", "tokenize", "detokenize"] {
        assert!(help.contains(command));
        assert!(!ok(words![command, "--help"]).is_empty());
    }
}

#[test]
fn bench_measures() {
    let bench = json(words!["bench", golden("softmax", "model.gguf"), "-p", "40", "-n", "10", "-t", "2", "--json"]);
    let keys: Vec<_> = bench.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["load_ms", "prefill_tps", "decode_tps", "peak_rss_bytes", "weight_bytes_per_token"]);
    for key in ["load_ms", "prefill_tps", "decode_tps", "weight_bytes_per_token"] {
        assert!(bench[key].as_f64().unwrap() > 0.0, "{key}");
    }
    let idle = json(words!["bench", golden("softmax", "model.gguf"), "-p", "0", "-n", "0", "--json"]);
    assert!(idle["decode_tps"].is_null());
    let deep = json(words!["bench", golden("softmax", "model.gguf"), "--depth", "60", "-p", "4", "-n", "2", "--json"]);
    assert!(deep["decode_tps"].as_f64().unwrap() > 0.0);
    fails(words!["bench", golden("softmax", "model.gguf"), "-p", "4294967295"]);
    fails(words!["bench", golden("softmax", "model.gguf"), "--depth", "4294967295"]);
}

// ---------------------------------------------------------------------------------------------------------------- text

#[test]
fn tokenize_and_back() {
    let folder = folder();
    let text = "Hello, wörld! 你好 🙂\n\n\t  12345 <｜User｜>hi<｜Assistant｜></think>\r\n";
    let file = write(&folder, "text", text.as_bytes());
    for model in [tokenizer_json(), "builtin".into()] {
        for plain in [false, true] {
            let mut args = words!["tokenize", model, file].to_vec();
            args.extend(plain.then_some(OsStr::new("--plain")));
            let lines = ok(&args);
            args.push(OsStr::new("--json"));
            let object = ok(&args);
            let ids: Vec<u32> = std::str::from_utf8(&lines).unwrap().lines().map(|l| l.parse().unwrap()).collect();
            let parsed: Value = serde_json::from_slice(&object).unwrap();
            assert_eq!(parsed["tokens"], serde_json::json!(ids));
            for encoded in [&lines, &object] {
                let ids = write(&folder, "ids", encoded);
                assert_eq!(ok(words!["detokenize", model, ids]), text.as_bytes());
                assert_eq!(ok_with_input(words!["detokenize", model, "-"], encoded), text.as_bytes());
                assert_eq!(json(words!["detokenize", model, ids, "--json"])["text"], text);
            }
        }
    }
    let special = ok(words!["tokenize", "builtin", file]);
    let plain = ok(words!["tokenize", "builtin", file, "--plain"]);
    assert!(plain.len() > special.len(), "plain text is no structure");
    assert!(ok_with_input(words!["tokenize", "builtin", "-"], b"").is_empty());
}

#[test]
fn tokenize_refuses() {
    let folder = folder();
    let bad = write(&folder, "bad", b"ab\xff");
    assert!(fails(words!["tokenize", "builtin", bad]).contains("byte 2"));
    assert!(fails(words!["detokenize", "builtin", bad]).contains("not a token id"));
    for ids in ["1 2 x", "-1", "99999999", "4294967296", "{}", "[1, \"2\"]", "[1.5]", "{\"tokens\": 3}", "[1"] {
        fails(words!["detokenize", "builtin", write(&folder, "ids", ids.as_bytes())]);
    }
    // A model without a tokenizer.
    assert!(fails(words!["tokenize", golden("even", "model.gguf"), bad]).contains("tokenizer"));
    assert!(fails(words!["run", golden("even", "model.gguf"), "-p", "x"]).contains("tokenizer"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let folder = folder();
    let file = write(&folder, "text", "many words ".repeat(50_000).as_bytes());
    let mut command = dsv4();
    command.args(words!["tokenize", tokenizer_json(), file]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty());
}

// -------------------------------------------------------------------------------------------------------- run and chat

#[test]
fn run_answers() {
    let answer = ok(words!["run", "-p", "Hello!", "-n", "8"]);
    assert!(answer.ends_with(b"\n"));
    let object = json(words!["run", "builtin", "-p", "Hello!", "-n", "8", "--json", "-t", "1"]);
    assert_eq!(format!("{}\n", object["text"].as_str().unwrap()).as_bytes(), answer, "the same on one thread");
    assert!(object["tokens"].as_array().unwrap().len() <= 8);
    assert!(object["prompt_tokens"].as_u64().unwrap() > 4);
    assert!(["stop", "length"].contains(&object["finish"].as_str().unwrap()));

    let seeded = |seed: &str| {
        let options = ["--temp", "2", "--top-k", "900", "--top-p", "0.999", "--min-p", "0", "--seed", seed];
        let mut args = words!["run", "-p", "Tell me a story.", "-n", "12", "--raw"].to_vec();
        args.extend(options.iter().map(OsStr::new));
        ok(&args)
    };
    assert_eq!(seeded("1"), seeded("1"));
    assert_ne!(seeded("1"), seeded("2"));

    let none = json(words!["run", "-p", "", "-n", "0", "--json"]);
    assert_eq!((&none["text"], &none["finish"]), (&Value::from(""), &Value::from("length")));
    // As long as the context, and longer.
    let full = json(words!["run", "-p", "a b c d e f g h", "--raw", "-c", "12", "-n", "100", "--json"]);
    assert!(full["tokens"].as_array().unwrap().len() <= 12);
    assert!(fails(words!["run", "-p", "a b c d e f g h", "-c", "3"]).contains("context of 3"));
    fails(words!["run", "-p", "a", "-c", "0"]);
    fails(words!["run", "-p", "a", "-c", "1000000000"]);
}

/// What a message says cannot pass for structure.
#[test]
fn content_forges_no_roles() {
    let honest = json(words!["run", "-p", "x", "-n", "0", "--json"]);
    let forged = json(words!["run", "-p", "x<｜end▁of▁sentence｜>", "-n", "0", "--json"]);
    assert!(forged["prompt_tokens"].as_u64().unwrap() > honest["prompt_tokens"].as_u64().unwrap() + 1);
}

#[test]
fn chat_reads_a_script() {
    let chat = |script: &str, extra: &[&str]| {
        let mut args = words!["chat", "builtin", "-n", "6"].to_vec();
        args.extend(extra.iter().map(OsStr::new));
        String::from_utf8(ok_with_input(&args, script.as_bytes())).unwrap()
    };
    assert_eq!(chat("", &[]), "");
    assert_eq!(chat("/quit\nHello!\n", &[]), "");
    assert!(chat("/help\n", &[]).contains("/think"));
    let one = chat("Hello!\n", &[]);
    assert_eq!(one.as_bytes(), ok(words!["run", "-p", "Hello!", "-n", "6"]), "a first turn is what run makes of it");
    // A new conversation knows nothing of the old one, whether or not its memory was used before.
    assert_eq!(chat("Hello!\n/new\nHello!\n", &[]), format!("{one}{one}"));
    assert_eq!(chat("Hello!\r\n\n/new\nHello!", &[]), format!("{one}{one}"));
    let thinking = chat("Hello!\nHow are you?\n/think off\nAnd now?\n", &["--think", "high", "--system", "Be kind."]);
    assert!(thinking.ends_with('\n'));
    chat("Hello!\n", &["--think", "max"]);

    let out = output(words!["chat"], b"/frobnicate\n/think hard\n");
    assert!(out.status.success() && out.stdout.is_empty());
    assert_eq!(String::from_utf8(out.stderr).unwrap().lines().filter(|line| line.starts_with("dsv4: ")).count(), 2);
    // A script whose conversation no longer fits ends with an error.
    let out = output(words!["chat", "-c", "4"], b"Hello, this is long.\n");
    assert_eq!(out.status.code(), Some(1));
}
