//! `dsv4 info`: what a model file holds.

use super::{Failure, Result, name_of, open_files};
use clap::Args;
use dsv4::Error;
use dsv4::core::config::{Config, Scoring};
use dsv4::core::dtype::DType;
use dsv4::core::format::gguf::{Gguf, TensorInfo, Value};
use dsv4::core::format::split;
use dsv4::cost::TokenCost;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Show architecture, sizes, tensor types and their bytes
#[derive(Args)]
pub(super) struct InfoArgs {
    /// The model, or `builtin`; its headers are enough
    model: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The headers of a model's files: the data may be cut off.
pub(super) struct Headers<'a> {
    /// The one that speaks for the model.
    pub(super) first: Gguf<'a>,
    pub(super) config: Config,
    files: Vec<Gguf<'a>>,
}

impl<'a> Headers<'a> {
    pub(super) fn new(shards: &[&'a [u8]]) -> dsv4::Result<Self> {
        let first = split::open(shards)?;
        let files = shards.iter().map(|&bytes| Gguf::parse(bytes)).collect::<dsv4::Result<_>>()?;
        Ok(Self { first, config: Config::from_gguf(&first)?, files })
    }

    /// Every tensor of every file.
    pub(super) fn tensors(&self) -> impl Iterator<Item = TensorInfo<'a>> + Clone {
        // Collected, since a header's own iterator cannot be started twice.
        self.files.iter().flat_map(Gguf::tensors).collect::<Vec<_>>().into_iter()
    }

    /// Bytes of all tensors whose type is known.
    pub(super) fn weight_bytes(&self) -> u64 {
        self.tensors().filter_map(|tensor| tensor.bytes()).fold(0, u64::saturating_add)
    }
}

pub(super) fn info(args: &InfoArgs) -> Result {
    let about = |error: Error| Failure::about(&name_of(Some(&args.model)), error);
    let files = open_files(Some(&args.model))?;
    let headers = Headers::new(&files.slices()).map_err(about)?;
    let object = describe(&args.model, &headers, files.slices().iter().map(|bytes| bytes.len() as u64).sum());
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", Json::Object(object))?;
    } else {
        print(&mut out, "", &object)?;
    }
    Ok(out.flush()?)
}

/// Everything that is worth knowing, in the order of printing.
fn describe(path: &Path, headers: &Headers<'_>, file_bytes: u64) -> Map<String, Json> {
    let config = &headers.config;
    let mut types = BTreeMap::<u32, (u64, u64)>::new();
    for tensor in headers.tensors() {
        let (count, bytes) = types.entry(tensor.dtype).or_default();
        *count += 1;
        *bytes = bytes.saturating_add(tensor.bytes().unwrap_or(0));
    }
    let type_name =
        |number| DType::from_number(number).map_or_else(|| format!("unknown type {number}"), |t| t.name().into());
    let tensors = types
        .into_iter()
        .map(|(number, (count, bytes))| (type_name(number), json!({ "count": count, "bytes": bytes })));
    let text = |key: &str| {
        let found = headers.first.metadata().find(|(k, _)| *k == key)?.1;
        if let Value::String(bytes) = found { Some(String::from_utf8_lossy(bytes).into_owned()) } else { None }
    };
    let cost = TokenCost::new(config, headers.tensors(), Default::default(), 1);
    let object = json!({
        "model": path.display().to_string(),
        "name": text("general.name"),
        "architecture": "deepseek4",
        "gguf_version": headers.first.version(),
        "files": headers.files.len(),
        "file_bytes": file_bytes,
        "parameters": headers.tensors().map(|t| t.elements()).fold(0, u64::saturating_add),
        "weight_bytes": headers.weight_bytes(),
        "weight_bytes_per_token": cost.weight_bytes,
        "sizes": sizes(config),
        "tokenizer": {
            "model": text("tokenizer.ggml.model"),
            "pre": text("tokenizer.ggml.pre"),
            "tokens": headers.first.tokenizer().ok().and_then(|t| t.tokens).map(|tokens| tokens.len()),
        },
        "tensors": tensors.collect::<Map<_, _>>(),
    });
    let Json::Object(object) = object else { return Map::new() };
    object
}

fn sizes(config: &Config) -> Json {
    let ratios = config.ratios.iter().take(config.layers).map(|ratio| ratio.entry_tokens());
    let scoring = match config.scoring {
        Scoring::Softmax => "softmax",
        Scoring::Sigmoid => "sigmoid",
        Scoring::SqrtSoftplus => "sqrtsoftplus",
    };
    json!({
        "context": config.context,
        "vocab": config.vocab,
        "hidden": config.hidden,
        "layers": config.layers,
        "mtp_layers": config.mtp_layers,
        "compress_ratios": ratios.collect::<Vec<_>>(),
        "heads": config.heads,
        "head_size": config.head_size,
        "rotary": config.rotary,
        "q_rank": config.q_rank,
        "output_groups": config.output_groups,
        "output_rank": config.output_rank,
        "window": config.window,
        "indexer_heads": config.indexer_heads,
        "indexer_size": config.indexer_size,
        "indexer_top_k": config.indexer_top_k,
        "experts": config.experts,
        "experts_used": config.experts_used,
        "expert_hidden": config.expert_hidden,
        "shared_experts": config.shared_experts,
        "hash_layers": config.hash_layers,
        "scoring": scoring,
        "streams": config.streams,
        "yarn_assumed": config.yarn_assumed,
    })
}

/// `key  value` lines, those of nested objects indented, and the objects in those (counts and bytes) on one line.
pub(super) fn print(out: &mut dyn Write, indent: &str, object: &Map<String, Json>) -> io::Result<()> {
    for (key, value) in object {
        // The sizes' names, not the tensor types'.
        let words = if key.starts_with(char::is_lowercase) { key.replace('_', " ") } else { key.clone() };
        let label = format!("{indent}{words}");
        match value {
            Json::Object(inner) if indent.is_empty() => {
                writeln!(out, "{label}")?;
                print(out, &format!("{indent}  "), inner)?;
            }
            Json::Object(inner) => {
                let number = |key| inner.get(key).and_then(Json::as_u64).unwrap_or(0);
                writeln!(out, "{label:<26} {} tensors, {} bytes", number("count"), bytes(number("bytes")))?;
            }
            Json::Null => writeln!(out, "{label:<26} -")?,
            // Whatever a file says stays on its line.
            Json::String(text) => writeln!(out, "{label:<26} {}", text.escape_debug())?,
            Json::Number(n) if key.contains("bytes") => {
                writeln!(out, "{label:<26} {}", bytes(n.as_u64().unwrap_or(0)))?
            }
            value => writeln!(out, "{label:<26} {value}")?,
        }
    }
    Ok(())
}

/// A number of bytes, exactly and roughly.
fn bytes(n: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let unit = (n.max(1).ilog10() / 3) as usize;
    if unit == 0 {
        return format!("{n}");
    }
    format!("{n} ({:.2} {})", n as f64 / 1000_f64.powi(unit as i32), units[unit])
}
