//! `tollgate replay`: plays a recording of `serve` again, and compares the decisions.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use tollgate_host::offline::{Loader, Offline};
use tollgate_host::proxy::StartError;
use tollgate_host::recording::{Refusal, Replayed, Session, as_scenario, replay};
use tollgate_host::scenario::{FilterUse, HostName, Scenario};

use crate::chain::{chain, refuse_surplus};
use crate::filters::{BuiltIns, DeclaredImports, Modules, read_configuration};
use crate::limits::LimitOptions;
use crate::{Format, Outcome, print};

/// Arguments of `tollgate replay`.
#[derive(Args)]
pub(crate) struct Replay {
    /// What `tollgate serve --record` wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A filter in place of those that were recorded: a built-in name, or a file. Several make a chain.
    #[arg(long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
    /// A configuration in place of the one that was recorded: the first file is for the first filter, and
    /// so on.
    #[arg(long = "config", value_name = "FILE")]
    configs: Vec<PathBuf>,
    /// Play nothing: write a proxy of the recording as a scenario, which expects what was decided. Of
    /// several proxies a number says which; the default is the first. Files in it are named as `serve` was
    /// given them.
    #[arg(
        long,
        value_name = "PROXY",
        num_args = 0..=1,
        default_missing_value = "1",
        conflicts_with_all = ["filters", "configs", "format", "imports", "seed"]
    )]
    as_scenario: Option<NonZeroUsize>,
    /// The seed of what the proxy is free to choose.
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    /// How the result is written.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    imports: DeclaredImports,
    #[command(flatten)]
    built_ins: BuiltIns,
}

impl Replay {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What cannot be read or run at all.
    pub(crate) fn run(self) -> Result<Outcome> {
        let name = self.file.display();
        let text = std::fs::read(&self.file).with_context(|| format!("{name} cannot be read"))?;
        let sessions = Session::read_all(&text).with_context(|| format!("{name}"))?;
        drop(text);
        if sessions.is_empty() {
            bail!("{name}: it is empty; `tollgate serve --record {name}` writes recordings");
        }
        if let Some(number) = self.as_scenario {
            return self.write(&sessions, number).with_context(|| format!("{name}"));
        }
        let limits = self.limits.read()?;
        let modules = Modules::new(self.built_ins.clone(), limits)?;
        let mut results = Vec::new();
        let mut is_same = true;
        for (index, session) in sessions.iter().enumerate() {
            let place = format!("{name}: proxy {}", index + 1);
            let scenario = self.scenario(session).with_context(|| place.clone())?;
            let began = Instant::now();
            let replayed = match self.play(session, &scenario, &modules) {
                Ok(Ok(replayed)) => replayed,
                Ok(Err(words)) => {
                    eprintln!("{place}: refused: {words}");
                    return Ok(Outcome::Failed);
                }
                Err(error) => return Err(error.context(place)),
            };
            is_same &= replayed.is_same();
            match self.format {
                Format::Text => print(&format!("{place}: {replayed}"))?,
                Format::Json => results.push(document(&replayed)),
            }
            eprintln!("{place}: took {:?}", began.elapsed());
        }
        if self.format == Format::Json {
            print(&serde_json::to_string_pretty(&json!({ "proxies": results }))?)?;
        }
        Ok(if is_same { Outcome::Done } else { Outcome::Failed })
    }

    /// Writes a session as a scenario.
    fn write(&self, sessions: &[Session], number: NonZeroUsize) -> Result<Outcome> {
        let session = sessions.get(number.get() - 1).with_context(|| {
            format!("--as-scenario {number}: the recording has {} proxies", sessions.len())
        })?;
        let name = self.file.file_stem().unwrap_or_default().to_string_lossy();
        let written = as_scenario(session, &format!("recorded in {name}, proxy {number}"))?;
        if written.unfinished > 0 {
            let unfinished = written.unfinished;
            eprintln!("{unfinished} requests were under way when the recording ended: left out");
        }
        print(serde_saphyr::to_string(&written.scenario)?.trim_end())?;
        Ok(Outcome::Done)
    }

    /// Plays a session, or gives the words with which the filters were refused.
    fn play(
        &self,
        session: &Session,
        scenario: &Scenario,
        modules: &Modules,
    ) -> Result<Result<Replayed, String>> {
        let loader = |filter: &FilterUse| modules.for_scenario(filter);
        let host = Offline::new(HostName::Wasmtime, &loader).with_limits(self.limits.read()?);
        let run = match host.start_run(scenario) {
            Ok(run) => run,
            Err(StartError::Refused { words }) => return Ok(Err(words)),
            Err(error) => return Err(error.into()),
        };
        let loader: &Loader<'_> = &loader;
        let exchanging = Some(loader).filter(|_| self.is_as_recorded());
        if exchanging.is_some() {
            for (recorded, code) in session.head.filters.iter().zip(run.codes()) {
                if recorded.code != code.number() {
                    eprintln!(
                        "note: the module of {} is not the one that was recorded",
                        recorded.filter
                    );
                }
            }
        }
        Ok(Ok(replay(session, run, exchanging)?))
    }

    fn is_as_recorded(&self) -> bool {
        self.filters.is_empty() && self.configs.is_empty()
    }

    /// The proxy that was recorded, with what was asked for in place of it.
    fn scenario(&self, session: &Session) -> Result<Scenario> {
        let mut scenario = session.head.scenario().map_err(anyhow::Error::msg)?;
        if self.filters.is_empty() {
            refuse_surplus(&self.configs, scenario.filters.len())?;
            for (filter, config) in scenario.filters.iter_mut().zip(&self.configs) {
                filter.config = read_configuration(config)?;
            }
        } else {
            scenario.filters = chain(&self.filters, &self.configs, &self.built_ins)?;
        }
        scenario.imports.extend(self.imports.all());
        scenario.seed = self.seed;
        scenario.check()?;
        Ok(scenario)
    }
}

/// What came of a session, for tools.
fn document(replayed: &Replayed) -> serde_json::Value {
    let otherwise: Vec<_> = replayed
        .otherwise
        .iter()
        .map(|((then, now), changed)| {
            let requests: Vec<_> = changed
                .iter()
                .map(|changed| json!({ "stream": changed.stream, "request": changed.request }))
                .collect();
            json!({ "then": then, "now": now, "count": changed.len(), "requests": requests })
        })
        .collect();
    let metrics: Vec<_> = replayed
        .metrics
        .iter()
        .map(|(name, (then, now))| json!({ "name": name, "then": then, "now": now }))
        .collect();
    let refusals: Vec<_> = replayed
        .refusals
        .iter()
        .map(|Refusal { at, then, now }| {
            json!({ "seconds": at.as_secs_f64(), "then": then, "now": now })
        })
        .collect();
    json!({
        "same": replayed.same,
        "changed": replayed.changed(),
        "unfinished": replayed.unfinished,
        "made_up_answers": replayed.made_up,
        "unanswered_callouts": replayed.unanswered,
        "missing_callouts": replayed.missing,
        "otherwise": otherwise,
        "metrics": metrics,
        "refusals": refusals,
        "first": replayed.first.as_ref().map(|(stream, difference)| {
            json!({ "stream": stream, "difference": difference })
        }),
    })
}
