//! `dsv4 run`: one prompt, one answer.

use super::{ComputeArgs, Failure, GenerateArgs, Result, open_model, terminal, tokenizer_of};
use clap::Args;
use dsv4::host::{Event, Finish, Generate, Generated, Session, Template, Think, Tokenizer};
use dsv4::{Error, Progress};
use serde_json::json;
use std::io::{self, Write};
use std::path::PathBuf;

/// Answer one prompt: the answer alone goes to standard output
#[derive(Args)]
pub(super) struct RunArgs {
    /// The model [default: the one built in]
    model: Option<PathBuf>,
    /// What the user says; with --raw, the text to continue
    #[arg(short, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: String,
    /// Continue the text as it is, without the chat format
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    generate: GenerateArgs,
    /// Context: prompt and answer together [default: as much as these need]
    #[arg(short, value_name = "CTX")]
    context: Option<usize>,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Print one JSON object in the end: text, tokens (ids), prompt_tokens (their number), prefill_tps, decode_tps, finish
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RunArgs) -> Result {
    terminal::catch_ctrl_c();
    let path = args.model.as_deref();
    let model = open_model(path)?;
    let tokenizer = tokenizer_of(&model, path)?;
    let prompt = prompt(args, tokenizer)?;

    let most = model.core().config().context;
    let need = prompt.len().saturating_add(args.generate.max_tokens).clamp(1, most);
    let context = args.context.unwrap_or(need);
    if prompt.len() > context {
        return Err(Error::ContextFull { context: context.try_into().unwrap_or(u32::MAX) }.into());
    }
    let mut session = Session::new(model.clone(), &args.compute.params(context)?, args.compute.pool())?;
    let mut generate = args.generate.generate(tokenizer.core().eos());
    let mut text = String::new();
    let done = stream(&mut session, &mut generate, &prompt, &mut |piece| {
        if args.json {
            text.push_str(piece);
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(piece.as_bytes())?;
        out.flush()
    })?;

    let mut out = io::stdout().lock();
    if args.json {
        let object = json!({
            "text": text,
            "tokens": done.tokens,
            "prompt_tokens": prompt.len(),
            "prefill_tps": done.prefill_tps(),
            "decode_tps": done.decode_tps(),
            "finish": done.finish.name(),
        });
        writeln!(out, "{object}")?;
    } else {
        writeln!(out)?;
    }
    out.flush()?;
    if done.finish == Finish::Cancelled { Err(Failure::Cancelled) } else { Ok(()) }
}

/// One user turn where the vocabulary knows chat, and the text after the beginning token else.
fn prompt(args: &RunArgs, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    if !args.raw
        && let Ok(template) = Template::new(tokenizer)
    {
        let mut prompt = template.begin(tokenizer, Think::Off, "")?;
        prompt.extend(template.turn(tokenizer, Think::Off, &args.prompt)?);
        return Ok(prompt);
    }
    let mut prompt = Vec::from_iter(tokenizer.core().bos());
    prompt.extend(tokenizer.encode(&args.prompt, false)?);
    if prompt.is_empty() {
        return Err(Failure::Message("the prompt is empty, and the vocabulary has no token to begin with".into()));
    }
    Ok(prompt)
}

/// Generates, giving the text to `write` as it comes, with a bar for the prompt. Ctrl-C ends it.
pub(super) fn stream(
    session: &mut Session,
    generate: &mut Generate,
    prompt: &[u32],
    write: &mut dyn FnMut(&str) -> io::Result<()>,
) -> Result<Generated> {
    let (batch, layers) = (session.with(|s| s.params().batch), session.model().core().config().layers);
    let mut bar = None;
    let mut written = Ok(());
    let done = generate.run(session, prompt, &mut |event| {
        match event {
            Event::Prefill(progress @ Progress { of, .. }) => {
                bar.get_or_insert_with(|| terminal::Bar::new("prompt", of, layers)).show(0, batch, progress);
            }
            Event::Token { text, .. } | Event::End { text } => {
                if let Some(bar) = bar.take() {
                    bar.clear();
                }
                if written.is_ok() {
                    written = write(text);
                }
            }
        }
        written.is_ok() && terminal::go_on()
    });
    written?;
    Ok(done?)
}
