//! What comes to a proxy from outside, and what it does because of it, as values: a proxy on sockets is fed
//! by them, and so is one that plays a recording.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CalloutId, Event, Head, Incoming, Loader, Outgoing, Part, Run, StreamId};
use crate::proxy::{Configured, HostFailure};
use crate::recording::{RecordedFilter, lines};
use crate::scenario::HeaderLine;
use crate::tls::Secured;

/// A connection of a client with TLS: the first is 1, the next one 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConnectionId(pub(crate) u64);

/// The connections with TLS that are open.
#[derive(Debug, Default)]
pub(super) struct Connections {
    last: u64,
    open: BTreeMap<ConnectionId, Arc<Secured>>,
}

impl Connections {
    fn add(&mut self, secured: Secured) -> ConnectionId {
        self.last += 1;
        let id = ConnectionId(self.last);
        self.open.insert(id, Arc::new(secured));
        id
    }
}

/// What comes to a running proxy from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A client has shaken hands with TLS.
    Connect(Secured),
    /// Its connection is gone, with all that filters kept about it.
    Disconnect(ConnectionId),
    /// A client begins a request.
    Open {
        /// The worker that has its connection.
        worker: usize,
        /// Its connection, if that has TLS.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<ConnectionId>,
        /// How it begins.
        head: Head,
        /// Nothing follows.
        end: bool,
    },
    /// A client sends more of its request.
    Request(StreamId, Part),
    /// A client closes its connection.
    Leave(StreamId),
    /// An upstream begins its response.
    Answer {
        /// To which request.
        stream: StreamId,
        /// Status code.
        status: u16,
        /// Header lines.
        #[serde(with = "lines")]
        headers: Vec<HeaderLine>,
        /// Nothing follows.
        end: bool,
    },
    /// An upstream sends more of its response.
    Response(StreamId, Part),
    /// An upstream breaks its connection.
    Break(StreamId),
    /// Something comes back to a callout.
    Callout(CalloutId, Incoming),
    /// Time has passed, and nothing else.
    Time,
    /// A filter is exchanged, for new streams.
    Exchange {
        /// Its place in the chain.
        place: usize,
        /// What stands there from now on.
        filter: RecordedFilter,
    },
}

/// What the proxy does because of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// With a stream.
    Stream(StreamId, Event),
    /// With a callout.
    Callout(CalloutId, Outgoing),
    /// It refuses the filter that came, with these words, and goes on with the old one.
    Refused(String),
}

/// What an input came to at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fed {
    /// Nothing that has to be told.
    Taken,
    /// A connection with TLS is open.
    Connected(ConnectionId),
    /// A stream began.
    Began(StreamId),
    /// A filter was exchanged, or not.
    Exchanged(Configured),
}

impl Run {
    /// Lets time pass until `at`, and takes what comes then. The module of a filter that is exchanged is
    /// `loader`'s.
    ///
    /// # Errors
    ///
    /// [`HostFailure`] as [`Self::pass_until`] and [`Self::open`].
    pub fn feed(
        &mut self,
        at: Duration,
        input: Input,
        loader: &Loader<'_>,
    ) -> Result<Fed, HostFailure> {
        self.pass_until(at)?;
        match input {
            Input::Connect(secured) => return Ok(Fed::Connected(self.connections.add(secured))),
            Input::Disconnect(connection) => drop(self.connections.open.remove(&connection)),
            Input::Open { worker, connection, head, end } => {
                let tls = connection.and_then(|id| self.connections.open.get(&id)).cloned();
                return self.open_on(worker, tls.as_ref(), head, end).map(Fed::Began);
            }
            Input::Exchange { place, filter } => {
                let exchanged = self.exchange_filter(place, &filter, loader);
                return Ok(Fed::Exchanged(exchanged));
            }
            Input::Request(stream, part) => self.send_request(stream, part),
            Input::Leave(stream) => self.leave(stream),
            Input::Answer { stream, status, headers, end } => {
                self.begin_response(stream, status, headers, end);
            }
            Input::Response(stream, part) => self.send_response(stream, part),
            Input::Break(stream) => self.break_upstream(stream),
            Input::Callout(callout, incoming) => self.take_incoming(callout, incoming),
            Input::Time => {}
        }
        Ok(Fed::Taken)
    }

    /// The next thing that the proxy has done with a stream or a callout.
    pub fn next_output(&mut self) -> Option<Output> {
        match self.next_event() {
            Some((stream, event)) => Some(Output::Stream(stream, event)),
            None => self.next_outgoing().map(|(callout, sent)| Output::Callout(callout, sent)),
        }
    }
}
