//! The ends of the chain: the upstream that a request comes to, and the client that gets the response.

use super::chain::Carrier;
use super::wire::{self, Body};
use crate::proxy::{Received, Response};
use crate::world::{Direction, LocalReply, Piece, flags};

/// The ends of the chain.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub(super) struct Ends {
    pub(super) upstream: Option<Received>,
    /// The upstream has the whole request and may answer.
    pub(super) request_whole: bool,
    /// The upstream had the whole request, whatever came after.
    pub(super) upstream_has_all: bool,
    /// A response is on its way to the client.
    pub(super) responding: bool,
    pub(super) client: Option<Response>,
    /// The client has the whole response.
    pub(super) response_whole: bool,
    pub(super) reset: bool,
    /// The client has sent the whole request.
    pub(super) request_sent: bool,
    /// The proxy answers, and closes the connection.
    pub(super) closes: bool,
}

impl Carrier<'_> {
    pub(super) fn at_upstream(&mut self, piece: Piece) {
        let Some(stream) = self.run.world.streams.get(&self.id) else { return };
        let headers = &stream.request.headers;
        if let (Piece::Headers { .. }, Some((status, body))) = (&piece, wire::unsendable(headers)) {
            return self.refuse_to_send(status, body);
        }
        let received = &mut self.ends.upstream;
        self.ends.request_whole = match (piece, received) {
            (Piece::Headers { end }, received) => {
                *received = Some(wire::received(headers, end));
                end
            }
            (Piece::Data { bytes, end }, Some(received)) => {
                take_body(&mut received.body, &bytes, wire::announced_length(headers)) && end
            }
            // A message with its length in a header has no place for trailers.
            (Piece::Trailers, Some(received)) => {
                let announced = wire::announced_length(headers);
                if announced.is_none() {
                    received.trailers.clone_from(&stream.request.trailers.0);
                }
                announced.is_none_or(|announced| received.body.len() == announced)
            }
            (Piece::Data { .. } | Piece::Trailers, None) => return,
        };
        self.ends.upstream_has_all |= self.ends.request_whole;
        self.note_routed();
    }

    /// The router does not send on what a filter made of the request.
    fn refuse_to_send(&mut self, status: u32, body: String) {
        let details = if status == 404 {
            if let Some(stream) = self.stream() {
                stream.notes.is_unroutable = true;
                stream.notes.flags |= flags::NO_ROUTE_FOUND;
            }
            "route_not_found".into()
        } else {
            // As on Envoy: it has chosen an endpoint by then, and notices when it writes the headers.
            self.note_routed();
            self.note_connected();
            if let Some(stream) = self.stream() {
                stream.notes.flags |= flags::DOWNSTREAM_PROTOCOL_ERROR;
            }
            format!("filter_removed_required_request_headers{{{}}}", body.replace(' ', "_"))
        };
        self.reply(LocalReply::of_proxy(status, details, body));
    }

    /// The router has the request, and perhaps a connection for it from before.
    fn note_routed(&mut self) {
        let is_connected = self.run.connected.get(self.worker).is_some_and(|&is| is);
        let now = self.run.world.clock.passed();
        if let Some(stream) = self.stream() {
            stream.notes.is_routed = true;
            if is_connected {
                stream.notes.connected.get_or_insert(now);
            }
        }
    }

    /// The upstream begins to answer, or breaks the connection: there is one in any case.
    pub(super) fn note_connected(&mut self) {
        let now = self.run.world.clock.passed();
        if let Some(stream) = self.stream() {
            stream.notes.connected.get_or_insert(now);
        }
    }

    pub(super) fn at_client(&mut self, piece: Piece) {
        let now = self.run.world.clock.wall();
        let close = self.ends.closes;
        let is_head = self.is_head();
        let Some(stream) = self.run.world.streams.get_mut(&self.id) else { return };
        let headers = &mut stream.response.headers;
        if let Piece::Headers { .. } = &piece
            && headers.first(b":status").is_none_or(|status| !is_status(status))
        {
            let body = "missing required header: :status";
            let details =
                "filter_removed_required_response_headers{missing_required_header:_:status}";
            return self.reply(LocalReply::of_proxy(502, details, body));
        }
        let response = &mut self.ends.client;
        self.ends.response_whole = match (piece, response) {
            (Piece::Headers { end }, response) => {
                let body = match (is_head, end) {
                    (true, _) => Body::Omitted,
                    (false, true) => Body::Absent,
                    (false, false) => Body::Follows,
                };
                *response = Some(wire::response(headers, now, body, close));
                end
            }
            (Piece::Data { bytes, end }, Some(response)) => {
                stream.notes.sent = stream.notes.sent.saturating_add(bytes.len());
                take_body(&mut response.body, &bytes, wire::announced_length(headers)) && end
            }
            (Piece::Trailers, Some(response)) => {
                let announced = wire::announced_length(headers);
                if announced.is_none() {
                    response.trailers.clone_from(&stream.response.trailers.0);
                }
                announced.is_none_or(|announced| response.body.len() == announced)
            }
            (Piece::Data { .. } | Piece::Trailers, None) => return,
        };
    }

    /// What the upstream got. Of a request that did not come whole it got a part only if the worker had a
    /// connection to it already, which is then of no use any more.
    pub(super) fn upstream_saw(&mut self, resets: bool) -> Option<Received> {
        let received = self.ends.upstream.take()?;
        let is_connected = self.run.connected.get_mut(self.worker)?;
        let was_connected = std::mem::replace(is_connected, true);
        let has_all = self.ends.upstream_has_all;
        if resets || (was_connected && !has_all) {
            *is_connected = false;
        }
        (was_connected || has_all).then_some(received)
    }

    /// By the time a client sends its next chunk, the worker has a connection for what went before, unless
    /// it was answered already.
    pub(super) fn let_connect(&mut self) {
        if self.ends.upstream.is_some()
            && !self.is_over(Direction::Request)
            && let Some(connected) = self.run.connected.get_mut(self.worker)
        {
            *connected = true;
            self.note_connected();
        }
    }
}

/// Takes in a part of a body, as much of it as was announced; whether that much has come. What a filter
/// makes longer than announced is not read, and of what it makes shorter the rest is waited for.
fn take_body(body: &mut Vec<u8>, bytes: &[u8], announced: Option<usize>) -> bool {
    body.extend_from_slice(bytes);
    match announced {
        Some(announced) => {
            body.truncate(announced);
            body.len() == announced
        }
        None => true,
    }
}

fn is_status(text: &[u8]) -> bool {
    matches!(text, [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'])
}
