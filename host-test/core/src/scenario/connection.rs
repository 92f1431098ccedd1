//! A connection of TCP: what client and upstream do, one after the other, and what each has got by then.
//!
//! Nothing happens at once. Each event is over, with all that filters make of it, before the next one
//! begins, so that the order of callbacks is the same on every host.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::code::{check_callouts, check_faults};
use super::expect::{Expectation, ExpectedOutcome};
use super::value::{Bytes, Matcher, Span};
use super::written::WordOr;
use super::{Fault, PlannedCallout};
use crate::clip::clip;
use crate::proxy::End;

/// The most bytes that are sent at once: as many as a filter of a real proxy sees in one callback.
const MOST_BYTES: usize = 32 << 10;

/// What filters stand in front of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Traffic {
    /// Requests of HTTP.
    #[default]
    Http,
    /// Connections of TCP.
    Tcp,
}

/// A connection through the proxy to the upstream, and what is expected.
#[derive(Clone, Debug)]
pub struct ConnectionStep {
    /// What happens, in order, once the client has connected. What is left of the connection then is
    /// broken: by the client, or if it has ended, by the upstream.
    pub events: Vec<Event>,
    /// How many connections there are, one after another.
    pub repeat: NonZeroUsize,
    /// The worker that gets it; in turn when not named.
    pub worker: Option<usize>,
    /// The peer that connects, when there are several.
    pub peer: Option<String>,
    /// What callouts meet meanwhile, in order per cluster.
    pub callouts: Vec<PlannedCallout>,
    /// Host calls that fail while it is there.
    pub faults: Vec<Fault>,
    /// What is expected besides what client and upstream get, which stands among the events.
    pub expect: Expectation,
}

/// One thing that happens to a connection.
#[derive(Clone, Debug)]
pub enum Event {
    /// The client does something.
    Client(Act),
    /// The upstream does something.
    Upstream(Act),
    /// Time passes.
    Advance(Duration),
    /// Nothing happens: it is looked at what has come.
    Expect(ExpectedEnds),
}

/// What one end of a connection does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It sends bytes.
    Send(Vec<u8>),
    /// It sends no more, and still listens.
    End,
    /// It is gone.
    Close,
    /// It breaks the connection.
    Reset,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(bytes) => {
                write!(f, "sends \"{}\"", clip(&bytes.escape_ascii()))
            }
            Self::End => f.write_str("ends"),
            Self::Close => f.write_str("closes"),
            Self::Reset => f.write_str("resets"),
        }
    }
}

/// What client and upstream are expected to have got since the connection began.
#[derive(Clone, Debug, Default)]
pub struct ExpectedEnds {
    /// The client.
    pub client: Option<ExpectedEnd>,
    /// The upstream.
    pub upstream: Option<ExpectedUpstreamEnd>,
}

/// What the upstream is expected to have got.
#[derive(Clone, Debug)]
pub enum ExpectedUpstreamEnd {
    /// Nothing: no connection has come to it.
    Nothing,
    /// A connection.
    Connection(ExpectedEnd),
}

/// What one end is expected to have got.
#[derive(Clone, Debug, Default)]
pub struct ExpectedEnd {
    /// All bytes so far.
    pub got: Option<Matcher>,
    /// How its side of the connection stands.
    pub end: Option<End>,
}

impl ConnectionStep {
    /// A connection to the worker whose turn it is, of which nothing is expected.
    pub fn new(events: Vec<Event>) -> Self {
        Self {
            events,
            repeat: NonZeroUsize::MIN,
            worker: None,
            peer: None,
            callouts: Vec::new(),
            faults: Vec::new(),
            expect: Expectation::default(),
        }
    }

    /// Checks a connection by itself.
    pub(super) fn check(&self) -> Result<(), String> {
        check_callouts(&self.callouts)?;
        check_faults(&self.faults)?;
        let (mut client, mut upstream) = (Speaker::default(), Speaker::default());
        for (index, event) in self.events.iter().enumerate() {
            let checked = match event {
                Event::Client(act) => client.check(act).map_err(|what| format!("client: {what}")),
                Event::Upstream(act) => {
                    upstream.check(act).map_err(|what| format!("upstream: {what}"))
                }
                Event::Advance(_) | Event::Expect(_) => Ok(()),
            };
            checked.map_err(|what| format!("connection[{index}].{what}"))?;
        }
        let is_handshake = matches!(self.expect.outcome, None | Some(ExpectedOutcome::Refused(_)));
        if !is_handshake || self.expect.upstream.is_some() {
            return Err("expect: what the ends of a connection get stands among its events; \
                        write there - expect: { client: …, upstream: … }"
                .into());
        }
        Ok(())
    }
}

/// What one end can still do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Speaker {
    #[default]
    Speaks,
    Listens,
    IsGone,
}

impl Speaker {
    fn check(&mut self, act: &Act) -> Result<(), String> {
        let next = match (*self, act) {
            (Self::IsGone, _) => return Err("it is gone and does nothing more".into()),
            (Self::Listens, Act::Send(_) | Act::End) => {
                return Err("it has ended, and can only close or reset".into());
            }
            (Self::Speaks, Act::Send(bytes)) if bytes.is_empty() => {
                return Err("sends: nothing; write at least one byte".into());
            }
            (Self::Speaks, Act::Send(bytes)) if bytes.len() > MOST_BYTES => {
                let bytes = bytes.len();
                return Err(format!("sends: {bytes} bytes are above the bound of {MOST_BYTES}"));
            }
            (Self::Speaks, Act::Send(_)) => Self::Speaks,
            (Self::Speaks, Act::End) => Self::Listens,
            (Self::Speaks | Self::Listens, Act::Close | Act::Reset) => Self::IsGone,
        };
        *self = next;
        Ok(())
    }
}

/// An event as it is written.
pub(super) struct RawEvent(Event);

impl RawEvent {
    pub(super) fn all(events: Vec<Self>) -> Vec<Event> {
        events.into_iter().map(|Self(event)| event).collect()
    }
}

impl<'de> Deserialize<'de> for RawEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            client: Option<RawAct>,
            upstream: Option<RawAct>,
            advance: Option<Span>,
            expect: Option<RawEnds>,
        }
        let fields = Fields::deserialize(deserializer)?;
        match (fields.client, fields.upstream, fields.advance, fields.expect) {
            (Some(RawAct(act)), None, None, None) => Ok(Self(Event::Client(act))),
            (None, Some(RawAct(act)), None, None) => Ok(Self(Event::Upstream(act))),
            (None, None, Some(Span(by)), None) => Ok(Self(Event::Advance(by))),
            (None, None, None, Some(ends)) => Ok(Self(Event::Expect(ends.check()?))),
            _ => Err(de::Error::custom(
                "an event is one of `client`, `upstream`, `advance` and `expect`",
            )),
        }
    }
}

struct RawAct(Act);

impl<'de> Deserialize<'de> for RawAct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            sends: Bytes,
        }
        Ok(Self(match WordOr::<Fields>::deserialize(deserializer)? {
            WordOr::Other(Fields { sends: Bytes(bytes) }) => Act::Send(bytes),
            WordOr::Word(word) => match word.as_str() {
                "ends" => Act::End,
                "closes" => Act::Close,
                "resets" => Act::Reset,
                _ => {
                    return Err(de::Error::custom(format!(
                        "`{word}`; write `ends`, `closes`, `resets` or {{ sends: … }}"
                    )));
                }
            },
        }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEnds {
    client: Option<RawEnd>,
    upstream: Option<WordOr<RawEnd>>,
}

impl RawEnds {
    fn check<E: de::Error>(self) -> Result<ExpectedEnds, E> {
        let upstream = match self.upstream {
            None => None,
            Some(WordOr::Other(end)) => Some(ExpectedUpstreamEnd::Connection(end.check())),
            Some(WordOr::Word(word)) if word == "none" => Some(ExpectedUpstreamEnd::Nothing),
            Some(WordOr::Word(word)) => {
                return Err(E::custom(format!(
                    "upstream: `{word}`; write `none` or {{ got: …, end: … }}"
                )));
            }
        };
        Ok(ExpectedEnds { client: self.client.map(RawEnd::check), upstream })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEnd {
    got: Option<Matcher>,
    end: Option<End>,
}

impl RawEnd {
    fn check(self) -> ExpectedEnd {
        ExpectedEnd { got: self.got, end: self.end }
    }
}
