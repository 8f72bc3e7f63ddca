//! The sampler: each stage on cases worked out by hand, against a plain f64 reference, and on hostile logits.

use dsv4_core::error::Error;
use dsv4_core::sampler::{LogSoftmax, LogitBias, Rng, Sampler, Sampling, TokenLogProb, argmax};
use proptest::prelude::*;

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

fn sample(sampler: &mut Sampler, logits: &[f32], recent: &[u32], bias: &[(u32, f32)]) -> u32 {
    let mut scratch = vec![0xdead_beef; Sampler::scratch(logits.len())];
    let bias: Vec<_> = bias.iter().map(|&(token, add)| LogitBias { token, add }).collect();
    sampler.sample(&mut logits.to_vec(), recent, &bias, &mut scratch).expect("valid arguments")
}

/// How often each token comes in `draws` draws.
fn counts(sampling: Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
    let mut sampler = Sampler::new(sampling, 42);
    let mut counts = vec![0; logits.len()];
    (0..draws).for_each(|_| counts[sample(&mut sampler, logits, &[], &[]) as usize] += 1);
    counts
}

/// The tokens that come at all.
fn kept(sampling: Sampling, logits: &[f32]) -> Vec<usize> {
    counts(sampling, logits, 4000).iter().enumerate().filter(|(_, c)| **c > 0).map(|(token, _)| token).collect()
}

/// Logits whose softmax is `of`.
fn logits_of(of: &[f64]) -> Vec<f32> {
    of.iter().map(|p| p.ln() as f32).collect()
}

/// The stages in f64, with a full sort: the probabilities drawn from.
fn reference(sampling: Sampling, logits: &[f32]) -> Vec<f64> {
    let logits: Vec<f64> =
        // Adding 0 makes -0 into 0: to `total_cmp`, they differ.
        logits.iter().map(|&l| if l.is_nan() { f64::NEG_INFINITY } else { f64::from(l.min(f32::MAX)) + 0.0 }).collect();
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|l| ((l - highest) / f64::from(sampling.temperature)).exp()).collect();
    let mut order: Vec<usize> = (0..logits.len()).filter(|&i| logits[i] > f64::NEG_INFINITY).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k as usize);
    }
    if sampling.top_p < 1.0 {
        let (total, mut reached) = (order.iter().map(|&i| weights[i]).sum::<f64>(), 0.0);
        let enough = order.iter().position(|&i| {
            reached += weights[i];
            reached >= f64::from(sampling.top_p) * total
        });
        order.truncate(enough.map_or(order.len(), |i| i + 1));
    }
    order.retain(|&i| weights[i] >= f64::from(sampling.min_p));
    let total: f64 = order.iter().map(|&i| weights[i]).sum();
    let mut probabilities = vec![0.0; logits.len()];
    order.iter().for_each(|&i| probabilities[i] = weights[i] / total);
    probabilities
}

/// The published numbers of SplitMix64, and those of this crate for good.
#[test]
fn random_numbers() {
    let mut rng = Rng::new(1_234_567);
    let published = [
        6_457_827_717_110_365_317,
        3_203_168_211_198_807_973,
        9_817_491_932_198_370_423,
        4_593_380_528_125_082_431,
        16_408_922_859_458_223_821,
    ];
    assert_eq!(published.map(|_| rng.bits()), published);
    let mut rng = Rng::new(0);
    assert_eq!(rng.uniform().to_bits(), ((0xe220_a839_7b1d_cdafu64 >> 11) as f64 / 9_007_199_254_740_992.0).to_bits());
    assert!((0..100_000).all(|_| (0.0..1.0).contains(&rng.uniform())));
}

#[test]
fn golden_tokens() {
    let logits: Vec<f32> = (0..64).map(|i| ((i * 37) % 64) as f32 / 16.0).collect();
    let draw = |sampling| {
        let mut sampler = Sampler::new(sampling, 7);
        (0..12).map(|_| sample(&mut sampler, &logits, &[], &[])).collect::<Vec<_>>()
    };
    let plain = Sampling::default();
    assert_eq!(draw(plain), GOLDEN_PLAIN);
    assert_eq!(draw(Sampling { temperature: 0.7, top_k: 20, top_p: 0.9, min_p: 0.05, ..plain }), GOLDEN_CUT);
    assert_eq!(draw(Sampling::greedy()), [19; 12]);
}

const GOLDEN_PLAIN: [u32; 12] = [24, 3, 57, 38, 29, 17, 31, 19, 10, 25, 8, 62];
const GOLDEN_CUT: [u32; 12] = [24, 5, 57, 38, 31, 19, 31, 19, 12, 29, 12, 62];

#[test]
fn greedy() {
    for (logits, want) in [
        (&[1.0, 3.0, 2.0][..], 1),
        (&[5.0, 5.0, 5.0], 0),
        (&[-1.0, -0.5, -0.5], 1),
        (&[-0.0, 0.0], 0),
        (&[NAN, 1.0, NAN], 1),
        (&[NAN, -INF, -3.0e38], 2),
        (&[1.0, INF, INF], 1),
        (&[NAN, NAN], 0),
        (&[-INF, -INF], 0),
        (&[-INF, NAN], 0),
    ] {
        assert_eq!(argmax(logits), want, "{logits:?}");
        let mut sampler = Sampler::new(Sampling::greedy(), 1);
        assert_eq!(sample(&mut sampler, logits, &[], &[]), want, "{logits:?}");
        assert_eq!(sampler, Sampler::new(Sampling::greedy(), 1), "no random number is drawn");
        // One token of top-k, top-p and min-p is the same one.
        for cut in [
            Sampling { top_k: 1, ..Sampling::default() },
            Sampling { top_p: 0.0, ..Sampling::default() },
            Sampling { temperature: 1e-30, top_k: 1, ..Sampling::default() },
        ] {
            assert_eq!(sample(&mut Sampler::new(cut, 3), logits, &[], &[]), want, "{logits:?} {cut:?}");
        }
    }
}

#[test]
fn the_kept_sets() {
    let all = Sampling::default();
    let logits = logits_of(&[0.1, 0.4, 0.2, 0.2, 0.1]);
    assert_eq!(kept(all, &logits), [0, 1, 2, 3, 4]);
    // Top-k: ties go to the lower id; more than there are keeps all.
    assert_eq!(kept(Sampling { top_k: 1, ..all }, &logits), [1]);
    assert_eq!(kept(Sampling { top_k: 2, ..all }, &logits), [1, 2]);
    assert_eq!(kept(Sampling { top_k: 4, ..all }, &logits), [0, 1, 2, 3]);
    assert_eq!(kept(Sampling { top_k: u32::MAX, ..all }, &logits), [0, 1, 2, 3, 4]);
    // Top-p: the token that reaches p is kept, and no other.
    assert_eq!(kept(Sampling { top_p: 0.39, ..all }, &logits), [1]);
    assert_eq!(kept(Sampling { top_p: 0.41, ..all }, &logits), [1, 2]);
    assert_eq!(kept(Sampling { top_p: 0.61, ..all }, &logits), [1, 2, 3]);
    assert_eq!(kept(Sampling { top_p: 0.81, ..all }, &logits), [0, 1, 2, 3]);
    assert_eq!(kept(Sampling { top_p: 0.99, ..all }, &logits), [0, 1, 2, 3, 4]);
    // Min-p: a share of the highest.
    assert_eq!(kept(Sampling { min_p: 0.24, ..all }, &logits), [0, 1, 2, 3, 4]);
    assert_eq!(kept(Sampling { min_p: 0.26, ..all }, &logits), [1, 2, 3]);
    assert_eq!(kept(Sampling { min_p: 0.51, ..all }, &logits), [1]);
    assert_eq!(kept(Sampling { min_p: 1.0, ..all }, &[1.0, 2.0, 2.0]), [1, 2]);
    // p is a share of what top-k left, at the temperature: here 0.5, 0.25, 0.25 of the three highest.
    assert_eq!(kept(Sampling { top_k: 3, top_p: 0.49, ..all }, &logits), [1]);
    assert_eq!(kept(Sampling { top_k: 3, top_p: 0.51, ..all }, &logits), [1, 2]);
    assert_eq!(kept(Sampling { temperature: 0.5, top_p: 0.6, ..all }, &logits), [1]);
    // Many tokens, more than are sorted at first.
    let flat = vec![0.0; 1000];
    assert_eq!(kept_by_reference(Sampling { top_p: 0.5, ..all }, &flat), 500);
}

/// The size of the reference's kept set, which must hold every token drawn.
fn kept_by_reference(sampling: Sampling, logits: &[f32]) -> usize {
    let probabilities = reference(sampling, logits);
    assert!(kept(sampling, logits).iter().all(|&token| probabilities[token] > 0.0));
    probabilities.iter().filter(|p| **p > 0.0).count()
}

#[test]
fn penalties_and_bias() {
    let greedy = |sampling: Sampling, logits: &[f32], recent: &[u32], bias: &[(u32, f32)]| {
        sample(&mut Sampler::new(Sampling { temperature: 0.0, ..sampling }, 1), logits, recent, bias)
    };
    let none = Sampling::default();
    let repetition = Sampling { repetition: 2.0, ..none };
    assert_eq!(greedy(repetition, &[3.0, 2.0], &[0, 0, 0], &[]), 1, "3 / 2 < 2");
    assert_eq!(greedy(repetition, &[3.0, 1.4], &[0, 0, 0], &[]), 0, "once, not thrice");
    assert_eq!(greedy(repetition, &[-1.0, -1.5], &[0], &[]), 1, "-1 * 2 < -1.5");
    let presence = Sampling { presence: 1.0, ..none };
    assert_eq!(greedy(presence, &[3.0, 2.1], &[0, 0, 0], &[]), 1);
    assert_eq!(greedy(presence, &[3.0, 1.9], &[0, 0, 0], &[]), 0);
    let frequency = Sampling { frequency: 1.0, ..none };
    assert_eq!(greedy(frequency, &[3.0, 0.5], &[0, 0, 0], &[]), 1);
    assert_eq!(greedy(frequency, &[3.0, 0.5], &[0, 1, 0], &[]), 0);
    assert_eq!(greedy(Sampling { presence: -5.0, ..none }, &[3.0, 0.5], &[1], &[]), 1);
    assert_eq!(greedy(none, &[3.0, 0.5], &[0], &[(1, 2.0), (1, 1.0)]), 1);
    assert_eq!(greedy(none, &[3.0, 0.5, 0.0], &[], &[(0, -INF)]), 1);
    assert_eq!(greedy(none, &[3.0, 0.5, 0.0], &[], &[(2, INF)]), 2);
    assert_eq!(greedy(none, &[INF, 0.5, 0.0], &[], &[(0, -INF)]), 1);
    assert_eq!(greedy(none, &[3.0, 0.5, 0.0], &[], &[(0, NAN)]), 1);
    assert_eq!(kept(none, &[1.0, -INF, NAN, 1.0]), [0, 3]);
}

#[test]
fn bad_arguments() {
    let mut sampler = Sampler::new(Sampling::default(), 1);
    let before = sampler;
    let mut logits = [1.0, 2.0];
    assert_eq!(sampler.sample(&mut [], &[], &[], &mut []), Err(Error::BadArgument { what: "logits" }));
    assert_eq!(sampler.sample(&mut logits, &[2], &[], &mut [0; 2]), Err(Error::BadToken { token: 2 }));
    assert_eq!(
        sampler.sample(&mut logits, &[], &[LogitBias { token: 9, add: 0.0 }], &mut [0; 2]),
        Err(Error::BadToken { token: 9 })
    );
    assert_eq!(sampler.sample(&mut logits, &[], &[], &mut [0; 1]), Err(Error::MemoryTooSmall { need: 8, got: 4 }));
    let good = Sampling::default();
    for (bad, what) in [
        (Sampling { temperature: -1.0, ..good }, "temperature"),
        (Sampling { temperature: NAN, ..good }, "temperature"),
        (Sampling { temperature: INF, ..good }, "temperature"),
        (Sampling { top_p: 1.1, ..good }, "top_p"),
        (Sampling { top_p: NAN, ..good }, "top_p"),
        (Sampling { min_p: -0.1, ..good }, "min_p"),
        (Sampling { repetition: 0.0, ..good }, "repetition"),
        (Sampling { repetition: NAN, ..good }, "repetition"),
        (Sampling { presence: INF, ..good }, "presence"),
        (Sampling { frequency: NAN, ..good }, "frequency"),
    ] {
        let mut refusing = Sampler::new(bad, 1);
        assert_eq!(refusing.sample(&mut logits, &[], &[], &mut [0; 2]), Err(Error::BadArgument { what }));
    }
    assert_eq!((sampler, logits), (before, [1.0, 2.0]));
}

/// Pearson's chi-square of 100,000 draws stays below its 99.9 % quantile (the seed is fixed: this passes always or never).
#[test]
fn distributions() {
    let logits: Vec<f32> = (0..40).map(|i| ((i * 17) % 40) as f32 / 10.0).collect();
    let all = Sampling::default();
    for sampling in [
        all,
        Sampling { temperature: 0.5, ..all },
        Sampling { temperature: 3.0, ..all },
        Sampling { top_k: 10, ..all },
        Sampling { top_p: 0.8, ..all },
        Sampling { min_p: 0.1, ..all },
        Sampling { temperature: 1.3, top_k: 30, top_p: 0.9, min_p: 0.05, ..all },
    ] {
        let draws = 100_000;
        let (mut chi_square, mut freedom) = (0.0, -1.0);
        for (count, p) in counts(sampling, &logits, draws).into_iter().zip(reference(sampling, &logits)) {
            if p == 0.0 {
                assert_eq!(count, 0);
                continue;
            }
            let expected = p * draws as f64;
            chi_square += (count as f64 - expected).powi(2) / expected;
            freedom += 1.0;
        }
        // Wilson and Hilferty's approximation of the quantile.
        let k: f64 = 2.0 / (9.0 * freedom);
        let quantile = freedom * (1.0 - k + 3.09 * k.sqrt()).powi(3);
        assert!(chi_square < quantile, "{sampling:?}: {chi_square} of {freedom}");
    }
}

#[test]
fn log_probabilities() {
    let logits = logits_of(&[0.1, 0.4, 0.2, 0.2, 0.1]);
    let softmax = LogSoftmax::new(&logits);
    for (token, p) in (0..).zip([0.1f64, 0.4, 0.2, 0.2, 0.1]) {
        assert!((f64::from(softmax.of(token)) - p.ln()).abs() < 1e-6);
    }
    let mut top = [TokenLogProb::default(); 3];
    assert_eq!(softmax.top(&mut [0; 5], &mut top), Ok(3));
    assert_eq!(top.map(|t| t.token), [1, 2, 3]);
    assert!(top.iter().all(|t| t.log_prob == softmax.of(t.token)));
    assert_eq!(softmax.top(&mut [0; 4], &mut top), Err(Error::MemoryTooSmall { need: 20, got: 16 }));
    assert_eq!(softmax.of(5), -INF);

    let hostile = LogSoftmax::new(&[NAN, -INF, 1.0]);
    assert_eq!((hostile.of(0), hostile.of(1), hostile.of(2)), (-INF, -INF, 0.0));
    assert_eq!(hostile.top(&mut [0; 3], &mut top), Ok(1));
    let infinite = LogSoftmax::new(&[INF, 0.0, INF]);
    assert!((infinite.of(0) - 0.5f32.ln()).abs() < 1e-6 && infinite.of(1) < -1e38);
    for nothing in [&[][..], &[NAN], &[-INF, -INF]] {
        assert_eq!(LogSoftmax::new(nothing).of(0), -INF);
        assert_eq!(LogSoftmax::new(nothing).top(&mut [0; 2], &mut top), Ok(0));
    }
}

/// Found by the property below: zeros of either sign are equals, so of these the lowest ids are kept.
#[test]
fn zeros_of_either_sign() {
    let sampling = Sampling { top_p: 0.7, ..Sampling::default() };
    let logits = [-0.0, 0.0, -0.0, 0.0];
    let drawn = counts(sampling, &logits, 1000);
    assert!(drawn[..3].iter().all(|&n| n > 250) && drawn[3] == 0, "{drawn:?}");
    assert_eq!(reference(sampling, &logits)[3], 0.0);
}

fn any_logit() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => -20.0f32..20.0,
        1 => any::<f32>(),
        1 => proptest::sample::select(vec![NAN, INF, -INF, f32::MAX, f32::MIN, 0.0, -0.0, 1e-45]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever the logits: no panic, the same seed gives the same token, and only what the reference keeps is drawn.
    #[test]
    fn any_logits(
        logits in proptest::collection::vec(any_logit(), 1..300),
        temperature in prop_oneof![Just(1.0f32), 0.01f32..5.0, Just(f32::MIN_POSITIVE), Just(f32::MAX)],
        top_k in prop_oneof![Just(0u32), 1u32..300],
        top_p in prop_oneof![Just(1.0f32), 0.0f32..1.0],
        min_p in prop_oneof![Just(0.0f32), 0.0f32..1.0],
        seed: u64,
    ) {
        let sampling = Sampling { temperature, top_k, top_p, min_p, ..Sampling::default() };
        let mut sampler = Sampler::new(sampling, seed);
        let mut again = sampler;
        let token = sample(&mut sampler, &logits, &[], &[]);
        prop_assert_eq!(sample(&mut again, &logits, &[], &[]), token);
        prop_assert_eq!(sampler, again);
        let possible = logits.iter().any(|l| !l.is_nan() && *l > -INF);
        if possible {
            prop_assert!(!logits[token as usize].is_nan() && logits[token as usize] > -INF);
            // A little wider than asked for, against the rounding of f32.
            let wider = Sampling { top_p: (top_p * 1.001 + 1e-5).min(1.0), min_p: min_p * 0.999, ..sampling };
            prop_assert!(reference(wider, &logits)[token as usize] > 0.0 || top_p > 0.999);
        } else {
            prop_assert_eq!(token, 0);
        }
    }

    #[test]
    fn any_penalties(
        logits in proptest::collection::vec(any_logit(), 50),
        recent in proptest::collection::vec(0u32..50, 0..100),
        bias in proptest::collection::vec((0u32..50, any_logit()), 0..8),
        (repetition, presence, frequency) in (0.001f32..1e30, any::<f32>(), any::<f32>()),
        seed: u64,
    ) {
        let finite = |x: f32| if x.is_finite() { x } else { 0.0 };
        let (presence, frequency) = (finite(presence), finite(frequency));
        let sampling = Sampling { repetition, presence, frequency, ..Sampling::default() };
        prop_assert!(sample(&mut Sampler::new(sampling, seed), &logits, &recent, &bias) < 50);
    }

    /// The top alternatives are those of a full sort.
    #[test]
    fn top_of_any_logits(logits in proptest::collection::vec(any_logit(), 1..200), n in 0usize..30) {
        let mut order: Vec<u32> = (0..logits.len() as u32).filter(|&i| logits[i as usize] > -INF).collect();
        order.sort_by(|&a, &b| logits[b as usize].partial_cmp(&logits[a as usize]).unwrap());
        order.truncate(n);
        let mut top = vec![TokenLogProb::default(); n];
        let count = LogSoftmax::new(&logits).top(&mut vec![0; logits.len()], &mut top).unwrap();
        prop_assert_eq!(top[..count].iter().map(|t| t.token).collect::<Vec<_>>(), order);
        prop_assert!(top[..count].iter().all(|t| t.log_prob <= 1e-6));
    }
}
