//! The scenarios on the filters as they are linked here, without WebAssembly.

use example_hello::Hello;
use example_tenants::Tenants;
use tollgate::registration;

#[test]
fn every_scenario_goes_as_it_says() {
    let filters = registration!("edge" = [Tenants, Hello]);
    assert!(tollgate::testing::scenarios("scenarios", filters).unwrap() > 0);
}
