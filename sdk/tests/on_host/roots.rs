//! Several plugins in one VM: each stream is decided by its own.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::{
    CallbackKind, ConfigureError, Filter, LoggedExchange, OnLog, OnRequestHeaders,
    OnResponseHeaders, Outcome, Registration, RequestHeaders, ResponseHeaders, Root, registration,
};
use tollgate_abi::{Answer, Call, Callback, Reply, Status};

use tollgate_host_native::on_host;

macro_rules! named {
    ($name:ident, $stream:ty) => {
        #[derive(Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        struct $name {
            name: String,
        }

        impl Filter for $name {
            const NAME: &'static str = "named";
            type Config = Self;
            type Stream = $stream;

            fn configure(config: Self, _: &Root) -> Result<Self, ConfigureError> {
                Ok(config)
            }
        }

        impl OnRequestHeaders for $name {
            fn on_request_headers(&self, _: &mut $stream, _: &mut RequestHeaders) -> Outcome {
                tollgate::log::error!("request {}", self.name);
                Ok(())
            }
        }

        impl OnResponseHeaders for $name {
            fn on_response_headers(&self, _: &mut $stream, _: &mut ResponseHeaders) -> Outcome {
                tollgate::log::error!("response {}", self.name);
                Ok(())
            }
        }

        impl OnLog for $name {
            fn on_log(&self, _: &mut $stream, _: &mut LoggedExchange) {
                tollgate::log::error!("log {}", self.name);
            }
        }
    };
}

named!(Forgetful, ());
named!(Mindful, u8);

/// A host that knows which contexts are alive, and whose plugins are called by their contexts.
#[derive(Default)]
struct Contexts {
    alive: BTreeSet<u32>,
    configured: u32,
    logged: Vec<String>,
    probes: usize,
}

impl Contexts {
    fn answer(&mut self, call: &Call) -> Reply {
        match call {
            Call::GetBufferBytes { .. } => {
                let config = format!(r#"{{ "name": "{}" }}"#, self.configured);
                Reply::Done(Answer::Bytes(config.into_bytes()))
            }
            Call::GetLogLevel {} => Reply::Done(Answer::U32(2)),
            Call::Log { message, .. } => {
                self.logged.push(String::from_utf8_lossy(message).into_owned());
                Reply::OK
            }
            Call::SetEffectiveContext { context } => {
                self.probes += 1;
                if self.alive.contains(context) {
                    Reply::OK
                } else {
                    Reply::refused(Status::BadArgument, "")
                }
            }
            other => Reply::Trap { why: format!("{other} was not expected").into() },
        }
    }
}

/// A VM whose host keeps the book.
struct Vm {
    host: Arc<Mutex<Contexts>>,
    call: fn(Callback) -> u32,
    callbacks: Vec<tollgate::CallbackKind>,
}

impl Vm {
    fn call(&self, callback: Callback) -> u32 {
        if !self.callbacks.contains(&callback.kind()) {
            return 0;
        }
        (self.call)(callback)
    }

    fn root(&self, context: u32) {
        let mut host = self.host.lock().unwrap();
        host.alive.insert(context);
        host.configured = context;
        drop(host);
        self.call(Callback::ContextCreate { context, parent: 0 });
        assert_eq!(self.call(Callback::Configure { context, configuration_size: 1 }), 1);
    }

    fn stream(&self, context: u32, parent: u32) {
        self.host.lock().unwrap().alive.insert(context);
        self.call(Callback::ContextCreate { context, parent });
        let (count, end_of_stream) = (0, true);
        self.call(Callback::RequestHeaders { context, count, end_of_stream });
    }

    fn respond(&self, context: u32) {
        let (count, end_of_stream) = (0, true);
        self.call(Callback::ResponseHeaders { context, count, end_of_stream });
    }

    fn end(&self, context: u32) {
        self.call(Callback::Log { context });
        self.delete(context);
    }

    fn delete(&self, context: u32) {
        self.call(Callback::Delete { context });
        self.host.lock().unwrap().alive.remove(&context);
    }

    fn logged(&self) -> Vec<String> {
        std::mem::take(&mut self.host.lock().unwrap().logged)
    }
}

fn in_vm(registration: Registration, play: impl FnOnce(&Vm) + Send + 'static) {
    let host = Arc::new(Mutex::new(Contexts::default()));
    let answering = Arc::clone(&host);
    on_host(
        move |call| answering.lock().unwrap().answer(call),
        move || {
            (registration.start)();
            let callbacks = (registration.callbacks)();
            play(&Vm { host, call: registration.call, callbacks });
        },
    );
}

fn both(play: fn(&Vm)) {
    in_vm(registration!(Forgetful), play);
    in_vm(registration!(Mindful), play);
}

#[test]
fn a_stream_stays_with_the_configuration_it_began_under() {
    both(|vm| {
        vm.root(1);
        vm.stream(2, 1);
        vm.root(3);
        vm.stream(4, 3);
        vm.respond(2);
        vm.respond(4);
        vm.end(2);
        vm.end(4);
        vm.delete(1);
        vm.stream(5, 3);
        vm.end(5);
        let expected = [
            "request 1",
            "request 3",
            "response 1",
            "response 3",
            "log 1",
            "log 3",
            "request 3",
            "log 3",
        ];
        assert_eq!(vm.logged(), expected.map(|line| format!("named: {line}")));
    });
}

#[test]
fn two_plugins_in_one_vm_decide_side_by_side() {
    both(|vm| {
        vm.root(1);
        vm.root(2);
        for stream in (3..300).step_by(2) {
            vm.stream(stream, 1);
            vm.stream(stream + 1, 2);
            vm.respond(stream + 1);
            vm.respond(stream);
            vm.end(stream);
            vm.end(stream + 1);
            let expected = ["request 1", "request 2", "response 2", "response 1", "log 1", "log 2"];
            assert_eq!(vm.logged(), expected.map(|line| format!("named: {line}")));
        }
    });
}

#[test]
fn streams_that_are_over_are_forgotten_at_little_cost() {
    in_vm(registration!(Forgetful), |vm| {
        vm.root(1);
        vm.root(2);
        vm.stream(3, 1);
        for stream in 4..100_000 {
            vm.stream(stream, 2);
            vm.end(stream);
            vm.logged();
        }
        // Each look at a context is two calls: there and back.
        let probes = vm.host.lock().unwrap().probes;
        assert!(probes < 3 * 100_000, "{probes} looks");
        vm.respond(3);
        assert_eq!(vm.logged(), ["named: response 1"]);
    });
}

#[test]
fn a_root_that_is_gone_decides_nothing() {
    both(|vm| {
        vm.root(1);
        vm.delete(1);
        vm.root(2);
        vm.root(3);
        vm.stream(4, 3);
        vm.delete(2);
        vm.root(5);
        vm.stream(6, 5);
        vm.respond(4);
        let expected = ["request 3", "request 5", "response 3"];
        assert_eq!(vm.logged(), expected.map(|line| format!("named: {line}")));
    });
}

/// Takes any configuration, and is the same with each.
struct Bare;

impl Filter for Bare {
    const NAME: &'static str = "bare";
    type Config = serde_json::Value;
    type Stream = ();

    fn configure(_: serde_json::Value, _: &Root) -> Result<Self, ConfigureError> {
        Ok(Self)
    }
}

impl OnRequestHeaders for Bare {
    fn on_request_headers(&self, (): &mut (), _: &mut RequestHeaders) -> Outcome {
        tollgate::log::error!("request");
        Ok(())
    }
}

#[test]
fn where_all_roots_are_alike_the_proxy_need_not_tell_of_streams() {
    let callbacks = (registration!(Bare).callbacks)();
    assert_eq!(callbacks, [CallbackKind::Configure, CallbackKind::RequestHeaders]);
    assert!((registration!(Forgetful).callbacks)().contains(&CallbackKind::ContextCreate));
    in_vm(registration!(Bare), |vm| {
        vm.root(1);
        vm.stream(2, 1);
        vm.root(3);
        vm.stream(4, 3);
        vm.delete(1);
        vm.root(5);
        vm.stream(6, 5);
        assert_eq!(vm.logged(), ["bare: request"; 3]);
    });
}
