//! The sizes as GGUF metadata has them: the keys that llama.cpp writes, with its defaults.

use super::{Config, MAX_LAYERS, Ratio, Scoring, Yarn};
use crate::error::{Error, Result};
use crate::format::gguf::{Found, Gguf, Value};

/// A key of this architecture.
macro_rules! key {
    ($name:literal) => {
        concat!("deepseek4.", $name)
    };
}
pub(super) use key;

/// Every key read here.
const KEYS: [&str; 41] = [
    "general.architecture",
    "tokenizer.ggml.tokens",
    key!("attention.compress_ratios"),
    key!("attention.compress_rope_freq_base"),
    key!("attention.head_count"),
    key!("attention.head_count_kv"),
    key!("attention.indexer.head_count"),
    key!("attention.indexer.key_length"),
    key!("attention.indexer.top_k"),
    key!("attention.key_length"),
    key!("attention.layer_norm_rms_epsilon"),
    key!("attention.output_group_count"),
    key!("attention.output_lora_rank"),
    key!("attention.q_lora_rank"),
    key!("attention.sliding_window"),
    key!("attention.value_length"),
    key!("block_count"),
    key!("context_length"),
    key!("embedding_length"),
    key!("expert_count"),
    key!("expert_feed_forward_length"),
    key!("expert_gating_func"),
    key!("expert_shared_count"),
    key!("expert_used_count"),
    key!("expert_weights_norm"),
    key!("expert_weights_scale"),
    key!("hash_layer_count"),
    key!("hyper_connection.count"),
    key!("hyper_connection.epsilon"),
    key!("hyper_connection.sinkhorn_iterations"),
    key!("nextn_predict_layers"),
    key!("rope.dimension_count"),
    key!("rope.freq_base"),
    key!("rope.scaling.factor"),
    key!("rope.scaling.original_context_length"),
    key!("rope.scaling.type"),
    key!("rope.scaling.yarn_beta_fast"),
    key!("rope.scaling.yarn_beta_slow"),
    key!("swiglu_clamp_exp"),
    key!("swiglu_clamp_shexp"),
    key!("vocab_size"),
];

impl Config {
    /// Reads and validates the sizes of a model in one file. Integers may have any width, floats either, and values
    /// that could differ by layer may be one value or an array.
    ///
    /// [`Error::UnsupportedArchitecture`] for anything but `deepseek4`, by its name.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Self> {
        Self::from_parts(gguf, core::iter::once(*gguf))
    }

    /// The same of a model in several files: `gguf` is the first's header, `parts` are all files' headers.
    pub(crate) fn from_parts<'a>(gguf: &Gguf<'a>, mut parts: impl Iterator<Item = Gguf<'a>>) -> Result<Self> {
        let keys = Keys(gguf.find(&KEYS)?);
        let architecture = keys.0.need("general.architecture", Value::as_string)?;
        if architecture != b"deepseek4" {
            return Err(Error::UnsupportedArchitecture { name: crate::error::Name::new(architecture) });
        }

        let blocks = keys.size(key!("block_count"))?;
        if blocks == 0 || blocks > MAX_LAYERS {
            return Err(bad(key!("block_count")));
        }
        // MTP modules follow the layers and count among the blocks, but only where they are in the file: many files
        // announce one that was left out, and then all blocks are layers (llama.cpp looks for the same tensor).
        let announced = keys.size_or(key!("nextn_predict_layers"), 0)?;
        let layers = blocks.checked_sub(announced).filter(|&n| n > 0).ok_or(bad(key!("nextn_predict_layers")))?;
        let present = announced > 0 && parts.any(|part| part.tensors().any(|t| is_mtp_of(t.name, layers)));
        let mtp_layers = if present { announced } else { 0 };
        let layers = blocks - mtp_layers;

        let mut ratios = [Ratio::Window; MAX_LAYERS];
        keys.by_layer(key!("attention.compress_ratios"), &mut ratios[..blocks], layers, |value| {
            usize::try_from(value.as_u64()?).ok().and_then(Ratio::new)
        })?;
        let sparse = ratios[..blocks].contains(&Ratio::Sparse);
        let compressed = ratios[..blocks].iter().any(|&ratio| ratio != Ratio::Window);

        let mut clamp = [0.0; MAX_LAYERS];
        let as_f32 = |value: Value<'_>| value.as_f64().map(|v| v as f32);
        keys.by_layer(key!("swiglu_clamp_exp"), &mut clamp[..blocks], layers, as_f32)?;
        let mut clamp_shared = clamp;
        if keys.has(key!("swiglu_clamp_shexp"))? {
            keys.by_layer(key!("swiglu_clamp_shexp"), &mut clamp_shared[..blocks], layers, as_f32)?;
        }

        let rope_base = keys.float_or(key!("rope.freq_base"), 10_000.0)?;
        let compress_rope_base = if compressed {
            keys.float(key!("attention.compress_rope_freq_base"))?
        } else {
            keys.float_or(key!("attention.compress_rope_freq_base"), rope_base)?
        };
        let (yarn, yarn_assumed) = if compressed { keys.yarn()? } else { (None, false) };

        let head_size = keys.size(key!("attention.key_length"))?;
        keys.must_be(key!("attention.value_length"), head_size)?;
        keys.must_be(key!("attention.head_count_kv"), 1)?;

        let scoring = match keys.size(key!("expert_gating_func"))? {
            1 => Scoring::Softmax,
            2 => Scoring::Sigmoid,
            4 => Scoring::SqrtSoftplus,
            _ => return Err(bad(key!("expert_gating_func"))),
        };
        // Whether the chosen experts' weights are divided by their sum follows from the scoring.
        if keys.0.get(key!("expert_weights_norm"), Value::as_bool)? == Some(false) && scoring != Scoring::Softmax {
            return Err(bad(key!("expert_weights_norm")));
        }

        let config = Self {
            hidden: keys.size(key!("embedding_length"))?,
            layers,
            mtp_layers,
            vocab: keys.vocab()?,
            heads: keys.size(key!("attention.head_count"))?,
            head_size,
            rotary: keys.size(key!("rope.dimension_count"))?,
            q_rank: keys.size(key!("attention.q_lora_rank"))?,
            output_groups: keys.size(key!("attention.output_group_count"))?,
            output_rank: keys.size(key!("attention.output_lora_rank"))?,
            window: keys.size(key!("attention.sliding_window"))?,
            ratios,
            indexer_heads: if sparse { keys.size(key!("attention.indexer.head_count"))? } else { 0 },
            indexer_size: if sparse { keys.size(key!("attention.indexer.key_length"))? } else { 0 },
            indexer_top_k: if sparse { keys.size(key!("attention.indexer.top_k"))? } else { 0 },
            experts: keys.size(key!("expert_count"))?,
            experts_used: keys.size(key!("expert_used_count"))?,
            expert_hidden: keys.size(key!("expert_feed_forward_length"))?,
            shared_experts: keys.size(key!("expert_shared_count"))?,
            hash_layers: keys.size(key!("hash_layer_count"))?,
            expert_scale: keys.float(key!("expert_weights_scale"))? as f32,
            clamp,
            clamp_shared,
            scoring,
            streams: keys.size(key!("hyper_connection.count"))?,
            sinkhorn: keys.size(key!("hyper_connection.sinkhorn_iterations"))?,
            hyper_eps: keys.float(key!("hyper_connection.epsilon"))? as f32,
            rms_eps: keys.float(key!("attention.layer_norm_rms_epsilon"))? as f32,
            rope_base,
            compress_rope_base,
            yarn,
            yarn_assumed,
            context: keys.size(key!("context_length"))?,
        };
        config.validate()?;
        Ok(config)
    }
}

/// Whether this is the tensor by which an MTP module at block `block` is known.
fn is_mtp_of(name: &str, block: usize) -> bool {
    let number = name.strip_prefix("blk.").and_then(|rest| rest.strip_suffix(".nextn.eh_proj.weight"));
    number.is_some_and(|number| number.parse() == Ok(block))
}

fn bad(key: &str) -> Error {
    Error::BadValue { key: key.into() }
}

/// The values found, by kind.
struct Keys<'a>(Found<'a, { KEYS.len() }>);

impl Keys<'_> {
    fn has(&self, key: &str) -> Result<bool> {
        Ok(self.0.get(key, |_| Some(()))?.is_some())
    }

    /// A size, or `default` where there is none.
    fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        match self.0.get(key, uniform)? {
            Some(value) => value.try_into().map_err(|_| bad(key)),
            None => Ok(default),
        }
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.0.need(key, uniform)?.try_into().map_err(|_| bad(key))
    }

    fn float_or(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.0.get(key, Value::as_f64)?.unwrap_or(default))
    }

    fn float(&self, key: &str) -> Result<f64> {
        self.0.need(key, Value::as_f64)
    }

    /// Refuses any value but `only`, if there is one.
    fn must_be(&self, key: &str, only: usize) -> Result<()> {
        if self.size_or(key, only)? == only { Ok(()) } else { Err(bad(key)) }
    }

    /// Fills `slots` with a value each: one for all, or an array's, which must have at least `need` and may have more
    /// than there are slots.
    fn by_layer<T: Copy>(
        &self,
        key: &str,
        slots: &mut [T],
        need: usize,
        read: impl Fn(Value<'_>) -> Option<T>,
    ) -> Result<()> {
        let value = self.0.need(key, |v| Some(*v))?;
        let Value::Array(array) = value else {
            slots.fill(read(value).ok_or(bad(key))?);
            return Ok(());
        };
        if array.len() < need as u64 {
            return Err(bad(key));
        }
        for (slot, value) in slots.iter_mut().zip(array.values()) {
            *slot = read(value).ok_or(bad(key))?;
        }
        Ok(())
    }

    /// V: the embedding's rows, said outright or by the length of the token list.
    fn vocab(&self) -> Result<usize> {
        let vocab = key!("vocab_size");
        match self.0.get("tokenizer.ggml.tokens", Value::as_array)? {
            Some(tokens) => self.size_or(vocab, tokens.len().try_into().map_err(|_| bad(vocab))?),
            None => self.size(vocab),
        }
    }

    /// YaRN's constants, and whether they are assumed: files exist that leave them all out (llama.cpp#26673), and
    /// without them every compressed layer is wrong, so the published model's are taken then.
    fn yarn(&self) -> Result<(Option<Yarn>, bool)> {
        let (factor, original) = (key!("rope.scaling.factor"), key!("rope.scaling.original_context_length"));
        match self.0.get(key!("rope.scaling.type"), Value::as_string)? {
            Some(b"yarn") => {}
            Some(b"none") => return Ok((None, false)),
            Some(_) => return Err(bad(key!("rope.scaling.type"))),
            None if !self.has(factor)? && !self.has(original)? => return Ok((Some(Yarn::PUBLISHED), true)),
            None => {}
        }
        let yarn = Yarn {
            factor: self.float(factor)?,
            original_context: self.size(original)? as f64,
            beta_fast: self.float_or(key!("rope.scaling.yarn_beta_fast"), Yarn::PUBLISHED.beta_fast)?,
            beta_slow: self.float_or(key!("rope.scaling.yarn_beta_slow"), Yarn::PUBLISHED.beta_slow)?,
        };
        Ok((Some(yarn), false))
    }
}

/// An integer, or an array that says the same integer for every layer.
fn uniform(value: &Value<'_>) -> Option<u64> {
    let Value::Array(array) = value else { return value.as_u64() };
    let mut values = array.values();
    let first = values.next()?.as_u64()?;
    values.all(|v| v.as_u64() == Some(first)).then_some(first)
}
