//! `tollgate test`: play scenarios and judge what comes of them.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tollgate_host::offline::Offline;
use tollgate_host::proxy::ProxyHost;
use tollgate_host::report::{Case, Report, Verdict};
use tollgate_host::run::run;
use tollgate_host::scenario::{FilterUse, HostName};
use tollgate_host_envoy::{EnvoyHost, find_envoy};

use crate::filters::{BuiltIns, Modules, Scenarios, linked, read_scenarios, refuse_unloadable};
use crate::{Format, Outcome, print};

/// The virtual environment into which `cargo ci` fetches Envoy.
const FETCHED_ENVOY: &str = "target/envoy/venv";

/// Arguments of `tollgate test`.
#[derive(Args)]
pub(crate) struct Test {
    /// Scenario files, or folders: every YAML file below a folder named `scenarios`.
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Where the scenarios run.
    #[arg(long, value_enum, default_value = "wasmtime")]
    on: On,
    /// The Envoy binary; else `$TOLLGATE_ENVOY`, then `PATH`, then the one that `cargo ci` fetched.
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// How many scenarios run at once; by default as many as there are processors.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// How the result is written.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    built_ins: BuiltIns,
}

/// A host by its name on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum On {
    /// The offline host with wasmtime as its engine.
    Wasmtime,
    /// A real Envoy process.
    Envoy,
    /// The offline host with the built-in filters linked natively.
    Native,
}

impl Test {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What cannot be read or run at all: a scenario, a module, a missing Envoy.
    pub(crate) fn run(self) -> Result<Outcome> {
        let scenarios = read_scenarios(&self.paths)?;
        let report = match self.on {
            On::Wasmtime => {
                let modules = Modules::new(self.built_ins)?;
                for filter in filters(&scenarios) {
                    modules.load(&filter.source)?;
                }
                let loader = |filter: &FilterUse| modules.for_scenario(filter);
                play_all(&scenarios, &Offline::new(HostName::Wasmtime, &loader), self.jobs)?
            }
            On::Native => {
                play_all(&scenarios, &Offline::new(HostName::Native, &linked), self.jobs)?
            }
            On::Envoy => {
                for filter in filters(&scenarios) {
                    let (file, bytes) = self.built_ins.read(&filter.source)?;
                    refuse_unloadable(&file, &bytes)?;
                }
                let envoy = find_envoy(self.envoy.as_deref(), Path::new(FETCHED_ENVOY))?;
                let host = EnvoyHost::new(envoy, self.built_ins.folder());
                play_all(&scenarios, &host, self.jobs)?
            }
        };
        print(&match self.format {
            Format::Json => serde_json::to_string_pretty(&report)?,
            Format::Text => text(&report),
        })?;
        Ok(if report.failed == 0 { Outcome::Done } else { Outcome::Failed })
    }
}

fn filters(scenarios: &Scenarios) -> impl Iterator<Item = &FilterUse> {
    scenarios.iter().flat_map(|(_, scenario)| &scenario.filters)
}

/// Plays scenarios side by side; the report keeps their order.
fn play_all(
    scenarios: &Scenarios,
    host: &dyn ProxyHost,
    jobs: Option<NonZeroUsize>,
) -> Result<Report> {
    let jobs =
        jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let next = AtomicUsize::new(0);
    let cases = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(scenarios.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((file, scenario)) = scenarios.get(index) else { return };
                    let case = run(scenario, host)
                        .map(|verdict| Case {
                            file: file.display().to_string(),
                            name: scenario.name.clone(),
                            host: host.name(),
                            verdict,
                        })
                        .with_context(|| format!("{}", file.display()));
                    cases.lock().unwrap_or_else(PoisonError::into_inner).push((index, case));
                }
            });
        }
    });
    let mut cases = cases.into_inner().unwrap_or_else(PoisonError::into_inner);
    cases.sort_by_key(|(index, _)| *index);
    cases.into_iter().map(|(_, case)| case).collect()
}

fn text(report: &Report) -> String {
    let mut lines = Vec::new();
    for case in &report.cases {
        let Case { file, name, host, verdict } = case;
        let place = format!("{host}  {file}: {name}");
        match verdict {
            Verdict::Passed => lines.push(format!("ok      {place}")),
            Verdict::Skipped { reason } => {
                lines.push(format!("skipped {place}\n        {}", reason.trim()));
            }
            Verdict::Failed { failures } => {
                lines.push(format!("FAILED  {place}"));
                lines.extend(failures.iter().map(|failure| {
                    format!("        {}", failure.to_string().replace('\n', "\n        "))
                }));
            }
        }
    }
    lines.push(report.to_string());
    lines.join("\n")
}
