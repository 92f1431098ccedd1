//! What runs under a root context, in which callbacks it takes part, and what its configuration looks like.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::rc::Rc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use tollgate_abi::{CallbackKind, PeerType};

use super::bodies::{Part, Passage};
use crate::body::{DownstreamData, UpstreamData};
use crate::config::Document;
use crate::ending::{CloseConnection, ResetStream};
use crate::exchange::{Bodies, Request};
use crate::filter::{ConfigureError, Outcome};
use crate::live::{
    LoggedExchange, RequestHeaders, RequestTrailers, ResponseHeaders, ResponseTrailers,
};
use crate::reply::LocalReply;
use crate::root::Root;
use crate::runtime::{Exchange, Handler, Link};
use crate::window::Window;

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

    /// Whether all values of it are the same one, so that it does not matter to which root a stream
    /// belongs, and the proxy need not tell.
    const IS_ALIKE: bool = false;

    /// Makes the plugin of a worker.
    ///
    /// # Errors
    ///
    /// [`ConfigureError`] when there is none with this configuration.
    fn configure(config: &Document, root: &Root) -> Result<Self, ConfigureError>;

    /// What its configuration is called.
    fn schema_name() -> Cow<'static, str> {
        "Configuration".into()
    }

    /// The JSON Schema of its configuration.
    fn schema(generator: &mut SchemaGenerator) -> Schema;

    /// The same as a part of another.
    fn subschema(generator: &mut SchemaGenerator) -> Schema {
        Self::schema(generator)
    }

    /// Adds the labels of its metrics.
    fn stats_tags(_: &mut BTreeSet<&'static str>) {}

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
    fn on_request_body(&self, _: &mut Self::Stream, part: Part) -> Result<Passage, LocalReply> {
        Ok(Passage::Open(part.window.len))
    }

    /// The request trailers are there, so that what was held of the body is whole; `None`: the plugin
    /// alone knows how much that is. Gives how many bytes of it go on.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn before_request_trailers(
        &self,
        _: &mut Self::Stream,
        held: Option<Window>,
    ) -> Result<usize, LocalReply> {
        Ok(held.map_or(0, |held| held.len))
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
    fn on_response_body(&self, _: &mut Self::Stream, part: Part) -> Result<Passage, ResetStream> {
        Ok(Passage::Open(part.window.len))
    }

    /// The response trailers are there, so that what was held of the body is whole; `None`: the plugin
    /// alone knows how much that is. Gives how many bytes of it go on.
    ///
    /// # Errors
    ///
    /// [`ResetStream`] when the response must not go on.
    fn before_response_trailers(
        &self,
        _: &mut Self::Stream,
        held: Option<Window>,
    ) -> Result<usize, ResetStream> {
        Ok(held.map_or(0, |held| held.len))
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

    /// Its filters at a stream that begins, each with its own state: where [`Phases::flows`] says so.
    fn links(&self) -> Vec<Box<dyn Link>> {
        vec![Box::new(Linked { plugin: self.clone(), stream: Self::Stream::default() })]
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
    /// It holds request bodies until they are whole.
    pub holds_request: bool,
    /// It holds response bodies until they are whole.
    pub holds_response: bool,
    /// What it holds of a request, one filter of it hands to the next: see [`Flow`](crate::runtime::Flow).
    pub flows: bool,
    /// It holds headers, and wants to see what follows them.
    pub headers_alone: bool,
    /// Something goes on in the background.
    pub background: bool,
    /// That waits for messages.
    pub messages: bool,
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
        holds_request: false,
        holds_response: false,
        flows: false,
        headers_alone: false,
        background: false,
        messages: false,
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
            holds_request: self.holds_request || other.holds_request,
            holds_response: self.holds_response || other.holds_response,
            flows: self.flows || other.flows,
            headers_alone: self.headers_alone || other.headers_alone,
            background: self.background || other.background,
            messages: self.messages || other.messages,
        }
    }

    /// The phases of both, one after the other in a chain: what follows headers comes to the one also
    /// while the other holds them.
    ///
    /// # Panics
    ///
    /// While compiling, when no proxy runs both in one chain.
    #[must_use]
    pub const fn then(self, next: Self) -> Self {
        assert!(
            !(self.has_tcp() && next.has_http() || self.has_http() && next.has_tcp()),
            "a chain has filters of HTTP and of TCP, which no proxy runs in one chain; make two \
             modules of it"
        );
        let mut both = self.or(next);
        both.flows |= both.request_body || both.response_body;
        // Whoever was not asked about a request does not meet its response.
        both.request_headers |= both.flows;
        both.headers_alone |= self.follows_messages() && next.exchange.is_some()
            || next.follows_messages() && self.exchange.is_some();
        both
    }

    /// Whether it takes part in what follows headers.
    const fn follows_messages(self) -> bool {
        self.request_body
            || self.request_trailers
            || self.response_body
            || self.response_trailers
            || matches!(self.exchange, Some(Bodies::AfterHeaders | Bodies::WithHeaders))
    }

    /// Whether it takes part in responses.
    pub(super) const fn has_response(self) -> bool {
        self.response_headers || self.response_body || self.response_trailers
    }

    /// Whether it takes part in HTTP exchanges.
    const fn has_http(self) -> bool {
        self.request_headers
            || self.response_headers
            || self.follows_messages()
            || self.exchange.is_some()
    }

    /// Whether it takes part in TCP connections.
    pub(super) const fn has_tcp(self) -> bool {
        self.connection
            || self.downstream_data
            || self.upstream_data
            || self.downstream_close
            || self.upstream_close
    }

    /// Whether it has tasks, which wait for more than the pieces of an exchange.
    pub(super) const fn has_tasks(self) -> bool {
        self.exchange.is_some() || self.background
    }
}

/// As many callbacks as a plugin can have.
const MOST_CALLBACKS: usize = 22;

/// The callbacks that a module with this plugin has to export.
pub const fn callbacks<P: Plugin>() -> [Option<CallbackKind>; MOST_CALLBACKS] {
    const fn when(wanted: bool, callback: CallbackKind) -> Option<CallbackKind> {
        if wanted { Some(callback) } else { None }
    }
    let phases = P::PHASES;
    let tasks = phases.has_tasks();
    let follows = phases.exchange.is_some();
    let bodies = matches!(phases.exchange, Some(Bodies::AfterHeaders | Bodies::WithHeaders))
        || phases.headers_alone;
    [
        when(!P::IS_ALIKE, CallbackKind::ContextCreate),
        Some(CallbackKind::Configure),
        when(tasks, CallbackKind::Tick),
        when(phases.messages, CallbackKind::QueueReady),
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
    if P::PHASES.headers_alone { "allow_on_headers_stop_iteration\n" } else { "" }
}

/// A filter at a stream, with its state.
struct Linked<P: Plugin> {
    plugin: P,
    stream: P::Stream,
}

impl<P: Plugin> Link for Linked<P> {
    fn phases(&self) -> Phases {
        self.plugin.phases()
    }

    fn on_request_headers(&mut self, request: &mut RequestHeaders) -> Outcome {
        self.plugin.on_request_headers(&mut self.stream, request)
    }

    fn on_request_body(&mut self, part: Part) -> Result<Passage, LocalReply> {
        self.plugin.on_request_body(&mut self.stream, part)
    }

    fn on_request_trailers(&mut self, held: Window) -> Result<usize, LocalReply> {
        let len = self.plugin.before_request_trailers(&mut self.stream, Some(held))?;
        self.plugin.on_request_trailers(&mut self.stream, &mut RequestTrailers::new(true))?;
        Ok(len)
    }

    fn on_response_headers(&mut self, response: &mut ResponseHeaders) -> Outcome {
        self.plugin.on_response_headers(&mut self.stream, response)
    }

    fn on_response_body(&mut self, part: Part) -> Result<Passage, ResetStream> {
        self.plugin.on_response_body(&mut self.stream, part)
    }

    fn on_response_trailers(&mut self, held: Window) -> Result<usize, ResetStream> {
        let len = self.plugin.before_response_trailers(&mut self.stream, Some(held))?;
        self.plugin.on_response_trailers(&mut self.stream, &mut ResponseTrailers::new(true))?;
        Ok(len)
    }

    fn follow(&self, exchange: Rc<Exchange>, request: Request) -> Option<Handler> {
        self.plugin.follow(exchange, request)
    }

    fn on_log(&mut self, of: &Exchange, exchange: &mut LoggedExchange) {
        self.plugin.regain(&mut self.stream, of);
        self.plugin.on_log(&mut self.stream, exchange);
    }
}

/// The configuration of a plugin, as a type that has its schema.
pub(crate) struct Configuration<P>(PhantomData<P>);

impl<P: Plugin> JsonSchema for Configuration<P> {
    fn schema_name() -> Cow<'static, str> {
        P::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        P::schema(generator)
    }
}
