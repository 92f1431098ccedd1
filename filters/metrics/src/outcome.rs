//! How a request went, in one word: whose fault it was that it did not go well, if it did not.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::flags::Flags;

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered as it should be.
    Success,
    /// The client is told that it asked for the wrong thing.
    ClientError,
    /// It failed, through no fault of the client.
    ServerError,
    /// The client was gone before the answer was whole.
    Disconnected,
}

impl Outcome {
    /// The word for labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Disconnected => "disconnected",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What counts as a failure of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    /// Statuses of HTTP.
    pub http: Vec<Statuses>,
    /// Statuses of gRPC.
    pub grpc: Vec<u32>,
}

impl Default for Failures {
    /// `5xx`; and of gRPC `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`.
    fn default() -> Self {
        Self { http: vec![Statuses { first: 500, last: 599 }], grpc: vec![2, 4, 13, 14, 15] }
    }
}

impl Failures {
    /// How a request went: by the status of HTTP, 0 without a response; by that of gRPC, if it is a request
    /// of gRPC that has one; and by what the proxy noted.
    pub fn judge(&self, code: i64, grpc: Option<i64>, flags: Flags) -> Outcome {
        if flags.is_disconnect() {
            return Outcome::Disconnected;
        }
        let code = u32::try_from(code).unwrap_or(0);
        let is_failure = self.http.iter().any(|statuses| statuses.contains(code));
        if code == 0 || is_failure || flags.is_broken() {
            return Outcome::ServerError;
        }
        match grpc.map(u32::try_from) {
            Some(Ok(0)) | None => {}
            // What is no status is none that the server should send.
            Some(Err(_)) => return Outcome::ServerError,
            Some(Ok(status)) if self.grpc.contains(&status) => return Outcome::ServerError,
            Some(Ok(_)) => return Outcome::ClientError,
        }
        if (400..500).contains(&code) { Outcome::ClientError } else { Outcome::Success }
    }
}

/// A status of HTTP such as `503`, or a class of them such as `5xx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Statuses {
    first: u32,
    last: u32,
}

impl Statuses {
    const fn contains(self, code: u32) -> bool {
        self.first <= code && code <= self.last
    }
}

impl TryFrom<String> for Statuses {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digit = |byte: u8| char::from(byte).to_digit(10);
        let found = match *text.as_bytes() {
            [class @ b'1'..=b'5', b'x', b'x'] => {
                digit(class).map(|class| class.saturating_mul(100)).map(|first| (first, 99))
            }
            [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => text.parse().ok().map(|code| (code, 0)),
            _ => None,
        };
        found.map(|(first, more)| Self { first, last: first.saturating_add(more) }).ok_or_else(
            || {
                format!(
                    "{text:?} is no status; write one such as \"503\", or a class such as \"5xx\""
                )
            },
        )
    }
}

impl JsonSchema for Statuses {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([1-5]xx|[1-9][0-9][0-9])$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: i64, grpc: Option<i64>, flags: i64, expected: Outcome) {
        assert_eq!(Failures::default().judge(code, grpc, Flags::new(flags)), expected);
    }

    #[test]
    fn a_request_went_in_one_of_four_ways() {
        check(200, None, 0, Outcome::Success);
        check(101, None, 0, Outcome::Success);
        check(302, None, 0, Outcome::Success);
        check(404, None, 0, Outcome::ClientError);
        check(503, None, 0, Outcome::ServerError);
        check(0, None, 0, Outcome::ServerError);
        check(0, None, 0x4000, Outcome::Disconnected);
        check(200, None, 0x4000, Outcome::Disconnected);
        check(200, None, 0x80_0000, Outcome::ServerError);
        check(200, Some(0), 0, Outcome::Success);
        check(200, Some(5), 0, Outcome::ClientError);
        check(200, Some(14), 0, Outcome::ServerError);
        check(200, Some(-1), 0, Outcome::ServerError);
    }

    #[test]
    fn what_is_a_failure_is_chosen() {
        let own = Failures { http: vec!["429".to_owned().try_into().unwrap()], grpc: vec![5] };
        assert_eq!(own.judge(429, None, Flags::default()), Outcome::ServerError);
        assert_eq!(own.judge(503, None, Flags::default()), Outcome::Success);
        assert_eq!(own.judge(200, Some(5), Flags::default()), Outcome::ServerError);
        assert!(Statuses::try_from("6xx".to_owned()).is_err());
    }
}
