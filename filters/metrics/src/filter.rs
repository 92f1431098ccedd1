//! The filter: sees streams pass, and counts each once when it is over.
//!
//! Not here: what is read of a stream, and which series it belongs to.

use std::rc::Rc;
use std::time::Duration;

use tollgate::attributes::{request, response};
use tollgate::metrics::{Budget, Counters, Labels, StatsTags};
use tollgate::mode::Enforcement;
use tollgate::{
    Clock, ConfigureError, Filter, Gauge, Headers, InBackground, LoggedExchange, OnLog,
    OnRequestChunk, OnRequestHeaders, OnResponseChunk, OnResponseHeaders, Outcome, RequestChunk,
    RequestHeaders, ResetStream, ResponseChunk, ResponseHeaders, Root,
};

use crate::config::{OBJECTIVE, Policy};
use crate::family::Family;
use crate::grpc::{Dialect, Messages};
use crate::label::Source;
use crate::measure::{Measure, Scope};
use crate::meter::Meter;
use crate::observed::{Ended, Reads, Started, View};
use crate::open::{OpenStream, Tally};
use crate::outcome;

/// The metrics filter of one worker.
#[derive(Debug)]
pub struct Metrics {
    meter: Meter,
    /// What is counted when a request is over.
    ended: Option<Family>,
    objectives: Objectives,
    in_flight: Option<Gauge>,
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
            ended: Family::new(&policy, Scope::Ended, root, &state),
            objectives: Objectives {
                requests: root.counters("tollgate_metrics_objective_requests", budget),
                good: root.counters("tollgate_metrics_objective_good", budget),
            },
            in_flight: policy.in_flight.then(|| root.gauge("tollgate_metrics_in_flight")),
            clock: root.clock(),
            meter: Meter::new(policy, Scope::Open, root, &state),
        })
    }
}

impl OnRequestHeaders for Metrics {
    fn on_request_headers(&self, passing: &mut Passing, request: &mut RequestHeaders) -> Outcome {
        if self.meter.is_off() {
            return Ok(());
        }
        match request.read() {
            Ok(headers) => passing.started = Some(Started::of(&self.meter.policy, headers)),
            Err(error) => self.meter.own.tell(&error),
        }
        if let (Some(gauge), Enforcement::Enforce) = (&self.in_flight, self.meter.policy.mode) {
            gauge.add(1);
            passing.is_in_flight = true;
        }
        Ok(())
    }
}

impl OnRequestChunk for Metrics {
    fn on_request_chunk(&self, passing: &mut Passing, chunk: &mut RequestChunk) -> Outcome {
        let Passing { started, request, tally, .. } = passing;
        let Some(open) = self.meter.open.as_ref().filter(|_| !chunk.is_empty()) else {
            return Ok(());
        };
        tally.received.add(chunk.len().try_into().unwrap_or(u64::MAX));
        if open.has(Measure::RequestMessages) && has_messages(started.as_ref()) {
            if let Err(error) = request.take(&*chunk) {
                self.meter.own.tell(&error);
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
        if self.meter.is_off() {
            return Ok(());
        }
        let reads = Reads::default();
        let measures = |family: &Option<Family>, measure| {
            family.as_ref().is_some_and(|family| family.has(measure))
        };
        if passing.first_byte.is_none() && measures(&self.ended, Measure::FirstByte) {
            passing.first_byte = self.since_begin(&reads);
            if let Some(error) = reads.error() {
                self.meter.own.tell(error);
            }
        }
        if let (Some(open), Some(started), None) =
            (&self.meter.open, &passing.started, passing.open)
            && !response.is_end_of_stream()
            && follows(open, started)
        {
            let view =
                View { authority: &started.authority, ..self.meter.view(&reads, started, None) };
            let (series, _) = self.meter.own.series(open, &view);
            passing.open = Some(self.meter.open_streams.insert(Rc::clone(&passing.tally), series));
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
                self.meter.own.tell(&error);
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
        if self.meter.is_off() {
            return;
        }
        // An earlier filter may have answered: this one has not seen the request.
        let seen = passing.started.take();
        let started = seen.unwrap_or_else(|| match exchange.request() {
            Ok(headers) => Started::of(&self.meter.policy, headers),
            // One that was no request has no headers.
            Err(_) => Started::of(&self.meter.policy, &Headers::default()),
        });
        let reads = Reads::default();
        let ended = Ended::read(&self.meter.policy, &reads, &started, passing.response.status());
        if ended.is_redirected_here(&reads) {
            return;
        }
        let authority = self.authority(exchange);
        let headers = if self.reads_response() { exchange.response().ok() } else { None };
        let view = View {
            authority: &authority,
            response: headers,
            ..self.meter.view(&reads, &started, Some(&ended))
        };

        let opened = passing.open.take().and_then(|open| self.meter.open_streams.remove(open));
        if let Some(open) = &self.meter.open
            && !passing.tally.is_empty()
            && (opened.is_some() || follows(open, &started))
        {
            let series = opened.unwrap_or_else(|| self.meter.own.series(open, &view).0);
            passing.tally.count(open, &series);
        }
        self.count(passing, &view, &ended);
        self.judge(&started, &ended);
    }
}

impl InBackground for Metrics {
    async fn in_background(&self) {
        self.meter.count_open_streams().await;
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
    fn count(&self, passing: &Passing, view: &View<'_>, ended: &Ended) {
        let Some(family) = &self.ended else { return };
        let (series, is_unsure) = self.meter.own.series(family, view);
        if !self.meter.own.note(&series, is_unsure, &self.meter.policy) {
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
        if self.meter.policy.mode != Enforcement::Enforce {
            return;
        }
        for (at, objective) in self.meter.policy.objectives().iter().enumerate() {
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
        if self.meter.reporting.is_none() || !self.meter.policy.host_fallback {
            return Vec::new();
        }
        let headers = exchange.request().ok();
        headers.and_then(Headers::authority).map(<[u8]>::to_vec).unwrap_or_default()
    }

    fn reads_response(&self) -> bool {
        let reads = |source: &Source| matches!(source, Source::ResponseHeader(_));
        self.meter.policy.labels().iter().any(|label| reads(&label.source))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
