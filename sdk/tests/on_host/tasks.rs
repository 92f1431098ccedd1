//! Tasks on hosts that call back while they are called, refuse, or forget: nothing is decided twice, and
//! nothing is kept.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tollgate::callout::{GrpcStream, HttpCall, SingleFlight};
use tollgate::config::NoConfig;
use tollgate::exchange::{Bodies, TailError};
use tollgate::{
    ConfigureError, Filter, InBackground, LocalReply, OnExchange, Outcome, Registration, Request,
    Root, StatusCode, registration, sleep, timeout,
};
use tollgate_abi::{Answer, Call, Callback, Function, Reply, Status, pairs};

use tollgate_host_native::{Scripted, on_this_thread};

const ROOT: u32 = 1;
const STREAM: u32 = 2;

macro_rules! filter {
    ($name:ident) => {
        struct $name;

        impl Filter for $name {
            const NAME: &'static str = "called-back";
            type Config = NoConfig;
            type Stream = ();

            fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> {
                Ok(Self)
            }
        }
    };
}

filter!(Asking);

impl OnExchange for Asking {
    async fn on_exchange(&self, (): &mut (), mut request: Request) -> Outcome {
        let call = HttpCall::get("authz", "/check");
        let answered = timeout(Duration::from_secs(1), call.send()).await;
        request.set("x-answered", if answered.is_ok() { "yes" } else { "no" })?;
        Ok(())
    }
}

filter!(Refusing);

impl OnExchange for Refusing {
    async fn on_exchange(&self, (): &mut (), mut request: Request) -> Outcome {
        let _ = request.read();
        Err(LocalReply::new(StatusCode::FORBIDDEN))
    }
}

/// Its first two streams share a call, others follow a body.
struct Mixed {
    begun: Cell<u32>,
    flights: SingleFlight<(), bool>,
}

impl Filter for Mixed {
    const NAME: &'static str = "called-back";
    type Config = NoConfig;
    type Stream = ();

    fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> {
        Ok(Self { begun: Cell::new(0), flights: SingleFlight::new() })
    }
}

impl OnExchange for Mixed {
    const BODIES: Bodies = Bodies::AfterHeaders;

    async fn on_exchange(&self, (): &mut (), request: Request) -> Outcome {
        self.begun.set(self.begun.get() + 1);
        if self.begun.get() > 2 {
            request.send_headers().whole(100).await?;
            return Ok(());
        }
        let call = async || HttpCall::get("authz", "/check").send().await.is_ok();
        self.flights.run((), call).await;
        Ok(())
    }
}

filter!(Working);

impl InBackground for Working {
    async fn in_background(&self) {
        tollgate::log::info!("works");
    }
}

impl OnExchange for Working {
    async fn on_exchange(&self, (): &mut (), _: Request) -> Outcome {
        Ok(())
    }
}

filter!(Lingering);

impl OnExchange for Lingering {
    const BODIES: Bodies = Bodies::AfterHeaders;

    async fn on_exchange(&self, (): &mut (), request: Request) -> Outcome {
        let mut body = request.send_headers();
        assert_eq!(body.whole(100).await, Err(TailError::Answered));
        let _response = body.send().await;
        sleep(Duration::from_millis(5)).await;
        Ok(())
    }
}

filter!(Pausing);

impl OnExchange for Pausing {
    async fn on_exchange(&self, (): &mut (), _: Request) -> Outcome {
        HttpCall::get("authz", "/check").send().await?;
        sleep(Duration::from_millis(5)).await;
        Ok(())
    }
}

filter!(Talking);

impl OnExchange for Talking {
    async fn on_exchange(&self, (): &mut (), mut request: Request) -> Outcome {
        let mut stream = GrpcStream::open("limits", "shop.Limits", "Talk", Vec::new())
            .map_err(|_| LocalReply::new(StatusCode::FORBIDDEN))?;
        let (first, second) = (stream.next().await, stream.next().await);
        let is_over = first.is_err() && second == Ok(None);
        request.set("x-answered", if is_over { "yes" } else { "no" })?;
        Ok(())
    }
}

const ANSWERED: &str =
    "proxy_replace_header_map_value(map=request_headers, name=\"x-answered\", value=\"yes\")";
const CONTINUED: &str = "proxy_continue_stream(stream=http_request)";

/// What is not as usual with a host.
#[derive(Clone, Copy)]
enum Oddity {
    None,
    /// In the midst of its first call of a function it calls back.
    CallsBack(Function, Meanwhile),
    /// It refuses a function.
    Refuses(Function),
}
use Oddity::{CallsBack, Refuses};

type Meanwhile = fn(fn(Callback) -> u32) -> u32;

/// Plays on a host with an oddity, and gives what it was asked to do, in order.
fn play(
    registration: Registration,
    oddity: Oddity,
    course: impl FnOnce(fn(Callback) -> u32),
) -> Vec<String> {
    let done = Rc::new(RefCell::new(Vec::new()));
    let calls = Rc::clone(&done);
    let (pending, tokens) = (Cell::new(true), Cell::new(0));
    let host = move |call: &Call| {
        match oddity {
            CallsBack(during, meanwhile) if call.function() == during && pending.replace(false) => {
                meanwhile(registration.call);
            }
            Refuses(function) if call.function() == function => {
                return Scripted::Reply(Reply::refused(Status::BadArgument, ""));
            }
            Oddity::None | CallsBack(..) | Refuses(_) => {}
        }
        let answer = match call.function() {
            Function::GetHeaderMapPairs => {
                Answer::Bytes(pairs::encode(&[(":status", "200")]).unwrap())
            }
            Function::GetBufferBytes => Answer::Bytes(b"ok".to_vec()),
            Function::GetCurrentTime => Answer::U64(0),
            Function::GetLogLevel => Answer::U32(2),
            // The root id of the first root is that of all until it is configured again.
            Function::GetProperty => {
                Answer::Bytes(vec![if pending.replace(false) { b'a' } else { b'b' }])
            }
            Function::HttpCall | Function::GrpcStream => {
                tokens.set(tokens.get() + 1);
                Answer::U32(tokens.get())
            }
            _ => Answer::Nothing,
        };
        match call {
            Call::ContinueStream { .. }
            | Call::SendLocalResponse { .. }
            | Call::CloseStream { .. }
            | Call::ReplaceHeaderMapValue { .. } => calls.borrow_mut().push(call.to_string()),
            Call::Log { message, .. } => {
                calls.borrow_mut().push(String::from_utf8_lossy(message).into_owned());
            }
            _ => {}
        }
        Scripted::Reply(Reply::Done(answer))
    };
    on_this_thread(host, || {
        (registration.start)();
        (registration.call)(Callback::ContextCreate { context: ROOT, parent: 0 });
        (registration.call)(Callback::Configure { context: ROOT, configuration_size: 0 });
        course(registration.call);
    });
    done.take()
}

/// A request without a body; gives what its callback returned.
fn request(context: u32, call: fn(Callback) -> u32) -> u32 {
    call(Callback::ContextCreate { context, parent: ROOT });
    call(Callback::RequestHeaders { context, count: 1, end_of_stream: true })
}

const ANSWER: Callback =
    Callback::HttpCallResponse { context: ROOT, token: 1, headers: 1, body_size: 2, trailers: 0 };

#[test]
fn a_host_may_call_back_while_the_clock_is_read() {
    let meanwhile: Meanwhile = |call| {
        call(Callback::Tick { context: ROOT });
        request(STREAM + 1, call)
    };
    let done =
        play(registration!(Asking), CallsBack(Function::GetCurrentTime, meanwhile), |call| {
            request(STREAM, call);
            call(ANSWER);
        });
    assert_eq!(done, [ANSWERED, CONTINUED]);
}

#[test]
fn an_answer_that_comes_while_the_handler_runs_wakes_it() {
    let meanwhile: Meanwhile = |call| call(ANSWER);
    let done =
        play(registration!(Asking), CallsBack(Function::GetCurrentTime, meanwhile), |call| {
            // It has gone on when the callback returns, which says so itself.
            assert_eq!(request(STREAM, call), 0);
        });
    assert_eq!(done, [ANSWERED]);
}

#[test]
fn a_stream_that_is_over_while_its_handler_runs_gets_no_answer() {
    let ends: [Meanwhile; 2] = [
        |call| call(Callback::Log { context: STREAM }),
        |call| call(Callback::Delete { context: STREAM }),
    ];
    for meanwhile in ends {
        let done = play(
            registration!(Refusing),
            CallsBack(Function::GetHeaderMapPairs, meanwhile),
            |call| {
                request(STREAM, call);
            },
        );
        assert_eq!(done, [""; 0]);
    }
}

#[test]
fn a_response_that_comes_by_while_the_handler_runs_leaves_nothing_to_decide() {
    let meanwhile: Meanwhile =
        |call| call(Callback::ResponseHeaders { context: STREAM, count: 1, end_of_stream: true });
    let during = CallsBack(Function::GetHeaderMapPairs, meanwhile);
    let done = play(registration!(Refusing), during, |call| {
        request(STREAM, call);
    });
    assert_eq!(done, [""; 0]);
}

#[test]
fn a_request_that_begins_anew_while_its_handler_runs_has_the_new_handler() {
    let meanwhile: Meanwhile = |call| request(STREAM, call);
    let done = play(
        registration!(Asking),
        CallsBack(Function::ReplaceHeaderMapValue, meanwhile),
        |call| {
            request(STREAM, call);
            call(ANSWER);
            // Of the second request.
            call(Callback::HttpCallResponse {
                context: ROOT,
                token: 2,
                headers: 1,
                body_size: 2,
                trailers: 0,
            });
        },
    );
    assert_eq!(done, [ANSWERED, ANSWERED, CONTINUED]);
}

#[test]
fn a_side_whose_callback_runs_is_let_go_by_what_that_returns() {
    // What the end of the first stream wakes is polled before what the body wakes.
    let meanwhile: Meanwhile = |call| call(Callback::Tick { context: ROOT });
    let odd = CallsBack(Function::SetEffectiveContext, meanwhile);
    let done = play(registration!(Mixed), odd, |call| {
        let (context, count, end_of_stream) = (STREAM + 2, 1, false);
        request(STREAM, call);
        request(STREAM + 1, call);
        call(Callback::ContextCreate { context, parent: ROOT });
        call(Callback::RequestHeaders { context, count, end_of_stream });
        assert_eq!(call(Callback::RequestBody { context, size: 1, end_of_stream }), 1);
        call(Callback::Log { context: STREAM });
        assert_eq!(call(Callback::RequestBody { context, size: 2, end_of_stream: true }), 0);
    });
    assert_eq!(done, [""; 0]);
}

#[test]
fn roots_that_are_configured_at_the_same_time_are_both_configured() {
    let meanwhile: Meanwhile = |call| {
        call(Callback::ContextCreate { context: 9, parent: 0 });
        call(Callback::Configure { context: 9, configuration_size: 0 })
    };
    let done = play(
        registration!(Refusing),
        CallsBack(Function::SetEffectiveContext, meanwhile),
        |call| {
            call(Callback::ContextCreate { context: 8, parent: 0 });
            call(Callback::Configure { context: 8, configuration_size: 0 });
            for (stream, parent) in [(10, 8), (11, 9)] {
                call(Callback::ContextCreate { context: stream, parent });
                call(Callback::RequestHeaders { context: stream, count: 1, end_of_stream: true });
            }
        },
    );
    let refused = |reply: &String| reply.contains("status_code=403");
    assert!(done.len() == 2 && done.iter().all(refused), "{done:?}");
}

#[test]
fn what_goes_on_in_the_background_begins_with_the_first_tick() {
    let done = play(registration!(Working), Oddity::None, |call| {
        request(STREAM, call);
        tollgate::log::info!("ticks");
        call(Callback::Tick { context: ROOT });
    });
    assert_eq!(done, ["called-back: ticks", "called-back: works"]);
}

#[test]
fn what_goes_on_in_the_background_ends_with_its_configuration() {
    let module = registration!("module" = { "a" => Working, "b" => Refusing });
    let done = play(module, Oddity::None, |call| {
        call(Callback::Configure { context: ROOT, configuration_size: 0 });
        call(Callback::Tick { context: ROOT });
    });
    assert_eq!(done, [""; 0]);
}

/// A request whose body is held when its response comes, which is held as well.
fn both_sides_are_held(call: fn(Callback) -> u32) {
    let (context, count, end_of_stream) = (STREAM, 1, false);
    call(Callback::ContextCreate { context, parent: ROOT });
    assert_eq!(call(Callback::RequestHeaders { context, count, end_of_stream }), 0);
    assert_eq!(call(Callback::RequestBody { context, size: 1, end_of_stream }), 1);
    assert_eq!(call(Callback::ResponseHeaders { context, count, end_of_stream }), 4);
}

#[test]
fn a_stream_that_cannot_go_on_is_closed_once() {
    let odd = Refuses(Function::ContinueStream);
    let done = play(registration!(Lingering), odd, |call| {
        both_sides_are_held(call);
        call(Callback::Tick { context: ROOT });
    });
    let error = "called-back: the stream is closed, as it could not go on: \
                 the proxy refused proxy_continue_stream with status bad_argument";
    assert_eq!(done, [error, "proxy_close_stream(stream=http_request)"]);
}

#[test]
fn a_root_that_goes_before_its_streams_leaves_nothing() {
    let module = registration!(Pausing);
    let done = play(module, Oddity::None, |call| {
        request(STREAM, call);
        call(Callback::Delete { context: ROOT });
        call(ANSWER);
        call(Callback::Delete { context: STREAM });
        assert_eq!((module.kept)(), tollgate::__private::Kept::default());
    });
    assert_eq!(done, [""; 0]);
}

#[test]
fn a_grpc_stream_is_over_also_if_the_host_does_not_say_why() {
    let done = play(registration!(Talking), Refuses(Function::GetStatus), |call| {
        request(STREAM, call);
        call(Callback::GrpcClose { context: ROOT, token: 1, status: 7 });
    });
    assert_eq!(done, [ANSWERED, CONTINUED]);
}
