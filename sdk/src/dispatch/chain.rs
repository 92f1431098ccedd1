//! Several filters in one module that run one after the other.
//!
//! Here stand chains of which no filter holds anything, for which one call of each phase is all there is.
//! Where one holds bodies or has an asynchronous handler, `runtime::flow` carries streams through.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Poll;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};
use tollgate_abi::PeerType;

use super::single::{Handled, Single};
use super::{Phases, Plugin};
use crate::body::{DownstreamData, UpstreamData};
use crate::config::Document;
use crate::ending::{CloseConnection, ResetStream};
use crate::filter::{ConfigureError, Filter, Outcome};
use crate::live::{
    LoggedExchange, RequestHeaders, RequestTrailers, ResponseHeaders, ResponseTrailers,
};
use crate::root::Root;
use crate::runtime::{Handler, Link};

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
    /// The first has refused the request or the connection, which the rest has never seen.
    is_refused: bool,
    /// The rest knows that the upstream's side is closed.
    is_closed: bool,
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
    const PHASES: Phases = Single::<H>::PHASES.then(B::PHASES);
    // A response must not meet filters that have not seen its request, nor the end of a connection those
    // that have not seen its beginning.
    const KEEPS_STREAMS: bool = Self::PHASES.flows
        || Single::<H>::KEEPS_STREAMS
        || B::KEEPS_STREAMS
        || Single::<H>::PHASES.request_headers && B::PHASES.has_response()
        || Single::<H>::PHASES.connection && B::PHASES.has_tcp()
        || Self::PHASES.upstream_data && B::PHASES.upstream_close;
    const IS_ALIKE: bool = Single::<H>::IS_ALIKE && B::IS_ALIKE && !Self::KEEPS_STREAMS;
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

    fn stats_tags(names: &mut BTreeSet<&'static str>) {
        Single::<H>::stats_tags(names);
        B::stats_tags(names);
    }

    fn on_request_headers(
        &self,
        stream: &mut Self::Stream,
        request: &mut RequestHeaders,
    ) -> Outcome {
        let outcome = self.first.on_request_headers(&mut stream.first, request);
        stream.is_refused = outcome.is_err();
        outcome?;
        self.rest.on_request_headers(&mut stream.rest, request)
    }

    fn on_response_headers(
        &self,
        stream: &mut Self::Stream,
        response: &mut ResponseHeaders,
    ) -> Outcome {
        if !stream.is_refused {
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
        if !stream.is_refused {
            self.rest.on_response_trailers(&mut stream.rest, trailers)?;
        }
        self.first.on_response_trailers(&mut stream.first, trailers)
    }

    fn on_connection(&self, stream: &mut Self::Stream) -> Result<(), CloseConnection> {
        let outcome = self.first.on_connection(&mut stream.first);
        stream.is_refused = outcome.is_err();
        outcome?;
        self.rest.on_connection(&mut stream.rest)
    }

    fn on_downstream_data(
        &self,
        stream: &mut Self::Stream,
        data: &mut DownstreamData,
    ) -> Result<(), CloseConnection> {
        self.first.on_downstream_data(&mut stream.first, data)?;
        self.rest.on_downstream_data(&mut stream.rest, data)
    }

    fn on_upstream_data(
        &self,
        stream: &mut Self::Stream,
        data: &mut UpstreamData,
    ) -> Result<(), CloseConnection> {
        self.rest.on_upstream_data(&mut stream.rest, data)?;
        if data.is_last() && const { B::PHASES.upstream_close } {
            // Envoy tells a filter so before the next one has the last bytes.
            stream.is_closed = true;
            self.rest.on_upstream_close(&mut stream.rest, PeerType::NotKnown);
        }
        self.first.on_upstream_data(&mut stream.first, data)
    }

    fn on_downstream_close(&self, stream: &mut Self::Stream, by: PeerType) {
        self.first.on_downstream_close(&mut stream.first, by);
        if !stream.is_refused {
            self.rest.on_downstream_close(&mut stream.rest, by);
        }
    }

    fn on_upstream_close(&self, stream: &mut Self::Stream, by: PeerType) {
        if !stream.is_refused && !stream.is_closed {
            self.rest.on_upstream_close(&mut stream.rest, by);
        }
        self.first.on_upstream_close(&mut stream.first, by);
    }

    fn links(&self) -> Vec<Box<dyn Link>> {
        let mut links = self.first.links();
        links.append(&mut self.rest.links());
        links
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
    const IS_ALIKE: bool = true;
    type Stream = ();

    fn links(&self) -> Vec<Box<dyn Link>> {
        Vec::new()
    }

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
