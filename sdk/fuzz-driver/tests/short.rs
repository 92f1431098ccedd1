//! The driver on cases that are the same every time, so that it stays alive between runs of the fuzzer.
//! `TOLLGATE_FUZZ_SECONDS=600` has it go on with further cases for so long, where there is no fuzzer;
//! `TOLLGATE_FUZZ_FROM=4372` has it begin with that case, as a failure names it.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tollgate_fuzz_driver::arbitrary::{Arbitrary, Unstructured};
use tollgate_fuzz_driver::{Case, Tally, run};

const CASES: usize = 5_000;
const MOST_BYTES: usize = 1_000;

#[test]
fn any_course_of_things_is_survived_within_the_rules() {
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let end = Instant::now() + Duration::from_secs(number_in("TOLLGATE_FUZZ_SECONDS") as u64);
    let first = number_in("TOLLGATE_FUZZ_FROM");
    let mut all = Tally::default();
    let is_due = |&number: &usize| number < first + CASES || Instant::now() < end;
    for number in (0..).take_while(is_due) {
        if number % 50_000 == 0 {
            eprintln!("{number} cases");
        }
        let mut bytes = vec![0; 100 + number % (MOST_BYTES - 100)];
        random.fill_bytes(&mut bytes);
        if number < first {
            continue;
        }
        let case = Case::arbitrary_take_rest(Unstructured::new(&bytes)).unwrap();
        let shown = format!("{case:?}");
        // What a VM keeps, a thread keeps.
        match thread::spawn(move || run(&case)).join() {
            Ok(Ok(tally)) => all += tally,
            Ok(Err(violation)) => panic!("case {number}: {violation}\n{shown}"),
            Err(panic) => {
                eprintln!("case {number}: {shown}");
                resume_unwind(panic);
            }
        }
    }
    // A driver that no longer drives finds nothing.
    let Tally {
        callbacks,
        nested,
        host_calls,
        faults,
        held,
        let_go,
        replies,
        edits,
        calls,
        peaceful,
    } = all;
    let seen =
        [callbacks, nested, host_calls, faults, held, let_go, replies, edits, calls, peaceful];
    assert!(seen.into_iter().all(|seen| seen > 100), "{all:?}");
}

/// The number in a variable of the environment, 0 where it is not set.
fn number_in(variable: &str) -> usize {
    std::env::var(variable).map_or(0, |text| text.parse().expect("a number"))
}
