//! From callbacks to plugins: which root and which stream a callback is for.
//!
//! A VM may hold several plugins: a proxy puts those with the same module into one, and while it
//! replaces a configuration, the old and the new one stand side by side. What a plugin does with a
//! callback is in `single`.
//!
//! No state is borrowed while a filter runs, so that a host may call back in the middle of a host call.

pub(crate) mod bodies;
mod compose;
mod contexts;
mod ends;
pub(crate) mod single;

use std::borrow::Cow;
use std::marker::PhantomData;
use std::rc::Rc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use tollgate_abi::{BufferType, Callback, CallbackKind, HeadersAction, PeerType, StreamType};

use self::bodies::{Part, Passage};
pub use self::compose::{Chain, End, First, Next, Nothing, OneOf, Rooted};
use self::contexts::{Roots, Streams};
use self::ends::{Unserved, close, reset, settle};
use crate::body::{BodyView, DownstreamData, Limits, UpstreamData};
use crate::config::Document;
use crate::ending::{CloseConnection, ResetStream};
use crate::exchange::{Bodies, Request};
use crate::filter::{ConfigureError, Outcome};
use crate::live::{
    LoggedExchange, RequestHeaders, RequestTrailers, ResponseHeaders, ResponseTrailers,
};
use crate::reply::LocalReply;
use crate::root::Root;
use crate::runtime::{self, Direction, Exchange, Handler, Piece, send};
use crate::{callout, host, logging};

/// A filter for an engine that links it natively and needs no module.
#[derive(Clone, Copy, Debug)]
pub struct Registration {
    /// What `_initialize` of the module does.
    pub start: fn(),
    /// Runs a callback, and gives what it returned; 0 for nothing. The filter's state is that of the
    /// thread.
    pub call: fn(Callback) -> u32,
    /// The callbacks that the finished module exports.
    pub callbacks: fn() -> Vec<CallbackKind>,
    /// What is kept on this thread: for tests that nothing is once all contexts are gone.
    #[doc(hidden)]
    pub kept: fn() -> Kept,
}

/// What a VM keeps, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Roots that are configured.
    pub roots: usize,
    /// Streams whose state or whose root is remembered.
    pub streams: usize,
    /// Tasks, with those that are to be polled.
    pub tasks: usize,
    /// Roots with timers.
    pub timers: usize,
    /// Calls whose answers are awaited.
    pub calls: usize,
}

/// What runs under a root context: a filter with its configuration. A clone is the same one.
pub trait Plugin: Clone + 'static {
    /// The callbacks of streams that it may take part in.
    const PHASES: Phases;
    /// What is kept per stream.
    type Stream: Default + 'static;
    /// Whether something is kept per stream, from its first callback to `proxy_on_delete`.
    const KEEPS_STREAMS: bool = size_of::<Self::Stream>() > 0
        || std::mem::needs_drop::<Self::Stream>()
        || Self::PHASES.exchange.is_some();

    /// Makes the plugin of a worker.
    ///
    /// # Errors
    ///
    /// [`ConfigureError`] when there is none with this configuration.
    fn configure(config: &Document, root: &Root) -> Result<Self, ConfigureError>;

    /// The JSON Schema of its configuration.
    fn schema(generator: &mut SchemaGenerator) -> Schema;

    /// The request headers are there.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_request_headers(&self, _: &mut Self::Stream, _: &mut RequestHeaders) -> Outcome {
        Ok(())
    }

    /// A part of the request body is there.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_request_body(&self, _: &mut Self::Stream, _: Part) -> Result<Passage, LocalReply> {
        Ok(Passage::Open)
    }

    /// The request trailers are there.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_request_trailers(&self, _: &mut Self::Stream, _: &mut RequestTrailers) -> Outcome {
        Ok(())
    }

    /// The response headers are there.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_response_headers(&self, _: &mut Self::Stream, _: &mut ResponseHeaders) -> Outcome {
        Ok(())
    }

    /// A part of the response body is there.
    ///
    /// # Errors
    ///
    /// [`ResetStream`] when the response must not go on.
    fn on_response_body(&self, _: &mut Self::Stream, _: Part) -> Result<Passage, ResetStream> {
        Ok(Passage::Open)
    }

    /// The response trailers are there.
    ///
    /// # Errors
    ///
    /// [`ResetStream`] when the response must not end well.
    fn on_response_trailers(
        &self,
        _: &mut Self::Stream,
        _: &mut ResponseTrailers,
    ) -> Result<(), ResetStream> {
        Ok(())
    }

    /// A client has connected.
    ///
    /// # Errors
    ///
    /// [`CloseConnection`] when it must not.
    fn on_connection(&self, _: &mut Self::Stream) -> Result<(), CloseConnection> {
        Ok(())
    }

    /// The client has sent bytes.
    ///
    /// # Errors
    ///
    /// [`CloseConnection`] when they must not go on.
    fn on_downstream_data(
        &self,
        _: &mut Self::Stream,
        _: &mut DownstreamData,
    ) -> Result<(), CloseConnection> {
        Ok(())
    }

    /// The upstream has sent bytes.
    ///
    /// # Errors
    ///
    /// [`CloseConnection`] when they must not go on.
    fn on_upstream_data(
        &self,
        _: &mut Self::Stream,
        _: &mut UpstreamData,
    ) -> Result<(), CloseConnection> {
        Ok(())
    }

    /// The client's side is closed.
    fn on_downstream_close(&self, _: &mut Self::Stream, _: PeerType) {}

    /// The upstream's side is closed.
    fn on_upstream_close(&self, _: &mut Self::Stream, _: PeerType) {}

    /// The stream is over.
    fn on_log(&self, _: &mut Self::Stream, _: &mut LoggedExchange) {}

    /// The callbacks of streams that it takes part in, as it was configured.
    fn phases(&self) -> Phases {
        Self::PHASES
    }

    /// The handler that follows an exchange, if [`Phases::exchange`] says that there is one. It leaves
    /// the stream's state with the exchange.
    fn follow(&self, _: Rc<Exchange>, _: Request) -> Option<Handler> {
        None
    }

    /// Takes the stream's state back from an exchange whose handler has ended.
    fn regain(&self, _: &mut Self::Stream, _: &Exchange) {}

    /// What goes on in the background, if [`Phases::background`] says that something does.
    fn in_background(&self) -> Option<Handler> {
        None
    }
}

/// The callbacks of streams that a plugin takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a set, one member each")]
pub struct Phases {
    /// Request headers.
    pub request_headers: bool,
    /// Request body.
    pub request_body: bool,
    /// Request trailers.
    pub request_trailers: bool,
    /// Response headers.
    pub response_headers: bool,
    /// Response body.
    pub response_body: bool,
    /// Response trailers.
    pub response_trailers: bool,
    /// A connection begins.
    pub connection: bool,
    /// Bytes from the client.
    pub downstream_data: bool,
    /// Bytes from the upstream.
    pub upstream_data: bool,
    /// The end of the client's side.
    pub downstream_close: bool,
    /// The end of the upstream's side.
    pub upstream_close: bool,
    /// The end, for the log.
    pub log: bool,
    /// All of an exchange, with an asynchronous handler that treats bodies like this.
    pub exchange: Option<Bodies>,
    /// Something goes on in the background.
    pub background: bool,
}

impl Phases {
    /// No phase.
    pub const NONE: Self = Self {
        request_headers: false,
        request_body: false,
        request_trailers: false,
        response_headers: false,
        response_body: false,
        response_trailers: false,
        connection: false,
        downstream_data: false,
        upstream_data: false,
        downstream_close: false,
        upstream_close: false,
        log: false,
        exchange: None,
        background: false,
    };

    /// The phases of either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self {
            request_headers: self.request_headers || other.request_headers,
            request_body: self.request_body || other.request_body,
            request_trailers: self.request_trailers || other.request_trailers,
            response_headers: self.response_headers || other.response_headers,
            response_body: self.response_body || other.response_body,
            response_trailers: self.response_trailers || other.response_trailers,
            connection: self.connection || other.connection,
            downstream_data: self.downstream_data || other.downstream_data,
            upstream_data: self.upstream_data || other.upstream_data,
            downstream_close: self.downstream_close || other.downstream_close,
            upstream_close: self.upstream_close || other.upstream_close,
            log: self.log || other.log,
            exchange: match (self.exchange, other.exchange) {
                (Some(one), Some(other)) => Some(one.or(other)),
                (one @ Some(_), None) => one,
                (None, other) => other,
            },
            background: self.background || other.background,
        }
    }

    /// Whether it takes part in TCP connections.
    const fn has_tcp(self) -> bool {
        self.connection
            || self.downstream_data
            || self.upstream_data
            || self.downstream_close
            || self.upstream_close
    }

    /// Whether it has tasks, which wait for more than the pieces of an exchange.
    const fn has_tasks(self) -> bool {
        self.exchange.is_some() || self.background
    }
}

/// As many callbacks as a plugin can have.
const MOST_CALLBACKS: usize = 21;

/// The callbacks that a module with this plugin has to export.
pub const fn callbacks<P: Plugin>() -> [Option<CallbackKind>; MOST_CALLBACKS] {
    const fn when(wanted: bool, callback: CallbackKind) -> Option<CallbackKind> {
        if wanted { Some(callback) } else { None }
    }
    let phases = P::PHASES;
    let tasks = phases.has_tasks();
    let follows = phases.exchange.is_some();
    let bodies = matches!(phases.exchange, Some(Bodies::AfterHeaders | Bodies::WithHeaders));
    [
        Some(CallbackKind::ContextCreate),
        Some(CallbackKind::Configure),
        when(tasks, CallbackKind::Tick),
        when(phases.connection, CallbackKind::NewConnection),
        when(phases.downstream_data, CallbackKind::DownstreamData),
        when(phases.downstream_close, CallbackKind::DownstreamConnectionClose),
        when(phases.upstream_data, CallbackKind::UpstreamData),
        when(phases.upstream_close, CallbackKind::UpstreamConnectionClose),
        when(phases.request_headers || follows, CallbackKind::RequestHeaders),
        when(phases.request_body || bodies, CallbackKind::RequestBody),
        when(phases.request_trailers || bodies, CallbackKind::RequestTrailers),
        when(phases.response_headers || follows, CallbackKind::ResponseHeaders),
        when(phases.response_body || bodies, CallbackKind::ResponseBody),
        when(phases.response_trailers || bodies, CallbackKind::ResponseTrailers),
        when(tasks, CallbackKind::HttpCallResponse),
        when(tasks, CallbackKind::GrpcReceiveInitialMetadata),
        when(tasks, CallbackKind::GrpcReceive),
        when(tasks, CallbackKind::GrpcReceiveTrailingMetadata),
        when(tasks, CallbackKind::GrpcClose),
        when(phases.log, CallbackKind::Log),
        when(tasks || P::KEEPS_STREAMS, CallbackKind::Delete),
    ]
}

/// The settings that a plugin with this module needs, one a line: names of fields of Envoy's
/// `PluginConfig`.
pub const fn needs<P: Plugin>() -> &'static str {
    match P::PHASES.exchange {
        Some(Bodies::WithHeaders) => "allow_on_headers_stop_iteration\n",
        Some(Bodies::Untouched | Bodies::AfterHeaders) | None => "",
    }
}

/// A module: where its instance is. A type that a macro makes, since a static cannot be generic.
pub trait Module: 'static {
    /// What log lines begin with.
    const NAME: &'static str;
    /// What it runs.
    type Plugin: Plugin;

    /// Lends the instance of this thread.
    fn with<T>(run: impl FnOnce(&Instance<Self::Plugin>) -> T) -> T;
}

/// The configuration of a plugin, as a type that has its schema.
pub(crate) struct Configuration<P>(PhantomData<P>);

impl<P: Plugin> JsonSchema for Configuration<P> {
    fn schema_name() -> Cow<'static, str> {
        "Configuration".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        P::schema(generator)
    }
}

/// What `_initialize` of a module does.
pub fn initialize<M: Module>() {
    host::run_constructors();
    start::<M>();
}

fn start<M: Module>() {
    logging::install(M::NAME);
}

/// The filter for an engine that links it natively.
pub const fn registration<M: Module>() -> Registration {
    Registration {
        start: start::<M>,
        call: call::<M>,
        callbacks: || callbacks::<M::Plugin>().into_iter().flatten().collect(),
        kept: || M::with(Instance::kept),
    }
}

/// Runs a callback, and gives what it returned; 0 for nothing.
pub fn call<M: Module>(callback: Callback) -> u32 {
    M::with(|instance| instance.call(callback))
}

/// The state of a module in one VM.
pub struct Instance<P: Plugin> {
    roots: Roots<P>,
    streams: Streams<P>,
}

impl<P: Plugin> Instance<P> {
    /// An instance before its first callback.
    pub const fn new() -> Self {
        Self { roots: Roots::new(), streams: Streams::new() }
    }

    fn kept(&self) -> Kept {
        Kept {
            roots: self.roots.len(),
            streams: self.streams.len(),
            tasks: runtime::kept(),
            timers: runtime::kept_timers(),
            calls: callout::kept(),
        }
    }

    #[inline]
    #[expect(clippy::too_many_lines, reason = "one arm for each callback")]
    fn call(&self, callback: Callback) -> u32 {
        if P::PHASES.has_tasks()
            && let Some(returned) = self.call_tasks(callback)
        {
            return returned;
        }
        match callback {
            Callback::ContextCreate { context, parent } => {
                if parent != 0 {
                    self.streams.began(context, parent, &self.roots);
                }
                0
            }
            Callback::Configure { context, configuration_size } => {
                self.configure(context, configuration_size).into()
            }
            Callback::RequestHeaders { context, end_of_stream, .. } => {
                let outcome = self.in_stream(context, |plugin, stream| {
                    plugin.on_request_headers(stream, &mut RequestHeaders::new(end_of_stream))
                });
                carry_out(outcome, StreamType::HttpRequest)
            }
            Callback::RequestBody { context, size, end_of_stream } if P::PHASES.request_body => {
                let part = Part { len: size, is_last: end_of_stream };
                let outcome =
                    self.in_stream(context, |plugin, stream| plugin.on_request_body(stream, part));
                settle(outcome, |reply| send(&reply, StreamType::HttpRequest))
            }
            Callback::RequestTrailers { context, .. } if P::PHASES.request_trailers => {
                let outcome = self.in_stream(context, |plugin, stream| {
                    plugin.on_request_trailers(stream, &mut RequestTrailers::new(true))
                });
                carry_out(outcome, StreamType::HttpRequest)
            }
            Callback::ResponseHeaders { context, end_of_stream, .. } => {
                let outcome = self.in_stream(context, |plugin, stream| {
                    plugin.on_response_headers(stream, &mut ResponseHeaders::new(end_of_stream))
                });
                carry_out(outcome, StreamType::HttpResponse)
            }
            Callback::ResponseBody { context, size, end_of_stream } if P::PHASES.response_body => {
                let part = Part { len: size, is_last: end_of_stream };
                let outcome =
                    self.in_stream(context, |plugin, stream| plugin.on_response_body(stream, part));
                settle(outcome, |end| reset(&end))
            }
            Callback::ResponseTrailers { context, .. } if P::PHASES.response_trailers => {
                let outcome = self.in_stream(context, |plugin, stream| {
                    plugin.on_response_trailers(stream, &mut ResponseTrailers::new(true))
                });
                settle(outcome.map(|()| Passage::Open), |end| reset(&end))
            }
            Callback::NewConnection { context } if P::PHASES.connection => {
                let outcome = self.in_stream(context, Plugin::on_connection);
                settle(outcome.map(|()| Passage::Open), |end| close(&end))
            }
            Callback::DownstreamData { context, size, end_of_stream }
                if P::PHASES.downstream_data =>
            {
                let outcome = self.in_stream(context, |plugin, stream| {
                    let mut data = BodyView::chunk(size, end_of_stream, Limits::Resize);
                    plugin.on_downstream_data(stream, &mut data)
                });
                settle(outcome.map(|()| Passage::Open), |end| close(&end))
            }
            Callback::UpstreamData { context, size, end_of_stream } if P::PHASES.upstream_data => {
                let outcome = self.in_stream(context, |plugin, stream| {
                    let mut data = BodyView::chunk(size, end_of_stream, Limits::Resize);
                    plugin.on_upstream_data(stream, &mut data)
                });
                settle(outcome.map(|()| Passage::Open), |end| close(&end))
            }
            Callback::DownstreamConnectionClose { context, peer } if P::PHASES.downstream_close => {
                self.note(context, |plugin, stream| {
                    plugin.on_downstream_close(stream, peer.into());
                })
            }
            Callback::UpstreamConnectionClose { context, peer } if P::PHASES.upstream_close => self
                .note(context, |plugin, stream| {
                    plugin.on_upstream_close(stream, peer.into());
                }),
            Callback::Log { context } => self.note(context, |plugin, stream| {
                plugin.on_log(stream, &mut LoggedExchange::new());
            }),
            Callback::Delete { context } => {
                self.streams.ended(context);
                self.roots.ended(context);
                0
            }
            Callback::VmStart { .. } | Callback::Done { .. } => 1,
            // Also phases that the plugin has not: they cost a module nothing.
            Callback::Tick { .. }
            | Callback::QueueReady { .. }
            | Callback::NewConnection { .. }
            | Callback::DownstreamData { .. }
            | Callback::DownstreamConnectionClose { .. }
            | Callback::UpstreamData { .. }
            | Callback::UpstreamConnectionClose { .. }
            | Callback::RequestBody { .. }
            | Callback::RequestTrailers { .. }
            | Callback::ResponseBody { .. }
            | Callback::ResponseTrailers { .. }
            | Callback::HttpCallResponse { .. }
            | Callback::GrpcReceiveInitialMetadata { .. }
            | Callback::GrpcReceive { .. }
            | Callback::GrpcReceiveTrailingMetadata { .. }
            | Callback::GrpcClose { .. }
            | Callback::ForeignFunction { .. } => 0,
        }
    }

    /// Runs a callback of a plugin that has tasks, as far as it is theirs: gives what it returned.
    fn call_tasks(&self, callback: Callback) -> Option<u32> {
        match callback {
            Callback::RequestHeaders { context, end_of_stream, .. } if self.follows(context) => {
                return Some(self.follow(context, end_of_stream));
            }
            Callback::RequestBody { context, size, end_of_stream } if self.follows(context) => {
                let piece = Piece::Body { size, end_of_stream };
                return Some(runtime::arrived(context, Direction::Request, piece));
            }
            Callback::RequestTrailers { context, .. } if self.follows(context) => {
                return Some(runtime::arrived(context, Direction::Request, Piece::Trailers));
            }
            Callback::ResponseHeaders { context, end_of_stream, .. } if self.follows(context) => {
                let piece = Piece::Headers { end_of_stream };
                return Some(runtime::arrived(context, Direction::Response, piece));
            }
            Callback::ResponseBody { context, size, end_of_stream } if self.follows(context) => {
                let piece = Piece::Body { size, end_of_stream };
                return Some(runtime::arrived(context, Direction::Response, piece));
            }
            Callback::ResponseTrailers { context, .. } if self.follows(context) => {
                return Some(runtime::arrived(context, Direction::Response, Piece::Trailers));
            }
            Callback::Log { context } => {
                self.stop_following(context);
                return None;
            }
            Callback::Delete { context } => {
                runtime::ended(context);
                return None;
            }
            Callback::Tick { context } => runtime::tick(context),
            Callback::HttpCallResponse { token, headers, body_size, trailers, .. } => {
                callout::answered(token, headers, body_size, trailers);
            }
            Callback::GrpcReceiveInitialMetadata { token, .. } => callout::initial_metadata(token),
            Callback::GrpcReceive { token, size, .. } => callout::message(token, size),
            Callback::GrpcReceiveTrailingMetadata { token, .. } => {
                callout::trailing_metadata(token);
            }
            Callback::GrpcClose { token, status, .. } => callout::closed(token, status),
            _ => return None,
        }
        runtime::run(callback.context());
        Some(0)
    }

    /// Whether the configuration was taken.
    fn configure(&self, root: u32, size: usize) -> bool {
        logging::follow_host();
        match configured::<P>(size) {
            Ok(plugin) => {
                let background = plugin.in_background();
                self.roots.configured(root, plugin);
                if P::PHASES.background {
                    runtime::end_in_background(root);
                }
                if let Some(background) = background {
                    runtime::begin_in_background(root, background);
                }
                true
            }
            Err(error) => {
                log::error!("{error}");
                false
            }
        }
    }

    /// Whether the plugin of a stream has an asynchronous handler.
    fn follows(&self, context: u32) -> bool {
        P::PHASES.exchange.is_some()
            && self
                .streams
                .root_of(context, &self.roots)
                .is_some_and(|(_, plugin)| plugin.phases().exchange.is_some())
    }

    /// Begins to follow an exchange, and gives what its first callback returns.
    fn follow(&self, context: u32, end_of_stream: bool) -> u32 {
        let Some((root, plugin)) = self.streams.root_of(context, &self.roots) else {
            send(&Unserved::NotConfigured.into(), StreamType::HttpRequest);
            return HeadersAction::StopIteration.into();
        };
        let bodies = plugin.phases().exchange.unwrap_or_default();
        let exchange = Rc::new(Exchange::new(context, bodies, end_of_stream));
        let request = Request::new(Rc::clone(&exchange), end_of_stream);
        match plugin.follow(Rc::clone(&exchange), request) {
            Some(handler) => runtime::begin(&exchange, root, handler),
            None => HeadersAction::Continue.into(),
        }
    }

    /// Drops the handler of an exchange that is over; what it leaves is the stream's state.
    fn stop_following(&self, context: u32) {
        let Some(exchange) = runtime::over(context) else { return };
        let plugin = self.streams.root_of(context, &self.roots);
        if let (Some((_, plugin)), Some(mut stream)) = (plugin, self.streams.take(context)) {
            plugin.regain(&mut stream, &exchange);
            self.streams.put_back(context, stream);
        }
    }

    fn in_stream<T, E: From<Unserved>>(
        &self,
        context: u32,
        run: impl FnOnce(&P, &mut P::Stream) -> Result<T, E>,
    ) -> Result<T, E> {
        let plugin = self.streams.root_of(context, &self.roots);
        // Hosts send no streams before a configuration was taken. One that does must not find an open
        // door.
        let Some((_, plugin)) = plugin else { return Err(Unserved::NotConfigured.into()) };
        if !P::KEEPS_STREAMS {
            return run(&plugin, &mut P::Stream::default());
        }
        // A host that calls back during a host call finds no state for this stream.
        let Some(mut stream) = self.streams.take(context) else {
            return Err(Unserved::CalledDuringACall.into());
        };
        let outcome = run(&plugin, &mut stream);
        self.streams.put_back(context, stream);
        outcome
    }

    /// Runs what decides nothing: there is nobody left to answer, and no stream to close.
    fn note(&self, context: u32, run: impl FnOnce(&P, &mut P::Stream)) -> u32 {
        let _: Result<(), Unserved> = self.in_stream(context, |plugin, stream| {
            run(plugin, stream);
            Ok(())
        });
        0
    }
}

impl<P: Plugin> Default for Instance<P> {
    fn default() -> Self {
        Self::new()
    }
}

fn configured<P: Plugin>(size: usize) -> Result<P, ConfigureError> {
    let json = match u32::try_from(size).unwrap_or(u32::MAX) {
        0 => Vec::new(),
        size => host::buffer(BufferType::PluginConfiguration, 0, size)?,
    };
    P::configure(&Document::parse(&json)?, &Root::new())
}

fn carry_out(outcome: Outcome, stream: StreamType) -> u32 {
    let action = match outcome {
        Ok(()) => HeadersAction::Continue,
        Err(reply) => {
            send(&reply, stream);
            HeadersAction::StopIteration
        }
    };
    action.into()
}
