//! `tollgate trace` for tools: JSON, a page, and Envoy's own log.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::process::Output;

use common::tollgate;
use serde_json::Value;
use tempfile::TempDir;

const GUEST: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 0))"#;

const LOG: &str = "host-test/core/tests/envoy-log/ratelimit.log";

fn text(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_trace_is_json_and_a_page() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("guest.wasm"), wat::parse_str(GUEST).unwrap()).unwrap();
    let scenario = "name: one request\nfilters: [ { filter: ./guest.wasm } ]\nsteps: [ { advance: 2s }, { request: {} } ]\n";
    std::fs::write(path("scenario.yaml"), scenario).unwrap();
    let (scenario, page) = (path("scenario.yaml"), path("page.html"));

    let json = text(&tollgate(&["trace", &scenario, "--format", "json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["name"], "one request");
    let entries = json["entries"].as_array().unwrap();
    let callback =
        entries.iter().find(|entry| entry["name"] == "proxy_on_request_headers").unwrap();
    assert_eq!((&callback["at_seconds"], &callback["guest"]), (&2.0.into(), &"guest@0".into()));

    let nothing = text(&tollgate(&["trace", &scenario, "--html", &page]));
    assert_eq!(nothing, "");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<title>one request</title>") && page.contains("guest@0"), "{page}");
}

#[test]
fn a_trace_has_what_a_scenario_says_and_no_more() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("guest.wasm"), wat::parse_str(GUEST).unwrap()).unwrap();
    let lines = |name: &str, strict: &str| {
        let scenario = format!(
            "name: one request\n{strict}filters: [ {{ filter: ./guest.wasm }} ]\nsteps: [ {{ request: {{}} }} ]\n"
        );
        std::fs::write(path(name), scenario).unwrap();
        text(&tollgate(&["trace", &path(name)]))
    };
    let lax = lines("lax.yaml", "");
    assert_eq!(lax.matches("proxy_on_request_headers(").count(), 1, "{lax}");
    assert_eq!(lines("strict.yaml", "strict: true\n"), lax);
}

#[test]
fn a_log_of_envoy_is_a_trace() {
    let output = tollgate(&["trace", "--envoy-log", LOG]);
    let lines = text(&output);
    assert!(lines.contains("proxy_on_configure(context=1, configuration_size=80)\n"), "{lines}");
    assert!(lines.contains("    proxy_increment_metric(metric=4, offset=1) = ok\n"), "{lines}");
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(notes.contains("lines say nothing of the border"), "{notes}");
    let json = text(&tollgate(&["trace", "--envoy-log", LOG, "--format", "json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["other_lines"].as_u64().unwrap() > 0);

    let refuses = |arguments: &[&str]| {
        assert_eq!(tollgate(arguments).status.code(), Some(2), "{arguments:?}");
    };
    refuses(&["trace", "--envoy-log", "no/such.log"]);
    refuses(&["trace", "--envoy-log", "cli/tests/tracing.rs"]);
    refuses(&["trace", "--envoy-log", LOG, "scenario.yaml"]);
    refuses(&["trace"]);
}
