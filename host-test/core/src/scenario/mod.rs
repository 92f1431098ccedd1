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
mod from;
mod imports;
mod read;
mod routes;
mod together;
mod value;
mod written;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tollgate_abi::{LogLevel, Status};

use crate::profile::Profile;
pub(crate) use callout::service_and_method;
pub use callout::{
    ExpectedCallout, ExpectedGrpc, GrpcAnswer, Meets, PlannedCallout, Protocol, UPSTREAM,
};
pub use code::{InvalidScenario, line};
pub use configure::ConfigureStep;
pub use configured::{
    Cluster, Configured, Endpoint, Listener, MadeUp, Metadata, Node, Route, TrafficDirection,
    VirtualHost,
};
pub use connection::{
    Act, ConnectionStep, Event, ExpectedEnd, ExpectedEnds, ExpectedUpstreamEnd, Traffic,
};
pub use expect::{
    Budget, Expectation, ExpectedLog, ExpectedOutcome, ExpectedRequest, ExpectedResponse,
    ExpectedUpstream, HeaderExpectations,
};
pub use imports::{Given, ImportAnswer, Imports, check_import};
pub use read::{ReadError, configuration};
pub use routes::{Destination, RouteRule};
pub use together::{Timed, Together};
pub(crate) use value::duration;
pub use value::{ClockStep, Matcher};

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
    /// Set when the proxy must refuse to start: text that its log must contain.
    pub refused: Option<String>,
    /// What the file that the filters come from configures and no host plays, a line each.
    pub left: Vec<String>,
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
            properties: Vec::new(),
            strict: false,
            profile: Profile::Envoy,
            imports: Imports::new(),
            only: None,
            refused: None,
            left: Vec::new(),
            steps: Vec::new(),
        }
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

/// A filter in the chain.
#[derive(Clone, Debug)]
pub struct FilterUse {
    /// Where its module comes from.
    pub source: FilterSource,
    /// Name of the plugin; by default the filter's.
    pub name: String,
    /// Root id of the plugin.
    pub root_id: String,
    /// Id of the VM: filters of one module with the same one share a VM, and all with it their data.
    pub vm_id: String,
    /// Bytes that the VM gets as its configuration: JSON, or text as written.
    pub vm_config: Vec<u8>,
    /// Environment variables of the VM.
    pub environment: BTreeMap<String, String>,
    /// Bytes that the filter gets as its configuration: JSON, or text as written.
    pub config: Vec<u8>,
    /// Whether headers that it holds are held alone, so that the body comes to it.
    pub allow_on_headers_stop_iteration: bool,
}

/// Where the module of a filter comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterSource {
    /// A filter of ours, by name.
    BuiltIn(String),
    /// A file.
    File(PathBuf),
}

impl FilterSource {
    /// Reads what stands behind `filter:`: with a slash or the ending `.wasm` it is a path.
    ///
    /// # Errors
    ///
    /// [`InvalidFilterSource`] when it is empty, or an image.
    pub fn parse(text: &str) -> Result<Self, InvalidFilterSource> {
        let path = Path::new(text);
        if text.is_empty() {
            Err(InvalidFilterSource::Empty)
        } else if text.starts_with("oci://") {
            Err(InvalidFilterSource::Image { reference: text.to_owned() })
        } else if text.contains('/') || path.extension().is_some_and(|ending| ending == "wasm") {
            Ok(Self::File(path.to_owned()))
        } else if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            Ok(Self::BuiltIn(text.to_owned()))
        } else {
            Err(InvalidFilterSource::Neither { text: text.to_owned() })
        }
    }

    /// The same, with a file relative to `folder`.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        match self {
            Self::File(file) => Self::File(folder.join(file)),
            Self::BuiltIn(_) => self,
        }
    }

    /// The module's file; those of built-in filters are in `built_ins`.
    pub fn file(&self, built_ins: &Path) -> PathBuf {
        match self {
            Self::BuiltIn(name) => built_ins.join(format!("{name}.wasm")),
            Self::File(path) => path.clone(),
        }
    }
}

/// A text that names no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidFilterSource {
    /// It is empty.
    Empty,
    /// It is neither a name nor a path to a module.
    Neither {
        /// The text.
        text: String,
    },
    /// It is an image in a registry, which hosts do not fetch.
    Image {
        /// The image.
        reference: String,
    },
}

impl fmt::Display for InvalidFilterSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("filter: empty; name a built-in filter or a file"),
            Self::Neither { text } => write!(
                f,
                "filter: `{text}` is neither a name nor a file; end a file in .wasm, or write ./{text}"
            ),
            Self::Image { reference } => {
                write!(f, "filter: {reference} is an image, which is not fetched; name a file")
            }
        }
    }
}

impl std::error::Error for InvalidFilterSource {}

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

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A client sends a request, once or several times.
    Request(Box<RequestStep>),
    /// Clients send several requests, which are under way at the same time.
    Together(Together),
    /// A client connects, once or several times.
    Connection(Box<ConnectionStep>),
    /// Time passes.
    Advance(AdvanceStep),
    /// The wall clock is set.
    Clock(ClockStep),
    /// A filter gets another configuration.
    Configure {
        /// Which filter, and what it gets.
        configure: ConfigureStep,
        /// What callouts meet meanwhile, in order per cluster.
        callouts: Vec<PlannedCallout>,
    },
}

impl Step {
    /// What the callouts of guests meet in this step.
    pub fn callouts(&self) -> &[PlannedCallout] {
        match self {
            Self::Request(step) => &step.callouts,
            Self::Together(together) => &together.callouts,
            Self::Connection(step) => &step.callouts,
            Self::Advance(step) => &step.callouts,
            Self::Configure { callouts, .. } => callouts,
            Self::Clock(_) => &[],
        }
    }
}

impl Step {
    /// The requests that are sent in this step.
    pub fn requests(&self) -> impl Iterator<Item = &RequestStep> {
        let (alone, together) = match self {
            Self::Request(step) => (Some(&**step), [].as_slice()),
            Self::Together(together) => (None, together.requests.as_slice()),
            Self::Connection(_) | Self::Advance(_) | Self::Clock(_) | Self::Configure { .. } => {
                (None, [].as_slice())
            }
        };
        alone.into_iter().chain(together.iter().map(|timed| &timed.step))
    }

    /// The connection of TCP that is opened in this step.
    pub fn connection(&self) -> Option<&ConnectionStep> {
        match self {
            Self::Connection(step) => Some(step),
            Self::Request(_)
            | Self::Together(_)
            | Self::Advance(_)
            | Self::Clock(_)
            | Self::Configure { .. } => None,
        }
    }

    /// Host calls that fail in this step.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        let of_requests = self.requests().flat_map(|step| &step.faults);
        of_requests.chain(self.connection().into_iter().flat_map(|step| &step.faults))
    }
}

/// Time that passes.
#[derive(Clone, Debug)]
pub struct AdvanceStep {
    /// How much.
    pub by: Duration,
    /// What callouts meet meanwhile, in order per cluster.
    pub callouts: Vec<PlannedCallout>,
}

/// A request, what the upstream answers, and what is expected.
#[derive(Clone, Debug)]
pub struct RequestStep {
    /// The request.
    pub request: Request,
    /// How many times it is sent, one after another.
    pub repeat: NonZeroUsize,
    /// The worker that gets it; in turn when not named.
    pub worker: Option<usize>,
    /// What the upstream answers if the request reaches it.
    pub upstream: Upstream,
    /// What callouts meet meanwhile, in order per cluster.
    pub callouts: Vec<PlannedCallout>,
    /// A filter gets another configuration once the upstream has the request, before it answers.
    pub meanwhile: Option<ConfigureStep>,
    /// Host calls that fail while it is under way.
    pub faults: Vec<Fault>,
    /// What is expected of each time it is sent.
    pub expect: Expectation,
}

/// A request as the client sends it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Host.
    pub authority: String,
    /// Header lines in order, without pseudo-headers.
    pub headers: Vec<HeaderLine>,
    /// Body, in the chunks in which it is sent; none ends the stream with the headers.
    pub body: Vec<Vec<u8>>,
    /// Trailer lines.
    pub trailers: Vec<HeaderLine>,
    /// The client sends the end of its body never.
    pub unfinished: bool,
    /// How long after it began to send the client closes its connection, unless the response is whole.
    pub disconnect: Option<Duration>,
}

/// What the upstream does with a request.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// It answers.
    Answer(Answer),
    /// It breaks the connection once it has the whole request.
    Reset,
}

/// An answer of the upstream.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines in order.
    pub headers: Vec<HeaderLine>,
    /// Body, in the chunks in which it is sent.
    pub body: Vec<Vec<u8>>,
    /// Trailer lines.
    pub trailers: Vec<HeaderLine>,
    /// The upstream sends the end of its body never.
    pub unfinished: bool,
    /// How long it takes from the whole request to the answer.
    pub delay: Duration,
}

/// Host calls that fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The function.
    pub call: tollgate_abi::Function,
    /// Which call of it within the request, counted from 1; every call when not named.
    pub nth: Option<u64>,
    /// What it returns.
    pub status: Status,
}
