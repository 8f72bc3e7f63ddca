//! Names -> typed views: every tensor of the model, found once, its shape checked against the sizes, then trusted.

use crate::tensor::{Experts, IntTable, Matrix};

/// A vector of weights: a [`Matrix`] of one row.
pub type Vector<'a> = Matrix<'a>;

/// The mixing weights of one hyper-connection (before attention, before the experts, or before the head).
#[derive(Clone, Copy, Debug)]
pub struct Hyper<'a> {
    /// [(2+n)*n, n*D] in a layer, [n, n*D] in the head.
    pub fn_: Matrix<'a>,
    /// [(2+n)*n] in a layer, [n] in the head.
    pub base: Vector<'a>,
    /// [3] in a layer, [1] in the head.
    pub scale: Vector<'a>,
}

/// The attention of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// [q rank, D]
    pub q_a: Matrix<'a>,
    /// [q rank]
    pub q_a_norm: Vector<'a>,
    /// [H*d, q rank]
    pub q_b: Matrix<'a>,
    /// [d, D]
    pub kv: Matrix<'a>,
    /// [d]
    pub kv_norm: Vector<'a>,
    /// [H]
    pub sinks: Vector<'a>,
    /// [G*o rank, H/G*d]: G groups of o rank rows, each over its own H/G heads.
    pub output_a: Matrix<'a>,
    /// [D, G*o rank]
    pub output_b: Matrix<'a>,
}

/// A compressor: c = 2 for ratio 4 (overlapping windows), else 1; s is the head size it serves (d, or the indexer's).
#[derive(Clone, Copy, Debug)]
pub struct Compressor<'a> {
    /// [c*s, D]
    pub kv: Matrix<'a>,
    /// [c*s, D]
    pub gate: Matrix<'a>,
    /// [m, c*s]
    pub ape: Matrix<'a>,
    /// [s]
    pub norm: Vector<'a>,
}

/// The indexer of a layer of ratio 4.
#[derive(Clone, Copy, Debug)]
pub struct Indexer<'a> {
    /// [indexer heads * indexer size, q rank]
    pub q_b: Matrix<'a>,
    /// [indexer heads, D]
    pub proj: Matrix<'a>,
    /// Its own compressor, at the indexer's head size.
    pub compressor: Compressor<'a>,
}

/// How a layer chooses its experts.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// By token id: [V, k] expert numbers.
    Hash(IntTable<'a>),
    /// The top k of score + bias, bias [E].
    Score(Vector<'a>),
}

/// The gate, up and down matrices of one SwiGLU: [I, D], [I, D], [D, I].
#[derive(Clone, Copy, Debug)]
pub struct SwiGlu<'a> {
    /// W1 [I, D]
    pub gate: Matrix<'a>,
    /// W3 [I, D]
    pub up: Matrix<'a>,
    /// W2 [D, I]
    pub down: Matrix<'a>,
}

/// The mixture of experts of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Moe<'a> {
    /// [E, D]
    pub router: Matrix<'a>,
    /// Hash table or bias.
    pub choice: Choice<'a>,
    /// [E, I, D]
    pub gate: Experts<'a>,
    /// [E, I, D]
    pub up: Experts<'a>,
    /// [E, D, I]
    pub down: Experts<'a>,
    /// The shared expert(s): I times their number; `None` when the model has none.
    pub shared: Option<SwiGlu<'a>>,
}

/// One layer.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Mixing before attention.
    pub hyper_attn: Hyper<'a>,
    /// [D]
    pub attn_norm: Vector<'a>,
    /// Attention proper.
    pub attention: Attention<'a>,
    /// For ratios above 0.
    pub compressor: Option<Compressor<'a>>,
    /// For ratio 4.
    pub indexer: Option<Indexer<'a>>,
    /// Mixing before the experts.
    pub hyper_ffn: Hyper<'a>,
    /// [D]
    pub ffn_norm: Vector<'a>,
    /// The experts.
    pub moe: Moe<'a>,
}

/// What stands outside the layers.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// [V, D]
    pub token_embd: Matrix<'a>,
    /// Mixing of the streams into one.
    pub hyper: Hyper<'a>,
    /// [D]
    pub output_norm: Vector<'a>,
    /// [V, D]
    pub output: Matrix<'a>,
}
