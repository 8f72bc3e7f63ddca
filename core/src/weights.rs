//! Names -> typed views: every tensor of the model, found once, its shape checked against the sizes, then trusted.

mod bind;

use crate::dtype::DType;
use crate::hash::xxh64;
use crate::tensor::{Experts, IntTable, Matrix};
use bind::{HeadSlot, LayerSlot};
use bytemuck::{Pod, Zeroable};

/// A vector of weights: a [`Matrix`] of one row.
pub type Vector<'a> = Matrix<'a>;

/// The mixing weights of one hyper-connection (before attention, before the experts, or before the head).
#[derive(Clone, Copy, Debug)]
pub struct Hyper<'a> {
    /// `[(2+n)*n, n*D]` in a layer, `[n, n*D]` in the head.
    pub fn_: Matrix<'a>,
    /// `[(2+n)*n]` in a layer, `[n]` in the head.
    pub base: Vector<'a>,
    /// `[3]` in a layer, `[1]` in the head.
    pub scale: Vector<'a>,
}

/// The attention of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// `[q rank, D]`
    pub q_a: Matrix<'a>,
    /// `[q rank]`
    pub q_a_norm: Vector<'a>,
    /// `[H*d, q rank]`
    pub q_b: Matrix<'a>,
    /// `[d, D]`
    pub kv: Matrix<'a>,
    /// `[d]`
    pub kv_norm: Vector<'a>,
    /// `[H]`
    pub sinks: Vector<'a>,
    /// `[G*o rank, H/G*d]`: G groups of o rank rows, each over its own H/G heads.
    pub output_a: Matrix<'a>,
    /// `[D, G*o rank]`
    pub output_b: Matrix<'a>,
}

/// A compressor: c = 2 for ratio 4 (overlapping windows), else 1; s is the head size it serves (d, or the indexer's).
#[derive(Clone, Copy, Debug)]
pub struct Compressor<'a> {
    /// `[c*s, D]`
    pub kv: Matrix<'a>,
    /// `[c*s, D]`
    pub gate: Matrix<'a>,
    /// `[m, c*s]`
    pub ape: Matrix<'a>,
    /// `[s]`
    pub norm: Vector<'a>,
}

/// The indexer of a layer of ratio 4.
#[derive(Clone, Copy, Debug)]
pub struct Indexer<'a> {
    /// `[indexer heads * indexer size, q rank]`
    pub q_b: Matrix<'a>,
    /// `[indexer heads, D]`
    pub proj: Matrix<'a>,
    /// Its own compressor, at the indexer's head size.
    pub compressor: Compressor<'a>,
}

/// How a layer chooses its experts.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// By token id: `[V, k]` expert numbers.
    Hash(IntTable<'a>),
    /// The top k of score + bias, bias `[E]`.
    Score(Vector<'a>),
}

/// The gate, up and down matrices of one SwiGLU: `[I, D]`, `[I, D]`, `[D, I]`.
#[derive(Clone, Copy, Debug)]
pub struct SwiGlu<'a> {
    /// W1 `[I, D]`
    pub gate: Matrix<'a>,
    /// W3 `[I, D]`
    pub up: Matrix<'a>,
    /// W2 `[D, I]`
    pub down: Matrix<'a>,
}

/// The mixture of experts of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Moe<'a> {
    /// `[E, D]`
    pub router: Matrix<'a>,
    /// Hash table or bias.
    pub choice: Choice<'a>,
    /// `[E, I, D]`
    pub gate: Experts<'a>,
    /// `[E, I, D]`
    pub up: Experts<'a>,
    /// `[E, D, I]`
    pub down: Experts<'a>,
    /// The shared expert(s): I times their number; `None` when the model has none.
    pub shared: Option<SwiGlu<'a>>,
}

/// One layer.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Mixing before attention.
    pub hyper_attn: Hyper<'a>,
    /// `[D]`
    pub attn_norm: Vector<'a>,
    /// Attention proper.
    pub attention: Attention<'a>,
    /// For ratios above 0.
    pub compressor: Option<Compressor<'a>>,
    /// For ratio 4.
    pub indexer: Option<Indexer<'a>>,
    /// Mixing before the experts.
    pub hyper_ffn: Hyper<'a>,
    /// `[D]`
    pub ffn_norm: Vector<'a>,
    /// The experts.
    pub moe: Moe<'a>,
}

/// What stands outside the layers.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// `[V, D]`
    pub token_embd: Matrix<'a>,
    /// Mixing of the streams into one.
    pub hyper: Hyper<'a>,
    /// `[D]`
    pub output_norm: Vector<'a>,
    /// `[V, D]`
    pub output: Matrix<'a>,
}

/// Where a tensor lies and what it is: what binding writes into model memory. All zeros: no such tensor.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Record {
    /// Where its bytes begin in its file.
    offset: u64,
    /// Its bytes; never 0.
    bytes: u64,
    /// Where its scales begin in their file (official types only).
    scales_offset: u64,
    /// Bytes of the scales.
    scales_bytes: u64,
    /// Its file.
    shard: u32,
    /// The scales' file.
    scales_shard: u32,
    /// [`DType`]'s number.
    dtype: u32,
    /// All rows, experts under one another.
    rows: u32,
    cols: u32,
    /// Rows of one expert.
    part_rows: u32,
}

impl Record {
    const fn is_bound(&self) -> bool {
        self.bytes > 0
    }
}

/// Every tensor of a model, bound: names, shapes, types and places are checked. Views are made when asked for.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    shards: &'a [&'a [u8]],
    /// The head's, then each layer's.
    records: &'a [Record],
}

impl<'a> Weights<'a> {
    /// The views of layer `layer`, which must be one of the model's: past them every view is empty.
    pub fn layer(&self, layer: usize) -> Layer<'a> {
        use LayerSlot as S;
        let start = layer.checked_mul(LayerSlot::COUNT).and_then(|n| n.checked_add(HeadSlot::COUNT));
        let records = start.and_then(|start| self.records.get(start..)).unwrap_or(&[]);
        let part = Part { shards: self.shards, records };
        let matrix = |slot: S| part.matrix(slot as usize);
        let experts = |slot: S| part.experts(slot as usize);
        let has = |slot: S| part.get(slot as usize).is_some();
        let hyper = |fn_, base, scale| Hyper { fn_: matrix(fn_), base: matrix(base), scale: matrix(scale) };
        let compressor = |kv, gate, ape, norm| Compressor {
            kv: matrix(kv),
            gate: matrix(gate),
            ape: matrix(ape),
            norm: matrix(norm),
        };
        Layer {
            hyper_attn: hyper(S::HyperAttnFn, S::HyperAttnBase, S::HyperAttnScale),
            attn_norm: matrix(S::AttnNorm),
            attention: Attention {
                q_a: matrix(S::QA),
                q_a_norm: matrix(S::QANorm),
                q_b: matrix(S::QB),
                kv: matrix(S::Kv),
                kv_norm: matrix(S::KvNorm),
                sinks: matrix(S::Sinks),
                output_a: matrix(S::OutputA),
                output_b: matrix(S::OutputB),
            },
            compressor: has(S::CompressorKv)
                .then(|| compressor(S::CompressorKv, S::CompressorGate, S::CompressorApe, S::CompressorNorm)),
            indexer: has(S::IndexerQB).then(|| Indexer {
                q_b: matrix(S::IndexerQB),
                proj: matrix(S::IndexerProj),
                compressor: compressor(S::IndexerKv, S::IndexerGate, S::IndexerApe, S::IndexerNorm),
            }),
            hyper_ffn: hyper(S::HyperFfnFn, S::HyperFfnBase, S::HyperFfnScale),
            ffn_norm: matrix(S::FfnNorm),
            moe: Moe {
                router: matrix(S::Router),
                choice: if has(S::HashTable) {
                    Choice::Hash(part.integers(S::HashTable as usize))
                } else {
                    Choice::Score(matrix(S::Bias))
                },
                gate: experts(S::Gate),
                up: experts(S::Up),
                down: experts(S::Down),
                shared: has(S::SharedGate).then(|| SwiGlu {
                    gate: matrix(S::SharedGate),
                    up: matrix(S::SharedUp),
                    down: matrix(S::SharedDown),
                }),
            },
        }
    }

    /// The views of what stands outside the layers.
    pub fn head(&self) -> Head<'a> {
        use HeadSlot as S;
        let part = Part { shards: self.shards, records: self.records };
        let matrix = |slot: S| part.matrix(slot as usize);
        let output = if part.get(S::Output as usize).is_some() { S::Output } else { S::TokenEmbd };
        Head {
            token_embd: matrix(S::TokenEmbd),
            hyper: Hyper { fn_: matrix(S::HyperFn), base: matrix(S::HyperBase), scale: matrix(S::HyperScale) },
            output_norm: matrix(S::OutputNorm),
            output: matrix(output),
        }
    }

    /// A hash of every tensor's slot, type, shape and some bytes: see [`Model::fingerprint`](crate::model::Model).
    pub(crate) fn fingerprint(&self, seed: u64) -> u64 {
        const SAMPLE: u64 = 64;
        let part = Part { shards: self.shards, records: self.records };
        let mut hash = seed;
        for (slot, r) in (0_u32..).zip(self.records).filter(|(_, r)| r.is_bound()) {
            let what = [slot, r.dtype, r.rows, r.cols, r.part_rows].map(u32::to_le_bytes);
            hash = xxh64(what.as_flattened(), hash);
            let mut sample = |shard, start: u64, bytes: u64| {
                for at in [0, bytes / 2] {
                    let sampled = part.bytes(shard, start + at, SAMPLE.min(bytes - at));
                    hash = xxh64(sampled.unwrap_or(&[]), hash);
                }
            };
            sample(r.shard, r.offset, r.bytes);
            sample(r.scales_shard, r.scales_offset, r.scales_bytes);
        }
        hash
    }

    /// Bytes of all bound tensors.
    pub fn bytes(&self) -> u64 {
        self.records.iter().map(|record| record.bytes + record.scales_bytes).sum()
    }
}

/// The records from one layer's first on, or from the head's, as views. Binding has checked what the constructors check
/// again, so none of them fails; the empty view in its place keeps that claim from being a panic.
struct Part<'a> {
    shards: &'a [&'a [u8]],
    records: &'a [Record],
}

impl<'a> Part<'a> {
    fn get(&self, slot: usize) -> Option<&'a Record> {
        self.records.get(slot).filter(|record| record.is_bound())
    }

    /// `bytes` bytes at `offset` of file `shard`.
    fn bytes(&self, shard: u32, offset: u64, bytes: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(offset).ok()?;
        self.shards.get(shard as usize)?.get(start..)?.get(..usize::try_from(bytes).ok()?)
    }

    fn matrix(&self, slot: usize) -> Matrix<'a> {
        let view = || {
            let r = self.get(slot)?;
            let data = self.bytes(r.shard, r.offset, r.bytes)?;
            let scales = self.bytes(r.scales_shard, r.scales_offset, r.scales_bytes)?;
            Matrix::new(DType::from_number(r.dtype)?, r.rows as usize, r.cols as usize, data, scales)
        };
        view().unwrap_or(Matrix::EMPTY)
    }

    fn experts(&self, slot: usize) -> Experts<'a> {
        let rows = self.get(slot).map_or(0, |r| r.part_rows as usize);
        Experts::new(self.matrix(slot), rows).unwrap_or(Experts::EMPTY)
    }

    fn integers(&self, slot: usize) -> IntTable<'a> {
        let view = || {
            let r = self.get(slot)?;
            IntTable::new(r.rows as usize, r.cols as usize, self.bytes(r.shard, r.offset, r.bytes)?)
        };
        view().unwrap_or(IntTable::EMPTY)
    }
}
