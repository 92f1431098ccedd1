//! The scenarios on the filter as it is linked here, without WebAssembly.

use std::path::Path;

use tollgate::registration;
use tollgate_host_native::{Filter, check_scenarios};
use tollgate_ratelimit::RateLimit;

#[test]
fn every_scenario_goes_as_it_says() {
    let registration = registration!(RateLimit);
    let filter = Filter {
        start: registration.start,
        call: registration.call,
        callbacks: registration.callbacks,
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let passed = check_scenarios(&folder, filter);
    assert!(passed.is_ok(), "{}", passed.unwrap_err());
}
