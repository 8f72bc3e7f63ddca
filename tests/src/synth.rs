//! Models of random weights, of any sizes and in any tensor types, streamed to a file of any length.
//!
//! Weights are scaled so that activations and logits stay of order 1: a matrix has the standard deviation
//! 1/sqrt(columns). Quantized ones are random codes under a scale that gives that deviation.

use crate::gguf_writer::{GgufWriter, Tensor, Value};
use crate::synthetic::Sizes;
use dsv4_core::dtype::DType;
use dsv4_core::format::gguf::Gguf;
use half::{bf16, f16};
use std::io::{self, Write};
use std::ops::Range;

/// The types of the large matrices. All else is F32, the hash tables I32.
#[derive(Clone, Copy, Debug)]
pub struct Types {
    /// `token_embd`.
    pub embedding: DType,
    /// `output`.
    pub output: DType,
    /// Attention, compressors and indexers.
    pub attention: DType,
    /// Routed experts.
    pub experts: DType,
    /// Shared experts.
    pub shared: DType,
}

impl Types {
    /// One type for all.
    pub const fn all(t: DType) -> Self {
        Self { embedding: t, output: t, attention: t, experts: t, shared: t }
    }

    /// As llama.cpp mixes them: with K- and I-quants the output is Q6_K; MXFP4 is for the routed experts, all else
    /// Q8_0. Other types stand alone.
    pub const fn mix(t: DType) -> Self {
        match t {
            DType::F32 | DType::F16 | DType::BF16 | DType::Q8_0 => Self::all(t),
            DType::MXFP4 => Self { experts: t, ..Self::all(DType::Q8_0) },
            _ => Self { output: DType::Q6_K, ..Self::all(t) },
        }
    }

    fn of(&self, name: &str) -> DType {
        if name == "token_embd.weight" {
            self.embedding
        } else if name == "output.weight" {
            self.output
        } else if name.contains("_exps") {
            self.experts
        } else if name.contains("_shexp") {
            self.shared
        } else {
            self.attention
        }
    }
}

/// All that a model is but its seed.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The sizes.
    pub sizes: Sizes,
    /// The tensor types.
    pub types: Types,
    /// `expert_gating_func`: 1 softmax, 2 sigmoid, 4 sqrt(softplus).
    pub scoring: u32,
    /// The SwiGLU clamp of the routed experts and of the shared one.
    pub clamp: [f32; 2],
    /// RMS norms' epsilon, and the hyper-connections'.
    pub eps: [f32; 2],
    /// RoPE bases of window layers and of compressed ones.
    pub rope: [f32; 2],
    /// YaRN's factor and original context.
    pub yarn: (f32, u32),
    /// Whether to write a tokenizer; the vocabulary must hold it (272 tokens).
    pub tokenizer: bool,
}

impl Shape {
    /// The constants of the published models around any sizes.
    pub fn new(sizes: Sizes, types: Types) -> Self {
        Self {
            sizes,
            types,
            scoring: 4,
            clamp: [10.0; 2],
            eps: [1e-6; 2],
            rope: [10_000.0, 160_000.0],
            yarn: (16.0, 65_536),
            tokenizer: false,
        }
    }

    /// Odd little sizes drawn from `seed`, in F32, F16 and BF16.
    pub fn tiny(seed: u64) -> Self {
        let mut r = Random(seed);
        let output_groups = r.within(1..=3);
        let rotary = 2 * r.within(1..=4);
        let experts = r.within(1..=8);
        let ratios: Vec<u32> = (0..r.within(1..=4)).map(|_| r.pick(&[0, 4, 4, 2, 7, 16])).collect();
        let sizes = Sizes {
            hidden: r.within(5..=40),
            vocab: r.within(11..=70),
            heads: output_groups * r.within(1..=3),
            head_size: rotary + r.within(0..=20),
            rotary,
            q_rank: r.within(3..=30),
            output_groups,
            output_rank: r.within(2..=12),
            window: r.within(1..=12),
            indexer_heads: r.within(1..=20),
            indexer_size: rotary + r.within(0..=9),
            indexer_top_k: r.within(1..=6),
            experts,
            experts_used: r.within(1..=experts),
            expert_hidden: r.within(2..=20),
            shared_experts: r.within(0..=2),
            hash_layers: r.within(0..=ratios.len() as u32),
            streams: r.within(1..=5),
            sinkhorn: r.within(1..=8),
            context: 4096,
            ratios,
        };
        let types = [DType::F32, DType::F32, DType::F16, DType::BF16];
        let types = Types {
            embedding: r.pick(&types),
            output: r.pick(&types),
            attention: r.pick(&types),
            experts: r.pick(&types),
            shared: r.pick(&types),
        };
        Self {
            scoring: r.pick(&[1, 2, 4]),
            clamp: [r.pick(&[0.5, 2.0, 10.0]), r.pick(&[0.5, 2.0, 10.0])],
            eps: [r.pick(&[1e-6, 1e-3]), r.pick(&[1e-6, 1e-3])],
            yarn: r.pick(&[(1.0, 4096), (16.0, 32), (4.0, 128)]),
            ..Self::new(sizes, types)
        }
    }

    /// Small, with rows that are whole blocks of any type: layers of all three kinds.
    pub fn small(types: Types) -> Self {
        let sizes = Sizes {
            hidden: 256,
            vocab: 320,
            heads: 4,
            head_size: 128,
            rotary: 32,
            q_rank: 256,
            output_groups: 2,
            output_rank: 128,
            window: 16,
            ratios: vec![0, 4, 16],
            indexer_heads: 16,
            indexer_size: 64,
            indexer_top_k: 8,
            experts: 4,
            experts_used: 2,
            expert_hidden: 256,
            shared_experts: 1,
            hash_layers: 1,
            streams: 4,
            sinkhorn: 20,
            context: 4096,
        };
        Self { tokenizer: true, ..Self::new(sizes, types) }
    }

    /// V4-Flash at its true widths, with the first `layers` layers and fewer experts.
    pub fn flash(layers: usize, experts: u32, types: Types) -> Self {
        let ratio = |layer| if layer < 2 { 0 } else { [4, 128][layer % 2] };
        let sizes = Sizes {
            hidden: 4096,
            vocab: 129_280,
            heads: 64,
            head_size: 512,
            rotary: 64,
            q_rank: 1024,
            output_groups: 8,
            output_rank: 1024,
            window: 128,
            ratios: (0..layers).map(ratio).collect(),
            indexer_heads: 64,
            indexer_size: 128,
            indexer_top_k: 512,
            experts,
            experts_used: 6.min(experts),
            expert_hidden: 2048,
            shared_experts: 1,
            hash_layers: 3.min(layers as u32),
            streams: 4,
            sinkhorn: 20,
            context: 1 << 20,
        };
        Self { tokenizer: true, ..Self::new(sizes, types) }
    }

    /// A quarter of V4-Flash's widths (of its heads, not of their size), and a vocabulary that does not outweigh the
    /// layers: 6 layers with 16 experts in Q4_K are 158 MB.
    pub fn browser(layers: usize, experts: u32, types: Types) -> Self {
        let mut shape = Self::flash(layers, experts, types);
        let s = &mut shape.sizes;
        (s.hidden, s.heads, s.q_rank, s.output_rank) = (1024, 16, 256, 256);
        (s.indexer_heads, s.expert_hidden, s.vocab) = (16, 512, BROWSER_VOCAB);
        shape
    }

    /// The type of a tensor whose rows have `cols` columns. Rows that are not whole blocks fall back to F16.
    fn dtype(&self, name: &str, dims: &[u64]) -> DType {
        const F32: [&str; 6] = ["hc_", "ffn_gate_inp", "ape", "sinks", "exp_probs_b", "norm"];
        if name.contains("tid2eid") {
            DType::I32
        } else if dims.len() < 2 || F32.iter().any(|part| name.contains(part)) {
            DType::F32
        } else {
            let wanted = self.types.of(name);
            wanted.row_bytes(dims[0]).map_or(DType::F16, |_| wanted)
        }
    }

    /// The header, with every tensor's place but not its bytes.
    fn header(&self) -> GgufWriter {
        let mut w = GgufWriter::default();
        self.sizes.keys(&mut w);
        let layers = self.sizes.ratios.len();
        w.set("deepseek4.expert_gating_func", self.scoring);
        w.set("deepseek4.swiglu_clamp_exp", &vec![self.clamp[0]; layers][..]);
        w.set("deepseek4.swiglu_clamp_shexp", &vec![self.clamp[1]; layers][..]);
        w.set("deepseek4.attention.layer_norm_rms_epsilon", self.eps[0]);
        w.set("deepseek4.hyper_connection.epsilon", self.eps[1]);
        w.set("deepseek4.rope.freq_base", self.rope[0]);
        w.set("deepseek4.attention.compress_rope_freq_base", self.rope[1]);
        w.set("deepseek4.rope.scaling.factor", self.yarn.0);
        w.set("deepseek4.rope.scaling.original_context_length", self.yarn.1);
        if self.tokenizer {
            tokenizer(&mut w, self.sizes.vocab as usize);
        }
        let mut offset = 0;
        for (name, dims) in self.sizes.tensors() {
            let dtype = self.dtype(&name, &dims);
            let bytes = bytes(dtype, &dims);
            let (name, dtype) = (name.into_bytes(), dtype as u32);
            w.tensors.push(Tensor { name, dims, dtype, data: vec![], offset: Some(offset), rank: None });
            offset += bytes.next_multiple_of(w.alignment as u64);
        }
        w
    }

    /// What comes before the tensors: enough to plan with.
    pub fn header_bytes(&self) -> Vec<u8> {
        self.header().build_parts().0
    }

    /// The file's bytes.
    pub fn file_bytes(&self) -> u64 {
        let header = self.header();
        let data = |(name, dims): (String, Vec<u64>)| bytes(self.dtype(&name, &dims), &dims).next_multiple_of(32);
        header.build_parts().0.len() as u64 + self.sizes.tensors().into_iter().map(data).sum::<u64>()
    }

    /// The bytes of weights that one token reads: of the routed experts those used, one row of embedding and table.
    pub fn token_bytes(&self) -> u64 {
        let read = |(name, dims): (String, Vec<u64>)| {
            let all = bytes(self.dtype(&name, &dims), &dims);
            if name.contains("_exps") {
                all / u64::from(self.sizes.experts) * u64::from(self.sizes.experts_used)
            } else if name.contains("tid2eid") || name == "token_embd.weight" {
                all / dims[1]
            } else {
                all
            }
        };
        self.sizes.tensors().into_iter().map(read).sum()
    }

    /// Writes the GGUF file whose weights follow from `seed`.
    pub fn write(&self, seed: u64, out: &mut impl Write) -> io::Result<()> {
        let header = self.header();
        out.write_all(&header.build_parts().0)?;
        let mut random = Random(seed);
        for (name, dims) in self.sizes.tensors() {
            let dtype = self.dtype(&name, &dims);
            let blocks = bytes(dtype, &dims) / dtype.block().1 as u64;
            match dtype {
                DType::I32 => hash_table(&dims, self.sizes.experts, &mut random, out)?,
                _ => stream(dtype, Weights::of(&name, &dims), blocks, &mut random, out)?,
            }
            let end = bytes(dtype, &dims);
            out.write_all(&[0; 32][..(end.next_multiple_of(32) - end) as usize])?;
        }
        Ok(())
    }

    /// The same file in memory.
    pub fn file(&self, seed: u64) -> Vec<u8> {
        let mut file = vec![];
        self.write(seed, &mut file).expect("memory takes all");
        file
    }
}

/// Where the tensor `name` lies in `file`.
pub fn place(file: &[u8], name: &str) -> Range<usize> {
    let gguf = Gguf::parse(file).expect("a GGUF file");
    let tensor = gguf.tensors().find(|t| t.name == name).unwrap_or_else(|| panic!("no tensor {name}"));
    let bytes = tensor.bytes().expect("bytes");
    let start = gguf.data_offset(&tensor, bytes).expect("within the file") as usize;
    start..start + bytes as usize
}

const BROWSER_VOCAB: u32 = 22_016;

fn bytes(dtype: DType, dims: &[u64]) -> u64 {
    dtype.row_bytes(dims[0]).expect("whole blocks") * dims[1..].iter().product::<u64>()
}

/// How a tensor's values are spread: uniformly, or as codes are, with this mean and standard deviation.
#[derive(Clone, Copy)]
struct Weights {
    mean: f32,
    deviation: f32,
}

impl Weights {
    fn of(name: &str, dims: &[u64]) -> Self {
        let (mean, deviation) = match name {
            "token_embd.weight" => (0.0, 1.0),
            _ if name.contains("norm") => (1.0, 0.1),
            _ if name.contains("hc_") && name.ends_with("scale.weight") => (1.0, 0.2),
            _ if name.contains("hc_") && name.ends_with("base.weight") => (0.0, 0.6),
            _ if name.contains("sinks") || name.contains("ape") => (0.0, 0.5),
            _ if name.contains("exp_probs_b") => (0.0, 0.1),
            // Scores far enough apart that the choice means something.
            _ if name.contains("ffn_gate_inp") => (0.0, 2.0 / (dims[0] as f32).sqrt()),
            _ => (0.0, 1.0 / (dims[0] as f32).sqrt()),
        };
        Self { mean, deviation }
    }
}

/// The bytes of a random matrix [rows, cols].
pub fn matrix(dtype: DType, rows: usize, cols: usize, seed: u64) -> Vec<u8> {
    let dims = [cols as u64, rows as u64];
    let blocks = bytes(dtype, &dims) / dtype.block().1 as u64;
    let mut out = Vec::new();
    stream(dtype, Weights::of("", &dims), blocks, &mut Random(seed), &mut out).expect("a vector takes all");
    out
}

/// Bytes of random blocks made for one tensor; longer tensors repeat them, cut at another place each time.
const PATTERN: usize = 1 << 20;

fn stream(dtype: DType, weights: Weights, blocks: u64, random: &mut Random, out: &mut impl Write) -> io::Result<()> {
    let size = dtype.block().1;
    let count = (PATTERN / size).min(blocks as usize);
    let mut pattern = vec![0; count * size];
    pattern.chunks_mut(size).for_each(|block| random_block(dtype, weights, random, block));
    let mut left = blocks as usize * size;
    while left > 0 {
        let cut = random.below(count as u32) as usize * size;
        for part in [&pattern[cut..], &pattern[..cut]] {
            let part = &part[..part.len().min(left)];
            out.write_all(part)?;
            left -= part.len();
        }
    }
    Ok(())
}

/// A table [V, k] of experts, k different ones a row.
fn hash_table(dims: &[u64], experts: u32, random: &mut Random, out: &mut impl Write) -> io::Result<()> {
    let mut table = Vec::with_capacity((dims[0] * dims[1] * 4) as usize);
    for _ in 0..dims[1] {
        let first = random.below(experts);
        for i in 0..dims[0] as u32 {
            table.extend(((first + i) % experts).to_le_bytes());
        }
    }
    out.write_all(&table)
}

/// The root mean square of random codes of a type under the scale 1 (and, where there is an offset, one that centres
/// them). Measured over 8192 blocks with PyPI `gguf`.
fn rms_of_codes(dtype: DType) -> f32 {
    match dtype {
        DType::Q4_0 => 4.64,
        DType::Q4_1 => 4.60,
        DType::Q5_0 => 9.25,
        DType::Q5_1 => 9.23,
        DType::Q8_0 => 73.9,
        DType::Q2_K => 9.84,
        DType::Q3_K => 43.3,
        DType::Q4_K => 168.0,
        DType::Q5_K => 337.0,
        DType::Q6_K => 1367.0,
        DType::IQ2_XXS => 53.4,
        DType::IQ2_XS => 56.0,
        DType::IQ2_S => 56.3,
        DType::IQ3_XXS => 143.0,
        DType::IQ3_S => 140.0,
        DType::IQ1_S => 7.19,
        DType::IQ1_M => 7.21,
        DType::IQ4_NL => 67.4,
        DType::IQ4_XS => 1245.0,
        DType::MXFP4 => 5.84,
        _ => 1.0,
    }
}

/// One block (one value, for the plain types).
fn random_block(dtype: DType, weights: Weights, random: &mut Random, block: &mut [u8]) {
    let spread = random.unit(); // -1..1
    let uniform = weights.mean + weights.deviation * 3_f32.sqrt() * spread;
    match dtype {
        DType::F32 => return block.copy_from_slice(&uniform.to_le_bytes()),
        DType::F16 => return block.copy_from_slice(&f16::from_f32(uniform).to_le_bytes()),
        DType::BF16 => return block.copy_from_slice(&bf16::from_f32(uniform).to_le_bytes()),
        _ => {}
    }
    for bytes in block.chunks_mut(8) {
        bytes.copy_from_slice(&random.bits().to_le_bytes()[..bytes.len()]);
    }
    let scale = weights.deviation / rms_of_codes(dtype) * (1.0 + 0.25 * spread);
    let mut put = |at: usize, value: f32| block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
    match dtype {
        // E8M0: the block's scale is a power of two, here one of the two around the wanted one; 128 means 1.
        DType::MXFP4 => {
            let exponent = (weights.deviation / rms_of_codes(dtype)).log2() + 0.5 * spread;
            block[0] = (128.0 + exponent.round()) as u8;
        }
        // The scale's 16 bits are the high nibbles of four words.
        DType::IQ1_M => {
            let bits = f16::from_f32(scale).to_bits();
            for i in 0..4 {
                let high = &mut block[49 + 2 * i];
                *high = *high & 0x0f | ((bits >> (4 * i)) as u8 & 15) << 4;
            }
        }
        DType::Q4_1 | DType::Q5_1 => {
            put(0, scale);
            put(2, scale * if dtype == DType::Q4_1 { -7.5 } else { -15.5 });
        }
        // Offsets centre the codes: each sub-block's offset code is made equal to its scale code.
        DType::Q2_K => {
            put(80, scale);
            put(82, 1.5 * scale);
            block[..16].iter_mut().for_each(|both| *both = (*both & 15) * 17);
        }
        DType::Q4_K | DType::Q5_K => {
            put(0, scale);
            put(2, scale * if dtype == DType::Q4_K { 7.5 } else { 15.5 });
            block.copy_within(4..8, 8);
            block[12..16].iter_mut().for_each(|both| *both = (*both & 15) * 17);
        }
        DType::Q3_K => put(108, scale),
        DType::Q6_K => put(208, scale),
        _ => put(0, scale),
    }
}

/// A byte-level tokenizer: V4's special tokens, the 256 bytes, a few merges; the ids after them are unused.
fn tokenizer(w: &mut GgufWriter, vocab: usize) {
    const SPECIALS: [&str; 5] =
        ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>", "<｜User｜>", "<｜Assistant｜>"];
    const MERGES: [&str; 6] = ["t h", "th e", "Ġ the", "i n", "a n", "an d"];
    let (normal, control, unused) = (1, 3, 5); // the format's kinds of tokens
    // GPT-2's alphabet: printable bytes stand for themselves, the others for the characters from 256 on.
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 256..;
    let byte = |b: u8| if printable(b) { u32::from(b) } else { others.next().unwrap_or_default() };
    let bytes: Vec<String> = (0..=255).map(byte).filter_map(char::from_u32).map(String::from).collect();

    let mut tokens: Vec<(String, i32)> = SPECIALS.iter().map(|s| (s.to_string(), control)).collect();
    tokens.extend(bytes.into_iter().chain(MERGES.iter().map(|m| m.replace(' ', ""))).map(|t| (t, normal)));
    assert!(tokens.len() <= vocab, "the vocabulary is too small for a tokenizer");
    tokens.extend((tokens.len()..vocab).map(|i| (format!("[PAD{i}]"), unused)));
    let text: Vec<Value> = tokens.iter().map(|(text, _)| text.as_str().into()).collect();
    let kinds: Vec<i32> = tokens.iter().map(|(_, kind)| *kind).collect();
    w.key("tokenizer.ggml.model", "gpt2").key("tokenizer.ggml.pre", "joyai-llm");
    w.key("tokenizer.ggml.tokens", Value::array(&text)).key("tokenizer.ggml.token_type", &kinds[..]);
    w.key("tokenizer.ggml.merges", Value::array(&MERGES.map(Value::from)));
    w.key("tokenizer.ggml.bos_token_id", 0_u32).key("tokenizer.ggml.eos_token_id", 1_u32);
    w.key("tokenizer.ggml.add_bos_token", true);
}

/// A small generator (SplitMix64): the same seed gives the same model on every machine.
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1.
    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Uniform below `n`, which is not 0.
    pub fn below(&mut self, n: u32) -> u32 {
        (((self.bits() >> 32) * u64::from(n)) >> 32) as u32
    }

    fn within(&mut self, range: std::ops::RangeInclusive<u32>) -> u32 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }

    /// `n` tokens of a vocabulary.
    pub fn tokens(&mut self, n: usize, vocab: usize) -> Vec<u32> {
        (0..n).map(|_| self.below(vocab as u32)).collect()
    }
}
