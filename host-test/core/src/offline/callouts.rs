//! The other side of callouts: the clusters that a scenario has, and what comes back from them, when.

use std::time::Duration;

use tollgate_abi::{BufferType, Callback, MapType};

use super::dialogue::{Dialogue, SERVICE_TIME, converse, with_details};
use super::{Run, wire};
use crate::limits::Bounded;
use crate::proxy::{Callout, HostFailure};
use crate::scenario::{Answer, Meets, PlannedCallout, Protocol, Scenario};
use crate::world::{Delivery, Event, FailedAtOnce, Flight, Kind, Lines, LocalReply, Part};

/// The status of gRPC that stands for a cluster that cannot be reached.
pub(super) const UNAVAILABLE: u32 = 14;

/// What the clusters of a scenario do.
#[derive(Default)]
pub(super) struct Clusters {
    /// Those that speak HTTP/2.
    over_http2: Vec<String>,
    /// What the next callouts meet, in order per cluster.
    planned: Vec<(usize, PlannedCallout)>,
    /// The callouts of this step, each with its number.
    made: Vec<(u64, Callout)>,
    /// Callouts that met something, by number, with what is left of the answer over gRPC.
    met: Vec<(u64, Option<Dialogue>)>,
    /// Callouts that nothing was planned for, as far as that was told.
    unplanned: Vec<u64>,
}

impl Clusters {
    pub(super) fn of(scenario: &Scenario) -> Self {
        let is_http2 = |cluster: &&String| scenario.protocol(cluster) != Protocol::Http;
        let over_http2 = scenario.clusters.iter().filter(is_http2).cloned().collect();
        Self { over_http2, ..Self::default() }
    }

    /// A callout as its cluster gets it, before what follows its headers.
    fn callout(&self, flight: &Flight, arrives: bool, met: Option<usize>) -> Callout {
        let has_end = matches!(flight.outbox.front(), Some(Part::End));
        let received = if self.over_http2.contains(&flight.cluster) {
            wire::received_h2(&flight.headers)
        } else {
            wire::received(&flight.headers, has_end)
        };
        let cluster = flight.cluster.clone();
        Callout { cluster, received: arrives.then_some(received), met }
    }

    /// Takes what is planned for a callout, with its place in the plan.
    fn take_plan(&mut self, flight: &Flight) -> Option<(usize, PlannedCallout)> {
        let mine = |plan: &PlannedCallout| plan.cluster == flight.cluster;
        let places = self.planned.iter().enumerate().filter(|(_, (_, plan))| mine(plan));
        let places: Vec<usize> = places.map(|(place, _)| place).collect();
        let left = self.planned.iter().map(|(_, plan)| plan).filter(|plan| mine(plan));
        let text = |name: &[u8]| flight.headers.first(name).unwrap_or_default();
        let met = PlannedCallout::met_by(left, text(b":method"), text(b":path"))?;
        Some(self.planned.remove(*places.get(met)?))
    }
}

impl Run {
    /// Says what the callouts of a step meet.
    pub(super) fn plan_callouts(&mut self, planned: &[PlannedCallout]) {
        self.clusters.planned = planned.iter().cloned().enumerate().collect();
        self.clusters.made.clear();
    }

    /// The callouts since it was said what they meet, by cluster.
    pub(super) fn made_callouts(&mut self) -> Vec<Callout> {
        self.answer_callouts();
        let clusters = &mut self.clusters;
        let untold = clusters.made.iter().filter(|(_, callout)| callout.met.is_none());
        clusters.unplanned.extend(untold.map(|(number, _)| *number));
        let made = std::mem::take(&mut clusters.made);
        let mut made: Vec<Callout> = made.into_iter().map(|(_, callout)| callout).collect();
        made.sort_by_key(|callout| callout.met.unwrap_or(usize::MAX));
        made
    }

    /// Tells guests of callouts that failed while they were made, as soon as they have returned.
    pub(super) fn deliver_failures(&mut self) {
        // What fails while guests are told of failures is told by the loop that runs already.
        if std::mem::replace(&mut self.is_telling_failures, true) {
            return;
        }
        for told in 0.. {
            let Some(failure) = self.world.callouts.failed_at_once.pop_front() else { break };
            let FailedAtOnce { owner, token } = failure;
            if told == self.world.limits.messages_at_once {
                let beyond = self.world.limits.exceeded(Bounded::messages_at_once);
                self.world.harm.get_or_insert_with(|| {
                    format!("callouts make callouts: {told} that failed at one instant, {beyond}")
                });
                self.world.callouts.failed_at_once.clear();
                break;
            }
            self.world.callouts.set_status(owner, UNAVAILABLE);
            self.world.callouts.delivery = Some(Delivery {
                owner,
                maps: Vec::new(),
                buffer: None,
                status_message: b"Cluster not available".to_vec(),
            });
            let callback = Callback::GrpcClose { context: owner.root, token, status: UNAVAILABLE };
            // A trap is in the transcript, and the VM serves no more.
            let _trapped = self.try_call(owner.vm, callback);
            self.world.callouts.delivery = None;
        }
        self.is_telling_failures = false;
    }

    /// When something comes back next, and to which callout.
    pub(super) fn answers(&self) -> impl Iterator<Item = (u64, Duration)> {
        let flights = self.world.callouts.flights.iter();
        flights.filter_map(|flight| Some((flight.number, flight.inbox.front()?.0)))
    }

    /// Tells a guest what has come back to its callout.
    pub(super) fn deliver_callout(&mut self, number: u64) -> Result<(), HostFailure> {
        let mut flights = self.world.callouts.flights.iter_mut();
        let Some(flight) = flights.find(|flight| flight.number == number) else { return Ok(()) };
        let (owner, token, kind) = (flight.owner, flight.token, flight.kind);
        let Some((_, event)) = flight.inbox.pop_front() else { return Ok(()) };
        let is_last = match &event {
            Event::Answer { .. } | Event::Failure => true,
            Event::Message(_) => kind == Kind::GrpcCall,
            Event::Closed { .. } => {
                flight.closed = true;
                kind == Kind::GrpcCall || flight.closed_by_guest
            }
            Event::InitialMetadata(_) | Event::TrailingMetadata(_) => false,
        };
        let mut seen =
            Delivery { owner, maps: Vec::new(), buffer: None, status_message: Vec::new() };
        let context = owner.root;
        let callback = match event {
            Event::Answer { headers, body, trailers } => {
                let callback = Callback::HttpCallResponse {
                    context,
                    token,
                    headers: headers.0.len(),
                    body_size: body.len(),
                    trailers: trailers.0.len(),
                };
                seen.maps.push((MapType::HttpCallResponseHeaders, headers));
                if !trailers.0.is_empty() {
                    seen.maps.push((MapType::HttpCallResponseTrailers, trailers));
                }
                seen.buffer = Some((BufferType::HttpCallResponseBody, body));
                callback
            }
            Event::Failure => {
                self.world.callouts.set_status(owner, BROKEN_CONNECTION);
                seen.status_message = b"reset".to_vec();
                Callback::HttpCallResponse { context, token, headers: 0, body_size: 0, trailers: 0 }
            }
            Event::InitialMetadata(lines) => {
                let count = count(&lines);
                seen.maps.push((MapType::GrpcReceiveInitialMetadata, lines));
                Callback::GrpcReceiveInitialMetadata { context, token, count }
            }
            Event::Message(message) => {
                let size = message.len();
                seen.buffer = Some((BufferType::GrpcReceiveBuffer, message));
                Callback::GrpcReceive { context, token, size }
            }
            Event::TrailingMetadata(lines) => {
                let count = count(&lines);
                seen.maps.push((MapType::GrpcReceiveTrailingMetadata, lines));
                Callback::GrpcReceiveTrailingMetadata { context, token, count }
            }
            Event::Closed { status, message } => {
                self.world.callouts.set_status(owner, status);
                seen.status_message = message;
                Callback::GrpcClose { context, token, status }
            }
        };
        self.world.callouts.delivery = Some(seen);
        // A trap is in the transcript, and the VM serves no more.
        let _trapped = self.try_call(owner.vm, callback);
        self.world.callouts.delivery = None;
        if is_last {
            self.world.retain_flights(|flight| flight.number != number);
        }
        self.refuse_what_was_called()
    }

    /// Lets the clusters answer what guests have sent since.
    pub(super) fn answer_callouts(&mut self) {
        if self.elsewhere.is_some() {
            return self.send_elsewhere();
        }
        let now = self.world.clock.passed();
        let mut notes = Vec::new();
        for flight in &mut self.world.callouts.flights {
            if refuse_unsendable(flight, now) {
                continue;
            }
            let clusters = &mut self.clusters;
            let at = clusters.met.iter().position(|(number, _)| *number == flight.number);
            let at = at.or_else(|| {
                let (index, plan) = clusters.take_plan(flight)?;
                let arrives = !matches!(plan.meets, Meets::Refused);
                let callout = clusters.callout(flight, arrives, Some(index));
                notes.push(note(&callout, flight));
                clusters.made.push((flight.number, callout));
                let over_http2 = clusters.over_http2.contains(&flight.cluster);
                let dialogue = meet(flight, plan.meets, now, over_http2);
                clusters.met.push((flight.number, dialogue));
                Some(clusters.met.len() - 1)
            });
            let Some(dialogue) = at.and_then(|at| clusters.met.get_mut(at)) else {
                // Nothing answers it for now.
                let is_noted = clusters.unplanned.contains(&flight.number)
                    || clusters.made.iter().any(|(number, _)| *number == flight.number);
                if !is_noted {
                    let callout = clusters.callout(flight, true, None);
                    clusters.made.push((flight.number, callout));
                }
                if flight.inbox.is_empty() {
                    time_out(flight);
                }
                continue;
            };
            let made = clusters.made.iter_mut().find(|(number, _)| *number == flight.number);
            let received = made.and_then(|(_, callout)| callout.received.as_mut());
            converse(flight, dialogue.1.as_mut(), received, now);
        }
        let flights = &self.world.callouts.flights;
        let is_under_way = |number: u64| flights.iter().any(|flight| flight.number == number);
        self.clusters.met.retain(|(number, _)| is_under_way(*number));
        self.clusters.unplanned.retain(|number| is_under_way(*number));
        for text in notes {
            self.world.note(|| text);
        }
    }
}

/// What a guest is told of a callout whose connection broke in the midst of an answer.
const BROKEN_CONNECTION: u32 = 11;

fn note(callout: &Callout, flight: &Flight) -> String {
    let text = |name: &[u8]| flight.headers.first(name).unwrap_or_default().escape_ascii();
    format!(
        "  callout {} to {}: {} {}",
        flight.token,
        callout.cluster,
        text(b":method"),
        text(b":path")
    )
}

/// Plans what comes back to a callout; an answer over gRPC depends on what the guest sends.
fn meet(flight: &mut Flight, meets: Meets, now: Duration, over_http2: bool) -> Option<Dialogue> {
    flight.inbox.clear();
    let is_grpc = flight.kind != Kind::Http;
    let due = |delay: Duration| now.saturating_add(delay);
    match meets {
        Meets::Http(answer) if !is_grpc => {
            let is_head = flight.headers.first(b":method") == Some(b"HEAD");
            let event = http_answer(&answer, is_head, over_http2);
            flight.inbox.push_back((due(answer.delay), event));
        }
        Meets::Reset(Some(answer)) if !is_grpc => {
            flight.inbox.push_back((due(answer.delay), Event::Failure));
        }
        Meets::Grpc(answer) if is_grpc => {
            let begin = due(answer.delay);
            time_out(flight);
            return Some(Dialogue::new(answer, begin));
        }
        Meets::Reset(None) => reset(flight, now),
        Meets::Refused => refused(flight, now),
        // What speaks another protocol is judged to be wrong, and not answered.
        Meets::Never | Meets::Http(_) | Meets::Reset(Some(_)) | Meets::Grpc(_) => {}
    }
    time_out(flight);
    None
}

/// Cuts off at its timeout what comes back to a callout.
pub(super) fn time_out(flight: &mut Flight) {
    let Some(timeout) = flight.timeout else { return };
    let limit = flight.made.saturating_add(timeout);
    if flight.inbox.front().is_none_or(|(due, _)| *due > limit) {
        flight.inbox.clear();
        local_reply(flight, limit, &TIMED_OUT);
    }
}

/// Answers a callout over HTTP whose headers Envoy does not send; whether it is one.
fn refuse_unsendable(flight: &mut Flight, now: Duration) -> bool {
    if flight.kind != Kind::Http {
        return false;
    }
    let Some(why) = wire::unsendable_line(&flight.headers) else { return false };
    if flight.inbox.is_empty() {
        local_reply(flight, now, &NoAnswer { status: 503, text: &why, details: "" });
    }
    true
}

/// Nobody took the connection of a callout.
pub(super) fn refused(flight: &mut Flight, now: Duration) {
    local_reply(flight, now, &REFUSED);
}

/// The connection of a callout broke before there was an answer.
pub(super) fn reset(flight: &mut Flight, now: Duration) {
    local_reply(flight, now, &BROKEN);
}

/// What Envoy itself answers to a callout in place of a cluster.
struct NoAnswer<'a> {
    status: u32,
    text: &'a str,
    /// What gRPC is told besides.
    details: &'a str,
}

const TIMED_OUT: NoAnswer<'_> =
    NoAnswer { status: 504, text: "upstream request timeout", details: "response_timeout" };

const BROKEN: NoAnswer<'_> = NoAnswer {
    status: 503,
    text: "upstream connect error or disconnect/reset before headers. \
           reset reason: connection termination",
    details: "upstream_reset_before_response_started{connection_termination}",
};

const REFUSED: NoAnswer<'_> = NoAnswer {
    status: 503,
    text: "upstream connect error or disconnect/reset before headers. \
           reset reason: remote connection failure",
    details: "upstream_reset_before_response_started{remote_connection_failure|\
              delayed_connect_error:_Connection_refused}",
};

fn local_reply(flight: &mut Flight, due: Duration, no_answer: &NoAnswer<'_>) {
    let NoAnswer { status, text, details } = *no_answer;
    let reply = LocalReply::of_proxy(status, details, text);
    let message = with_details(text.as_bytes(), details);
    let events = match flight.kind {
        Kind::Http => {
            let headers = Lines(wire::reply_headers(&reply));
            let is_head = flight.headers.first(b":method") == Some(b"HEAD");
            let body = if is_head { Vec::new() } else { reply.body };
            vec![Event::Answer { headers, body, trailers: Lines::default() }]
        }
        Kind::GrpcCall => vec![Event::Closed { status: UNAVAILABLE, message }],
        Kind::GrpcStream => vec![
            Event::InitialMetadata(Lines::default()),
            Event::TrailingMetadata(Lines(wire::grpc_reply_headers(&reply))),
            Event::Closed { status: UNAVAILABLE, message },
        ],
    };
    flight.inbox.extend(events.into_iter().map(|event| (due, event)));
}

fn http_answer(answer: &Answer, is_head: bool, over_http2: bool) -> Event {
    let mut headers = Lines(wire::answer_headers(answer, is_head));
    if over_http2 {
        headers.remove(b"transfer-encoding");
    }
    headers.add(SERVICE_TIME, answer.delay.as_millis().to_string().as_bytes());
    let body = if is_head { Vec::new() } else { answer.body.concat() };
    let trailers = if is_head { Vec::new() } else { answer.trailers.clone() };
    Event::Answer { headers, body, trailers: Lines(trailers) }
}

fn count(lines: &Lines) -> u32 {
    u32::try_from(lines.0.len()).unwrap_or(u32::MAX)
}
