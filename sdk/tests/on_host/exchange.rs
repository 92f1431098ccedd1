//! What an asynchronous handler holds, lets go and says to the host, call by call.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tollgate::callout::{HttpCall, SingleFlight};
use tollgate::config::NoConfig;
use tollgate::exchange::Bodies;
use tollgate::{
    ConfigureError, Filter, LocalReply, OnExchange, Outcome, Registration, Request, Root,
    StatusCode, registration, sleep,
};
use tollgate_abi::{Answer, Call, Callback, Function, Reply, pairs};

use tollgate_host_native::on_host;

const CONTINUE: u32 = 0;
const PAUSE: u32 = 1;
/// Held in a way in which no body can let the headers go.
const PAUSE_ALL: u32 = 4;

/// A filter of one handler.
macro_rules! follows {
    ($name:ident, $bodies:ident, |$request:ident| $handler:expr) => {
        struct $name;

        impl Filter for $name {
            const NAME: &'static str = "follows";
            type Config = NoConfig;
            type Stream = ();

            fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> {
                Ok(Self)
            }
        }

        impl OnExchange for $name {
            const BODIES: Bodies = Bodies::$bodies;

            async fn on_exchange(&self, (): &mut (), $request: Request) -> Outcome {
                $handler
            }
        }
    };
}

/// A VM with one root, 1, on a host that notes what it is told but for logging and configuring.
struct Vm {
    call: fn(Callback) -> u32,
    told: Arc<Mutex<Vec<String>>>,
}

impl Vm {
    fn stream(&self, context: u32, end_of_stream: bool) -> u32 {
        (self.call)(Callback::ContextCreate { context, parent: 1 });
        (self.call)(Callback::RequestHeaders { context, count: 1, end_of_stream })
    }

    fn body(&self, context: u32, size: usize, end_of_stream: bool) -> u32 {
        (self.call)(Callback::RequestBody { context, size, end_of_stream })
    }

    fn answered(&self, token: u32) {
        let (headers, body_size, trailers) = (1, 0, 0);
        let callback =
            Callback::HttpCallResponse { context: 1, token, headers, body_size, trailers };
        (self.call)(callback);
    }

    fn tick(&self) {
        (self.call)(Callback::Tick { context: 1 });
    }

    fn respond(&self, context: u32) -> u32 {
        (self.call)(Callback::ResponseHeaders { context, count: 1, end_of_stream: true })
    }

    fn end(&self, context: u32) {
        (self.call)(Callback::Log { context });
        (self.call)(Callback::Delete { context });
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

fn in_vm(registration: Registration, play: impl FnOnce(&Vm) + Send + 'static) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&told);
    let mut tokens = 10;
    let host = move |call: &Call| {
        let note = match call {
            Call::HttpCall { .. } => {
                tokens += 1;
                noted.lock().unwrap().push(format!("call {tokens}"));
                return Reply::Done(Answer::U32(tokens));
            }
            Call::GetHeaderMapPairs { .. } => {
                let lines = pairs::encode(&[(":status", "200")]).unwrap();
                return Reply::Done(Answer::Bytes(lines));
            }
            Call::GetBufferBytes { start, max_size, .. } => {
                let bytes = (*start..start.saturating_add(*max_size)).map(|_| b'x').collect();
                return Reply::Done(Answer::Bytes(bytes));
            }
            Call::GetCurrentTime {} => return Reply::Done(Answer::U64(0)),
            Call::GetLogLevel {} => return Reply::Done(Answer::U32(6)),
            Call::SetEffectiveContext { context } => format!("as {context}"),
            Call::ContinueStream { stream } => format!("continue {stream}"),
            Call::CloseStream { stream } => format!("close {stream}"),
            Call::SendLocalResponse { status_code, .. } => format!("reply {status_code}"),
            Call::ReplaceHeaderMapValue { map, value, .. } => {
                format!("set in {map}: {}", value.escape_ascii())
            }
            Call::SetTickPeriod { period_millis } => format!("tick {period_millis}"),
            other => other.to_string(),
        };
        noted.lock().unwrap().push(note);
        Reply::OK
    };
    on_host(host, move || {
        let Registration { start, call, .. } = registration;
        start();
        call(Callback::ContextCreate { context: 1, parent: 0 });
        assert_eq!(call(Callback::Configure { context: 1, configuration_size: 0 }), 1);
        let vm = Vm { call, told };
        assert_eq!(vm.told(), [""; 0]);
        play(&vm);
    });
}

async fn ask() -> Outcome {
    let reply = HttpCall::get("authz", "/").send().await?;
    if reply.is_success() { Ok(()) } else { Err(LocalReply::new(StatusCode::FORBIDDEN)) }
}

follows!(Passing, Untouched, |_request| Ok(()));
follows!(Refusing, Untouched, |_request| Err(LocalReply::new(StatusCode::FORBIDDEN)));
follows!(Asking, Untouched, |request| {
    ask().await?;
    let mut response = request.send().await;
    response.set("x-asked", "yes")?;
    Ok(())
});
follows!(Auditing, AfterHeaders, |request| {
    let mut body = request.send_headers();
    while body.chunk().await?.is_some() {}
    ask().await
});

#[test]
fn what_never_waits_is_never_held() {
    in_vm(registration!(Passing), |vm| {
        assert_eq!(vm.stream(2, true), CONTINUE);
        assert_eq!(vm.respond(2), CONTINUE);
        vm.end(2);
        assert_eq!(vm.told(), [""; 0]);
    });
    in_vm(registration!(Refusing), |vm| {
        assert_eq!(vm.stream(2, true), PAUSE_ALL);
        // The response callbacks of the filter's own reply.
        assert_eq!(vm.respond(2), CONTINUE);
        vm.end(2);
        assert_eq!(vm.told(), ["reply 403"]);
    });
}

#[test]
fn a_held_request_goes_on_once_as_the_last_thing_and_under_its_own_context() {
    in_vm(registration!(Asking), |vm| {
        assert_eq!(vm.stream(2, true), PAUSE_ALL);
        assert_eq!(vm.told(), ["call 11"]);
        vm.answered(11);
        assert_eq!(vm.told(), ["as 2", "continue http_request", "as 1"]);
        assert_eq!(vm.respond(2), CONTINUE);
        assert_eq!(vm.told(), ["set in response_headers: yes"]);
        vm.answered(11);
        vm.end(2);
        assert_eq!(vm.told(), [""; 0]);
    });
}

#[test]
fn an_answer_that_comes_after_the_stream_goes_nowhere() {
    in_vm(registration!(Asking), |vm| {
        vm.stream(2, true);
        vm.end(2);
        vm.answered(11);
        assert_eq!(vm.told(), ["call 11"]);
    });
}

#[test]
fn a_response_before_the_request_was_let_go_ends_the_handler() {
    in_vm(registration!(Asking), |vm| {
        assert_eq!(vm.stream(2, true), PAUSE_ALL);
        assert_eq!(vm.respond(2), CONTINUE);
        vm.answered(11);
        assert_eq!(vm.told(), ["call 11"]);
    });
}

#[test]
fn the_end_of_a_body_is_held_with_what_was_given_last() {
    in_vm(registration!(Auditing), |vm| {
        assert_eq!(vm.stream(2, false), CONTINUE);
        assert_eq!(vm.body(2, 3, false), CONTINUE);
        assert_eq!(vm.body(2, 0, true), PAUSE);
        vm.answered(11);
        assert_eq!(vm.told(), ["call 11", "as 2", "continue http_request", "as 1"]);
    });
    in_vm(registration!(Auditing), |vm| {
        vm.stream(2, false);
        assert_eq!(vm.body(2, 3, false), CONTINUE);
        let trailers = (vm.call)(Callback::RequestTrailers { context: 2, count: 1 });
        assert_eq!(trailers, PAUSE);
    });
}

/// Streams of one path share a call, and each stamps its own request.
struct Sharing {
    flights: SingleFlight<(), bool>,
    order: Rc<RefCell<u32>>,
}

impl Filter for Sharing {
    const NAME: &'static str = "sharing";
    type Config = NoConfig;
    type Stream = ();

    fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> {
        Ok(Self { flights: SingleFlight::new(), order: Rc::default() })
    }
}

impl OnExchange for Sharing {
    async fn on_exchange(&self, (): &mut (), mut request: Request) -> Outcome {
        let own = {
            *self.order.borrow_mut() += 1;
            self.order.borrow().to_string()
        };
        let call = async || HttpCall::get("authz", "/").send().await.is_ok();
        let answer = self.flights.run((), call).await;
        request.set("x-own", format!("{own} {answer}"))?;
        Ok(())
    }
}

#[test]
fn what_another_stream_wakes_lands_on_its_own_request() {
    in_vm(registration!(Sharing), |vm| {
        assert_eq!(vm.stream(2, true), PAUSE_ALL);
        assert_eq!(vm.stream(3, true), PAUSE_ALL);
        assert_eq!(vm.stream(4, true), PAUSE_ALL);
        vm.answered(11);
        let each = |context: u32, own: u32| {
            [
                format!("as {context}"),
                format!("set in request_headers: {own} true"),
                "continue http_request".into(),
            ]
        };
        let mut expected = vec!["call 11".to_owned()];
        expected.extend([each(2, 1), each(3, 2), each(4, 3)].into_iter().flatten());
        expected.push("as 1".into());
        assert_eq!(vm.told(), expected);
    });
}

#[test]
fn who_waits_calls_anew_when_the_caller_is_gone() {
    in_vm(registration!(Sharing), |vm| {
        vm.stream(2, true);
        vm.stream(3, true);
        vm.end(2);
        // Where a stream is deleted nothing is done for another; a tick comes at once.
        assert_eq!(vm.told(), ["call 11", "as 1", "tick 1", "as 2"]);
        vm.tick();
        assert_eq!(vm.told(), ["tick 0", "as 3", "call 12", "as 1"]);
        vm.answered(12);
        let stamp = "set in request_headers: 2 true";
        assert_eq!(vm.told(), ["as 3", stamp, "continue http_request", "as 1"]);
    });
}

follows!(Sleeping, Untouched, |_request| {
    sleep(Duration::from_millis(20)).await;
    Ok(())
});

#[test]
fn one_tick_serves_all_timers() {
    in_vm(registration!(Sleeping), |vm| {
        vm.stream(2, true);
        vm.stream(3, true);
        assert_eq!(vm.told(), ["tick 20"]);
        vm.tick();
        let continued = "continue http_request";
        assert_eq!(vm.told(), ["tick 0", "as 2", continued, "as 3", continued, "as 1"]);
    });
}

#[test]
fn a_host_that_calls_back_during_a_call_finds_nothing_to_break() {
    thread_local! {
        static FILTER: RefCell<Option<Registration>> = const { RefCell::new(None) };
    }
    let host = move |call: &Call| match call.function() {
        Function::GetLogLevel | Function::Log => Reply::Done(Answer::U32(6)),
        Function::HttpCall => {
            // As a host without a queue of its own does.
            let filter = FILTER.with_borrow(|filter| *filter);
            if let Some(Registration { call, .. }) = filter {
                let (headers, body_size, trailers) = (0, 0, 0);
                let (context, token) = (1, 7);
                call(Callback::HttpCallResponse { context, token, headers, body_size, trailers });
                call(Callback::ResponseHeaders { context: 2, count: 0, end_of_stream: true });
                call(Callback::Tick { context: 1 });
                call(Callback::Delete { context: 2 });
            }
            Reply::Done(Answer::U32(7))
        }
        _ => Reply::OK,
    };
    on_host(host, || {
        let registration = registration!(Asking);
        let Registration { start, call, .. } = registration;
        start();
        call(Callback::ContextCreate { context: 1, parent: 0 });
        call(Callback::Configure { context: 1, configuration_size: 0 });
        FILTER.set(Some(registration));
        call(Callback::ContextCreate { context: 2, parent: 1 });
        call(Callback::RequestHeaders { context: 2, count: 0, end_of_stream: true });
    });
}
