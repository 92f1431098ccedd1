//! Every refusal has its reason: in the answer, and in the failure of the step in which it came.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Behaviour, CONTINUE, agree, play};
use tollgate_abi::{
    BufferType, Call, Callback, CallbackKind, Function, LogLevel, MapType, Memory, MetricType,
    PointerWidth, Reply, Serialized, StreamType, Stub, pairs,
};
use tollgate_host::report::Verdict;
use tollgate_host::world::World;

/// Memory of a guest that is full of text, with an allocator that gives nothing.
struct Text;

const TEXT: [u8; 4096] = [b'x'; 4096];

impl Memory for Text {
    fn pointer_width(&self) -> PointerWidth {
        PointerWidth::Four
    }

    fn read(&self, address: u64, size: u64) -> Option<&[u8]> {
        let start = usize::try_from(address).ok()?;
        TEXT.get(start..start.checked_add(usize::try_from(size).ok()?)?)
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Option<()> {
        None
    }

    fn allocate(&mut self, _: usize) -> Option<u64> {
        None
    }
}

static REFUSED: AtomicUsize = AtomicUsize::new(0);

#[test]
fn no_function_refuses_without_a_reason() {
    fn misuse(world: &mut World, callback: &Callback) -> u32 {
        // What some of these calls do lets no proxy start.
        if callback.context() < 2 {
            return agree(callback);
        }
        for &function in Function::ALL {
            let count = function.words().len();
            for word in [0, 1, 2, 3, 4, 5, 8, 11, 64, 4090, 5000, u64::from(u32::MAX)] {
                let words = vec![word; count];
                let reply = match Call::decode(function, &words, &Text) {
                    Ok(call) => world.handle(call),
                    Err(fault) => world.refuse(function, fault),
                };
                let why = match &reply {
                    Reply::Done(_) => continue,
                    Reply::Refused { why, .. }
                    | Reply::Untimely { why, .. }
                    | Reply::Failed { why, .. }
                    | Reply::Trap { why } => why,
                };
                REFUSED.fetch_add(1, Ordering::Relaxed);
                let is_reason = why.contains(' ') && !why.contains('\n') && !why.ends_with('.');
                assert!(is_reason, "{function} {word} in {callback}: {reply}");
            }
        }
        agree(callback)
    }
    let verdict = play(
        &[("misuse", |world, callback| Ok(misuse(world, callback)))],
        "
name: misuse
filters: [ { filter: misuse } ]
steps: [ { request: { method: POST, body: hello, trailers: [ [a, b] ] } } ]
",
    );
    // It was made on purpose to do what no proxy serves.
    let Verdict::Failed { .. } = verdict else { panic!("{verdict:?}") };
    let refused = REFUSED.load(Ordering::Relaxed);
    assert!(refused > 500, "{refused}");
}

#[test]
fn no_function_of_wasi_answers_an_error_without_a_reason() {
    for stub in Stub::ALL {
        for fd in 0..4 {
            let (errno, _) = stub.reply(&vec![fd; stub.words().len()]);
            assert_eq!(stub.why(errno).is_none(), errno == 0, "{}", stub.name());
        }
    }
}

/// Calls, each with its answer.
type Calls = &'static [(fn() -> Call, &'static str)];

/// What a guest is told of calls that are made in one callback.
fn check(kind: CallbackKind, calls: Calls) {
    use std::cell::RefCell;
    thread_local! {
        static NOW: RefCell<Option<(CallbackKind, Calls)>> =
            const { RefCell::new(None) };
    }
    let guest: Behaviour = |world, callback| {
        let (kind, calls) = NOW.with_borrow(|now| now.unwrap());
        if callback.kind() == kind {
            for (call, expected) in calls {
                assert_eq!(world.handle(call()).to_string(), *expected, "{}", call());
            }
        }
        Ok(agree(callback))
    };
    NOW.set(Some((kind, calls)));
    let guests: &'static [(&'static str, Behaviour)] = Box::leak(Box::new([("guest", guest)]));
    let verdict = play(
        guests,
        "
name: reasons
filters: [ { filter: guest } ]
clusters: [authz, limits]
steps: [ { request: {} } ]
",
    );
    assert_eq!(verdict, Verdict::Passed);
}

fn http_call(upstream: &str, headers: &[(&str, &str)]) -> Call {
    Call::HttpCall {
        upstream: upstream.into(),
        headers: Serialized(pairs::encode(headers).unwrap()),
        body: Vec::new(),
        trailers: Serialized::default(),
        timeout_millis: 1000,
    }
}

fn get(map: MapType) -> Call {
    Call::GetHeaderMapValue { map, name: b"x-user".to_vec() }
}

fn property(path: &str) -> Call {
    Call::GetProperty { path: path.replace('.', "\0").into_bytes() }
}

fn body(buffer: BufferType, start: u32) -> Call {
    Call::SetBufferBytes { buffer, start, size: 1, value: b"x".to_vec() }
}

#[test]
fn a_property_without_a_value_says_why() {
    check(
        CallbackKind::RequestHeaders,
        &[
            (
                || property("response.code"),
                "not_found: `response.code` has no value in proxy_on_request_headers: not yet, or there \
                 is none",
            ),
            (
                || property("request.headers.x-none"),
                "not_found: `request.headers` have no line `x-none` in proxy_on_request_headers",
            ),
            (
                || property("source.name"),
                "not_found: `source` has no attribute `name`, but address, port",
            ),
            (|| property("filter_state.a"), "not_found: no filter has set such an object"),
            (
                || property("tenant"),
                "not_found: no attribute begins so, and no guest has set such a property",
            ),
        ],
    );
}

#[test]
fn reasons_name_the_phase_the_value_and_what_would_do() {
    check(
        CallbackKind::RequestHeaders,
        &[
            (|| get(MapType::RequestHeaders), "not_found: no such header"),
            (
                || get(MapType::ResponseHeaders),
                "bad_argument: response_headers are not available in proxy_on_request_headers, \
                 but from proxy_on_response_headers on while it holds them",
            ),
            (
                || get(MapType::HttpCallResponseHeaders),
                "bad_argument: http_call_response_headers are available only while the answer to \
                 a callout is delivered",
            ),
            (|| get(MapType::Unknown(9)), "bad_argument: 9 is not a kind of header map"),
            (
                || http_call("auth", &[]),
                "bad_argument: unknown cluster `auth`, declared: authz, limits, upstream",
            ),
            (
                || http_call("authz", &[(":method", "GET"), (":authority", "a")]),
                "bad_argument: missing :path: the headers of a callout need it",
            ),
            (
                || body(BufferType::HttpRequestBody, 0),
                "bad_argument: http_request_body cannot be changed in proxy_on_request_headers, but \
                 in proxy_on_request_body and while it holds it",
            ),
            (
                || body(BufferType::PluginConfiguration, 0),
                "not_found: plugin_configuration is not available in proxy_on_request_headers, only \
                 in proxy_on_configure",
            ),
            (
                || Call::GetMetric { metric: 8 },
                "not_found: this VM has defined no metric with the id 8",
            ),
            (
                || Call::DefineMetric { kind: MetricType::Unknown(3), name: b"a".to_vec() },
                "bad_argument: 3 is not a kind of metric",
            ),
            (
                || Call::Done {},
                "not_found: context 2 does not wait to be done: its proxy_on_done did not return \
                 0, or it is done",
            ),
            (
                || Call::SetEffectiveContext { context: 7 },
                "bad_argument: there is no context 7: it was never made, or is deleted",
            ),
            (
                || Call::ContinueStream { stream: StreamType::Unknown(9) },
                "bad_argument: 9 is not a kind of stream",
            ),
            (
                || Call::Log { level: LogLevel::Unknown(9), message: Vec::new() },
                "bad_argument: 9 is not a log level",
            ),
        ],
    );
    check(
        CallbackKind::Configure,
        &[
            (
                || get(MapType::RequestHeaders),
                "bad_argument: request_headers belong to a stream, and the context in effect is none",
            ),
            (
                || property("request.path"),
                "not_found: it is about a stream, and the context in effect is none",
            ),
            (
                || property("tenant"),
                "not_found: there is no such attribute, and guests keep properties about streams only",
            ),
            (
                || Call::SetProperty { path: b"tenant".to_vec(), value: Vec::new() },
                "not_found: a property is kept about a stream, and the context in effect is none",
            ),
            (
                || Call::GetSharedData { key: b"k".to_vec() },
                "not_found: no VM with this vm_id has written such a key",
            ),
            (|| Call::DequeueSharedQueue { queue: 4 }, "not_found: no queue has the token 4"),
        ],
    );
}

#[test]
fn a_failure_shows_the_last_refused_calls_of_its_step() {
    let verdict = play(
        &[("guest", |world, callback| {
            if callback.kind() == CallbackKind::RequestHeaders {
                world.handle(get(MapType::RequestHeaders));
                for metric in 1..=6 {
                    world.handle(Call::GetMetric { metric });
                }
                world.handle(Call::GetCurrentTime {});
                let value = vec![b'v'; 1000];
                world.handle(Call::SetProperty { path: b"p".to_vec(), value });
                world.handle(http_call("auth", &[]));
            }
            Ok(if callback.kind() == CallbackKind::RequestHeaders {
                CONTINUE
            } else {
                agree(callback)
            })
        })],
        "
name: reasons
filters: [ { filter: guest } ]
steps:
  - request: {}
  - request: {}
    expect: { upstream: none, response: { status: 401 } }
",
    );
    let Verdict::Failed { failures } = verdict else { panic!("{verdict:?}") };
    let shown: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown.join("\n"),
        "\
step 2, GET /: response status: expected 401, got 200 with body \"\"
step 2, GET /: upstream: expected nothing, got GET /
  host calls that were refused, the last 5 of 8:
    proxy_get_metric(metric=3) = bad_argument: this VM has defined no metric with the id 3
    proxy_get_metric(metric=4) = not_found: this VM has defined no metric with the id 4
    proxy_get_metric(metric=5) = not_found: this VM has defined no metric with the id 5
    proxy_get_metric(metric=6) = bad_argument: this VM has defined no metric with the id 6
    proxy_http_call(upstream=\"auth\", headers=[], body=\"\", trailers=[], timeout_millis=1000) = bad_argument: unknown cluster `auth`, declared: upstream"
    );
    let json = serde_json::to_value(&failures).unwrap();
    assert_eq!(json[1]["refused"].as_array().unwrap().len(), 5);
    assert_eq!(json[1]["refused_before"], 3);
    assert!(json[0].get("refused").is_none());
}
