//! `tollgate demo`: scenarios as a tour.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use tollgate_host::account::Account;
use tollgate_host::limits::Limits;
use tollgate_host::offline::Offline;
use tollgate_host::proxy::{
    Callout, Configured, Conversation, Cost, Exchange, HostFailure, Observation, Outcome as Came,
    Proxy, ProxyHost, Sending, Settled, StartError,
};
use tollgate_host::report::Verdict;
use tollgate_host::run::{Start, judge_start, play, skipped};
use tollgate_host::scenario::{
    AdvanceStep, ClockStep, ConfigureStep, ConnectionStep, FilterUse, HostName, PlannedCallout,
    RequestStep, Scenario,
};

use crate::filters::{BuiltIns, Modules, read_scenarios};
use crate::{Outcome, print};

const INTRODUCTION: &str = "\
The filters run here as the WebAssembly modules that Envoy would load, on an offline host with virtual
time. Of each request you see: the worker that it went to, the request, the answer and who gave it, and
what the filter cost: host calls, and fuel, about one unit per WebAssembly instruction.";

/// Arguments of `tollgate demo`.
#[derive(Args)]
pub(crate) struct Demo {
    /// Scenario files, or folders: every YAML file below a folder named `scenarios`.
    #[arg(default_value = "examples/01-rate-limit")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    built_ins: BuiltIns,
}

impl Demo {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What cannot be read or run at all.
    pub(crate) fn run(self) -> Result<Outcome> {
        let scenarios = read_scenarios(&self.paths)?;
        let modules = Modules::new(self.built_ins, Limits::default())?;
        let loader = |filter: &FilterUse| modules.for_scenario(filter);
        let host = Offline::new(HostName::Wasmtime, &loader);
        let mut passed = 0;
        print(&format!("{INTRODUCTION}\n"))?;
        for (number, (file, scenario)) in scenarios.iter().enumerate() {
            print(&format!("{}. {}\n   {}", number + 1, scenario.name, file.display()))?;
            for filter in &scenario.filters {
                print(&format!("   {} with {}", filter.name, plain(&filter.config)))?;
            }
            match tour(scenario, &host)? {
                Verdict::Passed => passed += 1,
                Verdict::Skipped { reason } => print(&format!("   not played here: {reason}"))?,
                Verdict::Failed { failures } => {
                    for failure in failures {
                        print(&format!("   NOT AS EXPECTED: {failure}"))?;
                    }
                }
            }
            print("")?;
        }
        print(&format!("demo: {} scenarios, {passed} passed", scenarios.len()))?;
        Ok(if passed == scenarios.len() { Outcome::Done } else { Outcome::Failed })
    }
}

fn tour(scenario: &Scenario, host: &Offline<'_>) -> Result<Verdict> {
    if let Some(verdict) = skipped(scenario, host.name()) {
        return Ok(verdict);
    }
    let started = host.start(scenario);
    if let Err(StartError::Refused { words }) = &started {
        for line in words.lines() {
            print(&format!("   refused at the start: {line}"))?;
        }
    }
    Ok(match judge_start(scenario, started)? {
        Start::Judged(verdict) => verdict,
        Start::Running(proxy) => {
            let mut narrated = Narrated { proxy, logs: 0, metrics: BTreeMap::new() };
            Verdict::of(play(scenario, &mut narrated))
        }
    })
}

/// Text that a terminal takes for nothing else.
pub(crate) fn plain(text: &[u8]) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    String::from_utf8_lossy(text).chars().map(shown).collect()
}

/// A proxy that tells what happens in it.
struct Narrated<'a> {
    proxy: Box<dyn Proxy + 'a>,
    /// How many log lines were told.
    logs: usize,
    /// The metrics as they were last told.
    metrics: BTreeMap<String, u64>,
}

impl Proxy for Narrated<'_> {
    fn together(
        &mut self,
        requests: &[Sending<'_>],
        callouts: &[PlannedCallout],
    ) -> Result<(Vec<Exchange>, Vec<Callout>), HostFailure> {
        let (exchanges, made) = self.proxy.together(requests, callouts)?;
        for (sent, exchange) in requests.iter().zip(&exchanges) {
            tell(&format!("   {}", sentence(sent.worker, sent.step, exchange)));
        }
        let seen = self.proxy.observe(&|_| true)?;
        for line in seen.logs.get(self.logs..).unwrap_or_default() {
            tell(&format!("             because {}", plain(&line.message)));
        }
        self.logs = seen.logs.len();
        for (name, value) in &seen.metrics {
            if *value > self.metrics.get(name).copied().unwrap_or(0) {
                tell(&format!("             counted in {name}, now {value}"));
            }
        }
        self.metrics = seen.metrics;
        Ok((exchanges, made))
    }

    fn connect(
        &mut self,
        worker: usize,
        step: &ConnectionStep,
    ) -> Result<Conversation, HostFailure> {
        tell(&format!("   a client of worker {worker} connects"));
        self.proxy.connect(worker, step)
    }

    fn advance(&mut self, step: &AdvanceStep) -> Result<Vec<Callout>, HostFailure> {
        tell(&format!("   … {:?} later", step.by));
        self.proxy.advance(step)
    }

    fn step_clock(&mut self, by: ClockStep) -> Result<(), HostFailure> {
        match by {
            ClockStep::Forward(by) => println!("   … the wall clock is set forward by {by:?}"),
            ClockStep::Back(by) => println!("   … the wall clock is set back by {by:?}"),
        }
        self.proxy.step_clock(by)
    }

    fn configure(
        &mut self,
        step: &ConfigureStep,
        callouts: &[PlannedCallout],
    ) -> Result<(Configured, Vec<Callout>), HostFailure> {
        tell(&format!("   … filter {} gets another configuration", step.filter));
        self.proxy.configure(step, callouts)
    }

    fn observe(
        &mut self,
        settled: &dyn Fn(&Observation) -> bool,
    ) -> Result<Observation, HostFailure> {
        self.proxy.observe(settled)
    }

    fn shared_data(
        &mut self,
        vm_id: Option<&str>,
        key: &[u8],
        settled: Settled<'_, [u8]>,
    ) -> Result<Option<Vec<u8>>, HostFailure> {
        self.proxy.shared_data(vm_id, key, settled)
    }

    fn queue(
        &mut self,
        vm_id: Option<&str>,
        name: &[u8],
        settled: Settled<'_, [Vec<u8>]>,
    ) -> Result<Option<Vec<Vec<u8>>>, HostFailure> {
        self.proxy.queue(vm_id, name, settled)
    }

    fn take_account(&mut self) -> Account {
        self.proxy.take_account()
    }

    fn used(&self) -> Option<Cost> {
        self.proxy.used()
    }
}

/// Tells a line of the tour; a reader that is gone needs no more of it.
fn tell(line: &str) {
    let _gone = print(line);
}

fn sentence(worker: usize, step: &RequestStep, exchange: &Exchange) -> String {
    let request = &step.request;
    let lines: Vec<String> = request
        .headers
        .iter()
        .map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii()))
        .collect();
    let what = format!("{} {} {}", request.method, request.path, lines.join(", "));
    let by = match exchange.upstream {
        Some(_) => "from the upstream",
        None => "from the proxy",
    };
    let came = match &exchange.outcome {
        Came::Response(response) => {
            let retry = response.headers.iter().find(|(name, _)| name == b"retry-after");
            let retry = retry.map_or(String::new(), |(_, value)| {
                format!(", retry after {} s", value.escape_ascii())
            });
            format!("{} {by}{retry}", response.status)
        }
        Came::Reset => "reset".into(),
        Came::Unanswered => "no answer".into(),
        Came::Refused(alert) => format!("refused with {alert}"),
        Came::Left(_) => "the client left".into(),
    };
    let cost = exchange.cost.map_or(String::new(), |cost| {
        let fuel = cost.fuel.map_or(String::new(), |fuel| format!(", {fuel} fuel"));
        format!("{} host calls{fuel}", cost.host_calls)
    });
    format!("worker {worker}  {what:<38} {came:<36} {cost}")
}
