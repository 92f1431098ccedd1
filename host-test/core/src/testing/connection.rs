//! Connections of TCP that a test opens through a proxy, and what came of them.

use std::fmt;
use std::time::Duration;

use crate::proxy::{self, End, LogLine};
use crate::scenario::{Act, ConnectionStep, Event, Fault, Meets, PlannedCallout};
use crate::tls::Alert;
use crate::transcript::Entry;
use tollgate_abi::Function;

use super::bytes::Bytes;
use super::exchange::{Callout, Meanwhile};
use super::proxy::{PlayError, Proxy};

/// A connection that a client is about to open, and what happens to it, one event after the other: each is
/// over, with all that filters make of it, before the next one begins. What is left of the connection then is
/// broken: by the client, or if it has ended, by the upstream.
#[derive(Debug)]
#[must_use = "a connection is there with `run`"]
pub struct Connect<'p> {
    proxy: &'p mut Proxy,
    step: ConnectionStep,
}

impl<'p> Connect<'p> {
    pub(super) fn new(proxy: &'p mut Proxy) -> Self {
        Self { proxy, step: ConnectionStep::new(Vec::new()) }
    }

    /// The client sends bytes.
    pub fn client_sends(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.client(Act::Send(bytes.into()))
    }

    /// The upstream sends bytes.
    pub fn upstream_sends(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.upstream(Act::Send(bytes.into()))
    }

    /// The client does something: it may also end, close or reset.
    pub fn client(self, does: Act) -> Self {
        self.event(Event::Client(does))
    }

    /// The upstream does something: it may also end, close or reset.
    pub fn upstream(self, does: Act) -> Self {
        self.event(Event::Upstream(does))
    }

    /// Time passes.
    pub fn advance(self, by: Duration) -> Self {
        self.event(Event::Advance(by))
    }

    /// Chooses the worker, counted from 0.
    pub fn worker(mut self, worker: usize) -> Self {
        self.step.worker = Some(worker);
        self
    }

    /// Chooses the client that connects, as for a request.
    pub fn peer(mut self, name: impl Into<String>) -> Self {
        self.step.peer = Some(name.into());
        self
    }

    /// Plans a callout, and says what it meets, as for a request.
    pub fn callout(mut self, cluster: impl Into<String>, meets: impl Into<Meets>) -> Self {
        self.step.callouts.push(PlannedCallout::new(cluster, meets));
        self
    }

    /// Lets host calls fail while the connection is there.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.step.faults.push(fault);
        self
    }

    /// Opens the connection, and sees it to its end.
    ///
    /// # Errors
    ///
    /// [`PlayError`] when filters did not make exactly the callouts that are planned, when the upstream was
    /// to do something and no connection came to it, or when the host cannot tell what Envoy would do.
    pub fn run(self) -> Result<Connection, PlayError> {
        self.proxy.open(&self.step)
    }

    fn event(mut self, event: Event) -> Self {
        self.step.events.push(event);
        self
    }
}

/// What came of a connection: what client and upstream got, what filters logged and what they called.
///
/// It prints what both saw; with `{:#}` it prints every callback and host call as well.
pub struct Connection {
    worker: usize,
    /// Before the first event, and after each.
    moments: Vec<Moment>,
    refused: Option<Alert>,
    cost: proxy::Cost,
    meanwhile: Meanwhile,
}

/// How a connection stands.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    client: Side,
    upstream: Option<Side>,
}

/// A connection as one end of it sees it.
#[derive(Clone, Debug, Default)]
pub struct Side(proxy::Side);

impl Connection {
    pub(super) fn new(
        events: usize,
        worker: usize,
        conversation: proxy::Conversation,
        logs: Vec<LogLine>,
        transcript: Vec<Entry>,
    ) -> Self {
        let proxy::Conversation { moments, callouts, cost, refused } = conversation;
        // The last one, when all is over, is no event of the test's.
        let moments = moments.into_iter().take(events.saturating_add(1));
        let moment = |proxy::Moment { client, upstream }| Moment {
            client: Side(client),
            upstream: upstream.map(Side),
        };
        Self {
            worker,
            moments: moments.map(moment).collect(),
            refused,
            cost: cost.unwrap_or_default(),
            meanwhile: Meanwhile::new(callouts, logs, transcript),
        }
    }

    /// The alert with which the proxy refused the client's handshake; `None` when it let it in.
    pub fn refused(&self) -> Option<Alert> {
        self.refused
    }

    /// What the client has got after the last event.
    pub fn client(&self) -> &Side {
        self.last().client()
    }

    /// What the upstream has got after the last event; `None` when no connection has come to it.
    pub fn upstream(&self) -> Option<&Side> {
        self.last().upstream()
    }

    /// How the connection stands after so many events; after 0, the client has connected.
    pub fn after(&self, events: usize) -> &Moment {
        self.moments.get(events).unwrap_or_else(|| self.last())
    }

    /// The callouts that filters made, in the order in which they were planned.
    pub fn callouts(&self) -> &[Callout] {
        self.meanwhile.callouts()
    }

    /// What filters logged.
    pub fn logs(&self) -> &[LogLine] {
        self.meanwhile.logs()
    }

    /// Whether a log line contains this text.
    pub fn logged(&self, text: &str) -> bool {
        self.meanwhile.logged(text)
    }

    /// The worker that served it.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// How many host calls filters made.
    pub fn host_calls(&self) -> u64 {
        self.cost.host_calls
    }

    /// How often filters called one function of the host.
    pub fn calls_of(&self, function: Function) -> usize {
        self.meanwhile.calls_of(function)
    }

    /// Everything that crossed the border between proxy and filters, in order.
    pub fn transcript(&self) -> &[Entry] {
        self.meanwhile.transcript()
    }

    fn last(&self) -> &Moment {
        const NOTHING: &Moment = &Moment {
            client: Side(proxy::Side { got: Vec::new(), end: End::Open }),
            upstream: None,
        };
        self.moments.last().unwrap_or(NOTHING)
    }
}

impl Moment {
    /// What the client has got.
    pub fn client(&self) -> &Side {
        &self.client
    }

    /// What the upstream has got; `None` when no connection has come to it.
    pub fn upstream(&self) -> Option<&Side> {
        self.upstream.as_ref()
    }
}

impl Side {
    /// All bytes since the connection began.
    pub fn got(&self) -> Bytes<'_> {
        Bytes::new(&*self.0.got)
    }

    /// Whether more may come.
    pub fn end(&self) -> End {
        self.0.end
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(alert) = self.refused {
            writeln!(f, "client of worker {} was refused: {alert}", self.worker)?;
        } else {
            writeln!(f, "client of worker {} got {}", self.worker, self.client())?;
        }
        match self.upstream() {
            Some(side) => writeln!(f, "upstream got {side}")?,
            None => writeln!(f, "upstream got no connection")?,
        }
        write!(f, "{} host calls", self.cost.host_calls)?;
        self.meanwhile.fmt_after(f)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, and it is {}", self.got(), self.end())
    }
}

/// As it is displayed, for tests that fail.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
