//! The core against the naive f64 oracle, and the oracle against other people's logits.

use dsv4_core::dtype::{ALL, DType};
use dsv4_core::kernel::MatmulMode;
use dsv4_core::model::Model;
use dsv4_core::session::SessionParams;
use dsv4_tests::golden::{NAMES, fresh, golden, with_model};
use dsv4_tests::oracle::{self, Answer};
use dsv4_tests::synth::{Random, Shape, Types};
use proptest::prelude::*;

/// `transformers` in f32 against f64: its own rounding, mostly of rotary angles (tests/reference/README.md).
const GOLDEN: f64 = 1e-4;

/// The core's f32 against f64, for logits of unit variance. Measured: 1.2e-5 on `even` (700 tokens, 7 layers), 7e-6 on
/// the other fixtures, 3e-6 over the tensor types.
const EXACT: f64 = 2e-5;

/// The same for models of random shape, where a clamp or an odd epsilon may amplify. Measured: 1.2e-5 at most.
const ANY_SHAPE: f64 = 5e-5;

fn exact(context: usize) -> SessionParams {
    SessionParams {
        matmul: MatmulMode::Exact,
        batch: 32.min(context),
        rewind: 0,
        ..SessionParams::new(context.max(32))
    }
}

/// The largest difference.
fn distance(a: impl IntoIterator<Item = f64>, b: impl IntoIterator<Item = f64>) -> f64 {
    a.into_iter().zip(b).map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() }).fold(0.0, f64::max)
}

fn flat(answer: &Answer) -> impl Iterator<Item = f64> {
    answer.logits.iter().flatten().copied()
}

fn wide(logits: &[f32]) -> impl Iterator<Item = f64> {
    logits.iter().map(|&x| f64::from(x))
}

#[test]
fn fixtures() {
    for name in NAMES {
        let golden = golden(name);
        with_model(&golden.model, |model| {
            let answer = oracle::evaluate(model, &golden.tokens);
            assert_eq!(answer.logits.len() * model.config().vocab, golden.logits.len());
            let from_golden = distance(flat(&answer), wide(&golden.logits));
            let core = fresh(model, &exact(golden.tokens.len()), &golden.tokens);
            let from_core = distance(flat(&answer), wide(&core));
            println!(
                "{name}: oracle-golden {from_golden:.2e}, oracle-core {from_core:.2e}, margin {:.1e}",
                answer.margin
            );
            assert!(from_golden <= GOLDEN, "{name}: the oracle is {from_golden:e} from the golden logits");
            assert!(from_core <= EXACT, "{name}: the core is {from_core:e} from the oracle");
        });
    }
}

/// The largest difference, in units of the logits' standard deviation; `None` where a choice of an expert or an entry
/// was too close for f32.
fn check(shape: &Shape, seed: u64, tokens: usize) -> Option<f64> {
    let tokens = Random(seed).tokens(tokens, shape.sizes.vocab as usize);
    with_model(&shape.file(seed), |model| {
        let answer = oracle::evaluate(model, &tokens);
        let core = fresh(model, &exact(tokens.len()), &tokens);
        assert!(core.iter().all(|x| x.is_finite()));
        let variance = flat(&answer).map(|x| x * x).sum::<f64>() / core.len() as f64;
        (answer.margin > 1e-5).then(|| distance(flat(&answer), wide(&core)) / variance.sqrt())
    })
}

#[test]
fn every_tensor_type() {
    for dtype in ALL.into_iter().filter(|t| (*t as u32) < 1000 && *t != DType::I32) {
        let difference = check(&Shape::small(Types::all(dtype)), dtype as u64, 40);
        println!("{}: {difference:?}", dtype.name());
        assert!(difference.is_none_or(|d| d <= EXACT), "{}: {difference:?}", dtype.name());
    }
}

/// The slices' files and the bytes that a token of them reads, in MB.
#[test]
fn slices_have_their_sizes() {
    let mb = |bytes: u64| (bytes + 500_000) / 1_000_000;
    for (shape, file, token) in [
        (Shape::flash(6, 16, Types::mix(DType::Q4_K)), 2597, 1438),
        (Shape::browser(6, 16, Types::mix(DType::Q4_K)), 158, 90),
    ] {
        assert_eq!((mb(shape.file_bytes()), mb(shape.token_bytes())), (file, token));
        assert!(Model::plan(&[&shape.header_bytes()]).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape(seed: u64, tokens in 1..70_usize) {
        let difference = check(&Shape::tiny(seed), seed, tokens);
        println!("{difference:?}");
        prop_assert!(difference.is_none_or(|d| d <= ANY_SHAPE), "seed {seed}: {difference:?}");
    }
}
