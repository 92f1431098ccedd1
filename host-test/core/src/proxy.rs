//! What a scenario is played against: a proxy that carries requests to an upstream through filters.
//!
//! The offline host and the runner for a real Envoy both implement [`ProxyHost`]; whatever judges the
//! outcome stands above them and is the same for both.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tollgate_abi::LogLevel;

use crate::account::Account;
use crate::recording::{bytes, lines};
use crate::scenario::{
    AdvanceStep, ClockStep, ConfigureStep, ConnectionStep, HeaderLine, HostName, PlannedCallout,
    RequestStep, Scenario,
};
use crate::tls::Alert;

/// Both ends of a connection have gone, and the proxy has not noticed.
pub const STAYS_OPEN: &str = "the connection stays in the proxy for ever: filters hold what would tell it \
    that both ends are gone";

/// A place where scenarios run.
pub trait ProxyHost: Sync {
    /// Which one it is.
    fn name(&self) -> HostName;

    /// Starts a proxy with the filters of `scenario` loaded and configured.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the proxy refuses a module or a configuration, or cannot be started at all.
    fn start(&self, scenario: &Scenario) -> Result<Box<dyn Proxy + '_>, StartError>;
}

/// Whether what a proxy shares, if it is there, is what was waited for.
pub type Settled<'a, V> = &'a dyn Fn(Option<&V>) -> bool;

/// A running proxy.
pub trait Proxy {
    /// Sends requests, which may be under way at the same time, and waits for the end of all. Gives what
    /// came of each, in their order, and the callouts that guests made meanwhile, in the order of the plan.
    ///
    /// # Errors
    ///
    /// [`HostFailure`] when the host itself failed. A refused, reset or unanswered request is an
    /// [`Exchange`], not an error.
    fn together(
        &mut self,
        requests: &[Sending<'_>],
        callouts: &[PlannedCallout],
    ) -> Result<(Vec<Exchange>, Vec<Callout>), HostFailure>;

    /// Sends one request through the given worker and waits for its end.
    ///
    /// # Errors
    ///
    /// As [`Self::together`].
    fn exchange(&mut self, worker: usize, step: &RequestStep) -> Result<Exchange, HostFailure> {
        let sending = Sending { after: Duration::ZERO, worker, step };
        let (exchanges, callouts) = self.together(&[sending], &step.callouts)?;
        let exchange = exchanges.into_iter().next().ok_or(HostFailure::Impossible {
            what: "the host gave nothing for a request".into(),
        })?;
        Ok(Exchange { callouts, ..exchange })
    }

    /// Opens one connection of TCP through the given worker, and sees it to its end.
    ///
    /// # Errors
    ///
    /// [`HostFailure`] when the host itself failed, or the upstream was to do something and no connection
    /// has come to it.
    fn connect(
        &mut self,
        worker: usize,
        step: &ConnectionStep,
    ) -> Result<Conversation, HostFailure>;

    /// Lets time pass: virtual time offline, real time on a real proxy. Gives the callouts that guests
    /// made meanwhile.
    ///
    /// # Errors
    ///
    /// [`HostFailure`] when the host itself failed.
    fn advance(&mut self, step: &AdvanceStep) -> Result<Vec<Callout>, HostFailure>;

    /// Sets the wall clock forward or back without time passing.
    ///
    /// # Errors
    ///
    /// [`HostFailure`] when the host cannot.
    fn step_clock(&mut self, by: ClockStep) -> Result<(), HostFailure>;

    /// Gives a filter another configuration, and waits until it is in force or refused; gives the callouts
    /// that guests made meanwhile, in the order of the plan, too.
    ///
    /// # Errors
    ///
    /// [`HostFailure`] when the host itself failed.
    fn configure(
        &mut self,
        step: &ConfigureStep,
        callouts: &[PlannedCallout],
    ) -> Result<(Configured, Vec<Callout>), HostFailure>;

    /// What can be seen from outside since the start. A proxy that reports late is asked again until
    /// `settled` holds or a limit that it sets itself is over.
    ///
    /// # Errors
    ///
    /// [`HostFailure`] when the host itself failed.
    fn observe(
        &mut self,
        settled: &dyn Fn(&Observation) -> bool,
    ) -> Result<Observation, HostFailure>;

    /// A value that plugins with a `vm_id` share, if it is there; with that of the first filter when it is
    /// not said. A proxy that is late is asked again as in [`observe`](Self::observe).
    ///
    /// # Errors
    ///
    /// [`HostFailure`] when the host itself failed.
    fn shared_data(
        &mut self,
        vm_id: Option<&str>,
        key: &[u8],
        settled: Settled<'_, [u8]>,
    ) -> Result<Option<Vec<u8>>, HostFailure>;

    /// The messages that wait in a queue, if somebody has registered it; whose it is, and when it is asked
    /// again, as in [`shared_data`](Self::shared_data).
    ///
    /// # Errors
    ///
    /// [`HostFailure`] when the host itself failed.
    fn queue(
        &mut self,
        vm_id: Option<&str>,
        name: &[u8],
        settled: Settled<'_, [Vec<u8>]>,
    ) -> Result<Option<Vec<Vec<u8>>>, HostFailure>;

    /// What guests have used since the start, and the memory that they have now; `None` where the proxy
    /// cannot tell.
    fn used(&self) -> Option<Cost> {
        None
    }

    /// Takes what guests did since it was taken last that may explain a failure; nothing where the proxy
    /// cannot tell.
    fn take_account(&mut self) -> Account {
        Account::default()
    }

    /// What guests keep, and make the proxy keep; `None` where the proxy cannot tell.
    fn footprint(&self) -> Option<Footprint> {
        None
    }

    /// Lets time pass until what happens next by itself has happened, if something does: a tick, or what comes
    /// back to a callout.
    ///
    /// # Errors
    ///
    /// [`HostFailure`] when the host itself failed.
    fn pass_to_next(&mut self, _: &[PlannedCallout]) -> Result<(), HostFailure> {
        Ok(())
    }

    /// Ends every plugin, as a proxy that shuts down does, and gives those that never said that they were
    /// done. Nothing runs on it afterwards.
    ///
    /// # Errors
    ///
    /// [`HostFailure`] when the host itself failed.
    fn end(&mut self) -> Result<Vec<String>, HostFailure> {
        Ok(Vec::new())
    }
}

/// What guests keep, and make the proxy keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// How many metrics were defined; the same one defined again has one more number.
    pub metrics: u64,
    /// How many keys shared data has.
    pub shared_keys: u64,
    /// How many messages wait in shared queues.
    pub queued_messages: u64,
    /// How many callouts and gRPC streams have come to no end.
    pub open_callouts: u64,
    /// Linear memory of all guests, in bytes.
    pub memory_bytes: u64,
    /// Memory that the host had guests allocate for its answers and has not seen to be free again, in
    /// bytes.
    pub handed_bytes: u64,
}

/// A request that is about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// How long after the first moment.
    pub after: Duration,
    /// The worker that gets it.
    pub worker: usize,
    /// The request, and what the upstream answers. What callouts meet is said for all at once.
    pub step: &'a RequestStep,
}

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What the client got.
    pub outcome: Outcome,
    /// What the upstream got; nothing when the request did not reach it.
    pub upstream: Option<Received>,
    /// The callouts that guests made meanwhile, in the order of the plan; of several requests at once, none
    /// are told apart.
    pub callouts: Vec<Callout>,
    /// What came of the configuration that a filter was to get meanwhile; nothing when the request did
    /// not come so far.
    pub configured: Option<Configured>,
    /// What it cost, where the host can tell; of several requests at once it cannot.
    pub cost: Option<Cost>,
}

/// What came of one connection of TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// How it stood once the client had connected, after each event, and once it was over.
    pub moments: Vec<Moment>,
    /// With which alert the proxy refused the client's handshake, if it did.
    pub refused: Option<Alert>,
    /// The callouts that guests made meanwhile, in the order of the plan.
    pub callouts: Vec<Callout>,
    /// What it cost, where the host can tell.
    pub cost: Option<Cost>,
}

/// How a connection stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// What the client has.
    pub client: Side,
    /// What the upstream has; nothing when no connection has come to it.
    pub upstream: Option<Side>,
}

/// A connection as one end of it sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// All bytes so far.
    pub got: Vec<u8>,
    /// Whether more may come. What comes after the first end it does not see.
    pub end: End,
}

/// Whether one end of a connection may get more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It may.
    #[default]
    Open,
    /// It has got all there is, or has closed the connection itself.
    Closed,
    /// The connection broke.
    Reset,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Reset => "reset",
        })
    }
}

/// What came of another configuration for a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Configured {
    /// New streams have it.
    Accepted,
    /// It was refused, and the old one stays.
    Refused {
        /// The proxy's and the guest's own words, one per line.
        words: String,
    },
}

/// What the client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole response.
    Response(Response),
    /// The stream was reset before the response was whole.
    Reset,
    /// No answer within the limit of the host.
    Unanswered,
    /// No connection: the proxy refused the client's handshake.
    Refused(Alert),
    /// The client left before the response was whole: with what it had got, whose body is what had come.
    Left(Option<Response>),
}

/// A response as the client got it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header lines in order, names in lower case, without pseudo-headers.
    #[serde(with = "lines")]
    pub headers: Vec<HeaderLine>,
    /// The whole body.
    #[serde(with = "bytes", default, skip_serializing_if = "Vec::is_empty")]
    pub body: Vec<u8>,
    /// Trailer lines.
    #[serde(with = "lines", default, skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<HeaderLine>,
}

/// A request as the upstream got it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// The cluster that it was routed to; none of a callout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Method.
    #[serde(with = "bytes")]
    pub method: Vec<u8>,
    /// Path with query.
    #[serde(with = "bytes")]
    pub path: Vec<u8>,
    /// Header lines in order, names in lower case, without pseudo-headers.
    #[serde(with = "lines")]
    pub headers: Vec<HeaderLine>,
    /// The body as far as it came.
    #[serde(with = "bytes", default, skip_serializing_if = "Vec::is_empty")]
    pub body: Vec<u8>,
    /// Trailer lines.
    #[serde(with = "lines", default, skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<HeaderLine>,
}

/// A callout of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callout {
    /// The cluster that it went to.
    pub cluster: String,
    /// What arrived; nothing where nobody listened. The body of gRPC are its frames.
    pub received: Option<Received>,
    /// Which entry of the step's plan it met, counted from 0.
    pub met: Option<usize>,
}

/// What something cost in the guest, most often a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Host calls, counted in all filters of the chain.
    pub host_calls: u64,
    /// Fuel, about one unit per wasm instruction; engines without fuel give none.
    pub fuel: Option<u64>,
    /// Linear memory of the largest guest afterwards, in bytes; engines without memory give none.
    pub memory_bytes: Option<u64>,
}

impl Cost {
    /// What it cost since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        let fuel = match (before.fuel, self.fuel) {
            (Some(before), Some(after)) => Some(after.saturating_sub(before)),
            (_, after) => after,
        };
        Self { host_calls: self.host_calls.saturating_sub(before.host_calls), fuel, ..self }
    }
}

/// What can be seen of a proxy from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Counters and gauges of the guests by name, added up over all workers.
    pub metrics: BTreeMap<String, u64>,
    /// Log lines of the guests in order, since the start.
    pub logs: Vec<LogLine>,
}

/// A log line of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Level.
    pub level: LogLevel,
    /// Text, without what the proxy puts before it.
    pub message: Vec<u8>,
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.level, self.message.escape_ascii())
    }
}

/// Why a proxy did not start.
#[derive(Debug)]
pub enum StartError {
    /// The proxy refused a module or a configuration: a verdict, which a scenario may expect.
    Refused {
        /// The proxy's and the guest's own words, one per line.
        words: String,
    },
    /// A module cannot be read or cannot be run by any proxy: a mistake in what was asked for.
    Module(Box<dyn std::error::Error + Send + Sync>),
    /// The host cannot run at all.
    Host(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { words } => f.write_str(words),
            Self::Module(error) | Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// The host failed while a scenario ran on it.
#[derive(Debug)]
pub enum HostFailure {
    /// The guest called a function that this host does not serve, so that its verdict would be worth
    /// nothing.
    Unserved {
        /// The call with its arguments.
        call: String,
    },
    /// The guest did something that does harm to a whole Envoy.
    Harm {
        /// What, and what comes of it.
        what: String,
    },
    /// The scenario asks for what this host cannot do.
    Impossible {
        /// What, and on which host it can be done.
        what: String,
    },
    /// The proxy or the way to it broke.
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for HostFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unserved { call } => {
                write!(f, "the guest called {call}, which this host does not serve")
            }
            Self::Harm { what } | Self::Impossible { what } => f.write_str(what),
            Self::Broken(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for HostFailure {}
