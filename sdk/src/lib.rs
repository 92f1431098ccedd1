//! An SDK for Proxy-Wasm filters that cannot take the proxy down.
//!
//! A filter is a value: [`Filter::configure`] makes one per worker from a typed configuration, and
//! small traits say which phases it takes part in: [`OnRequestHeaders`], [`OnRequestBody`] or
//! [`OnRequestChunk`], [`OnRequestTrailers`], their likes for responses, and [`OnLog`]; or those of TCP,
//! from [`OnConnection`] on. [`export!`] makes a module of it that exports those phases and no others.
//!
//! Nothing that a client or a host sends makes a filter panic: header values are bytes, and every
//! host call gives a `Result` ([`HostError`]) for every status, listed in the ABI or not.
//!
//! What the proxy knows of a stream is read by type ([`attributes`]), what it can do beyond the ABI is
//! called by type ([`foreign`]).
//! With the feature `testing`, `testing::Proxy` runs a filter in `cargo test`, without WebAssembly.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::unreachable,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod attributes;
pub mod callout;
pub mod config;
pub mod exchange;
pub mod filter_state;
pub mod foreign;
pub mod headers;
pub mod matching;
pub mod metrics;
pub mod mode;
pub mod protobuf;
pub mod shared_data;
pub mod state;
#[cfg(feature = "testing")]
pub mod testing;

mod body;
mod body_phases;
mod connection;
mod dispatch;
mod ending;
mod export;
mod filter;
mod header_name;
mod host;
mod host_error;
mod live;
mod logging;
mod reply;
mod root;
mod runtime;

pub use body::{
    BodyError, BodyView, Buffered, DownstreamData, RequestBody, RequestChunk, ResponseBody,
    ResponseChunk, UpstreamData,
};
pub use body_phases::{OnRequestBody, OnRequestChunk, OnResponseBody, OnResponseChunk};
pub use connection::{
    OnConnection, OnDownstreamClose, OnDownstreamData, OnUpstreamClose, OnUpstreamData,
};
pub use dispatch::Registration;
pub use ending::{CloseConnection, ResetStream};
pub use exchange::{OnExchange, Request, Response};
pub use filter::{
    ConfigureError, Filter, InBackground, OnLog, OnRequestHeaders, OnRequestTrailers,
    OnResponseHeaders, OnResponseTrailers, Outcome,
};
pub use header_name::{HeaderName, InvalidHeaderName};
pub use headers::Headers;
pub use host_error::HostError;
pub use live::{
    EditError, HeaderMap, LoggedExchange, MessageHeaders, RequestHeaders, RequestTrailers,
    ResponseHeaders, ResponseTrailers,
};
pub use log;
pub use metrics::{Counter, Gauge, Histogram};
pub use reply::{InvalidStatusCode, LocalReply, StatusCode};
pub use root::{Clock, Root};
pub use runtime::{Elapsed, Sleep, sleep, timeout};
pub use shared_data::SharedData;
pub use tollgate_abi::{Callback, CallbackKind, Function, PeerType, Status};

#[doc(hidden)]
pub mod __private {
    //! What the macros expand to. Not for use by hand.

    pub use crate::dispatch::bodies::{
        BodyHandler, BodyPhases, ChunkHandler, Chunks, Part, Passage, WholeBody,
    };
    pub use crate::dispatch::single::*;
    pub use crate::dispatch::{
        Chain, End, First, Instance, Kept, Module, Next, Nothing, OneOf, Phases, Plugin, Rooted,
        call, callbacks as list_callbacks, initialize, needs, registration,
    };
    pub use crate::export::{Word, bytes, list, list_size};
    pub use tollgate_abi::callbacks;

    /// The context of the task that is being polled.
    pub fn running() -> Option<u32> {
        crate::runtime::running().map(|task| task.context)
    }

    /// Where the module has the schema of its configuration.
    pub fn schema<P: Plugin>() -> u64 {
        crate::config::schema_in_memory::<crate::dispatch::Configuration<P>>()
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct RepositoryReadme;
