//! The scenarios on the filter as it is linked here, without WebAssembly.

use example_authoriser::Authoriser;
use tollgate::registration;

#[test]
fn every_scenario_goes_as_it_says() {
    let passed = tollgate::testing::scenarios("scenarios", registration!(Authoriser)).unwrap();
    assert!(passed > 0);
}
