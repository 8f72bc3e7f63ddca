//! What a token costs, computed from a model's header alone.
//!
//! **Bytes**: every tensor of the layers and the head once, but of the routed experts the k used, of the embedding one
//! row (all of it where it is the output matrix too), and of the hash table one row; and of the cache, what attention
//! reads at this context.
//!
//! **FLOPs**: 2 for every weight so read, and at context c, for each layer of ratio m,
//! `4 H d (min(c, W) + e)` for attention's two products, e being `floor(c/m)` entries, or the indexer's top-k of them if
//! that is less; and `2 (indexer heads) (indexer size) floor(c/4)` for its scores.
//!
//! MTP modules are not counted: plain decoding does not run them.

use dsv4_core::cache::CacheFormat;
use dsv4_core::config::{Config, Ratio};
use dsv4_core::format::gguf::TensorInfo;

/// What one token costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCost {
    /// Bytes of weights read.
    pub weight_bytes: u64,
    /// Bytes of cache read.
    pub cache_bytes: u64,
    /// Floating point operations, a multiplication and an addition being two.
    pub flops: u64,
}

impl TokenCost {
    /// The cost of the last token of a context of `context` tokens.
    pub fn new<'a>(
        config: &Config,
        tensors: impl Iterator<Item = TensorInfo<'a>> + Clone,
        format: CacheFormat,
        context: u64,
    ) -> Self {
        let mut cost = Self::default();
        cost.add_weights(config, tensors);
        cost.add_attention(config, format, context);
        cost
    }

    fn add_weights<'a>(&mut self, config: &Config, tensors: impl Iterator<Item = TensorInfo<'a>> + Clone) {
        let tied = !tensors.clone().any(|tensor| tensor.name == "output.weight");
        for tensor in tensors {
            let Some((share, of)) = share(config, tensor.name, tied) else { continue };
            let part = |whole: u64| (u128::from(whole) * share as u128 / of.max(1) as u128) as u64;
            self.weight_bytes = self.weight_bytes.saturating_add(part(tensor.bytes().unwrap_or(0)));
            let lookup = tensor.name == "token_embd.weight" && !tied || tensor.name.ends_with("tid2eid.weight");
            if !lookup {
                self.flops = self.flops.saturating_add(part(tensor.elements()).saturating_mul(2));
            }
        }
    }

    fn add_attention(&mut self, config: &Config, format: CacheFormat, context: u64) {
        // No overflow: a layer's products are below 2^62, and sums saturate.
        for &ratio in config.ratios.iter().take(config.layers) {
            let entries = context.checked_div(ratio.entry_tokens() as u64).unwrap_or(0);
            let (mut seen, mut flops, mut bytes) = (context.min(config.window as u64), 0, 0);
            if ratio == Ratio::Sparse {
                seen += entries.min(config.indexer_top_k as u64);
                flops += 2 * (config.indexer_heads * config.indexer_size) as u64 * entries;
                bytes += entries * format.bytes(config.indexer_size) as u64;
            } else {
                seen += entries;
            }
            flops += 4 * (config.heads * config.head_size) as u64 * seen;
            bytes += seen * format.bytes(config.head_size) as u64;
            self.flops = self.flops.saturating_add(flops);
            self.cache_bytes = self.cache_bytes.saturating_add(bytes);
        }
    }
}

/// The part of the tensor `name` that one token reads, as a fraction; `None` for tensors that decoding does not use.
fn share(config: &Config, name: &str, tied: bool) -> Option<(usize, usize)> {
    let Some(rest) = name.strip_prefix("blk.") else {
        return match name {
            "token_embd.weight" if !tied => Some((1, config.vocab)),
            "token_embd.weight" | "output.weight" | "output_norm.weight" => Some((1, 1)),
            _ => name.starts_with("output_hc_").then_some((1, 1)),
        };
    };
    let (layer, part) = rest.split_once('.')?;
    if layer.parse::<usize>().ok()? >= config.layers || part.starts_with("nextn.") {
        return None;
    }
    match part {
        "ffn_gate_exps.weight" | "ffn_up_exps.weight" | "ffn_down_exps.weight" => {
            Some((config.experts_used, config.experts))
        }
        "ffn_gate_tid2eid.weight" => Some((1, config.vocab)),
        _ => Some((1, 1)),
    }
}
