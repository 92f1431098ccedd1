//! The other side of callouts: the clusters that a scenario has, and what comes back from them, when.

use std::collections::VecDeque;
use std::time::Duration;

use tollgate_abi::{BufferType, Callback, MapType};

use super::{Run, wire};
use crate::proxy::{Callout, HostFailure, Received};
use crate::scenario::{Answer, GrpcAnswer, Meets, PlannedCallout};
use crate::world::{Delivery, Event, Flight, Kind, Lines, LocalReply, Part};

/// The status of gRPC that stands for a cluster that cannot be reached.
const UNAVAILABLE: u32 = 14;

/// The status of gRPC that stands for an answer without a message.
const INTERNAL: u32 = 13;

/// What stands before the reason for which no answer came.
const NO_ANSWER: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";

/// What the clusters of a scenario do.
#[derive(Default)]
pub(super) struct Clusters {
    /// What the next callouts meet, in order per cluster.
    planned: VecDeque<PlannedCallout>,
    /// The callouts of this step, each with its number.
    made: Vec<(u64, Callout)>,
    /// Callouts that met something, by number, with what is left of the answer over gRPC.
    met: Vec<(u64, Option<Dialogue>)>,
    /// Callouts that nothing was planned for, as far as that was told.
    unplanned: Vec<u64>,
}

/// An answer over gRPC that goes message by message.
struct Dialogue {
    answer: GrpcAnswer,
    /// Nothing comes before.
    begin: Duration,
    begun: bool,
    messages_sent: usize,
    guest_ended: bool,
}

impl Run {
    /// Says what the callouts of a step meet.
    pub(super) fn plan_callouts(&mut self, planned: &[PlannedCallout]) {
        self.clusters.planned = planned.iter().cloned().collect();
        self.clusters.made.clear();
    }

    /// The callouts since it was said what they meet, by cluster.
    pub(super) fn made_callouts(&mut self) -> Vec<Callout> {
        self.answer_callouts();
        let clusters = &mut self.clusters;
        for flight in &self.world.callouts.flights {
            let is_new = !clusters.unplanned.contains(&flight.number)
                && !clusters.met.iter().any(|(number, _)| *number == flight.number);
            if is_new {
                clusters.unplanned.push(flight.number);
                clusters.made.push((flight.number, callout(flight, true)));
            }
        }
        let made = std::mem::take(&mut clusters.made);
        let mut made: Vec<Callout> = made.into_iter().map(|(_, callout)| callout).collect();
        made.sort_by(|one, other| one.cluster.cmp(&other.cluster));
        made
    }

    /// When something comes back next, and to which callout.
    pub(super) fn next_callout(&mut self) -> Option<(u64, Duration)> {
        self.answer_callouts();
        let flights = self.world.callouts.flights.iter();
        let due = |flight: &Flight| Some((flight.number, flight.inbox.front()?.0));
        flights.filter_map(due).min_by_key(|&(_, due)| due)
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
            self.world.callouts.flights.retain(|flight| flight.number != number);
        }
        self.refuse_what_was_called()
    }

    /// Lets the clusters answer what guests have sent since.
    fn answer_callouts(&mut self) {
        let now = self.world.clock.passed();
        let mut notes = Vec::new();
        for flight in &mut self.world.callouts.flights {
            let clusters = &mut self.clusters;
            let at = clusters.met.iter().position(|(number, _)| *number == flight.number);
            let at = at.or_else(|| {
                let is_for = |plan: &PlannedCallout| plan.cluster == flight.cluster;
                let index = clusters.planned.iter().position(is_for)?;
                let plan = clusters.planned.remove(index)?;
                let arrives = !matches!(plan.meets, Meets::Refused);
                let callout = callout(flight, arrives);
                notes.push(note(&callout, flight));
                clusters.made.push((flight.number, callout));
                let dialogue = meet(flight, plan.meets, now);
                clusters.met.push((flight.number, dialogue));
                Some(clusters.met.len() - 1)
            });
            let Some(dialogue) = at.and_then(|at| clusters.met.get_mut(at)) else { continue };
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

/// A callout as its cluster gets it, before what follows its headers.
fn callout(flight: &Flight, arrives: bool) -> Callout {
    let has_end = matches!(flight.outbox.front(), Some(Part::End));
    let received = match flight.kind {
        Kind::Http => wire::received(&flight.headers, has_end),
        Kind::GrpcCall | Kind::GrpcStream => wire::received_h2(&flight.headers),
    };
    Callout { cluster: flight.cluster.clone(), received: arrives.then_some(received) }
}

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
fn meet(flight: &mut Flight, meets: Meets, now: Duration) -> Option<Dialogue> {
    let is_grpc = flight.kind != Kind::Http;
    let due = |delay: Duration| now.saturating_add(delay);
    match meets {
        Meets::Http(answer) if !is_grpc => {
            let is_head = flight.headers.first(b":method") == Some(b"HEAD");
            let event = http_answer(&answer, is_head);
            flight.inbox.push_back((due(answer.delay), event));
        }
        Meets::Reset(Some(answer)) if !is_grpc => {
            flight.inbox.push_back((due(answer.delay), Event::Failure));
        }
        Meets::Grpc(answer) if is_grpc => {
            let begin = due(answer.delay);
            time_out(flight);
            return Some(Dialogue {
                answer,
                begin,
                begun: false,
                messages_sent: 0,
                guest_ended: false,
            });
        }
        Meets::Reset(None) => local_reply(flight, now, 503, reason("connection termination")),
        Meets::Refused => local_reply(flight, now, 503, reason(REFUSED)),
        // What speaks another protocol is judged to be wrong, and not answered.
        Meets::Never | Meets::Http(_) | Meets::Reset(Some(_)) | Meets::Grpc(_) => {}
    }
    time_out(flight);
    None
}

/// Cuts off at its timeout what comes back to a callout.
fn time_out(flight: &mut Flight) {
    let Some(timeout) = flight.timeout else { return };
    let limit = flight.made.saturating_add(timeout);
    if flight.inbox.front().is_none_or(|(due, _)| *due > limit) {
        flight.inbox.clear();
        local_reply(flight, limit, 504, "upstream request timeout".into());
    }
}

/// Envoy's connection to a port on which nobody listens.
const REFUSED: &str = "remote connection failure, transport failure reason: delayed connect error: \
                       Connection refused";

fn reason(why: &str) -> String {
    format!("{NO_ANSWER}{why}")
}

/// What Envoy itself answers to a callout in place of a cluster.
fn local_reply(flight: &mut Flight, due: Duration, status: u32, text: String) {
    let body = text.into_bytes();
    let reply = LocalReply { status, headers: Vec::new(), body, grpc_status: None };
    let events = match flight.kind {
        Kind::Http => {
            let headers = Lines(wire::reply_headers(&reply));
            let is_head = flight.headers.first(b":method") == Some(b"HEAD");
            let body = if is_head { Vec::new() } else { reply.body };
            vec![Event::Answer { headers, body, trailers: Lines::default() }]
        }
        Kind::GrpcCall => vec![Event::Closed { status: UNAVAILABLE, message: reply.body }],
        Kind::GrpcStream => vec![
            Event::InitialMetadata(Lines::default()),
            Event::TrailingMetadata(Lines(wire::grpc_reply_headers(&reply))),
            Event::Closed { status: UNAVAILABLE, message: reply.body },
        ],
    };
    flight.inbox.extend(events.into_iter().map(|event| (due, event)));
}

fn http_answer(answer: &Answer, is_head: bool) -> Event {
    let mut headers = Lines(wire::answer_headers(answer, is_head));
    headers.add(SERVICE_TIME, answer.delay.as_millis().to_string().as_bytes());
    let body = if is_head { Vec::new() } else { answer.body.concat() };
    let trailers = if is_head { Vec::new() } else { answer.trailers.clone() };
    Event::Answer { headers, body, trailers: Lines(trailers) }
}

/// How long the cluster took, as Envoy says on every answer.
const SERVICE_TIME: &[u8] = b"x-envoy-upstream-service-time";

/// Takes what the guest has sent, and answers it.
fn converse(
    flight: &mut Flight,
    mut dialogue: Option<&mut Dialogue>,
    mut received: Option<&mut Received>,
    now: Duration,
) {
    let mut events = Vec::new();
    if let Some(dialogue) = dialogue.as_deref_mut() {
        dialogue.begin(&mut events);
    }
    while let Some(part) = flight.outbox.pop_front() {
        let body = received.as_deref_mut().map(|received| &mut received.body);
        match &part {
            Part::Body(bytes) => body.into_iter().for_each(|body| body.extend_from_slice(bytes)),
            Part::Message(message) => body.into_iter().for_each(|body| frame(body, message)),
            Part::End => {}
        }
        if let Some(dialogue) = dialogue.as_deref_mut() {
            dialogue.hear(&part, &mut events);
        }
    }
    let Some(dialogue) = dialogue else { return };
    let due = dialogue.begin.max(now);
    if flight.kind == Kind::GrpcCall {
        events = outcome(events).into_iter().collect();
    }
    let timeout = flight.timeout.map(|timeout| flight.made.saturating_add(timeout));
    if !events.is_empty() && timeout.is_none_or(|timeout| due <= timeout) {
        if flight.kind == Kind::GrpcCall {
            flight.inbox.clear();
        }
        flight.inbox.extend(events.into_iter().map(|event| (due, event)));
    }
}

impl Dialogue {
    fn begin(&mut self, events: &mut Vec<Event>) {
        if self.begun {
            return;
        }
        self.begun = true;
        if !self.is_trailers_only() {
            events.push(Event::InitialMetadata(Lines(self.head())));
        }
        self.fail_early(events);
    }

    fn hear(&mut self, part: &Part, events: &mut Vec<Event>) {
        if self.guest_ended {
            return;
        }
        match part {
            Part::Body(_) => {}
            Part::Message(_) => {
                self.send_next(events);
                self.fail_early(events);
            }
            Part::End => {
                while self.send_next(events) {}
                self.close(events);
            }
        }
    }

    fn send_next(&mut self, events: &mut Vec<Event>) -> bool {
        let next = self.answer.messages.get(self.messages_sent);
        self.messages_sent += 1;
        events.extend(next.map(|message| Event::Message(message.clone())));
        next.is_some()
    }

    /// An answer that fails does not wait for the guest's last message.
    fn fail_early(&mut self, events: &mut Vec<Event>) {
        if self.answer.status != 0 && self.messages_sent >= self.answer.messages.len() {
            self.close(events);
        }
    }

    fn close(&mut self, events: &mut Vec<Event>) {
        if std::mem::replace(&mut self.guest_ended, true) {
            return;
        }
        let mut trailers = if self.is_trailers_only() {
            events.push(Event::InitialMetadata(Lines::default()));
            self.head()
        } else {
            Vec::new()
        };
        trailers.extend(wire::grpc_trailers(&self.answer));
        let GrpcAnswer { status, message, .. } = &self.answer;
        events.push(Event::TrailingMetadata(Lines(trailers)));
        events.push(Event::Closed { status: *status, message: message.clone().into_bytes() });
    }

    /// An answer that fails at once has no headers of its own.
    fn is_trailers_only(&self) -> bool {
        self.answer.messages.is_empty() && self.answer.metadata.is_empty()
    }

    fn head(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut head = wire::grpc_head(&self.answer);
        let took = self.answer.delay.as_millis().to_string().into_bytes();
        head.push((SERVICE_TIME.to_vec(), took));
        head
    }
}

/// What a call is told of an answer: its last message, or why there is none.
fn outcome(events: Vec<Event>) -> Option<Event> {
    let mut last = None;
    for event in events {
        match (event, last.take()) {
            (Event::Message(message), _) => last = Some(Event::Message(message)),
            (Event::Closed { status: 0, .. }, Some(message)) => return Some(message),
            (Event::Closed { status: 0, .. }, None) => {
                return Some(Event::Closed { status: INTERNAL, message: Vec::new() });
            }
            (closed @ Event::Closed { .. }, _) => return Some(closed),
            (_, before) => last = before,
        }
    }
    None
}

/// Puts a message into a body of gRPC: a flag, the length, the bytes.
fn frame(body: &mut Vec<u8>, message: &[u8]) {
    body.push(0);
    body.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend_from_slice(message);
}

fn count(lines: &Lines) -> u32 {
    u32::try_from(lines.0.len()).unwrap_or(u32::MAX)
}
