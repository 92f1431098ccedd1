//! Starting Envoy, up to where it serves and each of its workers has a client.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tollgate_abi::LogLevel;
use tollgate_host::proxy::HostFailure;
use tollgate_host::scenario::{
    MadeUp, Meets, RequestStep, Scenario, Step, Traffic, UPSTREAM, Upstream,
};
use tollgate_host::tls::{Credentials, NotIssued};
use tollgate_host::world::EPOCH;

use crate::admin::{Admin, AdminError};
use crate::bootstrap::{Apart, Bootstrap, Called, LISTENER, Trailers};
use crate::client::{ClientError, Clients};
use crate::clock::{self, Clock, NoClock};
use crate::cluster::Cluster;
use crate::discovery::Discovery;
use crate::log::{self, Log};
use crate::process::Supervised;
use crate::shared::{self, Readers};
use crate::tcp::{self, NotConnected, Workers};
use crate::tls::Identities;
use crate::upstream;

/// How long Envoy may take to start; it takes 0.2 s.
const STARTING: Duration = Duration::from_secs(30);

/// How often is looked whether it serves.
const INTERVAL: Duration = Duration::from_millis(2);

/// A started Envoy with what it stands on.
pub(crate) struct Launch {
    // Dropped first, and so killed before what it uses is gone.
    pub(crate) process: Supervised,
    pub(crate) log: Log,
    pub(crate) upstream: upstream::Upstream,
    /// The upstream of connections of TCP.
    pub(crate) tcp: TcpListener,
    traffic: Traffic,
    /// The clusters that guests may call; none when no scenario says what they meet.
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) clock: Option<Clock>,
    /// The peers, until they have their ways.
    identities: Option<Identities>,
    pub(crate) discovery: Discovery,
    pub(crate) runtime: Runtime,
    files: Files,
    _folder: TempDir,
}

/// The ways to the workers.
pub(crate) enum Ways {
    /// A client of HTTP for each.
    Http(Clients),
    /// Clients of TCP come and go.
    Tcp(Workers),
}

impl Ways {
    /// Those of HTTP.
    pub(crate) fn http(&mut self) -> Result<&mut Clients, HostFailure> {
        match self {
            Self::Http(clients) => Ok(clients),
            Self::Tcp(_) => Err(started_for("connections of TCP")),
        }
    }

    /// Those of TCP.
    pub(crate) fn tcp(&mut self) -> Result<&mut Workers, HostFailure> {
        match self {
            Self::Tcp(workers) => Ok(workers),
            Self::Http(_) => Err(started_for("requests of HTTP")),
        }
    }
}

fn started_for(what: &str) -> HostFailure {
    HostFailure::Impossible { what: format!("this Envoy was started for {what}") }
}

impl Launch {
    /// Starts Envoy in a folder with a chain of `filters`, which are those of `scenario`.
    pub(crate) fn begin(
        envoy: &Path,
        scenario: &Scenario,
        folder: TempDir,
        mut filters: Vec<Value>,
    ) -> Result<Self, NotStarted> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(NotStarted::Io)?;
        let (upstream, clusters) = runtime.block_on(listen(scenario)).map_err(NotStarted::Io)?;
        let tcp = tcp::listen().map_err(NotStarted::Io)?;
        let files = Files::below(folder.path());
        let discovery = Discovery::begin(scenario, &mut filters, folder.path());
        let discovery = discovery.map_err(NotStarted::Io)?;
        let upstream_port = match scenario.traffic {
            Traffic::Http => upstream.port(),
            Traffic::Tcp => tcp.local_addr().map_err(NotStarted::Io)?.port(),
        };
        let credentials = scenario.tls.as_ref().map(|tls| Credentials::issue(tls, EPOCH));
        let credentials = credentials.transpose().map_err(NotStarted::NotIssued)?;
        let tls = scenario.tls.as_ref().zip(credentials.as_ref());
        let identities = tls.map(|(tls, credentials)| Identities::new(tls, credentials));
        let identities = identities.transpose().map_err(NotStarted::Unshowable)?;
        let filter_state: Vec<_> =
            scenario.properties.iter().filter_map(MadeUp::filter_state).collect();
        let bootstrap = Bootstrap {
            traffic: scenario.traffic,
            filters: &filters,
            filter_state: &filter_state,
            proxy: &scenario.proxy,
            trailers: trailers(scenario),
            apart: Apart::of(scenario),
            tls,
            buffer_limit: scenario.buffer_limit,
            upstream_port,
            routed_ports: upstream.further_ports(),
            clusters: called(scenario, &clusters),
            shared: sharing(scenario, &folder.path().join("reader.wasm"))
                .map_err(NotStarted::Io)?,
        };
        let configuration = bootstrap.to_json().to_string();
        fs::write(&files.configuration, configuration).map_err(NotStarted::Io)?;
        let needs_clock = scenario.steps.iter().any(|step| matches!(step, Step::Clock(_)));
        let needs_clock = needs_clock || scenario.tls.is_some();
        let clock = needs_clock.then(|| Clock::new(&clock::compiler(), folder.path())).transpose();
        let mut clock = clock.map_err(NotStarted::NoClock)?;
        if let Some(clock) = clock.as_mut().filter(|_| scenario.tls.is_some()) {
            // Certificates are the same on every host, and so is the time in which they are valid.
            clock.set(EPOCH).map_err(NotStarted::Io)?;
        }
        let command = command(envoy, scenario, &files, clock.as_ref());
        let process =
            Supervised::start(&command, folder.path(), LOG).map_err(NotStarted::NoShell)?;
        let log = Log::open(&files.log, &discovery.configured(&filters));
        let log = log.map_err(NotStarted::Io)?;
        Ok(Self {
            process,
            log,
            upstream,
            tcp,
            traffic: scenario.traffic,
            clusters,
            clock,
            identities,
            discovery,
            runtime,
            files,
            _folder: folder,
        })
    }

    /// Waits until it serves, and until there is a way to each worker: so many clients of HTTP, or one for
    /// connections of TCP.
    pub(crate) fn wait(
        &mut self,
        scenario: &Scenario,
        per_worker: usize,
    ) -> Result<(Admin, Ways, Readers), NotStarted> {
        let begin = Instant::now();
        let mut admin = None;
        loop {
            let has_ended = self.process.has_ended().map_err(NotStarted::Io)?;
            self.log.read_on().map_err(NotStarted::Io)?;
            // What comes from a file is refused without an end.
            let is_refused = !self.discovery.is_empty() && self.log.refusal().is_some();
            if has_ended || is_refused {
                return Err(NotStarted::Ended { said: self.log.last_lines() });
            }
            if begin.elapsed() > STARTING {
                return Err(NotStarted::TooSlow { said: self.log.last_lines() });
            }
            admin = admin.or_else(|| self.files.admin().map(Admin::new));
            // An Envoy that refuses a filter ends while it is asked; the log tells then.
            let serving =
                admin.filter(|admin| self.runtime.block_on(admin.is_ready()).unwrap_or(false));
            if let Some(admin) = serving {
                let listeners =
                    self.runtime.block_on(admin.listeners()).map_err(NotStarted::Admin)?;
                let readers = Readers::among(&listeners, &scenario.watched_vm_ids());
                let listener = *listeners.get(LISTENER).ok_or(NotStarted::NoListener)?;
                let (identities, workers) = (self.identities.take(), scenario.workers.get());
                let ways = connect(self.traffic, listener, admin, identities, workers, per_worker);
                return Ok((admin, self.runtime.block_on(ways)?, readers));
            }
            sleep(INTERVAL);
        }
    }
}

/// Envoy did not start.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// A file or a port cannot be had.
    Io(io::Error),
    /// The shell that supervises it cannot be started.
    NoShell(io::Error),
    /// Its clock cannot be set.
    NoClock(NoClock),
    /// A certificate cannot be had.
    NotIssued(NotIssued),
    /// A certificate cannot be shown.
    Unshowable(rustls::Error),
    /// It ended.
    Ended {
        /// Its last lines.
        said: String,
    },
    /// It did not serve in time.
    TooSlow {
        /// Its last lines.
        said: String,
    },
    /// It does not tell where it listens.
    Admin(AdminError),
    /// It does not listen for the scenario.
    NoListener,
    /// The clients cannot connect.
    Clients(ClientError),
    /// The workers cannot be reached.
    Workers(NotConnected),
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "starting Envoy: {error}"),
            Self::NoShell(error) => write!(f, "starting Envoy needs a shell, `sh`: {error}"),
            Self::NoClock(error) => write!(f, "{error}"),
            Self::NotIssued(error) => write!(f, "{error}"),
            Self::Unshowable(error) => write!(f, "a peer cannot show its certificate: {error}"),
            Self::Ended { said } => write!(f, "Envoy ended while it started; it said:\n{said}"),
            Self::TooSlow { said } => {
                let limit = STARTING.as_secs();
                write!(f, "Envoy does not serve after {limit} s; it said:\n{said}")
            }
            Self::Admin(error) => write!(f, "{error}"),
            Self::NoListener => write!(f, "Envoy serves without its listener `{LISTENER}`"),
            Self::Clients(error) => write!(f, "{error}"),
            Self::Workers(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for NotStarted {}

const LOG: &str = "log";

struct Files {
    configuration: PathBuf,
    admin: PathBuf,
    log: PathBuf,
}

impl Files {
    fn below(folder: &Path) -> Self {
        let [configuration, admin, log] =
            ["envoy.json", "admin", LOG].map(|name| folder.join(name));
        Self { configuration, admin, log }
    }

    /// Where the admin interface is, once Envoy has said so.
    fn admin(&self) -> Option<SocketAddr> {
        fs::read_to_string(&self.admin).ok()?.trim().parse().ok()
    }
}

fn command(
    envoy: &Path,
    scenario: &Scenario,
    files: &Files,
    clock: Option<&Clock>,
) -> Vec<OsString> {
    let workers = scenario.workers.to_string();
    let wasm = format!("wasm:{}", envoy_level(scenario.log_level));
    // `env` gives a clock to Envoy alone, and not to the shell around it.
    let mut command: Vec<OsString> = vec!["env".into()];
    command.extend(clock.into_iter().flat_map(Clock::variables));
    command.extend([envoy.into(), "--config-path".into(), files.configuration.clone().into()]);
    command.extend(["--admin-address-path".into(), files.admin.clone().into()]);
    let rest = [
        ["--concurrency", &workers],
        ["--log-level", "error"],
        ["--component-log-level", &wasm],
        ["--log-format", log::FORMAT],
        ["--log-format-escaped", "--disable-hot-restart"],
    ];
    command.extend(rest.as_flattened().iter().map(|argument| OsStr::new(argument).to_owned()));
    command
}

fn trailers(scenario: &Scenario) -> Trailers {
    let has_trailers = |step: &RequestStep| {
        let answer = match &step.upstream {
            Upstream::Answer(answer) => answer.trailers.as_slice(),
            Upstream::Reset => &[],
        };
        !(step.request.trailers.is_empty() && answer.is_empty())
    };
    let mut requests = scenario.steps.iter().flat_map(Step::requests);
    if requests.any(has_trailers) { Trailers::Some } else { Trailers::None }
}

/// The upstream, and the clusters that guests may call.
async fn listen(scenario: &Scenario) -> io::Result<(upstream::Upstream, Vec<Cluster>)> {
    let (upstream, itself) = upstream::Upstream::listen(&scenario.proxy).await?;
    if !scenario.has_callouts() {
        return Ok((upstream, Vec::new()));
    }
    let own = scenario.clusters.iter().map(|name| Cluster::listen(name, scenario.protocol(name)));
    let clusters: io::Result<Vec<Cluster>> = own.chain([Ok(itself)]).collect();
    Ok((upstream, clusters?))
}

/// The listeners that tell what plugins share, for what the scenario expects of it.
fn sharing(scenario: &Scenario, reader: &Path) -> io::Result<Vec<Value>> {
    let vm_ids = scenario.watched_vm_ids();
    if !vm_ids.is_empty() {
        fs::write(reader, shared::reader()?)?;
    }
    Ok(vm_ids.into_iter().map(|vm_id| shared::listener(vm_id, reader)).collect())
}

fn called<'a>(scenario: &Scenario, clusters: &'a [Cluster]) -> Vec<Called<'a>> {
    let refuses = |cluster: &Cluster| {
        let mut callouts = scenario.steps.iter().flat_map(Step::callouts);
        callouts.any(|callout| {
            callout.cluster == cluster.name && matches!(callout.meets, Meets::Refused)
        })
    };
    let called = |cluster: &'a Cluster| Called {
        name: &cluster.name,
        port: cluster.port(),
        protocol: cluster.protocol,
        connects_anew: refuses(cluster),
    };
    clusters.iter().filter(|cluster| cluster.name != UPSTREAM).map(called).collect()
}

async fn connect(
    traffic: Traffic,
    listener: SocketAddr,
    admin: Admin,
    identities: Option<Identities>,
    workers: usize,
    per_worker: usize,
) -> Result<Ways, NotStarted> {
    Ok(match traffic {
        Traffic::Http => {
            let clients = Clients::connect(listener, admin, identities, workers, per_worker).await;
            Ways::Http(clients.map_err(NotStarted::Clients)?)
        }
        Traffic::Tcp => {
            let workers = Workers::connect(listener, admin, identities, workers).await;
            Ways::Tcp(workers.map_err(NotStarted::Workers)?)
        }
    })
}

/// A level as Envoy names it.
fn envoy_level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warning",
        LogLevel::Error => "error",
        LogLevel::Critical | LogLevel::Unknown(_) => "critical",
    }
}
