//! What a session remembers of the tokens it has seen: per layer a window of keys, the compressors' recent inputs, and
//! the compressed entries.
//!
//! Everything is appended by position and found by position: the window and the compressors' inputs live in rings that
//! keep `batch + rewind` rows more than the mathematics needs. So a batch that fails half-way changes nothing that the
//! session still reads, going back up to `rewind` tokens is a matter of setting the position, and any split of the
//! input into calls computes an entry from the very same rows.

use crate::arena::Arena;
use crate::config::{Config, MAX_HEAD_SIZE, Ratio};
use crate::error::{Error, Result};
use core::ops::Range;

/// How keys and entries are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheFormat {
    /// f32, as computed.
    #[default]
    F32,
}

impl CacheFormat {
    /// Bytes of one stored vector of `size` values.
    pub const fn bytes(self, size: usize) -> usize {
        match self {
            Self::F32 => size * 4,
        }
    }
}

/// Stored vectors of one size.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'a> {
    format: CacheFormat,
    size: usize,
    bytes: &'a [u8],
}

impl<'a> Entries<'a> {
    /// Vector `i`, `size` values in f32, where it lies.
    #[inline(always)]
    pub fn get(&self, i: usize) -> &'a [f32] {
        let stride = self.format.bytes(self.size);
        match self.format {
            // The cache's memory is made of whole f32.
            CacheFormat::F32 => bytemuck::try_cast_slice(&self.bytes[i * stride..][..stride]).unwrap_or(&[]),
        }
    }
}

/// The same, to be written.
#[derive(Debug)]
pub struct EntriesMut<'a> {
    format: CacheFormat,
    size: usize,
    bytes: &'a mut [u8],
}

impl EntriesMut<'_> {
    /// For reading.
    pub const fn view(&self) -> Entries<'_> {
        Entries { format: self.format, size: self.size, bytes: self.bytes }
    }

    /// Bytes of one vector.
    pub const fn stride(&self) -> usize {
        self.format.bytes(self.size)
    }

    /// The bytes of vectors `first..first + count`, one after another ([`store`] writes one).
    pub fn bytes(&mut self, first: usize, count: usize) -> &mut [u8] {
        let stride = self.stride();
        &mut self.bytes[first * stride..][..count * stride]
    }

    /// Stores `values`, `size` of them, as vector `i`.
    pub fn set(&mut self, i: usize, values: &[f32]) {
        let format = self.format;
        store(format, values, self.bytes(i, 1));
    }

    /// Stores what `fill` gives as the first `count` vectors.
    fn fill(&mut self, count: usize, fill: &mut dyn FnMut(&mut [f32])) {
        let mut values = [0.0; MAX_HEAD_SIZE];
        let values = &mut values[..self.size];
        for i in 0..count {
            fill(values);
            self.set(i, values);
        }
    }

    /// How they are stored.
    pub const fn format(&self) -> CacheFormat {
        self.format
    }
}

/// Writes one vector into its `bytes`.
pub fn store(format: CacheFormat, values: &[f32], bytes: &mut [u8]) {
    match format {
        CacheFormat::F32 => {
            for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                *bytes = value.to_ne_bytes();
            }
        }
    }
}

/// One compressor's memory.
#[derive(Debug)]
pub struct CompressorCache<'a> {
    /// Ring [ring, c*s] of `c` rows, f32.
    pub values: &'a mut [f32],
    /// Ring [ring, c*s] of `z` rows (without ape), f32.
    pub gates: &'a mut [f32],
    /// Rows of the rings; position p lies at p mod ring.
    pub ring: usize,
    /// [context / m, s] finished entries.
    pub entries: EntriesMut<'a>,
}

/// One layer's memory.
#[derive(Debug)]
pub struct LayerCache<'a> {
    /// Ring [ring, d] of keys.
    pub window: EntriesMut<'a>,
    /// Rows of the window's ring; position p lies at p mod ring.
    pub ring: usize,
    /// For ratios above 0.
    pub compressor: Option<CompressorCache<'a>>,
    /// For ratio 4: the indexer's compressor, its entries are the indexer's keys.
    pub indexer: Option<CompressorCache<'a>>,
}

/// The sizes of a session's cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheParams {
    /// Positions at most.
    pub context: usize,
    /// Tokens evaluated together at most.
    pub batch: usize,
    /// Positions that a session can go back.
    pub rewind: usize,
    /// How entries are stored.
    pub format: CacheFormat,
}

/// Byte lengths of the parts of one layer's memory, in their order.
#[derive(Clone, Copy, Default)]
struct Parts {
    window: usize,
    values: usize,
    entries: usize,
    index_values: usize,
    index_entries: usize,
}

impl Parts {
    fn total(&self) -> Option<usize> {
        let rings = self.values.checked_add(self.index_values)?.checked_mul(2)?;
        self.window.checked_add(rings)?.checked_add(self.entries)?.checked_add(self.index_entries)
    }
}

/// A session's whole cache: the layers' parts one after another.
#[derive(Debug)]
pub struct Cache<'a> {
    params: CacheParams,
    /// [`Parts::total`] bytes a layer, in 4-byte units.
    memory: &'a mut [f32],
}

/// Tokens of a compressor's entry, and rows (c) its windows reach back: 4 tokens overlap two windows.
pub const fn ratio_shape(ratio: Ratio) -> Option<(usize, usize)> {
    match ratio {
        Ratio::Window => None,
        Ratio::Sparse => Some((4, 2)),
        Ratio::Heavy(m) => Some((m, 1)),
    }
}

impl<'a> Cache<'a> {
    /// Carves the cache. [`Error::TooLarge`] when the sizes pass the address space.
    pub fn carve(arena: &mut Arena<'a>, config: &Config, params: CacheParams) -> Result<Self> {
        let mut total = 0usize;
        for layer in 0..config.layers {
            let parts = parts(config, &params, layer).and_then(|p| p.total()).ok_or(Error::TooLarge)?;
            total = total.checked_add(parts).ok_or(Error::TooLarge)?;
        }
        Ok(Self { params, memory: arena.take(total.div_ceil(4))? })
    }

    /// Writes what `position` tokens would have left behind, each vector as `fill` gives it.
    pub fn fill(&mut self, config: &Config, position: usize, fill: &mut dyn FnMut(&mut [f32])) {
        for index in 0..config.layers {
            let mut layer = self.layer(config, index);
            layer.window.fill(layer.ring, fill);
            for cache in [&mut layer.compressor, &mut layer.indexer].into_iter().flatten() {
                let width = cache.values.len() / cache.ring;
                cache.values.chunks_mut(width).for_each(&mut *fill);
                cache.gates.chunks_mut(width).for_each(&mut *fill);
                let m = config.ratios[index].entry_tokens();
                cache.entries.fill(position / m, fill);
            }
        }
    }

    /// Layer `layer`'s memory.
    pub fn layer(&mut self, config: &Config, layer: usize) -> LayerCache<'_> {
        let sizes = |l| parts(config, &self.params, l).unwrap_or_default();
        let start: usize = (0..layer).filter_map(|l| sizes(l).total()).sum();
        let p = sizes(layer);
        let rest = &mut self.memory[start / 4..];
        let (window, rest) = rest.split_at_mut(p.window / 4);
        let (values, rest) = rest.split_at_mut(p.values / 4);
        let (gates, rest) = rest.split_at_mut(p.values / 4);
        let (entries, rest) = rest.split_at_mut(p.entries / 4);
        let (index_values, rest) = rest.split_at_mut(p.index_values / 4);
        let (index_gates, rest) = rest.split_at_mut(p.index_values / 4);
        let index_entries = &mut rest[..p.index_entries / 4];

        let format = self.params.format;
        let make = |size, memory| EntriesMut { format, size, bytes: bytemuck::cast_slice_mut(memory) };
        let shape = ratio_shape(config.ratios[layer]);
        let ring = shape.map_or(0, |(m, c)| compressor_ring(&self.params, m, c));
        LayerCache {
            window: make(config.head_size, window),
            ring: window_ring(config, &self.params),
            compressor: shape.map(|_| CompressorCache {
                values,
                gates,
                ring,
                entries: make(config.head_size, entries),
            }),
            indexer: (config.ratios[layer] == Ratio::Sparse).then(|| CompressorCache {
                values: index_values,
                gates: index_gates,
                ring,
                entries: make(config.indexer_size, index_entries),
            }),
        }
    }
}

/// Rows of one kind in a session's memory, found by their number.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    kind: RowKind,
    /// The byte of [`Cache::bytes`] where row 0 lies.
    start: usize,
    /// Bytes of a row.
    pub stride: usize,
    /// Rows that there is room for: row n lies at n mod ring.
    ring: usize,
}

/// What rows are, and so which of them are live.
#[derive(Clone, Copy, Debug)]
enum RowKind {
    /// A window's keys, one a position.
    Keys { window: usize },
    /// A compressor's c or z, one a position: its tokens an entry, and the windows an entry overlaps.
    Inputs { m: usize, overlap: usize },
    /// Finished entries, one every m positions.
    Entries { m: usize },
}

impl Rows {
    /// The rows that a session at `position` reads, now and after going back to `oldest` at most.
    pub const fn live(&self, oldest: usize, position: usize) -> Range<usize> {
        match self.kind {
            RowKind::Keys { window } => oldest.saturating_sub(window - 1)..position,
            RowKind::Inputs { m, overlap } => (oldest / m * m).saturating_sub((overlap - 1) * m)..position,
            RowKind::Entries { m } => 0..position / m,
        }
    }

    /// Where rows `rows`, no more than there is room for, lie in [`Cache::bytes`]: to the ring's end, and from its start.
    pub fn places(&self, rows: &Range<usize>) -> [Range<usize>; 2] {
        // Without a ring (a context shorter than an entry) there are no rows.
        if rows.start >= rows.end {
            return [0..0, 0..0];
        }
        let (first, count) = (rows.start % self.ring, rows.end - rows.start);
        let before = min(count, self.ring - first);
        let place = |first: usize, count: usize| {
            let start = self.start + first * self.stride;
            start..start + count * self.stride
        };
        [place(first, before), place(0, count - before)]
    }
}

impl Cache<'_> {
    /// All rows there are: layer by layer keys, c, z, entries, and the indexer's c, z and entries.
    pub fn rows<'c>(&self, config: &'c Config) -> impl Iterator<Item = Rows> + use<'c> {
        let params = self.params;
        let mut next = 0;
        (0..config.layers).flat_map(move |layer| {
            let parts = parts(config, &params, layer).unwrap_or_default();
            let mut take = |kind, bytes: usize, stride: usize, ring: usize| {
                let start = next;
                next += bytes;
                Rows { kind, start, stride, ring }
            };
            let keys = RowKind::Keys { window: config.window };
            let stride = params.format.bytes(config.head_size);
            let window = take(keys, parts.window, stride, window_ring(config, &params));
            let mut compressor = |size: usize, values: usize, entries: usize| {
                let (m, overlap) = ratio_shape(config.ratios[layer])?;
                let inputs = RowKind::Inputs { m, overlap };
                let (row, ring) = (overlap * size * 4, compressor_ring(&params, m, overlap));
                let c = take(inputs, values, row, ring);
                let z = take(inputs, values, row, ring);
                let stride = params.format.bytes(size);
                Some([c, z, take(RowKind::Entries { m }, entries, stride, params.context / m)])
            };
            let main = compressor(config.head_size, parts.values, parts.entries);
            let index = (config.ratios[layer] == Ratio::Sparse)
                .then(|| compressor(config.indexer_size, parts.index_values, parts.index_entries));
            core::iter::once(window).chain(main.into_iter().chain(index.flatten()).flatten())
        })
    }

    /// The memory of all rows.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self.memory)
    }

    /// The same, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(self.memory)
    }
}

const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

/// A query reads W keys back from its own; the first of a batch must still find them when the last is written.
/// A ring as long as the context never wraps.
const fn window_ring(config: &Config, params: &CacheParams) -> usize {
    min(config.window + params.batch + params.rewind, params.context)
}

/// An entry reads its m tokens, and for overlapping windows those of the one before.
const fn compressor_ring(params: &CacheParams, m: usize, c: usize) -> usize {
    min(m * c + params.batch + params.rewind, params.context)
}

/// `None` when a product passes `usize`.
fn parts(config: &Config, params: &CacheParams, layer: usize) -> Option<Parts> {
    // Whole 4-byte units, so that every part can be read as f32.
    let entries = |count: usize, size| Some(count.checked_mul(params.format.bytes(size))?.next_multiple_of(4));
    let mut parts = Parts { window: entries(window_ring(config, params), config.head_size)?, ..Parts::default() };
    if let Some((m, c)) = ratio_shape(config.ratios[layer]) {
        let row = |size: usize| compressor_ring(params, m, c).checked_mul(c * 4)?.checked_mul(size);
        parts.values = row(config.head_size)?;
        parts.entries = entries(params.context / m, config.head_size)?;
        if config.ratios[layer] == Ratio::Sparse {
            parts.index_values = row(config.indexer_size)?;
            parts.index_entries = entries(params.context / m, config.indexer_size)?;
        }
    }
    Some(parts)
}
