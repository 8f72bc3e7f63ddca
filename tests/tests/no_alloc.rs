//! From a file's bytes to logits nothing is allocated: this binary's allocator counts.

use dsv4_core::arch::disjoint::Serial;
use dsv4_core::arena::ALIGN;
use dsv4_core::dtype::DType;
use dsv4_core::kernel::MatmulMode;
use dsv4_core::model::Model;
use dsv4_core::session::{Logits, Run, Session, SessionParams};
use dsv4_tests::golden::golden;
use dsv4_tests::synth::{Shape, Types};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    /// Calls of the allocator by this thread: the tests of this binary run on several.
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The next `len` bytes of `memory` that start at a multiple of [`ALIGN`].
fn aligned(memory: &mut [u8], len: usize) -> &mut [u8] {
    let start = memory.as_ptr().align_offset(ALIGN);
    &mut memory[start..][..len]
}

fn from_load_to_logits(file: &[u8], tokens: &[u32], matmul: MatmulMode) {
    // More than enough of all, before the counting starts: even the plans are made under the counter.
    let mut model_memory = vec![0; 1 << 20];
    let mut session_memory = vec![0; 64 << 20];
    let mut logits = vec![0.0; 1 << 16];
    let mut snapshot = vec![0; 16 << 20];
    let shards = [file];

    let before = CALLS.get();
    let plan = Model::plan(&shards).unwrap();
    let model = Model::load(&shards, aligned(&mut model_memory, plan), &mut |_| true).unwrap();
    let params = SessionParams { matmul, ..SessionParams::new(tokens.len()) };
    let plan = Session::plan(model.config(), &params).unwrap();
    let mut session = Session::new(&model, &params, aligned(&mut session_memory, plan.bytes())).unwrap();
    let (prompt, rest) = tokens.split_at(tokens.len() - 20);
    let logits = &mut logits[..model.config().vocab];
    let mut run = Run { parallel: &Serial, progress: &mut |_| true, observer: None };
    session.eval(prompt, Logits::Last(logits), &mut run).unwrap();
    for token in rest {
        session.eval(&[*token], Logits::Last(logits), &mut run).unwrap();
    }
    session.rewind(tokens.len() - 10).unwrap();
    let saved = session.save(&mut snapshot).unwrap();
    session.restore(&snapshot[..saved]).unwrap();
    session.restore(&snapshot[..saved - 1]).unwrap_err();
    session.eval(&tokens[..5], Logits::None, &mut run).unwrap();
    session.eval(&[u32::MAX], Logits::None, &mut run).unwrap_err();
    let calls = CALLS.get() - before;

    assert_eq!(calls, 0, "{calls} calls of the allocator");
}

#[test]
fn fixtures() {
    for name in ["odd", "mixed"] {
        let golden = golden(name);
        for matmul in [MatmulMode::Exact, MatmulMode::Fast] {
            from_load_to_logits(&golden.model, &golden.tokens, matmul);
        }
    }
}

#[test]
fn a_model_with_a_tokenizer() {
    let tokens: Vec<u32> = (0..60).collect();
    from_load_to_logits(&Shape::small(Types::mix(DType::Q4_K)).file(1), &tokens, MatmulMode::Fast);
}

#[test]
fn the_counter_counts() {
    let before = CALLS.get();
    drop(std::hint::black_box(vec![1]));
    assert_eq!(CALLS.get() - before, 2);
}
