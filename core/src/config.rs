//! The model's sizes (spec page "model", section 1), read from the file and validated before anything trusts them.

mod gguf;

use crate::error::{Error, Result};
use crate::hash::xxh64;
use gguf::key;

/// How router scores are made from logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// Softmax over all experts (`expert_gating_func` 1).
    Softmax,
    /// Sigmoid of each (2).
    Sigmoid,
    /// sqrt(softplus) of each (4).
    SqrtSoftplus,
}

/// What a layer's queries see beside the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ratio {
    /// Nothing else (m = 0).
    Window,
    /// The indexer's choice of entries of 4 tokens, overlapping (m = 4).
    Sparse,
    /// Every entry of m tokens (m = 128 in the published models).
    Heavy(usize),
}

impl Ratio {
    /// The kind of layer with ratio `m`; `None` where there is none: 1 compresses nothing, [`MAX_RATIO`] is the most.
    pub const fn new(m: usize) -> Option<Self> {
        match m {
            0 => Some(Self::Window),
            4 => Some(Self::Sparse),
            2..=MAX_RATIO => Some(Self::Heavy(m)),
            _ => None,
        }
    }

    /// m: the tokens of an entry, 0 where there are no entries.
    pub const fn entry_tokens(self) -> usize {
        match self {
            Self::Window => 0,
            Self::Sparse => 4,
            Self::Heavy(m) => m,
        }
    }
}

/// YaRN scaling of the compressed layers' rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// Factor (16).
    pub factor: f64,
    /// Original context length (65536).
    pub original_context: f64,
    /// Beta fast (32).
    pub beta_fast: f64,
    /// Beta slow (1).
    pub beta_slow: f64,
}

impl Yarn {
    /// The constants of the published models.
    pub const PUBLISHED: Self = Self { factor: 16.0, original_context: 65536.0, beta_fast: 32.0, beta_slow: 1.0 };
}

/// Layers at most, MTP modules included; the per-layer arrays live inside [`Config`].
pub const MAX_LAYERS: usize = 128;
/// Tokens of a compressed entry at most.
pub const MAX_RATIO: usize = 1 << 16;
/// Any size at most that has no limit of its own here.
pub const MAX_SIZE: usize = 1 << 16;
/// Head sizes at most, the indexer's too: one vector of them fits the stack.
pub const MAX_HEAD_SIZE: usize = 1024;
/// E at most.
pub const MAX_EXPERTS: usize = 1024;
/// k at most.
pub const MAX_EXPERTS_USED: usize = 64;
/// V at most.
pub const MAX_VOCAB: usize = 1 << 22;
/// Residual streams at most.
pub const MAX_STREAMS: usize = 8;
/// Sinkhorn iterations at most.
pub const MAX_SINKHORN: usize = 1 << 10;
/// Context length at most: positions fit an `i32`.
pub const MAX_CONTEXT: usize = (1 << 31) - 1;
/// Every product of sizes that [`Config::validate`] lists is at most this, so that as many `f32` fit the address space
/// of a 32-bit machine. Products beside these need checked arithmetic.
pub const MAX_PRODUCT: usize = 1 << 28;

/// Every size and constant of the model. All fields are validated against one another by the reader that made them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// D.
    pub hidden: usize,
    /// L.
    pub layers: usize,
    /// MTP modules that follow the layers and are in the file.
    pub mtp_layers: usize,
    /// V.
    pub vocab: usize,
    /// H.
    pub heads: usize,
    /// d.
    pub head_size: usize,
    /// r, even, at most d.
    pub rotary: usize,
    /// q rank.
    pub q_rank: usize,
    /// G, divides H.
    pub output_groups: usize,
    /// o rank, per group.
    pub output_rank: usize,
    /// W.
    pub window: usize,
    /// Per layer; only the first `layers + mtp_layers` are meaningful.
    pub ratios: [Ratio; MAX_LAYERS],
    /// Indexer heads (0 when no layer is [`Ratio::Sparse`]).
    pub indexer_heads: usize,
    /// Indexer head size.
    pub indexer_size: usize,
    /// Indexer top-k.
    pub indexer_top_k: usize,
    /// E.
    pub experts: usize,
    /// k.
    pub experts_used: usize,
    /// I.
    pub expert_hidden: usize,
    /// Shared experts (their inner sizes add up in one matrix).
    pub shared_experts: usize,
    /// The first n layers route by hash.
    pub hash_layers: usize,
    /// Routed weights' scale.
    pub expert_scale: f32,
    /// SwiGLU clamp of the routed experts, per layer.
    pub clamp: [f32; MAX_LAYERS],
    /// SwiGLU clamp of the shared expert, per layer.
    pub clamp_shared: [f32; MAX_LAYERS],
    /// Scoring function.
    pub scoring: Scoring,
    /// Residual streams n.
    pub streams: usize,
    /// Sinkhorn iterations.
    pub sinkhorn: usize,
    /// Hyper-connection epsilon.
    pub hyper_eps: f32,
    /// RMS norm epsilon.
    pub rms_eps: f32,
    /// RoPE base of layers that see the window only.
    pub rope_base: f64,
    /// RoPE base of compressed layers.
    pub compress_rope_base: f64,
    /// Scaling of the compressed layers' RoPE; `None`: none.
    pub yarn: Option<Yarn>,
    /// Whether `yarn` is [`Yarn::PUBLISHED`] because the file does not say: worth telling the user.
    pub yarn_assumed: bool,
    /// Context length the model was made for.
    pub context: usize,
}

impl Config {
    /// Checks every size, alone and beside the others; [`Error::BadValue`] with the key of the first that is wrong.
    /// What it lets pass makes sense: nothing is zero that is divided by, no size or listed product can overflow.
    pub fn validate(&self) -> Result<()> {
        let sparse = self.ratios_in_use().contains(&Ratio::Sparse);
        let indexer_least = usize::from(sparse);
        let sizes = [
            (key!("block_count"), self.layers, 1, MAX_LAYERS),
            (key!("nextn_predict_layers"), self.mtp_layers, 0, MAX_LAYERS.saturating_sub(self.layers)),
            (key!("embedding_length"), self.hidden, 1, MAX_SIZE),
            (key!("vocab_size"), self.vocab, 1, MAX_VOCAB),
            (key!("attention.head_count"), self.heads, 1, MAX_SIZE),
            (key!("attention.key_length"), self.head_size, 1, MAX_HEAD_SIZE),
            (key!("rope.dimension_count"), self.rotary, 2, self.head_size),
            (key!("attention.q_lora_rank"), self.q_rank, 1, MAX_SIZE),
            (key!("attention.output_group_count"), self.output_groups, 1, self.heads),
            (key!("attention.output_lora_rank"), self.output_rank, 1, MAX_SIZE),
            (key!("attention.sliding_window"), self.window, 1, MAX_SIZE),
            (key!("attention.indexer.head_count"), self.indexer_heads, indexer_least, MAX_SIZE),
            (key!("attention.indexer.key_length"), self.indexer_size, indexer_least, MAX_HEAD_SIZE),
            (key!("attention.indexer.top_k"), self.indexer_top_k, indexer_least, MAX_SIZE),
            (key!("expert_count"), self.experts, 1, MAX_EXPERTS),
            (key!("expert_used_count"), self.experts_used, 1, self.experts.min(MAX_EXPERTS_USED)),
            (key!("expert_feed_forward_length"), self.expert_hidden, 1, MAX_SIZE),
            (key!("expert_shared_count"), self.shared_experts, 0, MAX_SIZE),
            (key!("hash_layer_count"), self.hash_layers, 0, self.layers),
            (key!("hyper_connection.count"), self.streams, 1, MAX_STREAMS),
            (key!("hyper_connection.sinkhorn_iterations"), self.sinkhorn, 1, MAX_SINKHORN),
            (key!("context_length"), self.context, 1, MAX_CONTEXT),
        ];
        for (key, size, least, most) in sizes {
            ensure(least <= size && size <= most, key)?;
        }
        let known = |&ratio: &Ratio| Ratio::new(ratio.entry_tokens()) == Some(ratio);
        ensure(self.ratios_in_use().iter().all(known), key!("attention.compress_ratios"))?;
        ensure(self.rotary.is_multiple_of(2), key!("rope.dimension_count"))?;
        ensure(self.heads.is_multiple_of(self.output_groups), key!("attention.output_group_count"))?;
        // The indexer's heads rotate their last r dims too.
        ensure(!sparse || self.rotary <= self.indexer_size, key!("attention.indexer.key_length"))?;

        let longest = self.ratios_in_use().iter().map(|ratio| ratio.entry_tokens()).max().unwrap_or(0);
        let streams = self.streams;
        let products: [(&str, &[usize]); 9] = [
            (key!("attention.key_length"), &[self.heads, self.head_size]),
            (key!("attention.output_lora_rank"), &[self.output_groups, self.output_rank]),
            (key!("attention.sliding_window"), &[self.window, self.head_size]),
            (key!("attention.compress_ratios"), &[longest, 2, self.head_size]),
            (key!("attention.indexer.key_length"), &[self.indexer_heads, self.indexer_size]),
            (key!("hyper_connection.count"), &[2 + streams, streams, streams, self.hidden]),
            (key!("expert_used_count"), &[self.experts_used, self.vocab]),
            (key!("expert_feed_forward_length"), &[self.experts, self.expert_hidden]),
            (key!("expert_shared_count"), &[self.shared_experts, self.expert_hidden]),
        ];
        for (key, factors) in products {
            let product = factors.iter().try_fold(1_usize, |product, &factor| product.checked_mul(factor));
            ensure(product.is_some_and(|p| p <= MAX_PRODUCT), key)?;
        }
        self.validate_floats()
    }

    /// Every constant positive and finite, and within what keeps the formulas finite.
    fn validate_floats(&self) -> Result<()> {
        let layers = self.layers.min(MAX_LAYERS);
        for (clamp, clamp_shared) in self.clamp.iter().zip(&self.clamp_shared).take(layers) {
            ensure(positive(*clamp), key!("swiglu_clamp_exp"))?;
            ensure(positive(*clamp_shared), key!("swiglu_clamp_shexp"))?;
        }
        ensure(positive(self.expert_scale), key!("expert_weights_scale"))?;
        ensure(positive(self.hyper_eps), key!("hyper_connection.epsilon"))?;
        ensure(positive(self.rms_eps), key!("attention.layer_norm_rms_epsilon"))?;
        // YaRN divides by the base's logarithm.
        ensure((1.001..=1e12).contains(&self.rope_base), key!("rope.freq_base"))?;
        ensure((1.001..=1e12).contains(&self.compress_rope_base), key!("attention.compress_rope_freq_base"))?;
        if let Some(yarn) = self.yarn {
            let original = 1.0..=MAX_CONTEXT as f64;
            ensure((1.0..=1e6).contains(&yarn.factor), key!("rope.scaling.factor"))?;
            ensure(original.contains(&yarn.original_context), key!("rope.scaling.original_context_length"))?;
            ensure((1e-3..=1e6).contains(&yarn.beta_slow), key!("rope.scaling.yarn_beta_slow"))?;
            ensure((yarn.beta_slow..=1e6).contains(&yarn.beta_fast), key!("rope.scaling.yarn_beta_fast"))?;
        }
        Ok(())
    }

    /// A hash of all that a result depends on.
    pub(crate) fn fingerprint(&self) -> u64 {
        // Every field by its name: whoever adds one has to decide here. MTP modules do not change what layers compute, nor
        // does the length that the model was made for.
        #[rustfmt::skip]
        let Self {
            hidden, layers, mtp_layers: _, vocab, heads, head_size, rotary, q_rank, output_groups, output_rank, window,
            ratios, indexer_heads, indexer_size, indexer_top_k, experts, experts_used, expert_hidden, shared_experts,
            hash_layers, expert_scale, clamp, clamp_shared, scoring, streams, sinkhorn, hyper_eps, rms_eps, rope_base,
            compress_rope_base, yarn, yarn_assumed: _, context: _,
        } = self;
        let mut hash = 0;
        let mut add = |value: u64| hash = xxh64(&value.to_le_bytes(), hash);
        #[rustfmt::skip]
        let sizes = [
            hidden, layers, vocab, heads, head_size, rotary, q_rank, output_groups, output_rank, window, indexer_heads,
            indexer_size, indexer_top_k, experts, experts_used, expert_hidden, shared_experts, hash_layers, streams,
            sinkhorn,
        ];
        sizes.into_iter().for_each(|&size| add(size as u64));
        add(*scoring as u64);
        for ((ratio, clamp), shared) in ratios.iter().zip(clamp).zip(clamp_shared).take(*layers) {
            add(ratio.entry_tokens() as u64);
            add(clamp.to_bits().into());
            add(shared.to_bits().into());
        }
        [expert_scale, hyper_eps, rms_eps].into_iter().for_each(|x| add(x.to_bits().into()));
        [rope_base, compress_rope_base].into_iter().for_each(|x| add(x.to_bits()));
        let yarn = yarn.map(|y| [y.factor, y.original_context, y.beta_fast, y.beta_slow]);
        add(yarn.is_some().into());
        yarn.into_iter().flatten().for_each(|x| add(x.to_bits()));
        hash
    }

    /// The ratios of the layers and MTP modules.
    fn ratios_in_use(&self) -> &[Ratio] {
        self.layers.checked_add(self.mtp_layers).and_then(|n| self.ratios.get(..n)).unwrap_or(&self.ratios)
    }
}

fn ensure(holds: bool, key: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::BadValue { key: key.into() }) }
}

fn positive(value: f32) -> bool {
    value.is_finite() && value > 0.0
}
