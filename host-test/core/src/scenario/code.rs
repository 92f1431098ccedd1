//! Scenarios that are written in code: what stands by default, and the checks that reading makes of
//! what was written in YAML.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use tollgate_abi::{Function, Status};

use super::callout::{self, HIGHEST_STATUS};
use super::written::is_header_name;
use super::{
    Answer, Expectation, ExpectedOutcome, ExpectedQueue, ExpectedShared, Fault, FilterSource,
    FilterUse, GrpcAnswer, HeaderLine, Meets, Pace, PlannedCallout, Request, RequestStep, Scenario,
    Step, Tls, Traffic, UPSTREAM, Upstream,
};

/// How long a client waits for the end of an answer.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// The most seeds of a scenario.
const MOST_SEEDS: u64 = 10_000;

/// The most workers of a proxy.
const MOST_WORKERS: usize = 16;

/// A scenario that no host can play: what is wrong, where, and the bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidScenario(pub(crate) String);

impl fmt::Display for InvalidScenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidScenario {}

impl Scenario {
    /// Checks what the types leave open.
    ///
    /// # Errors
    ///
    /// [`InvalidScenario`] with the place, the value and the bound.
    pub fn check(&self) -> Result<(), InvalidScenario> {
        if self.workers.get() > MOST_WORKERS {
            let workers = self.workers;
            return Err(InvalidScenario(format!(
                "workers: {workers} is above the bound of {MOST_WORKERS}"
            )));
        }
        if !(1..=MOST_SEEDS).contains(&self.seeds) {
            let seeds = self.seeds;
            let what = format!("seeds: {seeds} is not between 1 and {MOST_SEEDS}");
            return Err(InvalidScenario(what));
        }
        if self.vary.is_some() && self.traffic == Traffic::Tcp {
            let what = "vary: needs requests; connections of TCP have no bodies";
            return Err(InvalidScenario(what.into()));
        }
        if self.vary.is_some() && self.all_variations().is_empty() {
            let what = "vary: nothing varies; there is no body that can come otherwise, and no callout \
                        before one";
            return Err(InvalidScenario(what.into()));
        }
        self.proxy.check_routes().map_err(InvalidScenario)?;
        self.tls.iter().try_for_each(Tls::check).map_err(InvalidScenario)?;
        let of_start = &self.start.expect;
        let checked = check_faults(&self.start.faults)
            .and_then(|()| of_start.check_without_request())
            .and_then(|()| self.check_shared(of_start));
        checked.map_err(|what| InvalidScenario(format!("start.{what}")))?;
        for (index, step) in self.steps.iter().enumerate() {
            let within = |what: String| InvalidScenario(format!("steps[{index}].{what}"));
            self.check_alone(step).map_err(within)?;
        }
        callout::check(&self.proxy.cluster.name, &self.clusters, &self.steps)
            .map_err(InvalidScenario)
    }

    /// Checks a further step of this scenario.
    ///
    /// # Errors
    ///
    /// [`InvalidScenario`] with the place, the value and the bound.
    pub fn check_step(&self, step: &Step) -> Result<(), InvalidScenario> {
        self.check_alone(step)
            .and_then(|()| {
                callout::check(&self.proxy.cluster.name, &self.clusters, std::slice::from_ref(step))
            })
            .map_err(InvalidScenario)
    }

    /// Checks a step, whatever stands in the others.
    fn check_alone(&self, step: &Step) -> Result<(), String> {
        step.check()?;
        self.check_traffic(step)?;
        step.expectations().try_for_each(|expect| self.check_shared(expect))?;
        self.check_worker(step)?;
        self.check_peers(step)
    }

    fn check_shared(&self, expect: &Expectation) -> Result<(), String> {
        let check = |shared: &ExpectedShared| shared.check("shared_data", &self.filters);
        expect.shared_data.iter().try_for_each(check)?;
        let check = |queue: &ExpectedQueue| queue.check("queues", &self.filters);
        expect.queues.iter().try_for_each(check)
    }

    fn check_peers(&self, step: &Step) -> Result<(), String> {
        let of_requests = step.requests().map(|step| step.peer.as_deref());
        let of_connection = step.connection().map(|step| step.peer.as_deref());
        let mut peers = of_requests.chain(of_connection);
        peers.try_for_each(|name| Tls::check_peer(self.tls.as_ref(), name))
    }

    fn check_traffic(&self, step: &Step) -> Result<(), String> {
        match (self.traffic, step) {
            (Traffic::Tcp, Step::Request(_)) => Err(no_requests("request")),
            (Traffic::Tcp, Step::Together(_)) => Err(no_requests("together")),
            (Traffic::Http, Step::Connection(_)) => {
                Err("connection: needs `protocol: tcp` at the top of the scenario".into())
            }
            (Traffic::Tcp, _) if step.callouts().iter().any(|call| call.cluster == UPSTREAM) => {
                Err(format!(
                    "callouts: `{UPSTREAM}` speaks TCP in this scenario; add a cluster to call"
                ))
            }
            (Traffic::Http | Traffic::Tcp, _) => Ok(()),
        }
    }

    fn check_worker(&self, step: &Step) -> Result<(), String> {
        let of_requests = step.requests().filter_map(|step| step.worker);
        let mut workers = of_requests.chain(step.connection().and_then(|step| step.worker));
        match workers.find(|&worker| worker >= self.workers.get()) {
            None => Ok(()),
            Some(worker) => Err(format!(
                "worker: {worker} does not exist; workers count from 0 to {}",
                self.workers.get() - 1
            )),
        }
    }
}

impl FilterUse {
    /// A plugin of a filter, named like it, which gets these bytes as its configuration.
    pub fn new(source: FilterSource, config: Vec<u8>) -> Self {
        Self {
            name: source.plugin_name(),
            source,
            root_id: String::new(),
            vm_id: String::new(),
            vm_config: Vec::new(),
            environment: std::collections::BTreeMap::new(),
            config,
            allow_on_headers_stop_iteration: false,
            allowed_capabilities: std::collections::BTreeSet::new(),
            failure_policy: super::FailurePolicy::default(),
        }
    }
}

impl Step {
    /// Checks a step by itself.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Request(step) => step.check(),
            Self::Together(together) => {
                check_callouts(self.callouts()).and_then(|()| together.check())
            }
            Self::Connection(step) => step.check(),
            Self::Advance(_) | Self::Clock(_) | Self::Configure { .. } => {
                check_callouts(self.callouts())?;
                self.faults().try_for_each(check_fault)?;
                self.expectations().try_for_each(Expectation::check_without_request)
            }
        }
    }
}

impl RequestStep {
    /// Checks a request by itself.
    pub(super) fn check(&self) -> Result<(), String> {
        check_callouts(&self.callouts)?;
        check_request(&self.request).map_err(|what| format!("request.{what}"))?;
        self.check_leaving()?;
        if let Upstream::Answer(answer) = &self.upstream {
            check_answer(answer).map_err(|what| format!("upstream.{what}"))?;
        }
        check_faults(&self.faults)
    }
}

impl RequestStep {
    /// Checks that what is expected of the client is what it does.
    fn check_leaving(&self) -> Result<(), String> {
        match (&self.expect.outcome, self.request.disconnect) {
            (Some(ExpectedOutcome::Left), None) => {
                Err("expect.response: `left` needs a `disconnect` in the request".into())
            }
            (Some(ExpectedOutcome::Nothing), Some(_)) => {
                Err("expect.response: a client with `disconnect` waits for nothing; write `left`"
                    .into())
            }
            _ => Ok(()),
        }
    }
}

fn no_requests(key: &str) -> String {
    format!(
        "{key}: a scenario with `protocol: tcp` has connections; write `connection`, or remove `protocol`"
    )
}

/// Checks host calls that are to fail.
pub(super) fn check_faults(faults: &[Fault]) -> Result<(), String> {
    faults.iter().try_for_each(check_fault)
}

/// Checks what callouts meet.
pub(super) fn check_callouts(planned: &[PlannedCallout]) -> Result<(), String> {
    for planned in planned {
        check_meets(&planned.meets).map_err(|what| format!("callouts.{what}"))?;
    }
    Ok(())
}

impl Request {
    /// A request to `example.com`, without headers of its own and without a body.
    pub fn new(method: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            path: path.into(),
            authority: "example.com".into(),
            headers: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            unfinished: false,
            disconnect: None,
            pace: Pace::default(),
        }
    }
}

impl RequestStep {
    /// A request that is sent once, to the worker whose turn it is, and which the upstream answers with
    /// 200 if it gets it.
    pub fn new(request: Request) -> Self {
        Self {
            request,
            repeat: NonZeroUsize::MIN,
            worker: None,
            peer: None,
            upstream: Upstream::Answer(Answer::new(200)),
            callouts: Vec::new(),
            meanwhile: None,
            faults: Vec::new(),
            expect: Expectation::default(),
        }
    }
}

impl Answer {
    /// An answer at once, without headers and without a body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            unfinished: false,
            delay: Duration::ZERO,
            pace: Pace::default(),
        }
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(line(name, value));
        self
    }

    /// Adds a chunk to the body; a body of one chunk has a `content-length`.
    #[must_use]
    pub fn body(mut self, chunk: impl Into<Vec<u8>>) -> Self {
        self.body.push(chunk.into());
        self
    }

    /// Adds a trailer line.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.trailers.push(line(name, value));
        self
    }

    /// Lets the end of the answer never come.
    #[must_use]
    pub fn unfinished(mut self) -> Self {
        self.unfinished = true;
        self
    }

    /// Lets the answer come so long after the whole request.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

impl GrpcAnswer {
    /// An answer at once, without metadata and messages; a status above 0 fails.
    pub fn new(status: u32) -> Self {
        Self {
            metadata: Vec::new(),
            messages: Vec::new(),
            trailers: Vec::new(),
            status,
            message: String::new(),
            delay: Duration::ZERO,
        }
    }

    /// Adds a line of initial metadata.
    #[must_use]
    pub fn metadata(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.metadata.push(line(name, value));
        self
    }

    /// Adds a message.
    #[must_use]
    pub fn message(mut self, message: impl Into<Vec<u8>>) -> Self {
        self.messages.push(message.into());
        self
    }

    /// Adds a line of trailing metadata.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.trailers.push(line(name, value));
        self
    }

    /// Sets the words that go with the status.
    #[must_use]
    pub fn words(mut self, words: impl Into<String>) -> Self {
        self.message = words.into();
        self
    }

    /// Lets the answer begin so long after the call.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

impl From<Answer> for Upstream {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl From<Answer> for Meets {
    fn from(answer: Answer) -> Self {
        Self::Http(answer)
    }
}

impl From<GrpcAnswer> for Meets {
    fn from(answer: GrpcAnswer) -> Self {
        Self::Grpc(answer)
    }
}

impl PlannedCallout {
    /// A callout of which nothing is expected but that it is made.
    pub fn new(cluster: impl Into<String>, meets: impl Into<Meets>) -> Self {
        Self { cluster: cluster.into(), expect: None, meets: meets.into() }
    }
}

impl Fault {
    /// Every call of a function fails with this status.
    pub fn every(call: Function, status: Status) -> Self {
        Self { call, nth: None, status }
    }

    /// One call of a function within the step, counted from 1, fails with this status.
    pub fn nth(nth: u64, call: Function, status: Status) -> Self {
        Self { call, nth: Some(nth), status }
    }
}

/// A header line as the types have it: the name in lower case.
pub fn line(name: &str, value: impl Into<Vec<u8>>) -> HeaderLine {
    (name.to_ascii_lowercase().into_bytes(), value.into())
}

fn check_request(request: &Request) -> Result<(), String> {
    check_names("headers", &request.headers)?;
    check_names("trailers", &request.trailers)?;
    if request.unfinished && !request.trailers.is_empty() {
        return Err("trailers: a request that is unfinished has none".into());
    }
    match request.disconnect {
        None if request.unfinished => {
            Err("unfinished: nobody answers it; say when the client leaves with `disconnect`"
                .into())
        }
        Some(disconnect) if disconnect > LONGEST_WAIT => {
            let bound = "15s, after which every client leaves";
            Err(format!("disconnect: {disconnect:?} is above the bound of {bound}"))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_answer(answer: &Answer) -> Result<(), String> {
    let status = answer.status;
    if !(200..=599).contains(&status) {
        return Err(format!("status: {status} is not between 200 and 599"));
    }
    check_names("headers", &answer.headers)?;
    check_names("trailers", &answer.trailers)?;
    if answer.unfinished && !answer.trailers.is_empty() {
        return Err("trailers: an answer that is unfinished has none".into());
    }
    Ok(())
}

fn check_meets(meets: &Meets) -> Result<(), String> {
    match meets {
        Meets::Http(Answer { unfinished: true, .. })
        | Meets::Reset(Some(Answer { unfinished: true, .. })) => {
            Err("answer.unfinished: a callout is answered whole; write `never` or `reset`".into())
        }
        Meets::Http(answer) | Meets::Reset(Some(answer)) => {
            check_answer(answer).map_err(|what| format!("answer.{what}"))
        }
        Meets::Grpc(answer) if answer.status > HIGHEST_STATUS => {
            let status = answer.status;
            Err(format!(
                "answer_grpc.status: {status} is above {HIGHEST_STATUS}, the highest of gRPC"
            ))
        }
        Meets::Grpc(answer) => check_names("answer_grpc.metadata", &answer.metadata)
            .and_then(|()| check_names("answer_grpc.trailers", &answer.trailers)),
        Meets::Reset(None) | Meets::Never | Meets::Refused => Ok(()),
    }
}

fn check_fault(fault: &Fault) -> Result<(), String> {
    match (fault.nth, fault.status) {
        (Some(0), _) => Err("faults.nth: calls count from 1".into()),
        (_, Status::Ok) => Err("faults.status: 0 is success, not a fault".into()),
        _ if !fault.call.returns_status() => {
            Err(format!("faults.call: {} does not return, and so cannot fail", fault.call))
        }
        _ => Ok(()),
    }
}

fn check_names(place: &str, lines: &[HeaderLine]) -> Result<(), String> {
    match lines.iter().find(|(name, _)| !is_header_name(name)) {
        None => Ok(()),
        Some((name, _)) => Err(format!("{place}: `{}` is not a header name", name.escape_ascii())),
    }
}
