//! What runs under a root context, in which callbacks it takes part, and what its configuration looks like.

use std::borrow::Cow;
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
use crate::runtime::{Exchange, Handler};

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

    /// What its configuration is called.
    fn schema_name() -> Cow<'static, str> {
        "Configuration".into()
    }

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
