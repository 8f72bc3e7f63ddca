//! A look inside an evaluation, for those who show or study what the model does.

use super::Batch;

/// Told what every layer did with a batch of tokens, half by half, on the thread that evaluates. What it is lent lives
/// in scratch and is gone after the call. It changes nothing; without one nothing is computed for it.
///
/// `mixes` [tokens, (2+n)*n] are the weights of the half's hyper-connection ([`hyper`](super::hyper)): `pre` `[n]`, `post`
/// `[n]` and the doubly stochastic `comb` `[n, n]` of each token.
pub trait Observer {
    /// The attention half of layer `layer`. `selected` [tokens, k] is the indexer's choice of entries, upwards, where
    /// the layer has one; it means something only for tokens that see more than k finished entries, of which the others
    /// see all.
    fn attention(&mut self, layer: usize, batch: &Batch<'_>, mixes: &[f32], selected: Option<&[u32]>) {
        let _ = (layer, batch, mixes, selected);
    }

    /// The mixture-of-experts half of layer `layer`: the experts chosen [tokens, k] and their weights [tokens, k].
    fn experts(&mut self, layer: usize, batch: &Batch<'_>, mixes: &[f32], experts: &[u32], weights: &[f32]) {
        let _ = (layer, batch, mixes, experts, weights);
    }
}
