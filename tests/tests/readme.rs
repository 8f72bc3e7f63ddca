//! The README's example, run.

use dsv4_core::arch::disjoint::Serial;
use dsv4_core::arena::ALIGN;
use dsv4_core::error::Result;
use dsv4_core::model::Model;
use dsv4_core::sampler::argmax;
use dsv4_core::session::{Logits, Run, Session, SessionParams};

/// `len` bytes at a multiple of [`ALIGN`], never freed.
fn aligned(len: usize) -> &'static mut [u8] {
    let region = vec![0; len + ALIGN].leak();
    let start = region.as_ptr().align_offset(ALIGN);
    &mut region[start..][..len]
}

#[rustfmt::skip]
fn next_token(file: &[u8], prompt: &[u32]) -> Result<u32> {
// README: begin
let shards = [file];
let model_memory = aligned(Model::plan(&shards)?);
let model = Model::load(&shards, model_memory, &mut |_| true)?;
let params = SessionParams::new(64);
let session_memory = aligned(Session::plan(model.config(), &params)?.bytes());
let mut session = Session::new(&model, &params, session_memory)?;
let mut logits = vec![0.0; model.config().vocab];
let mut run = Run { parallel: &Serial, progress: &mut |_| true, observer: None };
session.eval(prompt, Logits::Last(&mut logits), &mut run)?;
let next = argmax(&logits);
// README: end
Ok(next)
}

#[test]
fn the_example_is_the_one_above() {
    let (_, rest) = include_str!("readme.rs").split_once("// README: begin\n").unwrap();
    let (example, _) = rest.split_once("// README: end\n").unwrap();
    assert!(include_str!("../../README.md").contains(&format!("```rust\n{example}```\n")));
}

#[test]
fn the_example_finds_the_likeliest_token() {
    let golden = dsv4_tests::golden::golden("even");
    let vocab = golden.logits.len() / golden.tokens.len();
    let (prompt, row) = (&golden.tokens[..40], &golden.logits[39 * vocab..][..vocab]);
    assert_eq!(next_token(&golden.model, prompt), Ok(argmax(row)));
}
