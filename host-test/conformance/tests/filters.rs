//! The scenarios of the filters on the SDK, on filters that are linked here, without WebAssembly.
//! `agreement.rs` plays them on wasmtime and on Envoy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tollgate::testing::scenarios;
use tollgate::{Registration, registration};
use tollgate_conformance_filters::{Chunks, ChunksResizing, Maps, Whole, WholeResizing};

fn check(name: &str, registration: Registration) {
    let passed = scenarios(format!("filters/scenarios/{name}"), registration).unwrap();
    assert!(passed > 0);
}

#[test]
fn whole_bodies_go_as_the_scenarios_say() {
    check("whole", registration!(Whole));
}

#[test]
fn whole_bodies_are_resized_as_the_scenarios_say() {
    check("whole_resizing", registration!(WholeResizing));
}

#[test]
fn chunks_go_as_the_scenarios_say() {
    check("chunks", registration!(Chunks));
}

#[test]
fn chunks_are_resized_as_the_scenarios_say() {
    check("chunks_resizing", registration!(ChunksResizing));
}

#[test]
fn headers_and_trailers_go_as_the_scenarios_say() {
    check("maps", registration!(Maps));
}
