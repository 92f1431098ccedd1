//! Clients and upstreams as a scenario has them: they send what a step says, when it says so.
//!
//! They see nothing but what the proxy sends them, and so does whoever judges them.

use std::collections::VecDeque;
use std::time::Duration;

use super::streams::{Event, Head, Over, Part, Sent};
use super::{Run, wire};
use crate::proxy::{Configured, HostFailure, Outcome, Received, Response, Sending};
use crate::scenario::{
    Answer, ConfigureStep, Ending, HeaderLine, Pace, Request, RequestStep, Upstream,
};
use crate::tls::Alert;
use crate::world::{Direction, StreamId};

/// How long the offline client waits for an answer, in virtual time.
const PATIENCE: Duration = Duration::from_secs(15);

/// The shortest time.
const A_MOMENT: Duration = Duration::from_nanos(1);

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
    /// What one of them is still to send.
    left: Option<Left>,
}

/// The rest of a message, which is sent on then.
struct Left {
    due: Duration,
    direction: Direction,
    acts: VecDeque<Deed>,
}

/// What a sender does.
enum Deed {
    /// It sends.
    Part(Part),
    /// It leaves time for a connection.
    Time,
    /// It waits.
    Pause(Duration),
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
    /// Send on what is left of a message.
    GoOn,
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
            let next = || pairs.iter().filter_map(Pair::next).map(|(due, _)| due);
            let Some(due) = next().min() else { break };
            // Ticks and what comes back to callouts may change what comes next.
            let is_late = self.world.chance.is_late();
            let before = if is_late { due.saturating_sub(A_MOMENT) } else { due };
            if self.happen(before)? {
                continue;
            }
            self.world.clock.advance_to(due);
            let is_due = |pair: &Pair<'_>| pair.next().is_some_and(|(at, _)| at == due);
            let how_many = pairs.iter().filter(|pair| is_due(pair)).count();
            let first = self.world.chance.one_of(how_many);
            let pair = pairs.iter_mut().filter(|pair| is_due(pair)).nth(first);
            if let Some((pair, (_, act))) =
                pair.and_then(|pair| pair.next().map(|next| (pair, next)))
            {
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
            (Act::GoOn, Stage::UnderWay { id, .. }) => {
                self.go_on(pair, id);
                Ok(())
            }
            (Act::Answer, Stage::UnderWay { id, until, .. }) => {
                pair.stage = Stage::UnderWay { id, until, upstream: Stand::Done };
                match &pair.step.upstream {
                    Upstream::Answer(answer) => self.answer(pair, id, answer),
                    Upstream::Reset => self.break_upstream(id),
                }
                Ok(())
            }
            (Act::Leave, Stage::UnderWay { id, .. }) => {
                if pair.step.request.disconnect.is_none() {
                    self.lose_patience(id);
                }
                self.leave(id);
                Ok(())
            }
            (
                Act::GoOn | Act::Answer | Act::Leave,
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
        let id = self.open_on(worker, secured.as_ref(), head(request), end)?;
        let patience = request.disconnect.unwrap_or(PATIENCE);
        let until = self.now().saturating_add(patience);
        pair.stage = Stage::UnderWay { id, until, upstream: Stand::Waits };
        let ends = has_body && !request.unfinished;
        let acts = sends(&request.body, &request.trailers, request.pace, ends);
        pair.left = Some(Left { due: self.now(), direction: Direction::Request, acts });
        self.go_on(pair, id);
        Ok(())
    }

    fn answer(&mut self, pair: &mut Pair<'_>, id: StreamId, answer: &Answer) {
        let is_head = pair.asks_for_head();
        let is_unfinished = answer.unfinished && !is_head;
        let has_chunks = answer.body.iter().any(|chunk| !chunk.is_empty());
        let has_body = is_unfinished || (!is_head && has_chunks);
        let has_trailers = !is_head && !answer.trailers.is_empty();
        let headers = wire::answer_lines(answer, is_head);
        self.begin_response(id, answer.status, headers, !has_body && !has_trailers);
        let chunks = answer.body.iter().filter(|chunk| has_body && !chunk.is_empty());
        let chunks: Vec<Vec<u8>> = chunks.cloned().collect();
        let trailers = if has_trailers { answer.trailers.as_slice() } else { &[] };
        let acts = sends(&chunks, trailers, answer.pace, has_body && !is_unfinished);
        pair.left = Some(Left { due: self.now(), direction: Direction::Response, acts });
        self.go_on(pair, id);
    }

    /// Sends on a message up to its end or a pause.
    fn go_on(&mut self, pair: &mut Pair<'_>, id: StreamId) {
        let Some(mut left) = pair.left.take() else { return };
        while let Some(act) = left.acts.pop_front() {
            match (act, left.direction) {
                (Deed::Part(part), Direction::Request) => self.send_request(id, part),
                (Deed::Part(part), Direction::Response) => self.send_response(id, part),
                (Deed::Time, Direction::Request) => self.connect_upstream(id),
                (Deed::Time, Direction::Response) => {}
                (Deed::Pause(by), _) => {
                    left.due = self.now().saturating_add(by);
                    pair.left = Some(left);
                    return;
                }
            }
        }
    }
}

/// What a sender does to send what follows a head.
fn sends(body: &[Vec<u8>], trailers: &[HeaderLine], pace: Pace, ends: bool) -> VecDeque<Deed> {
    let has_last = ends && trailers.is_empty() && !body.is_empty();
    let ends_with = pace.ending == Ending::WithLastChunk && has_last;
    let mut acts = VecDeque::new();
    for (index, chunk) in body.iter().enumerate() {
        if index > 0 {
            acts.push_back(Deed::Time);
        }
        if let Some(pause) = pace.pause.filter(|pause| pause.before == index) {
            acts.push_back(Deed::Pause(pause.by));
        }
        let is_last = ends_with && index + 1 == body.len();
        let part = if is_last { Part::Last } else { Part::Body };
        acts.push_back(Deed::Part(part(chunk.clone())));
    }
    if !trailers.is_empty() {
        acts.extend([Deed::Time, Deed::Part(Part::Trailers(trailers.to_vec()))]);
    } else if ends && !ends_with {
        acts.push_back(Deed::Part(Part::End));
    }
    acts
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
            left: None,
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
        let left = self.left.as_ref().map(|left| (left.due, Act::GoOn));
        left.into_iter().chain(self.next_of_stage()).min_by_key(|&(due, _)| due)
    }

    fn next_of_stage(&self) -> Option<(Duration, Act)> {
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
                    self.left = None;
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
        Part::Last(bytes) => {
            body.extend_from_slice(&bytes);
            true
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
    let Request { method, path, authority, headers, body, trailers, unfinished, pace, .. } =
        request;
    let mut headers = headers.clone();
    let is_announced = headers.iter().any(|(name, _)| name == b"content-length");
    let has_length = !is_announced && !unfinished && pace.pause.is_none();
    if let ([whole], [], true) = (body.as_slice(), trailers.as_slice(), has_length) {
        headers.push(wire::content_length(whole));
    }
    let (method, path, authority) = (method.clone(), path.clone(), authority.clone());
    Head { method, path, authority, headers }
}
