//! Scenarios over what a filter has to treat alike: filters that do not are found, and named.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Behaviour, CONTINUE, STOP, agree, check, play, respond};
use tollgate_abi::{
    Answer, BufferType, Call, Callback, MapType, MetricType, Reply, Serialized, pairs,
};
use tollgate_host::report::Verdict;
use tollgate_host::scenario::{HostName, Scenario};
use tollgate_host::world::World;

fn body(world: &mut World, buffer: BufferType) -> Vec<u8> {
    match world.handle(Call::GetBufferBytes { buffer, start: 0, max_size: u32::MAX }) {
        Reply::Done(Answer::Bytes(bytes)) => bytes,
        _ => Vec::new(),
    }
}

/// Refuses what says `bad` once the body is whole, as it takes its end to come.
fn refuse_bad(world: &mut World, callback: &Callback, is_whole: fn(&Callback) -> bool) -> u32 {
    match callback {
        Callback::RequestBody { .. } | Callback::RequestTrailers { .. } => {}
        Callback::RequestHeaders { .. } => return STOP,
        _ => return agree(callback),
    }
    if !is_whole(callback) {
        return STOP;
    }
    if body(world, BufferType::HttpRequestBody).windows(3).any(|part| part == b"bad") {
        respond(world, 403, &[], "no");
    }
    CONTINUE
}

fn knows_every_end(callback: &Callback) -> bool {
    matches!(
        callback,
        Callback::RequestBody { end_of_stream: true, .. } | Callback::RequestTrailers { .. }
    )
}

const GOOD: Behaviour = |world, callback| Ok(refuse_bad(world, callback, knows_every_end));

/// Takes the first chunk for the whole body.
const HASTY: Behaviour = |world, callback| {
    let is_whole = |callback: &Callback| matches!(callback, Callback::RequestBody { .. });
    Ok(refuse_bad(world, callback, is_whole))
};

/// Knows no trailers.
const WITHOUT_TRAILERS: Behaviour = |world, callback| {
    if let Callback::RequestTrailers { .. } = callback {
        return Ok(CONTINUE);
    }
    Ok(refuse_bad(world, callback, knows_every_end))
};

/// Takes the end to come alone.
const WITH_AN_EMPTY_END: Behaviour = |world, callback| {
    match callback {
        Callback::RequestHeaders { .. } => return Ok(STOP),
        Callback::RequestBody { end_of_stream: true, size: 1.., .. } => {
            let (name, value) = (b"x-late".to_vec(), b"1".to_vec());
            world.handle(Call::AddHeaderMapValue { map: MapType::RequestHeaders, name, value });
        }
        _ => {}
    }
    Ok(agree(callback))
};

const BAD_BODY: &str = "
name: what is bad is refused
filters: [ { filter: guest, allow_on_headers_stop_iteration: true } ]
vary: all
steps:
  - request: { method: POST, body: it is bad }
    expect: { response: { status: 403 }, upstream: none }
";

const ANY_BODY: &str = "
name: what is good goes on
filters: [ { filter: guest, allow_on_headers_stop_iteration: true } ]
vary: { over: [chunks, end, trailers], random: 2 }
steps:
  - request: { method: POST, body: good }
    upstream: { body: made }
";

/// The place of the first failure, with what was varied, and what it says.
fn failure(guests: &'static [(&'static str, Behaviour)], text: &str) -> (String, String) {
    match play(guests, text) {
        Verdict::Failed { failures } => {
            let failure = failures.first().unwrap();
            (failure.replay.variant.clone().unwrap_or_default(), failure.what.clone())
        }
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn a_filter_that_treats_all_alike_passes() {
    check(&[("guest", GOOD)], BAD_BODY);
    check(&[("guest", GOOD)], ANY_BODY);
}

#[test]
fn a_filter_that_does_not_is_found_and_told_by_what_was_varied() {
    let (variant, what) = failure(&[("guest", HASTY)], BAD_BODY);
    assert_eq!(variant, "request body split at 1", "{what}");
    assert!(what.contains("upstream: expected nothing, got POST /"), "{what}");
    let (variant, _) = failure(&[("guest", WITHOUT_TRAILERS)], BAD_BODY);
    assert_eq!(variant, "request body as written, with trailers");
}

#[test]
fn what_nobody_expected_is_compared_with_what_is_written() {
    let (variant, what) = failure(&[("guest", WITH_AN_EMPTY_END)], ANY_BODY);
    assert_eq!(variant, "request body as written, ends with its last chunk");
    let difference = "differs (- expected, + got)
  …
  upstream 1: header host: example.com
  upstream 1: header x-forwarded-proto: http
+ upstream 1: header x-late: 1
  upstream 1: body \"good\"";
    assert_eq!(what, difference);
}

#[test]
fn what_strict_checks_send_is_no_part_of_what_is_compared() {
    let strict = |text: &str| format!("strict: true\n{}", text.trim_start());
    check(&[("guest", COUNTS)], &strict(ANY_BODY));
    let (variant, what) = failure(&[("guest", HOARDS)], &strict(ANY_BODY));
    assert_eq!(variant, "");
    assert!(what.contains("400 keys were added to shared data"), "{what}");
    let (variant, what) = failure(&[("guest", HASTY)], &strict(BAD_BODY));
    assert_eq!(variant, "request body split at 1", "{what}");
}

/// Counts what it decides about in a metric, as most filters do.
const COUNTS: Behaviour = |world, callback| {
    match callback {
        Callback::Configure { .. } => {
            let (kind, name) = (MetricType::Counter, b"seen".to_vec());
            world.handle(Call::DefineMetric { kind, name });
        }
        Callback::RequestHeaders { .. } => {
            let counted = world.handle(Call::IncrementMetric { metric: 4, offset: 1 });
            assert_eq!(counted, Reply::OK);
        }
        _ => {}
    }
    Ok(agree(callback))
};

/// Keeps a key for each context.
const HOARDS: Behaviour = |world, callback| {
    if let Callback::RequestHeaders { context, .. } = callback {
        let key = context.to_string().into_bytes();
        world.handle(Call::SetSharedData { key, value: Vec::new(), cas: 0 });
    }
    Ok(agree(callback))
};

#[test]
fn a_difference_is_told_in_bounds() {
    let (variant, what) = failure(&[("guest", MARKS_A_LOT)], ANY_BODY);
    assert_eq!(variant, "request body as written, ends with its last chunk");
    assert!(what.ends_with("\n  … and 43 lines more"), "{what}");
}

/// As above, with more lines than anybody reads.
const MARKS_A_LOT: Behaviour = |world, callback| {
    match callback {
        Callback::RequestHeaders { .. } => return Ok(STOP),
        Callback::RequestBody { end_of_stream: true, size: 1.., .. } => {
            for number in 0..99 {
                let (name, value) = (format!("x-{number}").into_bytes(), b"1".to_vec());
                world.handle(Call::AddHeaderMapValue { map: MapType::RequestHeaders, name, value });
            }
        }
        _ => {}
    }
    Ok(agree(callback))
};

/// Calls out for the headers, and marks a body that comes once it is answered.
const MARKS_THE_ANSWERED: Behaviour = |world, callback| {
    match callback {
        Callback::RequestHeaders { .. } => {
            let pairs = [(":method", "GET"), (":path", "/"), (":authority", "a")];
            let headers = Serialized(pairs::encode(&pairs).unwrap());
            let trailers = Serialized(pairs::encode::<&str, &str>(&[]).unwrap());
            let upstream = b"authz".to_vec();
            let call =
                Call::HttpCall { upstream, headers, body: Vec::new(), trailers, timeout_millis: 9 };
            world.handle(call);
        }
        Callback::HttpCallResponse { .. } => {
            let (key, value) = (b"answered".to_vec(), b"1".to_vec());
            world.handle(Call::SetSharedData { key, value, cas: 0 });
        }
        Callback::RequestBody { .. } => {
            let key = b"answered".to_vec();
            if let Reply::Done(_) = world.handle(Call::GetSharedData { key }) {
                respond(world, 500, &[], "");
            }
        }
        _ => {}
    }
    Ok(agree(callback))
};

#[test]
fn answers_to_callouts_come_before_amid_and_after_the_chunks() {
    let text = "
name: a callout
filters: [ { filter: guest } ]
clusters: [authz]
vary: { over: [callouts] }
steps:
  - request: { method: POST, body: good }
    callouts: [ { cluster: authz, answer: { delay: 5ms } } ]
    expect: { response: { status: 200 } }
";
    let (variant, _) = failure(&[("guest", MARKS_THE_ANSWERED)], text);
    assert_eq!(variant, "callouts answered before the request body");
    let scenario = Scenario::parse(text).unwrap();
    let names = scenario.variations(HostName::Wasmtime);
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let (before, amid) =
        ("callouts answered before the request body", "callouts answered amid the request body");
    assert_eq!(names, [before, amid]);
}

#[test]
fn how_a_scenario_varies_is_bounded_and_the_same_every_time() {
    let names = |text: &str, host| -> Vec<String> {
        let scenario = Scenario::parse(text).expect(text);
        scenario.variations(host).iter().map(ToString::to_string).collect()
    };
    let with = |vary: &str, body: &str| {
        format!(
            "{{ name: x, filters: [ {{ filter: x }} ], vary: {vary}, \
             steps: [ {{ request: {{ method: PUT, body: {body} }} }} ] }}"
        )
    };
    let chunks = "{ over: [chunks], random: 0, at: [2, 3] }";
    assert_eq!(
        names(&with(chunks, "[ab, cd]"), HostName::Wasmtime),
        [
            "request body whole",
            "request body split at 1",
            "request body split at 3",
            "request body split at 2, 3",
            "request body byte by byte",
        ]
    );
    let long = format!("'{}'", "x".repeat(100_000));
    let many = names(&with("{ random: 64 }", &long), HostName::Wasmtime);
    // As written and in 32 single splits, byte by byte and 64 times at random; each with three ends.
    assert_eq!(many.len(), 3 * (1 + 32 + 1 + 64) - 1);
    assert_eq!(
        names(&with("all", "abcd"), HostName::Envoy),
        [
            "request body as written, with trailers",
            "request body split at 2",
            "request body split at 2, with trailers",
        ]
    );
}

#[test]
fn a_wrong_vary_is_refused() {
    let check = |vary: &str, request: &str, expected: &str| {
        let text = format!(
            "{{ name: x, filters: [ {{ filter: x }} ], vary: {vary}, steps: [ {{ {request} }} ] }}"
        );
        let error = Scenario::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let request = "request: { body: abc }";
    check("some", request, "vary: `some`; write `all` or");
    check("{ over: [] }", request, "vary.over: an empty list");
    check("{ over: [order] }", request, "unknown variant `order`");
    check("{ at: [0] }", request, "vary.at: 0 is before the first byte");
    check("{ random: 65 }", request, "vary.random: 65 is above the bound of 64");
    check("all", "request: {}", "vary: nothing varies");
    check("{ over: [callouts] }", request, "vary: nothing varies");
}
