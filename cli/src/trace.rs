//! `tollgate trace`: the callbacks and host calls of a scenario, in order.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tollgate_host::offline::Offline;
use tollgate_host::proxy::ProxyHost;
use tollgate_host::report::Verdict;
use tollgate_host::run::{Start, judge_start, play, skipped};
use tollgate_host::scenario::{FilterUse, HostName, Scenario};

use crate::deployed::From;
use crate::filters::{BuiltIns, Modules, linked};
use crate::{Outcome, print};

/// Arguments of `tollgate trace`.
#[derive(Args)]
pub(crate) struct Trace {
    /// The scenario file.
    scenario: PathBuf,
    /// The engine that runs the filters.
    #[arg(long, value_enum, default_value = "wasmtime")]
    on: Engine,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    built_ins: BuiltIns,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    /// wasmtime.
    Wasmtime,
    /// None: the built-in filters linked natively.
    Native,
}

impl Trace {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What cannot be read or run at all.
    pub(crate) fn run(self) -> Result<Outcome> {
        let file = self.scenario.display();
        let mut scenario = Scenario::read(&self.scenario).with_context(|| format!("{file}"))?;
        if let Some(filters) = self.from.filters()? {
            scenario.filters = filters;
            scenario.check().with_context(|| format!("{file}"))?;
        }
        match self.on {
            Engine::Native => trace(&scenario, &Offline::new(HostName::Native, &linked)),
            Engine::Wasmtime => {
                let modules = Modules::new(self.built_ins)?;
                let loader = |filter: &FilterUse| modules.for_scenario(filter);
                trace(&scenario, &Offline::new(HostName::Wasmtime, &loader))
            }
        }
    }
}

fn trace(scenario: &Scenario, host: &Offline<'_>) -> Result<Outcome> {
    if let Some(verdict) = skipped(scenario, host.name()) {
        return Ok(tell(&verdict));
    }
    let (started, mut transcript) = match host.start_recorded(scenario) {
        Ok(run) => (Ok(run), Vec::new()),
        Err((error, transcript)) => (Err(error), transcript),
    };
    let verdict = match judge_start(scenario, started)? {
        Start::Judged(verdict) => verdict,
        Start::Running(mut run) => {
            let failures = play(scenario, &mut run);
            transcript = run.take_transcript();
            Verdict::of(failures)
        }
    };
    for entry in &transcript {
        print(&entry.to_string())?;
    }
    Ok(tell(&verdict))
}

/// Tells on standard error what was not as expected.
fn tell(verdict: &Verdict) -> Outcome {
    match verdict {
        Verdict::Passed => Outcome::Done,
        Verdict::Skipped { reason } => {
            eprintln!("skipped: {reason}");
            Outcome::Done
        }
        Verdict::Failed { failures } => {
            for failure in failures {
                eprintln!("not as expected: {failure}");
            }
            Outcome::Failed
        }
    }
}
