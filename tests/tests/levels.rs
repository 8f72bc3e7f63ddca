//! Every instruction set gives the bits of the scalar specification, one activation or many, for every type.

use dsv4_core::arch::level::{Kind, Level};
use dsv4_tests::levels::check_all;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn all_levels_give_the_same_bits(seed: u64) {
        prop_assert_eq!(check_all(seed), Ok(()));
    }
}

#[test]
fn this_machine_tests_more_than_scalar() {
    eprintln!("levels tested here: {:?}", Kind::ALL.into_iter().filter_map(Level::new).collect::<Vec<_>>());
}
