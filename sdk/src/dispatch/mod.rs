//! From callbacks to plugins: which root and which stream a callback is for.
//!
//! A VM may hold several plugins: a proxy puts those with the same module into one, and while it
//! replaces a configuration, the old and the new one stand side by side. What a plugin does with a
//! callback is in `single`.
//!
//! No state is borrowed while a filter runs, so that a host may call back in the middle of a host call.

mod compose;
mod contexts;
mod single;

use std::borrow::Cow;
use std::marker::PhantomData;
use std::rc::Rc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use tollgate_abi::{BufferType, Callback, CallbackKind, HeadersAction, StreamType};

pub use self::compose::{Chain, End, First, Next, Nothing, OneOf, Rooted};
use self::contexts::{Roots, Streams};
pub use self::single::{
    BackgroundHandler, ExchangeHandler, Handled, Handlers, LogHandler, NoBackground, NoExchange,
    NoLog, NoRequestHeaders, NoResponseHeaders, Probe, RequestHeadersHandler,
    ResponseHeadersHandler, Single,
};
use crate::config::Document;
use crate::exchange::{Bodies, Request};
use crate::filter::{ConfigureError, Outcome};
use crate::live::{LoggedExchange, RequestHeaders, ResponseHeaders};
use crate::root::Root;
use crate::runtime::{self, Direction, Exchange, Handler, Piece, send, unavailable};
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
    fn on_request_headers(
        &self,
        stream: &mut Self::Stream,
        request: &mut RequestHeaders,
    ) -> Outcome;

    /// The response headers are there.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_response_headers(
        &self,
        stream: &mut Self::Stream,
        response: &mut ResponseHeaders,
    ) -> Outcome;

    /// The callbacks of streams that it takes part in, as it was configured.
    fn phases(&self) -> Phases {
        Self::PHASES
    }

    /// The handler that follows an exchange, if [`Phases::exchange`] says that there is one. It leaves
    /// the stream's state with the exchange.
    fn follow(&self, exchange: Rc<Exchange>, request: Request) -> Option<Handler>;

    /// Takes the stream's state back from an exchange whose handler has ended.
    fn regain(&self, stream: &mut Self::Stream, exchange: &Exchange);

    /// What goes on in the background, if [`Phases::background`] says that something does.
    fn in_background(&self) -> Option<Handler>;

    /// The stream is over.
    fn on_log(&self, stream: &mut Self::Stream, exchange: &mut LoggedExchange);
}

/// The callbacks of streams that a plugin takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a set, one member each")]
pub struct Phases {
    /// Request headers.
    pub request_headers: bool,
    /// Response headers.
    pub response_headers: bool,
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
        response_headers: false,
        log: false,
        exchange: None,
        background: false,
    };

    /// The phases of either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self {
            request_headers: self.request_headers || other.request_headers,
            response_headers: self.response_headers || other.response_headers,
            log: self.log || other.log,
            exchange: match (self.exchange, other.exchange) {
                (Some(one), Some(other)) => Some(one.or(other)),
                (one @ Some(_), None) => one,
                (None, other) => other,
            },
            background: self.background || other.background,
        }
    }

    /// Whether it has tasks, which wait for more than the pieces of an exchange.
    const fn has_tasks(self) -> bool {
        self.exchange.is_some() || self.background
    }
}

/// As many callbacks as a plugin can have.
const MOST_CALLBACKS: usize = 18;

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
        when(phases.request_headers || follows, CallbackKind::RequestHeaders),
        when(bodies, CallbackKind::RequestBody),
        when(bodies, CallbackKind::RequestTrailers),
        when(phases.response_headers || follows, CallbackKind::ResponseHeaders),
        when(bodies, CallbackKind::ResponseBody),
        when(bodies, CallbackKind::ResponseTrailers),
        when(tasks, CallbackKind::HttpCallResponse),
        when(tasks, CallbackKind::GrpcReceiveInitialMetadata),
        when(tasks, CallbackKind::GrpcReceive),
        when(tasks, CallbackKind::GrpcReceiveTrailingMetadata),
        when(tasks, CallbackKind::GrpcClose),
        when(phases.log, CallbackKind::Log),
        when(tasks || P::KEEPS_STREAMS, CallbackKind::Delete),
        None,
        None,
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

    #[inline]
    fn call(&self, callback: Callback) -> u32 {
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
            Callback::RequestHeaders { context, end_of_stream, .. } if self.follows(context) => {
                self.follow(context, end_of_stream)
            }
            Callback::RequestHeaders { context, end_of_stream, .. } => {
                let outcome = self.in_stream(context, |plugin, stream| {
                    plugin.on_request_headers(stream, &mut RequestHeaders::new(end_of_stream))
                });
                carry_out(outcome, StreamType::HttpRequest)
            }
            Callback::ResponseHeaders { context, end_of_stream, .. } if self.follows(context) => {
                runtime::arrived(context, Direction::Response, Piece::Headers { end_of_stream })
            }
            Callback::ResponseHeaders { context, end_of_stream, .. } => {
                let outcome = self.in_stream(context, |plugin, stream| {
                    plugin.on_response_headers(stream, &mut ResponseHeaders::new(end_of_stream))
                });
                carry_out(outcome, StreamType::HttpResponse)
            }
            Callback::Log { context } => {
                if P::PHASES.exchange.is_some() {
                    self.stop_following(context);
                }
                // There is nobody left to answer.
                let _ = self.in_stream(context, |plugin, stream| {
                    plugin.on_log(stream, &mut LoggedExchange::new());
                    Ok(())
                });
                0
            }
            Callback::Delete { context } => {
                if P::PHASES.has_tasks() {
                    runtime::ended(context);
                }
                self.streams.ended(context);
                self.roots.ended(context);
                0
            }
            Callback::VmStart { .. } | Callback::Done { .. } => 1,
            _ if !P::PHASES.has_tasks() => 0,
            Callback::RequestBody { context, size, end_of_stream } => {
                let piece = Piece::Body { size, end_of_stream };
                runtime::arrived(context, Direction::Request, piece)
            }
            Callback::ResponseBody { context, size, end_of_stream } => {
                let piece = Piece::Body { size, end_of_stream };
                runtime::arrived(context, Direction::Response, piece)
            }
            Callback::RequestTrailers { context, .. } => {
                runtime::arrived(context, Direction::Request, Piece::Trailers)
            }
            Callback::ResponseTrailers { context, .. } => {
                runtime::arrived(context, Direction::Response, Piece::Trailers)
            }
            Callback::Tick { context } => {
                runtime::tick(context);
                run_tasks(context)
            }
            Callback::HttpCallResponse { context, token, headers, body_size, trailers } => {
                callout::answered(token, headers, body_size, trailers);
                run_tasks(context)
            }
            Callback::GrpcReceiveInitialMetadata { context, token, .. } => {
                callout::initial_metadata(token);
                run_tasks(context)
            }
            Callback::GrpcReceive { context, token, size } => {
                callout::message(token, size);
                run_tasks(context)
            }
            Callback::GrpcReceiveTrailingMetadata { context, token, .. } => {
                callout::trailing_metadata(token);
                run_tasks(context)
            }
            Callback::GrpcClose { context, token, status } => {
                callout::closed(token, status);
                run_tasks(context)
            }
            Callback::QueueReady { .. }
            | Callback::NewConnection { .. }
            | Callback::DownstreamData { .. }
            | Callback::DownstreamConnectionClose { .. }
            | Callback::UpstreamData { .. }
            | Callback::UpstreamConnectionClose { .. }
            | Callback::ForeignFunction { .. } => 0,
        }
    }

    /// Whether the configuration was taken.
    fn configure(&self, root: u32, size: usize) -> bool {
        logging::follow_host();
        match configured::<P>(size) {
            Ok(plugin) => {
                let background = plugin.in_background();
                self.roots.configured(root, plugin);
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
            send(&unavailable("tollgate_not_configured"), StreamType::HttpRequest);
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

    fn in_stream(&self, context: u32, run: impl FnOnce(&P, &mut P::Stream) -> Outcome) -> Outcome {
        let plugin = self.streams.root_of(context, &self.roots);
        // Hosts send no streams before a configuration was taken. One that does must not find an open
        // door.
        let Some((_, plugin)) = plugin else {
            return Err(unavailable("tollgate_not_configured"));
        };
        if !P::KEEPS_STREAMS {
            return run(&plugin, &mut P::Stream::default());
        }
        // A host that calls back during a host call finds no state for this stream.
        let Some(mut stream) = self.streams.take(context) else {
            return Err(unavailable("tollgate_called_during_a_call"));
        };
        let outcome = run(&plugin, &mut stream);
        self.streams.put_back(context, stream);
        outcome
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

/// Polls what a callback has woken, which returns nothing.
fn run_tasks(context: u32) -> u32 {
    runtime::run(context);
    0
}
