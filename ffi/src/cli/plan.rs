//! `dsv4 plan`: what a model needs, before any of it is loaded.

use super::info::{Headers, print};
use super::{Cache, Failure, Result, name_of, open_files};
use clap::Args;
use dsv4::core::model::Model;
use dsv4::core::session::Session;
use dsv4::cost::TokenCost;
use dsv4::host::Tokenizer;
use dsv4::{Error, SessionParams};
use serde_json::{Value as Json, json};
use std::io::{self, Write};
use std::path::PathBuf;

/// Show the memory that a model and a session need, and what a token costs at that context
///
/// Bytes a token: all weights once, but k of the routed experts and one row of the embedding and of the hash table; and
/// the cache that attention reads at this context. FLOPs a token: 2 for each of these weights, and for each layer of ratio
/// m, 4 x heads x head size x (min(context, window) + entries), entries being context/m, at most top-k with an indexer,
/// whose scores add 2 x its heads x its size x context/4.
#[derive(Args)]
pub(super) struct PlanArgs {
    /// The model, or `builtin`; its headers are enough
    model: PathBuf,
    /// Context: positions of the session
    #[arg(short, value_name = "CTX")]
    context: usize,
    /// Tokens evaluated together
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// How the cache is stored
    #[arg(long, value_enum, default_value_t = Cache::F32)]
    cache: Cache,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn plan(args: &PlanArgs) -> Result {
    let about = |error: Error| Failure::about(&name_of(Some(&args.model)), error);
    let files = open_files(Some(&args.model))?;
    let headers = Headers::new(&files.slices()).map_err(about)?;
    let mut params = SessionParams { rewind: 0, cache: args.cache.format()?, ..SessionParams::new(args.context) };
    params.batch = args.batch.unwrap_or(params.batch);
    let model = Model::plan(&files.slices()).map_err(about)?;
    let session = Session::plan(&headers.config, &params).map_err(about)?;
    let tokenizer = match Tokenizer::plan(&headers.first) {
        Ok(bytes) => bytes,
        Err(Error::NoTokenizer) => 0,
        Err(error) => return Err(about(error)),
    };
    let cost = TokenCost::new(&headers.config, headers.tensors(), params.cache, args.context as u64);
    let object = json!({
        "context": params.context,
        "batch": params.batch,
        "weights_bytes": headers.weight_bytes(),
        "model_bytes": model,
        "tokenizer_bytes": tokenizer,
        "cache_bytes": session.cache,
        "scratch_bytes": session.scratch,
        "memory_bytes": model + tokenizer + session.bytes(),
        "weight_bytes_per_token": cost.weight_bytes,
        "cache_bytes_per_token": cost.cache_bytes,
        "bytes_per_token": cost.weight_bytes.saturating_add(cost.cache_bytes),
        "flops_per_token": cost.flops,
    });
    let mut out = io::stdout().lock();
    match &object {
        Json::Object(map) if !args.json => print(&mut out, "", map)?,
        _ => writeln!(out, "{object}")?,
    }
    Ok(out.flush()?)
}
