//! The scenarios on the filter as it is linked here, without WebAssembly.

use tollgate::registration;
use tollgate_metrics::Metrics;

#[test]
fn every_scenario_goes_as_it_says() {
    let passed = tollgate::testing::scenarios("tests/scenarios", registration!(Metrics)).unwrap();
    assert!(passed > 0);
}
