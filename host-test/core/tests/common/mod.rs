//! Guests written in Rust, and how scenarios are played on them.
#![allow(dead_code, reason = "each test program uses its part")]

use std::sync::Arc;

use tollgate_abi::{
    AbiVersion, Answer, Call, Callback, CallbackKind, LogLevel, Reply, Serialized, Status, pairs,
};
use tollgate_host::engine::{CodeId, Instance, Module, Trap};
use tollgate_host::offline::{Offline, Run};
use tollgate_host::proxy::StartError;
use tollgate_host::report::Verdict;
use tollgate_host::run::run;
use tollgate_host::scenario::{FilterSource, FilterUse, HostName, Scenario};
use tollgate_host::world::World;

/// What a guest does with a callback.
pub(crate) type Behaviour = fn(&mut World, &Callback) -> Result<u32, Trap>;

pub(crate) struct Scripted(Behaviour);

impl Scripted {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        Self(behaviour)
    }
}

impl Module for Scripted {
    fn code(&self) -> CodeId {
        CodeId::of(&self.0)
    }

    fn abi(&self) -> AbiVersion {
        AbiVersion::V0_2_1
    }

    fn exports(&self, _: CallbackKind) -> bool {
        true
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, Trap> {
        Ok(Box::new(Self(self.0)))
    }
}

impl Instance for Scripted {
    fn start(&mut self, _: &mut Box<World>) -> Result<(), Trap> {
        Ok(())
    }

    fn call(&mut self, world: &mut Box<World>, callback: &Callback) -> Result<u32, Trap> {
        (self.0)(world, callback)
    }

    fn fuel_used(&self) -> Option<u64> {
        None
    }

    fn memory_bytes(&self) -> Option<u64> {
        None
    }
}

pub(crate) const CONTINUE: u32 = 0;
pub(crate) const STOP: u32 = 1;

/// Plays a scenario whose filters are named after guests.
pub(crate) fn play(guests: &'static [(&'static str, Behaviour)], text: &str) -> Verdict {
    let loader = |filter: &FilterUse| -> Result<Arc<dyn Module>, StartError> {
        let FilterSource::BuiltIn(name) = &filter.source else { unreachable!("{filter:?}") };
        let (_, behaviour) = guests.iter().find(|(guest, _)| guest == name).expect(name);
        Ok(Arc::new(Scripted(*behaviour)))
    };
    let scenario = Scenario::parse(text).expect(text);
    run(&scenario, &Offline::new(HostName::Wasmtime, &loader)).expect(text)
}

/// A running proxy with one guest, whatever the scenario calls it.
pub(crate) fn start(guest: Behaviour, text: &str) -> Run {
    let loader =
        |_: &FilterUse| -> Result<Arc<dyn Module>, StartError> { Ok(Arc::new(Scripted(guest))) };
    let scenario = Scenario::parse(text).expect(text);
    Offline::new(HostName::Wasmtime, &loader).start_recorded(&scenario).expect(text)
}

pub(crate) fn check(guests: &'static [(&'static str, Behaviour)], text: &str) {
    assert_eq!(play(guests, text), Verdict::Passed, "{text}");
}

/// What most callbacks answer: started, configured, continue, done.
pub(crate) fn agree(callback: &Callback) -> u32 {
    match callback.kind() {
        CallbackKind::VmStart | CallbackKind::Configure | CallbackKind::Done => 1,
        _ => CONTINUE,
    }
}

pub(crate) fn log(world: &mut World, message: &str) {
    let level = LogLevel::Info;
    assert_eq!(world.handle(Call::Log { level, message: message.as_bytes().to_vec() }), Reply::OK);
}

pub(crate) fn respond(world: &mut World, status_code: u32, headers: &[(&str, &str)], body: &str) {
    let headers = Serialized(pairs::encode(headers).unwrap());
    let (details, body) = (Vec::new(), body.as_bytes().to_vec());
    let call =
        Call::SendLocalResponse { status_code, details, body, headers, grpc_status: u32::MAX };
    assert_eq!(world.handle(call), Reply::OK);
}

pub(crate) fn status(reply: &Reply) -> Status {
    assert!(!matches!(reply, Reply::Trap { .. }), "{reply}");
    reply.status()
}

/// The lines of a header map that a guest got, as `name: value`.
pub(crate) fn lines(reply: &Reply) -> Vec<String> {
    let Reply::Done(Answer::Pairs(Serialized(bytes))) = reply else { panic!("{reply:?}") };
    let pairs = pairs::Pairs::parse(bytes).unwrap();
    let line = |(name, value): (&[u8], &[u8])| {
        format!("{}: {}", name.escape_ascii(), value.escape_ascii())
    };
    pairs.iter().map(line).collect()
}
