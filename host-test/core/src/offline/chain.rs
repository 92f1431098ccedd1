//! A stream on its way: through the chain to the upstream, and back to the client.
//!
//! The order of callbacks and what a held message does follow Envoy 1.40 with HTTP/1.1 on both sides:
//! the end of a body comes as a callback of its own without bytes.

use std::time::Duration;

use tollgate_abi::Callback;

use super::Run;
use super::ends::Ends;
use super::streams::Event;
use super::wire;
use crate::limits::Bounded;
use crate::proxy::HostFailure;
use crate::world::{Direction, Hold, Lane, Link, LocalReply, Piece, Stage, Stream, StreamId};

impl Run {
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
            let first = self.world.chance.one_of(self.world.queues.ready.len());
            let Some((owner, queue)) = self.world.queues.ready.remove(first) else { break };
            if delivered == self.world.limits.messages_at_once {
                let beyond = self.world.limits.exceeded(Bounded::messages_at_once);
                let what = format!(
                    "queue {queue} fills itself: {delivered} messages at one instant, {beyond}"
                );
                return Err(HostFailure::Harm { what });
            }
            self.refuse_endless()?;
            let Link { vm, root } = owner;
            // Nobody hears that the owner has ended.
            if self.world.vm(vm).is_none_or(|vm| !vm.contexts.contains_key(&root)) {
                continue;
            }
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
    /// Part of the body has come. What comes once the proxy answers is not looked at.
    pub(super) fn note_received(&mut self, bytes: usize) {
        if !self.is_over(Direction::Request)
            && let Some(stream) = self.stream()
        {
            stream.notes.received = stream.notes.received.saturating_add(bytes);
        }
    }

    /// The proxy answers before any filter: they learn of the request when it is logged.
    pub(super) fn refuse_unseen(&mut self, reply: LocalReply) {
        self.ends.closes = true;
        self.ends.responding = true;
        if let Some(stream) = self.stream() {
            stream.response.headers.0 = wire::reply_headers(&reply);
            stream.notes.code = Some(reply.status);
            stream.notes.explain(&reply.details);
        }
        let end = reply.body.is_empty();
        self.arrive(Direction::Response, usize::MAX, Piece::Headers { end });
        if !end {
            let piece = Piece::Data { bytes: reply.body, end: true };
            self.arrive(Direction::Response, usize::MAX, piece);
        }
    }

    /// The last byte of the upstream has come.
    pub(super) fn note_answered(&mut self) {
        self.ends.is_answered = true;
        let now = self.run.world.clock.passed();
        if let Some(stream) = self.stream() {
            stream.notes.answered = Some(now);
        }
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
                let lane = stage.lane_mut(direction);
                // Most often nothing waits before it.
                if lane.waiting.is_empty() && matches!(lane.hold, Hold::Nothing | Hold::Body) {
                    self.deliver(direction, at, piece);
                    self.resume_asked();
                } else {
                    lane.waiting.push_back(piece);
                }
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
        if self.ends.response_begun {
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
        let status = reply.status;
        if !is_grpc && !(200..=999).contains(&status) {
            self.run.world.harm.get_or_insert_with(|| {
                format!(
                    "the guest answers with the status {status}, not 200 to 999: what Envoy 1.40 sends \
                     then is no response of HTTP"
                )
            });
        }
        let Some(stream) = self.stream() else { return };
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
        self.give_up();
        let to = if responding { usize::MAX } else { last };
        let end = reply.body.is_empty() || is_grpc || self.is_head();
        self.arrive(Direction::Response, to, Piece::Headers { end });
        if !end {
            let piece = Piece::Data { bytes: reply.body, end: true };
            self.arrive(Direction::Response, to, piece);
        }
    }

    /// Logs the stream at every filter, also at one that it never came to, then ends its contexts.
    pub(super) fn finish(&mut self) {
        if !self.ends.response_whole && !self.ends.reset {
            self.note_held();
        }
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
        self.give_up();
    }

    /// Wants nothing more of the upstream, if that was not done.
    fn give_up(&mut self) {
        let was_done = std::mem::replace(&mut self.ends.upstream_is_done, true);
        if !was_done && self.ends.request_begun && !self.ends.is_answered {
            self.emit(Event::GivesUp);
        }
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.run.events.push_back((self.id, event));
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
        self.run.world.streams.get_mut(&self.id).map(Box::as_mut)
    }

    pub(super) fn stage(&mut self, at: usize) -> Option<&mut Stage> {
        self.stream()?.stages.get_mut(at)
    }

    /// Where a response enters the chain.
    pub(super) fn last(&self) -> usize {
        self.filters.saturating_sub(1)
    }
}
