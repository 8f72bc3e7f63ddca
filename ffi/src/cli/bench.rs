//! `dsv4 bench`: how fast this machine runs a model.

use super::info::Headers;
use super::{ComputeArgs, Result, name_of, open_files, open_model, terminal};
use clap::Args;
use dsv4::core::sampler::Rng;
use dsv4::cost::TokenCost;
use dsv4::host::{Session, rate};
use dsv4::{Error, Logits};
use serde_json::{Value as Json, json};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

/// Measure loading, prefill and decoding, with random tokens that are the same every time
///
/// One batch of them is evaluated and forgotten before the clock runs.
#[derive(Args)]
pub(super) struct BenchArgs {
    /// The model, or `builtin`
    model: PathBuf,
    /// Tokens evaluated in one call
    #[arg(short, value_name = "N", default_value_t = 256)]
    prefill: u32,
    /// Tokens evaluated one by one after them
    #[arg(short = 'n', value_name = "N", default_value_t = 64)]
    decode: u32,
    /// Tokens that come before all of them, unevaluated: the cache is filled with random vectors of unit variance, as
    /// many and as large as those tokens would have left, so that a long context costs no hours
    #[arg(long, value_name = "N", default_value_t = 0)]
    depth: u32,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn bench(args: &BenchArgs) -> Result {
    terminal::catch_ctrl_c();
    let path = Some(&*args.model);
    let start = Instant::now();
    let model = open_model(path)?;
    let load = start.elapsed();
    let config = model.core().config();

    let (depth, prefill, decode) = (args.depth as usize, args.prefill as usize, args.decode as usize);
    let context = (depth + prefill + decode).max(1);
    if context > config.context {
        return Err(super::Failure::about(&name_of(path), Error::ContextFull { context: config.context as u32 }));
    }
    let params = args.compute.params(context)?;
    let mut session = Session::new(model.clone(), &params, args.compute.pool())?;
    let mut rng = Rng::new(0);
    let mut token = || (rng.bits() % config.vocab as u64) as u32;
    let tokens: Vec<u32> = (0..(prefill + decode).max(1)).map(|_| token()).collect();
    let mut logits = vec![0.0; config.vocab];

    // Threads start and memory comes in before the clock runs.
    let warm_up = &tokens[..tokens.len().min(params.batch)];
    session.eval(warm_up, Logits::Last(&mut logits), &mut |_| terminal::go_on())?;
    session.with_mut(|session| session.clear());
    if depth > 0 {
        session.with_mut(|session| session.pretend(depth, &mut random_vectors()))?;
    }

    let bar = terminal::Bar::new("bench", prefill, config.layers);
    let start = Instant::now();
    let (first, rest) = tokens.split_at(prefill);
    if !first.is_empty() {
        session.eval(first, Logits::Last(&mut logits), &mut |progress| {
            bar.show(0, params.batch, progress);
            terminal::go_on()
        })?;
    }
    let prefill_time = start.elapsed();
    let start = Instant::now();
    let rest = &rest[..decode];
    for token in rest.chunks(1) {
        session.eval(token, Logits::Last(&mut logits), &mut |_| terminal::go_on())?;
    }
    let decode_time = start.elapsed();
    bar.clear();

    let files = open_files(path)?;
    let headers = Headers::new(&files.slices())?;
    let cost = TokenCost::new(config, headers.tensors(), params.cache, context as u64);
    let object = json!({
        "load_ms": load.as_secs_f64() * 1e3,
        "prefill_tps": rate(prefill, prefill_time),
        "decode_tps": rate(decode, decode_time),
        "peak_rss_bytes": peak_rss(),
        "weight_bytes_per_token": cost.weight_bytes,
    });
    let mut out = io::stdout().lock();
    match &object {
        Json::Object(map) if !args.json => super::info::print(&mut out, "", map)?,
        _ => writeln!(out, "{object}")?,
    }
    Ok(out.flush()?)
}

/// Fills vectors with values of unit variance, uniform in +-sqrt(3); the same every time.
fn random_vectors() -> impl FnMut(&mut [f32]) {
    let mut rng = Rng::new(1);
    move |vector| {
        for value in vector {
            let unit = (rng.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0; // [-1, 1): variance 1/3
            *value = unit * 1.732_050_8;
        }
    }
}

/// The most memory that this process ever had, mapped files included; known on Linux alone. (`getrusage` would count
/// what the process was before it became this program.)
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix("kB")?;
    Some(kilobytes.trim().parse::<u64>().ok()? * 1024)
}
