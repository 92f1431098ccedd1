//! A host may answer anything: the module lives, and no request falls through.

use std::sync::{Arc, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;
use tollgate::shared_data::Update;
use tollgate::{
    Clock, ConfigureError, Counter, Filter, LocalReply, OnLog, OnRequestHeaders, OnResponseHeaders,
    Outcome, Registration, RequestHeaders, ResponseHeaders, Root, SharedData, StatusCode,
    registration,
};
use tollgate_abi::{Answer, Call, Callback, Function, Reply, Status, pairs};

use tollgate_host_native::on_host;

/// Calls all there is to call, and lets nothing pass but what it has understood.
struct Thorough {
    clock: Clock,
    shared: SharedData,
    counter: Counter,
}

impl Filter for Thorough {
    const NAME: &'static str = "thorough";
    type Config = tollgate::config::NoConfig;
    type Stream = ();

    fn configure(_: Self::Config, root: &Root) -> Result<Self, ConfigureError> {
        root.property(&["plugin_name"])?;
        Ok(Self {
            clock: root.clock(),
            shared: root.shared_data(),
            counter: root.counter("thorough"),
        })
    }
}

impl Thorough {
    fn understand(&self, request: &mut RequestHeaders) -> Option<bool> {
        let may_pass = request.read().ok()?.exactly_one("x-pass") == Ok(b"yes");
        request.set("x-time", self.clock.unix_nanos().ok()?.to_string()).ok()?;
        request.append("x-seen", "\u{ff}").ok()?;
        request.remove("x-pass").ok()?;
        request.read().ok()?;
        self.shared
            .update(b"key", 2.try_into().ok()?, |value| {
                Update::Write(value.unwrap_or_default().to_vec(), ())
            })
            .ok()?;
        self.counter.add(2);
        Some(may_pass)
    }
}

impl OnRequestHeaders for Thorough {
    fn on_request_headers(&self, (): &mut (), request: &mut RequestHeaders) -> Outcome {
        tollgate::log::info!("a request");
        match self.understand(request) {
            Some(true) => Ok(()),
            Some(false) | None => Err(LocalReply::new(StatusCode::FORBIDDEN)),
        }
    }
}

impl OnResponseHeaders for Thorough {
    fn on_response_headers(&self, (): &mut (), response: &mut ResponseHeaders) -> Outcome {
        match response.read() {
            Ok(_) => Ok(()),
            Err(_) => Err(LocalReply::new(StatusCode::SERVICE_UNAVAILABLE)),
        }
    }
}

impl OnLog for Thorough {
    fn on_log(&self, (): &mut (), exchange: &mut tollgate::LoggedExchange) {
        let _ = exchange.request();
        let _ = exchange.response();
    }
}

const CONTINUE: u32 = 0;
const PAUSE: u32 = 1;

/// What the life of a stream has come to.
#[derive(Debug, PartialEq)]
struct Course {
    configured: u32,
    request: u32,
    response: u32,
    calls: Vec<Function>,
}

/// The life of a worker and of one stream on a host that answers with `answer`; `None` is what a
/// friendly host says.
fn live(mut answer: impl FnMut(usize, &Call) -> Option<Reply> + Send + 'static) -> Course {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    let host = move |call: &Call| {
        let mut seen = seen.lock().unwrap();
        let reply = answer(seen.len(), call).unwrap_or_else(|| friendly(call));
        seen.push(call.function());
        reply
    };
    let (configured, request, response) = on_host(host, || {
        let Registration { start, call, .. } = registration!(Thorough);
        start();
        let (root, stream) = (1, 2);
        call(Callback::ContextCreate { context: root, parent: 0 });
        let configured = call(Callback::Configure { context: root, configuration_size: 2 });
        call(Callback::ContextCreate { context: stream, parent: root });
        let (count, end_of_stream) = (1, true);
        let request = call(Callback::RequestHeaders { context: stream, count, end_of_stream });
        let response = call(Callback::ResponseHeaders { context: stream, count, end_of_stream });
        call(Callback::Log { context: stream });
        call(Callback::Delete { context: stream });
        (configured, request, response)
    });
    let calls = calls.lock().unwrap().clone();
    Course { configured, request, response, calls }
}

fn friendly(call: &Call) -> Reply {
    let answer = match call.function() {
        Function::GetBufferBytes => Answer::Bytes(b"{}".to_vec()),
        Function::GetHeaderMapPairs => Answer::Bytes(pairs::encode(&[("x-pass", "yes")]).unwrap()),
        Function::GetProperty => Answer::Bytes(b"plugin".to_vec()),
        Function::GetSharedData => Answer::Shared { value: b"value".to_vec(), cas: 7 },
        Function::GetCurrentTime => Answer::U64(1),
        Function::GetLogLevel => Answer::U32(0),
        Function::DefineMetric => Answer::U32(4),
        _ => Answer::Nothing,
    };
    Reply::Done(answer)
}

#[test]
fn a_friendly_host_lets_the_request_pass() {
    let outcome = live(|_, _| None);
    assert_eq!((outcome.configured, outcome.request), (1, CONTINUE));
    assert_eq!(outcome.calls.len(), 17, "{:?}", outcome.calls);
}

#[test]
fn any_status_of_any_call_is_survived() {
    let friendly_calls = live(|_, _| None).calls;
    let decided = friendly_calls.iter().position(|call| *call == Function::IncrementMetric);
    for (faulty, function) in friendly_calls.into_iter().enumerate() {
        for status in (1..=13).chain([4_000_000_000, u32::MAX]) {
            let outcome = live(move |nth, _| {
                (nth == faulty).then(|| Reply::refused(Status::from(status), "a fault"))
            });
            let may_pass = match function {
                // What these say decides nothing.
                Function::Log
                | Function::GetLogLevel
                | Function::DefineMetric
                | Function::IncrementMetric => true,
                // That there is no such name or value is an answer, and so is that it has changed.
                Function::GetProperty | Function::GetSharedData => status == 1,
                Function::SetSharedData => status == 8,
                _ => Some(faulty) > decided,
            };
            let expected = if may_pass { CONTINUE } else { PAUSE };
            assert_eq!(outcome.request, expected, "{function} returned {status}: {outcome:?}");
        }
    }
}

#[test]
fn a_host_that_refuses_everything_lets_nothing_pass() {
    for status in [1, 2, 8, 10, 12, 13, u32::MAX] {
        let outcome = live(move |_, _| Some(Reply::refused(Status::from(status), "a fault")));
        assert_eq!(
            (outcome.configured, outcome.request, outcome.response),
            (0, PAUSE, PAUSE),
            "{status}"
        );
    }
}

#[test]
fn a_host_that_agrees_to_everything_and_gives_nothing_is_survived() {
    let outcome = live(|_, call| {
        let word = match call.function() {
            Function::GetLogLevel | Function::DefineMetric => Answer::U32(u32::MAX),
            Function::GetCurrentTime => Answer::U64(u64::MAX),
            Function::GetSharedData => Answer::Shared { value: Vec::new(), cas: 0 },
            Function::GetBufferBytes | Function::GetProperty | Function::GetHeaderMapPairs => {
                Answer::Bytes(Vec::new())
            }
            _ => Answer::Nothing,
        };
        Some(Reply::Done(word))
    });
    assert_eq!((outcome.configured, outcome.request), (1, PAUSE));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_bytes_and_numbers_are_survived(
        bytes in prop_oneof![
            vec(any::<u8>(), 0..60),
            // One pair with lengths that may be wrong.
            (any::<[u8; 3]>(), vec(any::<u8>(), 0..20)).prop_map(|([count, name, value], text)| {
                [&[count % 3, 0, 0, 0, name % 8, 0, 0, 0, value % 8, 0, 0, 0][..], &text].concat()
            }),
        ],
        number: u32,
        statuses in vec(prop_oneof![4 => Just(0), 1 => any::<u32>(), 1 => 0..14_u32], 40),
    ) {
        let outcome = live(move |nth, call| {
            let status = Status::from(statuses.get(nth).copied().unwrap_or(0));
            if status != Status::Ok {
                return Some(Reply::refused(status, "a fault"));
            }
            let bytes = bytes.clone();
            Some(Reply::Done(match call.function() {
                Function::GetLogLevel | Function::DefineMetric => Answer::U32(number),
                Function::GetCurrentTime => Answer::U64(number.into()),
                Function::GetSharedData => Answer::Shared { value: bytes, cas: number },
                Function::GetBufferBytes | Function::GetProperty | Function::GetHeaderMapPairs => {
                    Answer::Bytes(bytes)
                }
                _ => Answer::Nothing,
            }))
        });
        prop_assert!(outcome.request == CONTINUE || outcome.request == PAUSE);
    }
}
