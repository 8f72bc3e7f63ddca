//! What an observer is told: every half of every layer of every batch, and numbers that are what they are called.

use dsv4_core::arch::disjoint::Serial;
use dsv4_core::block::Batch;
use dsv4_core::block::observe::Observer;
use dsv4_core::config::{Config, Ratio, Scoring};
use dsv4_core::session::{Logits, Run, SessionParams};
use dsv4_tests::golden;

/// Checks what it is told, and notes (half, layer, first position, tokens).
struct Checks<'a> {
    config: &'a Config,
    seen: Vec<(char, usize, usize, usize)>,
}

impl Checks<'_> {
    /// Each token's `comb` is doubly stochastic: columns, divided last, up to eps; rows up to what the iterations leave.
    fn mixes(&self, tokens: usize, mixes: &[f32]) {
        let n = self.config.streams;
        assert_eq!(mixes.len(), tokens * (2 + n) * n);
        for mix in mixes.chunks((2 + n) * n) {
            let comb = &mix[2 * n..];
            for i in 0..n {
                let row: f32 = comb[i * n..][..n].iter().sum();
                let column: f32 = comb[i..].iter().step_by(n).sum();
                let left = 2.0 * self.config.hyper_eps + 1e-5;
                assert!((row - 1.0).abs() < 0.1 && (column - 1.0).abs() < left, "{row} {column}");
            }
            assert!(mix[..2 * n].iter().all(|&m| m > 0.0 && m < 2.1));
        }
    }
}

impl Observer for Checks<'_> {
    fn attention(&mut self, layer: usize, batch: &Batch<'_>, mixes: &[f32], selected: Option<&[u32]>) {
        self.mixes(batch.len(), mixes);
        assert_eq!(selected.is_some(), self.config.ratios[layer] == Ratio::Sparse);
        if let Some(selected) = selected {
            let k = self.config.indexer_top_k;
            assert_eq!(selected.len(), batch.len() * k);
            for (t, chosen) in selected.chunks(k).enumerate() {
                let finished = (batch.start + t + 1) / 4;
                if finished > k {
                    assert!(chosen.is_sorted_by(|a, b| a < b) && chosen.iter().all(|&e| (e as usize) < finished));
                }
            }
        }
        self.seen.push(('a', layer, batch.start, batch.len()));
    }

    fn experts(&mut self, layer: usize, batch: &Batch<'_>, mixes: &[f32], experts: &[u32], weights: &[f32]) {
        self.mixes(batch.len(), mixes);
        let k = self.config.experts_used;
        assert_eq!((experts.len(), weights.len()), (batch.len() * k, batch.len() * k));
        assert!(experts.iter().all(|&e| (e as usize) < self.config.experts));
        if self.config.scoring != Scoring::Softmax {
            for weights in weights.chunks(k) {
                assert!((weights.iter().sum::<f32>() - self.config.expert_scale).abs() < 1e-4);
            }
        }
        self.seen.push(('e', layer, batch.start, batch.len()));
    }
}

#[test]
fn sees_every_layer_and_changes_nothing() {
    for name in golden::NAMES {
        let golden = golden::golden(name);
        golden::with_model(&golden.model, |model| {
            let config = model.config();
            let params = SessionParams { batch: 100, ..SessionParams::new(golden.tokens.len()) };
            let mut checks = Checks { config, seen: vec![] };
            let last = |observer: Option<&mut Checks<'_>>| {
                let mut logits = vec![0.0; config.vocab];
                let observer = observer.map(|o| o as &mut dyn Observer);
                let mut run = Run { parallel: &Serial, progress: &mut |_| true, observer };
                golden::with_session(model, &params, |session| {
                    session.eval(&golden.tokens, Logits::Last(&mut logits), &mut run).unwrap();
                });
                logits
            };
            assert_eq!(last(Some(&mut checks)), last(None));
            let batches = golden.tokens.chunks(100).enumerate();
            let want = batches.flat_map(|(i, batch)| {
                (0..config.layers).flat_map(move |l| ['a', 'e'].map(|half| (half, l, 100 * i, batch.len())))
            });
            assert!(checks.seen.into_iter().eq(want));
        });
    }
}
