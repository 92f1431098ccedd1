//! What a filter author implements.

use std::error::Error;
use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::config::InvalidConfig;
use crate::ending::ResetStream;
use crate::host_error::HostError;
use crate::live::{
    LoggedExchange, RequestHeaders, RequestTrailers, ResponseHeaders, ResponseTrailers,
};
use crate::metrics::StatsTags;
use crate::reply::LocalReply;
use crate::root::Root;
use crate::state::Inbox;

/// A filter: one value per worker, which the streams of that worker share.
///
/// The phases of a stream are traits of their own. A filter implements those it takes part in, and
/// [`export!`](crate::export!) finds out which.
pub trait Filter: Sized + 'static {
    /// What log lines begin with, and what the module says it is called.
    const NAME: &'static str;

    /// The configuration, which [`config::parse`](crate::config::parse) reads. It should refuse what
    /// it does not know: `#[serde(deny_unknown_fields)]`. A filter without one takes
    /// [`NoConfig`](crate::config::NoConfig).
    type Config: DeserializeOwned + JsonSchema;

    /// What is kept per stream, or per connection of a TCP filter; often `()`.
    type Stream: Default + 'static;

    /// The labels of all its metrics, which `tollgate build` writes into the module: a proxy has to be
    /// told of them. A filter that counts by a label that does not stand here cannot be configured.
    const STATS_TAGS: StatsTags = StatsTags::NONE;

    /// Makes the filter of a worker. The proxy does so in every worker, and once more to try the
    /// configuration out.
    ///
    /// # Errors
    ///
    /// [`ConfigureError`] when there can be no filter with this configuration; the proxy then does
    /// not take it.
    fn configure(config: Self::Config, root: &Root) -> Result<Self, ConfigureError>;
}

/// A filter that takes part when the request headers are there.
///
/// The response has not come by then: its headers are of another type, which this phase does not have.
///
/// ```compile_fail,E0053
/// # use tollgate::config::NoConfig;
/// # use tollgate::{ConfigureError, Filter, OnRequestHeaders, Outcome, ResponseHeaders, Root};
/// # struct Early;
/// # impl Filter for Early {
/// #     const NAME: &'static str = "early";
/// #     type Config = NoConfig;
/// #     type Stream = ();
/// #     fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> { Ok(Self) }
/// # }
/// impl OnRequestHeaders for Early {
///     fn on_request_headers(&self, (): &mut (), response: &mut ResponseHeaders) -> Outcome {
///         response.read()?;
///         Ok(())
///     }
/// }
/// ```
pub trait OnRequestHeaders: Filter {
    /// Decides about a request, before any of it reaches the next filter.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_request_headers(
        &self,
        stream: &mut Self::Stream,
        request: &mut RequestHeaders,
    ) -> Outcome;
}

/// A filter that takes part when the response headers are there.
pub trait OnResponseHeaders: Filter {
    /// Decides about a response, also about one that a filter has made: this filter's own
    /// [`LocalReply`] comes by here.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_response_headers(
        &self,
        stream: &mut Self::Stream,
        response: &mut ResponseHeaders,
    ) -> Outcome;
}

/// A filter that takes part when the request trailers are there.
pub trait OnRequestTrailers: Filter {
    /// Decides about a request whose headers and body the next filter has, unless
    /// [`OnRequestBody`](crate::OnRequestBody) holds the body, which then is decided about before.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_request_trailers(
        &self,
        stream: &mut Self::Stream,
        trailers: &mut RequestTrailers,
    ) -> Outcome;
}

/// A filter that takes part when the response trailers are there.
pub trait OnResponseTrailers: Filter {
    /// Decides about the end of a response whose head has left.
    ///
    /// # Errors
    ///
    /// [`ResetStream`] when the client must not take the response for whole.
    fn on_response_trailers(
        &self,
        stream: &mut Self::Stream,
        trailers: &mut ResponseTrailers,
    ) -> Result<(), ResetStream>;
}

/// A filter that takes part when a stream is over.
pub trait OnLog: Filter {
    /// Notes how an exchange went. It may be one whose request this filter has never seen, because an
    /// earlier filter answered it: `stream` is then as it was made.
    fn on_log(&self, stream: &mut Self::Stream, exchange: &mut LoggedExchange);
}

/// A filter with something to do beside its streams, in each worker.
pub trait InBackground: Filter {
    /// Runs from the configuration on until it ends by itself or the configuration is replaced: to
    /// fetch what streams need, for example, and to fetch it again after a [`sleep`](crate::sleep).
    ///
    /// It begins with the first tick, and not where the proxy only tries the configuration out. Envoy
    /// also has a VM on its main thread, where it runs as in a worker.
    fn in_background(&self) -> impl Future<Output = ()>;
}

/// A filter that takes the messages of queues, in each worker.
///
/// It stands in the place of [`InBackground`], and runs as that does: what else there is to do beside
/// the streams belongs here, too.
///
/// # Examples
///
/// One worker of all takes messages, and renews its lease with each:
///
/// ```
/// # use tollgate_host_native as _;
/// # use std::time::Duration;
/// # use tollgate::config::NoConfig;
/// # use tollgate::state::{Inbox, Lease, Queue, Standing};
/// # use tollgate::{Clock, ConfigureError, Filter, OnMessages, Root, sleep, timeout};
/// # struct Audit { clock: Clock, lease: Lease, events: Queue }
/// # impl Filter for Audit {
/// #     const NAME: &'static str = "audit";
/// #     type Config = NoConfig;
/// #     type Stream = ();
/// #     fn configure(_: NoConfig, root: &Root) -> Result<Self, ConfigureError> {
/// #         let state = root.state("audit", 1);
/// #         let lease = state.lease("taker", Duration::from_secs(10));
/// #         Ok(Self { clock: root.clock(), lease, events: state.queue("events") })
/// #     }
/// # }
/// impl OnMessages for Audit {
///     async fn on_messages(&self, inbox: Inbox) {
///         loop {
///             let now = self.clock.unix_nanos().unwrap_or(0);
///             if !matches!(self.lease.hold(now), Ok(Standing::Held { .. })) {
///                 sleep(Duration::from_secs(5)).await;
///                 continue;
///             }
///             match timeout(Duration::from_secs(5), inbox.next(&self.events)).await {
///                 Ok(Ok(message)) => tollgate::log::info!("{} bytes", message.len()),
///                 Ok(Err(error)) => tollgate::log::warn!("no message: {error}"),
///                 Err(_) => {} // the lease is renewed
///             }
///         }
///     }
/// }
/// # let callbacks = (tollgate::registration!(Audit).callbacks)();
/// # assert!(callbacks.iter().any(|callback| callback.name() == "proxy_on_queue_ready"));
/// ```
pub trait OnMessages: Filter {
    /// Runs from the configuration on until it ends by itself or the configuration is replaced, and
    /// waits for messages in `inbox`.
    fn on_messages(&self, inbox: Inbox) -> impl Future<Output = ()>;
}

/// What becomes of a request or a response: it goes on to the next filter, or it ends here and the client
/// gets the reply. If the host refuses to send that, the stream is closed.
///
/// A [`HostError`] becomes a reply by `?`: what cannot be decided does not pass.
pub type Outcome = Result<(), LocalReply>;

/// Why there is no filter with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigureError {
    /// The configuration is wrong.
    Invalid(InvalidConfig),
    /// The host did not give what the filter cannot be without.
    Host(HostError),
    /// A metric has a label that [`Filter::STATS_TAGS`] does not have.
    UnsaidLabel {
        /// The metric.
        metric: &'static str,
        /// The label.
        label: &'static str,
    },
    /// The module has no filter of this root id.
    UnknownRootId {
        /// The root id of the plugin.
        root_id: String,
        /// The root ids that there are.
        known: Vec<&'static str>,
    },
    /// The configuration of a chain has a part for a filter that it does not have.
    NotInChain {
        /// The name.
        name: String,
        /// The filters of the chain.
        known: Vec<&'static str>,
    },
    /// A filter of a chain cannot be configured.
    InChain {
        /// The filter.
        name: &'static str,
        /// Why.
        error: Box<ConfigureError>,
    },
}

impl ConfigureError {
    pub(crate) fn within(self, name: &'static str) -> Self {
        Self::InChain { name, error: Box::new(self) }
    }
}

impl fmt::Display for ConfigureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => write!(f, "invalid configuration: {error}"),
            Self::Host(error) => write!(f, "cannot be configured: {error}"),
            Self::UnsaidLabel { metric, label } => write!(
                f,
                "metric {metric} has the label {label}, which the filter does not say; add it to \
                 STATS_TAGS, so that proxies can be told of it"
            ),
            Self::UnknownRootId { root_id, known } => write!(
                f,
                "root id \"{}\" is none of this module; it has {}",
                root_id.escape_debug(),
                known.join(", ")
            ),
            Self::NotInChain { name, known } => write!(
                f,
                "invalid configuration: {}: no filter of this chain, which has {}",
                name.escape_debug(),
                known.join(", ")
            ),
            Self::InChain { name, error } => write!(f, "{name}: {error}"),
        }
    }
}

impl Error for ConfigureError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Invalid(error) => Some(error),
            Self::Host(error) => Some(error),
            Self::InChain { error, .. } => Some(error),
            Self::UnsaidLabel { .. } | Self::UnknownRootId { .. } | Self::NotInChain { .. } => None,
        }
    }
}

impl From<InvalidConfig> for ConfigureError {
    fn from(error: InvalidConfig) -> Self {
        Self::Invalid(error)
    }
}

impl From<HostError> for ConfigureError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}
