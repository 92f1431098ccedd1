//! The state of the host, and its answers to host calls.
//!
//! One file per family of calls. A [`World`] is everything that guests of one proxy share and own: it
//! has no globals, so that many can live side by side.

mod beside;
mod buffer;
mod callout;
mod clock;
mod connection;
mod filter_state;
mod foreign;
mod grpc;
mod header;
mod http_call;
mod inline;
mod log;
mod metric;
mod notes;
mod property;
mod protobuf;
mod queue;
mod recent;
mod route;
mod service;
mod shared;
mod staged;
mod stream;
mod vm;
mod wasi;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tollgate_abi::{
    Answer, Call, Callback, Fault as BadPointer, Function, LogLevel, Reply, Status, StreamType,
};

pub(crate) use clock::Tick;
pub use clock::{Clock, EPOCH};
pub use stream::{Direction, LocalReply, StreamId};
pub use vm::{Plugin, VmId};

pub(crate) use callout::{Callouts, Delivery, Event, FailedAtOnce, Flight, Kind, Part};
pub(crate) use connection::{Asked, Connection, Flow};
pub(crate) use filter_state::FilterState;
pub(crate) use header::Lines;
pub(crate) use inline::Inline;
pub(crate) use notes::{Notes, flags};
pub(crate) use staged::{SortedHeaders, Staged};
pub(crate) use stream::{Hold, Lane, Link, Piece, Stage, Stream, grpc_status_of};
pub(crate) use vm::{Context, Place, PluginId, Vm};

use crate::chance::{Chance, Choice, Numbers};
use crate::limits::{Bounded, Limits};
use crate::profile::Profile;
use crate::proxy::LogLine;
use crate::scenario::{Configured, Fault, Imports, MadeUp, Metadata};
use crate::transcript::{Entry, Transcript};
use foreign::Expressions;
use metric::Metrics;
use queue::Queues;
use recent::Recent;
use shared::SharedData;

/// Why a guest traps that calls too much before it has a context.
const NOT_AT_START: &str =
    "restricted_callback: this function is not available before the VM starts";

/// The state of the host for one proxy.
#[derive(Debug, Default)]
pub struct World {
    /// The clocks.
    pub clock: Clock,
    /// What guests may make the host use.
    pub limits: Limits,
    pub(crate) log_level: Option<LogLevel>,
    /// How many bytes of a body may be held with a limit.
    pub(crate) buffer_limit: usize,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) shared: SharedData,
    pub(crate) queues: Queues,
    expressions: Expressions,
    pub(crate) callouts: Callouts,
    pub(crate) metrics: Metrics,
    pub(crate) plugins: Vec<Plugin>,
    /// What the proxy is configured with besides its filters.
    pub(crate) proxy: Configured,
    /// Properties that the scenario makes up.
    pub(crate) made_up: Vec<MadeUp>,
    /// The host that this one stands for.
    pub(crate) profile: Profile,
    /// What the imports answer that the scenario declares.
    pub(crate) imports: Imports,
    no_metadata: Metadata,
    pub(crate) vms: Vec<Vm>,
    /// Boxed, as a node of the map has room for many.
    pub(crate) streams: BTreeMap<StreamId, Box<Stream>>,
    /// Streams of which guests have asked for something, in that order.
    pub(crate) asked: VecDeque<StreamId>,
    /// The last callback has sent a local reply, to whatever stream.
    pub(crate) has_answered: bool,
    /// Root contexts that are to be deleted.
    pub(crate) ended: VecDeque<Link>,
    pub(crate) faults: Vec<ArmedFault>,
    pub(crate) host_calls: u64,
    pub(crate) unserved: Option<String>,
    /// Bytes that guests make the host keep.
    kept_bytes: usize,
    /// What a guest did that does harm to a whole Envoy.
    pub(crate) harm: Option<String>,
    /// Set when the guest belongs to a suite and has no proxy around it.
    pub(crate) staged: Option<Staged>,
    /// What random bytes are made of.
    random: Numbers,
    /// What comes first of what falls on the same instant.
    pub(crate) chance: Chance,
    scope: Option<Scope>,
    /// Why the call that is being answered is out of its phase, though its answer does not say so.
    untimely: Option<Cow<'static, str>>,
    /// What guests did last.
    recent: Recent,
    transcript: Option<Transcript>,
}

/// Where the running guest is.
#[derive(Clone, Debug)]
struct Scope {
    vm: VmId,
    /// The context that host calls act on.
    effective: u32,
    callback: Option<Callback>,
}

impl Scope {
    /// What the guest runs, by name.
    fn phase(&self) -> &'static str {
        self.callback.map_or("the start function", |callback| callback.kind().name())
    }
}

/// A fault that waits for its call.
#[derive(Clone, Debug)]
pub(crate) struct ArmedFault {
    pub(crate) fault: Fault,
    pub(crate) seen: u64,
}

impl World {
    /// A world before its first guest.
    pub fn new(log_level: LogLevel) -> Self {
        Self { log_level: Some(log_level), ..Self::default() }
    }

    /// Has a seed decide what a host is free to choose.
    pub(crate) fn seed(&mut self, seed: u64) {
        if seed == 0 {
            return;
        }
        self.clock = Clock::of(seed);
        self.random = Numbers::of(Choice::Bytes.of(seed));
        self.chance = Chance::of(seed, Choice::Order);
    }

    /// Keeps a transcript from here on.
    pub fn record(&mut self) {
        self.transcript.get_or_insert_default();
    }

    /// Takes what the transcript holds so far.
    pub fn take_transcript(&mut self) -> Vec<Entry> {
        self.take_timed_transcript().into_iter().map(|(_, entry)| entry).collect()
    }

    /// Takes what the transcript holds so far, each line with the virtual time that had passed.
    pub fn take_timed_transcript(&mut self) -> Vec<(Duration, Entry)> {
        self.transcript.as_mut().map(Transcript::take).unwrap_or_default()
    }

    /// Answers a host call of the guest that is running.
    pub fn handle(&mut self, call: Call) -> Reply {
        self.host_calls += 1;
        let reply = match self.armed_fault(call.function()) {
            Some(status) => Reply::refused(status, "the scenario asked for this fault"),
            None => self.answer(&call),
        };
        if let Some(transcript) = &mut self.transcript {
            transcript.call(self.clock.passed(), &call, &reply, &self.limits);
        }
        self.recent.call(call, &reply, self.untimely.take());
        reply
    }

    /// Notes why a call is out of its phase that, as on Envoy, is answered as if it were not.
    fn notice_untimely(&mut self, why: impl Into<Cow<'static, str>>) {
        self.untimely = Some(why.into());
    }

    /// Answers a host call whose arguments could not be read.
    pub fn refuse(&mut self, function: Function, fault: BadPointer) -> Reply {
        self.host_calls += 1;
        self.lose(function, fault);
        Reply::refused(function.status_of_faults(), fault.to_string())
    }

    /// Takes note of an answer that the guest did not get.
    pub fn lose(&mut self, function: Function, fault: BadPointer) {
        self.recent.fault(function, fault);
        self.note_entry(Entry::Fault { function, fault });
    }

    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.transcript.is_some() {
            self.note_entry(Entry::Note(text()));
        }
    }

    pub(crate) fn note_entry(&mut self, entry: Entry) {
        let now = self.clock.passed();
        if let Some(transcript) = &mut self.transcript {
            transcript.push(now, entry, &self.limits);
        }
    }

    /// A guest starts to run `callback`, or its start function.
    pub(crate) fn enter(&mut self, vm: VmId, callback: Option<&Callback>) {
        let effective = callback.map_or(0, Callback::context);
        self.recent.begin();
        self.scope = Some(Scope { vm, effective, callback: callback.copied() });
        if self.transcript.is_some() {
            let guest = self.guest_name(vm, effective);
            self.note_entry(Entry::Enter { guest, callback: callback.copied() });
        }
    }

    /// The guest no longer runs.
    pub(crate) fn leave(&mut self) {
        self.scope = None;
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each call")]
    fn answer(&mut self, call: &Call) -> Reply {
        let Some(scope) = self.scope.clone() else {
            return Reply::Trap { why: "a host call while no guest runs".into() };
        };
        if scope.callback.is_none() && !call.function().is_allowed_at_start() {
            return Reply::Trap { why: NOT_AT_START.into() };
        }
        if let Some(reply) = self.answer_staged(&scope, call) {
            return reply;
        }
        if !self.profile.implements(call.function()) {
            return Reply::Trap { why: "this host does not implement the function".into() };
        }
        if self.ends_envoy(&scope, call) {
            let phase = scope.phase();
            let call = call.function();
            self.harm.get_or_insert_with(|| {
                format!("the guest called {call} in {phase}: Envoy 1.40 crashes there, with all its connections")
            });
        }
        match call {
            Call::Log { level, message } => self.log(*level, message),
            Call::GetLogLevel {} => self.current_log_level(),
            Call::GetProperty { path } => self.property(&scope, path),
            Call::SetProperty { path, value } => self.set_property(&scope, path, value),
            Call::GetCurrentTime {} => self.current_time(),
            Call::SetTickPeriod { period_millis } => self.set_tick_period(&scope, *period_millis),

            Call::GetSharedData { key } => self.get_shared_data(&scope, key),
            Call::SetSharedData { key, value, cas } => {
                self.set_shared_data(&scope, key, value, *cas)
            }
            Call::RegisterSharedQueue { name } => self.register_queue(&scope, name),
            Call::ResolveSharedQueue { vm_id, name } => self.resolve_queue(vm_id, name),
            Call::EnqueueSharedQueue { queue, message } => self.enqueue(*queue, message),
            Call::DequeueSharedQueue { queue } => self.dequeue(*queue),
            Call::DefineMetric { kind, name } => self.define_metric(&scope, *kind, name),
            Call::IncrementMetric { metric, offset } => {
                self.increment_metric(&scope, *metric, *offset)
            }
            Call::RecordMetric { metric, value } => self.record_metric(&scope, *metric, *value),
            Call::GetMetric { metric } => self.read_metric(&scope, *metric),

            Call::GetHeaderMapValue { map, name } => self.header_value(&scope, *map, name),
            Call::GetHeaderMapPairs { map } => self.header_pairs(&scope, *map),
            Call::GetHeaderMapSize { map } => self.header_size(&scope, *map),
            Call::AddHeaderMapValue { map, name, value } => {
                self.add_header(&scope, *map, name, value)
            }
            Call::ReplaceHeaderMapValue { map, name, value } => {
                self.replace_header(&scope, *map, name, value)
            }
            Call::RemoveHeaderMapValue { map, name } => self.remove_header(&scope, *map, name),
            Call::SetHeaderMapPairs { map, pairs } => self.set_headers(&scope, *map, pairs),
            Call::GetBufferBytes { buffer, start, max_size } => {
                self.read_buffer(&scope, *buffer, *start, *max_size)
            }
            Call::SetBufferBytes { buffer, start, size, value } => {
                self.write_buffer(&scope, *buffer, *start, *size, value)
            }
            Call::GetBufferStatus { buffer } => self.buffer_status(&scope, *buffer),
            Call::GetConfiguration {} => self.configuration(&scope),

            Call::SendLocalResponse { status_code, details, body, headers, grpc_status } => {
                let details = code_details(details);
                self.send_local_response(&scope, *status_code, details, body, headers, *grpc_status)
            }
            Call::ContinueStream { stream } => self.continue_stream(&scope, *stream),
            Call::CloseStream { stream } => self.close_stream(&scope, *stream),
            Call::ContinueRequest {} => self.resume(&scope, Direction::Request),
            Call::ContinueResponse {} => self.resume(&scope, Direction::Response),
            Call::SetEffectiveContext { context } => self.set_effective_context(&scope, *context),

            Call::FdWrite { fd, data } | Call::FdPwrite { fd, data, .. } => {
                self.fd_write(*fd, &data.0)
            }
            Call::RandomGet { buffer } => self.random_get(buffer.size),
            Call::ClockTimeGet { clock, .. } => self.clock_time(*clock),
            Call::ClockResGet { clock } => wasi::clock_resolution(*clock),
            Call::EnvironSizesGet {} => wasi::sizes(&self.environment(&scope)),
            Call::EnvironGet {} => Reply::Done(Answer::Strings(self.environment(&scope))),
            Call::ArgsSizesGet {} => wasi::sizes(&[]),
            Call::ArgsGet {} => Reply::Done(Answer::Strings(Vec::new())),
            // As on Envoy, nothing ends: compilers put a trap behind it.
            Call::ProcExit { .. } => Reply::OK,
            Call::ClearRouteCache {} => {
                self.forget_route(&scope);
                Reply::OK
            }

            Call::CallForeignFunction { name, arguments } => {
                self.call_foreign_function(&scope, name, arguments)
            }
            Call::HttpCall { upstream, headers, body, timeout_millis, .. } => {
                self.http_call(&scope, upstream, headers, body, *timeout_millis)
            }
            Call::GrpcCall { upstream, service, method, metadata, message, timeout_millis } => {
                let to = (&upstream[..], &service[..], &method[..]);
                self.grpc_call(&scope, to, metadata, message, *timeout_millis)
            }
            Call::GrpcStream { upstream, service, method, metadata } => {
                self.grpc_stream(&scope, (upstream, service, method), metadata)
            }
            Call::GrpcSend { token, message, end_of_stream } => {
                self.grpc_send(&scope, *token, message, *end_of_stream != 0)
            }
            Call::GrpcCancel { token } => self.grpc_cancel(&scope, *token),
            Call::GrpcClose { token } => self.grpc_close(&scope, *token),
            Call::GetStatus {} => self.callout_status(&scope),
            Call::Done {} => self.done(&scope),
        }
    }

    /// Whether Envoy 1.40 crashes by a call. On a connection of TCP it bears those that end it on a stream of
    /// HTTP.
    fn ends_envoy(&self, scope: &Scope, call: &Call) -> bool {
        let is_tcp = || self.at_stage(scope).is_some_and(|(stream, _)| stream.connection.is_some());
        (is_deadly(call, scope.callback.as_ref()) || self.resumes_no_response(scope, call))
            && !is_tcp()
    }

    /// Answers a call that this host does not serve, so that whoever runs the guest learns of it.
    fn unserved(&mut self, call: &Call) -> Reply {
        self.unserved.get_or_insert_with(|| call.to_string());
        Reply::refused(Status::Unimplemented, "this host does not serve the function")
    }

    /// Counts bytes that a guest makes the host keep.
    fn keep(&mut self, bytes: usize) -> Result<(), Reply> {
        let kept = self.kept_bytes.saturating_add(bytes);
        if kept <= self.limits.kept_bytes {
            self.kept_bytes = kept;
            return Ok(());
        }
        let beyond = self.limits.exceeded(Bounded::kept_bytes);
        let why = format!("the guests make the host keep {kept} bytes, {beyond}");
        Err(Reply::Trap { why: why.into() })
    }

    /// Bytes that guests made the host keep are no longer kept.
    fn let_go(&mut self, bytes: usize) {
        self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
    }

    /// Counts bytes that are kept as long as the stream that the guest acts on; without one, for good.
    fn keep_for_stream(&mut self, scope: &Scope, bytes: usize) -> Result<(), Reply> {
        self.keep(bytes)?;
        if let Some((stream, _)) = self.at_stage_mut(scope) {
            stream.kept_bytes = stream.kept_bytes.saturating_add(bytes);
        }
        Ok(())
    }

    /// Takes a stream that is over.
    pub(crate) fn take_stream(&mut self, id: StreamId) -> Option<Box<Stream>> {
        let stream = self.streams.remove(&id)?;
        self.let_go(stream.kept_bytes);
        Some(stream)
    }

    fn armed_fault(&mut self, function: Function) -> Option<Status> {
        let mut striking = None;
        for armed in self.faults.iter_mut().filter(|armed| armed.fault.call == function) {
            armed.seen += 1;
            if armed.fault.nth.is_none_or(|nth| nth == armed.seen) {
                striking = striking.or(Some(&armed.fault));
            }
        }
        let fault = striking?;
        self.recent.struck(fault);
        Some(fault.status)
    }
}

/// Details of a response as Envoy notes them: in one word.
fn code_details(details: &[u8]) -> Vec<u8> {
    let one_word = |&byte: &u8| if byte.is_ascii_whitespace() { b'_' } else { byte };
    details.iter().map(one_word).collect()
}

/// Calls after which Envoy 1.40 is gone, with every connection of every worker.
fn is_deadly(call: &Call, callback: Option<&Callback>) -> bool {
    let is_over = matches!(
        callback,
        Some(Callback::Log { .. } | Callback::Done { .. } | Callback::Delete { .. })
    );
    match call {
        Call::GrpcCall { upstream, .. } | Call::GrpcStream { upstream, .. } => {
            service::is_deadly(upstream)
        }
        Call::SendLocalResponse { .. } | Call::CloseStream { .. } if is_over => true,
        Call::CloseStream { stream: StreamType::HttpRequest | StreamType::HttpResponse } => {
            matches!(callback, Some(Callback::ResponseTrailers { .. }))
        }
        Call::ContinueStream { stream: StreamType::HttpResponse } | Call::ContinueResponse {} => {
            matches!(callback, Some(Callback::RequestHeaders { .. }))
        }
        _ => false,
    }
}
