//! What depends on the processor, and the only `unsafe` of this crate: disjoint parallel writes, and SIMD kernels.
#![allow(unsafe_code)]

pub mod disjoint;
pub mod integer;
pub mod level;
#[cfg(target_arch = "x86_64")]
mod x86_64;
