//! What a proxy does not allow, or what cannot be meant: each host call is held to it.

use tollgate::CallbackKind;
use tollgate_abi::{BufferType, Call, MapType, StreamType};

use crate::case::Side;
use crate::world::{World, side_of};

impl World {
    /// Holds a call to the rules, whatever becomes of it.
    pub(crate) fn check(&mut self, call: &Call) {
        let effective = self.effective();
        match call {
            Call::ReplaceHeaderMapValue { map, name, value } => {
                self.check_map(call, *map);
                let is_own = value.is_empty() || *value == effective.to_string().into_bytes();
                let is_sound = self.stream(effective).is_some_and(|stream| stream.is_sound);
                if name == b"x-own-again" && !is_own && is_sound && !self.is_faulty {
                    self.violated(&format!("{call} has the header of another stream"));
                }
            }
            Call::AddHeaderMapValue { map, .. } | Call::RemoveHeaderMapValue { map, .. } => {
                self.check_map(call, *map);
            }
            Call::GetHeaderMapPairs { map } => self.check_map(call, *map),
            Call::GetBufferBytes { buffer, .. } | Call::SetBufferBytes { buffer, .. } => {
                self.check_body(call, *buffer);
            }
            Call::ContinueStream { stream } => {
                let side = side_of(*stream);
                let (frames, kinds) = (self.stack.clone(), piece_callbacks(side));
                if frames.iter().any(|f| f.context == effective && kinds.contains(&f.kind)) {
                    self.violated(&format!("{call} in a callback that says itself what goes on"));
                }
                self.check_decision(call);
                if let Some(stream) = self.stream(effective)
                    && stream.is_sound
                    && (stream.replied
                        || stream.lane(side).held.is_none()
                        || stream.lane(side).is_dead)
                {
                    self.violated(&format!("{call} lets go what is not held"));
                }
            }
            Call::SendLocalResponse { .. } | Call::CloseStream { .. } => {
                self.check_decision(call);
                let is_reply = matches!(call, Call::SendLocalResponse { .. });
                if let Some(stream) = self.stream(effective)
                    && stream.is_sound
                    && stream.replied
                {
                    self.violated(&format!("{call} after a local reply"));
                }
                if let Some(frame) = self.stack.last_mut()
                    && frame.context == effective
                {
                    frame.has_answered = true;
                }
                self.tally.replies += usize::from(is_reply);
            }
            _ => {}
        }
    }

    /// What decides about a stream comes before its end, and once.
    fn check_decision(&mut self, call: &Call) {
        let effective = self.effective();
        let ends = [CallbackKind::Log, CallbackKind::Done, CallbackKind::Delete];
        // Of callbacks within callbacks the last counts: headers may begin a stream anew.
        let last = self.stack.iter().rfind(|frame| frame.context == effective);
        let ending = last.is_some_and(|frame| ends.contains(&frame.kind));
        let Some(stream) = self.stream(effective) else { return };
        let (is_over, is_decided) =
            (ending || stream.logged, stream.is_sound && (stream.closed || stream.is_quiet));
        // A connection may be closed again: Envoy takes it even in the callbacks of its end
        // (`host-test/conformance/cases/tcp`).
        let is_harmless = matches!(call, Call::CloseStream { stream: StreamType::Downstream });
        if is_over && !is_harmless {
            self.violated(&format!("{call} for {effective}, which is over"));
        }
        if is_decided {
            self.violated(&format!("{call} for {effective}, which is decided"));
        }
        self.check_acting(call);
    }

    /// Whoever acts, acts on the stream of its own.
    fn check_acting(&mut self, call: &Call) {
        let Some(frame) = self.stack.last().cloned() else { return };
        let running = tollgate::__private::running();
        if let Some(task) = running.filter(|_| running != frame.within)
            && task != frame.effective
        {
            self.violated(&format!("{call} of the task of {task} for {}", frame.effective));
        }
    }

    fn check_map(&mut self, call: &Call, map: MapType) {
        let side = match map {
            MapType::RequestHeaders => Side::Request,
            MapType::ResponseHeaders => Side::Response,
            _ => return,
        };
        let effective = self.effective();
        self.check_acting(call);
        let reads = matches!(call, Call::GetHeaderMapPairs { .. });
        self.tally.edits += usize::from(!reads);
        let kind = match side {
            Side::Request => CallbackKind::RequestHeaders,
            Side::Response => CallbackKind::ResponseHeaders,
        };
        let is_in = |kind: CallbackKind| {
            self.stack.iter().any(|f| f.context == effective && f.kind == kind)
        };
        let (in_headers, in_log) = (is_in(kind), is_in(CallbackKind::Log));
        let Some(stream) = self.stream(effective).filter(|stream| stream.is_sound) else { return };
        let is_decided = stream.closed || stream.replied || stream.is_quiet;
        let lane = stream.lane(side);
        let is_there = in_headers || (lane.held.is_some() && !lane.headers_left);
        if !(in_log && reads) && (!is_there || is_decided) {
            self.violated(&format!("{call} of {effective} outside of its phase"));
        }
    }

    fn check_body(&mut self, call: &Call, buffer: BufferType) {
        let side = match buffer {
            BufferType::HttpRequestBody => Side::Request,
            BufferType::HttpResponseBody => Side::Response,
            _ => return,
        };
        self.check_acting(call);
        let effective = self.effective();
        let kinds = piece_callbacks(side);
        let is_in = self.stack.iter().any(|f| f.context == effective && kinds.contains(&f.kind));
        let Some(stream) = self.stream(effective).filter(|stream| stream.is_sound) else { return };
        let is_decided = stream.closed || stream.replied || stream.is_quiet;
        if is_decided || !(is_in || stream.lane(side).held.is_some()) {
            self.violated(&format!("{call} of {effective} outside of its phase"));
        }
    }
}

/// The callbacks that return what becomes of a side.
fn piece_callbacks(side: Side) -> [CallbackKind; 3] {
    match side {
        Side::Request => {
            [CallbackKind::RequestHeaders, CallbackKind::RequestBody, CallbackKind::RequestTrailers]
        }
        Side::Response => [
            CallbackKind::ResponseHeaders,
            CallbackKind::ResponseBody,
            CallbackKind::ResponseTrailers,
        ],
    }
}
