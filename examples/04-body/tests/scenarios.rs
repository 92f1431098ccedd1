//! The scenarios on the filter as it is linked here, without WebAssembly.

use std::path::Path;

use example_depth::Depth;
use tollgate_host_native::{Filter, check_scenarios};

#[test]
fn every_scenario_goes_as_it_says() {
    let filter = tollgate::registration!(Depth);
    let filter = Filter { start: filter.start, call: filter.call, callbacks: filter.callbacks };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    assert_eq!(check_scenarios(&folder, filter).err(), None);
}
