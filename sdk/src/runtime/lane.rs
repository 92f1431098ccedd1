//! The two sides of an exchange: how far its handler has let each go, and what the host holds.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

use tollgate_abi::{BodyAction, BufferType, HeadersAction, StreamType, TrailersAction};

use super::{close, send};
use crate::filter::Outcome;
use crate::host;
use crate::host_error::HostError;

/// What an asynchronous handler has to do with bodies, and what that asks of the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bodies {
    /// It leaves them alone. While it holds headers, what follows waits in the proxy.
    #[default]
    Untouched,
    /// It reads them once it has let the headers go.
    AfterHeaders,
    /// It reads them while it holds the headers. The plugin needs `allow_on_headers_stop_iteration`,
    /// which Envoy has from 1.35 on; without that a request whose body is waited for is held until the
    /// proxy or the client gives it up.
    WithHeaders,
}

impl Bodies {
    /// What serves both.
    pub(crate) const fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::WithHeaders, _) | (_, Self::WithHeaders) => Self::WithHeaders,
            (Self::AfterHeaders, _) | (_, Self::AfterHeaders) => Self::AfterHeaders,
            (Self::Untouched, Self::Untouched) => Self::Untouched,
        }
    }
}

/// A side of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Response,
}

/// A part of a message that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Headers {
        end_of_stream: bool,
    },
    /// `size` is of all that the host shows: what it holds, and what has come.
    Body {
        size: usize,
        end_of_stream: bool,
    },
    Trailers,
}

/// How far the handler has let a side go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Nothing has left.
    Headers,
    /// The headers have left; the handler follows the body.
    Body,
    /// All of it goes on.
    Passed,
}

/// What the handler waits for in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Chunk,
    Whole,
}

/// An exchange whose handler runs.
pub struct Exchange {
    pub(crate) context: u32,
    pub(crate) bodies: Bodies,
    pub(crate) request: Lane,
    pub(crate) response: Lane,
    /// The handler has answered in place of the upstream.
    replied: Cell<bool>,
    /// It has done so in the callback that runs, which must not let the stream go on.
    replies_now: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// The stream's state, once the handler has ended.
    state: RefCell<Option<Box<dyn Any>>>,
}

/// One side of an exchange.
pub(crate) struct Lane {
    direction: Direction,
    position: Cell<Position>,
    /// What came last.
    last: Cell<Piece>,
    /// The host holds it.
    is_held: Cell<bool>,
    wanted: Cell<Wanted>,
    has_headers: Cell<bool>,
    ended: Cell<bool>,
    /// Bytes of the body that the host shows.
    size: Cell<usize>,
    /// Of these, bytes that the handler was given.
    given: Cell<usize>,
}

impl Exchange {
    /// An exchange whose request headers have come.
    pub(crate) fn new(context: u32, bodies: Bodies, end_of_stream: bool) -> Self {
        let request = Lane::new(Direction::Request);
        request.arrived(Piece::Headers { end_of_stream });
        Self {
            context,
            bodies,
            request,
            response: Lane::new(Direction::Response),
            replied: Cell::new(false),
            replies_now: Cell::new(false),
            waker: RefCell::new(None),
            state: RefCell::new(None),
        }
    }

    pub(crate) fn lane(&self, direction: Direction) -> &Lane {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    /// Takes note of a piece. `false`: the response has come before the handler let the request go, and
    /// there is nothing left to decide.
    pub(super) fn arrived(&self, direction: Direction, piece: Piece) -> bool {
        self.lane(direction).arrived(piece);
        self.replies_now.set(false);
        let waker = self.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
        direction == Direction::Request || self.request.position.get() != Position::Headers
    }

    /// Wakes this waker when a piece comes.
    pub(crate) fn wait(&self, waker: &Waker) {
        *self.waker.borrow_mut() = Some(waker.clone());
    }

    /// Lets both sides go.
    pub(super) fn pass(&self) {
        self.request.position.set(Position::Passed);
        self.response.position.set(Position::Passed);
    }

    /// The handler has ended.
    pub(super) fn finish(&self, outcome: Outcome) {
        let head_has_left =
            self.response.has_headers.get() && self.response.position.get() != Position::Headers;
        self.pass();
        let Err(reply) = outcome else { return };
        self.replied.set(true);
        self.replies_now.set(true);
        if head_has_left {
            log::error!("the stream is closed: the response had left when it was refused");
            close(StreamType::HttpRequest);
        } else {
            send(&reply, StreamType::HttpRequest);
        }
    }

    /// Lets go what the host holds and the handler does not, but for the side whose callback runs.
    pub(super) fn settle(&self, own: Option<Direction>) {
        if self.replied.get() {
            return;
        }
        for lane in [&self.request, &self.response] {
            if Some(lane.direction) != own && lane.is_held.get() && lane.passes() {
                lane.release();
                if let Err(error) = host::continue_stream(lane.stream()) {
                    log::error!("the stream is closed, as it could not go on: {error}");
                    close(lane.stream());
                }
            }
        }
    }

    /// What the callback of a side returns.
    pub(super) fn answer(&self, direction: Direction) -> u32 {
        let lane = self.lane(direction);
        if lane.passes() && !self.replies_now.get() {
            lane.release();
            return Lane::PASS;
        }
        lane.is_held.set(true);
        match lane.last.get() {
            // While headers are held like this, no body comes that could let them go.
            Piece::Headers { .. } if self.bodies != Bodies::WithHeaders => {
                HeadersAction::StopAllIterationAndWatermark.into()
            }
            Piece::Headers { .. } => HeadersAction::StopIteration.into(),
            Piece::Body { .. } => BodyAction::StopIterationAndBuffer.into(),
            Piece::Trailers => TrailersAction::StopIteration.into(),
        }
    }

    /// Keeps the stream's state when the handler is dropped.
    pub(crate) fn keep(&self, state: Box<dyn Any>) {
        let before = self.state.replace(Some(state));
        drop(before);
    }

    /// The stream's state, if the handler has ended.
    pub(crate) fn take_state<T: 'static>(&self) -> Option<T> {
        let state = self.state.take()?;
        state.downcast().ok().map(|state| *state)
    }
}

impl Lane {
    /// What a callback of any kind returns for a message to go on.
    pub(crate) const PASS: u32 = 0;

    fn new(direction: Direction) -> Self {
        Self {
            direction,
            position: Cell::new(Position::Headers),
            last: Cell::new(Piece::Headers { end_of_stream: false }),
            is_held: Cell::new(false),
            wanted: Cell::new(Wanted::Nothing),
            has_headers: Cell::new(false),
            ended: Cell::new(false),
            size: Cell::new(0),
            given: Cell::new(0),
        }
    }

    fn arrived(&self, piece: Piece) {
        self.last.set(piece);
        match piece {
            Piece::Headers { end_of_stream } => {
                self.has_headers.set(true);
                self.ended.set(end_of_stream);
            }
            Piece::Body { size, end_of_stream } => {
                self.size.set(size);
                self.ended.set(end_of_stream);
            }
            Piece::Trailers => self.ended.set(true),
        }
    }

    /// Whether what came last may go on.
    fn passes(&self) -> bool {
        match (self.position.get(), self.last.get()) {
            (Position::Passed, _) | (Position::Body, Piece::Headers { .. }) => true,
            (Position::Body, Piece::Body { .. }) => {
                self.wanted.get() == Wanted::Chunk && self.given.get() >= self.size.get()
            }
            (Position::Headers, _) | (Position::Body, Piece::Trailers) => false,
        }
    }

    /// It goes on: what comes next is a buffer of its own.
    fn release(&self) {
        self.is_held.set(false);
        self.size.set(0);
        self.given.set(0);
    }

    /// Lets the side go so far.
    pub(crate) fn go_on(&self, position: Position) {
        self.position.set(position);
    }

    /// Whether the headers have come.
    pub(crate) fn has_headers(&self) -> bool {
        self.has_headers.get()
    }

    /// Whether all of the message has come.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Whether the message ended with trailers.
    pub(crate) fn has_trailers(&self) -> bool {
        self.last.get() == Piece::Trailers
    }

    /// Bytes of the body that have come and are held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.size.get()
    }

    /// The next bytes that the handler was not given, `None` at the end. Pending: it has to wait.
    pub(crate) fn chunk(&self) -> Poll<Result<Option<Vec<u8>>, HostError>> {
        let (given, size) = (self.given.get(), self.size.get());
        if given < size {
            self.wanted.set(Wanted::Nothing);
            self.given.set(size);
            return Poll::Ready(self.read(given, size.saturating_sub(given)).map(Some));
        }
        if self.ended.get() {
            // The end stays with what was given last, until the handler lets it go.
            self.wanted.set(Wanted::Nothing);
            return Poll::Ready(Ok(None));
        }
        self.wanted.set(Wanted::Chunk);
        Poll::Pending
    }

    /// All bytes of the body. Pending: it has to wait.
    pub(crate) fn whole(&self) -> Poll<Result<Vec<u8>, HostError>> {
        if !self.ended.get() {
            self.wanted.set(Wanted::Whole);
            return Poll::Pending;
        }
        self.wanted.set(Wanted::Nothing);
        Poll::Ready(self.read(0, self.size.get()))
    }

    /// Replaces the bytes of the body that are held.
    pub(crate) fn replace(&self, body: &[u8]) -> Result<(), HostError> {
        host::set_buffer(self.buffer(), 0, u32::MAX, body)?;
        self.size.set(body.len());
        Ok(())
    }

    fn read(&self, start: usize, size: usize) -> Result<Vec<u8>, HostError> {
        if size == 0 {
            return Ok(Vec::new());
        }
        let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        host::buffer(self.buffer(), word(start), word(size))
    }

    fn buffer(&self) -> BufferType {
        match self.direction {
            Direction::Request => BufferType::HttpRequestBody,
            Direction::Response => BufferType::HttpResponseBody,
        }
    }

    fn stream(&self) -> StreamType {
        match self.direction {
            Direction::Request => StreamType::HttpRequest,
            Direction::Response => StreamType::HttpResponse,
        }
    }
}
