//! `tollgate serve`: a local HTTP proxy with filters in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use tollgate_abi::LogLevel;
use tollgate_host::offline::{Offline, Run};
use tollgate_host::proxy::{Proxy, StartError};
use tollgate_host::scenario::{ClockStep, FilterSource, FilterUse, HostName, Scenario};
use tollgate_host::world::EPOCH;
use tollgate_host_serve::{Access, Options, Origin, Told, serve};
use tollgate_module::Module;

use crate::filters::{BuiltIns, Modules, read_configuration};
use crate::limits::LimitOptions;
use crate::{Outcome, print};

/// Arguments of `tollgate serve`.
#[derive(Args)]
pub(crate) struct Serve {
    /// A filter: a built-in name, or a file. Several make a chain, in this order.
    #[arg(long = "filter", value_name = "FILTER", required = true)]
    filters: Vec<String>,
    /// The configuration of a filter, YAML or JSON: the first file is for the first filter, and so on.
    #[arg(long = "config", value_name = "FILE")]
    configs: Vec<PathBuf>,
    /// Where requests go that pass, as http://HOST:PORT.
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
    limits: LimitOptions,
    #[command(flatten)]
    built_ins: BuiltIns,
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
        let run = match self.start()? {
            Ok(run) => run,
            Err(words) => {
                eprintln!("refused: {words}");
                return Ok(Outcome::Failed);
            }
        };
        let Self { upstream, listen, clusters, quiet, .. } = self;
        let mut clusters: BTreeMap<String, Origin> = clusters.into_iter().collect();
        clusters.insert("upstream".into(), upstream.clone());
        serve(run, Options { listen, upstream, clusters }, move |told| tell(&told, quiet))?;
        Ok(Outcome::Done)
    }

    /// Starts the host, or gives the words with which it refused.
    fn start(&self) -> Result<Result<Run, String>> {
        let scenario = self.scenario()?;
        let limits = self.limits.read()?;
        let modules = Modules::new(self.built_ins.clone(), limits)?;
        let loader = |filter: &FilterUse| modules.for_scenario(filter);
        let host = Offline::new(HostName::Wasmtime, &loader).with_limits(limits);
        let mut run = match host.start_run(&scenario) {
            Ok(run) => run,
            Err(StartError::Refused { words }) => return Ok(Err(words)),
            Err(error) => return Err(error.into()),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(EPOCH);
        run.step_clock(since_epoch(now))?;
        Ok(Ok(run))
    }

    fn scenario(&self) -> Result<Scenario> {
        if self.configs.len() > self.filters.len() {
            let (configs, filters) = (self.configs.len(), self.filters.len());
            bail!(
                "--config stands {configs} times for {filters} filters; the n-th is for the n-th"
            );
        }
        let mut filters = Vec::new();
        for (index, filter) in self.filters.iter().enumerate() {
            let source = FilterSource::parse(filter)?;
            let config =
                self.configs.get(index).map(|file| read_configuration(file)).transpose()?;
            let (file, bytes) = self.built_ins.read(&source)?;
            let module = Module::read(&bytes).with_context(|| format!("{}", file.display()))?;
            let metadata = module.metadata().with_context(|| format!("{}", file.display()))?;
            let needs = metadata.map(|metadata| metadata.needs).unwrap_or_default();
            filters.push(FilterUse {
                allow_on_headers_stop_iteration: needs
                    .iter()
                    .any(|need| need == "allow_on_headers_stop_iteration"),
                ..FilterUse::new(source, config.unwrap_or_default())
            });
        }
        let first = filters.first().cloned().context("--filter: name at least one")?;
        let scenario = Scenario {
            filters,
            workers: self.workers,
            clusters: self.clusters.iter().map(|(name, _)| name.clone()).collect(),
            log_level: LogLevel::Info,
            ..Scenario::without_steps(first)
        };
        scenario.check()?;
        Ok(scenario)
    }
}

/// How the clock of the host comes to show `now`.
fn since_epoch(now: Duration) -> ClockStep {
    match now.checked_sub(EPOCH) {
        Some(by) => ClockStep::Forward(by),
        None => ClockStep::Back(EPOCH.saturating_sub(now)),
    }
}

fn tell(told: &Told<'_>, quiet: bool) {
    match told {
        Told::Listens(address) => eprintln!("listens on http://{address}"),
        Told::Log(line) => eprintln!("{line}"),
        Told::Access(_) if quiet => {}
        Told::Access(Access { method, path, status, went_upstream, micros }) => {
            let status = status.map_or_else(|| "-".to_owned(), |status| status.to_string());
            let from = if *went_upstream { "upstream" } else { "proxy" };
            // Whoever reads may have gone; the proxy goes on.
            let _unread = print(&format!("{status} {method} {path} {from} {micros} µs"));
        }
    }
}
