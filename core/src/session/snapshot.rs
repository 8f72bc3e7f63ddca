//! Snapshots: a session's timeline as bytes, to go on from later, elsewhere, in a session of other sizes.
//!
//! ```text
//! "dsv4snap"  version: u32 = 1  cache: u8  matmul: u8  0: u16     cache: 0 f32; matmul: 0 exact, 1 fast
//! fingerprint: u64  length: u64                                   of the model; of the snapshot, in bytes
//! position: u32  oldest: u32                                      where it is, how far it can go back
//! tokens: u32 x position
//! rows                                                            layer by layer; within one: keys, c, z, entries, and
//!                                                                 the indexer's c, z, entries; oldest first
//! checksum: u64                                                   XXH64 of all before, seed 0
//! ```
//! All numbers are little-endian. Of the rings there are the rows alone that a query at `oldest` or later reads
//! ([`Rows::live`](crate::cache::Rows::live)), in the cache's format; of the entries those that are finished. So the length follows from the
//! model's sizes, `position` and `oldest`, not from the session's context, batch or rewind.

use super::Session;
use crate::bytes::Cursor;
use crate::cache::{Cache, CacheFormat};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::hash::xxh64;
use crate::kernel::MatmulMode;

const MAGIC: [u8; 8] = *b"dsv4snap";
const VERSION: u32 = 1;
/// Bytes before the tokens.
const HEADER: usize = 40;
/// Bytes of the checksum.
const CHECKSUM: usize = 8;

/// What a snapshot says of itself.
struct Header {
    cache: u8,
    matmul: u8,
    fingerprint: u64,
    length: u64,
    position: u32,
    oldest: u32,
}

impl Header {
    fn bytes(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let fields: [&[u8]; 8] = [
            &MAGIC,
            &VERSION.to_le_bytes(),
            &[self.cache, self.matmul],
            &[0; 2],
            &self.fingerprint.to_le_bytes(),
            &self.length.to_le_bytes(),
            &self.position.to_le_bytes(),
            &self.oldest.to_le_bytes(),
        ];
        for (out, byte) in out.iter_mut().zip(fields.into_iter().flatten()) {
            *out = *byte;
        }
        out
    }

    /// The header of a snapshot that is whole: every byte is there, and as it was written.
    fn read(snapshot: &[u8]) -> Result<Self> {
        let mut c = Cursor::new(snapshot);
        let damaged = |_| Error::SnapshotDamaged;
        if c.array() != Ok(MAGIC) {
            return Err(Error::NotSnapshot);
        }
        let version = c.u32().map_err(damaged)?;
        if version != VERSION {
            return Err(Error::UnsupportedSnapshot { version });
        }
        let read = |c: &mut Cursor<'_>| {
            let (cache, matmul, zeros) = (c.u8()?, c.u8()?, c.array()?);
            let (fingerprint, length, position, oldest) = (c.u64()?, c.u64()?, c.u32()?, c.u32()?);
            Ok((Self { cache, matmul, fingerprint, length, position, oldest }, zeros == [0; 2]))
        };
        let (header, zeros) = read(&mut c).map_err(damaged)?;
        let (body, checksum) = snapshot.split_last_chunk::<CHECKSUM>().ok_or(Error::SnapshotDamaged)?;
        if !zeros || header.length != snapshot.len() as u64 || xxh64(body, 0) != u64::from_le_bytes(*checksum) {
            return Err(Error::SnapshotDamaged);
        }
        Ok(header)
    }
}

/// The whole length of a snapshot; `None` past `usize`.
fn length(cache: &Cache<'_>, config: &Config, oldest: usize, position: usize) -> Option<usize> {
    let fixed = position.checked_mul(4)?.checked_add(HEADER + CHECKSUM)?;
    cache.rows(config).try_fold(fixed, |sum, rows| {
        let live = rows.live(oldest, position).len();
        sum.checked_add(live.checked_mul(rows.stride)?)
    })
}

const fn cache_number(format: CacheFormat) -> u8 {
    match format {
        CacheFormat::F32 => 0,
    }
}

const fn matmul_number(mode: MatmulMode) -> u8 {
    match mode {
        MatmulMode::Exact => 0,
        MatmulMode::Fast => 1,
    }
}

/// Copies f32 between memory and a snapshot, where they are little-endian: either way the same.
fn copy_floats(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.as_chunks_mut::<4>().0.iter_mut().zip(from.as_chunks().0) {
        *to = u32::from_ne_bytes(*from).to_le_bytes();
    }
}

impl Session<'_> {
    /// How far back a snapshot reaches: no further than `rewind` promises.
    fn snapshot_oldest(&self) -> usize {
        self.oldest().max(self.position.saturating_sub(self.params.rewind))
    }

    /// The bytes that [`Session::save`] writes now. They grow with the position; a window and the compressors' inputs make
    /// up the most of them at first.
    pub fn snapshot_bytes(&self) -> usize {
        // All of it is in this session's memory already: no overflow.
        length(&self.cache, self.model.config(), self.snapshot_oldest(), self.position).unwrap_or(usize::MAX)
    }

    /// Writes a snapshot of the timeline to the start of `out`, and gives its length.
    ///
    /// It holds the tokens and what following ones look back at: not the model, and nothing that tells what else the
    /// session was made for. [`Error::MemoryTooSmall`], with the bytes needed, if `out` is shorter.
    pub fn save(&self, out: &mut [u8]) -> Result<usize> {
        let (need, got) = (self.snapshot_bytes(), out.len());
        let out = out.get_mut(..need).ok_or(Error::MemoryTooSmall { need: need as u64, got: got as u64 })?;
        let (config, oldest) = (self.model.config(), self.snapshot_oldest());
        let header = Header {
            cache: cache_number(self.params.cache),
            matmul: matmul_number(self.params.matmul),
            fingerprint: self.model.fingerprint(),
            length: need as u64,
            position: self.position as u32,
            oldest: oldest as u32,
        };
        let (body, checksum) = out.split_at_mut(need - CHECKSUM);
        let (head, rest) = body.split_at_mut(HEADER);
        head.copy_from_slice(&header.bytes());
        let (tokens, mut rest) = rest.split_at_mut(self.position * 4);
        for (out, token) in tokens.as_chunks_mut().0.iter_mut().zip(self.tokens()) {
            *out = token.to_le_bytes();
        }
        let memory = self.cache.bytes();
        for rows in self.cache.rows(config) {
            for place in rows.places(&rows.live(oldest, self.position)) {
                let (now, later) = rest.split_at_mut(place.len());
                copy_floats(now, &memory[place]);
                rest = later;
            }
        }
        checksum.copy_from_slice(&xxh64(body, 0).to_le_bytes());
        Ok(need)
    }

    /// Takes over the timeline of a snapshot, in the place of this session's: whatever follows gives the same bits as it
    /// would have in the session that was saved.
    ///
    /// This session's context must hold it; its batch, rewind and level may be others. It can go back as far as the
    /// session that was saved, or as it promises itself, whichever is less ([`Session::oldest`]).
    ///
    /// Everything is checked before anything changes: after an error the session is as it was.
    /// [`Error::NotSnapshot`], [`Error::UnsupportedSnapshot`], [`Error::SnapshotDamaged`],
    /// [`Error::SnapshotOfOtherModel`] ([`Model::fingerprint`](crate::model::Model::fingerprint) says how models are told
    /// apart), [`Error::SnapshotOfOtherNumbers`], [`Error::ContextFull`]. The checksum keeps accidents away; who makes a
    /// snapshot by hand can make the model say anything, and no more than that.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        let header = Header::read(snapshot)?;
        if header.fingerprint != self.model.fingerprint() {
            return Err(Error::SnapshotOfOtherModel);
        }
        if header.cache != cache_number(self.params.cache) {
            return Err(Error::SnapshotOfOtherNumbers { what: "cache" });
        }
        if header.matmul != matmul_number(self.params.matmul) {
            return Err(Error::SnapshotOfOtherNumbers { what: "matmul" });
        }
        let (position, oldest) = (header.position as usize, header.oldest as usize);
        if position > self.params.context {
            return Err(Error::ContextFull { context: self.params.context as u32 });
        }
        let config = self.model.config();
        if oldest > position || length(&self.cache, config, oldest, position) != Some(snapshot.len()) {
            return Err(Error::SnapshotDamaged);
        }
        let mut c = Cursor::at(snapshot, HEADER);
        let tokens = c.take(position as u64 * 4)?.as_chunks().0;
        if tokens.iter().any(|token| u32::from_le_bytes(*token) as usize >= config.vocab) {
            return Err(Error::SnapshotDamaged);
        }

        // Nothing fails from here on.
        for (token, from) in self.tokens.iter_mut().zip(tokens) {
            *token = u32::from_le_bytes(*from);
        }
        let kept = oldest.max(position.saturating_sub(self.params.batch + self.params.rewind));
        for rows in self.cache.rows(config) {
            let (saved, live) = (rows.live(oldest, position), rows.live(kept, position));
            let skipped = live.start - saved.start;
            let mut from = c.take((saved.len() * rows.stride) as u64)?.get(skipped * rows.stride..).unwrap_or(&[]);
            for place in rows.places(&live) {
                let (now, later) = from.split_at(place.len());
                copy_floats(&mut self.cache.bytes_mut()[place], now);
                from = later;
            }
        }
        (self.position, self.written, self.restored) = (position, position, kept);
        Ok(())
    }
}
