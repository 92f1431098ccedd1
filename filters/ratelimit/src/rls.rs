//! The protocol of rate limit services, as much of it as a filter speaks: one request, one response.
//!
//! Not here: what a response means for a request.
//!
//! Source: `envoy/service/ratelimit/v3/rls.proto`; tests hold it to the messages of `envoy-types`.

#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tollgate::HeaderName;
use tollgate::protobuf::{Fields, InvalidMessage, Value, Writer};

use crate::config::{Descriptor, SentLimit};

/// The service.
pub(crate) const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
/// Its method.
pub(crate) const METHOD: &str = "ShouldRateLimit";

/// What a service is asked of one rule.
pub(crate) struct Asked<'a> {
    /// How it is told of the rule.
    pub(crate) descriptor: &'a Descriptor,
    /// The values of the key, in order.
    pub(crate) values: Vec<&'a [u8]>,
    /// The limit to go by.
    pub(crate) limit: Option<SentLimit>,
    /// How many requests are to be charged: 0 only asks.
    pub(crate) hits: u64,
}

/// A `RateLimitRequest`.
///
/// What most is charged stands in the request, and what differs from it in the descriptor: a service that
/// does not know the latter charges too much, and never too little. A request without hits is one of 1.
pub(crate) fn request(domain: &str, asked: &[Asked<'_>]) -> Vec<u8> {
    let most = asked.iter().map(|asked| asked.hits).max().unwrap_or_default();
    let most = most.clamp(1, u32::MAX.into());
    let request = Writer::new().bytes(1, domain.as_bytes());
    let request =
        asked.iter().fold(request, |request, asked| request.message(2, &asked.write(most)));
    request.number(3, most).finish()
}

impl Asked<'_> {
    /// A `RateLimitDescriptor` in a request of these hits.
    fn write(&self, hits: u64) -> Writer {
        let Descriptor { entries, .. } = self.descriptor;
        let mut descriptor = Writer::new();
        for (name, value) in entries.iter().zip(&self.values) {
            // Text is all that the protocol takes: other bytes count together.
            let value = String::from_utf8_lossy(value);
            let entry = Writer::new().bytes(1, name.as_bytes()).bytes(2, value.as_bytes());
            descriptor = descriptor.message(1, &entry);
        }
        if let Some(SentLimit { requests, unit }) = self.limit {
            let limit = Writer::new().number(1, requests.into()).number(2, unit.into());
            descriptor = descriptor.message(2, &limit);
        }
        if self.hits != hits {
            descriptor = descriptor.message(3, &Writer::new().number(1, self.hits));
        }
        descriptor
    }
}

/// A `RateLimitResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) overall: Code,
    /// Of each descriptor, in order; of some or all services do without.
    pub(crate) statuses: Vec<DescriptorStatus>,
    pub(crate) said: Said,
    /// Lines for the request.
    pub(crate) request_headers: Lines,
}

/// What a service has the client told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Lines for the response.
    pub(crate) headers: Lines,
    /// The body of a refusal.
    pub(crate) body: Vec<u8>,
}

impl Said {
    /// Whether the service tells the client of limits itself.
    pub(crate) fn tells_of_limits(&self) -> bool {
        let is_field =
            |name: &str| name.strip_prefix("x-").unwrap_or(name).starts_with("ratelimit");
        self.headers.iter().any(|(name, _)| is_field(name.as_str()))
    }
}

/// Header lines that may be added.
pub(crate) type Lines = Vec<(HeaderName, Vec<u8>)>;

/// A verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Code {
    /// None, or one that this protocol does not have.
    #[default]
    Unknown,
    Ok,
    OverLimit,
}

/// A `DescriptorStatus`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DescriptorStatus {
    pub(crate) code: Code,
    pub(crate) limit: Option<CurrentLimit>,
    pub(crate) remaining: u64,
    pub(crate) until_reset: Option<Duration>,
}

/// A `RateLimit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CurrentLimit {
    pub(crate) requests: u64,
    /// Zero when the service does not say.
    pub(crate) per: Duration,
}

impl Response {
    /// Reads a message. Fields that are not known are passed over.
    ///
    /// # Errors
    ///
    /// [`InvalidResponse`] when it is no message, or has something in it that cannot be.
    pub(crate) fn read(message: &[u8]) -> Result<Self, InvalidResponse> {
        let mut response = Self::default();
        for field in Fields::of(message) {
            match field? {
                (1, Value::Varint(code)) => response.overall = Code::of(code),
                (2, Value::Bytes(status)) => {
                    response.statuses.push(DescriptorStatus::read(status)?);
                }
                (3, Value::Bytes(line)) => response.said.headers.push(header_line(line)?),
                (4, Value::Bytes(line)) => response.request_headers.push(header_line(line)?),
                (5, Value::Bytes(body)) => response.said.body = body.to_vec(),
                (number @ 1..=5, _) => return Err(InvalidResponse::Kind { number }),
                _ => {}
            }
        }
        Ok(response)
    }
}

impl Code {
    fn of(number: u64) -> Self {
        match number {
            1 => Self::Ok,
            2 => Self::OverLimit,
            _ => Self::Unknown,
        }
    }
}

impl DescriptorStatus {
    fn read(message: &[u8]) -> Result<Self, InvalidResponse> {
        let mut status = Self::default();
        for field in Fields::of(message) {
            match field? {
                (1, Value::Varint(code)) => status.code = Code::of(code),
                (2, Value::Bytes(limit)) => status.limit = Some(CurrentLimit::read(limit)?),
                (3, Value::Varint(remaining)) => status.remaining = remaining,
                (4, Value::Bytes(duration)) => status.until_reset = Some(read_duration(duration)?),
                (number @ 1..=4, _) => return Err(InvalidResponse::Kind { number }),
                _ => {}
            }
        }
        Ok(status)
    }
}

impl CurrentLimit {
    fn read(message: &[u8]) -> Result<Self, InvalidResponse> {
        let mut limit = Self::default();
        for field in Fields::of(message) {
            match field? {
                (1, Value::Varint(requests)) => limit.requests = requests,
                (2, Value::Varint(unit)) => limit.per = unit_of(unit),
                (number @ 1..=2, _) => return Err(InvalidResponse::Kind { number }),
                _ => {}
            }
        }
        Ok(limit)
    }
}

/// How long the unit of a `RateLimit` is: it counts months before years, and weeks last.
fn unit_of(number: u64) -> Duration {
    const DAY: u64 = 24;
    match number {
        1 => Duration::from_secs(1),
        2 => Duration::from_mins(1),
        3 => Duration::from_hours(1),
        4 => Duration::from_hours(DAY),
        5 => Duration::from_hours(30 * DAY),
        6 => Duration::from_hours(365 * DAY),
        7 => Duration::from_hours(7 * DAY),
        _ => Duration::ZERO,
    }
}

/// A `google.protobuf.Duration`; what is negative is over.
fn read_duration(message: &[u8]) -> Result<Duration, InvalidResponse> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::of(message) {
        match field? {
            (1, Value::Varint(value)) => seconds = i64::from_le_bytes(value.to_le_bytes()),
            (2, Value::Varint(value)) => nanos = i64::from_le_bytes(value.to_le_bytes()),
            (number @ 1..=2, _) => return Err(InvalidResponse::Kind { number }),
            _ => {}
        }
    }
    let nanos = Duration::from_nanos(u64::try_from(nanos).unwrap_or_default());
    Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()).saturating_add(nanos))
}

/// A `HeaderValue`: its value is text or bytes.
fn header_line(message: &[u8]) -> Result<(HeaderName, Vec<u8>), InvalidResponse> {
    let (mut name, mut line): (&[u8], &[u8]) = (&[], &[]);
    for field in Fields::of(message) {
        match field? {
            (1, Value::Bytes(text)) => name = text,
            (2 | 3, Value::Bytes(value)) => line = value,
            (number @ 1..=3, _) => return Err(InvalidResponse::Kind { number }),
            _ => {}
        }
    }
    let name = str::from_utf8(name).ok().and_then(|name| HeaderName::new(name).ok());
    match name {
        Some(name) if !line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) => {
            Ok((name, line.to_vec()))
        }
        Some(_) | None => Err(InvalidResponse::Header),
    }
}

/// Why bytes are no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidResponse {
    /// They are no message.
    Message(InvalidMessage),
    /// A field is of another type than it has.
    Kind {
        /// The field's number.
        number: u32,
    },
    /// A header to be added that cannot be.
    Header,
}

impl fmt::Display for InvalidResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(invalid) => write!(f, "{invalid}"),
            Self::Kind { number } => write!(f, "field {number} has another type"),
            Self::Header => f.write_str("it has a header line that is none"),
        }
    }
}

impl Error for InvalidResponse {}

impl From<InvalidMessage> for InvalidResponse {
    fn from(invalid: InvalidMessage) -> Self {
        Self::Message(invalid)
    }
}
