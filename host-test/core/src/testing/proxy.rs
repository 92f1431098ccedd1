//! A running proxy, and the requests that a test sends through it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Module;
use crate::offline::Run;
use crate::proxy::{HostFailure, LogLine, Proxy as _, Sending};
use crate::run::judge_callouts;
use crate::scenario::{
    self, AdvanceStep, ClockStep, ConnectionStep, Fault, InvalidScenario, Meets, PlannedCallout,
    RequestStep, Scenario, Step, Timed, Upstream, line,
};
use crate::transcript::Entry;

use super::connection::{Connect, Connection};
use super::exchange::{Exchange, Meanwhile, Together};
use super::start::Bootstrap;

/// A running proxy with a filter in it. Time stands still but for what waits: a client for its response, or
/// [`Self::advance`].
pub struct Proxy {
    run: Run,
    /// What it was started with; the steps come one by one.
    scenario: Scenario,
    next_worker: usize,
    /// Log lines that belong to what came before.
    logs_before: usize,
}

impl Proxy {
    /// Begins to set up a proxy with a filter: a module that an engine has loaded, or one that is linked into
    /// the test.
    pub fn with(filter: impl Into<Arc<dyn Module>>) -> Bootstrap {
        Bootstrap::new(filter.into())
    }

    pub(super) fn new(run: Run, scenario: Scenario) -> Self {
        Self { run, scenario, next_worker: 0, logs_before: 0 }
    }

    /// A GET request.
    pub fn get(&mut self, path: impl Into<String>) -> Request<&mut Self> {
        self.request("GET", path)
    }

    /// A POST request.
    pub fn post(&mut self, path: impl Into<String>) -> Request<&mut Self> {
        self.request("POST", path)
    }

    /// A request with any method.
    pub fn request(
        &mut self,
        method: impl Into<String>,
        path: impl Into<String>,
    ) -> Request<&mut Self> {
        let Request { after, step, .. } = Request::new(method, path);
        Request { proxy: self, after, step }
    }

    /// Sends several requests, which are under way at the same time, and waits for the end of all. Those
    /// that begin at the same time do so in their order. Faults are those of all: it is counted over all
    /// requests which call is to fail.
    ///
    /// # Errors
    ///
    /// [`PlayError`] as [`Request::send`]; also for fewer than two requests or more than 16.
    pub fn together(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<Together, PlayError> {
        let mut step = scenario::Together { requests: Vec::new(), callouts: Vec::new() };
        for Request { after, step: mut request, .. } in requests {
            step.callouts.append(&mut request.callouts);
            step.requests.push(Timed { after, step: request });
        }
        self.check(&Step::Together(step.clone()))?;
        let scenario::Together { requests, callouts } = step;
        let sending: Vec<Sending<'_>> = requests
            .iter()
            .map(|Timed { after, step }| Sending {
                after: *after,
                worker: step.worker.unwrap_or_else(|| self.next_turn()),
                step,
            })
            .collect();
        let (exchanges, made) = self.run.together(&sending, &callouts).map_err(PlayError::Host)?;
        let failures = judge_callouts(&callouts, &made);
        let exchanges = sending.iter().zip(exchanges).map(|(sent, exchange)| {
            let request = sent.step.request.clone();
            Exchange::new(request, sent.worker, exchange, Vec::new(), Vec::new())
        });
        let exchanges = exchanges.collect();
        let (logs, transcript) = self.take_seen();
        let together = Together::new(exchanges, Meanwhile::new(made, logs, transcript));
        PlayError::unless_planned(failures, &together)?;
        Ok(together)
    }

    /// A connection of TCP.
    pub fn connect(&mut self) -> Connect<'_> {
        Connect::new(self)
    }

    /// Lets time pass, with the ticks that fall due meanwhile.
    ///
    /// # Errors
    ///
    /// [`PlayError`] when filters made callouts for which no answer is planned.
    pub fn advance(&mut self, by: Duration) -> Result<Meanwhile, PlayError> {
        self.advance_with(by, [])
    }

    /// Lets time pass, and says what callouts meet meanwhile, in order for each cluster.
    ///
    /// # Errors
    ///
    /// [`PlayError`] when filters did not make exactly these callouts.
    pub fn advance_with(
        &mut self,
        by: Duration,
        callouts: impl IntoIterator<Item = PlannedCallout>,
    ) -> Result<Meanwhile, PlayError> {
        let callouts = callouts.into_iter().collect();
        let step = AdvanceStep { callouts, ..AdvanceStep::new(by) };
        self.check(&Step::Advance(step.clone()))?;
        let made = self.run.advance(&step).map_err(PlayError::Host)?;
        let failures = judge_callouts(&step.callouts, &made);
        let (logs, transcript) = self.take_seen();
        let meanwhile = Meanwhile::new(made, logs, transcript);
        PlayError::unless_planned(failures, &meanwhile)?;
        Ok(meanwhile)
    }

    /// Sets the wall clock forward. No time passes.
    ///
    /// # Errors
    ///
    /// [`PlayError::Host`] when the host cannot.
    pub fn set_clock_forward(&mut self, by: Duration) -> Result<(), PlayError> {
        self.run.step_clock(ClockStep::Forward(by)).map_err(PlayError::Host)
    }

    /// Sets the wall clock back. No time passes.
    ///
    /// # Errors
    ///
    /// [`PlayError::Host`] when the host cannot.
    pub fn set_clock_back(&mut self, by: Duration) -> Result<(), PlayError> {
        self.run.step_clock(ClockStep::Back(by)).map_err(PlayError::Host)
    }

    /// A counter or gauge as it stands, added up over all workers; `None` when no filter has defined it.
    pub fn metric(&self, name: &str) -> Option<u64> {
        self.run.metrics().get(name).copied()
    }

    /// All counters and gauges by name.
    pub fn metrics(&self) -> BTreeMap<String, u64> {
        self.run.metrics()
    }

    /// The log lines of the filters since the start.
    pub fn logs(&self) -> &[LogLine] {
        self.run.logs()
    }

    fn send(&mut self, step: RequestStep) -> Result<Exchange, PlayError> {
        self.check(&Step::Request(Box::new(step.clone())))?;
        let worker = step.worker.unwrap_or_else(|| self.next_turn());
        let exchange = self.run.exchange(worker, &step).map_err(PlayError::Host)?;
        let failures = judge_callouts(&step.callouts, &exchange.callouts);
        let (logs, transcript) = self.take_seen();
        let exchange = Exchange::new(step.request, worker, exchange, logs, transcript);
        PlayError::unless_planned(failures, &exchange)?;
        Ok(exchange)
    }

    pub(super) fn open(&mut self, step: &ConnectionStep) -> Result<Connection, PlayError> {
        self.check(&Step::Connection(Box::new(step.clone())))?;
        let worker = step.worker.unwrap_or_else(|| self.next_turn());
        let conversation = self.run.connect(worker, step).map_err(PlayError::Host)?;
        let failures = judge_callouts(&step.callouts, &conversation.callouts);
        let (logs, transcript) = self.take_seen();
        let events = step.events.len();
        let connection = Connection::new(events, worker, conversation, logs, transcript);
        PlayError::unless_planned(failures, &connection)?;
        Ok(connection)
    }

    fn check(&self, step: &Step) -> Result<(), PlayError> {
        self.scenario.check_step(step).map_err(PlayError::Invalid)
    }

    fn next_turn(&mut self) -> usize {
        let turn = self.next_worker;
        let next = turn.saturating_add(1);
        self.next_worker = if next < self.scenario.workers.get() { next } else { 0 };
        turn
    }

    /// What filters logged and called since this was asked last.
    fn take_seen(&mut self) -> (Vec<LogLine>, Vec<Entry>) {
        let logs = self.run.logs();
        let new = logs.get(self.logs_before..).unwrap_or_default().to_vec();
        self.logs_before = logs.len();
        (new, self.run.take_transcript())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("scenario", &self.scenario).finish_non_exhaustive()
    }
}

/// A request that is about to be sent to `example.com`, and what it meets. The upstream answers with 200
/// unless [`Self::upstream`] says another. It goes through the proxy that it was made by, or it is one of
/// those that go [together](Proxy::together).
#[derive(Debug)]
#[must_use = "a request goes with `send`"]
pub struct Request<P = ()> {
    proxy: P,
    after: Duration,
    step: RequestStep,
}

impl Request {
    /// A request with any method.
    pub fn new(method: impl Into<String>, path: impl Into<String>) -> Self {
        let step = RequestStep::new(scenario::Request::new(method, path));
        Self { proxy: (), after: Duration::ZERO, step }
    }

    /// A GET request.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    /// A POST request.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new("POST", path)
    }

    /// Sends it so long after the first moment.
    pub fn after(mut self, after: Duration) -> Self {
        self.after = after;
        self
    }
}

impl<P> Request<P> {
    /// Adds a header line.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.step.request.headers.push(line(name, value));
        self
    }

    /// Sets the host.
    pub fn authority(mut self, authority: impl Into<String>) -> Self {
        self.step.request.authority = authority.into();
        self
    }

    /// Adds a chunk to the body; a body of one chunk has a `content-length`.
    pub fn body(mut self, chunk: impl Into<Vec<u8>>) -> Self {
        self.step.request.body.push(chunk.into());
        self
    }

    /// Adds a trailer line.
    pub fn trailer(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.step.request.trailers.push(line(name, value));
        self
    }

    /// Lets the client leave so long after it began to send, unless the response is whole by then.
    pub fn leaves_after(mut self, disconnect: Duration) -> Self {
        self.step.request.disconnect = Some(disconnect);
        self
    }

    /// Lets the end of the body never come: the client leaves in the midst of it.
    pub fn unfinished(mut self) -> Self {
        self.step.request.unfinished = true;
        self
    }

    /// Chooses the worker, counted from 0.
    pub fn worker(mut self, worker: usize) -> Self {
        self.step.worker = Some(worker);
        self
    }

    /// Chooses the client that sends it, among [`Bootstrap::peer`]; without it the only one does.
    pub fn peer(mut self, name: impl Into<String>) -> Self {
        self.step.peer = Some(name.into());
        self
    }

    /// Says what the upstream does: an [`Answer`](super::Answer), or [`Upstream::Reset`].
    pub fn upstream(mut self, does: impl Into<Upstream>) -> Self {
        self.step.upstream = does.into();
        self
    }

    /// Plans a callout, and says what it meets: an [`Answer`](super::Answer), a
    /// [`GrpcAnswer`](super::GrpcAnswer), or one of [`Meets`]. The order counts for each cluster.
    pub fn callout(mut self, cluster: impl Into<String>, meets: impl Into<Meets>) -> Self {
        self.step.callouts.push(PlannedCallout::new(cluster, meets));
        self
    }

    /// Lets host calls fail while the request is under way.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.step.faults.push(fault);
        self
    }
}

impl Request<&mut Proxy> {
    /// Sends the request, and waits for its end.
    ///
    /// # Errors
    ///
    /// [`PlayError`] when filters did not make exactly the callouts that are planned, or when the host
    /// cannot tell what Envoy would do. A refused, reset or unanswered request is an [`Exchange`].
    pub fn send(self) -> Result<Exchange, PlayError> {
        self.proxy.send(self.step)
    }
}

/// Why nothing can be said of a request, or of time that passed.
pub enum PlayError {
    /// What was asked for is out of bounds.
    Invalid(InvalidScenario),
    /// Filters made other callouts than were planned.
    Callouts {
        /// What was not as planned, at least one.
        failures: Vec<String>,
        /// What came of it, as it is displayed.
        seen: String,
    },
    /// The filter did what the host does not serve, or what would crash Envoy.
    Host(HostFailure),
}

impl PlayError {
    fn unless_planned(failures: Vec<String>, seen: &dyn fmt::Display) -> Result<(), Self> {
        if failures.is_empty() {
            return Ok(());
        }
        Err(Self::Callouts { failures, seen: seen.to_string() })
    }
}

impl fmt::Display for PlayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => write!(f, "{error}"),
            Self::Callouts { failures, seen } => write!(f, "{}\n{seen}", failures.join("\n")),
            Self::Host(failure) => write!(f, "{failure}"),
        }
    }
}

/// As it is displayed, for tests that unwrap.
impl fmt::Debug for PlayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for PlayError {}
