//! The drivers on cases that are the same every time, so that they stay alive between runs of the fuzzer.
//! `TOLLGATE_FUZZ_SECONDS=600` has each go on with further cases for so long, where there is no fuzzer;
//! `TOLLGATE_FUZZ_FROM=4372` has it begin with that case, as a failure names it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tollgate_host_fuzz_driver::arbitrary::{Arbitrary, Unstructured};
use tollgate_host_fuzz_driver::{CallsCase, ModuleCase, Tally, run_calls, run_module};

fn check<C: for<'a> Arbitrary<'a> + std::fmt::Debug>(
    cases: usize,
    run: fn(&C) -> Result<Tally, String>,
) -> Tally {
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let end = Instant::now() + Duration::from_secs(number_in("TOLLGATE_FUZZ_SECONDS") as u64);
    let first = number_in("TOLLGATE_FUZZ_FROM");
    let mut all = Tally::default();
    let is_due = |&number: &usize| number < first + cases || Instant::now() < end;
    for number in (0..).take_while(is_due) {
        let mut bytes = vec![0; 200 + number * 7 % 3000];
        random.fill_bytes(&mut bytes);
        if number < first {
            continue;
        }
        let case = C::arbitrary_take_rest(Unstructured::new(&bytes)).expect("any bytes are a case");
        match run(&case) {
            Ok(tally) => all += tally,
            Err(wrong) => panic!("case {number}: {wrong}\n{case:?}"),
        }
    }
    // A driver that no longer drives finds nothing.
    let Tally { started, calls, refused, traps, failures } = all;
    assert!([calls, refused].into_iter().all(|seen| seen > 1000), "{all:?}");
    assert!([started, traps, failures].into_iter().all(|seen| seen > 10), "{all:?}");
    all
}

/// The number in a variable of the environment, 0 where it is not set.
fn number_in(variable: &str) -> usize {
    std::env::var(variable).map_or(0, |text| text.parse().expect("a number"))
}

#[test]
fn any_host_calls_are_answered_with_reasons_and_in_bounds() {
    check::<CallsCase>(300, run_calls);
}

#[test]
fn any_module_ends_in_a_report() {
    check::<ModuleCase>(150, run_module);
}
