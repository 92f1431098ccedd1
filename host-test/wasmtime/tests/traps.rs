//! What is told of a trap: where it was, in names and lines of the source; what the guest said; what it did
//! last; and on what input.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{callback, module, on_request_headers, send, verdict};
use tollgate_host::report::Verdict;
use tollgate_host_wasmtime::Limits;

const EXPECTS_200: &str =
    "steps: [ { request: { path: /a }, expect: { response: { status: 200 } } } ]";

/// Asserts what the failure of a step says, all of it.
fn check(module: &[u8], expected: &str) {
    let Verdict::Failed { failures } = verdict(Limits::default(), module, EXPECTS_200) else {
        panic!("it passed: {expected}");
    };
    assert_eq!(failures.last().unwrap().to_string(), expected);
}

#[test]
fn a_trap_is_told_with_its_backtrace_its_input_and_the_last_host_calls() {
    let log = "(drop (call $log (i32.const 2) (i32.const 64) (i32.const 5)))";
    let names = r#"(data (i32.const 64) "hello")
        (func $_ZN5proxy6decideEi (param i32) unreachable)
        (func $_RNvC6mycrat3run (param i32) (call $_ZN5proxy6decideEi (local.get 0)))"#;
    let body = format!("{} (call $_RNvC6mycrat3run (i32.const 1))", log.repeat(9));
    check(
        &module(&format!("{names} {}", on_request_headers(&body))),
        "step 1, GET /a: response status: expected 200, got 503 with body \"\"\
        \n  x@0 trapped in proxy_on_request_headers(context=2, count=5, end_of_stream=true) of GET /a: \
        wasm trap: wasm `unreachable` instruction executed\
        \n    0: proxy::decide(int)\
        \n    1: mycrat::run\
        \n    2: function 29\
        \n    its input:\
        \n      request_headers = [:authority: example.com, :path: /a, :method: GET, :scheme: http, \
        x-forwarded-proto: http]\
        \n    its last host calls, after 1 others:\
        \n      proxy_log(level=info, message=\"hello\") = ok\
        \n      proxy_log(level=info, message=\"hello\") = ok\
        \n      proxy_log(level=info, message=\"hello\") = ok\
        \n      proxy_log(level=info, message=\"hello\") = ok\
        \n      proxy_log(level=info, message=\"hello\") = ok\
        \n      proxy_log(level=info, message=\"hello\") = ok\
        \n      proxy_log(level=info, message=\"hello\") = ok\
        \n      proxy_log(level=info, message=\"hello\") = ok",
    );
}

/// A guest that writes these pieces, each with one call, and ends with a trap.
fn dying(pieces: &[&str], write: &str, end: &str) -> Vec<u8> {
    let place = |index: usize| 4096 + index * 256;
    let data: Vec<String> = pieces
        .iter()
        .enumerate()
        .map(|(index, piece)| format!("(data (i32.const {}) {piece:?})", place(index)))
        .collect();
    let call = |(index, piece): (usize, &&str)| {
        let (at, size) = (place(index), piece.len());
        let store = format!(
            "(i32.store (i32.const 16) (i32.const {at})) (i32.store (i32.const 20) (i32.const {size}))"
        );
        let call = write.replace("AT", &at.to_string()).replace("SIZE", &size.to_string());
        format!("{store} (drop {call})")
    };
    let calls: Vec<String> = pieces.iter().enumerate().map(call).collect();
    let run = on_request_headers(&format!("{} {end}", calls.concat()));
    module(&format!("{} {run}", data.concat()))
}

#[test]
fn what_a_runtime_says_in_pieces_is_put_together() {
    let check = |module: &[u8], message: &str, panic: &str| {
        let sent = send(Limits::default(), module).unwrap();
        let trap = &sent.account.traps[0];
        assert!(trap.message.contains(message), "{}", trap.message);
        assert_eq!(trap.panic.as_deref(), Some(panic));
    };
    let stdout = "(call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))";
    let stderr = stdout.replace("i32.const 1)", "i32.const 2)").replacen(
        "(i32.const 2) (i32.const 24)",
        "(i32.const 1) (i32.const 24)",
        1,
    );
    let log = "(call $log (i32.const 5) (i32.const AT) (i32.const SIZE))";
    let info = "(call $log (i32.const 2) (i32.const AT) (i32.const SIZE))";
    let error = "(call $log (i32.const 4) (i32.const AT) (i32.const SIZE))";
    let end = "unreachable";
    // Rust without a hook, Go, TinyGo.
    check(
        &dying(
            &[
                "\n",
                "thread '",
                "main",
                "' panicked at ",
                "src/lib.rs:7:5",
                ":\n",
                "no tenant",
                "\nnote: run with `RUST_BACKTRACE=1` environment variable\n",
            ],
            &stderr,
            end,
        ),
        "unreachable",
        "thread 'main' panicked at src/lib.rs:7:5:\nno tenant",
    );
    check(
        &dying(
            &[
                "some output\n",
                "panic: ",
                "runtime error: index out of range [",
                "5",
                "] with length 3",
                "\n\ngoroutine 1 [running]:\n",
                "main.onRequest(...)\n",
            ],
            &stderr,
            // Its call of `proc_exit` returns, as on Envoy.
            "(call $exit (i32.const 2)) unreachable",
        ),
        "unreachable",
        "panic: runtime error: index out of range [5] with length 3\n\ngoroutine 1 [running]:\nmain.onRequest(...)",
    );
    check(
        &dying(&["panic: ", "runtime error: nil pointer dereference\n"], stdout, end),
        "unreachable",
        "panic: runtime error: nil pointer dereference",
    );
    // AssemblyScript, our SDK and the proxy-wasm crate log them.
    check(
        &dying(
            &["abort: unexpected null at: assembly/index.ts(12:5)"],
            log,
            "(call $exit (i32.const 255)) unreachable",
        ),
        "unreachable",
        "abort: unexpected null at: assembly/index.ts(12:5)",
    );
    check(
        &dying(&["an error", "quota: panic at src/lib.rs:3:9: no quota", "another"], error, end),
        "unreachable",
        "quota: panic at src/lib.rs:3:9: no quota",
    );
    // What is only logged is no last word.
    let sent = send(Limits::default(), &dying(&["panicked at"], info, end)).unwrap();
    assert_eq!(sent.account.traps[0].panic, None);
}

#[test]
fn a_rust_panic_is_told_with_lines_of_its_source() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join("panics.wasm");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/panics.rs");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "--crate-type=cdylib", "--target=wasm32-wasip1", "-g", "-o"]);
    let built = rustc.arg(&file).arg(&source).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let sent = send(Limits::default(), &std::fs::read(&file).unwrap()).unwrap();
    let trap = &sent.account.traps[0];
    let panic = trap.panic.as_deref().unwrap();
    assert!(
        panic.contains("panics.rs:18:5:\nindex out of bounds: the len is 2 but the index is 2"),
        "{panic}"
    );
    let place = trap
        .backtrace
        .iter()
        .find(|frame| frame.function == "panics::third_of")
        .unwrap_or_else(|| panic!("{trap}"));
    assert!(place.file.as_ref().unwrap().ends_with("panics.rs"), "{place}");
    assert_eq!((place.line, place.column), (Some(18), Some(5)));
}

#[test]
fn a_trap_is_a_value_in_json() {
    let fields = on_request_headers("(call $exit (i32.const 3)) unreachable");
    let verdict = verdict(Limits::default(), &module(&fields), EXPECTS_200);
    let json = serde_json::to_value(&verdict).unwrap();
    let expected = serde_json::json!([{
        "guest": "x@0",
        "callback": "proxy_on_request_headers(context=2, count=5, end_of_stream=true)",
        "request": "GET /a",
        "message": "wasm trap: wasm `unreachable` instruction executed",
        "backtrace": [ { "function": "function 27" } ],
        "input": [ "request_headers = [:authority: example.com, :path: /a, :method: GET, :scheme: http, x-forwarded-proto: http]" ],
        "calls": [ "proc_exit(code=3) = ok" ],
    }]);
    assert_eq!(json["failures"][0]["traps"], expected);
}

#[test]
fn a_trap_at_the_start_is_told_too() {
    let fields =
        callback("proxy_on_configure", 2, true, "(drop (call $tick (i32.const 5))) unreachable");
    let error = send(Limits::default(), &module(&fields)).err().unwrap();
    assert_eq!(
        error.to_string(),
        "plugin x: the filter refused its configuration: it trapped\
        \nx@trial trapped in proxy_on_configure(context=1, configuration_size=0): \
        wasm trap: wasm `unreachable` instruction executed\
        \n  0: function 27\
        \n  its input:\
        \n    plugin_configuration = \"\"\
        \n  its last host calls:\
        \n    proxy_set_tick_period_milliseconds(period_millis=5) = ok"
    );
}
