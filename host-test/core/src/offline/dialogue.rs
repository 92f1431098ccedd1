//! An answer over gRPC, message by message: what a guest is told of it, and when.
//!
//! How a callout over gRPC fails without an answer is not here.

use std::time::Duration;

use crate::grpc;
use crate::proxy::Received;
use crate::scenario::GrpcAnswer;
use crate::world::{Event, Flight, Kind, Lines, Part};

/// The status of gRPC that stands for an answer without a message.
const INTERNAL: u32 = 13;

/// How long the cluster took, as Envoy says on every answer.
pub(super) const SERVICE_TIME: &[u8] = b"x-envoy-upstream-service-time";

/// An answer over gRPC that goes message by message.
pub(super) struct Dialogue {
    answer: GrpcAnswer,
    /// Nothing comes before.
    begin: Duration,
    begun: bool,
    messages_sent: usize,
    is_over: bool,
}

/// What a guest is told of the end of a gRPC callout: the message, with where it comes from.
pub(super) fn with_details(message: &[u8], details: &str) -> Vec<u8> {
    if message.is_empty() {
        return details.into();
    }
    [message, b"{", details.as_bytes(), b"}"].concat()
}

/// Takes what the guest has sent, and answers it.
pub(super) fn converse(
    flight: &mut Flight,
    mut dialogue: Option<&mut Dialogue>,
    mut received: Option<&mut Received>,
    now: Duration,
) {
    // What is sent after the answer's end is not heard.
    let was_over = dialogue.as_deref().is_some_and(|dialogue| dialogue.is_over);
    let mut events = Vec::new();
    if let Some(dialogue) = dialogue.as_deref_mut() {
        dialogue.begin(&mut events);
    }
    while let Some(part) = flight.outbox.pop_front() {
        if let (Part::End, Some(dialogue)) = (&part, dialogue.as_deref()) {
            let waiting = flight.inbox.iter_mut().map(|(_, event)| event);
            dialogue.tell_time(waiting.chain(&mut events));
        }
        let received = received.as_deref_mut().filter(|_| !was_over);
        let body = received.map(|received| &mut received.body);
        match &part {
            Part::Body(bytes) => body.into_iter().for_each(|body| body.extend_from_slice(bytes)),
            Part::Message(message) => body.into_iter().for_each(|body| grpc::frame(body, message)),
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
    /// An answer that begins no sooner than `begin`.
    pub(super) fn new(answer: GrpcAnswer, begin: Duration) -> Self {
        Self { answer, begin, begun: false, messages_sent: 0, is_over: false }
    }

    fn begin(&mut self, events: &mut Vec<Event>) {
        if self.begun {
            return;
        }
        self.begun = true;
        if !self.answer.is_trailers_only() {
            events.push(Event::InitialMetadata(Lines(self.head())));
        }
        self.fail_early(events);
    }

    fn hear(&mut self, part: &Part, events: &mut Vec<Event>) {
        if self.is_over {
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
                self.close(events, true);
            }
        }
    }

    /// Envoy tells how long a cluster took with headers that come after the guest's last message.
    fn tell_time<'a>(&self, mut events: impl Iterator<Item = &'a mut Event>) {
        let took = self.answer.delay.as_millis().to_string();
        let head = events.find_map(|event| match event {
            Event::InitialMetadata(lines) if !lines.0.is_empty() => Some(lines),
            Event::TrailingMetadata(lines) if lines.first(b":status").is_some() => Some(lines),
            _ => None,
        });
        if let Some(head) = head {
            head.add(SERVICE_TIME, took.as_bytes());
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
            self.close(events, false);
        }
    }

    fn close(&mut self, events: &mut Vec<Event>, after_end: bool) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let mut trailers = if self.answer.is_trailers_only() {
            events.push(Event::InitialMetadata(Lines::default()));
            self.head()
        } else {
            Vec::new()
        };
        trailers.extend(self.answer.tail());
        if after_end && self.answer.is_trailers_only() {
            let took = self.answer.delay.as_millis().to_string();
            trailers.push((SERVICE_TIME.to_vec(), took.into_bytes()));
        }
        events.push(Event::TrailingMetadata(Lines(trailers)));
        let message = grpc::percent_encoded(self.answer.message.as_bytes());
        let message = with_details(&message, "via_upstream");
        events.push(Event::Closed { status: self.answer.status, message });
    }

    fn head(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut head = vec![(b":status".to_vec(), b"200".to_vec())];
        head.extend(self.answer.head());
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
