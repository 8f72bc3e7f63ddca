//! The command line: one subcommand a file, and here what they share.

mod bench;
mod chat;
mod detokenize;
mod info;
mod logits;
mod plan;
mod run;
mod terminal;
mod tokenize;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dsv4::core::arch::level::{Kind, Level};
use dsv4::file::{FileError, Files};
use dsv4::host::{Generate, Model, Tokenizer};
use dsv4::pool::Pool;
use dsv4::{CacheFormat, Error, MatmulMode, Sampler, Sampling, SessionParams};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// DeepSeek-V4 on your own machine.
///
/// MODEL is a .gguf file, or the first of its splits (-00001-of-0000N.gguf); `builtin` is the small model inside this
/// binary, which also serves where MODEL is optional and left out.
#[derive(Parser)]
#[command(name = "dsv4", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Chat(chat::ChatArgs),
    Info(info::InfoArgs),
    Plan(plan::PlanArgs),
    Logits(logits::LogitsArgs),
    Bench(bench::BenchArgs),
    Tokenize(tokenize::TokenizeArgs),
    Detokenize(detokenize::DetokenizeArgs),
}

/// Reads the command line and does what it says. Exit status 0: done; 1: an error, told in one line; 2: wrong usage;
/// 130: cancelled by Ctrl-C.
pub(crate) fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Chat(args) => chat::chat(&args),
        Command::Info(args) => info::info(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Logits(args) => logits::logits(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Tokenize(args) => tokenize::tokenize(&args),
        Command::Detokenize(args) => detokenize::detokenize(&args),
    };
    match result {
        // Whoever read our output has enough of it.
        Ok(()) | Err(Failure::Pipe) => ExitCode::SUCCESS,
        Err(Failure::Cancelled) => ExitCode::from(130),
        Err(Failure::Message(message)) => {
            terminal::complain(&message);
            ExitCode::FAILURE
        }
    }
}

/// Why a command ends early.
#[derive(Debug)]
enum Failure {
    /// For a reason that the user is told.
    Message(String),
    /// Standard output was closed.
    Pipe,
    /// By Ctrl-C.
    Cancelled,
}

type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    /// `what`, about the file at `path`.
    fn about(path: &Path, what: impl fmt::Display) -> Self {
        Self::Message(format!("{}: {what}", path.display()))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error == Error::Cancelled { Self::Cancelled } else { Self::Message(error.to_string()) }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::Message(error.to_string())
    }
}

/// Of writing to standard output: whoever reads or writes another file says which.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Pipe } else { Self::Message(format!("output: {error}")) }
    }
}

/// How text is generated.
#[derive(Args)]
struct GenerateArgs {
    /// Tokens to generate at most
    #[arg(short = 'n', value_name = "N", default_value_t = 256)]
    max_tokens: usize,
    /// 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = temperature)]
    temp: f32,
    /// Choose among the K likeliest tokens (0: all)
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,
    /// Choose among the likeliest tokens that together reach probability P
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = probability)]
    top_p: f32,
    /// Choose among tokens at least P times as likely as the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    min_p: f32,
    /// The same seed gives the same text
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

impl GenerateArgs {
    fn generate(&self, stop: Option<u32>) -> Generate {
        let sampling = Sampling {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            ..Sampling::default()
        };
        let (sampler, stop) = (Sampler::new(sampling, self.seed), stop.into_iter().collect());
        Generate { max_tokens: self.max_tokens, sampler, stop }
    }
}

fn temperature(text: &str) -> std::result::Result<f32, String> {
    text.parse().ok().filter(|t: &f32| t.is_finite() && *t >= 0.0).ok_or("not a number of at least 0".into())
}

fn probability(text: &str) -> std::result::Result<f32, String> {
    text.parse().ok().filter(|p| (0.0..=1.0).contains(p)).ok_or("not a number from 0 to 1".into())
}

/// How the model is computed.
#[derive(Args)]
struct ComputeArgs {
    /// Threads [default: all physical cores]
    #[arg(short, value_name = "THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// How matrices are multiplied: with f32 activations, or with 8-bit ones
    #[arg(long, value_enum, default_value_t = Matmul::Fast)]
    matmul: Matmul,
    /// How the cache is stored: as computed, or as the model was trained
    #[arg(long, value_enum, default_value_t = Cache::F32)]
    cache: Cache,
    /// The instructions used: auto, scalar, avx2 or avx512; changes no result
    #[arg(long, value_name = "LEVEL", default_value = "auto", value_parser = level)]
    numerics_level: Level,
}

#[derive(Clone, Copy, ValueEnum)]
enum Matmul {
    Exact,
    Fast,
}

#[derive(Clone, Copy, ValueEnum)]
enum Cache {
    F32,
    Official,
}

/// The instructions of this name, or the best that this machine has for `auto`.
fn level(name: &str) -> std::result::Result<Level, String> {
    if name == "auto" {
        return Ok(Level::detect());
    }
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    Level::new(kind.ok_or("no such level")?).ok_or("this machine has not got them".into())
}

impl ComputeArgs {
    fn pool(&self) -> Arc<Pool> {
        self.threads.map_or_else(Pool::physical, |threads| Pool::new(threads.into()))
    }

    /// A session of `context` positions, which must fit the model's.
    fn params(&self, context: usize) -> Result<SessionParams> {
        let matmul = match self.matmul {
            Matmul::Exact => MatmulMode::Exact,
            Matmul::Fast => MatmulMode::Fast,
        };
        let (cache, level) = (self.cache.format()?, self.numerics_level);
        Ok(SessionParams { rewind: 0, matmul, cache, level, ..SessionParams::new(context) })
    }
}

impl Cache {
    fn format(self) -> Result<CacheFormat> {
        match self {
            Self::F32 => Ok(CacheFormat::F32),
            Self::Official => Err(Error::Unsupported { what: "the official cache format, yet" }.into()),
        }
    }
}

/// The files of `model`, or of the built-in one.
fn open_files(model: Option<&Path>) -> Result<Files> {
    match given(model) {
        Some(path) => Ok(Files::open(path)?),
        None => Ok(Files::built_in()),
    }
}

/// The path, unless it stands for the built-in model.
fn given(model: Option<&Path>) -> Option<&Path> {
    model.filter(|path| *path != "builtin")
}

/// What errors call the model.
fn name_of(model: Option<&Path>) -> PathBuf {
    given(model).unwrap_or("builtin".as_ref()).to_owned()
}

/// Loads `model`, or the built-in one.
fn open_model(model: Option<&Path>) -> Result<Arc<Model>> {
    let loaded = Model::load(open_files(model)?, &mut |_| terminal::go_on());
    let loaded = loaded.map_err(|error| match error {
        Error::Cancelled => Failure::Cancelled,
        error => Failure::about(&name_of(model), error),
    })?;
    if loaded.core().config().yarn_assumed {
        terminal::complain("note: the file lacks the YaRN keys; the published model's values are taken");
    }
    Ok(loaded)
}

/// The model's tokenizer.
fn tokenizer_of<'a>(model: &'a Model, path: Option<&Path>) -> Result<&'a Tokenizer> {
    model.tokenizer().map_err(|error| Failure::about(&name_of(path), error))
}

/// The tokenizer of a model or a `tokenizer.json`.
fn open_tokenizer(path: &Path) -> Result<Tokenizer> {
    match given(Some(path)) {
        Some(path) => Ok(Tokenizer::open(path)?),
        None => Tokenizer::from_file(Files::built_in().first()).map_err(|e| Failure::about(path, e)),
    }
}

/// All bytes of a file, or of standard input for `-`.
fn read_all(path: &Path) -> Result<Vec<u8>> {
    let bytes = if path == "-" {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::stdin().lock(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    bytes.map_err(|error| Failure::about(path, error))
}
