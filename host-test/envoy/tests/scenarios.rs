//! Scenarios on a real Envoy.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::{Stage, scenario};
use tollgate_host::proxy::{Outcome, ProxyHost, StartError};
use tollgate_host::report::Verdict;
use tollgate_host::run::run;
use tollgate_host::scenario::{AdvanceStep, Step};

/// Plays a scenario, which must pass.
fn check(text: &str) {
    let Some(stage) = Stage::new() else { return };
    assert_eq!(run(&scenario(text), &stage.host).unwrap(), Verdict::Passed, "{text}");
}

/// Starts the filters of a scenario, which the host must refuse.
fn check_refused(filter: &str, expected: &[&str]) {
    let Some(stage) = Stage::new() else { return };
    let text = format!("{{ name: any, filters: [ {filter} ], steps: [ {{ request: {{}} }} ] }}");
    match stage.host.start(&scenario(&text)).map(|_| ()) {
        Err(StartError::Refused { words }) => {
            assert_eq!(words.lines().collect::<Vec<_>>(), expected, "{filter}");
        }
        other => panic!("{filter}: {other:?}"),
    }
}

#[test]
fn a_filter_sees_and_changes_what_passes() {
    check(
        r#"
name: header, metric and log line of a guest
filters: [ { filter: mark, config: on } ]
steps:
  - request: { path: "/orders?q=1", headers: [ [x-user, alice], [x-user, bob], [x-raw, { hex: ff80 }], [x-empty, ""] ] }
    upstream: { status: 201, headers: [ [x-up, { hex: "ff" }] ], body: made }
    expect:
      upstream:
        method: GET
        path: "/orders?q=1"
        headers:
          - [host, example.com]
          - [x-user, alice]
          - [x-user, bob]
          - [x-raw, { hex: ff80 }]
          - [x-empty, ""]
          - [x-forwarded-proto, http]
          - [x-mark, { hex: 6dff }]
      response: { status: 201, headers: [ [x-up, { hex: "ff" }], [content-length, "4"] ], body: made, absent: [ server, x-envoy-upstream-service-time ] }
      metrics: { mark_requests: 1, mark_logged: 1 }
      logs: [ { level: warn, contains: "marked:\ntwo lines, " } ]
  - request: {}
    repeat: 20
    expect: { metrics: { mark_requests: 21, mark_logged: 21 } }
"#,
    );
}

#[test]
fn a_level_of_logging_holds_back_what_is_below() {
    check(
        r"
name: no warnings wanted
filters: [ { filter: mark, config: on } ]
log_level: error
steps: [ { request: {}, expect: { no_logs: [ marked ] } } ]
",
    );
}

#[test]
fn the_start_time_and_a_configuration_have_expectations() {
    check(
        r"
name: ticks until another configuration
filters: [ { filter: tick } ]
start: { expect: { logs: [ configured ], no_logs: [ ticked ] } }
steps:
  - { configure: { filter: tick, config: on }, expect: { logs: [ configured ] } }
  - { advance: 500ms, expect: { logs: [ ticked ] } }
",
    );
}

#[test]
fn each_worker_has_its_own_guest_and_its_own_client() {
    check(
        r#"
name: three workers in turn, then by name
filters: [ { filter: count } ]
workers: 3
steps:
  - { request: {}, repeat: 3, expect: { upstream: { headers: [ [x-count, "1"] ] } } }
  - { request: {}, repeat: 3, expect: { upstream: { headers: [ [x-count, "2"] ] } } }
  - { request: {}, worker: 1, expect: { upstream: { headers: [ [x-count, "3"] ] } } }
  - { request: {}, worker: 1, expect: { upstream: { headers: [ [x-count, "4"] ] } } }
  - { request: {}, worker: 2, expect: { upstream: { headers: [ [x-count, "3"] ] } } }
"#,
    );
}

#[test]
fn a_client_whose_connection_is_closed_stays_with_its_worker() {
    check(
        r#"
name: connection close
filters: [ { filter: count } ]
workers: 3
steps:
  - { request: { headers: [ [connection, close] ] }, repeat: 6 }
  - { request: { headers: [ [connection, close] ] }, worker: 1, expect: { upstream: { headers: [ [x-count, "3"] ] } } }
  - { request: {}, worker: 0, expect: { upstream: { headers: [ [x-count, "3"] ] } } }
  - { request: {}, worker: 1, expect: { upstream: { headers: [ [x-count, "4"] ] } } }
  - { request: {}, worker: 2, expect: { upstream: { headers: [ [x-count, "3"] ] } } }
"#,
    );
}

#[test]
fn a_local_reply_does_not_reach_the_upstream() {
    check(
        r#"
name: denied, with and without a body on its way
filters: [ { filter: deny } ]
workers: 2
steps:
  - request: {}
    repeat: 3
    expect: { upstream: none, response: { status: 403, headers: [ [x-why, policy], [content-length, "2"], [content-type, text/plain] ], body: "no" } }
  - request: { method: POST, body: [ some, thing ] }
    repeat: 3
    expect: { upstream: none, response: { status: 403, body: "no" } }
"#,
    );
}

#[test]
fn chunks_and_trailers_come_as_they_are_sent() {
    let Some(stage) = Stage::new() else { return };
    let scenario = scenario(
        r#"
name: chunks
filters: [ { filter: chunks } ]
steps:
  - request: { method: POST, headers: [ [te, trailers] ], body: [ a, bc, def ], trailers: [ [x-end, "1"], [x-end, "2"] ] }
    upstream: { body: [ gh, i ], trailers: [ [x-sum, "3"] ] }
    expect:
      upstream: { headers: [ [te, trailers] ], absent: [ trailer ], body: abcdef, trailers: [ [x-end, "1"], [x-end, "2"] ] }
      response: { absent: [ trailer ], body: ghi, trailers: [ [x-sum, "3"] ] }
"#,
    );
    let mut proxy = stage.host.start(&scenario).unwrap();
    let failures = tollgate_host::run::play(&scenario, proxy.as_mut());
    assert!(failures.is_empty(), "{failures:?}");
    let seen = proxy.observe(&|_| true).unwrap();
    let lines: Vec<String> =
        seen.logs.iter().map(|line| String::from_utf8_lossy(&line.message).into()).collect();
    assert_eq!(
        lines,
        [
            "request headers, last 0",
            "request body 1, last 0",
            "request body 2, last 0",
            "request body 3, last 0",
            "request trailers 2",
            "response headers, last 0",
            "response body 2, last 0",
            "response body 1, last 0",
            "response trailers 1",
        ]
    );
}

#[test]
fn an_upstream_may_wait_or_break_the_connection() {
    check(
        r#"
name: slow, broken, well again
filters: [ { filter: count } ]
steps:
  - { request: {}, upstream: { delay: 50ms }, expect: { response: { status: 200, body: "" } } }
  - { request: {}, upstream: { reset: true }, expect: { upstream: {}, response: { status: 503, body: { contains: connection termination } } } }
  - { request: { method: HEAD }, upstream: { status: 404 }, expect: { response: { status: 404 } } }
  - { request: {}, upstream: { status: 204 }, expect: { response: { status: 204, absent: [ content-length ] } } }
"#,
    );
}

#[test]
fn the_wall_clock_can_be_set() {
    check(
        r"
name: forward and back
filters: [ { filter: clock } ]
steps:
  - { request: {} }
  - { request: {}, expect: { logs: [ { contains: forward a } ] } }
  - { clock: +3s }
  - { request: {}, expect: { logs: [ { contains: forward d } ] } }
  - { clock: -10s }
  - { request: {}, expect: { logs: [ { contains: back } ] } }
  - { request: {}, expect: { logs: [ { contains: forward a } ] } }
  - { advance: 1s }
  - { request: {}, expect: { logs: [ { contains: forward b } ] } }
",
    );
}

#[test]
fn a_refused_filter_is_told_in_envoys_own_words() {
    check_refused(
        "{ filter: mark }",
        &[
            "empty configuration: name a mark",
            "Wasm VM failed Failed to configure base Wasm plugin",
            "Plugin mark failed to load",
        ],
    );
    check_refused(
        "{ filter: text }",
        &[
            "Wasm VM failed Failed to parse corrupted Wasm module",
            "Wasm VM failed Failed to load Wasm code",
            "Plugin text failed to load",
        ],
    );
    check(
        r"
name: a trap while starting
filters: [ { filter: trap } ]
refused: 'Function: proxy_on_vm_start failed: Uncaught RuntimeError: unreachable'
",
    );
}

#[test]
fn a_module_that_is_not_there_is_not_a_verdict() {
    let Some(stage) = Stage::new() else { return };
    let text = "{ name: any, filters: [ { filter: nowhere } ], steps: [ { request: {} } ] }";
    match stage.host.start(&scenario(text)).map(|_| ()) {
        Err(StartError::Module(error)) => {
            assert!(error.to_string().contains("nowhere.wasm"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_real_envoy_cannot_do_is_said() {
    let Some(stage) = Stage::new() else { return };
    // It is played even so: what is refused when it is read may be made in code.
    let scenario = scenario(
        r#"
name: impossible
filters: [ { filter: count } ]
only: { on: [wasmtime], reason: no client sends these }
steps:
  - request: { headers: [ [x-line, { hex: "0d0a" }] ] }
  - request: { path: "/a b" }
  - request: { path: "/a#b" }
"#,
    );
    let mut proxy = stage.host.start(&scenario).unwrap();
    for step in &scenario.steps {
        let Step::Request(step) = step else { continue };
        let failure = proxy.exchange(0, step).unwrap_err().to_string();
        assert!(failure.contains("cannot be sent over HTTP/1.1"), "{failure}");
    }
    let hour = AdvanceStep::new(Duration::from_hours(1));
    let failure = proxy.advance(&hour).unwrap_err().to_string();
    assert!(failure.contains("above the bound"), "{failure}");
}

#[test]
fn nothing_follows_messages_that_were_taken_to_be_read() {
    let Some(stage) = Stage::new() else { return };
    let read = "{ request: {}, expect: { queues: { jobs: [ job ], none: null } } }";
    let text = format!(
        "{{ name: queue, filters: [ {{ filter: queue }} ], steps: [ {read}, {{ request: {{}} }} ] }}"
    );
    let Verdict::Failed { failures } = run(&scenario(&text), &stage.host).unwrap() else {
        panic!()
    };
    let told: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let parts = ["step 2, GET /", "queue jobs were: expect them in the last step", "only: { on:"];
    assert!(parts.iter().all(|part| told[0].contains(part)), "{told:?}");
}

#[test]
fn a_request_that_is_held_for_ever_is_unanswered_and_the_next_one_is_served() {
    let Some(stage) = Stage::new() else { return };
    let scenario = scenario(
        "{ name: held, filters: [ { filter: hold } ], workers: 2, steps: [ { request: {} } ] }",
    );
    let mut proxy = stage.host.start(&scenario).unwrap();
    let Step::Request(step) = &scenario.steps[0] else { panic!() };
    let begin = Instant::now();
    let exchange = proxy.exchange(1, step).unwrap();
    assert_eq!((exchange.outcome, exchange.upstream), (Outcome::Unanswered, None));
    assert!(begin.elapsed() >= Duration::from_secs(15));
    let exchange = proxy.exchange(1, step).unwrap();
    assert!(matches!(exchange.outcome, Outcome::Response(_)), "{exchange:?}");
    assert!(begin.elapsed() < Duration::from_secs(17));
}
