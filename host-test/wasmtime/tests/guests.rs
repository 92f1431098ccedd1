//! Modules written by hand: what loads, what is refused, and where a hostile guest ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{ABI, MEMORY, engine};

use tollgate_abi::LogLevel;
use tollgate_host::engine::Module;
use tollgate_host::offline::Offline;
use tollgate_host::proxy::{Outcome, ProxyHost, StartError};
use tollgate_host::report::Verdict;
use tollgate_host::scenario::{FilterSource, FilterUse, HostName, Scenario};
use tollgate_host_wasmtime::{Limits, LoadError, Wasmtime};

fn load(wat: &str) -> Result<(), LoadError> {
    engine(Limits::default()).load(&wat::parse_str(wat).unwrap()).map(|_| ())
}

/// A guest that runs `body` on the request headers.
fn guest(imports: &str, body: &str) -> Vec<u8> {
    let module = format!(
        r#"(module {imports} {ABI} {MEMORY}
            (data (i32.const 64) "hello")
            (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
                {body}
                i32.const 0))"#
    );
    wat::parse_str(&module).expect(&module)
}

/// What the client gets of one request, and what the guest logged.
fn send(limits: Limits, module: &[u8]) -> (Outcome, Vec<String>) {
    let sent = common::send(limits, module).unwrap();
    (sent.exchange.unwrap().outcome, sent.logs)
}

fn status(outcome: &Outcome) -> u16 {
    let Outcome::Response(response) = outcome else { panic!("{outcome:?}") };
    response.status
}

const LOG: &str = r#"(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))"#;

#[test]
fn a_guest_logs_through_its_memory() {
    let (outcome, logs) = send(
        Limits::default(),
        &guest(LOG, "(drop (call $log (i32.const 3) (i32.const 64) (i32.const 5)))"),
    );
    assert_eq!(status(&outcome), 200);
    assert_eq!(logs, [format!("{}: hello", LogLevel::Warn)]);
}

/// What Envoy would say of a module that is refused.
fn refusal(wat: &str) -> Vec<String> {
    match load(wat) {
        Err(LoadError::Refused(words)) => words,
        other => panic!("{other:?}"),
    }
}

const MISSING: &str = "Failed to load Wasm module due to a missing import: ";

#[test]
fn what_is_wrong_is_told_at_once() {
    let imports = r#"(import "env" "proxy_no" (func)) (import "env" "proxy_log" (func (param i64)))
        (import "wasi_snapshot_preview1" "proc_raise" (func)) (import "env" "proxy_done" (func (result i32)))"#;
    assert_eq!(
        refusal(&format!("(module {imports} {ABI} {MEMORY})")),
        [
            format!("{MISSING}env.proxy_no"),
            "Failed to load Wasm module due to an import type mismatch: env.proxy_log, \
             want: i64 -> void, but host exports: i32 i32 i32 -> i32"
                .into(),
            format!("{MISSING}wasi_snapshot_preview1.proc_raise"),
        ]
    );
}

#[test]
fn what_only_a_scenario_could_serve_is_left_to_it() {
    let unserved = |import: &str, version: &str| {
        let module = format!(
            r#"(module (import {import} (func (param i32) (result i32))) {MEMORY}
                (func (export "proxy_abi_version_{version}")))"#
        );
        let module = engine(Limits::default()).load(&wat::parse_str(module).unwrap()).unwrap();
        module.unserved().to_vec()
    };
    assert_eq!(unserved(r#""env" "proxy_no""#, "0_2_1"), ["env.proxy_no"]);
    assert_eq!(unserved(r#""env" "proxy_get_log_level""#, "0_2_1"), [""; 0]);
    assert_eq!(unserved(r#""env" "proxy_get_log_level""#, "0_2_0"), ["env.proxy_get_log_level"]);
}

#[test]
fn a_module_without_an_abi_marker_is_refused() {
    let unknown = ["Missing or unknown Proxy-Wasm ABI version"];
    assert_eq!(refusal(&format!("(module {MEMORY})")), unknown);
    let fork = format!(r#"(module {MEMORY} (func (export "proxy_abi_version_0_2_100")))"#);
    assert_eq!(refusal(&fork), unknown);
}

#[test]
fn what_only_the_engine_cannot_do_is_no_verdict() {
    let old = format!("(module (tag $t) {ABI} {MEMORY} (func try throw $t catch $t end))");
    assert!(matches!(load(&old), Err(LoadError::Unsupported(_))), "{:?}", load(&old));
}

#[test]
fn an_endless_loop_ends_at_its_deadline() {
    let limits = Limits {
        fuel_per_call: u64::MAX,
        time_per_call: Duration::from_millis(50),
        ..Limits::default()
    };
    let (outcome, _) = send(limits, &guest("", "(loop $again (br $again))"));
    assert_eq!(status(&outcome), 503);
}

#[test]
fn memory_grows_up_to_its_limit() {
    let grow = |pages: u32| {
        let body = format!(
            "(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable))"
        );
        let limits = Limits { memory_bytes: 1 << 20, ..Limits::default() };
        status(&send(limits, &guest("", &body)).0)
    };
    assert_eq!(grow(15), 200);
    assert_eq!(grow(16), 503);
}

#[test]
fn pointers_out_of_memory_are_answered_and_the_guest_lives() {
    // 6 is invalid memory access: anything else traps, and the client would see 503.
    for (address, size) in [("65530", "7"), ("-1", "1"), ("64", "-1"), ("-1", "-1")] {
        let body = format!(
            "(if (i32.ne (call $log (i32.const 2) (i32.const {address}) (i32.const {size})) (i32.const 6))
                (then unreachable))"
        );
        let (outcome, _) = send(Limits::default(), &guest(LOG, &body));
        assert_eq!(status(&outcome), 200, "{address} {size}");
    }
}

#[test]
fn what_is_not_allowed_is_answered_before_its_pointers_are_read() {
    let imports = r#"(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))"#;
    let body = "(if (i32.ne (call $log (i32.const 2) (i32.const -1) (i32.const 1)) (i32.const 10))
            (then unreachable))
        (if (i32.ne (call $fd_write (i32.const 1) (i32.const -1) (i32.const 1) (i32.const -1)) (i32.const 76))
            (then unreachable))";
    let steps = "steps: [ { request: {}, expect: { response: { status: 200 } } } ]";
    let only = ["proxy_on_request_headers"];
    let verdict = common::verdict_allowing(&only, &guest(imports, body), steps);
    assert!(matches!(verdict, Verdict::Passed), "{verdict:?}");
}

#[test]
fn a_host_call_before_the_first_context_is_a_trap() {
    let import = r#"(import "env" "proxy_done" (func $done (result i32)))"#;
    let module = format!(
        r#"(module {import} {ABI} {MEMORY} (func (export "_initialize") (drop (call $done))))"#
    );
    let module = wat::parse_str(module).unwrap();
    let engine = engine(Limits::default());
    let loader = |_: &FilterUse| -> Result<Arc<dyn Module>, StartError> {
        Ok(Arc::new(engine.load(&module).unwrap()))
    };
    let filter = FilterUse::new(FilterSource::BuiltIn("x".into()), Vec::new());
    let host = Offline::new(HostName::Wasmtime, &loader);
    match host.start(&Scenario::without_steps(filter)) {
        Err(StartError::Refused { words }) => {
            assert!(words.contains("not available before the VM starts"), "{words}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("started"),
    }
}

#[test]
fn a_compiled_module_is_taken_from_the_cache_by_another_engine() {
    let folder = tempfile::tempdir().unwrap();
    let module = guest("", "");
    let hits = || {
        let engine = Wasmtime::new(Limits::default(), Some(folder.path().to_owned())).unwrap();
        engine.load(&module).unwrap();
        engine.cache_hits()
    };
    assert_eq!((hits(), hits()), (0, 1));
}
