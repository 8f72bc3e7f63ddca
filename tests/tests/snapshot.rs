//! Saved sessions go on elsewhere with the same bits; whatever else is offered as a snapshot changes nothing.

use dsv4_core::arch::disjoint::Serial;
use dsv4_core::error::Error;
use dsv4_core::hash::xxh64;
use dsv4_core::kernel::MatmulMode::{Exact, Fast};
use dsv4_core::session::{Logits, Run, Session, SessionParams};
use dsv4_tests::golden::{eval, fresh, with_model, with_session};
use dsv4_tests::synth::{Random, Shape, place};
use proptest::collection::vec;
use proptest::prelude::*;

const VOCAB: u32 = 31;

/// A little model of all kinds of layers, whose window and ratios no batch or context here is a multiple of.
fn shape() -> Shape {
    let mut shape = Shape::tiny(3);
    let s = &mut shape.sizes;
    (s.hidden, s.vocab, s.head_size, s.rotary, s.window, s.ratios) = (12, VOCAB, 6, 4, 5, vec![0, 4, 7, 4]);
    (s.experts, s.experts_used, s.hash_layers, s.indexer_size, s.indexer_top_k) = (4, 2, 2, 6, 3);
    shape
}

fn params(context: usize, batch: usize, rewind: usize) -> SessionParams {
    SessionParams { batch: batch.min(context), rewind: rewind.min(context), ..SessionParams::new(context) }
}

fn save(session: &Session<'_>) -> Vec<u8> {
    let mut bytes = vec![0xa5; session.snapshot_bytes()];
    assert_eq!(session.save(&mut bytes), Ok(bytes.len()));
    bytes
}

/// The same snapshot with a checksum that is right.
fn seal(mut snapshot: Vec<u8>) -> Vec<u8> {
    let body = snapshot.len() - 8;
    let sum = xxh64(&snapshot[..body], 0);
    snapshot[body..].copy_from_slice(&sum.to_le_bytes());
    snapshot
}

#[track_caller]
fn assert_same_bits(a: &[f32], b: &[f32]) {
    assert!(a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())));
}

/// What a walk over several sessions may do next; numbers are cut to what is possible then.
#[derive(Clone, Debug)]
enum Step {
    Eval(usize, Vec<u32>),
    /// Stopped at this call of the progress function.
    Cancel(usize, Vec<u32>, usize),
    /// So many tokens back.
    Rewind(usize, usize),
    /// From one session to another, or to itself.
    Move(usize, usize),
}

const SESSIONS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let tokens = || vec(0..VOCAB, 1..40);
    let which = 0..SESSIONS;
    prop_oneof![
        4 => (which.clone(), tokens()).prop_map(|(i, tokens)| Step::Eval(i, tokens)),
        1 => (which.clone(), tokens(), 0..12_usize).prop_map(|(i, tokens, at)| Step::Cancel(i, tokens, at)),
        3 => (which.clone(), 0..40_usize).prop_map(|(i, back)| Step::Rewind(i, back)),
        4 => (which.clone(), which).prop_map(|(from, to)| Step::Move(from, to)),
    ]
}

fn take(sessions: &mut [Session<'_>; SESSIONS], history: &mut [Vec<u32>; SESSIONS], step: Step) {
    match step {
        Step::Eval(i, mut tokens) => {
            let (session, history) = (&mut sessions[i], &mut history[i]);
            tokens.truncate(session.params().context - history.len());
            if tokens.is_empty() {
                return;
            }
            let logits = eval(session, &tokens, tokens.len(), &Serial);
            history.extend(&tokens);
            let want = fresh(session.model(), session.params(), history);
            assert_same_bits(&logits, &want[want.len() - logits.len()..]);
        }
        Step::Cancel(i, mut tokens, at) => {
            let (session, history) = (&mut sessions[i], &mut history[i]);
            tokens.truncate(session.params().context - history.len());
            let mut left = at;
            let progress = &mut |_| {
                left = left.saturating_sub(1);
                left > 0
            };
            let _ = session.eval(&tokens, Logits::None, &mut Run { parallel: &Serial, progress, observer: None });
            history.extend(&tokens[..session.position() - history.len()]);
        }
        Step::Rewind(i, back) => {
            let (session, history) = (&mut sessions[i], &mut history[i]);
            let (to, oldest) = (history.len().saturating_sub(back), session.oldest());
            let possible = to == 0 || to >= oldest;
            assert_eq!(session.rewind(to).is_ok(), possible);
            if possible {
                history.truncate(to);
            }
        }
        Step::Move(from, to) => {
            let (source, snapshot) = (&sessions[from], save(&sessions[from]));
            let (position, oldest, rewind) = (source.position(), source.oldest(), source.params().rewind);
            let target = &mut sessions[to];
            let context = target.params().context;
            if position > context {
                assert_eq!(target.restore(&snapshot), Err(Error::ContextFull { context: context as u32 }));
            } else {
                target.restore(&snapshot).unwrap();
                history[to] = history[from].clone();
                // As far back as the one could go, if the other promises as much.
                let promised = position.saturating_sub(rewind.min(target.params().rewind));
                assert!(target.oldest() <= promised.max(oldest));
            }
        }
    }
    for (session, history) in sessions.iter().zip(history) {
        assert_eq!(session.tokens(), history);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any walk over sessions of any sizes, each going on where another was, gives what a fresh evaluation does.
    #[test]
    fn walks(
        steps in vec(step(), 1..24),
        sizes in vec((40..100_usize, 1..12_usize, 0..30_usize), SESSIONS),
        exact: bool,
    ) {
        let matmul = if exact { Exact } else { Fast };
        let params = |i: usize| {
            let (context, batch, rewind) = sizes[i];
            SessionParams { matmul, ..params(context, batch, rewind) }
        };
        with_model(&shape().file(5), |model| {
            let memory = |i: usize| vec![0xff_u8; Session::plan(model.config(), &params(i)).unwrap().bytes() + 64];
            let mut memories: [_; SESSIONS] = std::array::from_fn(memory);
            let mut i = 0;
            let mut sessions = memories.each_mut().map(|memory| {
                let start = memory.as_ptr().align_offset(64);
                i += 1;
                Session::new(model, &params(i - 1), &mut memory[start..]).unwrap()
            });
            let mut history = [const { vec![] }; SESSIONS];
            steps.into_iter().for_each(|step| take(&mut sessions, &mut history, step));
            (0..SESSIONS).for_each(|i| take(&mut sessions, &mut history, Step::Eval(i, vec![1, 2, 3, 4, 5])));
        });
    }

    /// The snapshot is the timeline's, not the session's: other sizes, other splits into calls, the same bytes.
    #[test]
    fn the_same_timeline_gives_the_same_bytes(n in 0..90_usize, batch in 1..12_usize, context in 90..200_usize) {
        let tokens = Random(n as u64).tokens(n, VOCAB as usize);
        with_model(&shape().file(5), |model| {
            let bytes = |params: SessionParams| with_session(model, &params, |session| {
                eval(session, &tokens, 7, &Serial);
                save(session)
            });
            prop_assert_eq!(bytes(params(context, batch, 9)), bytes(params(90, 90, 9)));
            Ok(())
        })?;
    }
}

/// 50 tokens in a session that goes back 6.
fn with_saved<T>(use_it: impl FnOnce(&mut Session<'_>, Vec<u8>) -> T) -> T {
    with_model(&shape().file(5), |model| {
        with_session(model, &params(60, 8, 6), |session| {
            eval(session, &Random(1).tokens(50, VOCAB as usize), 50, &Serial);
            let snapshot = save(session);
            use_it(session, snapshot)
        })
    })
}

/// The layout of version 1, written down a second time.
#[test]
fn the_layout_is_the_documented_one() {
    with_saved(|session, snapshot| {
        let (position, oldest) = (50_usize, 44_usize);
        let u32_at = |at: usize| u32::from_le_bytes(snapshot[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_le_bytes(snapshot[at..at + 8].try_into().unwrap());
        assert_eq!(snapshot[..8], *b"dsv4snap");
        assert_eq!((u32_at(8), snapshot[12], snapshot[13], u32_at(12) >> 16), (1, 0, 1, 0));
        assert_eq!(u64_at(16), session.model().fingerprint());
        assert_eq!(u64_at(24), snapshot.len() as u64);
        assert_eq!((u32_at(32) as usize, u32_at(36) as usize), (position, oldest));
        for (i, &token) in session.tokens().iter().enumerate() {
            assert_eq!(u32_at(40 + 4 * i), token);
        }
        // Floats: keys back to 44 - 4; ratio 4: c and z of two windows of both compressors, 12 entries; ratio 7: 7 entries.
        let (head, index) = (6, 6);
        let keys = (position - (oldest - 4)) * head;
        let inputs = |size: usize, from: usize| 2 * (position - from) * size;
        let sparse = [head, index].map(|size| inputs(2 * size, oldest / 4 * 4 - 4) + position / 4 * size);
        let heavy = inputs(head, oldest / 7 * 7) + position / 7 * head;
        let floats = 4 * keys + 2 * sparse.iter().sum::<usize>() + heavy;
        assert_eq!(snapshot.len(), 40 + 4 * position + 4 * floats + 8);
        let body = snapshot.len() - 8;
        assert_eq!(u64_at(body), twox_hash::XxHash64::oneshot(0, &snapshot[..body]));
    });
}

#[test]
fn the_hash_is_xxh64() {
    let bytes: Vec<u8> = Random(1).tokens(300, 256).iter().map(|&b| b as u8).collect();
    for len in 0..bytes.len() {
        for seed in [0, 1, u64::MAX, 0x9e37_79b9_7f4a_7c15] {
            assert_eq!(xxh64(&bytes[..len], seed), twox_hash::XxHash64::oneshot(seed, &bytes[..len]), "{len} bytes");
        }
    }
}

/// After any error the session is as it was: it saves the same bytes and can go as far back.
#[test]
fn damaged_snapshots_change_nothing() {
    with_saved(|session, snapshot| {
        let before = (session.position(), session.oldest());
        session.rewind(47).unwrap();
        session
            .eval(&[1, 2, 3], Logits::None, &mut Run { parallel: &Serial, progress: &mut |_| true, observer: None })
            .unwrap();
        let ours = save(session);
        assert_ne!(ours, snapshot);
        let mut refused = |bytes: &[u8]| session.restore(bytes).unwrap_err();
        for len in 0..snapshot.len() {
            let error = refused(&snapshot[..len]);
            assert_eq!(error, if len < 8 { Error::NotSnapshot } else { Error::SnapshotDamaged });
        }
        assert_eq!(refused(&[&snapshot[..], &[0]].concat()), Error::SnapshotDamaged);
        for bit in 0..snapshot.len() * 8 {
            let mut flipped = snapshot.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let want = match bit / 8 {
                0..8 => Error::NotSnapshot,
                8..12 => Error::UnsupportedSnapshot { version: 1 ^ 1 << (bit - 64) },
                _ => Error::SnapshotDamaged,
            };
            assert_eq!(refused(&flipped), want, "bit {bit}");
        }
        assert_eq!(save(session), ours);
        assert_eq!((session.position(), session.oldest()), before);
    });
}

/// A checksum is no promise: what was made by hand is checked too.
#[test]
fn contradictions_change_nothing() {
    with_saved(|session, snapshot| {
        let ours = save(session);
        let mut refused = |at: usize, value: u32, error: Error| {
            let mut forged = snapshot.clone();
            forged[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert_eq!(session.restore(&seal(forged)), Err(error), "{value} at {at}");
        };
        let full = Error::ContextFull { context: 60 };
        refused(16, 0, Error::SnapshotOfOtherModel);
        refused(12, 1 << 8 | 1, Error::SnapshotOfOtherNumbers { what: "cache" });
        refused(12, 0, Error::SnapshotOfOtherNumbers { what: "matmul" });
        refused(12, 2 << 8, Error::SnapshotOfOtherNumbers { what: "matmul" });
        refused(12, 1 << 16 | 1 << 8, Error::SnapshotDamaged);
        refused(32, 61, full);
        refused(32, u32::MAX, full);
        for position in [0, 1, 43, 49, 51, 60] {
            refused(32, position, Error::SnapshotDamaged);
        }
        for oldest in [0, 1, 40, 43, 49, 51, u32::MAX] {
            refused(36, oldest, Error::SnapshotDamaged);
        }
        for token in [VOCAB, u32::MAX] {
            refused(40 + 4 * 49, token, Error::SnapshotDamaged);
        }
        // A length that is right but for one of the header's numbers.
        let mut longer = snapshot.clone();
        longer.splice(60..60, [0; 4]);
        let length = longer.len() as u64;
        longer[24..32].copy_from_slice(&length.to_le_bytes());
        assert_eq!(session.restore(&seal(longer)), Err(Error::SnapshotDamaged));
        assert_eq!(save(session), ours);
    });
}

/// Values are the maker's: NaN in, NaN out, and nothing worse.
#[test]
fn any_values_are_taken() {
    with_saved(|session, snapshot| {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX] {
            let mut forged = snapshot.clone();
            let end = forged.len() - 8;
            forged[240..end].chunks_mut(4).for_each(|x| x.copy_from_slice(&value.to_le_bytes()));
            session.restore(&seal(forged)).unwrap();
            eval(session, &[1, 2, 3, 4, 5, 6, 7], 7, &Serial);
        }
        session.restore(&snapshot).unwrap();
        assert_eq!(save(session), snapshot);
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    with_saved(|session, snapshot| {
        let (need, ours) = (snapshot.len(), snapshot.clone());
        for got in [0, 1, need - 1] {
            let small = Error::MemoryTooSmall { need: need as u64, got: got as u64 };
            assert_eq!(session.save(&mut vec![0; got]), Err(small));
        }
        let mut roomy = vec![7; need + 3];
        assert_eq!(session.save(&mut roomy), Ok(need));
        assert_eq!(roomy, [&ours[..], &[7; 3]].concat());

        let model = session.model();
        with_session(model, &params(49, 8, 6), |short| {
            assert_eq!(short.restore(&snapshot), Err(Error::ContextFull { context: 49 }));
            assert_eq!(short.position(), 0);
        });
        let exact = SessionParams { matmul: Exact, ..params(60, 8, 6) };
        with_session(model, &exact, |exact| {
            let other = Error::SnapshotOfOtherNumbers { what: "matmul" };
            assert_eq!(exact.restore(&snapshot), Err(other));
        });
    });
}

/// A session that goes on from a snapshot of an empty one is an empty one.
#[test]
fn empty_timelines() {
    with_saved(|session, snapshot| {
        session.clear();
        let empty = save(session);
        assert_eq!(empty.len(), 48);
        session.restore(&snapshot).unwrap();
        session.restore(&empty).unwrap();
        assert_eq!((session.position(), session.oldest()), (0, 0));
        let tokens = Random(4).tokens(20, VOCAB as usize);
        let want = fresh(session.model(), session.params(), &tokens);
        assert_same_bits(&eval(session, &tokens, 3, &Serial), &want);
    });
}

#[test]
fn other_models_are_refused() {
    let shape = shape();
    let file = shape.file(5);
    let fingerprint = |file: &[u8]| with_model(file, |model| model.fingerprint());
    let ours = fingerprint(&file);

    // A single byte of any tensor, at the start and in the middle.
    for (name, _) in shape.sizes.tensors() {
        let place = place(&file, &name);
        for at in [place.start, (place.start + place.end) / 2] {
            let mut other = file.clone();
            other[at] ^= 1;
            assert_ne!(fingerprint(&other), ours, "{name}");
        }
    }
    // A size or constant that no tensor's shape tells.
    let mut changed = vec![];
    let mut change = |edit: fn(&mut Shape)| {
        let mut other = shape.clone();
        edit(&mut other);
        changed.push(other);
    };
    change(|s| s.sizes.window = 6);
    change(|s| s.sizes.indexer_top_k = 2);
    change(|s| s.sizes.sinkhorn += 1);
    change(|s| s.scoring = if s.scoring == 1 { 2 } else { 1 });
    change(|s| s.clamp[0] += 1.0);
    change(|s| s.clamp[1] += 1.0);
    change(|s| s.eps[0] *= 2.0);
    change(|s| s.eps[1] *= 2.0);
    change(|s| s.rope[0] *= 2.0);
    change(|s| s.rope[1] *= 2.0);
    change(|s| s.yarn.0 *= 2.0);
    change(|s| s.yarn.1 *= 2);
    for other in changed {
        let other = other.file(5);
        let differ = file.iter().zip(&other).filter(|(a, b)| a != b).count();
        assert!(other.len() == file.len() && (1..=4).contains(&differ), "one number differs, not {differ} bytes");
        assert_ne!(fingerprint(&other), ours);
    }
    // What is not the model's: the length it was made for.
    let mut longer = shape.clone();
    longer.sizes.context *= 2;
    assert_eq!(fingerprint(&longer.file(5)), ours);

    with_saved(|_, snapshot| {
        with_model(&shape.file(6), |other| {
            with_session(other, &params(60, 8, 6), |session| {
                assert_eq!(session.restore(&snapshot), Err(Error::SnapshotOfOtherModel));
                assert_eq!(session.position(), 0);
            });
        });
    });
}
