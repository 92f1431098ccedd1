//! The scenario: filters, requests in time, and what is expected of them.
//!
//! The types are what a host needs; [`read`](Scenario::read) makes them from YAML and refuses what is
//! wrong with line and column. What is made in code is checked by [`check`](Scenario::check).

mod callout;
mod code;
mod configure;
mod configured;
mod connection;
mod expect;
mod filter;
mod from;
mod imports;
mod peer;
mod read;
mod request;
mod routes;
mod shared;
mod step;
mod together;
mod value;
mod vary;
mod written;

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroUsize;

use tollgate_abi::LogLevel;

use crate::profile::Profile;
pub(crate) use callout::service_and_method;
pub use callout::{
    ExpectedCallout, ExpectedGrpc, GrpcAnswer, Meets, PlannedCallout, Protocol, UPSTREAM,
};
pub use code::{InvalidScenario, line};
pub use configure::ConfigureStep;
pub use configured::{
    ClientCertDetail, Cluster, Configured, Endpoint, ForwardClientCertDetails, Listener, MadeUp,
    Metadata, Node, Route, TrafficDirection, VirtualHost,
};
pub use connection::{
    Act, ConnectionStep, Event, ExpectedEnd, ExpectedEnds, ExpectedUpstreamEnd, Traffic,
};
pub use expect::{
    Budget, Expectation, ExpectedLog, ExpectedOutcome, ExpectedRequest, ExpectedResponse,
    ExpectedUpstream, HeaderExpectations,
};
pub(crate) use filter::stored_modules;
pub use filter::{FailurePolicy, FilterSource, FilterUse, InvalidFilterSource, configuration};
pub use imports::{Given, ImportAnswer, Imports, check_import};
pub(crate) use peer::LATEST;
pub use peer::{
    CertificateTime, Issuance, Issuer, Peer, SubjectAltName, Tls, TrustChainVerification,
};
pub use read::ReadError;
pub use request::{Answer, Ending, Fault, Pace, Pause, Request, RequestStep, Upstream};
pub use routes::{Destination, RouteRule};
pub use shared::{ExpectedQueue, ExpectedShared};
pub use step::{AdvanceStep, StartStep, Step};
pub use together::{Timed, Together};
pub(crate) use value::{Bytes, duration};
pub use value::{ClockStep, Matcher};
pub use vary::{ADDED_TRAILER, Chunks, End, Moment, Over, Side, Variation, Vary};

/// A header line: name in lower case and value, both bytes.
pub type HeaderLine = (Vec<u8>, Vec<u8>);

/// How many bytes Envoy buffers for a connection by default.
const BUFFER_LIMIT: usize = 1 << 20;

/// A scenario, checked.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it shows, as a sentence.
    pub name: String,
    /// What the filters stand in front of.
    pub traffic: Traffic,
    /// The chain of filters in order; at least one.
    pub filters: Vec<FilterUse>,
    /// How many workers the proxy has.
    pub workers: NonZeroUsize,
    /// Clusters that guests may call, besides the upstream.
    pub clusters: Vec<String>,
    /// The least level at which log lines are written.
    pub log_level: LogLevel,
    /// How many bytes of a body the proxy buffers for a filter that holds it.
    pub buffer_limit: usize,
    /// What the proxy is configured with besides its filters.
    pub proxy: Configured,
    /// The TLS that the listener terminates, and who connects to it.
    pub tls: Option<Tls>,
    /// Properties that the offline host does not derive but is told.
    pub properties: Vec<MadeUp>,
    /// Whether the checks that no proxy makes are made as well.
    pub strict: bool,
    /// The host that the offline host stands for.
    pub profile: Profile,
    /// What imports answer that no host serves.
    pub imports: Imports,
    /// Set when it cannot run everywhere.
    pub only: Option<Only>,
    /// What is expected of the start.
    pub start: StartStep,
    /// Set when the proxy must refuse to start: text that its log must contain.
    pub refused: Option<String>,
    /// What the file that the filters come from configures and no host plays, a line each.
    pub left: Vec<String>,
    /// What it is run over besides as it is written.
    pub vary: Option<Vary>,
    /// The only variation of it that is run, by its name.
    pub variant: Option<String>,
    /// The first seed of what a host is free to choose; under 0 it chooses the same as ever.
    pub seed: u64,
    /// How many seeds it is run under.
    pub seeds: u64,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// A proxy with one filter and one worker, to see whether it starts.
    pub fn without_steps(filter: FilterUse) -> Self {
        Self {
            name: format!("{} starts", filter.name),
            traffic: Traffic::default(),
            filters: vec![filter],
            workers: NonZeroUsize::MIN,
            clusters: Vec::new(),
            log_level: LogLevel::Info,
            buffer_limit: BUFFER_LIMIT,
            proxy: Configured::default(),
            tls: None,
            properties: Vec::new(),
            strict: false,
            profile: Profile::Envoy,
            imports: Imports::new(),
            only: None,
            start: StartStep::default(),
            refused: None,
            left: Vec::new(),
            vary: None,
            variant: None,
            seed: 0,
            seeds: 1,
            steps: Vec::new(),
        }
    }

    /// The modules that filters get while the proxy runs, each with the filter that gets it.
    pub fn later_modules(&self) -> impl Iterator<Item = FilterUse> {
        self.steps.iter().flat_map(Step::configures).filter_map(|step| {
            let source = step.module.clone()?;
            Some(FilterUse { source, ..self.filters.get(step.filter)?.clone() })
        })
    }

    /// The `vm_id`s whose shared data or queues some step expects something of.
    pub fn watched_vm_ids(&self) -> BTreeSet<&str> {
        let first = self.filters.first().map_or("", |filter| filter.vm_id.as_str());
        let of_steps = self.steps.iter().flat_map(Step::expectations);
        let expected = of_steps.chain([&self.start.expect]).flat_map(|expect| {
            let values = expect.shared_data.iter().map(|shared| shared.vm_id.as_deref());
            values.chain(expect.queues.iter().map(|queue| queue.vm_id.as_deref()))
        });
        expected.map(|vm_id| vm_id.unwrap_or(first)).collect()
    }

    /// What a cluster speaks, as the callouts of the steps tell; HTTP/1.1 when they do not.
    pub fn protocol(&self, cluster: &str) -> Protocol {
        callout::protocol(&self.steps, cluster)
    }

    /// Whether guests may call out: to clusters of their own, or as some step says.
    pub fn has_callouts(&self) -> bool {
        !self.clusters.is_empty() || callout::callouts(&self.steps).next().is_some()
    }
}

/// The hosts on which a scenario runs, and why not on the others.
#[derive(Clone, Debug)]
pub struct Only {
    /// The hosts.
    pub on: Vec<HostName>,
    /// Why.
    pub reason: String,
}

/// A host by name.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum HostName {
    /// The offline host with wasmtime as its engine.
    Wasmtime,
    /// A real Envoy process.
    Envoy,
    /// The offline host with the filter linked natively.
    Native,
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wasmtime => "wasmtime",
            Self::Envoy => "envoy",
            Self::Native => "native",
        })
    }
}
