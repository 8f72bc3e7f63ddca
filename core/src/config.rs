//! The model's sizes (spec page "model", section 1), read from the file and validated before anything trusts them.

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

/// Layers at most; the per-layer arrays live inside [`Config`].
pub const MAX_LAYERS: usize = 128;

/// Every size and constant of the model. All fields are validated against one another by the reader that made them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// D.
    pub hidden: usize,
    /// L.
    pub layers: usize,
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
    /// Per layer; only the first `layers` are meaningful.
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
    /// Context length the model was made for.
    pub context: usize,
}
