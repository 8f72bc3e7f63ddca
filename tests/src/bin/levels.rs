//! The levels of a machine that cannot run the test suite: in Node by `tests/levels/node.mjs`, which calls the exported
//! functions.
//!
//! ```text
//! levels check [CASES]   compares every level with scalar
//! levels bench [TYPE]    weights and products a second of every level
//! ```

use dsv4_core::arch::level::{Kind, Level};
use dsv4_core::dtype::{ALL, DType};
use dsv4_tests::levels::{Bench, check_all};
use std::cell::RefCell;
use std::time::Instant;

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Whether level number `level` (of [`Kind::ALL`]) is there.
#[unsafe(no_mangle)]
pub extern "C" fn has(level: usize) -> bool {
    Kind::ALL.get(level).is_some_and(|&kind| Level::new(kind).is_some())
}

/// Compares all levels with scalar: the length of what there is to say of their differences, which lies at [`message`].
#[unsafe(no_mangle)]
pub extern "C" fn check(seed: u64) -> usize {
    MESSAGE.set(check_all(seed).err().unwrap_or_default());
    MESSAGE.with_borrow(String::len)
}

/// Where [`check`]'s message lies.
#[unsafe(no_mangle)]
pub extern "C" fn message() -> *const u8 {
    MESSAGE.with_borrow(|message| message.as_ptr())
}

/// Sets up products of type number `dtype`, of a square matrix of `size` and `count` activations.
#[unsafe(no_mangle)]
pub extern "C" fn prepare(dtype: u32, size: usize, count: usize) {
    let dtype = DType::from_number(dtype).expect("a type's number");
    BENCH.set(Some(Bench::new(dtype, size, count)));
}

/// Runs what was set up.
#[unsafe(no_mangle)]
pub extern "C" fn run(level: usize) -> u32 {
    let level = Level::new(Kind::ALL[level]).expect("a level of this machine");
    BENCH.with_borrow(|bench| bench.as_ref().map_or(0, |bench| bench.run(level)))
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let levels: Vec<Kind> = Kind::ALL.into_iter().filter(|&kind| Level::new(kind).is_some()).collect();
    match args.first().map(String::as_str) {
        Some("check") => {
            let cases = args.get(1).map_or(12, |n| n.parse().expect("a number of cases"));
            for seed in 0..cases {
                if let Err(difference) = check_all(seed) {
                    eprintln!("case {seed}: {difference}");
                    std::process::exit(1);
                }
            }
            println!("{cases} cases, the same bits on {levels:?}");
        }
        Some("bench") => bench(&levels, args.get(1).map(String::as_str)),
        _ => eprintln!("usage: levels check [CASES] | bench [TYPE]"),
    }
}

fn bench(levels: &[Kind], only: Option<&str>) {
    println!("{:8} {:>12} {:>22} {:>22}", "type", "level", "Gweights/s, 1 token", "GMAC/s, 64 tokens");
    for dtype in ALL.into_iter().filter(|&dtype| dtype != DType::I32 && dtype != DType::F8_E4M3) {
        if only.is_some_and(|only| only != format!("{dtype:?}")) {
            continue;
        }
        for &kind in levels {
            let rate = |size: usize, count| {
                let bench = Bench::new(dtype, size, count);
                let level = Level::new(kind).expect("found above");
                bench.run(level);
                let (start, mut runs) = (Instant::now(), 0);
                while start.elapsed().as_millis() < 100 {
                    bench.run(level);
                    runs += 1;
                }
                (size * size * count * runs) as f64 / start.elapsed().as_secs_f64() / 1e9
            };
            let (decode, prefill) = (rate(1024, 1), rate(512, 64));
            println!("{:8} {:>12} {decode:>22.2} {prefill:>22.2}", format!("{dtype:?}"), kind.name());
        }
    }
}
