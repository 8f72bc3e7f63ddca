//! What is fuzzed, one module a target: each has a `check` that takes any bytes and panics where the core answers
//! otherwise than its oracle. A crash is never all that is looked for.
//!
//! `cargo test` replays the seeds in `corpus/` and some thousand variations of each; cargo-fuzz runs them for as long as
//! one likes. On a stable toolchain:
//!
//! ```text
//! cargo install cargo-fuzz
//! RUSTC_BOOTSTRAP=1 cargo fuzz run gguf        # from the root of the repository; or dequant_diff, json, snapshot, token
//! ```
//!
//! `cargo run --example seeds` (here) writes the seeds anew.

pub mod dequant_diff;
pub mod gguf;
pub mod json;
pub mod memory;
pub mod snapshot;
pub mod token;

/// Runs `check` over the files that the command line names.
pub fn check_files(check: fn(&[u8])) {
    for path in std::env::args_os().skip(1) {
        check(&std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
    }
}
