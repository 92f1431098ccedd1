//! `tollgate trace`: the callbacks and host calls of a scenario, in order.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tollgate_host::offline::Offline;
use tollgate_host::proxy::StartError;
use tollgate_host::run::play;
use tollgate_host::scenario::{FilterUse, HostName, Scenario};
use tollgate_host::transcript::Entry;

use crate::Outcome;
use crate::filters::{BuiltIns, Modules, linked};

/// Arguments of `tollgate trace`.
#[derive(Args)]
pub(crate) struct Trace {
    /// The scenario file.
    scenario: PathBuf,
    /// The engine that runs the filters.
    #[arg(long, value_enum, default_value = "wasmtime")]
    on: Engine,
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
        let scenario = Scenario::read(&self.scenario).with_context(|| format!("{file}"))?;
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
    let (transcript, problems) = match host.start_recorded(scenario) {
        Err((StartError::Refused { words }, transcript)) => {
            let expected = scenario.refused.as_ref().is_some_and(|refused| words.contains(refused));
            (transcript, if expected { Vec::new() } else { vec![words] })
        }
        Err((error @ (StartError::Module(_) | StartError::Host(_)), _)) => return Err(error.into()),
        Ok(mut run) => {
            let failures = play(scenario, &mut run);
            let failures = failures.iter().map(ToString::to_string).collect();
            (run.take_transcript(), failures)
        }
    };
    print(&transcript)?;
    for problem in &problems {
        eprintln!("not as expected: {problem}");
    }
    Ok(if problems.is_empty() { Outcome::Done } else { Outcome::Failed })
}

fn print(transcript: &[Entry]) -> Result<()> {
    let mut out = io::stdout().lock();
    for entry in transcript {
        match writeln!(out, "{entry}") {
            // Whoever reads has seen enough, as `head` has.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}
