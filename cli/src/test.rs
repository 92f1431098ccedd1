//! `tollgate test`: play scenarios and suites, and judge what comes of them.

mod cases;
mod watch;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use regex::Regex;
use serde_json::json;
use tollgate_host::offline::Offline;
use tollgate_host::profile::Profile;
use tollgate_host::report::{self, Report};
use tollgate_host::scenario::{FilterUse, HostName, Traffic};
use tollgate_host_envoy::{EnvoyHost, find_envoy};

use crate::deployed::From;
use crate::filters::{BuiltIns, DeclaredImports, Modules, linked};
use crate::limits::LimitOptions;
use crate::{Format, Outcome, print};
use cases::{Case, Host, Order};

/// The virtual environment into which `cargo ci` fetches Envoy.
pub(crate) const FETCHED_ENVOY: &str = "target/envoy/venv";

/// Arguments of `tollgate test`.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Test {
    /// Scenario files and suites of Service Extensions, or folders: every YAML file below a folder
    /// named `scenarios`.
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Where the scenarios run.
    #[arg(long, value_enum, default_value = "wasmtime")]
    on: On,
    /// The Envoy binary; else `$TOLLGATE_ENVOY`, then `PATH`, then the one that `cargo ci` fetched.
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// Only those whose names match.
    #[arg(long, value_name = "REGEX")]
    name: Option<Regex>,
    /// Only the variation of this name, as a failure tells it, of scenarios that vary.
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Run under this seed, which decides what a host is free to choose; by default 0, and as many as a
    /// scenario says.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Tell what would run, and run nothing.
    #[arg(long, conflicts_with_all = ["junit", "watch", "fail_fast"])]
    list: bool,
    /// How many run at once; by default as many as there are processors.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Begin no other once one has failed.
    #[arg(long)]
    fail_fast: bool,
    /// Go on, and run again what changes: scenarios, modules, configurations.
    #[arg(long, conflicts_with = "format")]
    watch: bool,
    /// How the result is written.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Write a report in the format of `JUnit`, too.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// The module for suites, in place of the one that they name.
    #[arg(long, value_name = "FILE.wasm")]
    filter: Option<String>,
    /// The configuration for suites, handed over as it is, in place of the one that they name.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    from: From,
    /// Make the checks of `strict: true` in every scenario: offline, what no proxy looks at.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    limits: LimitOptions,
    /// The host that the offline host stands for, whatever scenarios say.
    #[arg(long, value_enum, value_name = "HOST")]
    profile: Option<As>,
    #[command(flatten)]
    imports: DeclaredImports,
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

/// A host to stand for, by its name on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum As {
    /// Envoy 1.40.
    Envoy,
    /// The text of the specification.
    Spec,
    /// nginx with `ngx_wasm_module`.
    Nginx,
}

impl Test {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Wrong usage, and a host that cannot run, such as a missing Envoy. A scenario or a module that
    /// cannot be read is told beside what the others came to.
    pub(crate) fn run(self) -> Result<Outcome> {
        if self.watch {
            return watch::watch(&self);
        }
        let cases = self.selected()?;
        if !self.list {
            return self.play(cases);
        }
        let (unplayed, cases): (Vec<_>, Vec<_>) =
            cases.into_iter().partition(|case| case.unplayed().is_some());
        tell_unplayed(unplayed.iter().map(|case| {
            (case.file.display().to_string(), case.unplayed().unwrap_or_default().to_owned())
        }));
        print(&self.listed(&cases)?)?;
        Ok(if unplayed.is_empty() { Outcome::Done } else { Outcome::Partial })
    }

    /// The cases that the arguments name, in order.
    fn selected(&self) -> Result<Vec<Case>> {
        let mut cases = cases::read(&self.paths, self.filter.as_deref(), self.config.as_deref())?;
        if cases.iter().all(Case::is_of_suite) {
            self.refuse_for_suites()?;
        }
        for traffic in [Traffic::Http, Traffic::Tcp] {
            let of_traffic = |case: &&mut Case| case.traffic() == traffic;
            let mut cases = cases.iter_mut().filter(of_traffic).peekable();
            if cases.peek().is_some()
                && let Some(filters) = self.from.filters(traffic)?
            {
                cases.try_for_each(|case| case.test_filters(&filters))?;
            }
        }
        for scenario in cases.iter_mut().filter_map(Case::scenario_mut) {
            self.imports.add_to(scenario);
            scenario.strict |= self.strict;
            if let Some(seed) = self.seed {
                scenario.seed = seed;
                scenario.seeds = 1;
            }
            scenario.profile = match self.profile {
                None => scenario.profile,
                Some(As::Envoy) => Profile::Envoy,
                Some(As::Spec) => Profile::Spec,
                Some(As::Nginx) => Profile::Nginx,
            };
        }
        if let Some(name) = &self.name {
            let all = cases.len();
            // What cannot be read may be what is meant.
            cases.retain(|case| case.unplayed().is_some() || name.is_match(case.name()));
            if cases.is_empty() {
                bail!("--name: none of {all} names matches `{name}`; --list shows them");
            }
        }
        if let Some(variant) = &self.variant {
            cases.retain_mut(|case| {
                case.unplayed().is_some()
                    || case.scenario_mut().is_some_and(|one| one.vary_as(variant))
            });
            if cases.is_empty() {
                bail!("--variant: no scenario has the variation `{variant}`");
            }
        }
        Ok(cases)
    }

    /// Refuses arguments that mean nothing to suites.
    fn refuse_for_suites(&self) -> Result<()> {
        let given = [
            ("--strict", self.strict),
            ("--seed", self.seed.is_some()),
            ("--profile", self.profile.is_some()),
            ("--import", !self.imports.all().is_empty()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => bail!("{name} is for scenarios; a suite has no proxy to ask it of"),
            None => Ok(()),
        }
    }

    fn listed(&self, cases: &[Case]) -> Result<String> {
        let place = |case: &Case| (case.file.display().to_string(), case.name().to_owned());
        Ok(match self.format {
            Format::Json => {
                let cases = cases.iter().map(place);
                let cases: Vec<_> =
                    cases.map(|(file, name)| json!({ "file": file, "name": name })).collect();
                serde_json::to_string_pretty(&json!({ "cases": cases }))?
            }
            Format::Text => {
                let lines = cases.iter().map(place);
                lines.map(|(file, name)| format!("{file}: {name}")).collect::<Vec<_>>().join("\n")
            }
        })
    }

    /// Plays cases and tells what came of them.
    fn play(&self, mut cases: Vec<Case>) -> Result<Outcome> {
        if matches!((self.on, self.profile), (On::Envoy, Some(As::Spec | As::Nginx))) {
            bail!("--profile: a real Envoy is no other host; leave out --on envoy");
        }
        let limits = self.limits.read()?;
        let order = Order { jobs: self.jobs, fail_fast: self.fail_fast };
        let report = match self.on {
            On::Wasmtime => {
                let modules = Modules::new(self.built_ins.clone(), limits)?;
                for case in &mut cases {
                    case.refuse_unloadable(&self.built_ins);
                }
                let loader = |filter: &FilterUse| modules.for_scenario(filter);
                let host = Offline::new(HostName::Wasmtime, &loader).with_limits(limits);
                cases::play_all(&cases, &Host::Offline(host), order)
            }
            On::Native => {
                let host = Offline::new(HostName::Native, &linked).with_limits(limits);
                cases::play_all(&cases, &Host::Offline(host), order)
            }
            On::Envoy => {
                for case in &mut cases {
                    case.refuse_unloadable(&self.built_ins);
                }
                let envoy = find_envoy(self.envoy.as_deref(), Path::new(FETCHED_ENVOY))?;
                let host = EnvoyHost::new(envoy, self.built_ins.folder());
                cases::play_all(&cases, &Host::Envoy(host), order)
            }
        };
        self.tell(&report)?;
        Ok(match (report.unplayed, report.failed) {
            (0, 0) => Outcome::Done,
            (0, _) => Outcome::Failed,
            (_, _) => Outcome::Partial,
        })
    }

    fn tell(&self, report: &Report) -> Result<()> {
        if let Some(file) = &self.junit {
            let text = report.junit()?;
            std::fs::write(file, text)
                .with_context(|| format!("{} cannot be written", file.display()))?;
        }
        let why =
            |case: &report::Case| Some((case.file.clone(), case.verdict.as_ref().err()?.clone()));
        tell_unplayed(report.cases.iter().filter_map(why));
        match self.format {
            Format::Json => print(&serde_json::to_string_pretty(report)?)?,
            // There is nothing else to tell.
            Format::Text if report.cases.len() == report.unplayed => {}
            Format::Text => print(&report.text())?,
        }
        Ok(())
    }
}

/// Tells on standard error which files cannot be played, and why: what is the same of several once.
fn tell_unplayed(unplayed: impl Iterator<Item = (String, String)>) {
    let mut told: Vec<(String, String, usize)> = Vec::new();
    for (file, why) in unplayed {
        match told.iter_mut().find(|(_, other, _)| *other == why) {
            Some((_, _, others)) => *others += 1,
            None => told.push((file, why, 0)),
        }
    }
    for (file, why, others) in told {
        let others = if others == 0 { String::new() } else { format!(" and {others} more") };
        eprintln!("error: {file}{others}: {why}");
    }
}
