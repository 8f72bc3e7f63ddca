//! Kernels: what the blocks are made of. Scalar code is the specification of each.

pub mod acts;
pub mod math;
pub mod matmul;
pub mod norm;
pub mod rope;
pub mod top_k;

use crate::arch::disjoint::Parallel;
use crate::arch::level::Level;

/// How matrices are multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatmulMode {
    /// f32 activations against dequantized weights.
    Exact,
    /// Activations in 8-bit blocks, integer dot products, where the weights are quantized too.
    #[default]
    Fast,
}

/// What every kernel needs to know beside its operands.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Who runs parallel work.
    pub parallel: &'a dyn Parallel,
    /// How matrices are multiplied.
    pub matmul: MatmulMode,
    /// The instructions that kernels may use; never changes results.
    pub level: Level,
}
