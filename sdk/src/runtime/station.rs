//! A stream at one filter of a module, and each direction of it.

use std::cell::Cell;
use std::rc::Rc;

use super::lane::Kind;
use super::{Bodies, Direction, Exchange, Lane, Link, Position};
use crate::dispatch::Phases;
use crate::dispatch::bodies::{Part, Passage};
use crate::ending::ResetStream;
use crate::live::{RequestHeaders, ResponseHeaders};
use crate::reply::LocalReply;

/// A stream at one filter.
pub(super) struct Station {
    pub(super) exchange: Rc<Exchange>,
    /// `None` while a callback has it.
    pub(super) link: Cell<Option<Box<dyn Link>>>,
    pub(super) phases: Phases,
    /// The request has come here.
    pub(super) is_reached: Cell<bool>,
}

/// One direction of a stream.
pub(super) struct Side {
    pub(super) direction: Direction,
    /// Bytes of the body that have passed all filters, and that the host has.
    pub(super) out: Cell<usize>,
    /// Callbacks of it that run, each of which says itself what becomes of it.
    pub(super) callbacks: Cell<u32>,
    /// What came last.
    pub(super) last: Cell<Kind>,
    /// The host holds it.
    pub(super) is_held: Cell<bool>,
    /// Nothing of it goes on any more.
    pub(super) is_dead: Cell<bool>,
}

/// What a filter wants of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Interest {
    None,
    /// To see it pass.
    Passing,
    /// To hold it, up to a limit of its own.
    Whole,
}

/// How a filter ends a response.
pub(super) enum Ending {
    Reply(LocalReply),
    Reset(ResetStream),
}

impl Station {
    pub(super) fn new(link: Box<dyn Link>) -> Self {
        let phases = link.phases();
        Self {
            exchange: Rc::new(Exchange::new(phases.exchange.unwrap_or_default())),
            link: Cell::new(Some(link)),
            phases,
            is_reached: Cell::new(false),
        }
    }

    /// Shows a piece to the filter, which has no asynchronous handler: gives how far it lets the side go.
    /// `None` where the filter is at work.
    pub(super) fn show(
        &self,
        direction: Direction,
        kind: Kind,
    ) -> Option<Result<Position, Ending>> {
        let lane = self.exchange.lane(direction);
        let mut link = self.link.take()?;
        let outcome = match direction {
            Direction::Request => show_request(&mut *link, lane, kind).map_err(Ending::Reply),
            Direction::Response => show_response(&mut *link, lane, kind),
        };
        self.link.set(Some(link));
        Some(outcome)
    }

    pub(super) fn interest(&self, direction: Direction) -> Interest {
        let (takes, holds) = match direction {
            Direction::Request => (self.phases.request_body, self.phases.holds_request),
            Direction::Response => (self.phases.response_body, self.phases.holds_response),
        };
        let follows = self.exchange.bodies != Bodies::Untouched
            && self.exchange.lane(direction).position() != Position::Passed;
        match (holds, takes || follows) {
            (true, _) => Interest::Whole,
            (false, true) => Interest::Passing,
            (false, false) => Interest::None,
        }
    }

    pub(super) fn follows_trailers(&self, direction: Direction) -> bool {
        match direction {
            Direction::Request => self.phases.request_trailers,
            Direction::Response => self.phases.response_trailers,
        }
    }
}

impl Side {
    pub(super) fn new(direction: Direction) -> Self {
        Self {
            direction,
            out: Cell::new(0),
            callbacks: Cell::new(0),
            last: Cell::new(Kind::Headers),
            is_held: Cell::new(false),
            is_dead: Cell::new(false),
        }
    }

    /// It goes on: what comes next is a buffer of its own.
    pub(super) fn release(&self) {
        self.is_held.set(false);
        self.out.set(0);
    }
}

/// Shows a piece of a request to a filter without an asynchronous handler; gives how far it lets the
/// request go.
fn show_request(link: &mut dyn Link, lane: &Lane, kind: Kind) -> Result<Position, LocalReply> {
    match kind {
        Kind::Headers => {
            link.on_request_headers(&mut RequestHeaders::new(lane.ends_with_headers()))?;
        }
        Kind::Body => {
            let part = Part { window: lane.window(), is_last: lane.has_ended() };
            return link.on_request_body(part).map(|passage| passed(lane, passage));
        }
        Kind::Trailers => lane.resized(link.on_request_trailers(lane.window())?),
    }
    Ok(Position::Passed)
}

/// Shows a piece of a response.
fn show_response(link: &mut dyn Link, lane: &Lane, kind: Kind) -> Result<Position, Ending> {
    match kind {
        Kind::Headers => {
            link.on_response_headers(&mut ResponseHeaders::new(lane.ends_with_headers()))
                .map_err(Ending::Reply)?;
        }
        Kind::Body => {
            let part = Part { window: lane.window(), is_last: lane.has_ended() };
            let passage = link.on_response_body(part).map_err(Ending::Reset)?;
            return Ok(passed(lane, passage));
        }
        Kind::Trailers => {
            lane.resized(link.on_response_trailers(lane.window()).map_err(Ending::Reset)?);
        }
    }
    Ok(Position::Passed)
}

fn passed(lane: &Lane, passage: Passage) -> Position {
    match passage {
        Passage::Open(len) => {
            lane.resized(len);
            Position::Passed
        }
        Passage::Held => Position::Body,
    }
}
