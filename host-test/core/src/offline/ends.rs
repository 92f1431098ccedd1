//! The ends of the chain: the upstream that a request comes to, and the client that gets the response.

use super::chain::Carrier;
use super::streams::{Event, Part, Sent, Way};
use super::wire::{self, Body};
use crate::proxy::Received;
use crate::scenario::HeaderLine;
use crate::world::{Direction, LocalReply, Piece, flags};

/// The ends of the chain.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub(super) struct Ends {
    pub(super) way: Way,
    /// Some of the request has gone to the upstream.
    pub(super) request_begun: bool,
    /// How many bytes of the body have.
    request_bytes: usize,
    /// The upstream has the whole request and may answer.
    pub(super) request_whole: bool,
    /// The upstream had the whole request, whatever came after.
    upstream_has_all: bool,
    /// The upstream has answered to the end.
    pub(super) is_answered: bool,
    /// What the upstream sends goes nowhere: it broke off, or something else is answered.
    pub(super) upstream_is_done: bool,
    /// A response is on its way to the client.
    pub(super) responding: bool,
    /// Some of the response has gone to the client.
    pub(super) response_begun: bool,
    /// How many bytes of the body have.
    response_bytes: usize,
    /// The client has the whole response.
    pub(super) response_whole: bool,
    pub(super) reset: bool,
    /// The client has closed its connection.
    pub(super) client_left: bool,
    /// It has because it waited in vain.
    pub(super) is_endless: bool,
    /// The client has sent the whole request.
    pub(super) request_sent: bool,
    /// The proxy answers, and closes the connection.
    pub(super) closes: bool,
}

impl Ends {
    pub(super) fn is_over(&self) -> bool {
        self.response_whole || self.reset || self.client_left
    }

    /// Whether what was sent of the request has come to the upstream. Of a request that did not come whole
    /// it got a part only if there was a connection.
    pub(super) fn has_arrived(&self) -> bool {
        self.request_begun && (self.way == Way::Open || self.upstream_has_all)
    }

    /// Whether there is a connection to the upstream that another stream can use.
    pub(super) fn leaves_a_connection(&self) -> bool {
        self.request_begun && (self.is_answered || !self.has_arrived())
    }
}

impl Carrier<'_> {
    pub(super) fn at_upstream(&mut self, piece: Piece) {
        let Some(stream) = self.run.world.streams.get(&self.id) else { return };
        let headers = &stream.request.headers;
        if let (Piece::Headers { .. }, Some((status, body))) = (&piece, wire::unsendable(headers)) {
            return self.refuse_to_send(status, body);
        }
        let cluster = match piece {
            Piece::Headers { .. } => match self.route() {
                Some(cluster) => Some(cluster),
                None => return self.miss_cluster(),
            },
            Piece::Data { .. } | Piece::Trailers => None,
        };
        let Some(stream) = self.run.world.streams.get(&self.id) else { return };
        let headers = &stream.request.headers;
        let announced = wire::announced_length(headers);
        match piece {
            Piece::Headers { end } => {
                let head = Received { cluster, ..wire::received(headers, end) };
                self.ends.request_begun = true;
                self.ends.request_whole = end;
                self.find_way();
                self.emit(Event::Request(Sent::Head { head, end }));
            }
            Piece::Data { .. } | Piece::Trailers if !self.ends.request_begun => return,
            piece => {
                let trailers = &stream.request.trailers.0;
                let bytes = &mut self.ends.request_bytes;
                let (parts, is_whole) = parts(piece, announced, bytes, trailers);
                self.ends.request_whole = is_whole;
                for part in parts {
                    self.emit(Event::Request(Sent::Part(part)));
                }
            }
        }
        self.ends.upstream_has_all |= self.ends.request_whole;
        self.note_routed();
    }

    /// Takes a connection to the upstream that is idle, or begins to make one.
    fn find_way(&mut self) {
        let idle = self.run.idle.get_mut(self.worker).filter(|idle| **idle > 0);
        self.ends.way = match idle {
            Some(idle) => {
                *idle = idle.saturating_sub(1);
                Way::Open
            }
            None => Way::Opening { since: self.run.world.clock.passed() },
        };
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

    /// The cluster that the request goes to, if there is one.
    fn route(&mut self) -> Option<String> {
        let world = &mut self.run.world;
        let stream = world.streams.get(&self.id)?;
        if stream.notes.route_is_forgotten {
            let chosen = world.choose_route(stream);
            let stream = world.streams.get_mut(&self.id)?;
            stream.notes.route = Some(chosen);
            stream.notes.route_is_forgotten = false;
        }
        let stream = world.streams.get(&self.id)?;
        world.cluster_of(stream).map(|(name, _)| name.to_owned())
    }

    /// The route leads to a cluster that there is not.
    fn miss_cluster(&mut self) {
        if let Some(stream) = self.stream() {
            stream.notes.flags |= flags::NO_CLUSTER_FOUND;
        }
        self.reply(LocalReply::of_proxy(503, "cluster_not_found", ""));
    }

    /// The router has the request, and perhaps a connection for it from before.
    fn note_routed(&mut self) {
        let is_idle = self.run.idle.get(self.worker).is_some_and(|&idle| idle > 0);
        let is_connected = match self.ends.way {
            Way::Open => true,
            Way::Opening { .. } => false,
            Way::Untrodden => is_idle,
        };
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
        let has_no_body = is_head || wire::has_no_body(headers);
        let announced = wire::announced_length(headers).filter(|_| !has_no_body);
        match piece {
            Piece::Headers { end } => {
                let body = match (is_head, end) {
                    (true, _) => Body::Omitted,
                    (false, true) => Body::Absent,
                    (false, false) => Body::Follows,
                };
                let head = wire::response(headers, &mut self.run.date, now, body, close);
                self.ends.response_begun = true;
                self.ends.response_whole = end;
                self.emit(Event::Response(Sent::Head { head, end }));
            }
            Piece::Data { .. } | Piece::Trailers if !self.ends.response_begun => {}
            mut piece => {
                if let Piece::Data { bytes, .. } = &mut piece {
                    stream.notes.sent = stream.notes.sent.saturating_add(bytes.len());
                    if has_no_body {
                        bytes.clear();
                    }
                }
                let trailers = &stream.response.trailers.0;
                let bytes = &mut self.ends.response_bytes;
                let (parts, is_whole) = parts(piece, announced, bytes, trailers);
                self.ends.response_whole = is_whole;
                for part in parts {
                    self.emit(Event::Response(Sent::Part(part)));
                }
            }
        }
    }

    /// Time that has passed was enough to connect to the upstream.
    pub(super) fn notice_connection(&mut self) {
        let now = self.run.world.clock.passed();
        if let Way::Opening { since } = self.ends.way
            && since < now
        {
            self.ends.way = Way::Open;
            if let Some(stream) = self.stream() {
                stream.notes.connected.get_or_insert(since);
            }
        }
    }

    /// A client that sends its next chunk has left the worker time for a connection for what went before,
    /// unless it was answered already.
    pub(super) fn let_connect(&mut self) {
        if self.ends.request_begun && !self.is_over(Direction::Request) {
            self.ends.way = Way::Open;
            self.note_connected();
        }
    }
}

/// What goes on of a piece that follows a head, and whether the message is whole with it.
///
/// Of a body, as much goes on as was announced: what a filter makes longer is not read, and of what it
/// makes shorter the rest is waited for. A message with its length in a header has no place for trailers.
fn parts(
    piece: Piece,
    announced: Option<usize>,
    so_far: &mut usize,
    trailers: &[HeaderLine],
) -> (Vec<Part>, bool) {
    let mut sent = Vec::new();
    let ends = match piece {
        Piece::Headers { end } => end,
        Piece::Data { mut bytes, end } => {
            let left = announced.map(|announced| announced.saturating_sub(*so_far));
            bytes.truncate(left.unwrap_or(usize::MAX));
            *so_far = so_far.saturating_add(bytes.len());
            if !bytes.is_empty() {
                sent.push(Part::Body(bytes));
            }
            end
        }
        Piece::Trailers => {
            if announced.is_none() {
                sent.push(Part::Trailers(trailers.to_vec()));
                return (sent, true);
            }
            true
        }
    };
    let is_whole = ends && announced.is_none_or(|announced| *so_far == announced);
    if is_whole {
        sent.push(Part::End);
    }
    (sent, is_whole)
}

fn is_status(text: &[u8]) -> bool {
    matches!(text, [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'])
}
