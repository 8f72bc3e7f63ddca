//! `include/dsv4.h` is what cbindgen makes of the C ABI. `UPDATE_HEADER=1 cargo test -p dsv4 --test header` writes it.

use std::path::Path;

/// In the order of the header.
const SOURCES: [&str; 9] = ["status", "error", "log", "memory", "threads", "model", "tokenizer", "session", "sampler"];

#[test]
fn is_up_to_date() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap();
    let sources = SOURCES.map(|name| here.join("src/abi").join(name).with_extension("rs"));
    let builder = cbindgen::Builder::new().with_config(config);
    let bindings = sources.into_iter().fold(builder, cbindgen::Builder::with_src).generate().unwrap();
    let mut made = Vec::new();
    bindings.write(&mut made);
    let made = String::from_utf8(made).unwrap();

    let path = here.join("../include/dsv4.h");
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(made == committed, "include/dsv4.h is out of date: UPDATE_HEADER=1 cargo test -p dsv4 --test header");
}
