//! Streams from outside: a request comes part by part, and what goes on is told part by part.
//!
//! Whoever has the two ends feeds them: the client and the upstream of a scenario, or sockets. Several
//! streams may be under way, each advances by what comes to it, and none waits for another. A stream that
//! is over is logged and forgotten by itself.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Run;
use super::chain::Carrier;
use super::ends::Ends;
use super::wire;
use crate::proxy::{HostFailure, Received, Response};
use crate::recording::{bytes, lines};
use crate::scenario::HeaderLine;
use crate::tls::{self, Secured};
pub use crate::world::StreamId;
use crate::world::{
    Context, Direction, FilterState, LocalReply, Notes, Piece, Stage, Stream, flags,
};

/// The head of a request as a client sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Host.
    pub authority: String,
    /// Header lines in order, names in lower case, without pseudo-headers.
    #[serde(with = "lines")]
    pub headers: Vec<HeaderLine>,
}

/// What follows a head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Bytes of the body.
    Body(#[serde(with = "bytes")] Vec<u8>),
    /// Bytes of the body, and the end of a message without trailers. A proxy sends them apart.
    Last(#[serde(with = "bytes")] Vec<u8>),
    /// Trailer lines, which end the message.
    Trailers(#[serde(with = "lines")] Vec<HeaderLine>),
    /// The end of a message without trailers.
    End,
}

/// A message that the proxy sends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent<H> {
    /// Its head, without what follows.
    Head {
        /// The head.
        head: H,
        /// Nothing follows.
        end: bool,
    },
    /// What follows.
    Part(Part),
}

/// What the proxy does with a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It sends on the request, to the upstream.
    Request(Sent<Received>),
    /// It wants nothing more of the upstream.
    GivesUp,
    /// It sends on the response, to the client.
    Response(Sent<Response>),
    /// The stream is over and forgotten.
    Over(Over),
}

/// How a stream was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over {
    /// The proxy broke the client's connection.
    pub is_reset: bool,
    /// What was sent on of the request has come to the upstream: there was a connection for it, or there
    /// was time to make one.
    pub has_arrived: bool,
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A connection of a client to a worker.
#[derive(Debug)]
pub(super) struct Client {
    number: u64,
    is_busy: bool,
    /// What guests keep about it.
    state: FilterState,
    /// Its TLS, if it has some, for as long as somebody keeps it.
    tls: Option<Weak<Secured>>,
}

impl Client {
    pub(super) fn new(number: u64) -> Self {
        Self { number, is_busy: false, state: FilterState::default(), tls: None }
    }

    /// Whether it is the connection with that TLS, or any without.
    fn is_of(&self, tls: Option<&Arc<Secured>>) -> bool {
        match (&self.tls, tls) {
            (None, None) => true,
            (Some(own), Some(tls)) => own.as_ptr() == Arc::as_ptr(tls),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    fn is_gone(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.strong_count() == 0)
    }
}

/// The way of a stream to the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing has gone there.
    #[default]
    Untrodden,
    /// A connection is being made since then; it is there as soon as time has passed.
    Opening {
        since: Duration,
    },
    Open,
}

/// A stream between its ends.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) worker: usize,
    /// Which of the worker's clients it belongs to.
    client: usize,
    /// How many filters its chain has.
    pub(super) filters: usize,
    /// Not there while the stream is acted on.
    pub(super) ends: Option<Ends>,
}

impl Run {
    /// A client begins a request on a connection to a worker that has no other. Unless the head ends it,
    /// [`send_request`](Self::send_request) goes on with it.
    ///
    /// # Errors
    ///
    /// [`HostFailure::Impossible`] when there is no such worker.
    pub fn open(&mut self, worker: usize, head: Head, end: bool) -> Result<StreamId, HostFailure> {
        self.open_on(worker, None, head, end)
    }

    /// The same on a connection with TLS, which has no other stream. Who keeps `tls` keeps the connection.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_on(
        &mut self,
        worker: usize,
        tls: Option<&Arc<Secured>>,
        head: Head,
        end: bool,
    ) -> Result<StreamId, HostFailure> {
        if worker >= self.chains.len() {
            return Err(HostFailure::Impossible { what: format!("there is no worker {worker}") });
        }
        self.requests += 1;
        let id = StreamId(self.requests);
        let client = self.free_client(worker, tls);
        let mut ends = Ends::default();
        ends.closes = wire::asks_to_close(&head.headers);
        ends.request_sent = end;
        let refused = wire::refused_unseen(&head.headers);
        let forwarded = wire::forwarded_for(&head.headers);
        let mut stream = self.new_stream(id, head, tls, worker);
        let connection = self.clients.get(worker).and_then(|clients| clients.get(client));
        if let Some(connection) = connection {
            stream.state = connection.state.clone();
            stream.notes.connection = connection.number;
        }
        stream.notes.forwarded = forwarded;
        // Chosen now: what filters keep about the stream does not change it unless it is forgotten.
        stream.notes.route = Some(self.world.choose_route(&stream));
        let filters = stream.stages.len();
        self.world.streams.insert(id, Box::new(stream));
        self.flows.insert(id, Flow { worker, client, filters, ends: Some(ends) });
        self.with(id, |carrier| {
            match refused {
                Some(reply) => carrier.refuse_unseen(reply),
                None => carrier.arrive(Direction::Request, 0, Piece::Headers { end }),
            }
            carrier.resume_asked();
        });
        Ok(id)
    }

    /// The client of a stream sends more of its request. Of a stream that is over, nothing comes of it.
    pub fn send_request(&mut self, id: StreamId, part: Part) {
        self.with(id, |carrier| {
            let piece = match part {
                Part::Body(bytes) => {
                    carrier.note_received(bytes.len());
                    Piece::Data { bytes, end: false }
                }
                Part::Last(bytes) => {
                    carrier.note_received(bytes.len());
                    carrier.ends.request_sent = true;
                    Piece::Data { bytes, end: true }
                }
                Part::Trailers(lines) => {
                    carrier.ends.request_sent = true;
                    if let Some(stream) = carrier.stream() {
                        stream.request.trailers.0 = lines;
                    }
                    Piece::Trailers
                }
                Part::End => {
                    carrier.ends.request_sent = true;
                    Piece::Data { bytes: Vec::new(), end: true }
                }
            };
            carrier.arrive(Direction::Request, 0, piece);
            carrier.resume_asked();
        });
    }

    /// A connection to the upstream was made for a stream whose request goes there.
    pub fn connect_upstream(&mut self, id: StreamId) {
        self.with(id, |carrier| {
            carrier.let_connect();
        });
    }

    /// The upstream answers a request that was sent on to it. A head that does not end the response is
    /// followed by [`send_response`](Self::send_response).
    pub fn begin_response(
        &mut self,
        id: StreamId,
        status: u16,
        headers: Vec<HeaderLine>,
        end: bool,
    ) {
        self.with(id, |carrier| {
            if carrier.ends.upstream_is_done {
                return;
            }
            carrier.note_connected();
            if let Some(stream) = carrier.stream() {
                stream.response.headers.0 = wire::response_headers(status, headers);
                stream.notes.code = Some(status.into());
                stream.notes.explain(b"via_upstream");
            }
            carrier.ends.responding = true;
            if end {
                carrier.note_answered();
            }
            let last = carrier.last();
            carrier.arrive(Direction::Response, last, Piece::Headers { end });
            carrier.resume_asked();
        });
    }

    /// The upstream of a stream sends more of its response.
    pub fn send_response(&mut self, id: StreamId, part: Part) {
        self.with(id, |carrier| {
            if carrier.ends.upstream_is_done {
                return;
            }
            let piece = match part {
                Part::Body(bytes) => Piece::Data { bytes, end: false },
                Part::Last(bytes) => {
                    carrier.note_answered();
                    Piece::Data { bytes, end: true }
                }
                Part::Trailers(lines) => {
                    carrier.note_answered();
                    if let Some(stream) = carrier.stream() {
                        stream.response.trailers.0 = lines;
                    }
                    Piece::Trailers
                }
                Part::End => {
                    carrier.note_answered();
                    Piece::Data { bytes: Vec::new(), end: true }
                }
            };
            let last = carrier.last();
            carrier.arrive(Direction::Response, last, piece);
            carrier.resume_asked();
        });
    }

    /// The upstream breaks the connection before it answers.
    pub fn break_upstream(&mut self, id: StreamId) {
        self.with(id, |carrier| {
            if carrier.ends.upstream_is_done {
                return;
            }
            carrier.note_connected();
            carrier.ends.upstream_is_done = true;
            if let Some(stream) = carrier.stream() {
                stream.notes.flags |= flags::UPSTREAM_CONNECTION_TERMINATION;
            }
            let details = "upstream_reset_before_response_started{connection_termination}";
            let body = "upstream connect error or disconnect/reset before headers. \
                        reset reason: connection termination";
            carrier.reply(LocalReply::of_proxy(503, details, body));
            carrier.resume_asked();
        });
    }

    /// The client of a stream waits no longer for its end.
    pub(super) fn lose_patience(&mut self, id: StreamId) {
        self.with(id, |carrier| carrier.ends.is_endless = true);
    }

    /// The client of a stream closes its connection.
    pub fn leave(&mut self, id: StreamId) {
        self.with(id, |carrier| {
            carrier.ends.client_left = true;
            if let Some(stream) = carrier.stream() {
                stream.notes.flags |= flags::DOWNSTREAM_CONNECTION_TERMINATION;
                // Whatever explained a response that did not come whole.
                stream.notes.code_details = Some(b"downstream_remote_disconnect".to_vec());
            }
        });
    }

    /// What the proxy has done with a stream since this was asked, in order.
    pub fn next_event(&mut self) -> Option<(StreamId, Event)> {
        self.events.pop_front()
    }

    /// Time since the proxy was started.
    pub fn now(&self) -> Duration {
        self.world.clock.passed()
    }

    /// Acts on a stream, if it is under way and nobody acts on it now; then it may be over.
    pub(super) fn with(&mut self, id: StreamId, act: impl FnOnce(&mut Carrier<'_>)) {
        let Some(Flow { worker, client, filters, ends }) = self.flows.get_mut(&id) else { return };
        let Some(ends) = ends.take() else { return };
        let (worker, client, filters) = (*worker, *client, *filters);
        let mut carrier = Carrier { run: self, id, worker, filters, ends };
        carrier.notice_connection();
        act(&mut carrier);
        if carrier.ends.is_over() {
            carrier.finish();
            let ends = carrier.ends;
            self.flows.remove(&id);
            self.forget(id, worker, client, &ends);
        } else {
            let ends = carrier.ends;
            if let Some(flow) = self.flows.get_mut(&id) {
                flow.ends = Some(ends);
            }
        }
    }

    /// Carries out what guests have asked for of streams other than the one that they were called for.
    pub(super) fn attend(&mut self) {
        while let Some(id) = self.world.asked.pop_front() {
            self.with(id, |carrier| {
                carrier.resume_asked();
            });
        }
    }

    fn forget(&mut self, id: StreamId, worker: usize, client: usize, ends: &Ends) {
        let stream = self.world.take_stream(id);
        let tls = stream.as_ref().and_then(|stream| stream.notes.tls.clone());
        let is_kept = ends.response_whole && !ends.closes && !ends.reset;
        let connection = self.clients.get_mut(worker).and_then(|clients| clients.get_mut(client));
        if let Some(connection) = connection {
            let kept = stream.filter(|_| is_kept).map(|stream| stream.state.of_connection());
            connection.state = kept.unwrap_or_default();
            connection.is_busy = false;
        }
        if let (false, Some(peers), Some(tls)) = (is_kept, &mut self.peers, tls) {
            peers.lose(&tls);
        }
        if ends.leaves_a_connection()
            && let Some(idle) = self.idle.get_mut(worker)
        {
            *idle = idle.saturating_add(1);
        }
        let over = Over { is_reset: ends.reset, has_arrived: ends.has_arrived() };
        self.events.push_back((id, Event::Over(over)));
    }

    /// Whether a connection with TLS carries a stream.
    pub(super) fn is_busy(&self, worker: usize, tls: &Arc<Secured>) -> bool {
        let mut clients = self.clients.get(worker).into_iter().flatten();
        clients.any(|client| client.is_busy && client.is_of(Some(tls)))
    }

    /// A connection of a client to a worker that carries nothing; a new one when there is none.
    fn free_client(&mut self, worker: usize, tls: Option<&Arc<Secured>>) -> usize {
        let last = self.clients.iter().flatten().map(|client| client.number).max();
        let next = last.map_or(1, |last| last.saturating_add(1));
        let Some(clients) = self.clients.get_mut(worker) else { return 0 };
        let free = clients.iter().position(|client| !client.is_busy && client.is_of(tls));
        let free = free.unwrap_or_else(|| {
            let client = Client { tls: tls.map(Arc::downgrade), ..Client::new(next) };
            // The place of one that is gone is taken: there is no end of connections.
            let gone = clients.iter().position(|old| !old.is_busy && old.is_gone());
            let place = gone.unwrap_or(clients.len());
            match clients.get_mut(place) {
                Some(old) => *old = client,
                None => clients.push(client),
            }
            place
        });
        if let Some(client) = clients.get_mut(free) {
            client.is_busy = true;
        }
        free
    }

    /// Has every filter of the chain give a new stream a context; the guest is told of it later.
    fn new_stream(
        &mut self,
        id: StreamId,
        head: Head,
        tls: Option<&Arc<Secured>>,
        worker: usize,
    ) -> Stream {
        let mut stream = Stream::default();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let headers = &mut stream.request.headers;
        *headers = wire::request_headers(head, scheme);
        tls::forward(&mut headers.0, tls.map(Arc::as_ref), &self.world.proxy);
        stream.notes = Notes {
            tls: tls.cloned(),
            came: self.world.clock.wall(),
            began: self.world.clock.passed(),
            ..Notes::default()
        };
        stream.stages.reserve_exact(self.filters.len());
        for place in 0..self.filters.len() {
            let Some(link) = self.find_guest(worker, place) else { continue };
            let at = stream.stages.len();
            let vm = self.world.vm_mut(link.vm).filter(|vm| !vm.failed);
            let context = Context::Stream { stream: id, at, root: link.root };
            let context = vm.map(|vm| vm.add_context(context));
            let stops_headers_alone =
                self.filters.get(place).is_some_and(|filter| filter.stops_headers_alone);
            let link = Some(link);
            stream.stages.push(Stage { link, context, stops_headers_alone, ..Stage::default() });
        }
        stream
    }
}
