//! A model that owns its files' bytes and its memory.

use crate::error::{Failure, Result};
use crate::memory::Memory;
use crate::object::{object, set};
use crate::session::params;
use crate::tokenizer::Tokenizer;
use dsv4_core::config::{Config, Ratio};
use dsv4_core::model::Model as CoreModel;
use dsv4_core::session::Session as CoreSession;
use js_sys::{Object, Uint32Array};
use self_cell::{MutBorrow, self_cell};
use std::rc::Rc;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

type SliceList<'a> = Vec<&'a [u8]>;

self_cell!(
    /// The files' bytes in the form that the core takes.
    struct Shards {
        owner: Vec<Memory>,
        #[covariant]
        dependent: SliceList,
    }
);

struct Owned {
    shards: Shards,
    memory: MutBorrow<Memory>,
}

self_cell!(
    pub(crate) struct Loaded {
        owner: Owned,
        #[covariant]
        dependent: CoreModel,
    }
);

impl Loaded {
    pub(crate) fn core(&self) -> &CoreModel<'_> {
        self.borrow_dependent()
    }
}

/// A loaded model, shared by any number of sessions; its memory lives as long as the last of them.
#[wasm_bindgen]
pub struct Model(pub(crate) Rc<Loaded>);

impl Model {
    pub(crate) fn load(files: Vec<Memory>) -> Result<Self> {
        let shards = Shards::new(files, |files| files.iter().map(Memory::bytes).collect());
        let memory = Memory::zeroed(CoreModel::plan(shards.borrow_dependent())?)?;
        let owned = Owned { shards, memory: MutBorrow::new(memory) };
        let loaded = Loaded::try_new(owned, |owned| {
            CoreModel::load(owned.shards.borrow_dependent(), owned.memory.borrow_mut().bytes_mut(), &mut |_| true)
        })?;
        Ok(Self(Rc::new(loaded)))
    }
}

#[wasm_bindgen]
impl Model {
    /// The model's sizes, and its name.
    #[wasm_bindgen(getter, unchecked_return_type = "ModelInfo")]
    pub fn info(&self) -> Object {
        let model = self.0.core();
        let info = sizes(model.config());
        let name = model.metadata().find(|(key, _)| *key == "general.name").and_then(|(_, value)| value.as_string());
        set(&info, "name", String::from_utf8_lossy(name.unwrap_or_default()).as_ref());
        let bytes: usize = self.0.borrow_owner().shards.borrow_owner().iter().map(Memory::len).sum();
        set(&info, "bytes", bytes);
        info
    }

    /// The tokenizer, from the file's header.
    pub fn tokenizer(&self) -> std::result::Result<Tokenizer, JsValue> {
        Ok(Tokenizer::from_header(self.0.core().header())?)
    }

    /// The bytes of a session's memory.
    #[wasm_bindgen(unchecked_return_type = "SessionPlan")]
    pub fn plan(&self, context: usize, batch: usize, exact: bool) -> std::result::Result<Object, JsValue> {
        Ok(session_plan(self.0.core().config(), context, batch, exact)?)
    }
}

/// The bytes of a model's and a session's memory, from the first bytes of a model's only file: its header is enough.
#[wasm_bindgen(unchecked_return_type = "SessionPlan & { model: number }")]
pub fn plan(header: &[u8], context: usize, batch: usize, exact: bool) -> std::result::Result<Object, JsValue> {
    let model = CoreModel::plan(&[header]).map_err(Failure)?;
    let parsed = dsv4_core::format::gguf::Gguf::parse(header).map_err(Failure)?;
    let config = Config::from_gguf(&parsed).map_err(Failure)?;
    let plan = session_plan(&config, context, batch, exact)?;
    set(&plan, "model", model);
    Ok(plan)
}

fn session_plan(config: &Config, context: usize, batch: usize, exact: bool) -> Result<Object> {
    let plan = CoreSession::plan(config, &params(context, batch, exact))?;
    Ok(object([("cache", plan.cache.into()), ("scratch", plan.scratch.into())]))
}

fn sizes(config: &Config) -> Object {
    let ratios: Vec<u32> =
        config.ratios.iter().take(config.layers).map(|ratio: &Ratio| ratio.entry_tokens() as u32).collect();
    object([
        ("hidden", config.hidden.into()),
        ("layers", config.layers.into()),
        ("vocab", config.vocab.into()),
        ("heads", config.heads.into()),
        ("headSize", config.head_size.into()),
        ("window", config.window.into()),
        ("ratios", Uint32Array::from(&ratios[..]).into()),
        ("indexerSize", config.indexer_size.into()),
        ("indexerTopK", config.indexer_top_k.into()),
        ("experts", config.experts.into()),
        ("expertsUsed", config.experts_used.into()),
        ("hashLayers", config.hash_layers.into()),
        ("streams", config.streams.into()),
        ("context", config.context.into()),
    ])
}
