//! Streams that are open: what has passed through each so far, and how much of it is counted.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::family::{Family, Series};
use crate::measure::Measure;

/// What has passed through a stream.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) request_messages: Amount,
    pub(crate) response_messages: Amount,
    pub(crate) received: Amount,
    pub(crate) sent: Amount,
}

/// A number that grows, and how much of it is counted.
#[derive(Debug, Default)]
pub(crate) struct Amount {
    total: Cell<u64>,
    counted: Cell<u64>,
}

impl Amount {
    pub(crate) fn add(&self, more: u64) {
        self.total.set(self.total.get().saturating_add(more));
    }

    pub(crate) fn set(&self, total: u64) {
        self.total.set(total);
    }

    /// What is not counted yet, which then is.
    fn take(&self) -> u64 {
        self.total.get().saturating_sub(self.counted.replace(self.total.get()))
    }
}

impl Tally {
    /// Whether nothing has passed.
    pub(crate) fn is_empty(&self) -> bool {
        // Each message has bytes.
        self.received.total.get() == 0 && self.sent.total.get() == 0
    }

    /// Counts what is not counted yet.
    pub(crate) fn count(&self, family: &Family, series: &Series) {
        family.count(series, |measure| match measure {
            Measure::RequestMessages => Some(self.request_messages.take()),
            Measure::ResponseMessages => Some(self.response_messages.take()),
            Measure::ReceivedBytes | Measure::TcpReceived => Some(self.received.take()),
            Measure::SentBytes | Measure::TcpSent => Some(self.sent.take()),
            Measure::Requests
            | Measure::Duration
            | Measure::FirstByte
            | Measure::Upstream
            | Measure::Overhead
            | Measure::RequestBytes
            | Measure::ResponseBytes
            | Measure::TcpOpened
            | Measure::TcpClosed => None,
        });
    }
}

/// The open streams of a worker, that are counted from time to time.
#[derive(Debug, Default)]
pub(crate) struct OpenStreams(RefCell<Vec<Place>>);

/// A stream, or room for one.
type Place = Option<(Rc<Tally>, Series)>;

/// The place of a stream among those that are open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenStream(usize);

impl OpenStreams {
    /// Has a stream counted from now on.
    pub(crate) fn insert(&self, tally: Rc<Tally>, series: Series) -> OpenStream {
        let mut places = self.0.borrow_mut();
        let stream = Some((tally, series));
        let free = places.iter().position(Option::is_none).unwrap_or(places.len());
        match places.get_mut(free) {
            Some(place) => *place = stream,
            None => places.push(stream),
        }
        OpenStream(free)
    }

    /// The stream is over: its series.
    pub(crate) fn remove(&self, stream: OpenStream) -> Option<Series> {
        let mut places = self.0.borrow_mut();
        let (_, series) = places.get_mut(stream.0)?.take()?;
        while let Some(None) = places.last() {
            places.pop();
        }
        Some(series)
    }

    /// Counts what has passed through all.
    pub(crate) fn count(&self, family: &Family) {
        for (tally, series) in self.0.borrow().iter().flatten() {
            tally.count(family, series);
        }
    }
}
