//! An SDK for Proxy-Wasm filters that cannot take the proxy down.
//!
//! A filter is a value: [`Filter::configure`] makes one per worker from a typed configuration, and
//! small traits say which phases it takes part in: [`OnRequestHeaders`], [`OnRequestBody`] or
//! [`OnRequestChunk`], [`OnRequestTrailers`], their likes for responses, and [`OnLog`]; or [`OnExchange`],
//! which follows request and response with one asynchronous function; or the phases of TCP, from
//! [`OnConnection`] on. [`export!`] makes a module of it that exports those phases and no others.
//!
//! ```
//! # use tollgate_host_native as _;
//! use tollgate::callout::HttpCall;
//! use tollgate::config::NoConfig;
//! use tollgate::{
//!     ConfigureError, Filter, LocalReply, OnExchange, Outcome, Request, Root, StatusCode,
//! };
//!
//! /// Lets a request pass when the cluster `authz` says so.
//! struct Asking;
//!
//! impl Filter for Asking {
//!     const NAME: &'static str = "asking";
//!     type Config = NoConfig;
//!     type Stream = ();
//!
//!     fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> {
//!         Ok(Self)
//!     }
//! }
//!
//! impl OnExchange for Asking {
//!     async fn on_exchange(&self, (): &mut (), mut request: Request) -> Outcome {
//!         let Ok(user) = request.read()?.exactly_one("x-user").map(<[u8]>::to_vec) else {
//!             return Err(LocalReply::new(StatusCode::UNAUTHORIZED));
//!         };
//!         let verdict = HttpCall::get("authz", "/check").header("x-user", user).send().await?;
//!         if !verdict.is_success() {
//!             return Err(LocalReply::new(StatusCode::FORBIDDEN));
//!         }
//!         let mut response = request.send().await;
//!         response.set("x-checked", "yes")?;
//!         Ok(())
//!     }
//! }
//!
//! // In the module: tollgate::export!(Asking); and in a test:
//! let callbacks = (tollgate::registration!(Asking).callbacks)();
//! assert!(callbacks.iter().any(|callback| callback.name() == "proxy_on_http_call_response"));
//! assert!(!callbacks.iter().any(|callback| callback.name() == "proxy_on_new_connection"));
//! ```
//!
//! Nothing that a client or a host sends makes a filter panic: header values are bytes, and every
//! host call gives a `Result` ([`HostError`]) for every status, listed in the ABI or not.
//!
//! What filters share is in [`state`], what operators see in [`metrics`], whom a rule is for in
//! [`matching`], how far it is enforced in [`mode`], calls to other services in [`callout`].
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
pub mod cookie;
pub mod exchange;
pub mod filter_state;
pub mod foreign;
pub mod headers;
pub mod matching;
pub mod metrics;
pub mod mode;
pub mod origin;
pub mod protobuf;
pub mod query;
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
mod throttle;
mod window;

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
    ConfigureError, Filter, InBackground, OnLog, OnMessages, OnRequestHeaders, OnRequestTrailers,
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
pub use throttle::Throttle;
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
        let schema = crate::config::schema::<crate::dispatch::Configuration<P>>();
        crate::config::in_memory(schema.as_value().to_string())
    }

    /// Where the module has the labels of its metrics, as Envoy's configuration names them.
    pub fn stats_tags<P: Plugin>() -> u64 {
        let mut names = std::collections::BTreeSet::new();
        P::stats_tags(&mut names);
        crate::config::in_memory(crate::metrics::tags_to_json(&names).to_string())
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct RepositoryReadme;

/// The pages of the guide.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../docs/guide/first-filter.md")]
    struct FirstFilter;

    #[doc = include_str!("../../docs/guide/headers.md")]
    struct Headers;

    #[doc = include_str!("../../docs/guide/bodies.md")]
    struct Bodies;

    #[doc = include_str!("../../docs/guide/async.md")]
    struct Async;

    #[doc = include_str!("../../docs/guide/attributes.md")]
    struct Attributes;

    #[doc = include_str!("../../docs/guide/state.md")]
    struct State;

    #[doc = include_str!("../../docs/guide/metrics.md")]
    struct Metrics;

    #[doc = include_str!("../../docs/guide/configuration.md")]
    struct Configuration;

    #[doc = include_str!("../../docs/guide/several-filters.md")]
    struct SeveralFilters;

    #[doc = include_str!("../../docs/guide/tcp.md")]
    struct Tcp;

    #[doc = include_str!("../../docs/guide/testing.md")]
    struct Testing;

    #[doc = include_str!("../../docs/guide/stock.md")]
    struct Stock;
}
