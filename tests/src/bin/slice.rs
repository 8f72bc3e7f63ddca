//! Writes slices of V4-Flash: true shapes, fewer layers and experts, random blocks of any tensor type.
//!
//! ```text
//! cargo run --release -p dsv4-tests --bin slice -- --preset flash --dtype Q4_K --layers 6 --experts 16 --out slice.gguf
//! ```

use dsv4_core::dtype::{ALL, DType};
use dsv4_tests::synth::{Shape, Types};
use pico_args::Arguments;
use std::error::Error;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str =
    "slice --out FILE [--preset flash|browser] [--dtype TYPE] [--layers N] [--experts N] [--seed N] [--pure]

  --preset   flash: V4-Flash's widths (default); browser: a quarter of them and a vocabulary of 22016
  --dtype    Q4_K (default), Q8_0, MXFP4, IQ2_XS, ... any GGUF type; the output matrix is Q6_K beside K- and I-quants,
             and all but the routed experts Q8_0 beside MXFP4, as llama.cpp mixes them
  --pure     every large matrix in the type
  --layers   6: ratios 0 0 4 128 4 128, the first three routed by hash
  --experts  16, 6 of them used";

fn main() -> ExitCode {
    match run(Arguments::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slice: {error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(mut args: Arguments) -> Result<(), Box<dyn Error>> {
    let out: PathBuf = args.value_from_str("--out")?;
    let preset: String = args.opt_value_from_str("--preset")?.unwrap_or_else(|| "flash".into());
    let dtype = args.opt_value_from_fn("--dtype", dtype)?.unwrap_or(DType::Q4_K);
    let layers: usize = args.opt_value_from_str("--layers")?.unwrap_or(6);
    let experts: u32 = args.opt_value_from_str("--experts")?.unwrap_or(16);
    let seed: u64 = args.opt_value_from_str("--seed")?.unwrap_or(1);
    let types = if args.contains("--pure") { Types::all(dtype) } else { Types::mix(dtype) };
    let rest = args.finish();
    if !rest.is_empty() {
        return Err(format!("unknown arguments {rest:?}").into());
    }
    if !(1..=128).contains(&layers) || !(1..=1024).contains(&experts) {
        return Err("1 to 128 layers and 1 to 1024 experts".into());
    }
    let shape = match preset.as_str() {
        "flash" => Shape::flash(layers, experts, types),
        "browser" => Shape::browser(layers, experts, types),
        other => return Err(format!("unknown preset {other}").into()),
    };
    let start = Instant::now();
    shape.write(seed, &mut File::create(&out)?)?;
    let (mb, token_mb) = (shape.file_bytes() as f64 / 1e6, shape.token_bytes() as f64 / 1e6);
    println!("{}: {mb:.0} MB, {token_mb:.0} MB a token, in {:.1} s", out.display(), start.elapsed().as_secs_f64());
    Ok(())
}

fn dtype(name: &str) -> Result<DType, String> {
    let known = ALL.into_iter().filter(|t| (*t as u32) < 1000 && *t != DType::I32);
    known
        .clone()
        .find(|t| t.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| format!("unknown type {name}; one of {}", known.map(|t| t.name()).collect::<Vec<_>>().join(" ")))
}
