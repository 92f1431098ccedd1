//! Running a filter in a test, without WebAssembly and without a proxy.
//!
//! [`Proxy`] is the offline host on which scenarios run: the same order of callbacks, the same local
//! replies and the same virtual time, with the filter linked into the test. It is no mock, and knows
//! nothing of what the filter should do; what Envoy 1.40 would refuse, it refuses. A filter that panics
//! is a VM that has trapped, as in a proxy.
//!
//! Needs the feature `testing`, in a dev-dependency:
//!
//! ```toml
//! [dev-dependencies]
//! tollgate = { version = "…", features = ["testing"] }
//! ```
//!
//! # Examples
//!
//! ```
//! use tollgate::config::NoConfig;
//! use tollgate::testing::{Answer, Meets, Proxy};
//! use tollgate::callout::HttpCall;
//! use tollgate::{ConfigureError, Filter, LocalReply, OnExchange, Outcome, Request, Root, StatusCode};
//!
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
//!     async fn on_exchange(&self, (): &mut (), _: Request) -> Outcome {
//!         let reply = HttpCall::get("authz", "/check").send().await?;
//!         if reply.is_success() { Ok(()) } else { Err(LocalReply::new(StatusCode::FORBIDDEN)) }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut proxy = Proxy::with(tollgate::registration!(Asking)).cluster("authz").start()?;
//!
//! let exchange = proxy.get("/orders").callout("authz", Answer::new(200)).send()?;
//! assert_eq!(exchange.status(), Some(200));
//! assert_eq!(exchange.callouts()[0].path(), "/check");
//!
//! let exchange = proxy.get("/orders").callout("authz", Meets::Never).send()?;
//! assert_eq!(exchange.status(), Some(503), "{exchange}");
//! assert!(exchange.upstream().is_none());
//! # Ok(())
//! # }
//! ```
//!
//! Filters of TCP stand in a proxy that was started with [`Bootstrap::tcp`], and see what a client and an
//! upstream do to a connection, one after the other:
//!
//! ```
//! # use tollgate_host_native as _;
//! # use tollgate::config::NoConfig;
//! # use tollgate::testing::{End, Proxy};
//! # use tollgate::{CloseConnection, ConfigureError, DownstreamData, Filter, OnDownstreamData, Root};
//! # struct Quoting;
//! # impl Filter for Quoting {
//! #     const NAME: &'static str = "quoting";
//! #     type Config = NoConfig;
//! #     type Stream = ();
//! #     fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> { Ok(Self) }
//! # }
//! impl OnDownstreamData for Quoting {
//!     fn on_downstream_data(
//!         &self,
//!         (): &mut (),
//!         data: &mut DownstreamData,
//!     ) -> Result<(), CloseConnection> {
//!         Ok(data.prepend("> ")?)
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut proxy = Proxy::with(tollgate::registration!(Quoting)).tcp().start()?;
//! let connection = proxy.connect().client_sends("hello").upstream_sends("hi").run()?;
//! assert_eq!(connection.upstream().unwrap().got(), "> hello");
//! assert_eq!(connection.client().got(), "hi");
//! assert_eq!(connection.client().end(), End::Open);
//! # Ok(())
//! # }
//! ```
//!
//! [`Proxy::together`] has several requests under way at once:
//!
//! ```
//! # use tollgate::config::NoConfig;
//! # use tollgate::{ConfigureError, Filter, OnRequestHeaders, Outcome, RequestHeaders, Root};
//! # struct Passing;
//! # impl Filter for Passing {
//! #     const NAME: &'static str = "passing";
//! #     type Config = NoConfig;
//! #     type Stream = ();
//! #     fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> { Ok(Self) }
//! # }
//! # impl OnRequestHeaders for Passing {
//! #     fn on_request_headers(&self, (): &mut (), _: &mut RequestHeaders) -> Outcome { Ok(()) }
//! # }
//! use std::time::Duration;
//! use tollgate::testing::{Answer, Proxy, Request};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut proxy = Proxy::with(tollgate::registration!(Passing)).start()?;
//! let slow = Answer::new(200).delay(Duration::from_millis(100));
//! let both = proxy.together([
//!     Request::get("/slow").upstream(slow).leaves_after(Duration::from_millis(50)),
//!     Request::get("/quick").after(Duration::from_millis(10)),
//! ])?;
//! let [slow, quick] = both.exchanges() else { panic!() };
//! assert!(slow.has_left());
//! assert_eq!(quick.status(), Some(200));
//! # Ok(())
//! # }
//! ```

mod documented;
mod documents;
mod scenarios;

use std::sync::Arc;

use tollgate_host::engine::Module;
pub use tollgate_host::testing::*;

pub use self::documented::compare_documented;
pub use self::documents::{pointers, with_other_fields, with_other_values};
pub use self::scenarios::{ScenariosFailed, scenarios};

use crate::Registration;

/// A filter as the null engine takes it.
impl From<Registration> for Arc<dyn Module> {
    fn from(filter: Registration) -> Self {
        let Registration { start, call, callbacks, .. } = filter;
        Arc::new(tollgate_host_native::Filter { start, call, callbacks })
    }
}
