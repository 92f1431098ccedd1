//! Lets connections of known protocols through, by the first bytes of the client, and no more bytes than
//! a connection may have.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::config::{AtLeastOne, present};
use tollgate::metrics::{Budget, Counters, Labels, StatsTags};
use tollgate::{
    CloseConnection, ConfigureError, DownstreamData, Filter, OnDownstreamClose, OnDownstreamData,
    PeerType, Root,
};

/// The configuration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What clients may speak.
    protocols: AtLeastOne<Protocol>,
    /// How many bytes a client may send on one connection; any number if it is left out.
    #[serde(default, deserialize_with = "present")]
    most_bytes: Option<NonZeroU32>,
}

/// A protocol whose clients begin with the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    /// TLS: a record with a `ClientHello`.
    Tls,
    /// SSH, version 2.
    Ssh,
    /// HTTP/2 without TLS.
    Http2,
}

impl Protocol {
    /// The first bytes of a client; `None` stands for any byte.
    ///
    /// Source: RFC 8446 (5.1, 4), RFC 4253 (4.2), RFC 9113 (3.4).
    fn preamble(self) -> Vec<Option<u8>> {
        let exactly = |bytes: &[u8]| bytes.iter().copied().map(Some).collect();
        match self {
            Self::Tls => vec![Some(0x16), Some(3), None, None, None, Some(1)],
            Self::Ssh => exactly(b"SSH-2.0-"),
            Self::Http2 => exactly(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Ssh => "ssh",
            Self::Http2 => "http2",
        }
    }
}

/// What a beginning is to the protocols that a client may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// That of this one.
    Is(Protocol),
    /// Perhaps that of one, with more bytes.
    May,
    /// That of none.
    IsNone,
}

impl Reading {
    fn of(begun: &[u8], protocols: &[Protocol]) -> Self {
        let fits = |protocol: &&Protocol| {
            let preamble = protocol.preamble();
            let mut pairs = preamble.iter().zip(begun);
            pairs.all(|(wanted, byte)| wanted.is_none_or(|wanted| wanted == *byte))
        };
        match protocols.iter().find(fits) {
            Some(protocol) if begun.len() >= protocol.preamble().len() => Self::Is(*protocol),
            Some(_) => Self::May,
            None => Self::IsNone,
        }
    }
}

/// No preamble is longer, and what follows it is not read.
const LONGEST: usize = 24;

/// The filter.
#[derive(Debug)]
pub struct Preamble {
    config: Config,
    connections: Counters<ByReading>,
}

/// What is known of a connection.
#[derive(Debug, Default)]
pub struct Known {
    /// The bytes that do not tell yet what the client speaks.
    begun: Vec<u8>,
    protocol: Option<Protocol>,
    bytes: u64,
    is_counted: bool,
}

#[derive(Debug)]
struct ByReading;

impl Labels for ByReading {
    const NAMES: &'static [&'static str] = &["protocol"];
    type Values<'a> = &'a str;
}

impl Preamble {
    fn refuse(&self, known: &mut Known, counted: &str, cause: &'static str) -> CloseConnection {
        self.count(known, counted);
        CloseConnection::because(cause)
    }

    fn count(&self, known: &mut Known, name: &str) {
        if !std::mem::replace(&mut known.is_counted, true) {
            self.connections.increment(name);
        }
    }
}

impl Filter for Preamble {
    const NAME: &'static str = "preamble";
    type Config = Config;
    type Stream = Known;
    const STATS_TAGS: StatsTags = StatsTags::of(&[ByReading::NAMES]);

    fn configure(config: Config, root: &Root) -> Result<Self, ConfigureError> {
        let connections = root.counters("tollgate_preamble_connections", Budget::new(8));
        Ok(Self { config, connections })
    }
}

impl OnDownstreamData for Preamble {
    fn on_downstream_data(
        &self,
        known: &mut Known,
        data: &mut DownstreamData,
    ) -> Result<(), CloseConnection> {
        known.bytes = known.bytes.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        if self.config.most_bytes.is_some_and(|most| known.bytes > most.get().into()) {
            self.connections.increment("too_long");
            return Err(CloseConnection::because("more bytes than a connection may have"));
        }
        if known.protocol.is_some() {
            return Ok(());
        }
        known.begun.extend(data.read(0..LONGEST)?);
        match Reading::of(&known.begun, self.config.protocols.as_slice()) {
            Reading::Is(protocol) => {
                self.count(known, protocol.name());
                known.protocol = Some(protocol);
                known.begun = Vec::new();
                Ok(())
            }
            // What has come is the beginning of a protocol that is allowed: it may go on.
            Reading::May if !data.is_last() => Ok(()),
            Reading::May | Reading::IsNone => {
                Err(self.refuse(known, "unknown", "not a protocol of this port"))
            }
        }
    }
}

impl OnDownstreamClose for Preamble {
    fn on_downstream_close(&self, known: &mut Known, _: PeerType) {
        self.count(known, "none");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_told_by_its_first_bytes() {
        let all = [Protocol::Tls, Protocol::Ssh, Protocol::Http2];
        let check = |begun: &[u8], expected| assert_eq!(Reading::of(begun, &all), expected);
        check(b"", Reading::May);
        check(b"\x16", Reading::May);
        check(b"\x16\x03\x01\x00\xc8", Reading::May);
        check(b"\x16\x03\x01\x00\xc8\x01", Reading::Is(Protocol::Tls));
        check(b"\x16\x03\x01\x00\xc8\x02", Reading::IsNone);
        check(b"\x16\x02", Reading::IsNone);
        check(b"SSH-2.0-OpenSSH_9.9\r\n", Reading::Is(Protocol::Ssh));
        check(b"SSH-1.5-", Reading::IsNone);
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Reading::May);
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reading::Is(Protocol::Http2));
        check(b"GET / HTTP/1.1\r\n", Reading::IsNone);
    }
}
