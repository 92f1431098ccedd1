//! Strict checks, each with a guest that violates it and its twin that does not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{ABI, IMPORTS, callback, module, on_request_headers, verdict};
use tollgate_host::report::Verdict;
use tollgate_host_wasmtime::Limits;

const STEPS: &str = "strict: true\nsteps: [ { request: {} } ]";

/// The first guest is told that it violates something, its twin is clean; and neither is when nobody is
/// strict.
fn check(guest: &[u8], words: &str, twin: &[u8]) {
    check_steps(guest, STEPS, words, twin);
}

fn check_steps(guest: &[u8], steps: &str, words: &str, twin: &[u8]) {
    let limits = Limits::default();
    let Verdict::Failed { failures } = verdict(limits, guest, steps) else {
        panic!("passed: {words}")
    };
    let shown: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(shown[0].contains(words), "`{words}` is not in: {shown:?}");
    let lax = steps.replace("strict: true", "");
    assert_eq!(verdict(limits, guest, &lax), Verdict::Passed, "{words}");
    // A guest that holds its stream shows so on every host.
    let steps = steps.replace(", expect: { response: none }", "");
    assert_eq!(verdict(limits, twin, &steps), Verdict::Passed, "{words}");
}

fn configure(body: &str) -> String {
    format!(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) {body} (i32.const 1))"#
    )
}

#[test]
fn calls_out_of_phase() {
    let get = |map: u32| {
        module(&on_request_headers(&format!(
            "(drop (call $get (i32.const {map}) (i32.const 64) (i32.const 1) (i32.const 8) (i32.const 12)))"
        )))
    };
    // That there is no such header is no matter of phases.
    check(
        &get(2),
        "strict: out of its phase: proxy_get_header_map_value(map=response_headers, name=\"\\x00\") = \
         bad_argument: response_headers are not available in proxy_on_request_headers",
        &get(0),
    );
}

/// Calls that Envoy answers as if they had come in their phase: with nothing, and without an error.
#[test]
fn calls_out_of_phase_that_the_guest_is_not_told_of() {
    let on_headers = |call: &str| module(&on_request_headers(&format!("(drop (call {call}))")));
    let pairs =
        |map: u32| on_headers(&format!("$pairs (i32.const {map}) (i32.const 8) (i32.const 12)"));
    check(
        &pairs(3),
        "strict: out of its phase: proxy_get_header_map_pairs(map=response_trailers) = \"\": \
         response_trailers are not available in proxy_on_request_headers, but from \
         proxy_on_response_trailers on while it holds them",
        &pairs(0),
    );
    let bytes =
        "$get_buffer (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 8) (i32.const 12)";
    let on_body = |call: &str| {
        module(&callback("proxy_on_request_body", 3, true, &format!("(drop (call {call}))")))
    };
    check(
        &on_headers(bytes),
        "strict: out of its phase: proxy_get_buffer_bytes(buffer=http_request_body, start=0, \
         max_size=9) = \"\": http_request_body is empty in proxy_on_request_headers, and there in \
         proxy_on_request_body and while it holds it",
        &on_body(bytes),
    );
    let on_log =
        |call: &str| module(&callback("proxy_on_log", 1, false, &format!("(drop (call {call}))")));
    check(
        &on_log("$continue (i32.const 0)"),
        "strict: out of its phase: proxy_continue_stream(stream=http_request) = ok: the request is \
         over in proxy_on_log",
        // All headers are there when a stream is logged.
        &on_log("$pairs (i32.const 0) (i32.const 8) (i32.const 12)"),
    );
}

/// A body that does not exist is read whole: nothing is missing.
#[test]
fn a_body_that_does_not_exist_can_be_read() {
    let read = "(drop (call $get_buffer (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 8) (i32.const 12)))";
    let guest = module(&callback("proxy_on_request_trailers", 2, true, read));
    let request = |body: &str| {
        format!(
            "strict: true\nsteps: [ {{ request: {{ method: POST, {body} trailers: [ [a, b] ] }} }} ]"
        )
    };
    let verdict = |body: &str| verdict(Limits::default(), &guest, &request(body));
    assert_eq!(verdict(""), Verdict::Passed);
    let Verdict::Failed { failures } = verdict("body: abc,") else { panic!("passed") };
    assert!(failures[0].what.contains("is empty in proxy_on_request_trailers"), "{failures:?}");
}

#[test]
fn streams_that_are_never_let_go() {
    let holding = on_request_headers("").replace("(i32.const 0)", "(i32.const 1)");
    check_steps(
        &module(&holding),
        "strict: true\nsteps: [ { request: {}, expect: { response: none } } ]",
        "strict: a stream came to no end: x@0 holds the request since proxy_on_request_headers, and \
         neither lets it go nor answers",
        &module(&on_request_headers("")),
    );
}

#[test]
fn one_of_several_streams_is_never_let_go() {
    let holding = module(&on_request_headers("").replace("(i32.const 0)", "(i32.const 1)"));
    let step = |left: &str, expected: &str| {
        let request = format!("{{ request: {{ {left} }}, expect: {{ response: {expected} }} }}");
        format!("strict: true\nsteps: [ {{ together: [ {request}, {request} ] }} ]")
    };
    let verdict = |step: &str| verdict(Limits::default(), &holding, step);
    let Verdict::Failed { failures } = verdict(&step("", "none")) else { panic!("passed") };
    let held =
        "strict: a stream came to no end: x@0 holds the request since proxy_on_request_headers";
    assert!(failures[0].what.starts_with(held), "{failures:?}");
    // Who leaves on purpose may leave while a filter holds the stream.
    assert_eq!(verdict(&step("disconnect: 1s", "left")), Verdict::Passed);
}

#[test]
fn what_a_connection_has_sent_is_never_let_go() {
    let guest = |answer: u32| {
        let body = callback("proxy_on_downstream_data", 3, true, "");
        module(&body.replace("(i32.const 0)", &format!("(i32.const {answer})")))
    };
    let verdict = |answer: u32, events: &str| {
        let steps = format!(
            "protocol: tcp\nstrict: true\nsteps: [ {{ connection: [ {{ client: {{ sends: a }} }}, {events} ] }} ]"
        );
        verdict(Limits::default(), &guest(answer), &steps)
    };
    let Verdict::Failed { failures } = verdict(1, "client: ends") else { panic!("passed") };
    let held = "strict: a stream came to no end: x@0 holds what the client has sent since \
                proxy_on_downstream_data, and neither lets it go nor closes the connection";
    assert_eq!(failures[0].what, held);
    assert_eq!(verdict(0, "client: ends"), Verdict::Passed);
    // More might have come.
    assert_eq!(verdict(1, "client: resets"), Verdict::Passed);
}

#[test]
fn traps() {
    let trap = "(if (i32.gt_u (local.get 0) (i32.const 1)) (then unreachable))";
    check(
        &module(&callback("proxy_on_log", 1, false, trap)),
        "strict: x@0 trapped",
        &module(&callback("proxy_on_log", 1, false, "")),
    );
}

#[test]
fn plugins_that_are_never_done() {
    let never = r#"(func (export "proxy_on_done") (param i32) (result i32) (i32.ne (local.get 0) (i32.const 1)))"#;
    let later = format!(
        "{never} {} {}",
        configure("(drop (call $tick (i32.const 100)))"),
        callback("proxy_on_tick", 1, false, "(drop (call $done))")
            .replace("$done", "$quietly_done")
    );
    // A call of proxy_done before is out of its phase: ticks begin with the end.
    let later = later.replace(
        "(drop (call $quietly_done))",
        "(if (global.get $ending) (then (drop (call $done))))",
    );
    let later = later.replace(
        "(i32.ne (local.get 0) (i32.const 1))",
        "(if (i32.eq (local.get 0) (i32.const 1)) (then (global.set $ending (i32.const 1)))) (i32.ne (local.get 0) (i32.const 1))",
    );
    check(
        &module(never),
        "strict, shutdown: x@main: proxy_on_done of context 1 asked to wait, and proxy_done never came",
        &module(&format!("(global $ending (mut i32) (i32.const 0)) {later}")),
    );
}

#[test]
fn metrics_that_are_defined_with_every_request() {
    let define = "(drop (call $define (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 8)))";
    check(
        &module(&on_request_headers(define)),
        "strict, step 1 again and again: with 400 requests 400 metrics were defined, with 400 more 400",
        &module(&configure(define)),
    );
}

const COUNT: &str = "(i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 1)))";

#[test]
fn keys_of_shared_data_that_grow_with_traffic() {
    let set = "(drop (call $set_shared (i32.const 64) (i32.const 4) (i32.const 64) (i32.const 4) (i32.const 0)))";
    check(
        &module(&on_request_headers(&format!("{COUNT} {set}"))),
        "with 400 requests 400 keys were added to shared data, with 400 more 400: bound the keys",
        &module(&on_request_headers(set)),
    );
}

#[test]
fn memory_that_the_host_handed_over_and_that_is_not_freed() {
    let guest = |free: &str| {
        let guest = format!(
            r#"(module {IMPORTS} {ABI} (memory (export "memory") 64)
                (global $next (mut i32) (i32.const 4096))
                (func (export "proxy_on_memory_allocate") (param i32) (result i32)
                    (global.get $next) (global.set $next (i32.add (global.get $next) (local.get 0))))
                {})"#,
            on_request_headers(&format!(
                "(drop (call $pairs (i32.const 0) (i32.const 8) (i32.const 12))) {free}"
            ))
        );
        wat::parse_str(guest).unwrap()
    };
    check(
        &guest(""),
        "bytes that the host handed over were not freed",
        &guest("(global.set $next (i32.const 4096))"),
    );
}

#[test]
fn linear_memory_that_grows() {
    // A page for every hundred requests.
    let grow = format!(
        "{COUNT} (if (i32.eqz (i32.rem_u (i32.load (i32.const 64)) (i32.const 100)))
            (then (drop (memory.grow (i32.const 1)))))"
    );
    check(
        &module(&on_request_headers(&grow)),
        "with 400 requests 262144 bytes of linear memory were added, with 400 more 262144",
        &module(&on_request_headers(COUNT)),
    );
}

/// Counts at 64 and traps at the hundredth request.
#[test]
fn traps_that_come_with_traffic() {
    let trap = |at: u32| {
        module(&on_request_headers(&format!(
            "{COUNT} (if (i32.eq (i32.load (i32.const 64)) (i32.const {at})) (then unreachable))"
        )))
    };
    check(&trap(100), "strict: x@0 trapped", &trap(100_000));
}

/// Whose key is a part of the request, from this far behind its end.
fn keyed(behind: &str) -> Vec<u8> {
    let path = "(drop (call $get (i32.const 0) (i32.const 80) (i32.const 5) (i32.const 8) (i32.const 12)))";
    let from =
        format!("(i32.sub (i32.add (i32.load (i32.const 8)) (i32.load (i32.const 12))) {behind})");
    module(&format!(
        "(data (i32.const 80) \":path\") {}",
        on_request_headers(&format!(
            "{path} (drop (call $set_shared {from} {behind} (i32.const 64) (i32.const 4) (i32.const 0)))"
        ))
    ))
}

#[test]
fn keys_that_are_of_the_client() {
    check(
        &keyed("(i32.load (i32.const 12))"),
        "step 1 again and again, with another path: with 400 requests 400 keys were added to shared \
         data, with 400 more 400, with 1000 more 1000, with 2000 more 2000, with 4000 more 4000, with \
         8000 more 8000: bound the keys",
        // With the last two digits there are a hundred, and some more at first.
        &keyed("(i32.const 2)"),
    );
    // A thousand are not told from no end until more have come.
    let verdict = verdict(Limits::default(), &keyed("(i32.const 3)"), STEPS);
    assert_eq!(verdict, Verdict::Passed);
}

#[test]
fn what_grows_with_some_of_the_requests() {
    let define = "(drop (call $define (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 8)))";
    let seldom = format!(
        "{COUNT} (if (i32.eqz (i32.rem_u (i32.load (i32.const 64)) (i32.const 8))) (then {define}))"
    );
    check(
        &module(&on_request_headers(&seldom)),
        "with 400 requests 50 metrics were defined, with 400 more 50",
        &module(&on_request_headers(COUNT)),
    );
}

#[test]
fn what_grows_with_time() {
    let set = "(drop (call $set_shared (i32.const 64) (i32.const 4) (i32.const 64) (i32.const 4) (i32.const 0)))";
    let ticking = |body: &str| {
        module(&format!(
            "{} {}",
            configure("(drop (call $tick (i32.const 100)))"),
            callback("proxy_on_tick", 1, false, body)
        ))
    };
    let (guest, twin) = (ticking(&format!("{COUNT} {set}")), ticking(set));
    let words = "ticks again and again: with 400 ticks 400 keys were added to shared data";
    check(&guest, words, &twin);
    let steps = "strict: true\nsteps: [ { request: {} }, { advance: 1s } ]";
    check_steps(&guest, steps, "step 2 again and again: with 400 ticks 400 keys", &twin);
}

#[test]
fn messages_that_nobody_takes() {
    let register = "(drop (call $register (i32.const 64) (i32.const 1) (i32.const 8)))";
    let enqueue = "(drop (call $enqueue (i32.const 1) (i32.const 64) (i32.const 4)))";
    let dequeue = "(drop (call $dequeue (i32.const 1) (i32.const 8) (i32.const 12)))";
    let guest =
        |body: &str| module(&format!("{} {}", configure(register), on_request_headers(body)));
    check(
        &guest(enqueue),
        "with 400 requests 400 messages were left in queues, with 400 more 400",
        &guest(&format!("{enqueue} {dequeue}")),
    );
}

#[test]
fn callouts_that_stay_open() {
    let open = "(drop (call $grpc_stream (i32.const 80) (i32.const 5) (i32.const 80) (i32.const 5) (i32.const 80) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 8)))";
    let guest = |body: &str| {
        module(&format!("(data (i32.const 80) \"authz\") {}", on_request_headers(body)))
    };
    let once =
        format!("{COUNT} (if (i32.eq (i32.load (i32.const 64)) (i32.const 1)) (then {open}))");
    let steps = "clusters: [authz]\nstrict: true\n\
                 steps: [ { request: {}, callouts: [ { cluster: authz, never: true } ] } ]";
    let words = "with 400 requests 400 callouts and gRPC streams stayed open, with 400 more 400";
    check_steps(&guest(open), steps, words, &guest(&once));
}

#[test]
fn every_step_is_played_again() {
    let define = "(drop (call $define (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 8)))";
    let on_trailers = module(&callback("proxy_on_request_trailers", 2, true, define));
    let twin = module("");
    let before = "{ request: {} }, ".repeat(9);
    let last = "{ request: { method: POST, body: a, trailers: [ [a, b] ] } }";
    let steps = format!("strict: true\nsteps: [ {before}{last} ]");
    check_steps(&on_trailers, &steps, "strict, step 10 again and again: with 400 requests", &twin);
    let steps = "strict: true\nsteps: [ { together: [ { request: {} }, { request: {} } ] } ]";
    let words = "with 400 times these requests 800 metrics were defined, with 400 more 800";
    check_steps(&module(&on_request_headers(define)), steps, words, &twin);
}
