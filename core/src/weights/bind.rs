//! The one table of tensor names and shapes, and the pass over the files' directories that finds them.

use super::{Record, Weights};
use crate::config::{Config, Ratio};
use crate::dtype::DType;
use crate::error::{Error, Name, Result};
use crate::format::gguf::{Gguf, TensorInfo};
use core::fmt::Write;

/// What a tensor must be, as [rows, columns] of y = W.x.
#[derive(Clone, Copy)]
enum Shape {
    /// This layer has no such tensor.
    Absent,
    Vector(usize),
    Matrix(usize, usize),
    /// [groups, rows, columns], or the groups' rows under one another: the same bytes.
    Groups(usize, usize, usize),
    /// [experts, rows, columns]
    Experts(usize, usize, usize),
    /// 32-bit integers.
    Integers(usize, usize),
}

/// A tensor's name (in a layer: after `blk.N.`) and its shape in a model's layer (which the head's do not look at).
struct Entry {
    name: &'static str,
    shape: fn(&Config, usize) -> Shape,
}

/// Declares tensors once: their slot, their name, their shape.
macro_rules! tensors {
    ($(#[$doc:meta])* $slots:ident, $table:ident; $($slot:ident $name:literal $shape:expr;)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(super) enum $slots { $($slot),+ }

        const $table: &[Entry] = &[$(Entry { name: $name, shape: $shape }),+];

        impl $slots {
            /// How many there are.
            pub(super) const COUNT: usize = $table.len();
        }
    };
}

use Shape::{Absent, Experts, Groups, Integers, Matrix, Vector};

tensors! {
    /// The tensors outside the layers.
    HeadSlot, HEAD;
    TokenEmbd   "token_embd.weight"      |c, _| Matrix(c.vocab, c.hidden);
    HyperFn     "output_hc_fn.weight"    |c, _| Matrix(c.streams, c.streams * c.hidden);
    HyperBase   "output_hc_base.weight"  |c, _| Vector(c.streams);
    HyperScale  "output_hc_scale.weight" |_, _| Vector(1);
    OutputNorm  "output_norm.weight"     |c, _| Vector(c.hidden);
    Output      "output.weight"          |c, _| Matrix(c.vocab, c.hidden);
}

tensors! {
    /// The tensors of a layer.
    LayerSlot, LAYER;
    HyperAttnFn    "hc_attn_fn.weight"      |c, _| Matrix(mixes(c), c.streams * c.hidden);
    HyperAttnBase  "hc_attn_base.weight"    |c, _| Vector(mixes(c));
    HyperAttnScale "hc_attn_scale.weight"   |_, _| Vector(3);
    HyperFfnFn     "hc_ffn_fn.weight"       |c, _| Matrix(mixes(c), c.streams * c.hidden);
    HyperFfnBase   "hc_ffn_base.weight"     |c, _| Vector(mixes(c));
    HyperFfnScale  "hc_ffn_scale.weight"    |_, _| Vector(3);

    AttnNorm       "attn_norm.weight"       |c, _| Vector(c.hidden);
    QA             "attn_q_a.weight"        |c, _| Matrix(c.q_rank, c.hidden);
    QANorm         "attn_q_a_norm.weight"   |c, _| Vector(c.q_rank);
    QB             "attn_q_b.weight"        |c, _| Matrix(c.heads * c.head_size, c.q_rank);
    Kv             "attn_kv.weight"         |c, _| Matrix(c.head_size, c.hidden);
    KvNorm         "attn_kv_a_norm.weight"  |c, _| Vector(c.head_size);
    Sinks          "attn_sinks.weight"      |c, _| Vector(c.heads);
    OutputA        "attn_output_a.weight"
        |c, _| Groups(c.output_groups, c.output_rank, c.heads / c.output_groups * c.head_size);
    OutputB        "attn_output_b.weight"   |c, _| Matrix(c.hidden, c.output_groups * c.output_rank);

    CompressorKv   "attn_compressor_kv.weight"     |c, i| compressor(c, i, |s, _| Matrix(s, c.hidden));
    CompressorGate "attn_compressor_gate.weight"   |c, i| compressor(c, i, |s, _| Matrix(s, c.hidden));
    CompressorApe  "attn_compressor_ape.weight"    |c, i| compressor(c, i, |s, m| Matrix(m, s));
    CompressorNorm "attn_compressor_norm.weight"   |c, i| compressor(c, i, |_, _| Vector(c.head_size));

    IndexerQB      "indexer.attn_q_b.weight"
        |c, i| indexer(c, i, Matrix(c.indexer_heads * c.indexer_size, c.q_rank));
    IndexerProj    "indexer.proj.weight"           |c, i| indexer(c, i, Matrix(c.indexer_heads, c.hidden));
    IndexerKv      "indexer_compressor_kv.weight"  |c, i| indexer(c, i, Matrix(2 * c.indexer_size, c.hidden));
    IndexerGate    "indexer_compressor_gate.weight" |c, i| indexer(c, i, Matrix(2 * c.indexer_size, c.hidden));
    IndexerApe     "indexer_compressor_ape.weight" |c, i| indexer(c, i, Matrix(4, 2 * c.indexer_size));
    IndexerNorm    "indexer_compressor_norm.weight" |c, i| indexer(c, i, Vector(c.indexer_size));

    FfnNorm        "ffn_norm.weight"        |c, _| Vector(c.hidden);
    Router         "ffn_gate_inp.weight"    |c, _| Matrix(c.experts, c.hidden);
    HashTable      "ffn_gate_tid2eid.weight"
        |c, i| if i < c.hash_layers { Integers(c.vocab, c.experts_used) } else { Absent };
    Bias           "exp_probs_b.bias"       |c, i| if i < c.hash_layers { Absent } else { Vector(c.experts) };
    Gate           "ffn_gate_exps.weight"   |c, _| Experts(c.experts, c.expert_hidden, c.hidden);
    Up             "ffn_up_exps.weight"     |c, _| Experts(c.experts, c.expert_hidden, c.hidden);
    Down           "ffn_down_exps.weight"   |c, _| Experts(c.experts, c.hidden, c.expert_hidden);
    SharedGate     "ffn_gate_shexp.weight"  |c, _| shared(c, |inner| Matrix(inner, c.hidden));
    SharedUp       "ffn_up_shexp.weight"    |c, _| shared(c, |inner| Matrix(inner, c.hidden));
    SharedDown     "ffn_down_shexp.weight"  |c, _| shared(c, |inner| Matrix(c.hidden, inner));
}

/// (2+n)*n: pre and post weights of n streams, and their n*n combination.
fn mixes(c: &Config) -> usize {
    (2 + c.streams) * c.streams
}

/// A compressor's tensor, of its width (d, or 2d where windows overlap) and its ratio m.
fn compressor(c: &Config, layer: usize, shape: impl Fn(usize, usize) -> Shape) -> Shape {
    match c.ratios.get(layer) {
        Some(&Ratio::Heavy(m)) => shape(c.head_size, m),
        Some(Ratio::Sparse) => shape(2 * c.head_size, 4),
        _ => Absent,
    }
}

fn indexer(c: &Config, layer: usize, shape: Shape) -> Shape {
    if c.ratios.get(layer) == Some(&Ratio::Sparse) { shape } else { Absent }
}

/// The shared experts' tensor, of their inner sizes' sum.
fn shared(c: &Config, shape: impl Fn(usize) -> Shape) -> Shape {
    if c.shared_experts > 0 { shape(c.shared_experts * c.expert_hidden) } else { Absent }
}

impl<'a> Weights<'a> {
    /// The records that [`Weights::bind`] needs for a model of these sizes.
    pub(crate) const fn record_count(config: &Config) -> usize {
        HeadSlot::COUNT + config.layers * LayerSlot::COUNT
    }

    /// Finds every tensor in the directories of `shards`, which are all of a model's files. `records` and `order` are
    /// zeroed and [`Weights::record_count`] long; `order` is scratch. Tensors that the model does not know are passed
    /// over, those of MTP modules among them.
    pub(crate) fn bind(
        shards: &'a [&'a [u8]],
        config: &Config,
        records: &'a mut [Record],
        order: &mut [u32],
        report: &mut dyn FnMut(f32) -> Result<()>,
    ) -> Result<Self> {
        for (bytes, shard) in shards.iter().zip(0_u32..) {
            let file = Gguf::parse(bytes)?;
            for tensor in file.tensors() {
                let Some((index, shape)) = find(tensor.name, config) else { continue };
                let Some(slot) = records.get_mut(index) else { continue };
                if slot.is_bound() {
                    return Err(Error::DuplicateTensor { name: tensor.name.into() });
                }
                *slot = record(&file, &tensor, shape, shard)?;
            }
            report((shard + 1) as f32 / (shards.len() + 1) as f32)?;
        }
        for (index, record) in records.iter().enumerate() {
            // Without an output matrix of its own the model uses the embedding, as llama.cpp does.
            let may_miss = index == HeadSlot::Output as usize || matches!(shape_at(index, config), Absent);
            if !record.is_bound() && !may_miss {
                return Err(Error::MissingTensor { name: name_at(index) });
            }
        }
        refuse_overlaps(records, order)?;
        Ok(Self { shards, records })
    }
}

/// The record's index and shape of the tensor `name`; `None` if the model has no such tensor.
fn find(name: &str, config: &Config) -> Option<(usize, Shape)> {
    let position = |table: &[Entry], name: &str| table.iter().position(|entry| entry.name == name);
    let index = match name.strip_prefix("blk.") {
        None => position(HEAD, name)?,
        Some(rest) => {
            let (number, name) = rest.split_once('.')?;
            // Digits only, and no zero before others: a layer has one name.
            let plain = number.bytes().all(|b| b.is_ascii_digit()) && (number.len() == 1 || !number.starts_with('0'));
            let layer = number.parse::<usize>().ok().filter(|&layer| plain && layer < config.layers)?;
            HeadSlot::COUNT + layer * LayerSlot::COUNT + position(LAYER, name)?
        }
    };
    match shape_at(index, config) {
        Absent => None,
        shape => Some((index, shape)),
    }
}

/// The table's entry of record `index`, and its layer.
fn entry_at(index: usize) -> Option<(&'static Entry, Option<usize>)> {
    match index.checked_sub(HeadSlot::COUNT) {
        None => Some((HEAD.get(index)?, None)),
        Some(i) => Some((LAYER.get(i % LayerSlot::COUNT)?, Some(i / LayerSlot::COUNT))),
    }
}

fn shape_at(index: usize, config: &Config) -> Shape {
    entry_at(index).map_or(Absent, |(entry, layer)| (entry.shape)(config, layer.unwrap_or(0)))
}

/// The full name of the tensor of record `index`.
fn name_at(index: usize) -> Name {
    struct Text {
        bytes: [u8; Name::MAX],
        len: usize,
    }
    impl Write for Text {
        fn write_str(&mut self, s: &str) -> core::fmt::Result {
            let end = self.len + s.len();
            self.bytes.get_mut(self.len..end).ok_or(core::fmt::Error)?.copy_from_slice(s.as_bytes());
            self.len = end;
            Ok(())
        }
    }
    let mut text = Text { bytes: [0; Name::MAX], len: 0 };
    // What does not fit is left off, as in every name of an error.
    let _ = match entry_at(index) {
        Some((entry, Some(layer))) => write!(text, "blk.{layer}.{}", entry.name),
        Some((entry, None)) => text.write_str(entry.name),
        None => Ok(()),
    };
    Name::new(text.bytes.get(..text.len).unwrap_or(&[]))
}

/// Checks `tensor`'s shape, type and place, and writes them down.
fn record(file: &Gguf<'_>, tensor: &TensorInfo<'_>, shape: Shape, shard: u32) -> Result<Record> {
    let name = Name::from(tensor.name);
    let bad_shape = Error::BadShape { name };
    let bad_type = Error::BadTensorType { name, dtype: tensor.dtype };

    let is = |dims: [usize; 3]| {
        let [cols, rows, experts, rest] = tensor.padded_dims();
        rest == 1 && [cols, rows, experts] == dims.map(|d| d as u64)
    };
    let (fits, part_rows, rows, cols) = match shape {
        Absent => (false, 0, 0, 0),
        Vector(n) => (is([n, 1, 1]), 1, 1, n),
        Matrix(rows, cols) | Integers(rows, cols) => (is([cols, rows, 1]), rows, rows, cols),
        Groups(groups, rows, cols) => {
            (is([cols, groups * rows, 1]) || is([cols, rows, groups]), groups * rows, groups * rows, cols)
        }
        Experts(experts, rows, cols) => (is([cols, rows, experts]), rows, experts * rows, cols),
    };
    if !fits {
        return Err(bad_shape);
    }
    let dtype = tensor.known_type().ok_or(bad_type)?;
    if matches!(shape, Integers(..)) != (dtype == DType::I32) {
        return Err(bad_type);
    }
    let bytes = tensor.bytes().ok_or(bad_shape)?;
    let offset = file.data_offset(tensor, bytes)?;
    let fit = |size: usize| u32::try_from(size).map_err(|_| bad_shape);
    Ok(Record {
        offset,
        bytes,
        dtype: dtype as u32,
        shard,
        rows: fit(rows)?,
        cols: fit(cols)?,
        part_rows: fit(part_rows)?,
        ..Record::default()
    })
}

/// [`Error::BadOffset`] if two bound tensors share a byte. `order` becomes the records' indices by place.
fn refuse_overlaps(records: &[Record], order: &mut [u32]) -> Result<()> {
    let place = |index: u32| records.get(index as usize).map_or((0, 0, 0), |r| (r.shard, r.offset, r.bytes));
    for (slot, index) in order.iter_mut().zip(0..) {
        *slot = index;
    }
    order.sort_unstable_by_key(|&index| place(index));
    let mut end = (0, 0);
    for &index in order.iter() {
        let (shard, offset, bytes) = place(index);
        if bytes == 0 {
            continue;
        }
        if (shard, offset) < end {
            return Err(Error::BadOffset { name: name_at(index as usize) });
        }
        end = (shard, offset + bytes);
    }
    Ok(())
}
