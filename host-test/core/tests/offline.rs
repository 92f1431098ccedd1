//! The offline proxy with guests written in Rust: each is a function from callback to returned word.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Behaviour, CONTINUE, STOP, agree, check, log, play, respond, status};
use tollgate_abi::{
    Answer, BufferType, Call, Callback, CallbackKind, MapType, MetricType, Reply, Status,
    StreamType,
};
use tollgate_host::engine::Trap;
use tollgate_host::report::Verdict;
use tollgate_host::world::World;

#[test]
fn a_request_passes_a_chain_there_in_order_and_back_in_reverse() {
    fn mark(world: &mut World, callback: &Callback, name: &str) -> u32 {
        let map = match callback {
            Callback::RequestHeaders { .. } => MapType::RequestHeaders,
            Callback::ResponseHeaders { .. } => MapType::ResponseHeaders,
            _ => return agree(callback),
        };
        let (name, value) = (b"x-seen".to_vec(), name.as_bytes().to_vec());
        assert_eq!(world.handle(Call::AddHeaderMapValue { map, name, value }), Reply::OK);
        CONTINUE
    }
    check(
        &[
            ("first", |world, callback| Ok(mark(world, callback, "first"))),
            ("second", |world, callback| Ok(mark(world, callback, "second"))),
        ],
        "
name: order
filters: [ { filter: first }, { filter: second } ]
steps:
  - request: {}
    expect:
      upstream: { headers: [ [x-seen, first], [x-seen, second] ] }
      response: { status: 200, headers: [ [x-seen, second], [x-seen, first] ] }
",
    );
}

#[test]
fn a_local_reply_comes_in_place_of_the_upstream_and_runs_through_the_response_callbacks() {
    check(
        &[("refuse", |world, callback| {
            match callback {
                Callback::RequestHeaders { .. } => {
                    respond(world, 429, &[("retry-after", "7")], "no");
                }
                Callback::ResponseHeaders { .. } => log(world, "my own response"),
                _ => return Ok(agree(callback)),
            }
            // Whatever it returns: the stream stops here.
            Ok(CONTINUE)
        })],
        "
name: local reply
filters: [ { filter: refuse } ]
steps:
  - request: { method: POST, body: hello }
    expect:
      upstream: none
      response:
        status: 429
        headers: [ [retry-after, '7'], [content-length, '2'], [content-type, text/plain] ]
        body: no
      logs: [ my own response ]
",
    );
}

#[test]
fn a_held_body_is_delivered_together_with_what_follows() {
    check(
        &[("hold", |world, callback| {
            if let Callback::RequestBody { size, end_of_stream, .. } = callback {
                log(world, &format!("{size} {end_of_stream}"));
                return Ok(if *end_of_stream { CONTINUE } else { STOP });
            }
            Ok(agree(callback))
        })],
        "
name: accumulation
filters: [ { filter: hold } ]
steps:
  - request: { method: POST, body: [ab, cde] }
    expect:
      upstream: { body: abcde }
      logs: [ 2 false, 5 false, 5 true ]
",
    );
}

#[test]
fn held_headers_wait_for_a_tick_that_resumes_them() {
    check(
        &[("later", |world, callback| {
            match callback {
                Callback::Configure { .. } => {
                    world.handle(Call::SetTickPeriod { period_millis: 100 });
                }
                Callback::RequestHeaders { .. } => return Ok(STOP),
                Callback::Tick { .. } => {
                    // The context of the first stream; nobody has it before and after.
                    let set = world.handle(Call::SetEffectiveContext { context: 2 });
                    if status(&set) == Status::Ok {
                        world.handle(Call::ContinueStream { stream: StreamType::HttpRequest });
                    }
                }
                _ => {}
            }
            Ok(agree(callback))
        })],
        "
name: resume
filters: [ { filter: later } ]
steps:
  - request: { method: POST, body: hello }
    expect: { upstream: { body: hello }, response: { status: 200 } }
",
    );
}

#[test]
fn a_request_that_nobody_resumes_is_not_answered() {
    let verdict = play(
        &[("stuck", |_, callback| {
            Ok(if callback.kind() == CallbackKind::RequestHeaders { STOP } else { agree(callback) })
        })],
        "
name: stuck
filters: [ { filter: stuck } ]
steps: [ { request: {}, expect: { response: { status: 200 } } } ]
",
    );
    let Verdict::Failed { failures } = verdict else { panic!("{verdict:?}") };
    assert_eq!(
        failures.iter().map(|f| f.what.as_str()).collect::<Vec<_>>(),
        ["response: none came; if that is right, say `response: none`"]
    );
}

#[test]
fn a_trap_answers_503_now_and_from_then_on() {
    check(
        &[("trap", |_, callback| match callback {
            Callback::RequestHeaders { .. } => {
                Err(Trap { message: "unreachable".into(), backtrace: Vec::new() })
            }
            _ => Ok(agree(callback)),
        })],
        "
name: trap
filters: [ { filter: trap } ]
steps:
  - request: {}
    repeat: 2
    expect: { upstream: none, response: { status: 503, body: '' } }
",
    );
}

#[test]
fn workers_share_data_and_metrics_but_not_guests() {
    check(
        &[("count", |world, callback| {
            if callback.kind() != CallbackKind::RequestHeaders {
                return Ok(agree(callback));
            }
            let (key, name) = (b"count".to_vec(), b"requests".to_vec());
            let (mut value, cas) = match world.handle(Call::GetSharedData { key: key.clone() }) {
                Reply::Done(Answer::Shared { value, cas }) => (value, cas),
                _ => (Vec::new(), 0),
            };
            value.push(b'x');
            assert_eq!(
                status(&world.handle(Call::SetSharedData {
                    key: key.clone(),
                    value: vec![],
                    cas: 99
                })),
                if cas == 0 { Status::Ok } else { Status::CasMismatch },
            );
            let stored = world.handle(Call::SetSharedData { key, value: value.clone(), cas: 0 });
            assert_eq!(stored, Reply::OK);
            let defined = world.handle(Call::DefineMetric { kind: MetricType::Counter, name });
            let Reply::Done(Answer::U32(metric)) = defined else { panic!("{defined:?}") };
            world.handle(Call::IncrementMetric { metric, offset: 1 });
            assert_eq!(
                status(&world.handle(Call::IncrementMetric { metric, offset: 0 })),
                Status::BadArgument
            );
            log(world, &String::from_utf8(value).unwrap());
            Ok(CONTINUE)
        })],
        "
name: sharing
filters: [ { filter: count } ]
workers: 3
steps:
  - { request: {}, repeat: 3, expect: { metrics: { requests: 3 }, logs: [ x, xx, xxx ] } }
  - { request: {}, worker: 0, expect: { metrics: { requests: 4 }, logs: [ xxxx ] } }
",
    );
}

#[test]
fn the_clock_is_virtual_and_can_be_set_back() {
    check(
        &[("clock", |world, callback| {
            if callback.kind() == CallbackKind::RequestHeaders {
                let reply = world.handle(Call::GetCurrentTime {});
                let Reply::Done(Answer::U64(now)) = reply else { panic!("{reply:?}") };
                log(world, &format!("{now}"));
            }
            Ok(agree(callback))
        })],
        "
name: clock
filters: [ { filter: clock } ]
steps:
  - { request: {}, expect: { logs: [ '1767225600000000000' ] } }
  - { advance: 90m }
  - { request: {}, expect: { logs: [ '1767231000000000000' ] } }
  - { clock: -1h }
  - { request: {}, upstream: { delay: 2s }, expect: { logs: [ '1767227400000000000' ] } }
  - { request: {}, expect: { logs: [ '1767227402000000000' ] } }
",
    );
}

#[test]
fn maps_are_closed_out_of_their_phase() {
    check(
        &[("phases", |world, callback| {
            let get = |world: &mut World, map| {
                let name = b"x-a".to_vec();
                status(&world.handle(Call::GetHeaderMapValue { map, name }))
            };
            let pairs = |world: &mut World, map| world.handle(Call::GetHeaderMapPairs { map });
            let none = Reply::Done(Answer::Bytes(Vec::new()));
            match callback {
                Callback::Configure { .. } | Callback::Done { .. } => {
                    assert_eq!(get(world, MapType::RequestHeaders), Status::BadArgument);
                    assert_eq!(pairs(world, MapType::RequestHeaders), none);
                }
                Callback::RequestHeaders { .. } => {
                    assert_eq!(get(world, MapType::RequestHeaders), Status::Ok);
                    assert_eq!(get(world, MapType::ResponseHeaders), Status::BadArgument);
                    assert_eq!(pairs(world, MapType::ResponseHeaders), none);
                    assert_eq!(get(world, MapType::Unknown(9)), Status::BadArgument);
                }
                Callback::ResponseHeaders { .. } => {
                    assert_eq!(get(world, MapType::RequestHeaders), Status::BadArgument);
                    assert_eq!(get(world, MapType::ResponseHeaders), Status::NotFound);
                }
                Callback::Log { .. } => {
                    assert_eq!(get(world, MapType::RequestHeaders), Status::Ok);
                    assert_eq!(get(world, MapType::ResponseHeaders), Status::NotFound);
                    let (map, name) = (MapType::RequestHeaders, b"x-a".to_vec());
                    let removed = world.handle(Call::RemoveHeaderMapValue { map, name });
                    assert_eq!(status(&removed), Status::BadArgument);
                    log(world, "looked everywhere");
                }
                _ => {}
            }
            Ok(agree(callback))
        })],
        "
name: phases
filters: [ { filter: phases } ]
steps: [ { request: { headers: [ [X-A, '1'] ] }, expect: { logs: [ looked everywhere ] } } ]
",
    );
}

#[test]
fn a_buffer_can_be_prepended_to_appended_to_and_replaced_but_not_in_part() {
    check(
        &[("edit", |world, callback| {
            if let Callback::ResponseBody { size: 5, .. } = callback {
                let mut write = |start, size, value: &str| {
                    let (buffer, value) = (BufferType::HttpResponseBody, value.as_bytes().to_vec());
                    status(&world.handle(Call::SetBufferBytes { buffer, start, size, value }))
                };
                assert_eq!(write(0, 0, "<"), Status::Ok);
                assert_eq!(write(6, 0, ">"), Status::Ok);
                assert_eq!(write(1, 2, "no"), Status::BadArgument);
            }
            Ok(agree(callback))
        })],
        "
name: buffers
filters: [ { filter: edit } ]
steps:
  - request: {}
    upstream: { body: [hello, again] , trailers: [ [x-t, '1'] ] }
    expect: { response: { body: '<hello><again>', trailers: [ [x-t, '1'] ] } }
",
    );
}

#[test]
fn a_fault_is_answered_in_place_of_the_call() {
    check(
        &[("clock", |world, callback| {
            if callback.kind() == CallbackKind::RequestHeaders {
                let first = status(&world.handle(Call::GetCurrentTime {}));
                let second = status(&world.handle(Call::GetCurrentTime {}));
                log(world, &format!("{first} {second}"));
            }
            Ok(agree(callback))
        })],
        "
name: faults
filters: [ { filter: clock } ]
only: { on: [wasmtime], reason: faults }
steps:
  - request: {}
    faults: [ { call: proxy_get_current_time_nanoseconds, nth: 2, status: 4000000000 } ]
    expect: { logs: [ ok 4000000000 ] }
  - { request: {}, expect: { logs: [ ok ok ] } }
",
    );
}

#[test]
fn a_call_that_the_host_does_not_serve_fails_the_scenario() {
    let verdict = play(
        &[("asking", |world, callback| {
            if callback.kind() == CallbackKind::RequestHeaders {
                let path = b"xds\0node\0extensions".to_vec();
                world.handle(Call::GetProperty { path });
            }
            Ok(agree(callback))
        })],
        "
name: unserved
filters: [ { filter: asking } ]
steps: [ { request: {} } ]
",
    );
    let Verdict::Failed { failures } = verdict else { panic!("{verdict:?}") };
    let what = &failures.first().unwrap().what;
    assert!(what.contains("proxy_get_property(path=\"xds"), "{what}");
}

#[test]
fn a_scenario_makes_properties_up() {
    let verdict = play(
        &[("properties", |world, callback| {
            if callback.kind() == CallbackKind::RequestHeaders {
                let read = |path: &str| {
                    let path = path.replace('.', "\0").into_bytes();
                    match world.handle(Call::GetProperty { path }) {
                        Reply::Done(Answer::Bytes(value)) => value.escape_ascii().to_string(),
                        other => other.to_string(),
                    }
                };
                let line = [
                    "connection.uri_san_peer_certificate",
                    "connection.mtls",
                    "connection.id",
                    "request.protocol",
                    "connection.peer_certificate",
                    "xds.route_name",
                ]
                .map(read);
                log(world, &line.join(" "));
            }
            Ok(agree(callback))
        })],
        r#"
name: a certificate
filters: [ { filter: properties } ]
only: { on: [wasmtime, native], reason: made up }
proxy: { route: { name: orders } }
properties:
  connection.uri_san_peer_certificate: spiffe://a/b
  connection.mtls: true
  connection.id: -2
  connection.peer_certificate: { hex: "ff00" }
  request.protocol: null
steps:
  - request: {}
    expect:
      logs:
        - 'spiffe://a/b \x01 \xfe\xff\xff\xff\xff\xff\xff\xff not_found: the scenario says that it is absent \xff\x00 orders'
"#,
    );
    assert_eq!(verdict, Verdict::Passed);
}

fn close(world: &mut World, stream: StreamType) {
    assert_eq!(world.handle(Call::CloseStream { stream }), Reply::OK);
}

#[test]
fn a_call_that_ends_envoy_fails_the_scenario() {
    const DEADLY: &[(&[(&str, Behaviour)], &str)] = &[
        (
            &[("late", |world, callback| {
                if callback.kind() == CallbackKind::Log {
                    respond(world, 403, &[], "");
                }
                Ok(agree(callback))
            })],
            "proxy_send_local_response in proxy_on_log",
        ),
        (
            &[("late", |world, callback| {
                if callback.kind() == CallbackKind::ResponseTrailers {
                    close(world, StreamType::HttpRequest);
                }
                Ok(agree(callback))
            })],
            "proxy_close_stream in proxy_on_response_trailers",
        ),
        (
            &[("late", |world, callback| {
                if callback.kind() == CallbackKind::ResponseTrailers {
                    close(world, StreamType::HttpResponse);
                }
                Ok(agree(callback))
            })],
            "proxy_close_stream in proxy_on_response_trailers",
        ),
    ];
    for &(guests, expected) in DEADLY {
        let verdict = play(
            guests,
            "
name: deadly
filters: [ { filter: late } ]
steps: [ { request: {}, upstream: { body: [ab, c], trailers: [ [x-t, '1'] ] } } ]
",
        );
        let Verdict::Failed { failures } = verdict else { panic!("{verdict:?}") };
        let what = &failures.first().unwrap().what;
        assert!(what.contains(expected), "{what}");
    }
}

#[test]
fn a_refused_configuration_is_a_verdict() {
    let guests: &'static [(&'static str, Behaviour)] = &[("strict", |world, callback| {
        if callback.kind() == CallbackKind::Configure {
            log(world, "rules: an empty list");
            return Ok(0);
        }
        Ok(agree(callback))
    })];
    check(
        guests,
        "name: refused\nfilters: [ { filter: strict } ]\nrefused: 'rules: an empty list'\n",
    );
    let verdict = play(guests, "name: refused\nfilters: [ { filter: strict } ]\nrefused: other\n");
    assert!(matches!(verdict, Verdict::Failed { .. }), "{verdict:?}");
}

#[test]
fn a_closed_stream_is_reset() {
    check(
        &[("close", |world, callback| {
            if callback.kind() == CallbackKind::RequestHeaders {
                world.handle(Call::CloseStream { stream: StreamType::HttpRequest });
                return Ok(STOP);
            }
            Ok(agree(callback))
        })],
        "
name: close
filters: [ { filter: close } ]
steps: [ { request: {}, expect: { upstream: none, response: reset } } ]
",
    );
}

#[test]
fn an_upstream_that_resets_is_answered_by_the_proxy() {
    check(
        &[("watch", |world, callback| {
            if let Callback::ResponseHeaders { .. } = callback {
                log(world, "a response");
            }
            Ok(agree(callback))
        })],
        "
name: reset
filters: [ { filter: watch } ]
steps:
  - request: {}
    upstream: { reset: true }
    expect: { response: { status: 503, body: { contains: upstream connect error } }, logs: [ a response ] }
",
    );
}

#[test]
fn what_is_not_as_expected_is_said() {
    let verdict = play(
        &[("plain", |_, callback| Ok(agree(callback)))],
        "
name: wrong
filters: [ { filter: plain } ]
steps:
  - request: { headers: [ [x-a, '1'], [x-a, '2'] ] }
    upstream: { status: 204, headers: [ [x-b, '1'] ] }
    expect:
      response: { status: 200, headers: [ [x-b, '2'] ], absent: [x-b] }
      upstream: { path: /other, headers: [ [x-a, '1'] ] }
      metrics: { none: 1 }
      logs: [ nothing ]
      budget: { host_calls: 0 }
",
    );
    let Verdict::Failed { failures } = verdict else { panic!("{verdict:?}") };
    let said: Vec<&str> = failures.iter().map(|failure| failure.what.as_str()).collect();
    assert_eq!(
        said,
        [
            "response status: expected 200, got 204 with body \"\"",
            "response header x-b: expected \"2\", got \"1\"",
            "response header x-b: expected none, got \"1\"",
            "upstream path: expected \"/other\", got \"/\"",
            "upstream header x-a: expected \"1\", got \"1\", \"2\"",
            "metric none: expected 1, but no counter or gauge is named so",
            "log: expected something with \"nothing\", got no line",
        ]
    );
}
