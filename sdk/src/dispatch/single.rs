//! One filter as a plugin: its phases are the traits that it implements.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::rc::Rc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use tollgate_abi::PeerType;

use super::bodies::{BodyPhases, Chunks, Part, Passage, WholeBody};
use super::{Phases, Plugin};
use crate::body::{DownstreamData, UpstreamData};
use crate::body_phases::{OnRequestBody, OnRequestChunk, OnResponseBody, OnResponseChunk};
use crate::config::Document;
use crate::connection::{
    OnConnection, OnDownstreamClose, OnDownstreamData, OnUpstreamClose, OnUpstreamData,
};
use crate::ending::{CloseConnection, ResetStream};
use crate::exchange;
use crate::exchange::{Bodies, Lent, OnExchange};
use crate::filter::{
    ConfigureError, Filter, InBackground, OnLog, OnMessages, OnRequestHeaders, OnRequestTrailers,
    OnResponseHeaders, OnResponseTrailers, Outcome,
};
use crate::live::{
    LoggedExchange, Request, RequestHeaders, RequestTrailers, Response, ResponseHeaders,
    ResponseTrailers,
};
use crate::reply::LocalReply;
use crate::root::Root;
use crate::runtime::{Exchange, Handler};
use crate::state::Inbox;
use crate::window::Window;

/// [`OnRequestHeaders`], as a function.
pub type RequestHeadersHandler<F> =
    fn(&F, &mut <F as Filter>::Stream, &mut RequestHeaders) -> Outcome;
/// [`OnRequestTrailers`], as a function.
pub type RequestTrailersHandler<F> =
    fn(&F, &mut <F as Filter>::Stream, &mut RequestTrailers) -> Outcome;
/// [`OnResponseHeaders`], as a function.
pub type ResponseHeadersHandler<F> =
    fn(&F, &mut <F as Filter>::Stream, &mut ResponseHeaders) -> Outcome;
/// [`OnResponseTrailers`], as a function.
pub type ResponseTrailersHandler<F> =
    fn(&F, &mut <F as Filter>::Stream, &mut ResponseTrailers) -> Result<(), ResetStream>;
/// [`OnLog`], as a function.
pub type LogHandler<F> = fn(&F, &mut <F as Filter>::Stream, &mut LoggedExchange);
/// [`OnConnection`], as a function.
pub type ConnectionHandler<F> = fn(&F, &mut <F as Filter>::Stream) -> Result<(), CloseConnection>;
/// [`OnDownstreamData`], as a function.
pub type DownstreamDataHandler<F> =
    fn(&F, &mut <F as Filter>::Stream, &mut DownstreamData) -> Result<(), CloseConnection>;
/// [`OnUpstreamData`], as a function.
pub type UpstreamDataHandler<F> =
    fn(&F, &mut <F as Filter>::Stream, &mut UpstreamData) -> Result<(), CloseConnection>;
/// [`OnDownstreamClose`] or [`OnUpstreamClose`], as a function.
pub type CloseHandler<F> = fn(&F, &mut <F as Filter>::Stream, PeerType);

/// [`OnExchange`], as a function that takes all that the handler needs, with what it has to do with
/// bodies.
pub type ExchangeHandler<F> =
    (fn(Rc<F>, Lent<<F as Filter>::Stream>, exchange::Request) -> Handler, Bodies);
/// [`InBackground`] or [`OnMessages`], as a function.
pub type BackgroundHandler<F> = fn(Rc<F>) -> Handler;

/// A filter whose phases are known: a type that a macro makes, since only where the type of the filter
/// is known can it be asked for its traits.
pub trait Handled: 'static {
    /// The filter.
    type Filter: Filter;
    /// Its phases.
    const HANDLERS: Handlers<Self::Filter>;
}

/// The phases of a filter.
pub struct Handlers<F: Filter> {
    /// [`OnRequestHeaders`].
    pub request_headers: Option<RequestHeadersHandler<F>>,
    /// [`OnRequestBody`] or [`OnRequestChunk`].
    pub request_body: BodyPhases<F, Request>,
    /// [`OnRequestTrailers`].
    pub request_trailers: Option<RequestTrailersHandler<F>>,
    /// [`OnResponseHeaders`].
    pub response_headers: Option<ResponseHeadersHandler<F>>,
    /// [`OnResponseBody`] or [`OnResponseChunk`].
    pub response_body: BodyPhases<F, Response>,
    /// [`OnResponseTrailers`].
    pub response_trailers: Option<ResponseTrailersHandler<F>>,
    /// [`OnConnection`].
    pub connection: Option<ConnectionHandler<F>>,
    /// [`OnDownstreamData`].
    pub downstream_data: Option<DownstreamDataHandler<F>>,
    /// [`OnUpstreamData`].
    pub upstream_data: Option<UpstreamDataHandler<F>>,
    /// [`OnDownstreamClose`].
    pub downstream_close: Option<CloseHandler<F>>,
    /// [`OnUpstreamClose`].
    pub upstream_close: Option<CloseHandler<F>>,
    /// [`OnLog`].
    pub log: Option<LogHandler<F>>,
    /// [`OnExchange`].
    pub exchange: Option<ExchangeHandler<F>>,
    /// [`InBackground`].
    pub background: Option<BackgroundHandler<F>>,
    /// [`OnMessages`].
    pub messages: Option<BackgroundHandler<F>>,
}

impl<F: Filter> Handlers<F> {
    /// The same phases, if there is one.
    ///
    /// # Panics
    ///
    /// While compiling, when there is none: such a filter would do nothing, and nobody would notice.
    #[must_use]
    pub const fn not_empty(self) -> Self {
        assert!(
            self.has_http()
                || self.has_tcp()
                || self.log.is_some()
                || self.exchange.is_some()
                || self.background.is_some()
                || self.messages.is_some(),
            "the filter has no phase; implement OnRequestHeaders, OnExchange, OnLog or another"
        );
        self
    }

    /// The same phases, if they can stand side by side.
    ///
    /// # Panics
    ///
    /// While compiling, when they cannot.
    #[must_use]
    pub const fn compatible(self) -> Self {
        assert!(
            !(self.has_http() && self.has_tcp()),
            "the filter has phases of HTTP and of TCP; make two filters of it"
        );
        assert!(
            !(self.exchange.is_some() && (self.has_http() || self.has_tcp())),
            "the filter follows exchanges; what its other handlers of requests and responses do \
             belongs into on_exchange"
        );
        assert!(
            !(self.background.is_some() && self.messages.is_some()),
            "the filter takes messages; what in_background does belongs into on_messages"
        );
        assert!(
            self.request_body.is_sound(),
            "the filter takes request bodies in two ways, or holds none of them; implement \
             OnRequestBody with MAX_BYTES above 0, or OnRequestChunk"
        );
        assert!(
            self.response_body.is_sound(),
            "the filter takes response bodies in two ways, or holds none of them; implement \
             OnResponseBody with MAX_BYTES above 0, or OnResponseChunk"
        );
        self
    }

    const fn has_http(&self) -> bool {
        self.request_headers.is_some()
            || self.request_body.is_wanted()
            || self.request_trailers.is_some()
            || self.response_headers.is_some()
            || self.response_body.is_wanted()
            || self.response_trailers.is_some()
    }

    const fn has_tcp(&self) -> bool {
        self.connection.is_some()
            || self.downstream_data.is_some()
            || self.upstream_data.is_some()
            || self.downstream_close.is_some()
            || self.upstream_close.is_some()
    }
}

/// Asks the type of a filter for its phases. A constant of `Probe` itself, which is there only if the
/// filter has the phase, comes before that of a trait.
pub struct Probe<F>(PhantomData<F>);

macro_rules! phases {
    ($( $phase:ident or $fallback:ident: $constant:ident: $handler:ty = $value:expr; )*) => { $(
        impl<F: $phase> Probe<F> {
            /// The phase of this filter.
            pub const $constant: Option<$handler> = Some($value);
        }

        /// What [`Probe`] finds in a filter without the phase.
        pub trait $fallback<F: Filter> {
            /// No phase.
            const $constant: Option<$handler> = None;
        }

        impl<F: Filter> $fallback<F> for Probe<F> {}
    )* };
}

phases! {
    OnRequestHeaders or NoRequestHeaders:
        REQUEST_HEADERS: RequestHeadersHandler<F> = F::on_request_headers;
    OnRequestBody or NoRequestBody:
        REQUEST_BODY: WholeBody<F, Request> =
        WholeBody { on: F::on_request_body, max_bytes: F::MAX_BYTES, resizes: F::RESIZES };
    OnRequestChunk or NoRequestChunk:
        REQUEST_CHUNKS: Chunks<F, Request> =
        Chunks { on: F::on_request_chunk, resizes: F::RESIZES };
    OnRequestTrailers or NoRequestTrailers:
        REQUEST_TRAILERS: RequestTrailersHandler<F> = F::on_request_trailers;
    OnResponseHeaders or NoResponseHeaders:
        RESPONSE_HEADERS: ResponseHeadersHandler<F> = F::on_response_headers;
    OnResponseBody or NoResponseBody:
        RESPONSE_BODY: WholeBody<F, Response> =
        WholeBody { on: F::on_response_body, max_bytes: F::MAX_BYTES, resizes: F::RESIZES };
    OnResponseChunk or NoResponseChunk:
        RESPONSE_CHUNKS: Chunks<F, Response> =
        Chunks { on: F::on_response_chunk, resizes: F::RESIZES };
    OnResponseTrailers or NoResponseTrailers:
        RESPONSE_TRAILERS: ResponseTrailersHandler<F> = F::on_response_trailers;
    OnConnection or NoConnection:
        CONNECTION: ConnectionHandler<F> = F::on_connection;
    OnDownstreamData or NoDownstreamData:
        DOWNSTREAM_DATA: DownstreamDataHandler<F> = F::on_downstream_data;
    OnUpstreamData or NoUpstreamData:
        UPSTREAM_DATA: UpstreamDataHandler<F> = F::on_upstream_data;
    OnDownstreamClose or NoDownstreamClose:
        DOWNSTREAM_CLOSE: CloseHandler<F> = F::on_downstream_close;
    OnUpstreamClose or NoUpstreamClose:
        UPSTREAM_CLOSE: CloseHandler<F> = F::on_upstream_close;
    OnLog or NoLog:
        LOG: LogHandler<F> = F::on_log;
}

impl<F: OnExchange> Probe<F> {
    /// The phase of this filter.
    pub const EXCHANGE: Option<ExchangeHandler<F>> = Some((follow::<F>, F::BODIES));
}

/// What [`Probe`] finds in a filter without the phase.
pub trait NoExchange<F: Filter> {
    /// No phase.
    const EXCHANGE: Option<ExchangeHandler<F>> = None;
}

impl<F: Filter> NoExchange<F> for Probe<F> {}

fn follow<F: OnExchange>(
    filter: Rc<F>,
    mut stream: Lent<F::Stream>,
    request: exchange::Request,
) -> Handler {
    Box::pin(async move { filter.on_exchange(stream.state(), request).await })
}

impl<F: InBackground> Probe<F> {
    /// The phase of this filter.
    pub const BACKGROUND: Option<BackgroundHandler<F>> = Some(begin::<F>);
}

/// What [`Probe`] finds in a filter without the phase.
pub trait NoBackground<F: Filter> {
    /// No phase.
    const BACKGROUND: Option<BackgroundHandler<F>> = None;
}

impl<F: Filter> NoBackground<F> for Probe<F> {}

fn begin<F: InBackground>(filter: Rc<F>) -> Handler {
    Box::pin(async move {
        filter.in_background().await;
        Ok(())
    })
}

impl<F: OnMessages> Probe<F> {
    /// The phase of this filter.
    pub const MESSAGES: Option<BackgroundHandler<F>> = Some(receive::<F>);
}

/// What [`Probe`] finds in a filter without the phase.
pub trait NoMessages<F: Filter> {
    /// No phase.
    const MESSAGES: Option<BackgroundHandler<F>> = None;
}

impl<F: Filter> NoMessages<F> for Probe<F> {}

fn receive<F: OnMessages>(filter: Rc<F>) -> Handler {
    Box::pin(async move {
        filter.on_messages(Inbox::new()).await;
        Ok(())
    })
}

/// A filter, configured.
pub struct Single<H: Handled>(Rc<H::Filter>);

impl<H: Handled> Clone for Single<H> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<H: Handled> Single<H> {
    const REQUEST_BODY: BodyPhases<H::Filter, Request> = H::HANDLERS.request_body;
    const RESPONSE_BODY: BodyPhases<H::Filter, Response> = H::HANDLERS.response_body;
}

impl<H: Handled> Plugin for Single<H> {
    const PHASES: Phases = {
        let (requests, responses) =
            (Self::REQUEST_BODY.is_wanted(), Self::RESPONSE_BODY.is_wanted());
        Phases {
            request_headers: H::HANDLERS.request_headers.is_some() || requests,
            request_body: requests,
            request_trailers: H::HANDLERS.request_trailers.is_some() || requests,
            response_headers: H::HANDLERS.response_headers.is_some() || responses,
            response_body: responses,
            response_trailers: H::HANDLERS.response_trailers.is_some() || responses,
            connection: H::HANDLERS.connection.is_some(),
            downstream_data: H::HANDLERS.downstream_data.is_some(),
            upstream_data: H::HANDLERS.upstream_data.is_some(),
            downstream_close: H::HANDLERS.downstream_close.is_some(),
            upstream_close: H::HANDLERS.upstream_close.is_some(),
            log: H::HANDLERS.log.is_some(),
            exchange: match H::HANDLERS.exchange {
                Some((_, bodies)) => Some(bodies),
                None => None,
            },
            holds_request: Self::REQUEST_BODY.whole.is_some(),
            holds_response: Self::RESPONSE_BODY.whole.is_some(),
            flows: H::HANDLERS.exchange.is_some(),
            headers_alone: matches!(H::HANDLERS.exchange, Some((_, Bodies::WithHeaders))),
            background: H::HANDLERS.background.is_some() || H::HANDLERS.messages.is_some(),
            messages: H::HANDLERS.messages.is_some(),
        }
    };
    // A value without a byte is like any other. What a task waits for belongs to its root.
    const IS_ALIKE: bool = size_of::<H::Filter>() == 0
        && !std::mem::needs_drop::<H::Filter>()
        && !Self::KEEPS_STREAMS
        && !Self::PHASES.has_tasks();
    type Stream = <H::Filter as Filter>::Stream;

    fn configure(config: &Document, _: &Root) -> Result<Self, ConfigureError> {
        let root = Root::new(H::Filter::STATS_TAGS);
        let filter = H::Filter::configure(config.read()?, &root)?;
        root.judge(Self(Rc::new(filter)))
    }

    fn stats_tags(names: &mut BTreeSet<&'static str>) {
        names.extend(H::Filter::STATS_TAGS.names());
    }

    fn schema_name() -> Cow<'static, str> {
        <H::Filter as Filter>::Config::schema_name()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        <H::Filter as Filter>::Config::json_schema(generator)
    }

    fn subschema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<<H::Filter as Filter>::Config>()
    }

    fn on_request_headers(
        &self,
        stream: &mut Self::Stream,
        request: &mut RequestHeaders,
    ) -> Outcome {
        if let Some(on) = const { H::HANDLERS.request_headers } {
            on(&self.0, stream, request)?;
        }
        if const { Self::REQUEST_BODY.is_wanted() } {
            return const { &Self::REQUEST_BODY }.after_headers(&self.0, stream, request);
        }
        Ok(())
    }

    fn on_request_body(
        &self,
        stream: &mut Self::Stream,
        part: Part,
    ) -> Result<Passage, LocalReply> {
        if const { Self::REQUEST_BODY.is_wanted() } {
            return const { &Self::REQUEST_BODY }.on_part(&self.0, stream, part);
        }
        Ok(Passage::Open(part.window.len))
    }

    fn before_request_trailers(
        &self,
        stream: &mut Self::Stream,
        held: Option<Window>,
    ) -> Result<usize, LocalReply> {
        if const { Self::REQUEST_BODY.is_wanted() } {
            return const { &Self::REQUEST_BODY }.before_trailers(&self.0, stream, held);
        }
        Ok(held.map_or(0, |held| held.len))
    }

    fn on_request_trailers(
        &self,
        stream: &mut Self::Stream,
        trailers: &mut RequestTrailers,
    ) -> Outcome {
        const { H::HANDLERS.request_trailers }.map_or(Ok(()), |on| on(&self.0, stream, trailers))
    }

    fn on_response_headers(
        &self,
        stream: &mut Self::Stream,
        response: &mut ResponseHeaders,
    ) -> Outcome {
        if let Some(on) = const { H::HANDLERS.response_headers } {
            on(&self.0, stream, response)?;
        }
        if const { Self::RESPONSE_BODY.is_wanted() } {
            return const { &Self::RESPONSE_BODY }.after_headers(&self.0, stream, response);
        }
        Ok(())
    }

    fn on_response_body(
        &self,
        stream: &mut Self::Stream,
        part: Part,
    ) -> Result<Passage, ResetStream> {
        if const { Self::RESPONSE_BODY.is_wanted() } {
            return const { &Self::RESPONSE_BODY }.on_part(&self.0, stream, part);
        }
        Ok(Passage::Open(part.window.len))
    }

    fn before_response_trailers(
        &self,
        stream: &mut Self::Stream,
        held: Option<Window>,
    ) -> Result<usize, ResetStream> {
        if const { Self::RESPONSE_BODY.is_wanted() } {
            return const { &Self::RESPONSE_BODY }.before_trailers(&self.0, stream, held);
        }
        Ok(held.map_or(0, |held| held.len))
    }

    fn on_response_trailers(
        &self,
        stream: &mut Self::Stream,
        trailers: &mut ResponseTrailers,
    ) -> Result<(), ResetStream> {
        const { H::HANDLERS.response_trailers }.map_or(Ok(()), |on| on(&self.0, stream, trailers))
    }

    fn on_connection(&self, connection: &mut Self::Stream) -> Result<(), CloseConnection> {
        const { H::HANDLERS.connection }.map_or(Ok(()), |on| on(&self.0, connection))
    }

    fn on_downstream_data(
        &self,
        connection: &mut Self::Stream,
        data: &mut DownstreamData,
    ) -> Result<(), CloseConnection> {
        const { H::HANDLERS.downstream_data }.map_or(Ok(()), |on| on(&self.0, connection, data))
    }

    fn on_upstream_data(
        &self,
        connection: &mut Self::Stream,
        data: &mut UpstreamData,
    ) -> Result<(), CloseConnection> {
        const { H::HANDLERS.upstream_data }.map_or(Ok(()), |on| on(&self.0, connection, data))
    }

    fn on_downstream_close(&self, connection: &mut Self::Stream, by: PeerType) {
        if let Some(on) = const { H::HANDLERS.downstream_close } {
            on(&self.0, connection, by);
        }
    }

    fn on_upstream_close(&self, connection: &mut Self::Stream, by: PeerType) {
        if let Some(on) = const { H::HANDLERS.upstream_close } {
            on(&self.0, connection, by);
        }
    }

    fn follow(&self, exchange: Rc<Exchange>, request: exchange::Request) -> Option<Handler> {
        let (follow, _) = const { H::HANDLERS.exchange }?;
        Some(follow(Rc::clone(&self.0), Lent::new(Self::Stream::default(), exchange), request))
    }

    fn regain(&self, stream: &mut Self::Stream, exchange: &Exchange) {
        if let Some(state) = exchange.take_state() {
            *stream = state;
        }
    }

    fn in_background(&self) -> Option<Handler> {
        let begin = const { H::HANDLERS.background }.or(const { H::HANDLERS.messages })?;
        Some(begin(Rc::clone(&self.0)))
    }

    fn on_log(&self, stream: &mut Self::Stream, exchange: &mut LoggedExchange) {
        if let Some(on) = const { H::HANDLERS.log } {
            on(&self.0, stream, exchange);
        }
    }
}
