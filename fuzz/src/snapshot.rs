//! A snapshot from a stranger, restored into a session in the middle of its own timeline.
//!
//! The input is a snapshot; or, if it does not begin as one, a list of edits of the snapshot of a session over the seed
//! `gguf/tiny.gguf` (three bytes each: position, modulo the length, and what to exclusive-or). Either is tried as it is and
//! with a checksum that is right, so that the fuzzer gets past that.
//!
//! Oracle: after an error the session saves the bytes that it saved before; after a success it saves the snapshot's own
//! bytes, goes on, and goes back, without a panic.

use crate::gguf::TINY;
use crate::memory::Region;
use dsv4_core::arch::disjoint::Serial;
use dsv4_core::hash::xxh64;
use dsv4_core::model::Model;
use dsv4_core::session::{Logits, Run, Session, SessionParams};

/// Tokens of the session whose snapshot is edited: past several entries of ratio 4, one of ratio 8, and windows of 4.
const TOKENS: [u32; 21] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6];

/// Any bytes.
pub fn check(data: &[u8]) {
    let shards = [TINY];
    let mut memory = Region::new(Model::plan(&shards).expect("a plan"));
    let model = Model::load(&shards, memory.bytes(), &mut |_| true).expect("a model");
    let params = SessionParams { batch: 5, rewind: 6, ..SessionParams::new(32) };
    let need = Session::plan(model.config(), &params).expect("a plan").bytes();
    let mut memory = Region::new(need);
    let mut session = Session::new(&model, &params, memory.bytes()).expect("a session");
    eval(&mut session, &TOKENS);
    let mut snapshot = if data.starts_with(b"dsv4snap") { data.to_vec() } else { edited(save(&session), data) };

    session.rewind(TOKENS.len() - 3).expect("a promise");
    eval(&mut session, &[7, 7]);
    check_restore(&mut session, &snapshot);
    if let Some(body) = snapshot.len().checked_sub(8) {
        let (body, checksum) = snapshot.split_at_mut(body);
        checksum.copy_from_slice(&xxh64(body, 0).to_le_bytes());
        check_restore(&mut session, &snapshot);
    }
}

fn check_restore(session: &mut Session<'_>, snapshot: &[u8]) {
    let before = (save(session), session.oldest());
    if session.restore(snapshot).is_err() {
        assert!((save(session), session.oldest()) == before, "an error changed the session");
        return;
    }
    let back = session.position() - session.oldest();
    if back <= session.params().rewind {
        assert!(save(session) == snapshot, "what was restored is something else");
    }
    let room = session.params().context - session.position();
    eval(session, &[1, 2, 3, 4, 5, 6, 7][..room.min(7)]);
    session.rewind(session.oldest()).expect("as far as it says");
    eval(session, &[5]);
    session.restore(&before.0).expect("its own snapshot");
}

fn edited(mut snapshot: Vec<u8>, edits: &[u8]) -> Vec<u8> {
    for [low, high, bits] in edits.as_chunks::<3>().0 {
        let at = usize::from(u16::from_le_bytes([*low, *high])) % snapshot.len();
        snapshot[at] ^= bits;
    }
    snapshot
}

fn save(session: &Session<'_>) -> Vec<u8> {
    let mut bytes = vec![0; session.snapshot_bytes()];
    assert_eq!(session.save(&mut bytes), Ok(bytes.len()));
    bytes
}

fn eval(session: &mut Session<'_>, tokens: &[u32]) {
    let mut run = Run { parallel: &Serial, progress: &mut |_| true, observer: None };
    session.eval(tokens, Logits::None, &mut run).expect("tokens of the vocabulary");
}

/// The snapshot that edits change, for the seeds.
pub fn seed() -> Vec<u8> {
    let shards = [TINY];
    let mut memory = Region::new(Model::plan(&shards).expect("a plan"));
    let model = Model::load(&shards, memory.bytes(), &mut |_| true).expect("a model");
    let params = SessionParams { batch: 8, rewind: 4, ..SessionParams::new(40) };
    let mut memory = Region::new(Session::plan(model.config(), &params).expect("a plan").bytes());
    let mut session = Session::new(&model, &params, memory.bytes()).expect("a session");
    eval(&mut session, &TOKENS);
    save(&session)
}
