//! The filter: sees streams pass, and counts each once when it is over.
//!
//! Not here: what is read of a stream, and which series it belongs to.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use tollgate::attributes::{request, response};
use tollgate::metrics::{Budget, Counters, Labels, StatsTags};
use tollgate::mode::Enforcement;
use tollgate::{
    Clock, ConfigureError, Filter, Gauge, Headers, InBackground, LoggedExchange, OnLog,
    OnRequestChunk, OnRequestHeaders, OnResponseChunk, OnResponseHeaders, Outcome, RequestChunk,
    RequestHeaders, ResetStream, ResponseChunk, ResponseHeaders, Root, sleep,
};

use crate::config::{OBJECTIVE, Policy};
use crate::family::{Family, Own};
use crate::grpc::{Dialect, Messages};
use crate::label::Source;
use crate::measure::{Measure, Scope};
use crate::observed::{Ended, Reads, Started, View};
use crate::open::{OpenStream, OpenStreams, Tally};
use crate::outcome;
use crate::reporting::Reporting;

/// The metrics filter of one worker.
#[derive(Debug)]
pub struct Metrics {
    policy: Policy,
    reporting: Option<Reporting>,
    ended: Option<Family>,
    open: Option<Family>,
    objectives: Objectives,
    in_flight: Option<Gauge>,
    own: Own,
    open_streams: OpenStreams,
    clock: Clock,
}

#[derive(Debug)]
struct Objectives {
    requests: Counters<ByObjective>,
    good: Counters<ByObjective>,
}

#[derive(Debug)]
struct ByObjective;

impl Labels for ByObjective {
    const NAMES: &'static [&'static str] = &[OBJECTIVE];
    type Values<'a> = &'a str;
}

/// What is kept of a request while it is open.
#[derive(Debug, Default)]
pub struct Passing {
    started: Option<Started>,
    request: Messages,
    response: Messages,
    tally: Rc<Tally>,
    open: Option<OpenStream>,
    first_byte: Option<Duration>,
    is_in_flight: bool,
}

impl Filter for Metrics {
    const NAME: &'static str = "metrics";
    type Config = Policy;
    type Stream = Passing;
    const STATS_TAGS: StatsTags = StatsTags::of(&[ByObjective::NAMES]);

    fn configure(policy: Policy, root: &Root) -> Result<Self, ConfigureError> {
        let state = root.state("metrics", 1);
        let budget = Budget::new(policy.objectives().len().try_into().unwrap_or(u16::MAX));
        Ok(Self {
            reporting: Reporting::of(&policy, root),
            ended: Family::new(&policy, Scope::Ended, root, &state),
            open: Family::new(&policy, Scope::Open, root, &state),
            objectives: Objectives {
                requests: root.counters("tollgate_metrics_objective_requests", budget),
                good: root.counters("tollgate_metrics_objective_good", budget),
            },
            in_flight: policy.in_flight.then(|| root.gauge("tollgate_metrics_in_flight")),
            own: Own::new(root),
            open_streams: OpenStreams::default(),
            clock: root.clock(),
            policy,
        })
    }
}

impl OnRequestHeaders for Metrics {
    fn on_request_headers(&self, passing: &mut Passing, request: &mut RequestHeaders) -> Outcome {
        if self.policy.mode == Enforcement::Off {
            return Ok(());
        }
        match request.read() {
            Ok(headers) => passing.started = Some(Started::of(&self.policy, headers)),
            Err(error) => self.own.tell(&error),
        }
        if let (Some(gauge), Enforcement::Enforce) = (&self.in_flight, self.policy.mode) {
            gauge.add(1);
            passing.is_in_flight = true;
        }
        Ok(())
    }
}

impl OnRequestChunk for Metrics {
    fn on_request_chunk(&self, passing: &mut Passing, chunk: &mut RequestChunk) -> Outcome {
        let Passing { started, request, tally, .. } = passing;
        let Some(open) = self.open.as_ref().filter(|_| !chunk.is_empty()) else { return Ok(()) };
        tally.received.add(chunk.len().try_into().unwrap_or(u64::MAX));
        if open.has(Measure::RequestMessages) && has_messages(started.as_ref()) {
            if let Err(error) = request.take(&*chunk) {
                self.own.tell(&error);
            }
            tally.request_messages.set(request.count());
        }
        Ok(())
    }
}

impl OnResponseHeaders for Metrics {
    fn on_response_headers(
        &self,
        passing: &mut Passing,
        response: &mut ResponseHeaders,
    ) -> Outcome {
        if self.policy.mode == Enforcement::Off {
            return Ok(());
        }
        let reads = Reads::default();
        let measures = |family: &Option<Family>, measure| {
            family.as_ref().is_some_and(|family| family.has(measure))
        };
        if passing.first_byte.is_none() && measures(&self.ended, Measure::FirstByte) {
            passing.first_byte = self.since_begin(&reads);
            if let Some(error) = reads.error() {
                self.own.tell(error);
            }
        }
        if let (Some(open), Some(started), None) = (&self.open, &passing.started, passing.open)
            && !response.is_end_of_stream()
            && follows(open, started)
        {
            let view = self.view(&reads, started, None, &started.authority, None);
            let (series, _) = self.own.series(open, &view);
            passing.open = Some(self.open_streams.insert(Rc::clone(&passing.tally), series));
        }
        Ok(())
    }
}

impl OnResponseChunk for Metrics {
    fn on_response_chunk(
        &self,
        passing: &mut Passing,
        chunk: &mut ResponseChunk,
    ) -> Result<(), ResetStream> {
        let Passing { started, response, tally, .. } = passing;
        if chunk.is_empty() {
            return Ok(());
        }
        tally.sent.add(chunk.len().try_into().unwrap_or(u64::MAX));
        // Of gRPC-Web the status is in the body, whether messages are counted or not.
        if has_messages(started.as_ref()) {
            if let Err(error) = response.take(&*chunk) {
                self.own.tell(&error);
            }
            tally.response_messages.set(response.count());
        }
        Ok(())
    }
}

impl OnLog for Metrics {
    fn on_log(&self, passing: &mut Passing, exchange: &mut LoggedExchange) {
        if let (Some(gauge), true) = (&self.in_flight, passing.is_in_flight) {
            gauge.add(-1);
        }
        if self.policy.mode == Enforcement::Off {
            return;
        }
        // An earlier filter may have answered: this one has not seen the request.
        let seen = passing.started.take();
        let started = seen.unwrap_or_else(|| match exchange.request() {
            Ok(headers) => Started::of(&self.policy, headers),
            // One that was no request has no headers.
            Err(_) => Started::of(&self.policy, &Headers::default()),
        });
        let authority = self.authority(exchange);
        let reads = Reads::default();
        let ended = Ended::read(&self.policy, &reads, started.dialect, passing.response.status());
        let headers = if self.reads_response() { exchange.response().ok() } else { None };
        let view = self.view(&reads, &started, Some(&ended), &authority, headers);

        let opened = passing.open.take().and_then(|open| self.open_streams.remove(open));
        if let Some(open) = &self.open
            && !passing.tally.is_empty()
            && (opened.is_some() || follows(open, &started))
        {
            let series = opened.unwrap_or_else(|| self.own.series(open, &view).0);
            passing.tally.count(open, &series);
        }
        self.count(passing, &view, &ended);
        self.judge(&started, &ended);
    }
}

impl InBackground for Metrics {
    async fn in_background(&self) {
        let Some(open) = &self.open else { return };
        loop {
            sleep(self.policy.report_every).await;
            self.open_streams.count(open);
        }
    }
}

/// Whether these metrics tell what passes through such a stream.
fn follows(open: &Family, started: &Started) -> bool {
    has_messages(Some(started)) || open.has(Measure::ReceivedBytes) || open.has(Measure::SentBytes)
}

/// Whether messages of gRPC can be seen in the bodies.
fn has_messages(started: Option<&Started>) -> bool {
    let dialect = started.and_then(|started| started.dialect);
    matches!(dialect, Some(Dialect::Grpc | Dialect::Web))
}

impl Metrics {
    fn view<'a>(
        &'a self,
        reads: &'a Reads,
        started: &'a Started,
        ended: Option<&'a Ended>,
        authority: &'a [u8],
        response: Option<&'a Headers>,
    ) -> View<'a> {
        View {
            policy: &self.policy,
            reads,
            started,
            ended,
            reporting: self.reporting.as_ref(),
            known: OnceCell::new(),
            authority,
            response,
        }
    }

    fn count(&self, passing: &Passing, view: &View<'_>, ended: &Ended) {
        let Some(family) = &self.ended else { return };
        let (series, is_unsure) = self.own.series(family, view);
        if !self.own.note(&series, is_unsure, &self.policy) {
            return;
        }
        let reads = view.reads;
        let upstream = (family.has(Measure::Upstream) || family.has(Measure::Overhead))
            .then(|| reads.of(&response::BACKEND_LATENCY))
            .flatten();
        let bytes = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok());
        family.count(&series, |measure| match measure {
            Measure::Requests => Some(1),
            Measure::Duration => ended.duration.map(millis),
            Measure::FirstByte => passing.first_byte.map(millis),
            Measure::Upstream => upstream.map(millis),
            Measure::Overhead => Some(millis(ended.duration?.saturating_sub(upstream?))),
            Measure::RequestBytes => bytes(reads.of(&request::TOTAL_SIZE)),
            Measure::ResponseBytes => bytes(reads.of(&response::TOTAL_SIZE)),
            Measure::RequestMessages
            | Measure::ResponseMessages
            | Measure::ReceivedBytes
            | Measure::SentBytes
            | Measure::TcpOpened
            | Measure::TcpClosed
            | Measure::TcpSent
            | Measure::TcpReceived => None,
        });
    }

    /// Counts for each objective whether the request met it. One that its client has left in time is
    /// neither good nor bad.
    fn judge(&self, started: &Started, ended: &Ended) {
        if self.policy.mode != Enforcement::Enforce {
            return;
        }
        for (at, objective) in self.policy.objectives().iter().enumerate() {
            if !started.objectives.get(at).is_some_and(|is_for_it| *is_for_it) {
                continue;
            }
            let is_in_time = objective
                .within
                .is_none_or(|within| ended.duration.is_some_and(|duration| duration <= within));
            let has_left = ended.outcome == outcome::Outcome::Disconnected;
            if has_left && is_in_time {
                continue;
            }
            self.objectives.requests.increment(&objective.name);
            if is_in_time && ended.outcome != outcome::Outcome::ServerError {
                self.objectives.good.increment(&objective.name);
            }
        }
    }

    /// How long ago the request began to come.
    fn since_begin(&self, reads: &Reads) -> Option<Duration> {
        let began = u64::try_from(reads.of(&request::TIME)?.unix_nanos()).ok()?;
        let now = self.clock.unix_nanos().ok()?;
        Some(Duration::from_nanos(now.saturating_sub(began)))
    }

    /// The host that was asked for, as the last filter left it, where it may stand for a service.
    fn authority(&self, exchange: &mut LoggedExchange) -> Vec<u8> {
        if self.reporting.is_none() || !self.policy.host_fallback {
            return Vec::new();
        }
        let headers = exchange.request().ok();
        headers.and_then(Headers::authority).map(<[u8]>::to_vec).unwrap_or_default()
    }

    fn reads_response(&self) -> bool {
        let reads = |source: &Source| matches!(source, Source::ResponseHeader(_));
        self.policy.labels().iter().any(|label| reads(&label.source))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
