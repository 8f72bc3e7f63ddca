//! What depends on the processor, and the only `unsafe` of this crate: disjoint parallel writes, and SIMD kernels.
#![allow(unsafe_code)]

pub mod disjoint;
