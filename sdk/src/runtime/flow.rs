//! A stream in a module: from filter to filter, as a proxy carries it through a chain.
//!
//! Requests go from the first filter to the last, responses from the last to the first, and each piece
//! goes as far as the filters let it. The proxy holds what any of them holds: it has one buffer for a body,
//! in which those bytes come first that have come farthest.
//!
//! Nothing is borrowed while a filter runs, so that a host may call back in the middle of a host call:
//! what it brings then, the walk that is under way takes on.

use std::cell::Cell;
use std::rc::Rc;

use tollgate_abi::{BodyAction, HeadersAction, TrailersAction};

use super::lane::{Kind, Next};
use super::station::{Ending, Interest, Side, Station};
use super::{Bodies, Direction, Lane, Link, Piece, Position, RUNTIME, TaskId, close, send};
use crate::dispatch::reset;
use crate::ending::ResetStream;
use crate::exchange::Request;
use crate::filter::Outcome;
use crate::host;
use crate::live::LoggedExchange;
use crate::reply::LocalReply;

/// A stream on its way through the filters of a module.
pub(crate) struct Flow {
    pub(super) context: u32,
    pub(super) root: u32,
    /// In the order of requests.
    stations: Vec<Station>,
    request: Side,
    response: Side,
    /// The response has come.
    has_response: Cell<bool>,
    /// A filter has answered, and its answer has not come by yet.
    replied: Cell<bool>,
    /// The stream is over.
    is_over: Cell<bool>,
    /// Pieces are being carried.
    walks: Cell<bool>,
}

impl Flow {
    /// A stream of which nothing has come.
    pub(crate) fn new(context: u32, root: u32, links: Vec<Box<dyn Link>>) -> Self {
        Self {
            context,
            root,
            stations: links.into_iter().map(Station::new).collect(),
            request: Side::new(Direction::Request),
            response: Side::new(Direction::Response),
            has_response: Cell::new(false),
            replied: Cell::new(false),
            is_over: Cell::new(false),
            walks: Cell::new(false),
        }
    }

    /// A piece has come from the host; the callback that brought it has yet to [`answer`](Self::answer).
    pub(super) fn arrived(self: &Rc<Self>, direction: Direction, piece: Piece) {
        let side = self.side(direction);
        side.callbacks.set(side.callbacks.get().saturating_add(1));
        if direction == Direction::Response {
            self.has_response.set(true);
            if self.replied.replace(false) {
                self.wake_all();
            }
            if self.lanes(&self.request).any(Lane::has_headers_now) {
                // Answered before the request had left: by a filter, or by the proxy.
                self.request.is_dead.set(true);
            }
        }
        let (kind, piece) = match piece {
            Piece::Headers { .. } => (Kind::Headers, piece),
            Piece::Body { size, end_of_stream } => {
                let known: usize = self.lanes(side).map(Lane::bytes).sum();
                let known = known.saturating_add(side.out.get());
                (Kind::Body, Piece::Body { size: size.saturating_sub(known), end_of_stream })
            }
            Piece::Trailers => (Kind::Trailers, piece),
        };
        side.last.set(kind);
        if let Some(first) = self.lane(side, 0) {
            first.arrived(piece);
        }
        self.walk();
    }

    /// Whether handlers have to wait until the answer of one has come by.
    pub(super) fn is_answered(&self) -> bool {
        self.replied.get()
    }

    /// The handler at a station was polled, and has perhaps ended.
    pub(super) fn polled(self: &Rc<Self>, at: usize, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome
            && let Some(station) = self.stations.get(at)
            && !station.exchange.is_abandoned()
        {
            let response = &station.exchange.response;
            let head_has_left = response.has_headers() && response.position() != Position::Headers;
            station.exchange.pass();
            match outcome {
                Ok(()) => {}
                Err(_) if head_has_left => {
                    log::error!("the stream is closed: the response had left when it was refused");
                    self.close();
                }
                Err(reply) => self.refuse(&reply),
            }
        }
        if let Some(station) = self.stations.get(at)
            && station.exchange.bodies == Bodies::Untouched
        {
            for lane in [&station.exchange.request, &station.exchange.response] {
                if lane.position() == Position::Body {
                    // It gets no body to hold.
                    lane.go_on(Position::Passed);
                }
            }
        }
        self.walk();
        self.settle();
    }

    /// Lets go what the host holds and no filter does, but for a side whose callback runs.
    pub(super) fn settle(&self) {
        for side in [&self.request, &self.response] {
            // The host may call back in the midst of each call.
            if self.is_over.get() || side.callbacks.get() > 0 || !side.is_held.get() {
                continue;
            }
            if !side.is_dead.get() && self.is_through(side) {
                side.release();
                let stream = side.direction.stream();
                if let Err(error) = host::continue_stream(stream) {
                    log::error!("the stream is closed, as it could not go on: {error}");
                    self.die();
                    close(stream);
                }
            }
        }
    }

    /// What the callback of a side returns.
    pub(super) fn answer(&self, direction: Direction) -> u32 {
        let side = self.side(direction);
        side.callbacks.set(side.callbacks.get().saturating_sub(1));
        if !side.is_dead.get() && self.is_through(side) {
            side.release();
            return Lane::PASS;
        }
        side.is_held.set(true);
        match side.last.get() {
            Kind::Headers if self.sees_what_follows(side) => HeadersAction::StopIteration.into(),
            // While headers are held like this, no body comes that could let them go.
            Kind::Headers => HeadersAction::StopAllIterationAndWatermark.into(),
            Kind::Body if self.is_unseen(side) => {
                self.lanes(side).for_each(Lane::forget_bytes);
                side.out.set(0);
                BodyAction::StopIterationAndWatermark.into()
            }
            Kind::Body => BodyAction::StopIterationAndBuffer.into(),
            Kind::Trailers => TrailersAction::StopIteration.into(),
        }
    }

    /// Nothing is left to decide.
    pub(super) fn end(&self) {
        self.is_over.set(true);
        for station in &self.stations {
            station.exchange.abandon();
        }
    }

    /// Has all filters note that the stream is over.
    pub(crate) fn log(&self) {
        let mut exchange = LoggedExchange::new();
        for station in &self.stations {
            if let Some(mut link) = station.link.take() {
                link.on_log(&station.exchange, &mut exchange);
                station.link.set(Some(link));
            }
        }
    }

    /// Carries pieces on until all are held or out.
    fn walk(self: &Rc<Self>) {
        if self.walks.replace(true) {
            return;
        }
        while self.step(&self.request) || self.step(&self.response) {}
        self.walks.set(false);
    }

    /// Carries one piece by one step, of those that can be carried that which has come farthest.
    fn step(self: &Rc<Self>, side: &Side) -> bool {
        if side.is_dead.get() || self.is_over.get() {
            return false;
        }
        for place in (0..self.stations.len()).rev() {
            let Some((at, station)) = self.station(side, place) else { continue };
            let lane = station.exchange.lane(side.direction);
            let Some(next) = lane.next(station.exchange.bodies) else { continue };
            match next {
                Next::Show(kind) => {
                    lane.shown(kind);
                    self.place(side);
                    self.show(side.direction, at, station, kind);
                }
                Next::Pass(kind) => {
                    let piece = lane.leaves(kind);
                    if let Some(next) = self.lane(side, place.saturating_add(1)) {
                        next.arrived(piece);
                    } else if let Piece::Body { size, .. } = piece {
                        side.out.set(side.out.get().saturating_add(size));
                    }
                }
            }
            self.place(side);
            return true;
        }
        false
    }

    /// Shows a piece to a filter.
    fn show(self: &Rc<Self>, direction: Direction, at: usize, station: &Station, kind: Kind) {
        let exchange = &station.exchange;
        let lane = exchange.lane(direction);
        if (direction, kind) == (Direction::Request, Kind::Headers) {
            station.is_reached.set(true);
        }
        if !station.is_reached.get() {
            // Whoever was not asked about a request does not meet its response.
            return lane.go_on(Position::Passed);
        }
        if station.phases.exchange.is_some() {
            return self.follow(direction, at, station, kind);
        }
        match station.show(direction, kind) {
            None => {}
            Some(Ok(position)) => lane.go_on(position),
            Some(Err(Ending::Reply(reply))) => self.refuse(&reply),
            Some(Err(Ending::Reset(end))) => self.reset(&end),
        }
    }

    /// Wakes the handler of a filter, or begins it.
    fn follow(self: &Rc<Self>, direction: Direction, at: usize, station: &Station, kind: Kind) {
        let exchange = &station.exchange;
        let task = TaskId { context: self.context, at };
        if (direction, kind) == (Direction::Request, Kind::Headers) {
            let Some(link) = station.link.take() else { return };
            let ends = exchange.request.ends_with_headers();
            let request = Request::new(Rc::clone(exchange), ends);
            let handler = link.follow(Rc::clone(exchange), request);
            station.link.set(Some(link));
            return match handler {
                Some(handler) => RUNTIME.with(|runtime| {
                    runtime.spawn(task, self.root, Some(Rc::clone(self)), handler);
                    runtime.wake(task);
                }),
                None => exchange.pass(),
            };
        }
        let is_early =
            direction == Direction::Response && exchange.request.position() == Position::Headers;
        if is_early {
            // It was answered before its handler let it go: by the proxy itself, or by another filter.
            exchange.abandon();
            RUNTIME.with(|runtime| runtime.end_handler(task));
            exchange.pass();
            return;
        }
        exchange.wake();
        RUNTIME.with(|runtime| runtime.wake(task));
    }

    /// Has all handlers look again that had to wait.
    fn wake_all(&self) {
        for at in 0..self.stations.len() {
            RUNTIME.with(|runtime| runtime.wake(TaskId { context: self.context, at }));
        }
    }

    /// Answers the client in place of the upstream, or of the response that has come.
    fn refuse(&self, reply: &LocalReply) {
        if !self.may_decide() {
            return;
        }
        self.replied.set(true);
        self.request.is_dead.set(true);
        // What takes the place of a response passes no filter.
        self.response.is_dead.set(self.has_response.get());
        let direction =
            if self.has_response.get() { Direction::Response } else { Direction::Request };
        send(reply, direction.stream());
    }

    fn reset(&self, end: &ResetStream) {
        if self.may_decide() {
            self.die();
            reset(end);
        }
    }

    fn close(&self) {
        if self.may_decide() {
            self.die();
            close(Direction::Request.stream());
        }
    }

    /// Whether the stream was not answered before, in this way or another.
    fn may_decide(&self) -> bool {
        !self.is_over.get() && !self.replied.get() && !self.response.is_dead.get()
    }

    /// Nothing goes on any more.
    fn die(&self) {
        self.request.is_dead.set(true);
        self.response.is_dead.set(true);
    }

    /// Whether no filter holds anything of a side.
    fn is_through(&self, side: &Side) -> bool {
        !self.lanes(side).any(Lane::has_something)
    }

    /// Whether filters see what follows headers while these are held: the one that holds them, or those
    /// before it. Not where one from there on has to see the same bytes later: the proxy would hold no
    /// more of them than its limit, and not slow the sender down.
    fn sees_what_follows(&self, side: &Side) -> bool {
        let stations = || self.stations_of(side).enumerate();
        let holder = stations()
            .filter(|(_, station)| station.exchange.lane(side.direction).has_headers_now())
            .last();
        let Some((holder, station)) = holder else { return false };
        if station.exchange.bodies == Bodies::WithHeaders {
            return true;
        }
        let interest = |station: &Station| station.interest(side.direction);
        let before = || self.stations_of(side).take(holder);
        let after = self.stations_of(side).skip(holder).map(interest).max();
        match before().map(interest).max() {
            Some(Interest::Whole) => true,
            Some(Interest::Passing) => after <= Some(Interest::None),
            Some(Interest::None) | None => {
                before().any(|station| station.follows_trailers(side.direction))
                    && after <= Some(Interest::None)
            }
        }
    }

    /// Whether nobody wants to see again what the host holds of a body.
    fn is_unseen(&self, side: &Side) -> bool {
        let first = self
            .stations_of(side)
            .position(|station| station.exchange.lane(side.direction).has_body_now());
        let Some(first) = first else { return false };
        self.stations_of(side)
            .skip(first)
            .all(|station| station.interest(side.direction) == Interest::None)
    }

    /// Says where in the buffer of the host each filter has its bytes.
    fn place(&self, side: &Side) {
        let mut behind: usize = self.lanes(side).map(Lane::bytes).sum();
        let all = behind.saturating_add(side.out.get());
        let mut end = all;
        for lane in self.lanes(side) {
            behind = behind.saturating_sub(lane.bytes());
            let start = behind.saturating_add(side.out.get());
            lane.place(start, end == all);
            end = start;
        }
    }

    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    /// The filters in the order of a side.
    fn stations_of(&self, side: &Side) -> impl Iterator<Item = &Station> {
        (0..self.stations.len()).filter_map(|place| Some(self.station(side, place)?.1))
    }

    /// The filter at a place in the order of a side, and where it stands in that of requests.
    fn station(&self, side: &Side, place: usize) -> Option<(usize, &Station)> {
        let at = match side.direction {
            Direction::Request => place,
            Direction::Response => self.stations.len().checked_sub(1)?.checked_sub(place)?,
        };
        Some((at, self.stations.get(at)?))
    }

    fn lanes(&self, side: &Side) -> impl Iterator<Item = &Lane> {
        let direction = side.direction;
        self.stations_of(side).map(move |station| station.exchange.lane(direction))
    }

    fn lane(&self, side: &Side, place: usize) -> Option<&Lane> {
        self.station(side, place).map(|(_, station)| station.exchange.lane(side.direction))
    }
}
