//! What a scenario comes to, in lines: what clients, upstream and clusters got, and the metrics. How
//! bodies were framed, and times, do not count.

use crate::account::Account;
use crate::proxy::{
    Callout, Configured, Conversation, Cost, Exchange, HostFailure, Observation, Outcome, Proxy,
    Received, Sending, Settled,
};
use crate::scenario::{
    ADDED_TRAILER, AdvanceStep, ClockStep, ConfigureStep, ConnectionStep, HeaderLine,
    PlannedCallout,
};

/// Header lines of framing and time.
const NOT_COUNTED: [&[u8]; 6] = [
    b"connection",
    b"content-length",
    b"transfer-encoding",
    b"date",
    b"x-envoy-upstream-service-time",
    ADDED_TRAILER,
];

/// A proxy that notes what comes of what is done with it.
pub(super) struct Watched<'a> {
    proxy: Box<dyn Proxy + 'a>,
    requests: usize,
    lines: Vec<String>,
}

impl<'a> Watched<'a> {
    pub(super) fn new(proxy: Box<dyn Proxy + 'a>) -> Self {
        Self { proxy, requests: 0, lines: Vec::new() }
    }

    /// All lines, and the proxy, of which nothing more is noted. Metrics that come late are waited for until they
    /// are as expected.
    pub(super) fn outcomes(
        mut self,
        expected: Option<&[String]>,
    ) -> (Vec<String>, Box<dyn Proxy + 'a>) {
        let is_as_expected = |seen: &Observation| {
            let metrics: Vec<String> = metrics(seen).collect();
            expected.is_none_or(|expected| expected.ends_with(&metrics))
        };
        match self.proxy.observe(&is_as_expected) {
            Ok(seen) => self.lines.extend(metrics(&seen)),
            Err(failure) => self.lines.push(failure.to_string()),
        }
        (self.lines, self.proxy)
    }

    fn note(&mut self, exchange: &Exchange) {
        self.requests += 1;
        let number = self.requests;
        let lines = &mut self.lines;
        let response = match &exchange.outcome {
            Outcome::Response(response) => Some(response),
            Outcome::Reset => {
                lines.push(format!("client {number}: reset"));
                None
            }
            Outcome::Unanswered => {
                lines.push(format!("client {number}: no answer"));
                None
            }
            Outcome::Refused(alert) => {
                lines.push(format!("client {number}: refused with the alert {alert}"));
                None
            }
            Outcome::Left(response) => {
                lines.push(format!("client {number}: left"));
                response.as_ref()
            }
        };
        if let Some(response) = response {
            let who = format!("client {number}");
            lines.push(format!("{who}: status {}", response.status));
            lines.extend(message(&who, &response.headers, &response.body, &response.trailers));
        }
        match &exchange.upstream {
            Some(request) => lines.extend(received(&format!("upstream {number}"), request)),
            None => lines.push(format!("upstream {number}: nothing")),
        }
    }

    fn note_callouts(&mut self, made: &[Callout]) {
        for callout in made {
            let who = format!("callout to {}", callout.cluster);
            match &callout.received {
                Some(request) => self.lines.extend(received(&who, request)),
                None => self.lines.push(format!("{who}: nobody listens")),
            }
        }
    }
}

impl Proxy for Watched<'_> {
    fn together(
        &mut self,
        requests: &[Sending<'_>],
        callouts: &[PlannedCallout],
    ) -> Result<(Vec<Exchange>, Vec<Callout>), HostFailure> {
        let (exchanges, made) = self.proxy.together(requests, callouts)?;
        for exchange in &exchanges {
            self.note(exchange);
        }
        self.note_callouts(&made);
        Ok((exchanges, made))
    }

    fn connect(
        &mut self,
        worker: usize,
        step: &ConnectionStep,
    ) -> Result<Conversation, HostFailure> {
        self.proxy.connect(worker, step)
    }

    fn advance(&mut self, step: &AdvanceStep) -> Result<Vec<Callout>, HostFailure> {
        let made = self.proxy.advance(step)?;
        self.note_callouts(&made);
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
        let (configured, made) = self.proxy.configure(step, callouts)?;
        self.note_callouts(&made);
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

    fn used(&self) -> Option<Cost> {
        self.proxy.used()
    }

    fn take_account(&mut self) -> Account {
        self.proxy.take_account()
    }
}

fn metrics(seen: &Observation) -> impl Iterator<Item = String> {
    seen.metrics.iter().map(|(name, value)| format!("metric {name}: {value}"))
}

fn received(who: &str, request: &Received) -> Vec<String> {
    let Received { cluster, method, path, headers, body, trailers } = request;
    let cluster = cluster.as_ref().map(|name| format!("{who}: cluster {name}"));
    let head = format!("{who}: {} {}", method.escape_ascii(), path.escape_ascii());
    cluster.into_iter().chain([head]).chain(message(who, headers, body, trailers)).collect()
}

fn message(who: &str, headers: &[HeaderLine], body: &[u8], trailers: &[HeaderLine]) -> Vec<String> {
    let line = |kind: &str, (name, value): &HeaderLine| {
        format!("{who}: {kind} {}: {}", name.escape_ascii(), value.escape_ascii())
    };
    let counts = |(name, _): &&HeaderLine| !NOT_COUNTED.contains(&name.as_slice());
    let headers = headers.iter().filter(counts).map(|header| line("header", header));
    let body = format!("{who}: body \"{}\"", body.escape_ascii());
    let trailers = trailers.iter().filter(counts).map(|trailer| line("trailer", trailer));
    headers.chain([body]).chain(trailers).collect()
}
