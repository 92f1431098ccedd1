//! Several filters or chains in one module, of which the root id chooses one.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use schemars::{Schema, SchemaGenerator, json_schema};
use tollgate_abi::PeerType;

use super::bodies::{Part, Passage};
use super::{Phases, Plugin};
use crate::body::{DownstreamData, UpstreamData};
use crate::config::Document;
use crate::ending::{CloseConnection, ResetStream};
use crate::filter::{ConfigureError, Outcome};
use crate::live::{
    LoggedExchange, RequestHeaders, RequestTrailers, ResponseHeaders, ResponseTrailers,
};
use crate::reply::LocalReply;
use crate::root::Root;
use crate::runtime::{Handler, Link};
use crate::window::Window;

/// The place of a filter in a module: counted as a type, since a macro cannot count.
pub struct First;
/// The place after another.
pub struct Next<I>(PhantomData<I>);

/// A filter or a chain that is chosen by a root id.
pub trait Rooted: 'static {
    /// The root id.
    const ROOT_ID: &'static str;
    /// What runs.
    type Plugin: Plugin;
}

/// What one root id stands for, or one of others.
pub enum OneOf<R: Rooted, B> {
    /// That of the root id.
    This(R::Plugin),
    /// Another.
    Other(B),
}

impl<R: Rooted, B: Clone> Clone for OneOf<R, B> {
    fn clone(&self) -> Self {
        match self {
            Self::This(this) => Self::This(this.clone()),
            Self::Other(other) => Self::Other(other.clone()),
        }
    }
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

impl<R: Rooted, B: Choice> Choice for OneOf<R, B> {
    fn choose(
        root_id: &[u8],
        config: &Document,
        root: &Root,
    ) -> Result<Option<Self>, ConfigureError> {
        if root_id == R::ROOT_ID.as_bytes() {
            return R::Plugin::configure(config, root).map(|this| Some(Self::This(this)));
        }
        Ok(B::choose(root_id, config, root)?.map(Self::Other))
    }

    fn list(root_ids: &mut Vec<&'static str>) {
        root_ids.push(R::ROOT_ID);
        B::list(root_ids);
    }

    fn schemas(generator: &mut SchemaGenerator, schemas: &mut Vec<Schema>) {
        schemas.push(R::Plugin::subschema(generator));
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

impl<R: Rooted, B: Choice> Plugin for OneOf<R, B> {
    const PHASES: Phases = R::Plugin::PHASES.or(B::PHASES);
    const KEEPS_STREAMS: bool = R::Plugin::KEEPS_STREAMS || B::KEEPS_STREAMS;
    type Stream = OneStream<<R::Plugin as Plugin>::Stream, B::Stream>;

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

    fn stats_tags(names: &mut BTreeSet<&'static str>) {
        R::Plugin::stats_tags(names);
        B::stats_tags(names);
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

    fn before_request_trailers(
        &self,
        stream: &mut Self::Stream,
        held: Option<Window>,
    ) -> Result<usize, LocalReply> {
        chosen!(self, stream, plugin, state => plugin.before_request_trailers(state, held))
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

    fn before_response_trailers(
        &self,
        stream: &mut Self::Stream,
        held: Option<Window>,
    ) -> Result<usize, ResetStream> {
        chosen!(self, stream, plugin, state => plugin.before_response_trailers(state, held))
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

    fn links(&self) -> Vec<Box<dyn Link>> {
        match self {
            Self::This(this) => this.links(),
            Self::Other(other) => other.links(),
        }
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
