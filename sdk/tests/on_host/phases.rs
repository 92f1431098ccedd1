//! Which phases a filter has is found out while compiling, and only they run.

use std::sync::{Arc, Mutex};

use tollgate::{
    CallbackKind, ConfigureError, Filter, Headers, LocalReply, LoggedExchange, OnLog,
    OnRequestHeaders, OnResponseHeaders, Outcome, Registration, RequestHeaders, ResponseHeaders,
    Root, StatusCode, registration,
};
use tollgate_abi::{Answer, Call, Callback, Function, Reply, Status, pairs};

use tollgate_host_native::on_host;

macro_rules! filter {
    ($name:ident, $stream:ty) => {
        struct $name;

        impl Filter for $name {
            const NAME: &'static str = stringify!($name);
            type Config = tollgate::config::NoConfig;
            type Stream = $stream;

            fn configure(_: Self::Config, _: &Root) -> Result<Self, ConfigureError> {
                Ok(Self)
            }
        }
    };
}

filter!(Refusing, ());

impl OnRequestHeaders for Refusing {
    fn on_request_headers(&self, (): &mut (), _: &mut RequestHeaders) -> Outcome {
        let reply = LocalReply::new(StatusCode::TOO_MANY_REQUESTS)
            .with_header("retry-after", "2")
            .with_body("wait")
            .with_details("over_limit")
            .with_grpc_status(8);
        Err(reply)
    }
}

filter!(Splitting, ());

impl OnRequestHeaders for Splitting {
    fn on_request_headers(&self, (): &mut (), _: &mut RequestHeaders) -> Outcome {
        let reply = LocalReply::new(StatusCode::BAD_REQUEST).with_header("x-why", "a\r\nb: c");
        Err(reply)
    }
}

filter!(Stamping, Option<u16>);

impl OnResponseHeaders for Stamping {
    fn on_response_headers(
        &self,
        stream: &mut Option<u16>,
        response: &mut ResponseHeaders,
    ) -> Outcome {
        *stream = response.read().ok().and_then(Headers::status);
        // Read again only after a change.
        assert_eq!(response.read().map(Headers::len), Ok(1));
        assert!(response.set("x bad", "").is_err());
        assert!(response.set("x-end", response.is_end_of_stream().to_string()).is_ok());
        assert!(response.read().is_ok());
        Ok(())
    }
}

impl OnLog for Stamping {
    fn on_log(&self, stream: &mut Option<u16>, exchange: &mut LoggedExchange) {
        let count = exchange.request().map(Headers::len);
        tollgate::log::error!("{stream:?} {count:?}");
    }
}

/// Runs the whole of a stream, and gives what the callbacks of the headers returned and what the host
/// was asked from there on.
fn run(registration: Registration, faulty: &'static [Function]) -> ([u32; 2], Vec<String>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    let host = move |call: &Call| {
        seen.lock().unwrap().push(call.to_string());
        if faulty.contains(&call.function()) {
            return Reply::refused(Status::InternalFailure, "");
        }
        Reply::Done(match call.function() {
            Function::GetHeaderMapPairs => {
                Answer::Bytes(pairs::encode(&[(":status", "204")]).unwrap())
            }
            Function::GetLogLevel => Answer::U32(2),
            _ => Answer::Nothing,
        })
    };
    let (count, end_of_stream) = (1, false);
    let returned = on_host(host, move || {
        let Registration { start, call, .. } = registration;
        start();
        call(Callback::ContextCreate { context: 1, parent: 0 });
        assert_eq!(call(Callback::Configure { context: 1, configuration_size: 0 }), 1);
        call(Callback::ContextCreate { context: 2, parent: 1 });
        let request = call(Callback::RequestHeaders { context: 2, count, end_of_stream });
        let response = call(Callback::ResponseHeaders { context: 2, count, end_of_stream });
        call(Callback::Log { context: 2 });
        call(Callback::Delete { context: 2 });
        [request, response]
    });
    let calls = calls.lock().unwrap().iter().skip(1).cloned().collect();
    (returned, calls)
}

#[test]
fn a_module_needs_the_callbacks_of_its_phases_and_of_what_it_keeps() {
    use CallbackKind::{Configure, ContextCreate, Delete, Log, RequestHeaders, ResponseHeaders};
    let check = |registration: Registration, callbacks: &[CallbackKind]| {
        assert_eq!((registration.callbacks)(), callbacks);
    };
    check(registration!(Refusing), &[Configure, RequestHeaders]);
    let of_stamping = &[ContextCreate, Configure, ResponseHeaders, Log, Delete];
    check(registration!(Stamping), of_stamping);
}

const REFUSAL: &str = "proxy_send_local_response(status_code=429, details=\"over_limit\", \
                       body=\"wait\", headers=[retry-after: 2], grpc_status=8)";

#[test]
fn a_reply_is_sent_whole_and_stops_the_request() {
    let (returned, calls) = run(registration!(Refusing), &[]);
    assert_eq!(returned, [1, 0]);
    assert_eq!(calls, [REFUSAL]);
}

#[test]
fn a_reply_that_the_host_refuses_closes_the_stream() {
    let (returned, calls) = run(registration!(Refusing), &[Function::SendLocalResponse]);
    assert_eq!(returned, [1, 0]);
    let line = "proxy_log(level=error, message=\"Refusing: the stream is closed, as its answer \
                could not be sent: the proxy refused proxy_send_local_response with status \
                internal_failure\")";
    let close = "proxy_close_stream(stream=http_request)";
    assert_eq!(calls, [REFUSAL, line, close]);

    let both = &[Function::SendLocalResponse, Function::CloseStream];
    let (returned, calls) = run(registration!(Refusing), both);
    assert_eq!((returned, calls.len()), ([1, 0], 4));
}

#[test]
fn a_reply_that_would_split_the_response_is_not_sent() {
    let (returned, calls) = run(registration!(Splitting), &[]);
    assert_eq!(returned, [1, 0]);
    let line = "proxy_log(level=error, message=\"Splitting: the stream is closed, as its answer \
                could not be sent: the value of header x-why has a line break or NUL in it\")";
    assert_eq!(calls, [line, "proxy_close_stream(stream=http_request)"]);
}

#[test]
fn a_stream_keeps_its_state_and_headers_are_read_once_until_changed() {
    let (returned, calls) = run(registration!(Stamping), &[]);
    assert_eq!(returned, [0, 0]);
    let read = "proxy_get_header_map_pairs(map=response_headers)";
    assert_eq!(
        calls,
        [
            read,
            "proxy_replace_header_map_value(map=response_headers, name=\"x-end\", value=\"false\")",
            read,
            "proxy_get_header_map_pairs(map=request_headers)",
            "proxy_log(level=error, message=\"Stamping: Some(204) Ok(1)\")",
        ]
    );
}
