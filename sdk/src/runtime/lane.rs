//! The two sides of an exchange at one filter: what has come, what the filter holds, and how far it has
//! let each side go.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

use tollgate_abi::{BufferType, StreamType};

use crate::host_error::HostError;
use crate::window::Window;

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

impl Direction {
    pub(super) fn stream(self) -> StreamType {
        match self {
            Self::Request => StreamType::HttpRequest,
            Self::Response => StreamType::HttpResponse,
        }
    }

    fn buffer(self) -> BufferType {
        match self {
            Self::Request => BufferType::HttpRequestBody,
            Self::Response => BufferType::HttpResponseBody,
        }
    }
}

/// A part of a message that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Headers { end_of_stream: bool },
    Body { size: usize, end_of_stream: bool },
    Trailers,
}

/// How far a filter has let a side go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Nothing has left.
    Headers,
    /// The headers have left; the filter follows the body.
    Body,
    /// All of it goes on.
    Passed,
}

/// What an asynchronous handler waits for in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Chunk,
    Whole,
}

/// How far headers or trailers have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// They have not come.
    Away,
    /// They have come, and the filter has not seen them.
    Waits,
    /// The filter has them.
    Shown,
    /// They went on.
    Gone,
}

/// What is to be done next with what has come to a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Show(Kind),
    Pass(Kind),
}

/// A kind of piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Headers,
    Body,
    Trailers,
}

/// An exchange, as one filter has it.
pub struct Exchange {
    pub(crate) bodies: Bodies,
    pub(crate) request: Lane,
    pub(crate) response: Lane,
    /// Nothing is left to decide: the stream is over, or was answered by others.
    is_abandoned: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// The stream's state, once an asynchronous handler has ended.
    state: RefCell<Option<Box<dyn Any>>>,
}

/// One side of an exchange.
pub(crate) struct Lane {
    direction: Direction,
    position: Cell<Position>,
    headers: Cell<Progress>,
    /// The message ends with its headers.
    headers_end: Cell<bool>,
    /// Bytes of the body that have come and that the filter has not seen. `None`: not even a part
    /// without bytes.
    waiting: Cell<Option<usize>>,
    /// Bytes of the body that the filter has, as far as it has let nothing of them go.
    held: Cell<Option<usize>>,
    /// The end has come with them.
    body_ends: Cell<bool>,
    trailers: Cell<Progress>,
    /// The filter has seen the end.
    ended: Cell<bool>,
    wanted: Cell<Wanted>,
    /// Of the bytes that the filter has, those that its handler was given.
    given: Cell<usize>,
    /// Bytes before these in the buffer of the host.
    start: Cell<usize>,
    /// There are none behind these.
    is_tail: Cell<bool>,
}

impl Exchange {
    /// An exchange of which nothing has come.
    pub(super) fn new(bodies: Bodies) -> Self {
        Self {
            bodies,
            request: Lane::new(Direction::Request),
            response: Lane::new(Direction::Response),
            is_abandoned: Cell::new(false),
            waker: RefCell::new(None),
            state: RefCell::new(None),
        }
    }

    pub(super) fn lane(&self, direction: Direction) -> &Lane {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    /// Wakes this waker when a piece comes.
    pub(crate) fn wait(&self, waker: &Waker) {
        *self.waker.borrow_mut() = Some(waker.clone());
    }

    /// A piece has come.
    pub(super) fn wake(&self) {
        let waker = self.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nothing is left to decide.
    pub(super) fn abandon(&self) {
        self.is_abandoned.set(true);
    }

    /// Whether nothing is left to decide: a handler that still runs, as the host has called back in the
    /// middle of it, goes on no further than to where it waits.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.is_abandoned.get()
    }

    /// Lets both sides go.
    pub(super) fn pass(&self) {
        self.request.go_on(Position::Passed);
        self.response.go_on(Position::Passed);
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
            headers: Cell::new(Progress::Away),
            headers_end: Cell::new(false),
            waiting: Cell::new(None),
            held: Cell::new(None),
            body_ends: Cell::new(false),
            trailers: Cell::new(Progress::Away),
            ended: Cell::new(false),
            wanted: Cell::new(Wanted::Nothing),
            given: Cell::new(0),
            start: Cell::new(0),
            is_tail: Cell::new(true),
        }
    }

    /// A piece comes from the host, or from the filter before. `size` is of new bytes.
    pub(super) fn arrived(&self, piece: Piece) {
        match piece {
            Piece::Headers { end_of_stream } => {
                self.headers.set(Progress::Waits);
                self.headers_end.set(end_of_stream);
            }
            Piece::Body { size, end_of_stream } => {
                let waiting = self.waiting.get().unwrap_or(0);
                self.waiting.set(Some(waiting.saturating_add(size)));
                self.body_ends.set(self.body_ends.get() || end_of_stream);
            }
            Piece::Trailers => self.trailers.set(Progress::Waits),
        }
    }

    /// What is to be done next, if something is. A body comes with the headers, or waits until these have
    /// gone on.
    pub(super) fn next(&self, bodies: Bodies) -> Option<Next> {
        let headers_gone = match self.headers.get() {
            Progress::Away => return None,
            Progress::Waits => return Some(Next::Show(Kind::Headers)),
            Progress::Shown if self.position.get() != Position::Headers => {
                return Some(Next::Pass(Kind::Headers));
            }
            Progress::Shown if bodies != Bodies::WithHeaders => return None,
            Progress::Shown => false,
            Progress::Gone => true,
        };
        if self.waiting.get().is_some() {
            return Some(Next::Show(Kind::Body));
        }
        if headers_gone && self.held.get().is_some_and(|held| self.lets_go(held)) {
            return Some(Next::Pass(Kind::Body));
        }
        match self.trailers.get() {
            Progress::Waits => Some(Next::Show(Kind::Trailers)),
            Progress::Shown if self.position.get() == Position::Passed => {
                Some(Next::Pass(Kind::Trailers))
            }
            Progress::Shown | Progress::Away | Progress::Gone => None,
        }
    }

    /// Whether the bytes that the filter has may go on.
    fn lets_go(&self, held: usize) -> bool {
        match self.position.get() {
            Position::Passed => true,
            Position::Body => self.wanted.get() == Wanted::Chunk && self.given.get() >= held,
            Position::Headers => false,
        }
    }

    /// The filter is about to see a piece.
    pub(super) fn shown(&self, kind: Kind) {
        match kind {
            Kind::Headers => {
                self.headers.set(Progress::Shown);
                self.ended.set(self.headers_end.get());
            }
            Kind::Body => {
                let waiting = self.waiting.take().unwrap_or(0);
                self.held.set(Some(self.held.get().unwrap_or(0).saturating_add(waiting)));
                self.ended.set(self.body_ends.get());
                // Whoever waits is asked again.
                self.wanted.set(Wanted::Nothing);
            }
            Kind::Trailers => {
                self.trailers.set(Progress::Shown);
                self.ended.set(true);
            }
        }
    }

    /// A piece leaves; gives it as the next filter gets it.
    pub(super) fn leaves(&self, kind: Kind) -> Piece {
        match kind {
            Kind::Headers => {
                self.headers.set(Progress::Gone);
                Piece::Headers { end_of_stream: self.headers_end.get() }
            }
            Kind::Body => {
                self.given.set(0);
                let size = self.held.take().unwrap_or(0);
                Piece::Body { size, end_of_stream: self.body_ends.get() }
            }
            Kind::Trailers => {
                self.trailers.set(Progress::Gone);
                Piece::Trailers
            }
        }
    }

    /// Whether the headers are here.
    pub(super) fn has_headers_now(&self) -> bool {
        matches!(self.headers.get(), Progress::Waits | Progress::Shown)
    }

    /// Whether a part of the body is here, perhaps without bytes.
    pub(super) fn has_body_now(&self) -> bool {
        self.waiting.get().is_some() || self.held.get().is_some()
    }

    /// Whether anything is here.
    pub(super) fn has_something(&self) -> bool {
        self.has_headers_now()
            || self.has_body_now()
            || matches!(self.trailers.get(), Progress::Waits | Progress::Shown)
    }

    /// Bytes of the body that are here.
    pub(super) fn bytes(&self) -> usize {
        self.waiting.get().unwrap_or(0).saturating_add(self.held.get().unwrap_or(0))
    }

    /// The host shows no more of the bytes that are here.
    pub(super) fn forget_bytes(&self) {
        self.waiting.set(self.waiting.get().map(|_| 0));
        self.held.set(self.held.get().map(|_| 0));
    }

    /// Says where the bytes that are here lie in the buffer of the host.
    pub(super) fn place(&self, start: usize, is_tail: bool) {
        self.start.set(start);
        self.is_tail.set(is_tail);
    }

    /// The bytes that the filter has.
    pub(super) fn window(&self) -> Window {
        let is_tail = self.is_tail.get() && self.waiting.get().is_none();
        Window { start: self.start.get(), len: self.held_bytes(), is_tail }
    }

    /// The filter has changed how many bytes it has.
    pub(super) fn resized(&self, len: usize) {
        self.held.set(self.held.get().map(|_| len));
    }

    /// Lets the side go so far.
    pub(crate) fn go_on(&self, position: Position) {
        self.position.set(position);
    }

    pub(super) fn position(&self) -> Position {
        self.position.get()
    }

    /// Whether the filter has seen the headers.
    pub(crate) fn has_headers(&self) -> bool {
        matches!(self.headers.get(), Progress::Shown | Progress::Gone)
    }

    /// Whether the message ends with its headers.
    pub(crate) fn ends_with_headers(&self) -> bool {
        self.headers_end.get()
    }

    /// Whether the filter has seen the end of the body.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Whether the message ended with trailers.
    pub(crate) fn has_trailers(&self) -> bool {
        matches!(self.trailers.get(), Progress::Shown | Progress::Gone)
    }

    /// Bytes of the body that have come and are held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.get().unwrap_or(0)
    }

    /// The next bytes that the handler was not given, `None` at the end. Pending: it has to wait.
    pub(crate) fn chunk(&self) -> Poll<Result<Option<Vec<u8>>, HostError>> {
        let (given, size) = (self.given.get(), self.held_bytes());
        if given < size {
            self.wanted.set(Wanted::Nothing);
            self.given.set(size);
            let bytes = self.window().read(self.direction.buffer(), given..size);
            return Poll::Ready(bytes.map(Some));
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
        let window = self.window();
        Poll::Ready(window.read(self.direction.buffer(), 0..window.len))
    }

    /// Replaces the bytes of the body that are held.
    pub(crate) fn replace(&self, body: &[u8]) -> Result<(), HostError> {
        let mut window = self.window();
        window.change(self.direction.buffer(), 0..window.len, body)?;
        self.resized(body.len());
        Ok(())
    }
}
