//! All that can be seen of a scenario from outside, as lines that two hosts can be compared by.
//!
//! What cannot be the same is made the same here and nowhere else: dates, measured times, the cost, the
//! order of header lines of different names, that of the log lines while a filter gets another
//! configuration, which several VMs write at once, and in `varying.rs` what properties say of clocks and
//! ports.

use std::ops::Range;

use tollgate_host::proxy::{
    Callout, Configured, Conversation, Exchange, HostFailure, Moment, Observation, Outcome, Proxy,
    ProxyHost, Received, Response, Sending, Settled, Side, StartError,
};
use tollgate_host::run::play;
use tollgate_host::scenario::{
    AdvanceStep, ClockStep, ConfigureStep, ConnectionStep, HeaderLine, PlannedCallout, Scenario,
};

use super::varying;

/// The end of a date, and how many bytes of it stand before.
const DATE: (&[u8], usize) = (b" GMT", 25);

/// What stands before the time that a cluster took, where the probe shows header pairs.
const SERVICE_TIME: &[u8] = b"x-envoy-upstream-service-time\\x00";

/// What came of a scenario.
#[derive(Default)]
pub(crate) struct Observed {
    /// What guests logged until the proxy had started: in no order, since several VMs start at once.
    pub(crate) started: Vec<String>,
    /// What client and upstream got, a line each.
    pub(crate) exchanges: Vec<String>,
    /// What guests logged and the metrics at the end, or why the proxy did not start.
    pub(crate) rest: Vec<String>,
    /// What was not as the scenario expects it, and how the host failed.
    pub(crate) failures: Vec<String>,
}

impl Observed {
    /// All of it.
    pub(crate) fn all(&self) -> Vec<String> {
        [&self.failures[..], &self.exchanges, &self.rest].concat()
    }
}

/// Plays a scenario and notes all that shows, from when the proxy has started.
pub(crate) fn observe(scenario: &Scenario, host: &dyn ProxyHost) -> Observed {
    let proxy = match host.start(scenario) {
        Ok(proxy) => proxy,
        Err(StartError::Refused { .. }) if scenario.refused.is_some() => {
            return Observed { rest: vec!["refused to start".into()], ..Observed::default() };
        }
        Err(error) => return Observed { failures: vec![error.to_string()], ..Observed::default() },
    };
    let mut proxy = Watched { proxy, exchanges: Vec::new(), unordered: Vec::new() };
    let mut before = proxy.observe(&|_| true).unwrap_or_default();
    let logs_before = before.logs.len();
    before.logs.sort_by(|one, other| one.message.cmp(&other.message));
    let started = show_rest(&before, 0);
    let failures = play(scenario, &mut proxy).iter().map(ToString::to_string).collect();
    let rest = match proxy.observe(&|_| true) {
        Ok(mut seen) => {
            for range in &proxy.unordered {
                let lines = seen.logs.get_mut(range.clone()).unwrap_or_default();
                lines.sort_by(|one, other| one.message.cmp(&other.message));
            }
            show_rest(&seen, logs_before)
        }
        Err(failure) => vec![failure.to_string()],
    };
    Observed { started, exchanges: proxy.exchanges, rest, failures }
}

/// Says what two hosts do not share, line by line; nothing when they agree.
pub(crate) fn difference(offline: &[String], envoy: &[String]) -> Option<String> {
    let length = offline.len().max(envoy.len());
    let differing = (0..length).filter(|&line| offline.get(line) != envoy.get(line));
    let shown: Vec<String> = differing
        .map(|line| {
            let of =
                |lines: &[String]| lines.get(line).map_or("nothing", String::as_str).to_owned();
            format!("  offline: {}\n  envoy:   {}", of(offline), of(envoy))
        })
        .collect();
    (!shown.is_empty()).then(|| shown.join("\n"))
}

/// A proxy whose exchanges are noted.
struct Watched<'a> {
    proxy: Box<dyn Proxy + 'a>,
    /// What client, upstream and clusters got, a line each.
    exchanges: Vec<String>,
    /// Log lines that several VMs wrote at once.
    unordered: Vec<Range<usize>>,
}

impl Proxy for Watched<'_> {
    fn together(
        &mut self,
        requests: &[Sending<'_>],
        callouts: &[PlannedCallout],
    ) -> Result<(Vec<Exchange>, Vec<Callout>), HostFailure> {
        let before = self.proxy.observe(&|_| true)?.logs.len();
        let (exchanges, made) = self.proxy.together(requests, callouts)?;
        if requests.iter().any(|sent| sent.step.meanwhile.is_some()) {
            let after = self.proxy.observe(&|_| true)?.logs.len();
            self.unordered.push(before..after);
        }
        self.exchanges.extend(exchanges.iter().flat_map(show));
        self.exchanges.extend(made.iter().map(show_callout));
        Ok((exchanges, made))
    }

    fn connect(
        &mut self,
        worker: usize,
        step: &ConnectionStep,
    ) -> Result<Conversation, HostFailure> {
        let conversation = self.proxy.connect(worker, step)?;
        self.exchanges.extend(conversation.moments.iter().map(show_moment));
        self.exchanges.extend(conversation.refused.map(|alert| format!("refused with {alert}")));
        self.exchanges.extend(conversation.callouts.iter().map(show_callout));
        Ok(conversation)
    }

    fn advance(&mut self, step: &AdvanceStep) -> Result<Vec<Callout>, HostFailure> {
        let made = self.proxy.advance(step)?;
        self.exchanges.extend(made.iter().map(show_callout));
        Ok(made)
    }

    fn step_clock(&mut self, by: ClockStep) -> Result<(), HostFailure> {
        self.proxy.step_clock(by)
    }

    fn configure(
        &mut self,
        step: &ConfigureStep,
        callouts: &[PlannedCallout],
    ) -> Result<(Configured, Vec<Callout>), HostFailure> {
        let before = self.proxy.observe(&|_| true)?.logs.len();
        let (configured, made) = self.proxy.configure(step, callouts)?;
        let after = self.proxy.observe(&|_| true)?.logs.len();
        self.unordered.push(before..after);
        self.exchanges.extend(made.iter().map(show_callout));
        Ok((configured, made))
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
}

fn show(exchange: &Exchange) -> [String; 2] {
    let show_response = |response: &Response| {
        let Response { status, headers, body, trailers } = response;
        format!("{status}{}", show_message(headers, body, trailers))
    };
    let client = match &exchange.outcome {
        Outcome::Response(response) => show_response(response),
        Outcome::Left(None) => "left".into(),
        Outcome::Left(Some(response)) => format!("left with {}", show_response(response)),
        Outcome::Reset => "reset".into(),
        Outcome::Unanswered => "unanswered".into(),
        Outcome::Refused(alert) => format!("refused with {alert}"),
    };
    let upstream = exchange.upstream.as_ref().map_or("nothing".into(), show_received);
    [format!("client: {client}"), format!("upstream: {upstream}")]
}

fn show_moment(moment: &Moment) -> String {
    let side = |side: &Side| format!("\"{}\", {}", text(&side.got), side.end);
    let upstream = moment.upstream.as_ref().map_or("no connection".into(), side);
    format!("client: {}; upstream: {upstream}", side(&moment.client))
}

fn show_callout(callout: &Callout) -> String {
    let received = callout.received.as_ref().map_or("nothing".into(), show_received);
    format!("callout to {}: {received}", callout.cluster)
}

fn show_received(received: &Received) -> String {
    format!(
        "{} {}{}",
        text(&received.method),
        text(&received.path),
        show_message(&received.headers, &received.body, &received.trailers)
    )
}

fn show_message(headers: &[HeaderLine], body: &[u8], trailers: &[HeaderLine]) -> String {
    let (headers, trailers) = (show_lines(headers), show_lines(trailers));
    format!(" [{headers}] body \"{}\" trailers [{trailers}]", text(body))
}

/// The real client and upstream keep lines of one name together, in the place of the first.
fn show_lines(lines: &[HeaderLine]) -> String {
    let mut lines = lines.to_vec();
    let names: Vec<Vec<u8>> = lines.iter().map(|(name, _)| name.clone()).collect();
    lines.sort_by_key(|(name, _)| names.iter().position(|first| first == name));
    let lines: Vec<String> =
        lines.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect();
    lines.join(" | ")
}

fn show_rest(seen: &Observation, logs_before: usize) -> Vec<String> {
    let logs = seen.logs.iter().skip(logs_before);
    let logs = logs.map(|line| {
        let message = varying::hidden(&text(&line.message));
        format!("log at {}: {message}", line.level)
    });
    let metrics = seen.metrics.iter().map(|(name, value)| format!("metric {name}: {value}"));
    logs.chain(metrics).collect()
}

/// Bytes as text, dates and measured times hidden.
fn text(bytes: &[u8]) -> String {
    let mut bytes = bytes.to_vec();
    let (end, length) = DATE;
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(end) && at >= length {
            bytes[at - length..at].fill(b'.');
        }
        if bytes[at..].starts_with(SERVICE_TIME) {
            let value = bytes[at + SERVICE_TIME.len()..].iter_mut();
            value.take_while(|byte| byte.is_ascii_digit()).for_each(|digit| *digit = b'.');
        }
    }
    bytes.escape_ascii().to_string()
}
