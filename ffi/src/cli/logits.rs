//! `dsv4 logits`: the raw numbers, for comparing.

use super::{ComputeArgs, Failure, Result, open_model, terminal};
use clap::Args;
use dsv4::host::Session;
use dsv4::{Error, Logits};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Write the logits of every token of a file: [tokens, V] f32, row-major, little-endian
#[derive(Args)]
pub(super) struct LogitsArgs {
    /// The model, or `builtin`
    model: PathBuf,
    /// Token ids, i32, little-endian
    #[arg(long, value_name = "FILE.i32")]
    tokens: PathBuf,
    /// Where to write
    #[arg(long, value_name = "FILE.f32")]
    out: PathBuf,
    /// Evaluate N tokens a call; changes no byte of the output [default: all in one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    chunk: Option<u32>,
    #[command(flatten)]
    compute: ComputeArgs,
}

pub(super) fn logits(args: &LogitsArgs) -> Result {
    terminal::catch_ctrl_c();
    let model = open_model(Some(&args.model))?;
    let config = model.core().config();
    let tokens = read_tokens(&args.tokens, config.vocab)?;
    if tokens.len() > config.context {
        return Err(Failure::about(&args.tokens, Error::ContextFull { context: config.context as u32 }));
    }
    let params = args.compute.params(tokens.len())?;
    let mut session = Session::new(model.clone(), &params, args.compute.pool())?;

    let failed = |error| Failure::about(&args.out, error);
    let mut out = BufWriter::new(File::create(&args.out).map_err(failed)?);
    let mut buffer = vec![0.0; params.batch * config.vocab];
    let bar = terminal::Bar::new("logits", tokens.len(), config.layers);
    let mut done = 0;
    for chunk in tokens.chunks(args.chunk.map_or(tokens.len(), |n| n as usize)) {
        // What the session would do with the whole chunk, its logits written before there are more.
        for batch in chunk.chunks(params.batch) {
            let rows = &mut buffer[..batch.len() * config.vocab];
            session.eval(batch, Logits::All(rows), &mut |progress| {
                bar.show(done, params.batch, progress);
                terminal::go_on()
            })?;
            rows.iter().try_for_each(|logit| out.write_all(&logit.to_le_bytes())).map_err(failed)?;
            done += batch.len();
        }
    }
    bar.clear();
    out.flush().map_err(failed)
}

/// The tokens of a file, all of which the model has.
fn read_tokens(path: &Path, vocab: usize) -> Result<Vec<u32>> {
    let bytes = std::fs::read(path).map_err(|error| Failure::about(path, error))?;
    let (values, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Failure::about(path, format_args!("{} bytes are no whole number of i32", bytes.len())));
    }
    if values.is_empty() {
        return Err(Failure::about(path, "no tokens"));
    }
    let token = |&bytes: &[u8; 4]| {
        let id = i32::from_le_bytes(bytes);
        let inside = u32::try_from(id).ok().filter(|&id| (id as usize) < vocab);
        inside.ok_or_else(|| Failure::about(path, format_args!("token {id} is outside the vocabulary of {vocab}")))
    };
    values.iter().map(token).collect()
}
