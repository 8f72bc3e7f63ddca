//! Until the small model is committed: builds without it where the file is missing.
fn main() {
    println!("cargo::rerun-if-changed=model");
    println!("cargo::rustc-check-cfg=cfg(builtin_model)");
    if std::path::Path::new("model/small.gguf").exists() {
        println!("cargo::rustc-cfg=builtin_model");
    }
}
