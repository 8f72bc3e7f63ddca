//! `dsv4 tokenize`: text to token ids.

use super::{Failure, Result, open_tokenizer, read_all};
use clap::Args;
use serde_json::json;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Show the token ids of a text file, one a line
#[derive(Args)]
pub(super) struct TokenizeArgs {
    /// A model, its tokenizer.json, or `builtin`
    #[arg(value_name = "MODEL_OR_tokenizer.json")]
    model: PathBuf,
    /// UTF-8 text; - is standard input
    file: PathBuf,
    /// Take all of it as plain text, instead of recognizing special tokens such as <｜User｜>
    #[arg(long)]
    plain: bool,
    /// Print one JSON object: {"tokens": [...]}
    #[arg(long)]
    json: bool,
}

pub(super) fn tokenize(args: &TokenizeArgs) -> Result {
    let tokenizer = open_tokenizer(&args.model)?;
    let bytes = read_all(&args.file)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|e| Failure::about(&args.file, format_args!("not UTF-8 text at byte {}", e.valid_up_to())))?;
    let tokens = tokenizer.encode(text, !args.plain)?;
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        writeln!(out, "{}", json!({ "tokens": tokens }))?;
    } else {
        tokens.iter().try_for_each(|token| writeln!(out, "{token}"))?;
    }
    Ok(out.flush()?)
}
