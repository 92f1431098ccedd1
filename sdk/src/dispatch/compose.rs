//! Several filters in one module: one of them by the root id, or all of them as a chain.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;
use std::task::Poll;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use tollgate_abi::PeerType;

use super::bodies::{Part, Passage};
use super::single::{Handled, Single};
use super::{Phases, Plugin};
use crate::body::{DownstreamData, UpstreamData};
use crate::config::Document;
use crate::ending::{CloseConnection, ResetStream};
use crate::exchange::Request;
use crate::filter::{ConfigureError, Filter, Outcome};
use crate::live::{
    LoggedExchange, RequestHeaders, RequestTrailers, ResponseHeaders, ResponseTrailers,
};
use crate::reply::LocalReply;
use crate::root::Root;
use crate::runtime::{Exchange, Handler};

/// The place of a filter in a module: counted as a type, since a macro cannot count.
pub struct First;
/// The place after another.
pub struct Next<I>(PhantomData<I>);

/// A filter that is chosen by a root id.
pub trait Rooted: Handled {
    /// The root id.
    const ROOT_ID: &'static str;
}

/// The filter of one root id, or one of others.
#[derive(Clone)]
pub enum OneOf<A, B> {
    /// The filter.
    This(A),
    /// Another.
    Other(B),
}

/// No filter: the end of a list.
#[derive(Clone)]
pub enum Nothing {}

/// A list of filters of which a root id chooses one.
pub trait Choice: Plugin {
    /// Makes the filter of a root id; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`ConfigureError`] when there is one, and none with this configuration.
    fn choose(
        root_id: &[u8],
        config: &Document,
        root: &Root,
    ) -> Result<Option<Self>, ConfigureError>;

    /// Appends the root ids of the list.
    fn list(root_ids: &mut Vec<&'static str>);

    /// Appends the schemas of the configurations.
    fn schemas(generator: &mut SchemaGenerator, schemas: &mut Vec<Schema>);
}

/// What is kept per stream of one of several filters.
pub struct OneStream<A, B> {
    this: Option<A>,
    other: Option<B>,
}

impl<A, B> Default for OneStream<A, B> {
    fn default() -> Self {
        Self { this: None, other: None }
    }
}

impl<H: Rooted, B: Choice> Choice for OneOf<Single<H>, B> {
    fn choose(
        root_id: &[u8],
        config: &Document,
        root: &Root,
    ) -> Result<Option<Self>, ConfigureError> {
        if root_id == H::ROOT_ID.as_bytes() {
            return Single::configure(config, root).map(|this| Some(Self::This(this)));
        }
        Ok(B::choose(root_id, config, root)?.map(Self::Other))
    }

    fn list(root_ids: &mut Vec<&'static str>) {
        root_ids.push(H::ROOT_ID);
        B::list(root_ids);
    }

    fn schemas(generator: &mut SchemaGenerator, schemas: &mut Vec<Schema>) {
        schemas.push(generator.subschema_for::<<H::Filter as Filter>::Config>());
        B::schemas(generator, schemas);
    }
}

impl Choice for Nothing {
    fn choose(_: &[u8], _: &Document, _: &Root) -> Result<Option<Self>, ConfigureError> {
        Ok(None)
    }

    fn list(_: &mut Vec<&'static str>) {}

    fn schemas(_: &mut SchemaGenerator, _: &mut Vec<Schema>) {}
}

/// Hands each phase to the filter that was chosen.
macro_rules! chosen {
    ($self:ident, $stream:ident, $plugin:ident, $state:ident => $call:expr) => {
        match $self {
            Self::This($plugin) => {
                let $state = $stream.this.get_or_insert_default();
                $call
            }
            Self::Other($plugin) => {
                let $state = $stream.other.get_or_insert_default();
                $call
            }
        }
    };
}

impl<H: Rooted, B: Choice> Plugin for OneOf<Single<H>, B> {
    const PHASES: Phases = Single::<H>::PHASES.or(B::PHASES);
    const KEEPS_STREAMS: bool = Single::<H>::KEEPS_STREAMS || B::KEEPS_STREAMS;
    type Stream = OneStream<<H::Filter as Filter>::Stream, B::Stream>;

    fn configure(config: &Document, root: &Root) -> Result<Self, ConfigureError> {
        let root_id = root.property(&["plugin_root_id"])?.unwrap_or_default();
        if let Some(chosen) = Self::choose(&root_id, config, root)? {
            return Ok(chosen);
        }
        let mut known = Vec::new();
        Self::list(&mut known);
        let root_id = String::from_utf8_lossy(&root_id).into_owned();
        Err(ConfigureError::UnknownRootId { root_id, known })
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schemas = Vec::new();
        Self::schemas(generator, &mut schemas);
        json_schema!({ "anyOf": schemas })
    }

    fn on_request_headers(
        &self,
        stream: &mut Self::Stream,
        request: &mut RequestHeaders,
    ) -> Outcome {
        chosen!(self, stream, plugin, state => plugin.on_request_headers(state, request))
    }

    fn on_response_headers(
        &self,
        stream: &mut Self::Stream,
        response: &mut ResponseHeaders,
    ) -> Outcome {
        chosen!(self, stream, plugin, state => plugin.on_response_headers(state, response))
    }

    fn on_request_body(
        &self,
        stream: &mut Self::Stream,
        part: Part,
    ) -> Result<Passage, LocalReply> {
        chosen!(self, stream, plugin, state => plugin.on_request_body(state, part))
    }

    fn on_request_trailers(
        &self,
        stream: &mut Self::Stream,
        trailers: &mut RequestTrailers,
    ) -> Outcome {
        chosen!(self, stream, plugin, state => plugin.on_request_trailers(state, trailers))
    }

    fn on_response_body(
        &self,
        stream: &mut Self::Stream,
        part: Part,
    ) -> Result<Passage, ResetStream> {
        chosen!(self, stream, plugin, state => plugin.on_response_body(state, part))
    }

    fn on_response_trailers(
        &self,
        stream: &mut Self::Stream,
        trailers: &mut ResponseTrailers,
    ) -> Result<(), ResetStream> {
        chosen!(self, stream, plugin, state => plugin.on_response_trailers(state, trailers))
    }

    fn on_connection(&self, stream: &mut Self::Stream) -> Result<(), CloseConnection> {
        chosen!(self, stream, plugin, state => plugin.on_connection(state))
    }

    fn on_downstream_data(
        &self,
        stream: &mut Self::Stream,
        data: &mut DownstreamData,
    ) -> Result<(), CloseConnection> {
        chosen!(self, stream, plugin, state => plugin.on_downstream_data(state, data))
    }

    fn on_upstream_data(
        &self,
        stream: &mut Self::Stream,
        data: &mut UpstreamData,
    ) -> Result<(), CloseConnection> {
        chosen!(self, stream, plugin, state => plugin.on_upstream_data(state, data))
    }

    fn on_downstream_close(&self, stream: &mut Self::Stream, by: PeerType) {
        chosen!(self, stream, plugin, state => plugin.on_downstream_close(state, by));
    }

    fn on_upstream_close(&self, stream: &mut Self::Stream, by: PeerType) {
        chosen!(self, stream, plugin, state => plugin.on_upstream_close(state, by));
    }

    fn phases(&self) -> Phases {
        match self {
            Self::This(this) => this.phases(),
            Self::Other(other) => other.phases(),
        }
    }

    fn follow(&self, exchange: Rc<Exchange>, request: Request) -> Option<Handler> {
        match self {
            Self::This(this) => this.follow(exchange, request),
            Self::Other(other) => other.follow(exchange, request),
        }
    }

    fn regain(&self, stream: &mut Self::Stream, exchange: &Exchange) {
        chosen!(self, stream, plugin, state => plugin.regain(state, exchange));
    }

    fn in_background(&self) -> Option<Handler> {
        match self {
            Self::This(this) => this.in_background(),
            Self::Other(other) => other.in_background(),
        }
    }

    fn on_log(&self, stream: &mut Self::Stream, exchange: &mut LoggedExchange) {
        chosen!(self, stream, plugin, state => plugin.on_log(state, exchange));
    }
}

/// There is no value of it: nothing is ever called.
impl Plugin for Nothing {
    const PHASES: Phases = Phases::NONE;
    type Stream = ();

    fn configure(_: &Document, _: &Root) -> Result<Self, ConfigureError> {
        Err(ConfigureError::UnknownRootId { root_id: String::new(), known: Vec::new() })
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        Schema::default()
    }
}

/// A filter and those after it, as a proxy would run them: requests go from the first to the last,
/// responses from the last to the first.
#[derive(Clone)]
pub struct Chain<A, B> {
    first: A,
    rest: B,
}

/// The end of a chain.
#[derive(Clone)]
pub struct End;

/// A chain of filters, each with its part of the configuration.
pub trait Links: Plugin {
    /// Makes the filters from their parts, by the name of each.
    ///
    /// # Errors
    ///
    /// [`ConfigureError`] of the first that there cannot be.
    fn link(parts: &mut Parts, root: &Root) -> Result<Self, ConfigureError>;

    /// Appends the names of the filters.
    fn list(names: &mut Vec<&'static str>);

    /// Enters the schema of each part.
    fn schemas(generator: &mut SchemaGenerator, parts: &mut Map<String, Value>);
}

/// The parts of a chain's configuration by the names of its filters.
type Parts = BTreeMap<String, Document>;

/// What is kept per stream of a chain.
#[derive(Default)]
pub struct ChainStream<A, B> {
    first: A,
    rest: B,
    /// The request has come to the rest.
    reached: bool,
}

impl<H: Handled, B: Links> Links for Chain<Single<H>, B> {
    fn link(parts: &mut Parts, root: &Root) -> Result<Self, ConfigureError> {
        let name = H::Filter::NAME;
        let part = parts.remove(name).unwrap_or_else(Document::empty);
        let first = Single::configure(&part, root).map_err(|error| error.within(name))?;
        Ok(Self { first, rest: B::link(parts, root)? })
    }

    fn list(names: &mut Vec<&'static str>) {
        names.push(H::Filter::NAME);
        B::list(names);
    }

    fn schemas(generator: &mut SchemaGenerator, parts: &mut Map<String, Value>) {
        let schema = generator.subschema_for::<<H::Filter as Filter>::Config>();
        parts.insert(H::Filter::NAME.to_owned(), schema.to_value());
        B::schemas(generator, parts);
    }
}

impl Links for End {
    fn link(_: &mut Parts, _: &Root) -> Result<Self, ConfigureError> {
        Ok(Self)
    }

    fn list(_: &mut Vec<&'static str>) {}

    fn schemas(_: &mut SchemaGenerator, _: &mut Map<String, Value>) {}
}

impl<H: Handled, B: Links> Plugin for Chain<Single<H>, B> {
    const PHASES: Phases = {
        assert!(
            Single::<H>::PHASES.exchange.is_none(),
            "a filter that follows exchanges cannot be a part of a chain in one module"
        );
        assert!(
            !(Single::<H>::PHASES.request_body || Single::<H>::PHASES.response_body),
            "a filter that takes bodies cannot be a part of a chain in one module"
        );
        assert!(
            !Single::<H>::PHASES.has_tcp(),
            "a filter of TCP cannot be a part of a chain in one module"
        );
        Single::<H>::PHASES.or(B::PHASES)
    };
    // A response must not meet filters that have not seen its request.
    const KEEPS_STREAMS: bool = Single::<H>::KEEPS_STREAMS
        || B::KEEPS_STREAMS
        || B::PHASES.response_headers
        || B::PHASES.response_trailers;
    type Stream = ChainStream<<H::Filter as Filter>::Stream, B::Stream>;

    fn configure(config: &Document, root: &Root) -> Result<Self, ConfigureError> {
        let mut parts = config.clone().fields()?;
        let chain = Self::link(&mut parts, root)?;
        match parts.into_keys().next() {
            None => Ok(chain),
            Some(unknown) => {
                let mut known = Vec::new();
                Self::list(&mut known);
                Err(ConfigureError::NotInChain { name: unknown, known })
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let mut parts = Map::new();
        Self::schemas(generator, &mut parts);
        json_schema!({ "type": "object", "properties": parts, "additionalProperties": false })
    }

    fn on_request_headers(
        &self,
        stream: &mut Self::Stream,
        request: &mut RequestHeaders,
    ) -> Outcome {
        self.first.on_request_headers(&mut stream.first, request)?;
        stream.reached = true;
        self.rest.on_request_headers(&mut stream.rest, request)
    }

    fn on_response_headers(
        &self,
        stream: &mut Self::Stream,
        response: &mut ResponseHeaders,
    ) -> Outcome {
        if stream.reached {
            self.rest.on_response_headers(&mut stream.rest, response)?;
        }
        self.first.on_response_headers(&mut stream.first, response)
    }

    fn on_request_trailers(
        &self,
        stream: &mut Self::Stream,
        trailers: &mut RequestTrailers,
    ) -> Outcome {
        self.first.on_request_trailers(&mut stream.first, trailers)?;
        self.rest.on_request_trailers(&mut stream.rest, trailers)
    }

    fn on_response_trailers(
        &self,
        stream: &mut Self::Stream,
        trailers: &mut ResponseTrailers,
    ) -> Result<(), ResetStream> {
        if stream.reached {
            self.rest.on_response_trailers(&mut stream.rest, trailers)?;
        }
        self.first.on_response_trailers(&mut stream.first, trailers)
    }

    fn in_background(&self) -> Option<Handler> {
        match (self.first.in_background(), self.rest.in_background()) {
            (Some(first), Some(rest)) => Some(both(first, rest)),
            (one, other) => one.or(other),
        }
    }

    fn on_log(&self, stream: &mut Self::Stream, exchange: &mut LoggedExchange) {
        self.first.on_log(&mut stream.first, exchange);
        self.rest.on_log(&mut stream.rest, exchange);
    }
}

impl Plugin for End {
    const PHASES: Phases = Phases::NONE;
    type Stream = ();

    fn configure(_: &Document, _: &Root) -> Result<Self, ConfigureError> {
        Ok(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        Schema::default()
    }
}

/// Runs both to their ends.
fn both(first: Handler, rest: Handler) -> Handler {
    let (mut first, mut rest) = (Some(first), Some(rest));
    Box::pin(std::future::poll_fn(move |context| {
        for handler in [&mut first, &mut rest] {
            if let Some(running) = handler
                && running.as_mut().poll(context).is_ready()
            {
                *handler = None;
            }
        }
        if first.is_none() && rest.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }))
}
