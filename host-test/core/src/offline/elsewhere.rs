//! Callouts that are answered from outside, as a proxy on sockets has them answered by real services.
//!
//! Without [`Run::answer_elsewhere`] a scenario says what they meet ([`callouts`](super::callouts)).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Run;
use super::callouts::{UNAVAILABLE, refused, reset, time_out};
use super::dialogue::{SERVICE_TIME, with_details};
use crate::recording::{bytes, lines};
use crate::scenario::HeaderLine;
use crate::world::{Event, Kind, Lines, Part};

/// A callout by its number among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CalloutId(u64);

/// What a callout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalloutKind {
    /// One request and one answer.
    Http,
    /// One message and one answer over gRPC.
    GrpcCall,
    /// Messages both ways over gRPC.
    GrpcStream,
}

/// What goes out of a callout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outgoing {
    /// It begins.
    Head {
        /// The cluster that it goes to.
        cluster: String,
        /// What it is.
        kind: CalloutKind,
        /// Header lines with pseudo-headers, names in lower case.
        #[serde(with = "lines")]
        headers: Vec<HeaderLine>,
    },
    /// Bytes of a body.
    Body(#[serde(with = "bytes")] Vec<u8>),
    /// A message of gRPC, without its frame.
    Message(#[serde(with = "bytes")] Vec<u8>),
    /// The guest has sent its last.
    End,
    /// The guest wants nothing more of it.
    GivenUp,
}

/// What comes back to a callout. One of HTTP gets one answer or failure; a call over gRPC its message, or
/// how it was closed without one; a stream over gRPC any number until it is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Incoming {
    /// The whole answer of HTTP.
    Answer {
        /// Header lines with `:status`.
        #[serde(with = "lines")]
        headers: Vec<HeaderLine>,
        /// The whole body.
        #[serde(with = "bytes")]
        body: Vec<u8>,
        /// Trailer lines.
        #[serde(with = "lines")]
        trailers: Vec<HeaderLine>,
    },
    /// The initial metadata of gRPC.
    InitialMetadata(#[serde(with = "lines")] Vec<HeaderLine>),
    /// A message of gRPC, without its frame.
    Message(#[serde(with = "bytes")] Vec<u8>),
    /// The trailing metadata of gRPC, and the end with its status.
    Closed {
        /// Trailer lines.
        #[serde(with = "lines")]
        trailers: Vec<HeaderLine>,
        /// The status of gRPC.
        status: u32,
        /// What goes with it.
        #[serde(with = "bytes")]
        message: Vec<u8>,
    },
    /// Nobody takes the connection.
    Refused,
    /// The connection broke before there was an answer.
    Reset,
    /// The connection broke in the midst of an answer.
    Broken,
}

/// Callouts on their way outside.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Those that have begun and did not end.
    under_way: Vec<u64>,
    outgoing: VecDeque<(CalloutId, Outgoing)>,
}

impl Run {
    /// From here on callouts are answered from outside, with [`next_outgoing`](Self::next_outgoing) and
    /// [`take_incoming`](Self::take_incoming).
    pub fn answer_elsewhere(&mut self) {
        self.elsewhere.get_or_insert_default();
    }

    /// What callouts have sent since this was asked, in order.
    pub fn next_outgoing(&mut self) -> Option<(CalloutId, Outgoing)> {
        self.answer_callouts();
        self.elsewhere.as_mut()?.outgoing.pop_front()
    }

    /// Something comes back to a callout now; the guest is told with the next time that passes. Of a
    /// callout that is over, nothing comes of it.
    pub fn take_incoming(&mut self, id: CalloutId, incoming: Incoming) {
        let now = self.world.clock.passed();
        let mut flights = self.world.callouts.flights.iter_mut();
        let Some(flight) = flights.find(|flight| flight.number == id.0) else { return };
        // What a timeout would have brought does not come any more.
        flight.inbox.retain(|(due, _)| *due <= now);
        let took = now.saturating_sub(flight.made).as_millis().to_string();
        let with_time = |headers: Vec<HeaderLine>| {
            let mut headers = Lines(headers);
            headers.add(SERVICE_TIME, took.as_bytes());
            headers
        };
        let is_call = flight.kind == Kind::GrpcCall;
        let events = match incoming {
            Incoming::Answer { headers, body, trailers } => {
                vec![Event::Answer { headers: with_time(headers), body, trailers: Lines(trailers) }]
            }
            Incoming::InitialMetadata(lines) => vec![Event::InitialMetadata(with_time(lines))],
            Incoming::Message(message) => vec![Event::Message(message)],
            Incoming::Closed { trailers, status, message } => {
                let message = with_details(&message, "via_upstream");
                let closed = Event::Closed { status, message };
                let trailers = (!is_call).then_some(Event::TrailingMetadata(Lines(trailers)));
                trailers.into_iter().chain([closed]).collect()
            }
            Incoming::Refused => return refused(flight, now),
            Incoming::Reset => return reset(flight, now),
            Incoming::Broken => match flight.kind {
                Kind::Http => vec![Event::Failure],
                Kind::GrpcCall | Kind::GrpcStream => {
                    let message = with_details(b"", "upstream_reset_after_response_started");
                    vec![Event::Closed { status: UNAVAILABLE, message }]
                }
            },
        };
        flight.inbox.extend(events.into_iter().map(|event| (now, event)));
    }

    /// Sends out what guests have sent since, and takes note of what they have given up.
    pub(super) fn send_elsewhere(&mut self) {
        let Some(elsewhere) = &mut self.elsewhere else { return };
        let Elsewhere { under_way, outgoing } = elsewhere;
        for flight in &mut self.world.callouts.flights {
            let id = CalloutId(flight.number);
            if !under_way.contains(&flight.number) {
                under_way.push(flight.number);
                let kind = match flight.kind {
                    Kind::Http => CalloutKind::Http,
                    Kind::GrpcCall => CalloutKind::GrpcCall,
                    Kind::GrpcStream => CalloutKind::GrpcStream,
                };
                let (cluster, headers) = (flight.cluster.clone(), flight.headers.0.clone());
                outgoing.push_back((id, Outgoing::Head { cluster, kind, headers }));
            }
            while let Some(part) = flight.outbox.pop_front() {
                let part = match part {
                    Part::Body(bytes) => Outgoing::Body(bytes),
                    Part::Message(message) => Outgoing::Message(message),
                    Part::End => Outgoing::End,
                };
                outgoing.push_back((id, part));
            }
            if flight.inbox.is_empty() {
                time_out(flight);
            }
        }
        let flights = &self.world.callouts.flights;
        under_way.retain(|&number| {
            let is_left = flights.iter().any(|flight| flight.number == number);
            if !is_left {
                outgoing.push_back((CalloutId(number), Outgoing::GivenUp));
            }
            is_left
        });
    }
}
