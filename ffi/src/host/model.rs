//! A model that owns its files and its memory.

use crate::file::{FileError, Files};
use crate::host::Tokenizer;
use crate::memory::Memory;
use dsv4_core::error::Result;
use dsv4_core::model::Model as CoreModel;
use self_cell::{MutBorrow, self_cell};
use std::path::Path;
use std::sync::{Arc, OnceLock};

type SliceList<'a> = Vec<&'a [u8]>;

self_cell!(
    /// The files' bytes in the form that the core takes.
    struct Shards {
        owner: Files,
        #[covariant]
        dependent: SliceList,
    }
);

struct Owned {
    shards: Shards,
    memory: MutBorrow<Memory>,
}

self_cell!(
    struct Loaded {
        owner: Owned,
        #[covariant]
        dependent: CoreModel,
    }
);

/// A loaded model: immutable, and shared by any number of sessions on any threads.
pub struct Model {
    loaded: Loaded,
    tokenizer: OnceLock<Result<Tokenizer>>,
}

impl Model {
    /// Maps and loads the model at `path` (see [`Files::open`] for what that may be, and its contract).
    pub fn open(path: &Path) -> std::result::Result<Arc<Self>, FileError> {
        Self::load(Files::open(path)?, &mut |_| true).map_err(|error| FileError::new(path, error))
    }

    /// The model built into this library.
    pub fn built_in() -> Result<Arc<Self>> {
        Self::load(Files::built_in(), &mut |_| true)
    }

    /// Loads the model in `files`. `progress` is told the fraction done; its `false` cancels.
    pub fn load(files: Files, progress: &mut dyn FnMut(f32) -> bool) -> Result<Arc<Self>> {
        let shards = Shards::new(files, |files| files.slices());
        let memory = Memory::new(CoreModel::plan(shards.borrow_dependent())?)?;
        let owned = Owned { shards, memory: MutBorrow::new(memory) };
        let loaded = Loaded::try_new(owned, |owned| {
            CoreModel::load(owned.shards.borrow_dependent(), owned.memory.borrow_mut().bytes(), progress)
        })?;
        Ok(Arc::new(Self { loaded, tokenizer: OnceLock::new() }))
    }

    /// The core's model.
    pub fn core(&self) -> &CoreModel<'_> {
        self.loaded.borrow_dependent()
    }

    /// The model's tokenizer, built when it is first asked for.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        let built = self.tokenizer.get_or_init(|| Tokenizer::from_gguf(self.core().header()));
        built.as_ref().map_err(|&error| error)
    }
}
