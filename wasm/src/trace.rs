//! What the layers did, kept for a page that shows it.

use crate::object::object;
use dsv4_core::block::Batch;
use dsv4_core::block::observe::Observer;
use dsv4_core::config::Config;
use js_sys::{Array, Float32Array, Object, Uint32Array};

/// The last token's choices, and how often each expert was chosen since the last look.
pub(crate) struct Trace {
    layers: usize,
    experts: usize,
    used: usize,
    /// Values of one hyper-connection: (2+n)*n.
    mix: usize,
    top_k: usize,
    /// [L, E] tokens that went to each expert.
    fired: Vec<u32>,
    /// [L, k]
    chosen: Vec<u32>,
    /// [L, k]
    weights: Vec<f32>,
    /// [L, 2, (2+n)*n]: the attention half's, the experts' half's
    mixes: Vec<f32>,
    /// The entries that the indexer chose in each layer; empty where all are seen.
    selected: Vec<Vec<u32>>,
}

impl Trace {
    pub(crate) fn new(config: &Config) -> Self {
        let (layers, used) = (config.layers, config.experts_used);
        let mix = (2 + config.streams) * config.streams;
        Self {
            layers,
            experts: config.experts,
            used,
            mix,
            top_k: config.indexer_top_k,
            fired: vec![0; layers * config.experts],
            chosen: vec![0; layers * used],
            weights: vec![0.0; layers * used],
            mixes: vec![0.0; layers * 2 * mix],
            selected: vec![Vec::new(); layers],
        }
    }

    /// As JavaScript takes it; the counts begin anew.
    pub(crate) fn take(&mut self) -> Object {
        let selected: Array = self.selected.iter().map(|entries| Uint32Array::from(&entries[..])).collect();
        let taken = object([
            ("layers", self.layers.into()),
            ("fired", Uint32Array::from(&self.fired[..]).into()),
            ("chosen", Uint32Array::from(&self.chosen[..]).into()),
            ("weights", Float32Array::from(&self.weights[..]).into()),
            ("mixes", Float32Array::from(&self.mixes[..]).into()),
            ("selected", selected.into()),
        ]);
        self.fired.fill(0);
        taken
    }

    fn keep_mix(&mut self, layer: usize, half: usize, mixes: &[f32]) {
        if let Some(last) = mixes.len().checked_sub(self.mix) {
            self.mixes[(2 * layer + half) * self.mix..][..self.mix].copy_from_slice(&mixes[last..]);
        }
    }
}

impl Observer for Trace {
    fn attention(&mut self, layer: usize, batch: &Batch<'_>, mixes: &[f32], selected: Option<&[u32]>) {
        self.keep_mix(layer, 0, mixes);
        let entries = (batch.start + batch.len()) / 4;
        let row = selected.filter(|_| entries > self.top_k).and_then(|all| all.chunks(self.top_k).next_back());
        self.selected[layer].clear();
        self.selected[layer].extend(row.unwrap_or_default());
    }

    fn experts(&mut self, layer: usize, _: &Batch<'_>, mixes: &[f32], experts: &[u32], weights: &[f32]) {
        self.keep_mix(layer, 1, mixes);
        for &expert in experts {
            self.fired[layer * self.experts + expert as usize] += 1;
        }
        let last = experts.len().saturating_sub(self.used);
        self.chosen[layer * self.used..][..self.used].copy_from_slice(&experts[last..]);
        self.weights[layer * self.used..][..self.used].copy_from_slice(&weights[last..]);
    }
}
