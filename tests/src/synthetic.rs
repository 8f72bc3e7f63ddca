//! Models made of random numbers, of any sizes: every key and tensor of `deepseek4`, written down a second time,
//! independently of the core.

use crate::gguf_writer::GgufWriter;

/// The sizes to make a model of; the names are the spec's.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the spec's names")]
pub struct Sizes {
    pub hidden: u32,
    pub vocab: u32,
    pub heads: u32,
    pub head_size: u32,
    pub rotary: u32,
    pub q_rank: u32,
    pub output_groups: u32,
    pub output_rank: u32,
    pub window: u32,
    /// One a layer.
    pub ratios: Vec<u32>,
    pub indexer_heads: u32,
    pub indexer_size: u32,
    pub indexer_top_k: u32,
    pub experts: u32,
    pub experts_used: u32,
    pub expert_hidden: u32,
    pub shared_experts: u32,
    pub hash_layers: u32,
    pub streams: u32,
    pub sinkhorn: u32,
    pub context: u32,
}

impl Sizes {
    /// Small enough that every prefix of the file can be tried: three layers, one of each kind.
    pub fn tiny() -> Self {
        Self {
            hidden: 8,
            vocab: 16,
            heads: 2,
            head_size: 4,
            rotary: 2,
            q_rank: 4,
            output_groups: 2,
            output_rank: 3,
            window: 4,
            ratios: vec![0, 4, 8],
            indexer_heads: 2,
            indexer_size: 4,
            indexer_top_k: 2,
            experts: 4,
            experts_used: 2,
            expert_hidden: 5,
            shared_experts: 1,
            hash_layers: 1,
            streams: 2,
            sinkhorn: 3,
            context: 64,
        }
    }

    /// The model's file, all F32, random by `seed`.
    pub fn writer(&self, seed: u64) -> GgufWriter {
        let mut w = GgufWriter::default();
        self.keys(&mut w);
        let mut random = Random(seed);
        for (name, dims) in self.tensors() {
            let count = dims.iter().product::<u64>() as usize;
            let is_table = name.ends_with("tid2eid.weight");
            let element = |random: &mut Random| {
                if is_table { (random.next() % self.experts).to_le_bytes() } else { random.float().to_le_bytes() }
            };
            let data: Vec<u8> = (0..count).flat_map(|_| element(&mut random)).collect();
            w.tensor(&name, if is_table { 26 } else { 0 }, &dims, data);
        }
        w
    }

    /// Writes every key.
    pub fn keys(&self, w: &mut GgufWriter) {
        w.key("general.architecture", "deepseek4");
        w.key("general.name", "a model of random numbers");
        let clamps = vec![10.0_f32; self.ratios.len()];
        let mut key = |name: &str, value: u32| {
            w.key(&format!("deepseek4.{name}"), value);
        };
        key("block_count", self.ratios.len() as u32);
        key("context_length", self.context);
        key("embedding_length", self.hidden);
        key("vocab_size", self.vocab);
        key("attention.head_count", self.heads);
        key("attention.head_count_kv", 1);
        key("attention.key_length", self.head_size);
        key("attention.value_length", self.head_size);
        key("attention.q_lora_rank", self.q_rank);
        key("attention.output_group_count", self.output_groups);
        key("attention.output_lora_rank", self.output_rank);
        key("attention.sliding_window", self.window);
        key("attention.indexer.head_count", self.indexer_heads);
        key("attention.indexer.key_length", self.indexer_size);
        key("attention.indexer.top_k", self.indexer_top_k);
        key("rope.dimension_count", self.rotary);
        key("rope.scaling.original_context_length", 32);
        key("hash_layer_count", self.hash_layers);
        key("expert_count", self.experts);
        key("expert_used_count", self.experts_used);
        key("expert_feed_forward_length", self.expert_hidden);
        key("expert_shared_count", self.shared_experts);
        key("expert_gating_func", 4);
        key("hyper_connection.count", self.streams);
        key("hyper_connection.sinkhorn_iterations", self.sinkhorn);
        w.key("deepseek4.expert_weights_norm", true);
        w.key("deepseek4.rope.scaling.type", "yarn");
        w.key("deepseek4.attention.compress_ratios", &self.ratios[..]);
        w.key("deepseek4.swiglu_clamp_exp", &clamps[..]);
        w.key("deepseek4.swiglu_clamp_shexp", &clamps[..]);
        for (name, value) in [
            ("attention.compress_rope_freq_base", 160_000.0_f32),
            ("attention.layer_norm_rms_epsilon", 1e-6),
            ("rope.freq_base", 10_000.0),
            ("rope.scaling.factor", 16.0),
            ("rope.scaling.yarn_beta_fast", 32.0),
            ("rope.scaling.yarn_beta_slow", 1.0),
            ("expert_weights_scale", 1.5),
            ("hyper_connection.epsilon", 1e-6),
        ] {
            w.key(&format!("deepseek4.{name}"), value);
        }
    }

    /// Every tensor's name and dimensions, fastest first.
    pub fn tensors(&self) -> Vec<(String, Vec<u64>)> {
        let [d, v, h, hd, q] = [self.hidden, self.vocab, self.heads, self.head_size, self.q_rank].map(u64::from);
        let [g, o, e, inner, k] =
            [self.output_groups, self.output_rank, self.experts, self.expert_hidden, self.experts_used].map(u64::from);
        let [n, ih, is, shared] =
            [self.streams, self.indexer_heads, self.indexer_size, self.shared_experts * self.expert_hidden]
                .map(u64::from);
        let mixes = (2 + n) * n;
        let mut all: Vec<(String, Vec<u64>)> = vec![];
        let mut add = |name: &str, dims: &[u64]| all.push((name.to_string(), dims.to_vec()));
        add("token_embd.weight", &[d, v]);
        add("output.weight", &[d, v]);
        add("output_norm.weight", &[d]);
        add("output_hc_fn.weight", &[n * d, n]);
        add("output_hc_base.weight", &[n]);
        add("output_hc_scale.weight", &[1]);
        for (i, &ratio) in self.ratios.iter().enumerate() {
            let mut add = |name: &str, dims: &[u64]| add(&format!("blk.{i}.{name}"), dims);
            for half in ["attn", "ffn"] {
                add(&format!("hc_{half}_fn.weight"), &[n * d, mixes]);
                add(&format!("hc_{half}_base.weight"), &[mixes]);
                add(&format!("hc_{half}_scale.weight"), &[3]);
                add(&format!("{half}_norm.weight"), &[d]);
            }
            add("attn_q_a.weight", &[d, q]);
            add("attn_q_a_norm.weight", &[q]);
            add("attn_q_b.weight", &[q, h * hd]);
            add("attn_kv.weight", &[d, hd]);
            add("attn_kv_a_norm.weight", &[hd]);
            add("attn_sinks.weight", &[h]);
            add("attn_output_a.weight", &[h / g * hd, g * o]);
            add("attn_output_b.weight", &[g * o, d]);
            let mut compressor = |prefix: &str, size: u64| {
                let width = if ratio == 4 { 2 * size } else { size };
                add(&format!("{prefix}_kv.weight"), &[d, width]);
                add(&format!("{prefix}_gate.weight"), &[d, width]);
                add(&format!("{prefix}_ape.weight"), &[width, ratio.into()]);
                add(&format!("{prefix}_norm.weight"), &[size]);
            };
            if ratio > 0 {
                compressor("attn_compressor", hd);
            }
            if ratio == 4 {
                compressor("indexer_compressor", is);
                add("indexer.attn_q_b.weight", &[q, ih * is]);
                add("indexer.proj.weight", &[d, ih]);
            }
            add("ffn_gate_inp.weight", &[d, e]);
            if (i as u32) < self.hash_layers {
                add("ffn_gate_tid2eid.weight", &[k, v]);
            } else {
                add("exp_probs_b.bias", &[e]);
            }
            add("ffn_gate_exps.weight", &[d, inner, e]);
            add("ffn_up_exps.weight", &[d, inner, e]);
            add("ffn_down_exps.weight", &[inner, d, e]);
            if shared > 0 {
                add("ffn_gate_shexp.weight", &[d, shared]);
                add("ffn_up_shexp.weight", &[d, shared]);
                add("ffn_down_shexp.weight", &[shared, d]);
            }
        }
        all
    }
}

/// A small generator (SplitMix64): the same seed gives the same model on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }

    /// Uniform in -1..1.
    fn float(&mut self) -> f32 {
        self.next() as f32 / (1_u64 << 31) as f32 - 1.0
    }
}
