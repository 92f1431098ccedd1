//! What a filter holds back of a stream, and how it is let go.

use super::chain::Carrier;
use super::phases::{Keep, Verdict};
use crate::world::{Direction, Hold, Lane, LocalReply, Piece};

/// What a filter did that holds a stream for ever.
fn why_held(direction: Direction, hold: Hold) -> Option<String> {
    let message = match direction {
        Direction::Request => "request",
        Direction::Response => "response",
    };
    let part = match hold {
        Hold::Nothing => return None,
        Hold::Headers | Hold::HeadersWithLimit => "headers",
        Hold::Body => "body",
        Hold::Trailers => "trailers",
        Hold::Stuck => {
            return Some(format!(
                "let the {message} go in the very callback that holds its headers: what follows \
                 them never leaves"
            ));
        }
    };
    Some(format!(
        "holds the {message} since proxy_on_{message}_{part}, and neither lets it go nor answers"
    ))
}

impl Carrier<'_> {
    pub(super) fn deliver(&mut self, direction: Direction, at: usize, piece: Piece) {
        match piece {
            Piece::Headers { end } => match self.on_headers(direction, at, end) {
                Verdict::Pass => {
                    self.notice_double_continue(direction, at);
                    self.pass(direction, at, Piece::Headers { end });
                }
                Verdict::Hold(hold) => self.hold(direction, at, hold, end),
                Verdict::HoldHeadersAlone | Verdict::HoldBody(_) => {
                    if let Some(stage) = self.stage(at) {
                        stage.lane_mut(direction).headers_held = true;
                    }
                    self.hold(direction, at, Hold::Body, end);
                }
                Verdict::Gone => {}
            },
            Piece::Data { bytes, end } => self.deliver_data(direction, at, &bytes, end),
            Piece::Trailers => match self.on_trailers(direction, at) {
                Verdict::Pass => {
                    self.release_headers(direction, at, false);
                    self.release_body(direction, at, false);
                    self.pass(direction, at, Piece::Trailers);
                }
                Verdict::Hold(hold) => self.hold(direction, at, hold, false),
                Verdict::HoldHeadersAlone | Verdict::HoldBody(_) | Verdict::Gone => {}
            },
        }
    }

    fn deliver_data(&mut self, direction: Direction, at: usize, bytes: &[u8], end: bool) {
        let limit = self.run.world.buffer_limit;
        let Some(stage) = self.stage(at) else { return };
        let lane = stage.lane_mut(direction);
        lane.body_came = true;
        let (was_held, was_seen) = (lane.hold == Hold::Body, lane.body.is_some());
        // What is held to be seen again and what has come are one buffer to the guest.
        let body = lane.body.get_or_insert_default();
        body.extend_from_slice(bytes);
        let is_too_large = was_seen && body.len() > limit;
        // As on Envoy: the guest sees what is too much of a request, and nothing more of a response.
        if is_too_large && direction == Direction::Response {
            return self.too_large(direction);
        }
        let verdict = self.on_body(direction, at, end);
        if is_too_large && !matches!(verdict, Verdict::Gone) {
            return self.too_large(direction);
        }
        if self.take_early_resume(direction, at) && was_held && !matches!(verdict, Verdict::Gone) {
            self.release_headers(direction, at, false);
            if was_seen {
                self.release_body(direction, at, end);
                if end {
                    return;
                }
            } else {
                self.release_unseen(direction, at);
            }
        }
        match verdict {
            Verdict::Pass => {
                self.release_headers(direction, at, false);
                self.release_body(direction, at, end);
            }
            Verdict::HoldBody(keep) => {
                self.keep_body(direction, at, keep, end);
                self.send_trailers_alone(direction, at);
            }
            Verdict::Hold(_) | Verdict::HoldHeadersAlone | Verdict::Gone => {}
        }
    }

    /// Holds the body that the guest has just seen.
    fn keep_body(&mut self, direction: Direction, at: usize, keep: Keep, end: bool) {
        self.hold(direction, at, Hold::Body, end);
        let limit = self.run.world.buffer_limit;
        let Some(stage) = self.stage(at) else { return };
        let lane = stage.lane_mut(direction);
        let body = lane.body.take().unwrap_or_default();
        match keep {
            Keep::Seen => {
                let mut whole = std::mem::take(&mut lane.held);
                whole.extend_from_slice(&body);
                let is_too_large = whole.len() > limit;
                lane.body = Some(whole);
                if is_too_large {
                    self.too_large(direction);
                }
            }
            Keep::Unseen => lane.held.extend_from_slice(&body),
            Keep::Nothing => {}
        }
    }

    /// As on Envoy: trailers that a guest makes of a request go on at once, although the body before them
    /// is held.
    fn send_trailers_alone(&mut self, direction: Direction, at: usize) {
        let Some(stage) = self.stage(at) else { return };
        let lane = stage.lane_mut(direction);
        if direction == Direction::Request && std::mem::take(&mut lane.trailers_made) {
            let (hold, end) = (lane.hold, lane.end_held);
            self.send(direction, at, Piece::Trailers);
            self.hold(direction, at, hold, end);
        }
    }

    /// More of a body is held than the buffer may have.
    pub(super) fn too_large(&mut self, direction: Direction) {
        let (status, details, body) = match direction {
            Direction::Request => (413, "request_payload_too_large", "Payload Too Large"),
            Direction::Response => (500, "response_payload_too_large", "Internal Server Error"),
        };
        self.reply(LocalReply::of_proxy(status, details, body));
    }

    fn hold(&mut self, direction: Direction, at: usize, hold: Hold, end: bool) {
        if let Some(stage) = self.stage(at) {
            let lane = stage.lane_mut(direction);
            lane.hold = hold;
            lane.end_held = end;
        }
    }

    fn pass(&mut self, direction: Direction, at: usize, piece: Piece) {
        if let Some(stage) = self.stage(at) {
            let lane = stage.lane_mut(direction);
            match piece {
                Piece::Headers { .. } => lane.headers_visible = false,
                Piece::Trailers => lane.trailers_visible = false,
                Piece::Data { .. } => {}
            }
        }
        self.send(direction, at, piece);
    }

    /// Sends a piece on; what the guest sees stays as it is.
    fn send(&mut self, direction: Direction, at: usize, piece: Piece) {
        if let Some(stage) = self.stage(at) {
            stage.lane_mut(direction).hold = Hold::Nothing;
        }
        let next = match direction {
            Direction::Request => at.saturating_add(1),
            // Below the first stage there is none, which `arrive` takes for the client.
            Direction::Response => at.checked_sub(1).unwrap_or(usize::MAX),
        };
        self.arrive(direction, next, piece);
    }

    /// Sends headers on that are held alone. As on Envoy the guest still sees them, unless it asked to go
    /// on.
    fn release_headers(&mut self, direction: Direction, at: usize, end: bool) {
        let is_held = |lane: &mut Lane| std::mem::take(&mut lane.headers_held);
        if self.stage(at).is_some_and(|stage| is_held(stage.lane_mut(direction))) {
            self.send(direction, at, Piece::Headers { end });
        }
    }

    /// Sends all bytes on that are held, and the trailers that the guest has made.
    fn release_body(&mut self, direction: Direction, at: usize, end: bool) {
        let Some(stage) = self.stage(at) else { return };
        let lane = stage.lane_mut(direction);
        let mut bytes = std::mem::take(&mut lane.held);
        // As on Envoy: of a request, also a buffer that is empty goes on.
        let has_buffer = direction == Direction::Request && lane.body.is_some();
        bytes.extend(lane.body.take().unwrap_or_default());
        let trailers = end && std::mem::take(&mut lane.trailers_made);
        if end || has_buffer || !bytes.is_empty() {
            self.send(direction, at, Piece::Data { bytes, end: end && !trailers });
        }
        if trailers {
            self.send(direction, at, Piece::Trailers);
        }
    }

    /// Sends the bytes on that are held and that the guest does not see.
    fn release_unseen(&mut self, direction: Direction, at: usize) {
        let Some(stage) = self.stage(at) else { return };
        let bytes = std::mem::take(&mut stage.lane_mut(direction).held);
        if !bytes.is_empty() {
            self.send(direction, at, Piece::Data { bytes, end: false });
        }
    }

    /// Carries out what guests asked for while they ran, in this stream's stages.
    pub(super) fn resume_asked(&mut self) {
        self.take_over();
        for at in 0..self.filters {
            for direction in [Direction::Request, Direction::Response] {
                let Some(stage) = self.stage(at) else {
                    continue;
                };
                let lane = stage.lane_mut(direction);
                if !std::mem::take(&mut lane.resume_asked) {
                    continue;
                }
                let (hold, end) = (std::mem::take(&mut lane.hold), lane.end_held);
                let is_stuck = std::mem::take(&mut lane.resumed_too_early) && !end;
                match hold {
                    Hold::Nothing | Hold::Stuck => continue,
                    Hold::Headers | Hold::HeadersWithLimit if is_stuck => {
                        // As on Envoy: headers that are held and let go in one callback leave, and what
                        // follows them never does.
                        self.send(direction, at, Piece::Headers { end });
                        self.hold(direction, at, Hold::Stuck, end);
                    }
                    Hold::Headers | Hold::HeadersWithLimit => {
                        self.send(direction, at, Piece::Headers { end });
                        for piece in self.take_from_before(direction, at) {
                            if let Some(stage) = self.stage(at) {
                                stage.lane_mut(direction).waiting.push_back(piece);
                            }
                        }
                        self.coalesce(direction, at);
                    }
                    Hold::Body => {
                        let ends_with_headers = end && lane.headers_held && !lane.body_came;
                        self.release_headers(direction, at, ends_with_headers);
                        if !ends_with_headers {
                            self.release_body(direction, at, end);
                        }
                        for piece in self.take_from_before(direction, at) {
                            self.send(direction, at, piece);
                        }
                    }
                    Hold::Trailers => {
                        self.release_headers(direction, at, false);
                        self.release_body(direction, at, false);
                        self.send(direction, at, Piece::Trailers);
                    }
                }
                self.drain(direction, at);
            }
        }
    }

    /// Takes what the filters before one still hold of a body and its trailers. As on Envoy: all filters
    /// share one buffer, and who lets go something that it holds lets go all of it.
    fn take_from_before(&mut self, direction: Direction, at: usize) -> Vec<Piece> {
        let before: Vec<usize> = match direction {
            Direction::Request => (0..at).rev().collect(),
            Direction::Response => (at.saturating_add(1)..self.filters).collect(),
        };
        let mut pieces = Vec::new();
        for at in before {
            let Some(stage) = self.stage(at) else { continue };
            let lane = stage.lane_mut(direction);
            if !matches!(lane.hold, Hold::Body | Hold::Trailers) || lane.headers_held {
                continue;
            }
            let mut bytes = std::mem::take(&mut lane.held);
            if let Some(body) = &mut lane.body {
                bytes.append(body);
            }
            let end = std::mem::take(&mut lane.end_held);
            if end || !bytes.is_empty() {
                pieces.push(Piece::Data { bytes, end });
            }
            let has_trailers = lane.hold == Hold::Trailers;
            if has_trailers {
                pieces.push(Piece::Trailers);
            }
            if end || has_trailers {
                lane.hold = Hold::Nothing;
            }
        }
        pieces
    }

    /// Notes which filters hold a stream that is not over, and since when.
    pub(super) fn note_held(&mut self) {
        for at in 0..self.filters {
            for direction in [Direction::Request, Direction::Response] {
                let Some(stage) = self.stage(at) else { continue };
                let (link, context) = (stage.link, stage.context.unwrap_or_default());
                let hold = stage.lane(direction).hold;
                let guest = link.map(|link| self.run.world.guest_name(link.vm, context));
                let (Some(guest), Some(why)) = (guest, why_held(direction, hold)) else { continue };
                let held = format!("{guest} {why}");
                if self.ends.is_endless {
                    self.run.world.note_endless(held);
                } else {
                    self.run.world.note_held(held);
                }
            }
        }
    }

    /// Makes one piece of the body that came while the headers were held.
    fn coalesce(&mut self, direction: Direction, at: usize) {
        let Some(stage) = self.stage(at) else { return };
        let waiting = &mut stage.lane_mut(direction).waiting;
        let mut whole: Option<(Vec<u8>, bool)> = None;
        while let Some(Piece::Data { .. }) = waiting.front() {
            if let Some(Piece::Data { bytes, end }) = waiting.pop_front() {
                let (body, ended) = whole.get_or_insert_default();
                body.extend_from_slice(&bytes);
                *ended |= end;
            }
        }
        if let Some((bytes, end)) = whole {
            waiting.push_front(Piece::Data { bytes, end });
        }
    }
}
