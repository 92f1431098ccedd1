//! Bodies on hosts that give other than they announce, or nothing.

use tollgate::{
    BodyError, CallbackKind, HostError, LocalReply, OnRequestBody, OnRequestChunk, OnResponseBody,
    OnResponseTrailers, Outcome, RequestBody, RequestChunk, ResetStream, ResponseBody,
    ResponseTrailers, StatusCode, registration,
};
use tollgate_abi::{Answer, Call, Callback, Function, Reply, Status};

use crate::scripted::{filter, play};

filter!(Holding, ());

impl OnRequestBody for Holding {
    const MAX_BYTES: usize = 4;
    const RESIZES: bool = true;

    fn on_request_body(&self, (): &mut (), body: &mut RequestBody) -> Outcome {
        let bytes = body.bytes()?;
        body.append(bytes)?;
        Ok(())
    }
}

impl OnResponseBody for Holding {
    const MAX_BYTES: usize = 4;

    fn on_response_body(&self, (): &mut (), body: &mut ResponseBody) -> Result<(), ResetStream> {
        assert!(matches!(
            body.append("x"),
            Err(BodyError::Resized { .. } | BodyError::Absent { .. })
        ));
        body.bytes()?;
        Ok(())
    }
}

filter!(Passing, usize);

impl OnRequestChunk for Passing {
    fn on_request_chunk(&self, seen: &mut usize, chunk: &mut RequestChunk) -> Outcome {
        *seen += chunk.len();
        if chunk.is_last() {
            return Err(LocalReply::new(StatusCode::FORBIDDEN).with_body(seen.to_string()));
        }
        Ok(())
    }
}

filter!(Ending, ());

impl OnResponseTrailers for Ending {
    fn on_response_trailers(
        &self,
        (): &mut (),
        trailers: &mut ResponseTrailers,
    ) -> Result<(), ResetStream> {
        if trailers.read()?.is_empty() { Err(ResetStream::silently()) } else { Ok(()) }
    }
}

const CONTINUE: u32 = 0;
const HOLD: u32 = 1;

fn request_body(size: usize, end_of_stream: bool) -> Callback {
    Callback::RequestBody { context: 2, size, end_of_stream }
}

fn response_body(size: usize, end_of_stream: bool) -> Callback {
    Callback::ResponseBody { context: 2, size, end_of_stream }
}

/// A host that gives so many bytes of any buffer, whatever was asked for.
fn giving(size: usize) -> impl FnMut(&Call) -> Option<Reply> + Send + 'static {
    move |call| match call.function() {
        Function::GetBufferBytes => Some(Reply::Done(Answer::Bytes(vec![b'x'; size]))),
        Function::GetBufferStatus => Some(Reply::Done(Answer::Buffer { size, flags: 0 })),
        _ => None,
    }
}

const RESET: &str = "proxy_send_local_response(status_code=502, details=\"tollgate_response_reset\", \
                     body=\"\", headers=[], grpc_status=4294967295)";

#[test]
fn a_module_needs_the_callbacks_that_may_bring_the_end_of_a_body() {
    use CallbackKind::{
        Configure, ContextCreate, Delete, RequestBody, RequestHeaders, RequestTrailers,
        ResponseBody, ResponseHeaders, ResponseTrailers,
    };
    let check = |registration: tollgate::Registration, callbacks: &[CallbackKind]| {
        assert_eq!((registration.callbacks)(), callbacks);
    };
    let (requests, responses) = (
        [RequestHeaders, RequestBody, RequestTrailers],
        [ResponseHeaders, ResponseBody, ResponseTrailers],
    );
    let both = [&[Configure][..], &requests, &responses].concat();
    check(registration!(Holding), &both);
    let kept = [&[ContextCreate, Configure][..], &requests, &[Delete]].concat();
    check(registration!(Passing), &kept);
    check(registration!(Ending), &[Configure, ResponseTrailers]);
}

#[test]
fn a_body_is_held_unread_until_it_is_whole() {
    let callbacks = vec![request_body(1, false), request_body(2, false), request_body(3, true)];
    let played = play(registration!(Holding), giving(3), callbacks);
    let read = "proxy_get_buffer_bytes(buffer=http_request_body, start=0, max_size=3)";
    let append = "proxy_set_buffer_bytes(buffer=http_request_body, start=3, size=0, value=\"xxx\")";
    assert_eq!(
        played,
        [(HOLD, vec![]), (HOLD, vec![]), (CONTINUE, vec![read.to_owned(), append.to_owned()]),]
    );
}

#[test]
fn trailers_end_a_body_and_the_host_says_how_much_is_held() {
    let trailers = Callback::RequestTrailers { context: 2, count: 1 };
    let (returned, calls) =
        play(registration!(Holding), giving(2), vec![request_body(2, false), trailers]).remove(1);
    assert_eq!((returned, calls.len()), (CONTINUE, 3), "{calls:?}");
    assert_eq!(calls.first().unwrap(), "proxy_get_buffer_status(buffer=http_request_body)");

    let refusing = |call: &Call| {
        let is_asked = call.function() == Function::GetBufferStatus;
        is_asked.then(|| Reply::refused(Status::NotFound, ""))
    };
    let (returned, calls) = play(registration!(Holding), refusing, vec![trailers]).remove(0);
    assert_eq!(returned, HOLD);
    assert!(calls.last().unwrap().contains("tollgate_host_error"), "{calls:?}");
}

#[test]
fn a_host_that_gives_another_number_of_bytes_lets_nothing_pass() {
    for (given, why) in [
        (0, "with nothing, as in a callback of another phase"),
        (2, "with 2 bytes in place of 3"),
        (4, "with 4 bytes in place of 3"),
    ] {
        let played = play(
            registration!(Holding),
            giving(given),
            vec![request_body(3, true), response_body(3, true)],
        );
        let [(request, request_calls), (response, response_calls)] = &played[..] else {
            panic!("{played:?}");
        };
        assert_eq!((*request, *response), (HOLD, HOLD));
        let is_logged = |calls: &[String]| calls.iter().any(|call| call.contains(why));
        assert!(is_logged(request_calls) && is_logged(response_calls), "{played:?}");
        assert!(request_calls.last().unwrap().contains("status_code=503"));
        assert_eq!(response_calls.last().unwrap(), RESET);
    }
}

#[test]
fn a_body_above_its_limit_is_refused_at_once() {
    let played = play(
        registration!(Holding),
        |_| None,
        vec![request_body(5, false), response_body(usize::MAX, false)],
    );
    let [(request, request_calls), (response, response_calls)] = &played[..] else {
        panic!("{played:?}");
    };
    assert_eq!((*request, *response), (HOLD, HOLD));
    let reply = "proxy_send_local_response(status_code=413, details=\"tollgate_request_too_long\", \
                 body=\"\", headers=[], grpc_status=4294967295)";
    assert_eq!(request_calls.last().unwrap(), reply);
    assert_eq!(response_calls.last().unwrap(), RESET);
}

#[test]
fn a_length_that_is_announced_is_judged_and_taken_away_where_bodies_are_resized() {
    let check = |length: Option<&'static str>, expected: &[&str], expected_return: u32| {
        let host = move |call: &Call| match (call.function(), length) {
            (Function::GetHeaderMapValue, Some(length)) => {
                Some(Reply::Done(Answer::Bytes(length.into())))
            }
            (Function::GetHeaderMapValue, None) => Some(Reply::refused(Status::NotFound, "")),
            _ => None,
        };
        let headers = Callback::RequestHeaders { context: 2, count: 1, end_of_stream: false };
        let (returned, calls) = play(registration!(Holding), host, vec![headers]).remove(0);
        assert_eq!(returned, expected_return);
        let called: Vec<&str> =
            calls.iter().map(|call| call.split_once('(').map_or("", |(name, _)| name)).collect();
        assert_eq!(called, expected, "{length:?}");
    };
    let (ask, remove) = ("proxy_get_header_map_value", "proxy_remove_header_map_value");
    check(None, &[ask], CONTINUE);
    check(Some("4"), &[ask, remove], CONTINUE);
    check(Some("5"), &[ask, "proxy_log", "proxy_send_local_response"], HOLD);
    check(Some("18446744073709551615"), &[ask, "proxy_log", "proxy_send_local_response"], HOLD);
    // What is no length is counted as it comes.
    check(Some("many"), &[ask, remove], CONTINUE);
}

#[test]
fn the_last_chunk_comes_once_with_the_headers_the_body_or_the_trailers() {
    let (count, context) = (1, 2);
    let headers = Callback::RequestHeaders { context, count, end_of_stream: true };
    let trailers = Callback::RequestTrailers { context, count };
    for (callbacks, seen) in [
        (vec![headers], "0"),
        (vec![request_body(2, false), request_body(3, true)], "5"),
        (vec![request_body(2, false), trailers], "2"),
    ] {
        let played = play(registration!(Passing), |_| None, callbacks);
        let (last, before) = played.split_last().unwrap();
        assert!(before.iter().all(|(returned, calls)| *returned == CONTINUE && calls.is_empty()));
        assert_eq!(last.0, HOLD);
        assert!(last.1.last().unwrap().contains(&format!("body=\"{seen}\"")), "{played:?}");
    }
}

#[test]
fn a_response_is_never_closed_at_its_trailers() {
    let trailers = || vec![Callback::ResponseTrailers { context: 2, count: 0 }];
    let (returned, calls) = play(registration!(Ending), |_| None, trailers()).remove(0);
    assert_eq!(returned, HOLD);
    assert_eq!(calls[1..], [RESET.to_owned()]);

    let refusing = |call: &Call| {
        let is_reply = call.function() == Function::SendLocalResponse;
        is_reply.then(|| Reply::refused(Status::InternalFailure, ""))
    };
    let (returned, calls) = play(registration!(Ending), refusing, trailers()).remove(0);
    assert_eq!(returned, HOLD);
    assert!(!calls.iter().any(|call| call.contains("proxy_close_stream")), "{calls:?}");
    assert!(calls.last().unwrap().contains("the response is held"), "{calls:?}");
}

#[test]
fn an_error_of_the_host_says_which_function_gave_what() {
    let function = Function::GetBufferBytes;
    let error = HostError::WrongSize { function, size: 1, expected: 2 };
    assert_eq!((error.function(), error.status()), (function, None));
    let error = BodyError::from(error);
    assert_eq!(
        error.to_string(),
        "the proxy answered proxy_get_buffer_bytes with 1 bytes in place of 2"
    );
}
