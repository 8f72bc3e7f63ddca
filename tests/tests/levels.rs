//! Every instruction set gives the bits of the scalar specification, one activation or many, for every type.

use dsv4_core::dtype::DType;
use dsv4_tests::levels::{check, check_all};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn all_levels_give_the_same_bits(seed: u64) {
        prop_assert_eq!(check_all(seed), Ok(()));
    }
}

/// Rows longer than what a level prepares of few activations at once, and more activations than one batch.
#[test]
fn long_rows_and_many_activations_too() {
    for dtype in [DType::Q4_K, DType::Q6_K, DType::Q8_0] {
        for count in [1, 2, 3, 258] {
            assert_eq!(check(dtype, 6, 33 * 256, count, &mut 1), Ok(()));
        }
    }
}

/// What `include/README.md` asks of threads: the largest of what products keep there are tiles and their outputs.
#[test]
fn a_quarter_of_a_mebibyte_of_stack_is_enough() {
    let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(|| check_all(3)).unwrap();
    assert_eq!(thread.join().unwrap(), Ok(()));
}

/// The core asks the processor itself; the standard library's answer is the oracle.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_levels_of_this_machine_are_found() {
    use dsv4_core::arch::level::{Kind, Level};
    use std::is_x86_feature_detected as has;
    let avx2 = has!("avx2") && has!("fma") && has!("f16c") && has!("bmi1") && has!("bmi2");
    let avx512 = avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
    assert_eq!(Level::new(Kind::Avx2).is_some(), avx2);
    assert_eq!(Level::new(Kind::Avx512).is_some(), avx512 && has!("avx512vnni"));
}
