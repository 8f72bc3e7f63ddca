//! A model cut into several GGUF files ("splits"): the first carries the metadata, each some of the tensors.

use crate::error::{Error, Result};
use crate::format::gguf::{Gguf, Value};

/// Checks that `shards` are all the parts of one model, in order, and gives the first one's header, which speaks for
/// the model. A model in one file is the usual case of one part, and needs no `split.*` keys.
///
/// [`Error::BadSplit`] names the first part that is missing, doubled, out of place or of another model.
pub fn open<'a>(shards: &[&'a [u8]]) -> Result<Gguf<'a>> {
    let (&first, rest) = shards.split_first().ok_or(Error::BadArgument { what: "no model file" })?;
    let header = Gguf::parse(first)?;
    let claims = Claims::read(&header)?;
    let parts = shards.len() as u64;
    let mut tensors = header.tensor_count();
    claims.check(0, parts)?;
    for (&bytes, part) in rest.iter().zip(1_u32..) {
        let header = Gguf::parse(bytes)?;
        let theirs = Claims::read(&header)?;
        theirs.check(part, parts)?;
        let same_tensors = theirs.tensors.is_none() || theirs.tensors == claims.tensors;
        let same_model = theirs.architecture.is_none() || theirs.architecture == claims.architecture;
        if !(same_tensors && same_model) {
            return Err(Error::BadSplit { part });
        }
        tensors += header.tensor_count();
    }
    match claims.tensors {
        Some(claimed) if claimed != tensors => Err(Error::BadSplit { part: 0 }),
        _ => Ok(header),
    }
}

/// What one part says about itself and the whole.
struct Claims<'a> {
    /// Its own number, from 0.
    part: Option<u64>,
    /// Number of parts.
    parts: Option<u64>,
    /// Tensors in all parts together.
    tensors: Option<u64>,
    architecture: Option<&'a [u8]>,
}

impl<'a> Claims<'a> {
    fn read(header: &Gguf<'a>) -> Result<Self> {
        let found = header.find(&["split.no", "split.count", "split.tensors.count", "general.architecture"])?;
        Ok(Self {
            part: found.get("split.no", Value::as_u64)?,
            parts: found.get("split.count", Value::as_u64)?,
            tensors: found.get("split.tensors.count", Value::as_u64)?,
            architecture: found.get("general.architecture", Value::as_string)?,
        })
    }

    /// Whether this can be the part at place `place` of `parts`.
    fn check(&self, place: u32, parts: u64) -> Result<()> {
        let alone = parts == 1;
        let right_place = self.part.map_or(alone, |part| part == u64::from(place));
        if !right_place {
            return Err(Error::BadSplit { part: place });
        }
        match self.parts {
            Some(claimed) if claimed == parts => Ok(()),
            None if alone => Ok(()),
            // The first that is missing, or the first that is too many.
            Some(claimed) => Err(Error::BadSplit { part: claimed.min(parts).try_into().unwrap_or(u32::MAX) }),
            None => Err(Error::BadSplit { part: place }),
        }
    }
}
