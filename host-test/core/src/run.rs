//! Plays scenarios and judges what comes of them: the same on every host.

mod callouts;
mod connection;
mod exchange;
mod outcome;
mod strict;
mod sweep;
mod together;
mod watch;

use std::fmt;

use crate::account::Account;
use crate::chance::{Chance, Choice};
use crate::proxy::{Callout, Configured, HostFailure, Proxy, ProxyHost, StartError};
use crate::report::{Failure, Verdict};
use crate::scenario::{
    ConfigureStep, ConnectionStep, Expectation, Fault, HostName, PlannedCallout, Request,
    RequestStep, Scenario, StartStep, Step,
};
use exchange::{judge_cost, judge_exchange, judge_handshake};
use watch::Watch;

/// Failures after which a scenario is given up: what follows repeats them.
const ENOUGH_FAILURES: usize = 8;

/// Plays a scenario on a host, in all of its variations.
///
/// # Errors
///
/// [`StartError`] when the host could not even try: then there is no verdict.
pub fn run(scenario: &Scenario, host: &dyn ProxyHost) -> Result<Verdict, StartError> {
    if let Some(verdict) = skipped(scenario, host.name()) {
        return Ok(verdict);
    }
    sweep::run(scenario, host)
}

/// What is not as planned of the callouts that guests made in a step.
pub fn judge_callouts(planned: &[PlannedCallout], made: &[Callout]) -> Vec<String> {
    let mut failures = Vec::new();
    callouts::judge(planned, made, &mut |what| failures.push(what));
    failures
}

/// The verdict on a scenario that does not run on a host.
pub fn skipped(scenario: &Scenario, host: HostName) -> Option<Verdict> {
    let only = scenario.only.as_ref().filter(|only| !only.on.contains(&host))?;
    Some(Verdict::Skipped { reason: only.reason.clone() })
}

/// What came of starting a proxy for a scenario.
pub enum Start<P> {
    /// It runs, and the steps can be played.
    Running(P),
    /// The scenario is about the start, or ended there.
    Judged(Verdict),
}

/// Judges how a proxy started, or refused to.
///
/// # Errors
///
/// [`StartError`] when the host could not even try.
pub fn judge_start<P>(
    scenario: &Scenario,
    started: Result<P, StartError>,
) -> Result<Start<P>, StartError> {
    let failure = match (started, &scenario.refused) {
        (Ok(proxy), None) => return Ok(Start::Running(proxy)),
        (Ok(_), Some(words)) => {
            format!("expected a refusal with `{words}`, but the proxy started")
        }
        (Err(StartError::Refused { words: got }), Some(words)) if got.contains(words) => {
            return Ok(Start::Judged(Verdict::Passed));
        }
        (Err(StartError::Refused { words: got }), Some(words)) => {
            format!("expected a refusal with `{words}`, got:\n{got}")
        }
        (Err(StartError::Refused { words }), None) => words,
        (Err(error @ (StartError::Module(_) | StartError::Host(_))), _) => return Err(error),
    };
    let failures = vec![Failure { place: "start".into(), what: failure, ..Failure::default() }];
    Ok(Start::Judged(Verdict::Failed { failures }))
}

/// Makes the checks of a strict scenario that come after its steps, unless something has failed.
fn judge_traffic(scenario: &Scenario, proxy: &mut dyn Proxy, failures: &mut Vec<Failure>) {
    if scenario.strict && failures.is_empty() {
        strict::judge_end(scenario, proxy, failures);
    }
}

/// Plays the steps of a scenario as they are written on a running proxy, and nothing after them, and gives what
/// was not as expected. What shows only under traffic is judged by [`run`] alone.
pub fn play(scenario: &Scenario, proxy: &mut dyn Proxy) -> Vec<Failure> {
    let mut failures = judge_start_step(&scenario.start, proxy);
    let mut next_worker = 0;
    let mut chance = Chance::of(scenario.seed, Choice::Worker);
    for (index, step) in scenario.steps.iter().enumerate() {
        let place = Place { step: index + 1, what: step, repeat: None, request: None };
        let mut deal = |named: Option<usize>| {
            named.unwrap_or_else(|| {
                let workers = scenario.workers.get();
                let worker = (next_worker + chance.one_of(workers)) % workers;
                next_worker = (next_worker + 1) % workers;
                worker
            })
        };
        // What guests did while the proxy started is in the account of the first step.
        let is_first = index == 0;
        let failed_before = if is_first { 0 } else { failures.len() };
        let result = match step {
            Step::Advance(advance) => {
                let mut fail = |what| failures.push(place.failure(what));
                watched(&advance.expect, proxy, &mut fail, |proxy, fail| {
                    let made = proxy.advance(advance)?;
                    callouts::judge(&advance.callouts, &made, fail);
                    Ok(())
                })
            }
            Step::Clock(by) => proxy.step_clock(*by),
            Step::Configure { configure, callouts, expect } => {
                let mut fail = |what| failures.push(place.failure(what));
                watched(expect, proxy, &mut fail, |proxy, fail| {
                    let (configured, made) = proxy.configure(configure, callouts)?;
                    judge_configured(configure, Some(&configured), fail);
                    callouts::judge(callouts, &made, fail);
                    Ok(())
                })
            }
            Step::Request(request) => {
                let mut deal = || deal(request.worker);
                play_request(request, place, proxy, &mut deal, &mut failures)
            }
            Step::Together(requests) => {
                together::play(requests, place, proxy, &mut deal, &mut failures)
            }
            Step::Connection(connection) => {
                let mut deal = || deal(connection.worker);
                play_connection(connection, place, proxy, &mut deal, &mut failures)
            }
        };
        let has_broken = result.map_err(|broken| failures.push(place.failure(broken.to_string())));
        let account = proxy.take_account();
        if is_first {
            failures.extend(idle(scenario.start.faults.iter(), &account).map(of_start));
        }
        if has_broken.is_ok() {
            failures.extend(idle(step.faults(), &account).map(|what| place.failure(what)));
        }
        if scenario.strict {
            failures.extend(strict::breaches(&account).map(|what| place.failure(what)));
        }
        if let Some(failure) = failures.get_mut(failed_before..).and_then(<[_]>::last_mut) {
            failure.account = account;
        }
        if has_broken.is_err() || failures.len() >= ENOUGH_FAILURES {
            break;
        }
    }
    failures
}

/// Judges what the start has left behind, and what it cost.
fn judge_start_step(start: &StartStep, proxy: &mut dyn Proxy) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut fail = |what| failures.push(of_start(what));
    judge_cost(start.expect.budget, proxy.used(), &mut fail);
    let judged = Watch::since_start(&start.expect).judge(proxy, &mut fail);
    judged.unwrap_or_else(|failure| fail(failure.to_string()));
    failures
}

fn of_start(what: String) -> Failure {
    Failure { place: "start".into(), what, ..Failure::default() }
}

/// Faults that no call has met: what a scenario shows with them it does not show.
fn idle<'a>(
    faults: impl Iterator<Item = &'a Fault>,
    account: &Account,
) -> impl Iterator<Item = String> {
    faults
        .filter(|fault| !account.struck.contains(fault))
        .map(|fault| format!("faults: {fault}: no guest made such a call, or another fault met it"))
}

/// Does what is neither a request nor a connection, and judges what it leaves behind and what it costs.
fn watched(
    expect: &Expectation,
    proxy: &mut dyn Proxy,
    fail: &mut dyn FnMut(String),
    act: impl FnOnce(&mut dyn Proxy, &mut dyn FnMut(String)) -> Result<(), HostFailure>,
) -> Result<(), HostFailure> {
    let watch = Watch::begin(proxy, vec![expect])?;
    let before = proxy.used();
    act(proxy, fail)?;
    let cost = proxy.used().zip(before).map(|(after, before)| after.since(before));
    judge_cost(expect.budget, cost, fail);
    watch.judge(proxy, fail)
}

fn play_request(
    step: &RequestStep,
    place: Place<'_>,
    proxy: &mut dyn Proxy,
    deal: &mut dyn FnMut() -> usize,
    failures: &mut Vec<Failure>,
) -> Result<(), HostFailure> {
    let expect = &step.expect;
    let watch = Watch::begin(proxy, vec![expect])?;
    let repeats = step.repeat.get();
    for repeat in 1..=repeats {
        let worker = deal();
        let exchange = proxy.exchange(worker, step)?;
        let place = Place { repeat: (repeats > 1).then_some((repeat, repeats)), ..place };
        let mut fail = |what: String| failures.push(place.failure(what));
        judge_exchange(expect, &exchange, &mut fail);
        callouts::judge(&step.callouts, &exchange.callouts, &mut fail);
        if let Some(meanwhile) = &step.meanwhile {
            judge_configured(meanwhile, exchange.configured.as_ref(), &mut fail);
        }
        if failures.len() >= ENOUGH_FAILURES {
            return Ok(());
        }
    }
    watch.judge(proxy, &mut |what| failures.push(place.failure(what)))
}

fn play_connection(
    step: &ConnectionStep,
    place: Place<'_>,
    proxy: &mut dyn Proxy,
    deal: &mut dyn FnMut() -> usize,
    failures: &mut Vec<Failure>,
) -> Result<(), HostFailure> {
    let expect = &step.expect;
    let watch = Watch::begin(proxy, vec![expect])?;
    let repeats = step.repeat.get();
    for repeat in 1..=repeats {
        let worker = deal();
        let conversation = proxy.connect(worker, step)?;
        let place = Place { repeat: (repeats > 1).then_some((repeat, repeats)), ..place };
        let mut fail = |what: String| failures.push(place.failure(what));
        judge_handshake(expect, conversation.refused, &mut fail);
        connection::judge(step, &conversation, &mut fail);
        judge_cost(expect.budget, conversation.cost, &mut fail);
        callouts::judge(&step.callouts, &conversation.callouts, &mut fail);
        if failures.len() >= ENOUGH_FAILURES {
            return Ok(());
        }
    }
    watch.judge(proxy, &mut |what| failures.push(place.failure(what)))
}

/// Where in a scenario.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Counted from 1.
    step: usize,
    what: &'a Step,
    repeat: Option<(usize, usize)>,
    /// One of several requests, counted from 1.
    request: Option<(usize, &'a Request)>,
}

impl Place<'_> {
    fn failure(&self, what: String) -> Failure {
        Failure { place: self.to_string(), what, ..Failure::default() }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}", self.step)?;
        match self.what {
            Step::Request(step) => write!(f, ", {} {}", step.request.method, step.request.path)?,
            Step::Together(_) => f.write_str(", together")?,
            Step::Connection(_) => f.write_str(", connection")?,
            Step::Advance(step) => write!(f, ", advance {:?}", step.by)?,
            Step::Clock(_) => f.write_str(", clock")?,
            Step::Configure { configure, .. } => {
                write!(f, ", configure filter {}", configure.filter)?;
            }
        }
        if let Some((number, request)) = self.request {
            write!(f, ", {number}: {} {}", request.method, request.path)?;
        }
        match self.repeat {
            Some((number, of)) => write!(f, ", {number} of {of}"),
            None => Ok(()),
        }
    }
}

fn judge_configured(
    step: &ConfigureStep,
    configured: Option<&Configured>,
    fail: &mut dyn FnMut(String),
) {
    match (configured, &step.refused) {
        (Some(Configured::Accepted), None) => {}
        (Some(Configured::Refused { words: got }), Some(words)) if got.contains(words) => {}
        (Some(Configured::Accepted), Some(words)) => {
            fail(format!(
                "configuration: expected a refusal with `{words}`, but the proxy took it"
            ));
        }
        (Some(Configured::Refused { words: got }), Some(words)) => {
            fail(format!("configuration: expected a refusal with `{words}`, got:\n{got}"));
        }
        (Some(Configured::Refused { words }), None) => {
            fail(format!("configuration: refused:\n{words}"));
        }
        (None, _) => fail("meanwhile: the request did not come to the upstream".into()),
    }
}
