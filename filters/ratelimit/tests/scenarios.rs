//! The scenarios on the filters as they are linked here, without WebAssembly.

use tollgate::registration;
use tollgate_ratelimit::{GlobalRateLimit, RateLimit};

#[test]
fn every_scenario_goes_as_it_says() {
    let passed = tollgate::testing::scenarios("tests/scenarios", registration!(RateLimit)).unwrap();
    assert!(passed > 0);
}

#[test]
fn every_scenario_of_a_service_goes_as_it_says() {
    let folder = "tests/global/scenarios";
    let passed = tollgate::testing::scenarios(folder, registration!(GlobalRateLimit)).unwrap();
    assert!(passed > 0);
}
