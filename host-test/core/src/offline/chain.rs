//! A stream on its way: through the chain to the upstream, and back to the client.
//!
//! The order of callbacks and what a held message does follow Envoy 1.40 with HTTP/1.1 on both sides:
//! the end of a body comes as a callback of its own without bytes.

use std::time::Duration;

use tollgate_abi::Callback;

use super::Run;
use super::ends::Ends;
use super::wire;
use crate::proxy::{Configured, HostFailure, Outcome, Received};
use crate::scenario::{Answer, RequestStep, Upstream};
use crate::world::{
    Context, Direction, Hold, Lane, Link, LocalReply, Notes, Piece, Stage, Stream, StreamId, flags,
};

/// How long the offline client waits for an answer, in virtual time.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many messages of queues may be delivered at one instant.
const MOST_DELIVERIES: usize = 100_000;

impl Run {
    /// Carries one request to its end.
    pub(super) fn carry(
        &mut self,
        worker: usize,
        step: &RequestStep,
    ) -> Result<(Outcome, Option<Received>, Option<Configured>), HostFailure> {
        let Some(chain) = self.chains.get(worker).cloned() else {
            return Err(HostFailure::Impossible { what: format!("there is no worker {worker}") });
        };
        let id = StreamId(self.requests);
        let mut stream = self.new_stream(id, step, &chain);
        stream.notes = Notes {
            worker,
            came: self.world.clock.wall(),
            began: self.world.clock.passed(),
            ..Notes::default()
        };
        if let Some(state) = self.kept_by_connections.get(worker) {
            stream.state = state.clone();
        }
        self.world.streams.insert(id, stream);
        let mut carrier =
            Carrier { run: self, id, worker, filters: chain.len(), ends: Ends::default() };
        carrier.send_request(step);
        let configured = carrier.wait(step)?;
        let outcome = carrier.finish();
        let upstream = carrier.upstream_saw(matches!(step.upstream, Upstream::Reset));
        self.world.streams.remove(&id);
        Ok((outcome, upstream, configured))
    }

    /// Has every filter of the chain give a new stream a context; the guest is told of it later.
    fn new_stream(&mut self, id: StreamId, step: &RequestStep, chain: &[Link]) -> Stream {
        let mut stream = Stream::default();
        stream.request.headers.0 = wire::request_headers(step);
        stream.request.trailers.0.clone_from(&step.request.trailers);
        for (at, &link) in chain.iter().enumerate() {
            let vm = self.world.vm_mut(link.vm).filter(|vm| !vm.failed);
            let context = Context::Stream { stream: id, at, root: link.root };
            let context = vm.map(|vm| vm.add_context(context));
            let stops_headers_alone =
                self.filters.get(at).is_some_and(|filter| filter.stops_headers_alone);
            let link = Some(link);
            stream.stages.push(Stage { link, context, stops_headers_alone, ..Stage::default() });
        }
        stream
    }

    pub(super) fn tick(&mut self, link: Link, due: Duration) -> Result<(), HostFailure> {
        // A trap is in the transcript, and the VM serves no more.
        let _trapped = self.try_call(link.vm, Callback::Tick { context: link.root });
        if let Some(vm) = self.world.vm_mut(link.vm) {
            // One that was switched off and on again in the callback has its next tick already.
            if let Some(tick) = vm.ticks.get_mut(&link.root).filter(|tick| tick.due == due) {
                tick.due = due.saturating_add(tick.period);
            }
        }
        self.refuse_what_was_called()
    }

    pub(super) fn deliver_queues(&mut self) -> Result<(), HostFailure> {
        for delivered in 0.. {
            let Some((owner, queue)) = self.world.queues.ready.pop_front() else { break };
            if delivered == MOST_DELIVERIES {
                let what =
                    format!("queue {queue} fills itself: {delivered} messages at one instant");
                return Err(HostFailure::Harm { what });
            }
            let Link { vm, root } = owner;
            let _trapped = self.try_call(vm, Callback::QueueReady { context: root, queue });
        }
        self.refuse_what_was_called()
    }
}

/// One stream in the run that carries it.
pub(super) struct Carrier<'a> {
    pub(super) run: &'a mut Run,
    pub(super) id: StreamId,
    pub(super) worker: usize,
    /// How many filters the chain has.
    pub(super) filters: usize,
    pub(super) ends: Ends,
}

impl Carrier<'_> {
    fn send_request(&mut self, step: &RequestStep) {
        let has_body = !step.request.body.is_empty();
        let has_trailers = !step.request.trailers.is_empty();
        self.ends.request_sent = !has_body && !has_trailers;
        self.ends.closes = wire::asks_to_close(step);
        if wire::asks_to_upgrade(step) {
            return self.refuse_unseen();
        }
        self.arrive(Direction::Request, 0, Piece::Headers { end: !has_body && !has_trailers });
        for (index, chunk) in step.request.body.iter().enumerate() {
            if index > 0 {
                self.let_connect();
            }
            self.note_received(chunk.len());
            self.arrive(Direction::Request, 0, Piece::Data { bytes: chunk.clone(), end: false });
        }
        self.ends.request_sent = true;
        if has_trailers {
            self.let_connect();
            self.arrive(Direction::Request, 0, Piece::Trailers);
        } else if has_body {
            self.arrive(Direction::Request, 0, Piece::Data { bytes: Vec::new(), end: true });
        }
    }

    /// Part of the body has come. What comes once the proxy answers is not looked at.
    fn note_received(&mut self, bytes: usize) {
        if !self.is_over(Direction::Request)
            && let Some(stream) = self.stream()
        {
            stream.notes.received = stream.notes.received.saturating_add(bytes);
        }
    }

    /// The proxy answers before any filter: they learn of the request when it is logged.
    fn refuse_unseen(&mut self) {
        self.ends.closes = true;
        self.ends.responding = true;
        if let Some(stream) = self.stream() {
            stream.response.headers.add(b":status", b"403");
            stream.notes.code = Some(403);
            stream.notes.explain(b"upgrade_failed");
        }
        self.arrive(Direction::Response, usize::MAX, Piece::Headers { end: true });
    }

    /// Lets time pass until the client has its answer or its patience ends.
    fn wait(&mut self, step: &RequestStep) -> Result<Option<Configured>, HostFailure> {
        let limit = self.run.world.clock.passed().saturating_add(PATIENCE);
        // When the upstream answers, once it has the whole request; at most once.
        let mut due = None;
        let mut answered = false;
        let mut configured = None;
        self.run.deliver_queues()?;
        self.resume_asked();
        while !self.ends.response_whole && !self.ends.reset {
            if self.ends.request_whole && !answered {
                if configured.is_none() {
                    configured = step.meanwhile.as_ref().map(|step| self.run.reconfigure(step));
                }
                let delay = match &step.upstream {
                    Upstream::Answer(answer) => answer.delay,
                    Upstream::Reset => Duration::ZERO,
                };
                let now = self.run.world.clock.passed();
                due.get_or_insert(now.saturating_add(delay));
            } else {
                due = None;
            }
            // Ticks and what comes back to callouts may move the stream before.
            if self.run.happen(due.unwrap_or(limit).min(limit))? {
                self.resume_asked();
                continue;
            }
            self.run.pass_until(due.unwrap_or(limit).min(limit))?;
            match (due.take(), &step.upstream) {
                (Some(due), _) if due > limit => break,
                (Some(_), Upstream::Answer(answer)) => self.send_answer(answer),
                (Some(_), Upstream::Reset) => self.upstream_reset(),
                (None, _) => break,
            }
            answered = true;
        }
        Ok(configured)
    }

    fn send_answer(&mut self, answer: &Answer) {
        let last = self.last();
        let is_head = self.is_head();
        let has_body = !is_head && answer.body.iter().any(|chunk| !chunk.is_empty());
        let has_trailers = !is_head && !answer.trailers.is_empty();
        let end = !has_body && !has_trailers;
        self.note_connected();
        if let Some(stream) = self.stream() {
            stream.response.headers.0 = wire::answer_headers(answer, is_head);
            stream.response.trailers.0.clone_from(&answer.trailers);
            stream.notes.code = Some(answer.status.into());
            stream.notes.explain(b"via_upstream");
        }
        self.ends.responding = true;
        if end {
            self.note_answered();
        }
        self.arrive(Direction::Response, last, Piece::Headers { end });
        for chunk in &answer.body {
            if has_body && !chunk.is_empty() {
                let piece = Piece::Data { bytes: chunk.clone(), end: false };
                self.arrive(Direction::Response, last, piece);
            }
        }
        if !end {
            self.note_answered();
        }
        if has_trailers {
            self.arrive(Direction::Response, last, Piece::Trailers);
        } else if has_body {
            let piece = Piece::Data { bytes: Vec::new(), end: true };
            self.arrive(Direction::Response, last, piece);
        }
    }

    /// The last byte of the upstream has come.
    fn note_answered(&mut self) {
        let now = self.run.world.clock.passed();
        if let Some(stream) = self.stream() {
            stream.notes.answered = Some(now);
        }
    }

    fn upstream_reset(&mut self) {
        self.note_connected();
        if let Some(stream) = self.stream() {
            stream.notes.flags |= flags::UPSTREAM_CONNECTION_TERMINATION;
        }
        let details = "upstream_reset_before_response_started{connection_termination}";
        let body = "upstream connect error or disconnect/reset before headers. \
                    reset reason: connection termination";
        self.reply(LocalReply::of_proxy(503, details, body));
    }

    /// A piece arrives at a stage of the chain, or beyond its end.
    pub(super) fn arrive(&mut self, direction: Direction, at: usize, piece: Piece) {
        if self.is_over(direction) {
            return;
        }
        match self.stage(at) {
            None => match direction {
                Direction::Request => self.at_upstream(piece),
                Direction::Response => self.at_client(piece),
            },
            Some(stage) => {
                stage.lane_mut(direction).waiting.push_back(piece);
                self.drain(direction, at);
            }
        }
    }

    /// Delivers what waits at a stage until the guest holds it.
    pub(super) fn drain(&mut self, direction: Direction, at: usize) {
        let limit = self.run.world.buffer_limit;
        while !self.is_over(direction) {
            let Some(stage) = self.stage(at) else { return };
            let lane = stage.lane_mut(direction);
            match lane.hold {
                Hold::Nothing | Hold::Body => {}
                Hold::HeadersWithLimit if lane.waits() > limit => return self.too_large(direction),
                Hold::Headers | Hold::HeadersWithLimit | Hold::Trailers | Hold::Stuck => return,
            }
            let Some(piece) = lane.waiting.pop_front() else {
                return;
            };
            self.deliver(direction, at, piece);
            self.resume_asked();
        }
    }

    /// Carries out a local reply or a close that a guest asked for outside of the stream's callbacks.
    pub(super) fn take_over(&mut self) {
        let Some(stream) = self.stream() else { return };
        if std::mem::take(&mut stream.close_asked) {
            self.ends.reset = true;
        } else if let Some(reply) = stream.local_reply.take() {
            self.reply(reply);
        }
    }

    /// Answers the client from the proxy: through the response callbacks, unless a response is on its
    /// way already, which is then replaced.
    pub(super) fn reply(&mut self, reply: LocalReply) {
        self.run.world.note(|| format!("  local reply {}", reply.status));
        let last = self.last();
        if let Some(stream) = self.stream() {
            stream.notes.code_details = Some(reply.details.clone());
        }
        if self.ends.client.is_some() {
            // The head is with the client: all that is left is to break off.
            self.ends.reset = true;
            return;
        }
        let responding = std::mem::replace(&mut self.ends.responding, true);
        let Some(stream) = self.stream() else { return };
        let is_grpc = stream
            .request
            .headers
            .first(b"content-type")
            .is_some_and(|value| value.starts_with(b"application/grpc"));
        stream.local_reply = None;
        stream.notes.code = Some(if is_grpc { 200 } else { reply.status });
        stream.response.headers.0 =
            if is_grpc { wire::grpc_reply_headers(&reply) } else { wire::reply_headers(&reply) };
        stream.response.trailers.0.clear();
        for stage in &mut stream.stages {
            // As on Envoy: a filter that held the request headers still sees them.
            let headers_visible = stage.request.headers_visible;
            stage.request = Lane { headers_visible, ..Lane::default() };
            stage.response = Lane::default();
        }
        // Envoy takes 400 for a sign that the connection cannot be trusted any more.
        self.ends.closes |= !self.ends.request_sent || reply.status == 400;
        self.ends.request_whole = false;
        let to = if responding { usize::MAX } else { last };
        let end = reply.body.is_empty() || is_grpc || self.is_head();
        self.arrive(Direction::Response, to, Piece::Headers { end });
        if !end {
            let piece = Piece::Data { bytes: reply.body, end: true };
            self.arrive(Direction::Response, to, piece);
        }
    }

    /// Logs the stream at every filter, also at one that it never came to, then ends its contexts.
    fn finish(&mut self) -> Outcome {
        let now = self.run.world.clock.passed();
        if let Some(stream) = self.stream() {
            stream.notes.ended = Some(now);
        }
        // A trap is in the transcript; the stream ends all the same.
        for at in 0..self.filters {
            if self.make_context(at).is_ok() {
                self.set_logging(at, true);
                let _trapped = self.call(at, |context| Callback::Log { context });
                self.set_logging(at, false);
            }
        }
        for at in 0..self.filters {
            let _trapped = self
                .call(at, |context| Callback::Done { context })
                .and_then(|_| self.call(at, |context| Callback::Delete { context }));
            let context =
                self.stage(at).and_then(|stage| Some((stage.link?, stage.context.take()?)));
            if let Some((link, context)) = context
                && let Some(vm) = self.run.world.vm_mut(link.vm)
            {
                vm.contexts.remove(&context);
            }
        }
        let is_kept = self.ends.response_whole && !self.ends.closes && !self.ends.reset;
        let kept = self.stream().map(|stream| stream.state.of_connection());
        if let Some(connection) = self.run.kept_by_connections.get_mut(self.worker) {
            *connection = kept.filter(|_| is_kept).unwrap_or_default();
        }
        match self.ends.client.take() {
            Some(response) if self.ends.response_whole => Outcome::Response(response),
            _ if self.ends.reset => Outcome::Reset,
            _ => Outcome::Unanswered,
        }
    }

    pub(super) fn is_head(&self) -> bool {
        let stream = self.run.world.streams.get(&self.id);
        stream.is_some_and(|stream| stream.request.headers.first(b":method") == Some(b"HEAD"))
    }

    fn set_logging(&mut self, at: usize, logging: bool) {
        if let Some(stage) = self.stage(at) {
            stage.logging = logging;
        }
    }

    pub(super) fn is_over(&self, direction: Direction) -> bool {
        let replying = direction == Direction::Request && self.is_responding_locally();
        self.ends.response_whole || self.ends.reset || replying
    }

    /// The proxy itself answers: what is left of the request goes nowhere.
    fn is_responding_locally(&self) -> bool {
        !self.ends.request_whole && self.ends.responding
    }

    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        self.run.world.streams.get_mut(&self.id)
    }

    pub(super) fn stage(&mut self, at: usize) -> Option<&mut Stage> {
        self.stream()?.stages.get_mut(at)
    }

    /// Where a response enters the chain.
    fn last(&self) -> usize {
        self.filters.saturating_sub(1)
    }
}
