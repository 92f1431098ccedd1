//! `tollgate serve`: a local HTTP proxy with filters in it.

mod reload;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use tollgate_abi::LogLevel;
use tollgate_host::offline::{Offline, Run};
use tollgate_host::proxy::{Configured, StartError};
use tollgate_host::recording::{Head, REDACTED};
use tollgate_host::scenario::{FilterUse, HostName, Scenario};
use tollgate_host::world::EPOCH;
use tollgate_host_serve::{Access, Options, Origin, Recorder, Told, changes, serve};

use crate::chain::Chain;
use crate::deployed::From;
use crate::filters::{BuiltIns, DeclaredImports, Modules};
use crate::limits::LimitOptions;
use crate::{Outcome, print};
use reload::Place;
use tls::TlsOptions;

/// Arguments of `tollgate serve`.
#[derive(Args)]
pub(crate) struct Serve {
    /// A filter: a built-in name, a file, or an image `oci://…`. Several make a chain, in this order.
    #[arg(
        long = "filter",
        value_name = "FILTER",
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    filters: Vec<String>,
    /// The configuration of a filter, YAML or JSON: the first file is for the first filter, and so on.
    #[arg(long = "config", value_name = "FILE", conflicts_with = "from")]
    configs: Vec<PathBuf>,
    #[command(flatten)]
    from: From,
    /// Where requests go that pass, as http://HOST:PORT or https://HOST:PORT.
    #[arg(long, value_name = "URL")]
    upstream: Origin,
    /// Where to listen. Port 0 is any that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// What filters may call, by the name of the cluster; may be repeated.
    #[arg(long = "cluster", value_name = "NAME=URL", value_parser = cluster)]
    clusters: Vec<(String, Origin)>,
    /// How many workers share the connections, 1 to 16.
    #[arg(long, value_name = "N", default_value = "1")]
    workers: NonZeroUsize,
    /// Write no line for each request.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    tls: TlsOptions,
    #[command(flatten)]
    recording: Recording,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    imports: DeclaredImports,
    #[command(flatten)]
    built_ins: BuiltIns,
}

/// What is recorded.
#[derive(Args)]
struct Recording {
    /// Append to a file what comes from outside and what is decided, for `tollgate replay`. Bodies stay in
    /// it as they are, and so does the configuration; of some headers only which values are the same:
    /// authorization, cookie, proxy-authorization, set-cookie, x-amz-security-token, x-api-key, x-auth-token,
    /// x-csrf-token.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Replace the values of this header too, as those above.
    #[arg(long, value_name = "HEADER", requires = "record")]
    redact: Vec<String>,
    /// Keep the values of this header, which would be replaced.
    #[arg(long, value_name = "HEADER", requires = "record")]
    keep: Vec<String>,
    /// How long the file may be before nothing more is recorded, in MiB.
    #[arg(long, value_name = "MIB", default_value = "256", requires = "record")]
    record_limit: u32,
}

impl Recording {
    fn redacted(&self) -> Vec<String> {
        let names = REDACTED.iter().map(ToString::to_string).chain(self.redact.iter().cloned());
        let mut names: Vec<String> = names.map(|name| name.to_ascii_lowercase()).collect();
        names.retain(|name| !self.keep.iter().any(|kept| kept.eq_ignore_ascii_case(name)));
        names.sort();
        names.dedup();
        names
    }
}

fn cluster(text: &str) -> Result<(String, Origin), String> {
    let (name, origin) = text.split_once('=').ok_or("write it as NAME=URL")?;
    if name.is_empty() {
        return Err("a cluster has a name; write it as NAME=URL".into());
    }
    let origin = origin.parse().map_err(|error| format!("{error}"))?;
    Ok((name.to_owned(), origin))
}

impl Serve {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What cannot be read or run, and a filter that does what ends an Envoy.
    pub(crate) fn run(self) -> Result<Outcome> {
        let chain = self.chain()?;
        let scenario = self.scenario(&chain)?;
        let tls = self.tls.server()?;
        let origins = self.clusters.iter().map(|(_, origin)| origin);
        let trust = self.tls.trust(origins.chain([&self.upstream]))?;
        let limits = self.limits.read()?;
        let modules = Modules::new(self.built_ins.clone(), limits)?;
        let loader = |filter: &FilterUse| modules.for_scenario(filter);
        let host = Offline::new(HostName::Wasmtime, &loader).with_limits(limits);
        let mut run = match host.start_run(&scenario) {
            Ok(run) => run,
            Err(StartError::Refused { words }) => {
                eprintln!("refused: {words}");
                return Ok(Outcome::Failed);
            }
            Err(error) => return Err(error.into()),
        };
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(EPOCH);
        run.set_clock(wall);
        let recorder = self.recorder(&scenario, &run, wall)?;
        let (changer, changes) = changes();
        let called = scenario.filters.iter().enumerate();
        let called: Vec<String> =
            called.map(|(place, filter)| chain.called(place, filter)).collect();
        let places = places(&scenario, &modules)?;
        reload::watch(chain, places, modules, self.built_ins, changer)?;
        let Self { upstream, listen, clusters, quiet, .. } = self;
        let mut clusters: BTreeMap<String, Origin> = clusters.into_iter().collect();
        clusters.insert("upstream".into(), upstream.clone());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let changes = Some(changes);
        let options = Options { listen, tls, trust, upstream, clusters, recorder, changes };
        serve(run, options, move |told| tell(&told, scheme, &called, quiet))?;
        Ok(Outcome::Done)
    }

    fn recorder(&self, scenario: &Scenario, run: &Run, wall: Duration) -> Result<Option<Recorder>> {
        let Some(file) = &self.recording.record else { return Ok(None) };
        let redacted = self.recording.redacted();
        eprintln!("records to {}, without the values of {}", file.display(), redacted.join(", "));
        let head = Head::new(scenario, run.codes(), self.imports.words(), wall, redacted);
        let most_bytes = u64::from(self.recording.record_limit) << 20;
        let recorder = Recorder::append(file, most_bytes, &head);
        recorder.map(Some).with_context(|| format!("{} cannot be written", file.display()))
    }

    /// What says which filters there are.
    fn chain(&self) -> Result<Chain> {
        if self.filters.is_empty() {
            return Ok(Chain::Deployed(self.from.clone()));
        }
        self.from.refuse_without_file()?;
        Ok(Chain::Named { filters: self.filters.clone(), configs: self.configs.clone() })
    }

    fn scenario(&self, chain: &Chain) -> Result<Scenario> {
        let filters = chain.read(&self.built_ins)?.into_iter().collect::<Result<Vec<_>>>()?;
        let first = filters.first().cloned().context("--filter: name at least one")?;
        let scenario = Scenario {
            filters,
            workers: self.workers,
            clusters: self.clusters.iter().map(|(name, _)| name.clone()).collect(),
            imports: self.imports.all(),
            log_level: LogLevel::Info,
            ..Scenario::without_steps(first)
        };
        scenario.check()?;
        Ok(scenario)
    }
}

/// What is looked at again when files change.
fn places(scenario: &Scenario, modules: &Modules) -> Result<Vec<Place>> {
    let places = scenario.filters.iter();
    places
        .map(|last| Ok(Place { last: last.clone(), module: modules.for_scenario(last)? }))
        .collect()
}

fn tell(told: &Told<'_>, scheme: &str, filters: &[String], quiet: bool) {
    match told {
        Told::Listens(address) => eprintln!("listens on {scheme}://{address}"),
        Told::Log(line) => eprintln!("{line}"),
        Told::Trapped(trap) => eprintln!("{trap}"),
        Told::Exchanged { place, configured } => {
            let filter = filters.get(*place).map_or("", String::as_str);
            match configured {
                Configured::Accepted => eprintln!("reloaded: new requests find the new {filter}"),
                Configured::Refused { words } => {
                    eprintln!("refused: {words}\nthe old {filter} stays");
                }
            }
        }
        Told::NoHandshake(why) => eprintln!("a client was not let in: {why}"),
        Told::RecordingEnds(why) => eprintln!("warning: {why}"),
        Told::Access(_) if quiet => {}
        Told::Access(Access { method, path, status, went_upstream, micros }) => {
            let status = status.map_or_else(|| "-".to_owned(), |status| status.to_string());
            let from = if *went_upstream { "upstream" } else { "proxy" };
            // Whoever reads may have gone; the proxy goes on.
            let _unread = print(&format!("{status} {method} {path} {from} {micros} µs"));
        }
    }
}
