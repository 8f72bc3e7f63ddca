//! [`dsv4_fuzz::snapshot`] as a libFuzzer program.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dsv4_fuzz::snapshot::check(data));

/// Without a fuzzer: checks the files given.
#[cfg(not(fuzzing))]
fn main() {
    dsv4_fuzz::check_files(dsv4_fuzz::snapshot::check);
}
