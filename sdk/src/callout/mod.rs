//! Calling other services from a handler that waits for the answer.
//!
//! A call that is dropped is forgotten: its answer, should it come, goes nowhere. Only gRPC can be
//! cancelled at the host.

mod budget;
mod grpc;
mod hedge;
mod http;
mod pending;
mod single_flight;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tollgate_abi::Status;

pub use self::budget::{Backoff, Retry, RetryBudget};
pub use self::grpc::{GrpcCall, GrpcCode, GrpcReply, GrpcStream};
pub(crate) use self::grpc::{closed, initial_metadata, message, trailing_metadata};
pub use self::hedge::{Hedge, Hedged, Try};
pub(crate) use self::http::answered;
pub use self::http::{HttpCall, HttpReply};
pub(crate) use self::pending::kept;
pub use self::single_flight::SingleFlight;
use crate::headers::InvalidHeader;
use crate::host_error::HostError;
use crate::reply::LocalReply;

/// How long a call waits for its answer if it does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalloutError {
    /// It was not sent.
    NotSent(NotSent),
    /// The connection broke before the answer was whole.
    Reset {
        /// What the proxy says of it.
        message: String,
    },
    /// No answer came in time.
    Timeout,
    /// The proxy answered in place of the service, for example because nobody listens there.
    Proxy {
        /// Status code, such as 503.
        status: u16,
        /// What the proxy says of it.
        message: String,
    },
    /// The service answered a gRPC call with a status other than OK.
    Grpc {
        /// The status.
        code: GrpcCode,
        /// Its message.
        message: String,
    },
    /// The answer could not be read.
    Host(HostError),
}

/// Why a call was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The proxy has no such cluster.
    UnknownCluster {
        /// The name.
        cluster: String,
    },
    /// A header of the call is none.
    Header(InvalidHeader),
    /// The headers are larger than the ABI can carry.
    TooLarge,
    /// The timeout is longer than the proxy takes.
    TimeoutTooLong {
        /// What was asked for.
        timeout: Duration,
        /// The longest.
        longest: Duration,
    },
    /// The call failed at once, as the proxy knows it would, for example because a circuit breaker is
    /// open.
    FailedAtOnce,
    /// It was made outside of an asynchronous handler, where nothing would wait for the answer.
    OutsideOfTask,
    /// The host refused for a reason of its own.
    Host(HostError),
}

impl CalloutError {
    /// Whether a further attempt may have another outcome.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Reset { .. }
            | Self::Timeout
            | Self::Proxy { .. }
            | Self::NotSent(NotSent::FailedAtOnce) => true,
            Self::Grpc { code, .. } => code.is_transient(),
            Self::NotSent(_) | Self::Host(_) => false,
        }
    }
}

impl fmt::Display for CalloutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(reason) => write!(f, "the call was not sent: {reason}"),
            Self::Reset { message } => write!(f, "the connection broke: {message}"),
            Self::Timeout => f.write_str("no answer came in time"),
            Self::Proxy { status, message } => {
                write!(f, "the proxy answered itself with {status}: {message}")
            }
            Self::Grpc { code, message } => write!(f, "the service answered {code}: {message}"),
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCluster { cluster } => {
                write!(
                    f,
                    "the proxy has no cluster \"{}\"; name one that its configuration has, in Istio \
                     outbound|PORT||HOST",
                    cluster.escape_debug()
                )
            }
            Self::Header(error) => write!(f, "{error}"),
            Self::TooLarge => f.write_str("its headers do not fit 4 GiB"),
            Self::TimeoutTooLong { timeout, longest } => {
                write!(f, "timeout {timeout:?} is above {longest:?}")
            }
            Self::FailedAtOnce => f.write_str("it failed at once"),
            Self::OutsideOfTask => f.write_str("no asynchronous handler waits for its answer"),
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl Error for CalloutError {}
impl Error for NotSent {}

impl From<NotSent> for CalloutError {
    fn from(reason: NotSent) -> Self {
        Self::NotSent(reason)
    }
}

impl From<InvalidHeader> for NotSent {
    fn from(error: InvalidHeader) -> Self {
        Self::Header(error)
    }
}

impl From<CalloutError> for LocalReply {
    /// What a client gets whose request cannot be decided: 503.
    fn from(error: CalloutError) -> Self {
        Self::undecided(&error, "tollgate_callout_failed")
    }
}

impl NotSent {
    /// Why the host did not take a call to `cluster` whose parts are in order.
    fn refused(cluster: &str, error: HostError) -> Self {
        match error.status() {
            Some(Status::BadArgument | Status::ParseFailure | Status::NotFound) => {
                Self::UnknownCluster { cluster: cluster.to_owned() }
            }
            Some(Status::InternalFailure) => Self::FailedAtOnce,
            _ => Self::Host(error),
        }
    }
}

/// The longest timeout, about 24 days: Envoy reads the milliseconds as signed.
const LONGEST_TIMEOUT: Duration = Duration::from_millis(2_147_483_647);

/// A timeout as the host takes it, rounded up: 0 would mean none.
fn millis(timeout: Duration) -> Result<u32, NotSent> {
    let millis = timeout.as_nanos().div_ceil(1_000_000).max(1);
    u32::try_from(millis)
        .ok()
        .filter(|_| timeout <= LONGEST_TIMEOUT)
        .ok_or(NotSent::TimeoutTooLong { timeout, longest: LONGEST_TIMEOUT })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_rounded_up_and_never_none() {
        let check = |timeout, expected: Option<u32>| {
            assert_eq!(millis(timeout).ok(), expected, "{timeout:?}");
        };
        check(Duration::ZERO, Some(1));
        check(Duration::from_nanos(1), Some(1));
        check(Duration::from_micros(1_001), Some(2));
        check(Duration::from_secs(1), Some(1_000));
        check(LONGEST_TIMEOUT, Some(i32::MAX.unsigned_abs()));
        check(LONGEST_TIMEOUT + Duration::from_nanos(1), None);
        check(Duration::MAX, None);
    }
}
