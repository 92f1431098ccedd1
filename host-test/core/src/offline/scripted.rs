//! Clients and upstreams as a scenario has them: they send what a step says, when it says so.
//!
//! They see nothing but what the proxy sends them, and so does whoever judges them.

use std::time::Duration;

use super::streams::{Event, Head, Over, Part, Sent};
use super::{Run, wire};
use crate::proxy::{Configured, HostFailure, Outcome, Received, Response, Sending};
use crate::scenario::{Answer, ConfigureStep, HeaderLine, Request, RequestStep, Upstream};
use crate::tls::Alert;
use crate::world::StreamId;

/// How long the offline client waits for an answer, in virtual time.
const PATIENCE: Duration = Duration::from_secs(15);

/// What came of a request.
#[derive(Debug)]
pub(super) struct Outcomes {
    pub(super) number: u64,
    pub(super) client: Outcome,
    pub(super) upstream: Option<Received>,
    pub(super) configured: Option<Configured>,
}

/// A client with its upstream.
struct Pair<'a> {
    step: &'a RequestStep,
    worker: usize,
    stage: Stage,
    received: Option<Received>,
    response: Option<Response>,
    response_is_whole: bool,
    configured: Option<Configured>,
}

/// How far an exchange has come.
#[derive(Clone, Copy)]
enum Stage {
    /// The client sends its request then.
    Before {
        begins: Duration,
    },
    UnderWay {
        id: StreamId,
        /// The client waits no longer.
        until: Duration,
        upstream: Stand,
    },
    After {
        id: StreamId,
        over: Over,
    },
    /// The proxy did not let the client in.
    Refused {
        number: u64,
        alert: Alert,
    },
}

/// What the upstream of an exchange does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// It waits for the whole request.
    Waits,
    /// It has the request, and answers then.
    Answers { due: Duration },
    /// It has done what it does.
    Done,
}

/// What happens next of what a step says.
#[derive(Clone, Copy)]
enum Act {
    Begin,
    Answer,
    Leave,
}

impl Run {
    /// Has clients send requests, and gives what came of them once all have come to an end.
    pub(super) fn play(&mut self, requests: &[Sending<'_>]) -> Result<Vec<Outcomes>, HostFailure> {
        let now = self.now();
        let mut pairs = Vec::with_capacity(requests.len());
        for &Sending { after, worker, step } in requests {
            pairs.push(Pair::new(step, worker, now.saturating_add(after)));
        }
        loop {
            self.hand_over(&mut pairs);
            self.retire();
            if pairs.iter().all(Pair::is_over) {
                break;
            }
            self.deliver_queues()?;
            self.hand_over(&mut pairs);
            let next = pairs.iter().enumerate().filter_map(|(at, pair)| {
                let (due, act) = pair.next()?;
                Some((due, at, act))
            });
            let Some((due, at, act)) = next.min_by_key(|&(due, at, _)| (due, at)) else { break };
            // Ticks and what comes back to callouts may change what comes next.
            if self.happen(due)? {
                continue;
            }
            self.world.clock.advance_to(due);
            if let Some(pair) = pairs.get_mut(at) {
                self.act(pair, act)?;
            }
        }
        Ok(pairs.into_iter().filter_map(Pair::outcomes).collect())
    }

    /// Hands what the proxy has sent to those whom it was sent to.
    fn hand_over(&mut self, pairs: &mut [Pair<'_>]) {
        while let Some((id, event)) = self.next_event() {
            let now = self.now();
            let mut mine = pairs.iter_mut().filter(|pair| pair.id() == Some(id));
            let Some(pair) = mine.next() else { continue };
            pair.take(event, now);
        }
        for pair in pairs {
            if let Some(step) = pair.configures() {
                pair.configured = Some(self.reconfigure(step));
            }
        }
    }

    fn act(&mut self, pair: &mut Pair<'_>, act: Act) -> Result<(), HostFailure> {
        match (act, pair.stage) {
            (Act::Begin, _) => self.begin(pair),
            (Act::Answer, Stage::UnderWay { id, until, .. }) => {
                pair.stage = Stage::UnderWay { id, until, upstream: Stand::Done };
                match &pair.step.upstream {
                    Upstream::Answer(answer) => self.answer(id, answer, pair.asks_for_head()),
                    Upstream::Reset => self.break_upstream(id),
                }
                Ok(())
            }
            (Act::Leave, Stage::UnderWay { id, .. }) => {
                self.leave(id);
                Ok(())
            }
            (
                Act::Answer | Act::Leave,
                Stage::Before { .. } | Stage::After { .. } | Stage::Refused { .. },
            ) => Ok(()),
        }
    }

    fn begin(&mut self, pair: &mut Pair<'_>) -> Result<(), HostFailure> {
        let request = &pair.step.request;
        let (number, worker) = (self.requests + 1, pair.worker);
        self.world.note(|| {
            format!("request {number} to worker {worker}: {} {}", request.method, request.path)
        });
        let secured = match self.let_in(worker, pair.step.peer.as_deref()) {
            Ok(secured) => secured,
            Err(alert) => {
                self.requests = number;
                pair.stage = Stage::Refused { number, alert };
                return Ok(());
            }
        };
        let has_body = !request.body.is_empty() || request.unfinished;
        let has_trailers = !request.trailers.is_empty();
        let end = !has_body && !has_trailers;
        let id = self.open_on(worker, secured.as_ref(), &head(request), end)?;
        let patience = request.disconnect.unwrap_or(PATIENCE);
        let until = self.now().saturating_add(patience);
        pair.stage = Stage::UnderWay { id, until, upstream: Stand::Waits };
        for (index, chunk) in request.body.iter().enumerate() {
            if index > 0 {
                self.connect_upstream(id);
            }
            self.send_request(id, Part::Body(chunk.clone()));
        }
        if has_trailers {
            self.connect_upstream(id);
            self.send_request(id, Part::Trailers(request.trailers.clone()));
        } else if has_body && !request.unfinished {
            self.send_request(id, Part::End);
        }
        Ok(())
    }

    fn answer(&mut self, id: StreamId, answer: &Answer, is_head: bool) {
        let is_unfinished = answer.unfinished && !is_head;
        let has_chunks = answer.body.iter().any(|chunk| !chunk.is_empty());
        let has_body = is_unfinished || (!is_head && has_chunks);
        let has_trailers = !is_head && !answer.trailers.is_empty();
        let headers = wire::answer_lines(answer, is_head);
        self.begin_response(id, answer.status, headers, !has_body && !has_trailers);
        for chunk in answer.body.iter().filter(|chunk| has_body && !chunk.is_empty()) {
            self.send_response(id, Part::Body(chunk.clone()));
        }
        if has_trailers {
            self.send_response(id, Part::Trailers(answer.trailers.clone()));
        } else if has_body && !is_unfinished {
            self.send_response(id, Part::End);
        }
    }
}

impl<'a> Pair<'a> {
    fn new(step: &'a RequestStep, worker: usize, begins: Duration) -> Self {
        Self {
            step,
            worker,
            stage: Stage::Before { begins },
            received: None,
            response: None,
            response_is_whole: false,
            configured: None,
        }
    }

    fn id(&self) -> Option<StreamId> {
        match self.stage {
            Stage::Before { .. } | Stage::Refused { .. } => None,
            Stage::UnderWay { id, .. } | Stage::After { id, .. } => Some(id),
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::After { .. } | Stage::Refused { .. })
    }

    fn asks_for_head(&self) -> bool {
        self.received.as_ref().is_some_and(|received| received.method == b"HEAD")
    }

    /// What the step says that happens next, and when.
    fn next(&self) -> Option<(Duration, Act)> {
        match self.stage {
            Stage::Before { begins } => Some((begins, Act::Begin)),
            Stage::UnderWay { upstream: Stand::Answers { due }, until, .. } if due <= until => {
                Some((due, Act::Answer))
            }
            Stage::UnderWay { until, .. } => Some((until, Act::Leave)),
            Stage::After { .. } | Stage::Refused { .. } => None,
        }
    }

    /// The configuration that a filter gets once the upstream has the request.
    fn configures(&self) -> Option<&'a ConfigureStep> {
        let is_time = matches!(self.stage, Stage::UnderWay { upstream: Stand::Answers { .. }, .. });
        self.step.meanwhile.as_ref().filter(|_| is_time && self.configured.is_none())
    }

    /// Takes what the proxy sends.
    fn take(&mut self, event: Event, now: Duration) {
        match event {
            Event::Request(Sent::Head { head, end }) => {
                self.received = Some(head);
                if end {
                    self.request_is_whole(now);
                }
            }
            Event::Request(Sent::Part(part)) => {
                let message = self.received.as_mut();
                let message = message.map(|message| (&mut message.body, &mut message.trailers));
                if take_part(message, part) {
                    self.request_is_whole(now);
                }
            }
            Event::GivesUp => self.upstream_stands(Stand::Done),
            Event::Response(Sent::Head { head, end }) => {
                self.response = Some(head);
                self.response_is_whole = end;
            }
            Event::Response(Sent::Part(part)) => {
                let message = self.response.as_mut();
                let message = message.map(|message| (&mut message.body, &mut message.trailers));
                self.response_is_whole = take_part(message, part);
            }
            Event::Over(over) => {
                if let Stage::UnderWay { id, .. } = self.stage {
                    self.stage = Stage::After { id, over };
                }
            }
        }
    }

    fn request_is_whole(&mut self, now: Duration) {
        if let Stage::UnderWay { upstream: Stand::Waits, .. } = self.stage {
            let delay = match &self.step.upstream {
                Upstream::Answer(answer) => answer.delay,
                Upstream::Reset => Duration::ZERO,
            };
            self.upstream_stands(Stand::Answers { due: now.saturating_add(delay) });
        }
    }

    fn upstream_stands(&mut self, stand: Stand) {
        if let Stage::UnderWay { upstream, .. } = &mut self.stage {
            *upstream = stand;
        }
    }

    fn outcomes(self) -> Option<Outcomes> {
        let (number, over) = match self.stage {
            Stage::After { id: StreamId(number), over } => (number, over),
            Stage::Refused { number, alert } => {
                let client = Outcome::Refused(alert);
                return Some(Outcomes { number, client, upstream: None, configured: None });
            }
            Stage::Before { .. } | Stage::UnderWay { .. } => return None,
        };
        let client = match self.response {
            Some(response) if self.response_is_whole => Outcome::Response(response),
            _ if over.is_reset => Outcome::Reset,
            response if self.step.request.disconnect.is_some() => Outcome::Left(response),
            _ => Outcome::Unanswered,
        };
        let upstream = self.received.filter(|_| over.has_arrived);
        Some(Outcomes { number, client, upstream, configured: self.configured })
    }
}

/// Takes what follows a head; whether the message is whole with it.
pub(crate) fn take_part(message: Option<(&mut Vec<u8>, &mut Vec<HeaderLine>)>, part: Part) -> bool {
    let Some((body, trailers)) = message else { return false };
    match part {
        Part::Body(bytes) => {
            body.extend_from_slice(&bytes);
            false
        }
        Part::Trailers(lines) => {
            *trailers = lines;
            true
        }
        Part::End => true,
    }
}

/// The head of a request as a client of HTTP/1.1 sends it: it announces the length of a body in one piece.
fn head(request: &Request) -> Head {
    let Request { method, path, authority, headers, body, trailers, unfinished, .. } = request;
    let mut headers = headers.clone();
    let is_announced = headers.iter().any(|(name, _)| name == b"content-length");
    let has_length = !is_announced && !unfinished;
    if let ([whole], [], true) = (body.as_slice(), trailers.as_slice(), has_length) {
        headers.push(wire::content_length(whole));
    }
    let (method, path, authority) = (method.clone(), path.clone(), authority.clone());
    Head { method, path, authority, headers }
}
