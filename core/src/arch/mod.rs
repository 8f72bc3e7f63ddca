//! What depends on the processor, and the only `unsafe` of this crate: disjoint parallel writes, and SIMD kernels.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod disjoint;
pub mod float;
pub mod integer;
#[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
mod lanes;
pub mod level;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm32;
#[cfg(target_arch = "x86_64")]
mod x86_64;
