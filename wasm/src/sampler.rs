//! From logits to a token.

use crate::error::Failure;
use dsv4_core::sampler::{Sampler as CoreSampler, Sampling};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// A way of choosing, and the state of its randomness.
#[wasm_bindgen]
pub struct Sampler(pub(crate) CoreSampler);

#[wasm_bindgen]
impl Sampler {
    /// The parameters are those of hosted APIs; `seed` makes the choices reproducible, on every machine.
    #[wasm_bindgen(constructor)]
    #[allow(clippy::too_many_arguments, reason = "one a parameter; the package names them")]
    pub fn new(
        temperature: f32,
        top_k: u32,
        top_p: f32,
        min_p: f32,
        repetition: f32,
        presence: f32,
        frequency: f32,
        seed: u64,
    ) -> Result<Self, JsValue> {
        let sampling = Sampling { temperature, top_k, top_p, min_p, repetition, presence, frequency };
        sampling.check().map_err(Failure)?;
        Ok(Self(CoreSampler::new(sampling, seed)))
    }
}
