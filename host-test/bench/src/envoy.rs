//! Measuring in a real Envoy: one worker, a listener for each subject, answers without an upstream.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_host::proxy::StartError;
use tollgate_host::scenario::{HostName, Traffic};
use tollgate_host_envoy::{Supervised, wasm_filter};

use crate::load::{self, Client, Request};
use crate::rounds::rounds;
use crate::{NotMeasured, Report, Spread, Subject, Target};

/// How long Envoy may take to start; compiling the modules is most of it.
const STARTING: Duration = Duration::from_secs(30);

/// How often is looked whether it serves.
const INTERVAL: Duration = Duration::from_millis(20);

/// Requests of a subject in a round that count.
const REQUESTS: usize = 400;

/// Requests before those, which bring the code of the subject back into the caches.
const SETTLING: usize = 40;

/// Requests of each subject before the first round. Envoy's engine compiles what is hot anew meanwhile.
const WARMING: usize = 6000;

/// How long Envoy is given to finish what it does after an answer.
const IDLE: Duration = Duration::from_millis(1);

/// The listener that the others are compared with.
const NONE: &str = "no filter";

/// A listener of the Envoy that is measured.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Its filters as Envoy is told of them, without the router.
    pub filters: Vec<Value>,
    /// Routes before the one that answers 200 to everything.
    pub routes: Vec<Value>,
    /// TLS before the filters.
    pub tls: Option<Secured>,
}

/// TLS that a listener terminates. Another one of the same Envoy begins it for the client, so that clients speak
/// plain text; what both cost is the same for all.
#[derive(Clone, Debug)]
pub struct Secured {
    /// The transport socket of the listener.
    pub downstream: Value,
    /// The transport socket of what connects to it.
    pub upstream: Value,
}

/// Measures the processor time of subjects over a listener without a filter, for about so long, after
/// they have started and warmed up. Every request that passes the filters is answered with 200. `modules`
/// is the folder of the built-in filters.
///
/// # Errors
///
/// [`NotMeasured`] when Envoy does not start with their filters, or does not answer.
pub fn in_envoy(
    subjects: &[Subject],
    binary: &Path,
    modules: &Path,
    measuring: Duration,
) -> Result<Report, NotMeasured> {
    let none = Listener { name: NONE.into(), filters: Vec::new(), routes: Vec::new(), tls: None };
    let mut listeners = vec![none];
    for (number, subject) in subjects.iter().enumerate() {
        listeners.push(listener_of(number, subject, modules)?);
    }
    let envoy = Envoy::start(binary, &listeners)?;
    // Without a filter all requests cost alike, about; what comes of the first subject's is the base.
    let all: Vec<Vec<Request>> =
        subjects.iter().map(|subject| subject.requests.iter().map(Request::of).collect()).collect();
    let requests = all.first().into_iter().chain(&all);
    let mut clients = listeners
        .iter()
        .zip(requests)
        .map(|(listener, requests)| Ok(Client::connect(envoy.listener(&listener.name)?, requests)?))
        .collect::<Result<Vec<_>, NotMeasured>>()?;
    let rounds = envoy.measure(&mut clients, measuring)?;
    Ok(report(subjects, rounds, clients.get(1..).unwrap_or_default()))
}

fn report(subjects: &[Subject], rounds: Rounds, clients: &[Client<'_>]) -> Report {
    let Rounds { base, over } = rounds;
    let first = over.first().map(|first| Spread::of(first.clone()));
    let targets = subjects.iter().zip(over).zip(clients).map(|((subject, over), client)| {
        let micros = Spread::of(over.clone());
        // Of differences that may be near zero, only the medians are worth a ratio.
        let by = first.map_or(f64::NAN, |first| first.median);
        let answers = client.answers().iter();
        Target {
            name: subject.name.clone(),
            requests: u64::try_from(over.len() * REQUESTS).unwrap_or(u64::MAX),
            answers: answers.map(|(status, &times)| (status.to_string(), times)).collect(),
            micros,
            ratio: micros.over(by),
            micros_by_round: over,
            inside: None,
        }
    });
    let targets = targets.collect();
    let rounds = base.len();
    Report { on: HostName::Envoy, rounds, base_micros: Some(Spread::of(base)), targets }
}

fn listener_of(number: usize, subject: &Subject, modules: &Path) -> Result<Listener, NotMeasured> {
    let name = || subject.name.clone();
    if subject.scenario.has_callouts() {
        return Err(NotMeasured::Callouts { name: name() });
    }
    let module = |error: Box<dyn std::error::Error + Send + Sync>| NotMeasured::Start {
        name: name(),
        error: StartError::Module(error),
    };
    let filters = subject.scenario.filters.iter().map(|filter| {
        let file = filter.source.file(modules);
        let file = fs::canonicalize(&file)
            .map_err(|error| module(format!("{}: {error}", file.display()).into()))?;
        wasm_filter(filter, &file, Traffic::Http).map_err(|error| module(Box::new(error)))
    });
    let filters = filters.collect::<Result<Vec<_>, _>>()?;
    // Two subjects may have one name.
    let name = format!("{number} {}", subject.name);
    Ok(Listener { name, filters, routes: Vec::new(), tls: None })
}

/// What rounds gave: processor time per request in microseconds.
#[derive(Clone, Debug)]
pub struct Rounds {
    /// For each round, of the first client: of before and after the others.
    pub base: Vec<f64>,
    /// For each of the other clients, over that of the first, by round.
    pub over: Vec<Vec<f64>>,
}

/// A running Envoy with its listeners.
pub struct Envoy {
    // Dropped first, and so killed before its folder is gone.
    _process: Supervised,
    listeners: HashMap<String, SocketAddr>,
    tasks: PathBuf,
    _folder: TempDir,
}

impl Envoy {
    /// Starts Envoy and waits until it serves.
    ///
    /// # Errors
    ///
    /// [`NotMeasured::NoEnvoy`] with what it said, when it does not start.
    pub fn start(binary: &Path, listeners: &[Listener]) -> Result<Self, NotMeasured> {
        let folder = TempDir::with_prefix("tollgate-bench-")?;
        let file = |name: &str| folder.path().join(name);
        fs::write(file("envoy.json"), bootstrap(listeners, folder.path()).to_string())?;
        let mut command = vec![binary.into(), "--config-path".into(), file("envoy.json").into()];
        command.extend(["--admin-address-path".into(), file("admin").into()]);
        let rest = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"];
        command.extend(rest.map(Into::into));
        let mut process = Supervised::start(&command, folder.path(), "log")?;

        let begin = Instant::now();
        let addresses = loop {
            if process.has_ended()? || begin.elapsed() > STARTING {
                let said = fs::read_to_string(file("log")).unwrap_or_default();
                return Err(NotMeasured::NoEnvoy { said: said.trim_end().into() });
            }
            if let Some(addresses) = addresses(&file("admin"), listeners.len()) {
                break addresses;
            }
            sleep(INTERVAL);
        };
        let process_id = fs::read_to_string(file("pid"))?;
        let tasks = Path::new("/proc").join(process_id.trim()).join("task");
        Ok(Self { _process: process, listeners: addresses, tasks, _folder: folder })
    }

    /// Where a listener is.
    ///
    /// # Errors
    ///
    /// [`NotMeasured::NoListener`].
    pub fn listener(&self, name: &str) -> Result<SocketAddr, NotMeasured> {
        let listener = self.listeners.get(name).copied();
        listener.ok_or_else(|| NotMeasured::NoListener { name: name.into() })
    }

    /// Lets clients send their requests, warming up and then in rounds for about so long. The first is the
    /// one that the others are compared with.
    ///
    /// # Errors
    ///
    /// [`NotMeasured::Io`] when Envoy does not answer, or has ended.
    pub fn measure(
        &self,
        clients: &mut [Client<'_>],
        measuring: Duration,
    ) -> Result<Rounds, NotMeasured> {
        for client in &mut *clients {
            client.send(WARMING)?;
        }
        let mut given = Rounds { base: Vec::new(), over: Vec::new() };
        let Some((first, others)) = clients.split_first_mut() else { return Ok(given) };
        given.over.resize_with(others.len(), Vec::new);
        for order in rounds(others.len(), measuring) {
            let mut costs = vec![f64::NAN; others.len()];
            let before = self.cost(first)?;
            for index in order {
                if let (Some(client), Some(cost)) = (others.get_mut(index), costs.get_mut(index)) {
                    *cost = self.cost(client)?;
                }
            }
            let around = f64::midpoint(before, self.cost(first)?);
            given.base.push(around);
            for (over, cost) in given.over.iter_mut().zip(costs) {
                over.push(cost - around);
            }
        }
        Ok(given)
    }

    fn cost(&self, client: &mut Client<'_>) -> Result<f64, NotMeasured> {
        client.send(SETTLING)?;
        sleep(IDLE);
        let before = self.processor_time()?;
        let sent = client.send(REQUESTS)?;
        sleep(IDLE);
        let used = self.processor_time()?.saturating_sub(before);
        Ok(used.as_secs_f64() * 1e6 / u32::try_from(sent).map_or(f64::INFINITY, f64::from))
    }

    /// The processor time that all threads of the process have used.
    ///
    /// `/proc/PID/stat` counts in hundredths of a second, which is too coarse for a turn of a round;
    /// the scheduler's own account is in nanoseconds.
    fn processor_time(&self) -> io::Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(&self.tasks)? {
            let file = task?.path().join("schedstat");
            let text = fs::read_to_string(&file)?;
            let used = text.split_whitespace().next().and_then(|used| used.parse::<u64>().ok());
            let unreadable = || {
                let what = format!("{}: {text}", file.display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            };
            nanoseconds += used.ok_or_else(unreadable)?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}

/// The listeners by name, once Envoy serves.
fn addresses(admin: &Path, expected: usize) -> Option<HashMap<String, SocketAddr>> {
    let admin = fs::read_to_string(admin).ok()?.trim().parse().ok()?;
    if !load::get(admin, "/ready", &[]).ok()?.starts_with(b"HTTP/1.1 200 ") {
        return None;
    }
    // A line for each: `name::address`.
    let answer = load::get(admin, "/listeners", &[]).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let named = answer.lines().filter_map(|line| line.trim().rsplit_once("::"));
    let found: HashMap<String, SocketAddr> = named
        .filter_map(|(name, address)| Some((name.to_owned(), address.parse().ok()?)))
        .collect();
    (found.len() == expected).then_some(found)
}

fn bootstrap(listeners: &[Listener], folder: &Path) -> Value {
    let pipe = |number: usize| json!({ "pipe": { "path": folder.join(format!("{number}.sock")) } });
    let mut rendered = Vec::new();
    let mut clusters = Vec::new();
    for (number, listener) in listeners.iter().enumerate() {
        match &listener.tls {
            None => rendered.push(listener.to_json(&listener.name, &loopback())),
            Some(tls) => {
                rendered.push(listener.before(number));
                rendered.push(listener.to_json(&number.to_string(), &pipe(number)));
                clusters.push(tls.cluster(number, &pipe(number)));
            }
        }
    }
    json!({
        "node": { "id": "bench", "cluster": "bench" },
        "admin": { "address": loopback() },
        "static_resources": { "listeners": rendered, "clusters": clusters },
    })
}

impl Secured {
    fn cluster(&self, number: usize, address: &Value) -> Value {
        json!({
            "name": number.to_string(),
            "load_assignment": {
                "cluster_name": number.to_string(),
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
            },
            "transport_socket": self.upstream,
        })
    }
}

impl Listener {
    /// The answer that every request gets which comes as far.
    pub fn answer() -> Value {
        json!({ "status": 200, "body": { "inline_string": "ok\n" } })
    }

    /// What begins TLS for the clients of this listener.
    fn before(&self, number: usize) -> Value {
        let kind = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
        json!({
            "name": self.name,
            "address": loopback(),
            "filter_chains": [{
                "filters": [{
                    "name": "envoy.filters.network.tcp_proxy",
                    "typed_config": {
                        "@type": format!("type.googleapis.com/{kind}"),
                        "stat_prefix": "bench",
                        "cluster": number.to_string(),
                    },
                }],
            }],
        })
    }

    fn to_json(&self, name: &str, address: &Value) -> Value {
        let kind =
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        let router = json!({
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            },
        });
        let rest = json!({ "match": { "prefix": "/" }, "direct_response": Self::answer() });
        let filters: Vec<&Value> = self.filters.iter().chain([&router]).collect();
        let routes: Vec<&Value> = self.routes.iter().chain([&rest]).collect();
        json!({
            "name": name,
            "address": address,
            "filter_chains": [{
                "transport_socket": self.tls.as_ref().map(|tls| &tls.downstream),
                "filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": {
                        "@type": format!("type.googleapis.com/{kind}"),
                        "stat_prefix": "bench",
                        "codec_type": "HTTP1",
                        "generate_request_id": false,
                        "http_protocol_options": { "enable_trailers": true },
                        "http_filters": filters,
                        "route_config": {
                            "virtual_hosts": [{
                                "name": "all",
                                "domains": ["*"],
                                "routes": routes,
                            }],
                        },
                    },
                }],
            }],
        })
    }
}

fn loopback() -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } })
}
