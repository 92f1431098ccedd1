//! `tollgate trace`: the callbacks and host calls of a scenario, or of Envoy's own log, in order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use tollgate_host::offline::Offline;
use tollgate_host::proxy::ProxyHost;
use tollgate_host::report::Verdict;
use tollgate_host::run::{Start, judge_start, play, skipped};
use tollgate_host::scenario::{FilterUse, HostName, Scenario};
use tollgate_host::transcript::{Entry, Event, envoy_log, events, html, lines};

use crate::deployed::From;
use crate::filters::{
    BuiltIns, DeclaredImports, Modules, linked, read_scenario, refuse_unloadable,
};
use crate::limits::LimitOptions;
use crate::{Format, Outcome, print};

/// Arguments of `tollgate trace`.
#[derive(Args)]
pub(crate) struct Trace {
    /// The scenario file.
    #[arg(required_unless_present = "envoy_log", conflicts_with = "envoy_log")]
    scenario: Option<PathBuf>,
    /// The variation of this name in place of the scenario as it is written.
    #[arg(long, value_name = "NAME", requires = "scenario")]
    variant: Option<String>,
    /// The seed that decides what a host is free to choose.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "scenario")]
    seed: u64,
    /// What Envoy has logged with `--component-log-level wasm:trace`, in place of a scenario.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    envoy_log: Option<PathBuf>,
    /// The engine that runs the filters.
    #[arg(long, value_enum, default_value = "wasmtime")]
    on: Engine,
    /// How the transcript is written.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Write a timeline to look at in a browser, in place of the transcript.
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    html: Option<PathBuf>,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    imports: DeclaredImports,
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

/// What was traced.
struct Traced {
    name: String,
    /// The lines as a person reads them.
    lines: Vec<String>,
    events: Vec<Event>,
    /// How many lines of a log say nothing of the border.
    other_lines: usize,
    verdict: Verdict,
}

impl Trace {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What cannot be read or run at all.
    pub(crate) fn run(self) -> Result<Outcome> {
        let traced = match (&self.scenario, &self.envoy_log) {
            (Some(file), _) => self.scenario(file)?,
            (None, file) => read_log(file.as_deref().unwrap_or(Path::new("")))?,
        };
        match (&self.html, self.format) {
            (Some(file), _) => std::fs::write(file, html(&traced.name, &traced.events))
                .with_context(|| format!("{} cannot be written", file.display()))?,
            (None, Format::Json) => print(&serde_json::to_string_pretty(&json!({
                "name": traced.name,
                "other_lines": traced.other_lines,
                "entries": traced.events,
            }))?)?,
            (None, Format::Text) => traced.lines.iter().try_for_each(|line| print(line))?,
        }
        if traced.other_lines > 0 {
            eprintln!("note: {} lines say nothing of the border", traced.other_lines);
        }
        Ok(tell(&traced.verdict))
    }

    fn scenario(&self, file: &Path) -> Result<Traced> {
        let name = file.display();
        let mut scenario = read_scenario(file)?;
        for left in &scenario.left {
            eprintln!("note: {name}: {left}");
        }
        if let Some(filters) = self.from.filters(scenario.traffic)? {
            scenario.filters = filters;
            scenario.check().with_context(|| format!("{name}"))?;
        }
        self.imports.add_to(&mut scenario);
        if let Some(name) = &self.variant {
            let mut variations = scenario.all_variations().into_iter();
            let variation = variations.find(|one| one.to_string() == *name);
            let variation =
                variation.with_context(|| format!("--variant: there is no `{name}`"))?;
            scenario = variation.apply(&scenario);
        }
        scenario.seed = self.seed;
        let limits = self.limits.read()?;
        match self.on {
            Engine::Native => {
                let host = Offline::new(HostName::Native, &linked).with_limits(limits);
                trace(&scenario, &host)
            }
            Engine::Wasmtime => {
                refuse_unloadable(&self.built_ins, &scenario)?;
                let modules = Modules::new(self.built_ins.clone(), limits)?;
                let loader = |filter: &FilterUse| modules.for_scenario(filter);
                let host = Offline::new(HostName::Wasmtime, &loader).with_limits(limits);
                trace(&scenario, &host)
            }
        }
    }
}

fn read_log(file: &Path) -> Result<Traced> {
    let bytes =
        std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let log = envoy_log(&String::from_utf8_lossy(&bytes));
    if log.events.iter().all(|event| event.what.guest().is_none()) {
        bail!(
            "{}: no line is of the border; Envoy writes them with `--component-log-level wasm:trace`",
            file.display()
        );
    }
    Ok(Traced {
        name: file.display().to_string(),
        lines: lines(&log.events),
        events: log.events,
        other_lines: log.other_lines,
        verdict: Verdict::Passed,
    })
}

fn trace(scenario: &Scenario, host: &Offline<'_>) -> Result<Traced> {
    let traced = |transcript: Vec<(Duration, Entry)>, verdict| Traced {
        name: scenario.name.clone(),
        lines: transcript.iter().map(|(_, entry)| entry.to_string()).collect(),
        events: events(&transcript),
        other_lines: 0,
        verdict,
    };
    if let Some(verdict) = skipped(scenario, host.name()) {
        return Ok(traced(Vec::new(), verdict));
    }
    let (started, transcript) = match host.start_recorded(scenario) {
        Ok(run) => (Ok(run), Vec::new()),
        // No time passes while a proxy starts.
        Err((error, entries)) => {
            (Err(error), entries.into_iter().map(|entry| (Duration::ZERO, entry)).collect())
        }
    };
    Ok(match judge_start(scenario, started)? {
        Start::Judged(verdict) => traced(transcript, verdict),
        Start::Running(mut run) => {
            let verdict = Verdict::of(play(scenario, &mut run));
            traced(run.take_timed_transcript(), verdict)
        }
    })
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
