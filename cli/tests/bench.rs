//! `tollgate bench` as a user meets it: figures that must hold on any machine, and clear errors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::tollgate;
use serde_json::{Value, json};

/// Sets a header on each request, after asking for a property when it is `curious`.
fn module(name: &str, curious: bool) -> String {
    let ask = r"(drop (call $property
        (i32.const 64) (i32.const 6) (i32.const 128) (i32.const 132)))";
    let text = format!(
        r#"(module
            (import "env" "proxy_get_property"
                (func $property (param i32 i32 i32 i32) (result i32)))
            (import "env" "proxy_replace_header_map_value"
                (func $replace (param i32 i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 2)
            (data (i32.const 64) "x-seen")
            (func (export "proxy_abi_version_0_2_1"))
            (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                {}
                (call $replace (i32.const 0)
                    (i32.const 64) (i32.const 6) (i32.const 64) (i32.const 4))))"#,
        if curious { ask } else { "" }
    );
    file(name, &wat::parse_str(&text).unwrap()).to_str().unwrap().to_owned()
}

fn file(name: &str, content: &[u8]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn report(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn bench(arguments: &[&str]) -> Output {
    let mut all = vec!["bench", "--time", "0.05"];
    all.extend(arguments);
    tollgate(&all)
}

#[test]
fn filters_are_measured_beside_each_other() {
    let (plain, curious) = (module("plain.wasm", false), module("curious.wasm", true));
    let page = file("page.html", b"");
    let page = page.to_str().unwrap();
    let report = report(&bench(&[&plain, &curious, "--format", "json", "--html", page]));

    let check = |pointer: &str, expected: &Value| {
        assert_eq!(report.pointer(pointer), Some(expected), "{pointer} of {report:#}");
    };
    check("/on", &json!("wasmtime"));
    check("/targets/0/name", &json!(plain));
    check("/targets/1/name", &json!(curious));
    check("/targets/0/ratio/median", &json!(1.0));
    for (target, calls, from, to) in [(0, 1.0, 10.0, 0.0), (1, 2.0, 16.0, 0.0)] {
        let target = format!("/targets/{target}");
        check(&format!("{target}/traffic/host_calls"), &json!(calls));
        check(&format!("{target}/traffic/bytes_from_guest"), &json!(from));
        check(&format!("{target}/traffic/bytes_to_guest"), &json!(to));
        check(&format!("{target}/callbacks/0/callback"), &json!("proxy_on_request_headers"));
        check(&format!("{target}/callbacks/0/times"), &json!(1.0));
        check(&format!("{target}/callbacks/0/host_calls"), &json!(calls));
        for bytes in ["start_bytes", "warm_bytes", "end_bytes"] {
            check(&format!("{target}/memory/{bytes}"), &json!(2 << 16));
        }
        let target = report.pointer(&target).unwrap();
        assert_eq!(target["answers"].as_object().unwrap().keys().collect::<Vec<_>>(), ["200"]);
        let fuel = target["callbacks"][0]["fuel"].as_f64();
        assert!(fuel.is_some_and(|fuel| fuel > 5.0) && fuel == target["fuel"].as_f64());
        let micros = target["micros"]["median"].as_f64();
        assert!(micros.is_some_and(|micros| micros > 0.0), "{target:#}");
        let rounds = report["rounds"].as_u64().unwrap();
        let by_round = target["micros_by_round"].as_array().unwrap().len();
        assert_eq!(u64::try_from(by_round).unwrap(), rounds);
        for time in ["compile_millis", "load_millis", "start_millis"] {
            assert!(target["start"][time].as_f64().is_some_and(|time| time > 0.0), "{time}");
        }
    }

    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<svg").count(), 3);
    assert_eq!(page.matches("</svg>").count(), 3);
    for text in [plain.as_str(), &curious, "proxy_on_request_headers", "proxy_get_property"] {
        assert!(page.contains(text), "{text}");
    }
    // The name of the SVG namespace is the only address.
    assert_eq!(page.matches("://").count(), page.matches("http://www.w3.org/2000/svg").count());
}

#[test]
fn the_requests_of_a_scenario_are_repeated() {
    module("repeated.wasm", false);
    let scenario = "name: x
filters: [ { filter: ./repeated.wasm } ]
workers: 3
steps:
  - { request: { headers: [ [x-seen, a] ] }, repeat: 3, expect: { response: { status: 500 } } }
  - { advance: 5s }
  - { request: { method: POST, body: hello }, upstream: { status: 404 } }
";
    let scenario = file("repeated.yaml", scenario.as_bytes());
    let report = report(&bench(&[scenario.to_str().unwrap(), "--format", "json"]));
    let answers = report["targets"][0]["answers"].as_object().unwrap();
    let times = |status: &str| answers[status].as_u64().unwrap();
    assert_eq!(times("200"), 3 * times("404"), "{answers:?}");
}

#[test]
fn a_table_names_what_was_measured() {
    let text = bench(&[&module("table.wasm", true), "--header", "x-user: alice"]);
    let text = String::from_utf8(text.stdout).unwrap();
    for word in ["µs per request", "proxy_on_request_headers", "proxy_get_property", "flat"] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
}

#[test]
fn what_cannot_be_measured_is_told() {
    let check = |arguments: &[&str], status: i32, words: &str| {
        let output = bench(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{error}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        assert!(error.contains(words), "`{words}` is not in: {error}");
    };
    let wasm = module("told.wasm", false);
    check(&["no/such.wasm"], 2, "no/such.wasm");
    check(&[&wasm, "--config", "no/such.yaml"], 2, "no/such.yaml");
    check(&[&wasm, "--header", "nonsense"], 2, "NAME: VALUE");
    let idle = "name: x\nfilters: [ { filter: ./told.wasm } ]\nsteps: [ { advance: 1s } ]\n";
    let idle = file("idle.yaml", idle.as_bytes());
    check(&[idle.to_str().unwrap()], 2, "no step is a request");
    let refusing = r#"(module (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 0)
        (func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const 0))"#;
    let refusing = file("refusing.wasm", &wat::parse_str(refusing).unwrap());
    check(&[refusing.to_str().unwrap()], 1, "refused its configuration");
}
