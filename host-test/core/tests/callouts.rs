//! Callouts on the offline proxy: what guests are told, when, and what is said of a wrong plan.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Behaviour, STOP, agree, check, log, play, status};
use tollgate_abi::{
    Answer, BufferType, Call, Callback, CallbackKind, Reply, Serialized, StreamType, pairs,
};
use tollgate_host::report::Verdict;
use tollgate_host::world::World;

fn serialized(lines: &[(&str, &str)]) -> Serialized {
    Serialized(pairs::encode(lines).unwrap())
}

fn get(world: &mut World, upstream: &str, path: &str, timeout_millis: u32) -> Reply {
    let headers = serialized(&[(":method", "GET"), (":path", path), (":authority", "a")]);
    let (body, trailers) = (Vec::new(), serialized(&[]));
    let upstream = upstream.as_bytes().to_vec();
    world.handle(Call::HttpCall { upstream, headers, body, trailers, timeout_millis })
}

fn grpc(world: &mut World, message: &str) -> Reply {
    world.handle(Call::GrpcCall {
        upstream: b"limits".to_vec(),
        service: b"Limits".to_vec(),
        method: b"Ask".to_vec(),
        metadata: serialized(&[("x-m", "1")]),
        message: message.as_bytes().to_vec(),
        timeout_millis: 100,
    })
}

fn stream(world: &mut World) -> Reply {
    world.handle(Call::GrpcStream {
        upstream: b"limits".to_vec(),
        service: b"Limits".to_vec(),
        method: b"Watch".to_vec(),
        metadata: serialized(&[]),
    })
}

fn token(reply: &Reply) -> u32 {
    let Reply::Done(Answer::U32(token)) = reply else { panic!("{reply}") };
    *token
}

/// Says what a callback of a callout tells, and what can be read in it.
fn tell(world: &mut World, callback: &Callback) {
    let buffer = match callback {
        Callback::HttpCallResponse { .. } => BufferType::HttpCallResponseBody,
        _ => BufferType::GrpcReceiveBuffer,
    };
    let bytes = world.handle(Call::GetBufferBytes { buffer, start: 0, max_size: 1000 });
    let code = world.handle(Call::GetStatus {});
    let callback = callback.to_string();
    let name = callback.trim_start_matches("proxy_on_");
    log(world, &format!("{name} {bytes}; status {code}"));
}

/// Holds a request until its callout is answered, whatever the answer.
const ASK: &[(&str, Behaviour)] = &[("ask", |world, callback| {
    match callback {
        Callback::RequestHeaders { .. } => {
            assert_eq!(token(&get(world, "authz", "/check", 100)), 4);
            return Ok(STOP);
        }
        Callback::HttpCallResponse { .. } => {
            tell(world, callback);
            assert_eq!(world.handle(Call::SetEffectiveContext { context: 2 }), Reply::OK);
            world.handle(Call::ContinueStream { stream: StreamType::HttpRequest });
        }
        _ => {}
    }
    Ok(agree(callback))
})];

fn check_ask(meets: &str, logged: &str) {
    let text = format!(
        "
name: asked
filters: [ {{ filter: ask }} ]
clusters: [authz]
steps:
  - request: {{}}
    callouts: [ {{ cluster: authz, {meets} }} ]
    expect: {{ logs: [ '{logged}' ], response: {{ status: 200 }}, upstream: {{ path: / }} }}
"
    );
    check(ASK, &text);
}

#[test]
fn an_answer_a_reset_a_timeout_and_a_refusal_are_told_and_the_stream_goes_on() {
    check_ask(
        "answer: { status: 403, body: [n, o] }, expect: { method: GET, path: /check, absent: [x-b], \
         headers: [ [host, a], [x-envoy-internal, 'true'] ] }",
        "http_call_response(context=1, token=4, headers=3, body_size=2, trailers=0) \"no\"; status 0",
    );
    check_ask("answer: { delay: 100ms }", "headers=3, body_size=0, trailers=0) \"\"; status 0");
    let timed_out = "headers=3, body_size=24, trailers=0) \"upstream request timeout\"; status 0";
    check_ask("answer: { delay: 101ms }", timed_out);
    check_ask("never: true", timed_out);
    check_ask("reset: true", "reset reason: connection termination");
    check_ask("refused: true", "reset reason: remote connection failure\"");
    check_ask(
        "answer: { body: [a] }, reset: true",
        "headers=0, body_size=0, trailers=0) not_found",
    );
    check_ask("answer: { body: [a] }, reset: true", "status 11 \"reset\"");
}

#[test]
fn an_answer_is_told_when_time_passes_also_after_its_stream() {
    check(
        &[("late", |world, callback| {
            match callback {
                Callback::Log { .. } => {
                    token(&get(world, "authz", "/log", 0));
                }
                Callback::HttpCallResponse { .. } => {
                    let gone = world.handle(Call::SetEffectiveContext { context: 2 });
                    log(world, &format!("answered, {:?}", status(&gone)));
                }
                _ => {}
            }
            Ok(agree(callback))
        })],
        "
name: late
filters: [ { filter: late } ]
clusters: [authz]
steps:
  - request: {}
    callouts: [ { cluster: authz, answer: { delay: 1s } } ]
    expect: { no_logs: [ answered ] }
  - advance: 1s
  - request: {}
    callouts: [ { cluster: authz, answer: {} } ]
    expect: { logs: [ 'answered, BadArgument' ] }
",
    );
}

#[test]
fn a_call_that_cannot_be_made_is_refused() {
    check(
        &[("wrong", |world, callback| {
            if callback.kind() == CallbackKind::RequestHeaders {
                let refused = |reply: Reply| u32::from(status(&reply));
                assert_eq!(refused(get(world, "nowhere", "/", 0)), 2);
                assert_eq!(refused(get(world, "authz", "/", 1 << 31)), 2);
                let headers = serialized(&[(":method", "GET"), (":path", "/")]);
                let (body, trailers) = (Vec::new(), serialized(&[]));
                let upstream = b"authz".to_vec();
                let call = Call::HttpCall { upstream, headers, body, trailers, timeout_millis: 0 };
                assert_eq!(refused(world.handle(call)), 2);
                for (token, expected) in [(4, 2), (5, 1), (6, 1), (7, 2)] {
                    assert_eq!(refused(world.handle(Call::GrpcCancel { token })), expected);
                    assert_eq!(refused(world.handle(Call::GrpcClose { token })), expected);
                }
            }
            Ok(agree(callback))
        })],
        "
name: wrong
filters: [ { filter: wrong } ]
clusters: [authz]
steps: [ { request: {} } ]
",
    );
}

#[test]
fn a_grpc_call_is_told_its_message_or_how_it_failed() {
    let check_call = |answer: &str, logged: &str| {
        check(
            &[("call", |world, callback| {
                match callback {
                    Callback::RequestHeaders { .. } => assert_eq!(token(&grpc(world, "hi")), 5),
                    Callback::GrpcReceive { .. } | Callback::GrpcClose { .. } => {
                        tell(world, callback);
                    }
                    _ => {}
                }
                Ok(agree(callback))
            })],
            &format!(
                "
name: called
filters: [ {{ filter: call }} ]
clusters: [limits]
steps:
  - request: {{}}
    upstream: {{ delay: 1s }}
    callouts:
      - cluster: limits
        grpc: {{ service: Limits, method: Ask, metadata: [ [x-m, '1'] ], messages: [ hi ] }}
        {answer}
    expect: {{ logs: [ '{logged}' ] }}
"
            ),
        );
    };
    let received = "grpc_receive(context=1, token=5, size=3) \"yes\"; status 0 \"\"";
    check_call("answer_grpc: { messages: [ 'yes' ], delay: 10ms }", received);
    check_call("answer_grpc: { messages: [ 'no', 'yes' ], metadata: [ [a, b] ] }", received);
    let closed =
        "grpc_close(context=1, token=5, status=7) \"\"; status 7 \"not you{via_upstream}\"";
    check_call("answer_grpc: { status: 7, message: not you }", closed);
    check_call("answer_grpc: {}", "status=13) \"\"; status 13 \"\"");
    check_call(
        "never: true",
        "status=14) \"\"; status 14 \"upstream request timeout{response_timeout}\"",
    );
    check_call("answer_grpc: { messages: [ a ], delay: 1s }", "status 14 \"upstream request");
    check_call("reset: true", "reset reason: connection termination");
}

#[test]
fn a_grpc_stream_is_answered_message_by_message() {
    check(
        &[("talk", |world, callback| {
            match callback {
                Callback::RequestHeaders { .. } => {
                    assert_eq!(token(&stream(world)), 6);
                    let message = b"one".to_vec();
                    let call = Call::GrpcSend { token: 6, message, end_of_stream: 0 };
                    assert_eq!(world.handle(call), Reply::OK);
                }
                Callback::GrpcReceive { .. } => {
                    tell(world, callback);
                    world.handle(Call::GrpcClose { token: 6 });
                }
                Callback::GrpcReceiveInitialMetadata { .. }
                | Callback::GrpcReceiveTrailingMetadata { .. }
                | Callback::GrpcClose { .. } => tell(world, callback),
                _ => {}
            }
            Ok(agree(callback))
        })],
        "
name: talk
filters: [ { filter: talk } ]
clusters: [limits]
steps:
  - request: {}
    callouts:
      - cluster: limits
        grpc: { service: Limits, method: Watch, messages: [ one ] }
        answer_grpc: { metadata: [ [a, b] ], messages: [ first, second ], trailers: [ [t, '1'] ] }
    expect:
      logs:
        - 'grpc_receive_initial_metadata(context=1, token=6, count=3)'
        - 'grpc_receive(context=1, token=6, size=5) \"first\"'
        - 'grpc_receive(context=1, token=6, size=6) \"second\"'
        - 'grpc_receive_trailing_metadata(context=1, token=6, count=2)'
        - 'grpc_close(context=1, token=6, status=0)'
",
    );
}

#[test]
fn a_plan_that_does_not_come_true_fails_the_step() {
    let failures = |callouts: &str| {
        let text = format!(
            "
name: planned
filters: [ {{ filter: ask }} ]
clusters: [authz, limits]
steps: [ {{ request: {{}}, callouts: [ {callouts} ], expect: {{ response: {{}} }} }} ]
"
        );
        let Verdict::Failed { failures } = play(ASK, &text) else { panic!("passed: {text}") };
        failures.into_iter().map(|failure| failure.what).collect::<Vec<_>>().join("; ")
    };
    let check = |callouts: &str, expected: &str| {
        let failures = failures(callouts);
        assert!(failures.contains(expected), "{failures}");
    };
    check("", "callout to authz: expected none, got GET /check");
    let twice = "{ cluster: authz, answer: {} }, { cluster: authz, answer: {} }";
    check(twice, "callout 2 to authz: expected one, but no guest made it");
    check(
        "{ cluster: authz, expect: { path: /, headers: [ [a, b] ] }, answer: {} }",
        "callout 1 to authz path: expected \"/\", got \"/check\"; \
         callout 1 to authz header a: expected \"b\", got no line",
    );
    check(
        "{ cluster: authz, grpc: { service: s }, never: true }",
        "callout 1 to authz: expected gRPC, got GET /check",
    );
}
