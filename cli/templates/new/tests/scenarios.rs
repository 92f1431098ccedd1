//! The scenario files on the filter as it is linked here. `tollgate test` plays them on the module.

#[test]
fn every_scenario_goes_as_it_says() {
    let filter = tollgate::registration!({{crate}}::Tenants);
    tollgate::testing::scenarios("tests/scenarios", filter).unwrap();
}
