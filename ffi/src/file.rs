//! Model files: one `.gguf`, all its splits, or the model built into this library; mapped, never read as a whole.

use crate::ptr;
use dsv4_core::error::Error;
use memmap2::Mmap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// An error and the file that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: Error,
}

impl FileError {
    /// `error`, which is about the file at `path`.
    pub fn new(path: &Path, error: Error) -> Self {
        Self { path: path.to_owned(), error }
    }

    /// The operating system's `error` about the file at `path`.
    pub fn io(path: &Path, error: &io::Error) -> Self {
        Self::new(path, Error::Io { os: error.raw_os_error().unwrap_or(0) })
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match self.error {
            Error::Io { os } => io::Error::from_raw_os_error(os).fmt(f),
            error => error.fmt(f),
        }
    }
}

impl std::error::Error for FileError {}

/// The model that is part of this library.
const BUILT_IN: &[u8] = include_bytes!("../model/small.gguf");

/// The bytes of one file.
enum Part {
    Mapped(Mmap),
    Static(&'static [u8]),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
        }
    }
}

/// The files of one model, in order.
pub struct Files {
    parts: Vec<Part>,
}

impl Files {
    /// The model built into this library.
    pub fn built_in() -> Self {
        Self { parts: vec![Part::Static(BUILT_IN)] }
    }

    /// Maps the file at `path`, and where its name ends in `-00001-of-0000N.gguf` the other splits beside it.
    ///
    /// No file may be changed or shortened as long as this value lives: a mapping shows what the file has become, and
    /// reading past a new end ends the process.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let others = other_splits(path);
        let parts = std::iter::once(path.to_owned()).chain(others).map(|path| open_one(&path));
        Ok(Self { parts: parts.collect::<Result<_, _>>()? })
    }

    /// Maps the file at `path` alone, whatever its name.
    pub fn open_one(path: &Path) -> Result<Self, FileError> {
        Ok(Self { parts: vec![open_one(path)?] })
    }

    /// The bytes of each file.
    pub fn slices(&self) -> Vec<&[u8]> {
        self.iter().collect()
    }

    /// The bytes of each file, one after another.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(Part::bytes)
    }

    /// The bytes of the first file.
    pub fn first(&self) -> &[u8] {
        self.parts.first().map_or(&[], Part::bytes)
    }
}

fn open_one(path: &Path) -> Result<Part, FileError> {
    let refuse = |error| Err(FileError::new(path, error));
    let io = |error: io::Error| FileError::io(path, &error);
    // Before opening: to open a pipe that nobody writes to would wait for ever.
    let metadata = fs::metadata(path).map_err(io)?;
    if metadata.is_dir() {
        return refuse(Error::Unsupported { what: "a folder as a model" });
    }
    if !metadata.is_file() {
        return refuse(Error::Unsupported { what: "a model that is not a regular file" });
    }
    if usize::try_from(metadata.len()).is_err() {
        return refuse(Error::TooLarge);
    }
    if metadata.len() == 0 {
        return Ok(Part::Static(&[]));
    }
    let file = File::open(path).map_err(io)?;
    Ok(Part::Mapped(ptr::map(&file).map_err(io)?))
}

/// The paths of splits 2 to N, where `path` names the first of N.
fn other_splits(path: &Path) -> impl Iterator<Item = PathBuf> {
    let split = path.file_name().and_then(|name| name.to_str()).and_then(|name| {
        let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        let stem = rest.strip_suffix("-00001")?.to_owned();
        Some((stem, count.parse::<u32>().ok().filter(|_| digits(count))?))
    });
    let (stem, count) = split.unwrap_or_default();
    let folder = path.to_owned();
    (2..=count).map(move |i| folder.with_file_name(format!("{stem}-{i:05}-of-{count:05}.gguf")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_other_splits() {
        let others =
            |name: &str| other_splits(Path::new(name)).map(|p| p.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(others("a/x-00001-of-00003.gguf"), ["a/x-00002-of-00003.gguf", "a/x-00003-of-00003.gguf"]);
        for alone in [
            "a/x.gguf",
            "x-00001-of-00001.gguf",
            "x-00002-of-00003.gguf",
            "x-00001-of-3.gguf",
            "x-00001-of-+0003.gguf",
            "",
            "/",
        ] {
            assert!(others(alone).is_empty(), "{alone}");
        }
    }
}
