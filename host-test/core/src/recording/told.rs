//! What a session tells, by streams and callouts: what their ends did, and when.

use std::time::Duration;

use super::decision::Decision;
use super::{Record, RecordedFilter, Session};
use crate::offline::{
    CalloutId, CalloutKind, ConnectionId, Event, Head, Incoming, Input, Outgoing, Output, Part,
    Sent, StreamId,
};
use crate::scenario::HeaderLine;
use crate::tls::Secured;

/// A session, put together.
#[derive(Default)]
pub(super) struct Told {
    pub(super) streams: Vec<Stream>,
    pub(super) callouts: Vec<Callout>,
    pub(super) exchanges: Vec<Exchange>,
    /// Connections of clients with TLS, with when they were opened.
    pub(super) connections: Vec<(Duration, Secured)>,
}

/// One request, with what its ends did and what was decided.
pub(super) struct Stream {
    pub(super) begin: Duration,
    pub(super) end: Option<Duration>,
    pub(super) worker: usize,
    pub(super) connection: Option<ConnectionId>,
    pub(super) head: Head,
    pub(super) body: Message,
    pub(super) left: Option<Duration>,
    pub(super) asked: Duration,
    pub(super) answer: Option<Answer>,
    pub(super) is_broken: bool,
    pub(super) decision: Decision,
}

/// What an upstream sent.
pub(super) struct Answer {
    pub(super) at: Duration,
    pub(super) status: u16,
    pub(super) headers: Vec<HeaderLine>,
    pub(super) body: Message,
}

/// What follows a head.
#[derive(Default)]
pub(super) struct Message {
    pub(super) chunks: Vec<Vec<u8>>,
    pub(super) trailers: Vec<HeaderLine>,
    pub(super) is_over: bool,
}

/// A callout, with what came back and when.
pub(super) struct Callout {
    id: CalloutId,
    pub(super) asked: Duration,
    pub(super) cluster: String,
    pub(super) kind: CalloutKind,
    pub(super) headers: Vec<HeaderLine>,
    pub(super) came: Vec<(Duration, Incoming)>,
}

/// A filter that was exchanged, or refused with these words.
pub(super) struct Exchange {
    pub(super) at: Duration,
    pub(super) place: usize,
    pub(super) filter: RecordedFilter,
    pub(super) refused: Option<String>,
}

impl Message {
    fn begin(is_over: bool) -> Self {
        Self { is_over, ..Self::default() }
    }

    fn take(&mut self, part: &Part) {
        match part {
            Part::Body(bytes) => self.chunks.push(bytes.clone()),
            Part::Last(bytes) => {
                self.chunks.push(bytes.clone());
                self.is_over = true;
            }
            Part::Trailers(lines) => {
                self.trailers.clone_from(lines);
                self.is_over = true;
            }
            Part::End => self.is_over = true,
        }
    }
}

impl Told {
    pub(super) fn read(session: &Session) -> Self {
        let mut told = Self::default();
        for record in &session.records {
            told.take_input(record);
            for output in &record.outputs {
                told.take_output(record.at(), output);
            }
        }
        told
    }

    fn take_input(&mut self, record: &Record) {
        let at = record.at();
        match &record.input {
            Input::Connect(secured) => self.connections.push((at, secured.clone())),
            Input::Open { worker, connection, head, end } => self.streams.push(Stream {
                begin: at,
                end: None,
                worker: *worker,
                connection: *connection,
                decision: Decision::begin(head),
                head: head.clone(),
                body: Message::begin(*end),
                left: None,
                asked: at,
                answer: None,
                is_broken: false,
            }),
            Input::Answer { stream, status, headers, end } => {
                let body = Message::begin(*end);
                let answer = Answer { at, status: *status, headers: headers.clone(), body };
                self.with(*stream, |stream| stream.answer = Some(answer));
            }
            Input::Request(stream, part) => self.with(*stream, |stream| stream.body.take(part)),
            Input::Response(stream, part) => self.with(*stream, |stream| {
                if let Some(answer) = &mut stream.answer {
                    answer.body.take(part);
                }
            }),
            Input::Leave(stream) => self.with(*stream, |stream| stream.left = Some(at)),
            Input::Break(stream) => self.with(*stream, |stream| stream.is_broken = true),
            Input::Callout(id, incoming) => {
                if let Some(callout) = self.callouts.iter_mut().find(|own| own.id == *id) {
                    callout.came.push((at, incoming.clone()));
                }
            }
            Input::Exchange { place, filter } => self.exchanges.push(Exchange {
                at,
                place: *place,
                filter: filter.clone(),
                refused: None,
            }),
            Input::Disconnect(_) | Input::Time => {}
        }
    }

    fn take_output(&mut self, at: Duration, output: &Output) {
        match output {
            Output::Stream(stream, event) => self.with(*stream, |stream| {
                match event {
                    Event::Request(Sent::Head { .. }) => stream.asked = at,
                    Event::Over(_) => stream.end = Some(at),
                    Event::Request(Sent::Part(_)) | Event::Response(_) | Event::GivesUp => {}
                }
                stream.decision.take(event.clone());
            }),
            Output::Callout(id, Outgoing::Head { cluster, kind, headers }) => {
                self.callouts.push(Callout {
                    id: *id,
                    asked: at,
                    cluster: cluster.clone(),
                    kind: *kind,
                    headers: headers.clone(),
                    came: Vec::new(),
                });
            }
            Output::Callout(..) => {}
            Output::Refused(words) => {
                if let Some(exchange) = self.exchanges.last_mut() {
                    exchange.refused = Some(words.clone());
                }
            }
        }
    }

    fn with(&mut self, id: StreamId, act: impl FnOnce(&mut Stream)) {
        let place = usize::try_from(id.0).ok().and_then(|number| number.checked_sub(1));
        if let Some(stream) = place.and_then(|place| self.streams.get_mut(place)) {
            act(stream);
        }
    }
}
