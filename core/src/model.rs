//! The model: immutable and shareable, borrowing its files' bytes and one region of the caller's memory.

use crate::arena::Arena;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::format::gguf::{Gguf, TensorInfo, Value};
use crate::format::split;
use crate::kernel::rope;
use crate::weights::{Record, Weights};

/// A loaded model. It never changes: any number of sessions, on any threads, may share it.
///
/// ```text
/// let need = Model::plan(&[file])?;              // bytes of model memory, from the header alone
/// let model = Model::load(&[file], &mut memory[..need], &mut |_| true)?;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    shards: &'a [&'a [u8]],
    header: Gguf<'a>,
    config: Config,
    weights: Weights<'a>,
    /// [r/2] radians a position, of layers that see the window only.
    rope_window: &'a [f64],
    /// [r/2] radians a position, of compressed layers.
    rope_compress: &'a [f64],
}

/// Model memory.
struct Region<'a> {
    records: &'a mut [Record],
    /// Scratch of the overlap check: the records in the order of their bytes.
    order: &'a mut [u32],
    rope_window: &'a mut [f64],
    rope_compress: &'a mut [f64],
}

impl<'a> Region<'a> {
    fn carve(arena: &mut Arena<'a>, config: &Config) -> Result<Self> {
        let records = Weights::record_count(config);
        Ok(Self {
            records: arena.take_zeroed(records)?,
            order: arena.take_zeroed(records)?,
            rope_window: arena.take_zeroed(config.rotary / 2)?,
            rope_compress: arena.take_zeroed(config.rotary / 2)?,
        })
    }
}

impl<'a> Model<'a> {
    /// The bytes of model memory that [`Model::load`] needs for `shards`: one GGUF file, or all its splits in order.
    /// Their headers are enough: the tensors' data may be cut off.
    pub fn plan(shards: &[&[u8]]) -> Result<usize> {
        let (_, config) = Self::read_headers(shards)?;
        Self::plan_for(&config)
    }

    fn read_headers<'b>(shards: &[&'b [u8]]) -> Result<(Gguf<'b>, Config)> {
        let header = split::open(shards)?;
        let parts = shards.iter().filter_map(|bytes| Gguf::parse(bytes).ok());
        Ok((header, Config::from_parts(&header, parts)?))
    }

    fn plan_for(config: &Config) -> Result<usize> {
        let mut arena = Arena::counting();
        Region::carve(&mut arena, config)?;
        Ok(arena.used())
    }

    /// Finds and checks every tensor. `memory` must start at a multiple of [`crate::arena::ALIGN`] and hold
    /// [`Model::plan`]'s bytes. Only headers are read, never the tensors' data, so the time does not depend on the
    /// files' sizes. `progress` is told the fraction done; its `false` gives [`Error::Cancelled`].
    pub fn load(shards: &'a [&'a [u8]], memory: &'a mut [u8], progress: &mut dyn FnMut(f32) -> bool) -> Result<Self> {
        let mut report = |done: f32| if progress(done) { Ok(()) } else { Err(Error::Cancelled) };
        report(0.0)?;
        let (header, config) = Self::read_headers(shards)?;
        let mut arena = Arena::new(memory)?;
        arena.check(Self::plan_for(&config)?)?;
        let region = Region::carve(&mut arena, &config)?;
        let weights = Weights::bind(shards, &config, region.records, region.order, &mut report)?;
        rope::frequencies(config.rope_base, None, region.rope_window);
        rope::frequencies(config.compress_rope_base, config.yarn.as_ref(), region.rope_compress);
        report(1.0)?;
        let (rope_window, rope_compress) = (region.rope_window, region.rope_compress);
        Ok(Self { shards, header, config, weights, rope_window, rope_compress })
    }

    /// The sizes.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The tensors.
    pub const fn weights(&self) -> &Weights<'a> {
        &self.weights
    }

    /// Tells models apart: a hash of everything in [`Config`] that a result depends on, and of every tensor's place in
    /// the model, type, shape, and 128 of its bytes (the first 64, and as many from the middle on).
    ///
    /// The same for one file and its splits, and whatever the tensors' order, names of the file, metadata or tokenizer.
    /// Models that differ in a few weights only may have the same; nobody who wants to deceive is kept from it. Reads two
    /// pages of each tensor at most.
    pub fn fingerprint(&self) -> u64 {
        self.weights.fingerprint(self.config.fingerprint())
    }

    /// Rotary frequencies [r/2] of layers that see the window only, in radians a position.
    pub const fn rope_window(&self) -> &'a [f64] {
        self.rope_window
    }

    /// Rotary frequencies [r/2] of compressed layers, YaRN included.
    pub const fn rope_compress(&self) -> &'a [f64] {
        self.rope_compress
    }

    /// The header that speaks for the model: the only file's, or the first split's. Its
    /// [`tokenizer`](Gguf::tokenizer) is the model's.
    pub const fn header(&self) -> &Gguf<'a> {
        &self.header
    }

    /// The model's metadata, in the file's order.
    pub fn metadata(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        self.header.metadata()
    }

    /// Every tensor of every file, those that the model does not use included.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'a>> + use<'a> {
        self.shards.iter().filter_map(|bytes| Gguf::parse(bytes).ok()).flat_map(|file| file.tensors())
    }
}
