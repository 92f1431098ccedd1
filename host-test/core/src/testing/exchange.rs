//! What came of a request, or of time that passed: readable, and printed as a whole.

use std::fmt;

use crate::proxy::{self, LogLine, Outcome};
use crate::scenario::{self, HeaderLine};
use crate::tls::Alert;
use crate::transcript::Entry;
use tollgate_abi::Function;

use super::bytes::Bytes;

/// What came of a request: what the client got, what the upstream and others got, what filters logged and
/// what they called.
///
/// It prints what client and upstream saw; with `{:#}` it prints every callback and host call as well.
pub struct Exchange {
    sent: scenario::Request,
    worker: usize,
    response: Option<Response>,
    is_reset: bool,
    has_left: bool,
    refused: Option<Alert>,
    /// What a client had got when it left.
    partial: Option<Response>,
    upstream: Option<Received>,
    cost: proxy::Cost,
    meanwhile: Meanwhile,
}

/// What came of several requests at once.
pub struct Together {
    exchanges: Vec<Exchange>,
    meanwhile: Meanwhile,
}

/// A response as the client got it.
#[derive(Clone, Debug)]
pub struct Response(proxy::Response);

/// A request as a server got it: the upstream, or a cluster that a filter called.
#[derive(Clone, Debug)]
pub struct Received(proxy::Received);

/// A callout as its cluster got it; over gRPC the body are its frames. Where nobody listened, all of it is
/// empty but the cluster.
#[derive(Clone, Debug)]
pub struct Callout {
    cluster: String,
    received: Received,
}

/// What filters did while time passed.
pub struct Meanwhile {
    callouts: Vec<Callout>,
    logs: Vec<LogLine>,
    transcript: Vec<Entry>,
}

impl Exchange {
    pub(super) fn new(
        sent: scenario::Request,
        worker: usize,
        exchange: proxy::Exchange,
        logs: Vec<LogLine>,
        transcript: Vec<Entry>,
    ) -> Self {
        let proxy::Exchange { outcome, upstream, callouts, configured: _, cost } = exchange;
        let is_reset = outcome == Outcome::Reset;
        let has_left = matches!(outcome, Outcome::Left(_));
        let refused = match outcome {
            Outcome::Refused(alert) => Some(alert),
            Outcome::Response(_) | Outcome::Reset | Outcome::Unanswered | Outcome::Left(_) => None,
        };
        let (response, partial) = match outcome {
            Outcome::Response(response) => (Some(Response(response)), None),
            Outcome::Left(partial) => (None, partial.map(Response)),
            Outcome::Reset | Outcome::Unanswered | Outcome::Refused(_) => (None, None),
        };
        Self {
            sent,
            worker,
            response,
            is_reset,
            has_left,
            refused,
            partial,
            upstream: upstream.map(Received),
            cost: cost.unwrap_or_default(),
            meanwhile: Meanwhile::new(callouts, logs, transcript),
        }
    }

    /// The status code that the client got; `None` when no whole response came.
    pub fn status(&self) -> Option<u16> {
        Some(self.response()?.status())
    }

    /// The response that the client got; `None` when no whole one came.
    pub fn response(&self) -> Option<&Response> {
        self.response.as_ref()
    }

    /// Whether the stream was reset before the response was whole.
    pub fn is_reset(&self) -> bool {
        self.is_reset
    }

    /// The alert with which the proxy refused the client's handshake; `None` when it let it in.
    pub fn refused(&self) -> Option<Alert> {
        self.refused
    }

    /// Whether the client left before the response was whole.
    pub fn has_left(&self) -> bool {
        self.has_left
    }

    /// The response as far as it had come when the client left; `None` when nothing had, or it did not.
    pub fn partial_response(&self) -> Option<&Response> {
        self.partial.as_ref()
    }

    /// What the upstream got; `None` when the request did not reach it.
    pub fn upstream(&self) -> Option<&Received> {
        self.upstream.as_ref()
    }

    /// The callouts that filters made, in the order in which they were planned.
    pub fn callouts(&self) -> &[Callout] {
        &self.meanwhile.callouts
    }

    /// What filters logged.
    pub fn logs(&self) -> &[LogLine] {
        &self.meanwhile.logs
    }

    /// Whether a log line contains this text.
    pub fn logged(&self, text: &str) -> bool {
        self.meanwhile.logged(text)
    }

    /// The worker that served it.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// How many host calls filters made.
    pub fn host_calls(&self) -> u64 {
        self.cost.host_calls
    }

    /// How often filters called one function of the host.
    pub fn calls_of(&self, function: Function) -> usize {
        self.meanwhile.calls_of(function)
    }

    /// Everything that crossed the border between proxy and filters, in order.
    pub fn transcript(&self) -> &[Entry] {
        &self.meanwhile.transcript
    }
}

impl Together {
    pub(super) fn new(exchanges: Vec<Exchange>, meanwhile: Meanwhile) -> Self {
        Self { exchanges, meanwhile }
    }

    /// What came of each, in the order in which they were named. Callouts, log lines, host calls and the
    /// transcript are those of all together.
    pub fn exchanges(&self) -> &[Exchange] {
        &self.exchanges
    }
}

/// What filters did meanwhile.
impl std::ops::Deref for Together {
    type Target = Meanwhile;

    fn deref(&self) -> &Meanwhile {
        &self.meanwhile
    }
}

impl Response {
    /// Status code.
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// The value of a header; several lines are one value, as HTTP has it: with `, ` between them.
    pub fn header(&self, name: &str) -> Option<Bytes<'_>> {
        joined(&self.0.headers, name)
    }

    /// The value of each line of a header.
    pub fn header_lines(&self, name: &str) -> Vec<Bytes<'_>> {
        each(&self.0.headers, name)
    }

    /// The whole body.
    pub fn body(&self) -> Bytes<'_> {
        Bytes::new(&*self.0.body)
    }

    /// The value of a trailer, as [`Self::header`].
    pub fn trailer(&self, name: &str) -> Option<Bytes<'_>> {
        joined(&self.0.trailers, name)
    }
}

impl Received {
    /// Method.
    pub fn method(&self) -> Bytes<'_> {
        Bytes::new(&*self.0.method)
    }

    /// Path with query.
    pub fn path(&self) -> Bytes<'_> {
        Bytes::new(&*self.0.path)
    }

    /// The value of a header; several lines are one value, as HTTP has it: with `, ` between them.
    pub fn header(&self, name: &str) -> Option<Bytes<'_>> {
        joined(&self.0.headers, name)
    }

    /// The value of each line of a header.
    pub fn header_lines(&self, name: &str) -> Vec<Bytes<'_>> {
        each(&self.0.headers, name)
    }

    /// The body as far as it came.
    pub fn body(&self) -> Bytes<'_> {
        Bytes::new(&*self.0.body)
    }

    /// The value of a trailer, as [`Self::header`].
    pub fn trailer(&self, name: &str) -> Option<Bytes<'_>> {
        joined(&self.0.trailers, name)
    }
}

impl Callout {
    /// The cluster that was called.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }
}

/// What its cluster got.
impl std::ops::Deref for Callout {
    type Target = Received;

    fn deref(&self) -> &Received {
        &self.received
    }
}

impl Meanwhile {
    pub(super) fn new(
        callouts: Vec<proxy::Callout>,
        logs: Vec<LogLine>,
        transcript: Vec<Entry>,
    ) -> Self {
        let callouts = callouts.into_iter().map(|proxy::Callout { cluster, received, met: _ }| {
            let nothing = || proxy::Received {
                cluster: None,
                method: Vec::new(),
                path: Vec::new(),
                headers: Vec::new(),
                body: Vec::new(),
                trailers: Vec::new(),
            };
            Callout { cluster, received: Received(received.unwrap_or_else(nothing)) }
        });
        Self { callouts: callouts.collect(), logs, transcript }
    }

    /// The callouts that filters made: by cluster, in order for each.
    pub fn callouts(&self) -> &[Callout] {
        &self.callouts
    }

    /// What filters logged.
    pub fn logs(&self) -> &[LogLine] {
        &self.logs
    }

    /// Whether a log line contains this text.
    pub fn logged(&self, text: &str) -> bool {
        self.logs.iter().any(|line| Bytes::new(&*line.message).contains(text))
    }

    /// How often filters called one function of the host.
    pub fn calls_of(&self, function: Function) -> usize {
        let is_call = |entry: &&Entry| match entry {
            Entry::Call { call, .. } => call.function() == function,
            Entry::Fault { function: called, .. } => *called == function,
            Entry::Note(_) | Entry::Enter { .. } | Entry::Return { .. } | Entry::Trap(_) => false,
        };
        self.transcript.iter().filter(is_call).count()
    }

    /// Everything that crossed the border between proxy and filters, in order.
    pub fn transcript(&self) -> &[Entry] {
        &self.transcript
    }
}

/// Several lines of one name mean the same as one with their values in a list (RFC 9110, 5.3).
fn joined<'a>(lines: &'a [HeaderLine], name: &str) -> Option<Bytes<'a>> {
    let mut values = named(lines, name);
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(Bytes::new(first)) };
    let all: Vec<&[u8]> = [first, second].into_iter().chain(values).collect();
    Some(Bytes::new(all.join(&b", "[..])))
}

fn each<'a>(lines: &'a [HeaderLine], name: &str) -> Vec<Bytes<'a>> {
    named(lines, name).map(Bytes::new).collect()
}

fn named<'a>(lines: &'a [HeaderLine], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let name = name.to_ascii_lowercase().into_bytes();
    lines.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value.as_slice())
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scenario::Request { method, path, headers, body, trailers, .. } = &self.sent;
        writeln!(f, "client sent {method} {path} to worker {}", self.worker)?;
        message(f, headers, &body.concat(), trailers)?;
        match &self.response {
            Some(Response(response)) => {
                writeln!(f, "client got {}", response.status)?;
                message(f, &response.headers, &response.body, &response.trailers)?;
            }
            None if self.is_reset => writeln!(f, "client got a reset")?,
            None if self.has_left => writeln!(f, "client left")?,
            None => match self.refused {
                Some(alert) => writeln!(f, "client was refused: {alert}")?,
                None => writeln!(f, "client got no answer")?,
            },
        }
        match &self.upstream {
            Some(received) => write!(f, "upstream got {received}")?,
            None => writeln!(f, "upstream got nothing")?,
        }
        write!(f, "{} host calls", self.cost.host_calls)?;
        self.meanwhile.fmt_after(f)
    }
}

/// The first line, and what follows it indented.
impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy::Received { method, path, headers, body, trailers, cluster: _ } = &self.0;
        writeln!(f, "{} {}", method.escape_ascii(), path.escape_ascii())?;
        message(f, headers, body, trailers)
    }
}

impl fmt::Display for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} callouts", self.callouts.len())?;
        self.fmt_after(f)
    }
}

impl Meanwhile {
    pub(super) fn fmt_after(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Callout { cluster, received } in &self.callouts {
            let text = received.to_string();
            write!(f, "\n{cluster} got {}", text.trim_end())?;
        }
        for line in &self.logs {
            write!(f, "\nlog {line}")?;
        }
        if f.alternate() {
            for entry in &self.transcript {
                write!(f, "\n{entry}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Together {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for exchange in &self.exchanges {
            writeln!(f, "{exchange}")?;
        }
        fmt::Display::fmt(&self.meanwhile, f)
    }
}

/// As it is displayed, for tests that fail.
impl fmt::Debug for Together {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As it is displayed, for tests that fail.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As it is displayed, for tests that fail.
impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn message(
    f: &mut fmt::Formatter<'_>,
    headers: &[HeaderLine],
    body: &[u8],
    trailers: &[HeaderLine],
) -> fmt::Result {
    for (name, value) in headers {
        writeln!(f, "    {}: {}", name.escape_ascii(), value.escape_ascii())?;
    }
    if !body.is_empty() {
        writeln!(f, "    \"{}\"", body.escape_ascii())?;
    }
    for (name, value) in trailers {
        writeln!(f, "    trailer {}: {}", name.escape_ascii(), value.escape_ascii())?;
    }
    Ok(())
}
