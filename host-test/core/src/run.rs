//! Plays scenarios and judges what comes of them: the same on every host.

mod callouts;
mod connection;
mod outcome;
mod strict;
mod sweep;
mod together;

use std::fmt;

use crate::chance::{Chance, Choice};
use crate::proxy::{
    Callout, Configured, Cost, Exchange, HostFailure, Observation, Outcome, Proxy, ProxyHost,
    Received, Response, SharedValue, StartError,
};
use crate::report::{Failure, Verdict, difference};
use crate::scenario::{
    Budget, ConfigureStep, ConnectionStep, Expectation, ExpectedOutcome, ExpectedQueue,
    ExpectedRequest, ExpectedResponse, ExpectedShared, ExpectedUpstream, HeaderExpectations,
    HeaderLine, HostName, Matcher, PlannedCallout, Request, RequestStep, Scenario, Step,
};
use crate::tls::Alert;

/// Failures after which a scenario is given up: what follows repeats them.
const ENOUGH_FAILURES: usize = 8;

/// As many header lines as can be compared at a glance.
const FEW_LINES: usize = 2;

/// Stands above a difference.
const DIFFERS: &str = "differs (- expected, + got)";

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

/// Plays a scenario as it is written on a running proxy, and gives what was not as expected.
pub fn play(scenario: &Scenario, proxy: &mut dyn Proxy) -> Vec<Failure> {
    let mut failures = judge_steps(scenario, proxy);
    if scenario.strict && failures.is_empty() {
        strict::judge_end(scenario, proxy, &mut failures);
    }
    failures
}

/// Plays the steps, and nothing after them.
fn judge_steps(scenario: &Scenario, proxy: &mut dyn Proxy) -> Vec<Failure> {
    let mut failures = Vec::new();
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
        let failed_before = failures.len();
        let result = match step {
            Step::Advance(advance) => proxy.advance(advance).map(|made| {
                let mut fail = |what: String| failures.push(place.failure(what));
                callouts::judge(&advance.callouts, &made, &mut fail);
            }),
            Step::Clock(by) => proxy.step_clock(*by),
            Step::Configure { configure, callouts } => {
                proxy.configure(configure, callouts).map(|(configured, made)| {
                    let mut fail = |what| failures.push(place.failure(what));
                    judge_configured(configure, Some(&configured), &mut fail);
                    callouts::judge(callouts, &made, &mut fail);
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
        if scenario.strict {
            failures.extend(strict::breaches(step, &account).map(|what| place.failure(what)));
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

/// What is expected of logs and metrics once a step is over.
struct Watch<'a> {
    expected: Vec<&'a Expectation>,
    /// How many lines there were before.
    logs_before: usize,
}

impl<'a> Watch<'a> {
    fn begin(proxy: &mut dyn Proxy, expected: Vec<&'a Expectation>) -> Result<Self, HostFailure> {
        let watches_logs =
            expected.iter().any(|expect| !(expect.logs.is_empty() && expect.no_logs.is_empty()));
        let logs_before = if watches_logs { proxy.observe(&|_| true)?.logs.len() } else { 0 };
        Ok(Self { expected, logs_before })
    }

    fn judge(
        &self,
        proxy: &mut dyn Proxy,
        fail: &mut dyn FnMut(String),
    ) -> Result<(), HostFailure> {
        for expected in self.expected.iter().flat_map(|expect| &expect.shared_data) {
            judge_shared(
                expected,
                &proxy.shared_data(expected.vm_id.as_deref(), &expected.key),
                fail,
            );
        }
        for expected in self.expected.iter().flat_map(|expect| &expect.queues) {
            let got = proxy.queue(expected.vm_id.as_deref(), &expected.key);
            judge_queue(expected, &got, fail);
        }
        let says_something = |expect: &&&Expectation| {
            !(expect.logs.is_empty() && expect.no_logs.is_empty() && expect.metrics.is_empty())
        };
        let expected: Vec<&Expectation> =
            self.expected.iter().filter(says_something).copied().collect();
        if expected.is_empty() {
            return Ok(());
        }
        let before = self.logs_before;
        let is_settled = |seen: &Observation| {
            expected.iter().all(|expect| missing(expect, seen, before).next().is_none())
        };
        let seen = proxy.observe(&is_settled)?;
        for expect in &expected {
            missing(expect, &seen, before).for_each(&mut *fail);
            for line in seen.logs.get(before..).unwrap_or_default() {
                for text in expect.no_logs.iter().filter(|text| text.matches(&line.message)) {
                    fail(format!("log: expected nothing with {text}, got {line}"));
                }
            }
        }
        Ok(())
    }
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

fn judge_exchange(expect: &Expectation, exchange: &Exchange, fail: &mut dyn FnMut(String)) {
    let refused = match exchange.outcome {
        Outcome::Refused(alert) => Some(alert),
        Outcome::Response(_) | Outcome::Reset | Outcome::Unanswered | Outcome::Left(_) => None,
    };
    judge_handshake(expect, refused, fail);
    match (&expect.outcome, &exchange.outcome) {
        (Some(ExpectedOutcome::Refused(_)), _)
        | (_, Outcome::Refused(_))
        | (None, Outcome::Response(_) | Outcome::Reset)
        | (Some(ExpectedOutcome::Reset), Outcome::Reset)
        | (Some(ExpectedOutcome::Nothing), Outcome::Unanswered)
        | (None | Some(ExpectedOutcome::Left), Outcome::Left(_)) => {}
        (Some(ExpectedOutcome::Left), Outcome::Response(response)) => {
            let status = response.status;
            fail(format!("response: expected the client to leave before, got status {status}"));
        }
        (Some(ExpectedOutcome::Left), Outcome::Reset) => {
            fail("response: expected the client to leave before, but the stream was reset".into());
        }
        (
            Some(ExpectedOutcome::Response(_) | ExpectedOutcome::Reset | ExpectedOutcome::Nothing),
            Outcome::Left(_),
        ) => {
            fail("response: the client left before; if that is right, say `response: left`".into());
        }
        (Some(ExpectedOutcome::Nothing), Outcome::Response(response)) => {
            fail(format!("response: expected none, got status {}", response.status));
        }
        (Some(ExpectedOutcome::Nothing), Outcome::Reset) => {
            fail("response: expected none, but the stream was reset".into());
        }
        (Some(ExpectedOutcome::Response(expected)), Outcome::Response(response)) => {
            judge_response(expected, response, fail);
        }
        (Some(ExpectedOutcome::Response(_)), Outcome::Reset) => {
            fail("response: expected one, but the stream was reset".into());
        }
        (Some(ExpectedOutcome::Reset), Outcome::Response(response)) => {
            fail(format!("response: expected a reset, got status {}", response.status));
        }
        (
            None
            | Some(ExpectedOutcome::Response(_) | ExpectedOutcome::Reset | ExpectedOutcome::Left),
            Outcome::Unanswered,
        ) => {
            fail("response: none came; if that is right, say `response: none`".into());
        }
    }
    match (&expect.upstream, &exchange.upstream) {
        (None, _) | (Some(ExpectedUpstream::Nothing), None) => {}
        (Some(ExpectedUpstream::Request(expected)), Some(received)) => {
            judge_received("upstream", expected, received, fail);
        }
        (Some(ExpectedUpstream::Nothing), Some(received)) => fail(format!(
            "upstream: expected nothing, got {} {}",
            received.method.escape_ascii(),
            received.path.escape_ascii()
        )),
        (Some(ExpectedUpstream::Request(_)), None) => {
            fail("upstream: expected the request, but it did not arrive".into());
        }
    }
    judge_cost(expect.budget, exchange.cost, fail);
}

/// Compares how the proxy refused the client's handshake, if it did.
fn judge_handshake(expect: &Expectation, got: Option<Alert>, fail: &mut dyn FnMut(String)) {
    let expected = match expect.outcome {
        Some(ExpectedOutcome::Refused(alert)) => Some(alert),
        None
        | Some(
            ExpectedOutcome::Response(_)
            | ExpectedOutcome::Reset
            | ExpectedOutcome::Nothing
            | ExpectedOutcome::Left,
        ) => None,
    };
    match (expected, got) {
        (Some(expected), Some(got)) if expected != got => {
            fail(format!("handshake: expected the alert {expected}, got {got}"));
        }
        (Some(expected), None) => {
            fail(format!("handshake: expected the alert {expected}, but the peer was let in"));
        }
        (None, Some(got)) => fail(format!(
            "handshake: refused with the alert {got}; if that is right, say `refused: {got}`"
        )),
        (None, None) | (Some(_), Some(_)) => {}
    }
}

/// What a proxy cannot tell is as expected, and counted in the report.
fn judge_shared(expected: &ExpectedShared, got: &SharedValue, fail: &mut dyn FnMut(String)) {
    let what = format!("shared data {}", expected.key.escape_ascii());
    match (got, &expected.value) {
        (SharedValue::Unknown, _) | (SharedValue::Absent, None) => {}
        (SharedValue::Absent, Some(value)) => {
            fail(format!("{what}: expected {value}, but there is no such key"));
        }
        (SharedValue::Is(got), None) => {
            fail(format!("{what}: expected no such key, got \"{}\"", got.escape_ascii()));
        }
        (SharedValue::Is(got), Some(value)) => judge_value(&what, Some(value), got, fail),
    }
}

/// As shared data: the messages one by one, in their order.
fn judge_queue(
    expected: &ExpectedQueue,
    got: &SharedValue<Vec<Vec<u8>>>,
    fail: &mut dyn FnMut(String),
) {
    let what = format!("queue {}", expected.key.escape_ascii());
    match (got, &expected.value) {
        (SharedValue::Unknown, _) | (SharedValue::Absent, None) => {}
        (SharedValue::Absent, Some(_)) => fail(format!("{what}: nobody has registered it")),
        (SharedValue::Is(_), None) => fail(format!("{what}: expected no such queue, got one")),
        (SharedValue::Is(got), Some(expected)) => {
            if got.len() != expected.len() {
                let (expected, got) = (expected.len(), got.len());
                fail(format!("{what}: expected {expected} messages, got {got}"));
            }
            for (index, (expected, got)) in expected.iter().zip(got).enumerate() {
                judge_value(&format!("{what}: message {index}"), Some(expected), got, fail);
            }
        }
    }
}

/// What a proxy cannot tell is within the budget.
fn judge_cost(budget: Budget, cost: Option<Cost>, fail: &mut dyn FnMut(String)) {
    let Some(cost) = cost else { return };
    if let Some(most) = budget.host_calls.filter(|&most| cost.host_calls > most) {
        fail(format!("budget: {} host calls, at most {most} are allowed", cost.host_calls));
    }
    if let (Some(most), Some(fuel)) = (budget.fuel, cost.fuel)
        && fuel > most
    {
        fail(format!("budget: {fuel} fuel, at most {most} is allowed"));
    }
    if let (Some(most), Some(memory)) = (budget.memory, cost.memory_bytes)
        && memory > most
    {
        fail(format!("budget: {memory} bytes of memory, at most {most} are allowed"));
    }
}

fn judge_response(expected: &ExpectedResponse, got: &Response, fail: &mut dyn FnMut(String)) {
    if let Some(status) = expected.status.filter(|&status| status != got.status) {
        let body = got.body.escape_ascii();
        fail(format!(
            "response status: expected {status}, got {} with body \"{body}\"",
            got.status
        ));
    }
    judge_headers("response header", &expected.headers, &got.headers, fail);
    judge_value("response body", expected.body.as_ref(), &got.body, fail);
    judge_headers("response trailer", &expected.trailers, &got.trailers, fail);
}

fn judge_received(
    what: &str,
    expected: &ExpectedRequest,
    got: &Received,
    fail: &mut dyn FnMut(String),
) {
    if expected.cluster.is_some() && expected.cluster != got.cluster {
        let name = |cluster: &Option<String>| cluster.clone().unwrap_or_default();
        fail(format!(
            "{what} cluster: expected {}, got {}",
            name(&expected.cluster),
            name(&got.cluster)
        ));
    }
    if let Some(method) = expected.method.as_ref().filter(|method| method.as_bytes() != got.method)
    {
        fail(format!("{what} method: expected {method}, got {}", got.method.escape_ascii()));
    }
    judge_value(&format!("{what} path"), expected.path.as_ref(), &got.path, fail);
    judge_headers(&format!("{what} header"), &expected.headers, &got.headers, fail);
    judge_value(&format!("{what} body"), expected.body.as_ref(), &got.body, fail);
    judge_headers(&format!("{what} trailer"), &expected.trailers, &got.trailers, fail);
}

fn judge_value(what: &str, expected: Option<&Matcher>, got: &[u8], fail: &mut dyn FnMut(String)) {
    let Some(expected) = expected.filter(|expected| !expected.matches(got)) else { return };
    let difference = match expected {
        Matcher::Exact(expected) => difference::of_texts(expected, got),
        Matcher::Contains(_) => None,
    };
    fail(match difference {
        Some(difference) => format!("{what}: {DIFFERS}\n{difference}"),
        None => format!("{what}: expected {expected}, got \"{}\"", got.escape_ascii()),
    });
}

/// Each listed name must have the listed lines, no more and no fewer, in their order.
fn judge_headers(
    what: &str,
    expected: &HeaderExpectations,
    got: &[HeaderLine],
    fail: &mut dyn FnMut(String),
) {
    let values = |name: &[u8]| -> Vec<&[u8]> {
        got.iter().filter(|(line, _)| line == name).map(|(_, value)| value.as_slice()).collect()
    };
    let mut seen: Vec<&[u8]> = Vec::new();
    for (name, _) in &expected.lines {
        if seen.contains(&name.as_slice()) {
            continue;
        }
        seen.push(name);
        let wanted: Vec<&Matcher> = expected
            .lines
            .iter()
            .filter(|(line, _)| line == name)
            .map(|(_, value)| value)
            .collect();
        let got = values(name);
        let matches = wanted.len() == got.len()
            && wanted.iter().zip(&got).all(|(wanted, got)| wanted.matches(got));
        if !matches {
            let name = name.escape_ascii();
            let got: Vec<Quoted<'_>> = got.into_iter().map(Quoted).collect();
            let is = |wanted: &&Matcher, got: &Quoted<'_>| wanted.matches(got.0);
            fail(if wanted.len().max(got.len()) > FEW_LINES {
                let difference = difference::of_lines(&wanted, &got, is);
                format!("{what} {name}: {DIFFERS}\n{difference}")
            } else {
                let wanted = list(wanted.iter().map(ToString::to_string));
                let got = list(got.iter().map(ToString::to_string));
                format!("{what} {name}: expected {wanted}, got {got}")
            });
        }
    }
    for name in &expected.absent {
        let got = values(name);
        if !got.is_empty() {
            let got = list(got.iter().map(|value| format!("\"{}\"", value.escape_ascii())));
            fail(format!("{what} {}: expected none, got {got}", name.escape_ascii()));
        }
    }
}

/// A value as it is told.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "no line".into() } else { items.join(", ") }
}

/// What is expected of metrics and logs and is not there (yet).
fn missing<'a>(
    expect: &'a Expectation,
    seen: &'a Observation,
    logs_before: usize,
) -> impl Iterator<Item = String> + 'a {
    let metrics =
        expect.metrics.iter().filter_map(|(name, expected)| match seen.metrics.get(name) {
            Some(value) if value == expected => None,
            Some(value) => Some(format!("metric {name}: expected {expected}, got {value}")),
            None => Some(format!("metric {name}: expected {expected}, but it is not defined")),
        });
    let lines = seen.logs.get(logs_before..).unwrap_or_default();
    let logs = expect.logs.iter().filter_map(move |log| {
        let wanted = Matcher::Contains(log.contains.clone());
        let found = lines.iter().any(|line| {
            log.level.is_none_or(|level| level == line.level) && wanted.matches(&line.message)
        });
        let level = log.level.map_or(String::new(), |level| format!(" at {level}"));
        (!found).then(|| {
            let lines = list(lines.iter().map(ToString::to_string));
            format!("log{level}: expected {wanted}, got {lines}")
        })
    });
    metrics.chain(logs)
}
