//! What a stream asks of a guest, phase by phase, and what the answer means for the stream.

use tollgate_abi::{BodyAction, Callback, HeadersAction, TrailersAction};

use super::chain::Carrier;
use crate::world::{Direction, Hold, LocalReply};

/// The guest trapped, now or before.
pub(super) struct VmFailed;

/// What a callback makes of a piece.
pub(super) enum Verdict {
    Pass,
    Hold(Hold),
    /// The headers are held, and what follows them is delivered.
    HoldHeadersAlone,
    /// Body bytes are held.
    HoldBody(Keep),
    /// A local reply or a trap took the stream over.
    Gone,
}

/// What becomes of body bytes that are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// The next callback sees them too, and there is a limit.
    Seen,
    /// They go on later, but no callback sees them again.
    Unseen,
    /// They are gone.
    Nothing,
}

impl Carrier<'_> {
    /// Whether a body callback asked to go on. Its request is taken back: it was for what was held before
    /// the callback, and what is held by it is decided by what it returns.
    pub(super) fn take_early_resume(&mut self, direction: Direction, at: usize) -> bool {
        let Some(stage) = self.stage(at) else { return false };
        let lane = stage.lane_mut(direction);
        let resumed = std::mem::take(&mut lane.resumed_too_early);
        lane.resume_asked &= !resumed;
        resumed
    }

    /// The guest asked to go on in a headers callback, and went on by returning from it.
    pub(super) fn notice_double_continue(&mut self, direction: Direction, at: usize) {
        let Some(stage) = self.stage(at) else { return };
        let lane = stage.lane_mut(direction);
        if std::mem::take(&mut lane.resumed_too_early) {
            lane.resume_asked = false;
            self.run.world.harm.get_or_insert_with(|| {
                "the guest called proxy_continue_stream in a headers callback that then continued: \
                 on Envoy 1.40 the rest of the chain runs twice"
                    .into()
            });
        }
    }

    pub(super) fn on_headers(&mut self, direction: Direction, at: usize, end: bool) -> Verdict {
        if !self.has_context(direction, at) {
            return Verdict::Pass;
        }
        let Some(stream) = self.stream() else {
            return Verdict::Gone;
        };
        let count = stream.message(direction).headers.0.len();
        let mut alone = false;
        if let Some(stage) = stream.stages.get_mut(at) {
            stage.lane_mut(direction).headers_visible = true;
            alone = stage.stops_headers_alone;
        }
        let returned = self.call(at, |context| match direction {
            Direction::Request => Callback::RequestHeaders { context, count, end_of_stream: end },
            Direction::Response => Callback::ResponseHeaders { context, count, end_of_stream: end },
        });
        let stop = HeadersAction::StopAllIterationAndWatermark;
        self.judge(returned, stop.into(), |word| match HeadersAction::from(word) {
            HeadersAction::Continue | HeadersAction::ContinueAndEndStream => Verdict::Pass,
            HeadersAction::StopIteration if alone => Verdict::HoldHeadersAlone,
            HeadersAction::StopAllIterationAndBuffer => Verdict::Hold(Hold::HeadersWithLimit),
            HeadersAction::StopIteration
            | HeadersAction::StopAllIterationAndWatermark
            | HeadersAction::Unknown(_) => Verdict::Hold(Hold::Headers),
        })
    }

    pub(super) fn on_body(&mut self, direction: Direction, at: usize, end: bool) -> Verdict {
        let Some(stage) = self.stage(at) else {
            return Verdict::Gone;
        };
        if !stage.created {
            return Verdict::Pass;
        }
        let size = stage.lane(direction).body.as_ref().map_or(0, Vec::len);
        let returned = self.call(at, |context| match direction {
            Direction::Request => Callback::RequestBody { context, size, end_of_stream: end },
            Direction::Response => Callback::ResponseBody { context, size, end_of_stream: end },
        });
        let stop = BodyAction::StopIterationNoBuffer;
        self.judge(returned, stop.into(), |word| match BodyAction::from(word) {
            BodyAction::Continue => Verdict::Pass,
            BodyAction::StopIterationAndBuffer => Verdict::HoldBody(Keep::Seen),
            BodyAction::StopIterationAndWatermark => Verdict::HoldBody(Keep::Unseen),
            BodyAction::StopIterationNoBuffer | BodyAction::Unknown(_) => {
                Verdict::HoldBody(Keep::Nothing)
            }
        })
    }

    pub(super) fn on_trailers(&mut self, direction: Direction, at: usize) -> Verdict {
        let Some(stream) = self.stream() else {
            return Verdict::Gone;
        };
        let count = stream.message(direction).trailers.0.len();
        let Some(stage) = stream.stages.get_mut(at) else {
            return Verdict::Gone;
        };
        if !stage.created {
            return Verdict::Pass;
        }
        stage.lane_mut(direction).trailers_visible = true;
        let returned = self.call(at, |context| match direction {
            Direction::Request => Callback::RequestTrailers { context, count },
            Direction::Response => Callback::ResponseTrailers { context, count },
        });
        let stop = TrailersAction::StopIteration;
        self.judge(returned, stop.into(), |word| match TrailersAction::from(word) {
            TrailersAction::Continue => Verdict::Pass,
            TrailersAction::StopIteration | TrailersAction::Unknown(_) => {
                Verdict::Hold(Hold::Trailers)
            }
        })
    }

    /// Runs a callback of the stream's context; a callback that the guest does not export continues. As on
    /// Envoy, a stream fails once by a guest that has trapped, whichever trapped it, and what the proxy answers
    /// then passes.
    pub(super) fn call(
        &mut self,
        at: usize,
        callback: impl FnOnce(u32) -> Callback,
    ) -> Result<u32, VmFailed> {
        self.run.world.has_answered = false;
        let created = self.stage(at).filter(|stage| stage.created);
        let Some((link, context)) = created.and_then(|stage| Some((stage.link?, stage.context?)))
        else {
            return Ok(0);
        };
        let is_gone = self.run.world.vm(link.vm).is_none_or(|vm| vm.failed);
        if !is_gone && let Ok(word) = self.run.try_call(link.vm, callback(context)) {
            return Ok(word.unwrap_or(0));
        }
        if self.note_failed(at) { Err(VmFailed) } else { Ok(0) }
    }

    /// Whether a stage fails now, and has not before.
    fn note_failed(&mut self, at: usize) -> bool {
        self.stage(at).is_some_and(|stage| !std::mem::replace(&mut stage.has_failed, true))
    }

    /// What a callback makes of the stream. One that has answered another stream, or nobody, stops this one
    /// all the same, as on Envoy.
    fn judge(
        &mut self,
        returned: Result<u32, VmFailed>,
        stop: u32,
        read: impl FnOnce(u32) -> Verdict,
    ) -> Verdict {
        let returned = returned.map(|word| if self.run.world.has_answered { stop } else { word });
        let reply = match returned {
            Err(_) => Some(failed_closed()),
            Ok(_) => self.stream().and_then(|stream| stream.local_reply.take()),
        };
        if self.stream().is_some_and(|stream| stream.close_asked) {
            self.ends.reset = true;
            return Verdict::Gone;
        }
        match (reply, returned) {
            (Some(reply), _) => {
                self.reply(reply);
                Verdict::Gone
            }
            (None, Ok(word)) => read(word),
            (None, Err(_)) => Verdict::Gone,
        }
    }

    /// Whether the filter has a context for the stream. One is made on the way to the upstream; on the
    /// way back there is none when the request never came to the filter.
    fn has_context(&mut self, direction: Direction, at: usize) -> bool {
        match direction {
            Direction::Response => self.stage(at).is_some_and(|stage| stage.created),
            Direction::Request => {
                let made = self.make_context(at);
                if made.is_err() && self.note_failed(at) {
                    self.reply(failed_closed());
                }
                made.is_ok()
            }
        }
    }

    /// Tells the guest of the stream's context at a filter, unless it knows.
    pub(super) fn make_context(&mut self, at: usize) -> Result<(), VmFailed> {
        let stage = self.stage(at).ok_or(VmFailed)?;
        let created = std::mem::replace(&mut stage.created, true);
        let (link, context) = stage.link.zip(stage.context).ok_or(VmFailed)?;
        if self.run.world.vm(link.vm).is_none_or(|vm| vm.failed) {
            return Err(VmFailed);
        }
        if created {
            return Ok(());
        }
        let create = Callback::ContextCreate { context, parent: link.root };
        self.run.try_call(link.vm, create).map(|_| ()).map_err(|_| VmFailed)
    }
}

/// What the client gets from a filter that trapped, with `failure_policy: FAIL_CLOSED`.
fn failed_closed() -> LocalReply {
    LocalReply::of_proxy(503, "wasm_fail_stream", "")
}
