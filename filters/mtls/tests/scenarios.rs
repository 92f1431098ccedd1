//! The scenarios on the filters as they are linked here, without WebAssembly.

use tollgate::registration;
use tollgate_mtls::{Mtls, MtlsTcp};

#[test]
fn every_scenario_of_requests_goes_as_it_says() {
    let passed = tollgate::testing::scenarios("tests/scenarios", registration!(Mtls)).unwrap();
    assert!(passed > 0);
}

#[test]
fn every_scenario_of_connections_goes_as_it_says() {
    let folder = "tests/connections/scenarios";
    let passed = tollgate::testing::scenarios(folder, registration!(MtlsTcp)).unwrap();
    assert!(passed > 0);
}
