//! What a proxy starts with, and why it does not.

use std::error::Error;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::engine::Module;
use crate::offline::{Loader, Offline};
use crate::proxy::StartError as HostStartError;
use crate::scenario::{
    FilterSource, FilterUse, HostName, InvalidScenario, Issuance, Scenario, Tls, Traffic,
    TrustChainVerification,
};
use crate::tls::DistinguishedName;
use tollgate_abi::LogLevel;

use super::peer::Peer;
use super::proxy::Proxy;

/// What a proxy starts with; [`Proxy::with`] begins one.
///
/// `config`, `root_id` and `name` are about the filter that was named last.
#[derive(Clone)]
#[must_use = "a proxy runs after `start`"]
pub struct Bootstrap {
    traffic: Traffic,
    first: Plugin,
    /// The filters after the first.
    then: Vec<Plugin>,
    workers: usize,
    clusters: Vec<String>,
    log_level: LogLevel,
    peers: Vec<Peer>,
    require_client_certificate: bool,
    trust_chain_verification: TrustChainVerification,
}

impl fmt::Debug for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filters = std::iter::once(&self.first).chain(&self.then);
        let names: Vec<_> = filters.map(|plugin| &plugin.name).collect();
        f.debug_struct("Bootstrap").field("filters", &names).finish_non_exhaustive()
    }
}

/// A filter with what the proxy tells it.
#[derive(Clone)]
struct Plugin {
    filter: Arc<dyn Module>,
    name: Option<String>,
    root_id: String,
    config: Vec<u8>,
    allow_on_headers_stop_iteration: bool,
}

impl Plugin {
    fn new(filter: Arc<dyn Module>) -> Self {
        Self {
            filter,
            name: None,
            root_id: String::new(),
            config: Vec::new(),
            allow_on_headers_stop_iteration: false,
        }
    }
}

impl Bootstrap {
    pub(super) fn new(filter: Arc<dyn Module>) -> Self {
        Self {
            traffic: Traffic::Http,
            first: Plugin::new(filter),
            then: Vec::new(),
            workers: 1,
            clusters: Vec::new(),
            log_level: LogLevel::Info,
            peers: Vec::new(),
            require_client_certificate: false,
            trust_chain_verification: TrustChainVerification::VerifyTrustChain,
        }
    }

    /// Puts the filters in front of connections of TCP, not of requests.
    pub fn tcp(mut self) -> Self {
        self.traffic = Traffic::Tcp;
        self
    }

    /// Puts a further filter behind those so far.
    pub fn then(mut self, filter: impl Into<Arc<dyn Module>>) -> Self {
        self.then.push(Plugin::new(filter.into()));
        self
    }

    /// Sets the configuration: JSON, or any bytes. There is none unless it is set.
    pub fn config(mut self, config: impl Into<Vec<u8>>) -> Self {
        self.last().config = config.into();
        self
    }

    /// Sets the root id, by which a module with several filters chooses one.
    pub fn root_id(mut self, root_id: impl Into<String>) -> Self {
        self.last().root_id = root_id.into();
        self
    }

    /// Lets bodies come to the filter while it holds the headers, as Envoy does for a plugin with
    /// `allow_on_headers_stop_iteration`.
    pub fn allow_on_headers_stop_iteration(mut self) -> Self {
        self.last().allow_on_headers_stop_iteration = true;
        self
    }

    /// Sets the name of the plugin: `filter`, and `filter-2` and so on behind it, unless it is set.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.last().name = Some(name.into());
        self
    }

    /// Sets how many workers there are, 1 to 16; one unless it is set. Requests are dealt to them in
    /// turn.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Adds a cluster that filters may call. `upstream` is always there.
    pub fn cluster(mut self, name: impl Into<String>) -> Self {
        self.clusters.push(name.into());
        self
    }

    /// Sets the least level at which log lines are written; [`LogLevel::Info`] unless it is set.
    pub fn log_level(mut self, level: LogLevel) -> Self {
        self.log_level = level;
        self
    }

    /// Adds a client with its certificate: with one, the proxy terminates TLS, and all clients are peers. It
    /// then starts at 2026-01-01T00:00:00Z.
    pub fn peer(mut self, peer: Peer) -> Self {
        self.peers.push(peer);
        self
    }

    /// Refuses clients that show no certificate.
    pub fn require_client_certificate(mut self) -> Self {
        self.require_client_certificate = true;
        self
    }

    /// Lets in clients whose certificates are not good, as Envoy does with `ACCEPT_UNTRUSTED`.
    pub fn accept_untrusted(mut self) -> Self {
        self.trust_chain_verification = TrustChainVerification::AcceptUntrusted;
        self
    }

    /// Starts the proxy: each filter is configured once to try it, once on the main thread, and once on
    /// each worker.
    ///
    /// # Errors
    ///
    /// [`StartError`], with the words of the filter and of the proxy when they refuse.
    pub fn start(self) -> Result<Proxy, StartError> {
        let workers = NonZeroUsize::new(self.workers).ok_or(StartError::NoWorkers)?;
        let tls = self.tls().map_err(StartError::Invalid)?;
        let first = filter_use(0, &self.first);
        let plugins: Vec<Plugin> = [self.first].into_iter().chain(self.then).collect();
        let uses = plugins.iter().enumerate().map(|(index, plugin)| filter_use(index, plugin));
        let scenario = Scenario {
            traffic: self.traffic,
            filters: uses.collect(),
            workers,
            clusters: self.clusters,
            log_level: self.log_level,
            tls,
            ..Scenario::without_steps(first)
        };
        scenario.check().map_err(StartError::Invalid)?;
        let loader = |wanted: &FilterUse| -> Result<Arc<dyn Module>, HostStartError> {
            let index = scenario.filters.iter().position(|own| own.source == wanted.source);
            match index.and_then(|index| plugins.get(index)) {
                Some(plugin) => Ok(Arc::clone(&plugin.filter)),
                None => Err(HostStartError::Module("a filter that was not named".into())),
            }
        };
        let loader: &Loader<'_> = &loader;
        match Offline::new(HostName::Wasmtime, loader).start_recorded(&scenario) {
            Ok(run) => Ok(Proxy::new(run, scenario)),
            Err((HostStartError::Refused { words }, _)) => Err(StartError::Refused { words }),
            Err((HostStartError::Module(error) | HostStartError::Host(error), _)) => {
                Err(StartError::Host(error))
            }
        }
    }

    /// The TLS of the listener; none without a peer and without a word about certificates.
    fn tls(&self) -> Result<Option<Tls>, InvalidScenario> {
        let Self { require_client_certificate, trust_chain_verification, .. } = *self;
        if self.peers.is_empty()
            && !require_client_certificate
            && trust_chain_verification == TrustChainVerification::VerifyTrustChain
        {
            return Ok(None);
        }
        let subject = DistinguishedName::of_common_name("proxy");
        let subject = subject.map_err(|error| InvalidScenario(error.to_string()))?;
        Ok(Some(Tls {
            require_client_certificate,
            trust_chain_verification,
            certificate: Issuance::new(subject),
            peers: self.peers.iter().cloned().map(Peer::read).collect::<Result<_, _>>()?,
        }))
    }

    fn last(&mut self) -> &mut Plugin {
        self.then.last_mut().unwrap_or(&mut self.first)
    }
}

fn filter_use(index: usize, plugin: &Plugin) -> FilterUse {
    let own = match index {
        0 => "filter".to_owned(),
        _ => format!("filter-{}", index + 1),
    };
    FilterUse {
        name: plugin.name.clone().unwrap_or_else(|| own.clone()),
        root_id: plugin.root_id.clone(),
        allow_on_headers_stop_iteration: plugin.allow_on_headers_stop_iteration,
        ..FilterUse::new(FilterSource::BuiltIn(own), plugin.config.clone())
    }
}

/// Why a proxy did not start.
pub enum StartError {
    /// A filter was not taken, mostly for its configuration.
    Refused {
        /// The filter's own words and the proxy's, one per line.
        words: String,
    },
    /// There would be no worker to serve a request.
    NoWorkers,
    /// What was asked for is out of bounds.
    Invalid(InvalidScenario),
    /// The host cannot run the filter at all.
    Host(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { words } => f.write_str(words),
            Self::NoWorkers => f.write_str("workers: 0 is not at least 1"),
            Self::Invalid(error) => write!(f, "{error}"),
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

/// As it is displayed, for tests that unwrap.
impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for StartError {}
