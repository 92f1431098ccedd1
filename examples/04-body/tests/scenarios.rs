//! The scenarios on the filter as it is linked here, without WebAssembly.

use example_depth::Depth;
use tollgate::registration;

#[test]
fn every_scenario_goes_as_it_says() {
    let passed = tollgate::testing::scenarios("scenarios", registration!(Depth)).unwrap();
    assert!(passed > 0);
}
