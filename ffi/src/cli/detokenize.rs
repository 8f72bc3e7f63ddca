//! `dsv4 detokenize`: token ids to text.

use super::{Failure, Result, open_tokenizer, read_all};
use clap::Args;
use serde_json::{Value as Json, json};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Show the text of token ids, exactly byte for byte: the inverse of tokenize
#[derive(Args)]
pub(super) struct DetokenizeArgs {
    /// A model, its tokenizer.json, or `builtin`
    #[arg(value_name = "MODEL_OR_tokenizer.json")]
    model: PathBuf,
    /// Ids with anything blank between them, or tokenize's JSON; - is standard input
    file: PathBuf,
    /// Print one JSON object: {"text": "..."}, where bytes that are not UTF-8 become U+FFFD
    #[arg(long)]
    json: bool,
}

pub(super) fn detokenize(args: &DetokenizeArgs) -> Result {
    let tokenizer = open_tokenizer(&args.model)?;
    let tokens = ids(&args.file, &read_all(&args.file)?)?;
    let bytes = tokenizer.decode(&tokens).map_err(|error| Failure::about(&args.file, error))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json!({ "text": String::from_utf8_lossy(&bytes) }))?;
    } else {
        out.write_all(&bytes)?;
    }
    Ok(out.flush()?)
}

/// The ids in a file of either form.
fn ids(path: &Path, bytes: &[u8]) -> Result<Vec<u32>> {
    let wrong = |what: &str| Failure::about(path, format_args!("not a token id: {what:.40}"));
    let text = String::from_utf8_lossy(bytes);
    if !text.trim_start().starts_with(['{', '[']) {
        return text.split_whitespace().map(|id| id.parse().map_err(|_| wrong(id))).collect();
    }
    let value: Json = serde_json::from_str(&text).map_err(|error| Failure::about(path, error))?;
    let list = value.get("tokens").unwrap_or(&value);
    let list = list.as_array().ok_or_else(|| Failure::about(path, "no list of tokens"))?;
    let id = |id: &Json| id.as_u64().and_then(|n| n.try_into().ok()).ok_or_else(|| wrong(&id.to_string()));
    list.iter().map(id).collect()
}
