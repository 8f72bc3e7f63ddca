//! Threads: `cargo run --release -p dsv4 --example threads [THREADS]`.
//!
//! Runs decode steps over this crate's pool and over rayon's in turns, so that whatever else the machine does slows both
//! down, and prints medians and the ratio of each round's pair; then two sessions at once over one pool against one
//! after the other; then the CPU time that a pool takes while nothing is to be done.

use dsv4::core::arch::disjoint::Parallel;
use dsv4::core::dtype::DType;
use dsv4::file::Files;
use dsv4::host::{Model, Session};
use dsv4::pool::Pool;
use dsv4::{Logits, SessionParams};
use dsv4_tests::synth::{Shape, Types};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Tokens of one measurement.
const TOKENS: usize = 16;
const ROUNDS: usize = 21;

type Shared = Arc<dyn Parallel + Send + Sync>;

struct Rayon(rayon::ThreadPool);

impl Parallel for Rayon {
    fn run(&self, n: usize, task: &(dyn Fn() + Sync)) {
        self.0.install(|| (0..n).into_par_iter().with_max_len(1).for_each(|_| task()));
    }

    fn threads(&self) -> usize {
        self.0.current_num_threads()
    }
}

/// A session, and its decoding of [`TOKENS`] tokens.
struct Decoder(Session, Vec<f32>);

impl Decoder {
    fn new(model: &Arc<Model>, parallel: Shared) -> dsv4::Result<Self> {
        let session = Session::new(model.clone(), &SessionParams::new(TOKENS), parallel)?;
        Ok(Self(session, vec![0.0; model.core().config().vocab]))
    }

    /// Seconds, behind an empty context each time.
    fn run(&mut self) -> dsv4::Result<f64> {
        let Self(session, logits) = self;
        session.with_mut(|session| session.clear());
        let start = Instant::now();
        for token in 0..TOKENS as u32 {
            session.eval(&[token], Logits::Last(logits), &mut |_| true)?;
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Our pool against rayon's.
fn pools(name: &str, model: &Arc<Model>, threads: usize) -> Result<(), Box<dyn Error>> {
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let mut ours = Decoder::new(model, Pool::new(threads))?;
    let mut theirs = Decoder::new(model, Arc::new(Rayon(rayon)))?;
    let mut rounds = vec![];
    for round in 0..=ROUNDS {
        let pair = (ours.run()?, theirs.run()?);
        if round > 0 {
            rounds.push(pair); // the first warms up
        }
    }
    let rate = |seconds: f64| TOKENS as f64 / seconds;
    let (pool, rayon) = (rounds.iter().map(|r| rate(r.0)).collect(), rounds.iter().map(|r| rate(r.1)).collect());
    let ratio = median(rounds.iter().map(|(ours, theirs)| theirs / ours).collect());
    println!(
        "{name}, {threads} threads: pool {:.1} tokens/s, rayon {:.1}, ratio {ratio:.3}",
        median(pool),
        median(rayon)
    );
    Ok(())
}

/// Two sessions at the same time over one pool, against the two one after the other.
fn together(name: &str, model: &Arc<Model>, threads: usize) -> Result<(), Box<dyn Error>> {
    let pool = Pool::new(threads);
    let (mut a, mut b) = (Decoder::new(model, pool.clone())?, Decoder::new(model, pool)?);
    let mut ratios = vec![];
    for _ in 0..=ROUNDS {
        let apart = a.run()? + b.run()?;
        let start = Instant::now();
        thread::scope(|scope| {
            let other = scope.spawn(|| b.run());
            a.run().and(other.join().expect("no panic"))
        })?;
        ratios.push(apart / start.elapsed().as_secs_f64());
    }
    println!(
        "{name}, {threads} threads: two sessions at once {:.3} times as fast as in turns",
        median(ratios.split_off(1))
    );
    Ok(())
}

/// CPU seconds of this process so far; known on Linux alone.
fn cpu_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let threads = std::env::args().nth(1).map(|arg| arg.parse()).transpose()?.unwrap_or_else(Pool::default_threads);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("browser.gguf");
    std::fs::write(&path, Shape::browser(6, 16, Types::mix(DType::Q4_K)).file(1))?;
    let load = |files| Model::load(files, &mut |_| true);
    for (name, model) in [("built-in", load(Files::built_in())?), ("browser slice", load(Files::open(&path)?)?)] {
        pools(name, &model, threads)?;
        together(name, &model, threads)?;
    }

    let model = load(Files::built_in())?;
    let mut decoder = Decoder::new(&model, Pool::new(threads))?;
    decoder.run()?;
    if let Some(before) = cpu_time() {
        thread::sleep(Duration::from_secs(2));
        println!("idle: {:.3} CPU seconds in 2", cpu_time().unwrap_or(f64::NAN) - before);
    }
    Ok(())
}
