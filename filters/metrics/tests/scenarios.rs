//! The scenarios on the filters as they are linked here, without WebAssembly. Those in `chained` have other
//! filters beside it, which the command plays.

use tollgate::registration;
use tollgate_metrics::{Metrics, TcpMetrics};

#[test]
fn every_scenario_goes_as_it_says() {
    let passed = tollgate::testing::scenarios("tests/scenarios", registration!(Metrics)).unwrap();
    assert!(passed > 0);
}

#[test]
fn every_scenario_of_tcp_goes_as_it_says() {
    let passed = tollgate::testing::scenarios("tests/tcp", registration!(TcpMetrics)).unwrap();
    assert!(passed > 0);
}
