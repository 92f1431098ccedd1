//! What is said about a policy that no service can count.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tollgate::mode::Percent;

use super::super::InvalidPolicy;
use crate::quota::shown;

/// Why what is written is no [`GlobalPolicy`](super::GlobalPolicy). The text begins with the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidGlobalPolicy {
    /// It would not be one of the proxy's own either.
    Policy(InvalidPolicy),
    /// No service is named that would count.
    NoService,
    /// A service is waited for too shortly, or too long.
    Timeout {
        /// How long.
        timeout: Duration,
    },
    /// The proxy is to decide by itself, and nobody says how much of the limits is its own.
    NoShare,
    /// The proxy is to decide by itself, with nothing to give.
    ShareOfNothing,
    /// A share of a limit takes longer than any window to earn a whole window's requests.
    ShareTooSmall {
        /// The share.
        share: Percent,
        /// Where the rule stands.
        place: String,
    },
    /// There is a share, and the proxy never decides by itself.
    UnusedShare,
    /// A service cannot be told of a rule.
    Descriptor {
        /// Where the rule stands.
        place: String,
        /// Why not.
        problem: InvalidDescriptor,
    },
}

impl fmt::Display for InvalidGlobalPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(invalid) => write!(f, "{invalid}"),
            Self::NoService => f.write_str("service: missing"),
            Self::Timeout { timeout } => {
                write!(f, "service.timeout: {} is not between 1ms and 60s", shown(*timeout))
            }
            Self::NoShare => f.write_str("service.local_share: missing, for `on_error: local`"),
            Self::ShareOfNothing => f.write_str("service.local_share: 0% is not above 0%"),
            Self::ShareTooSmall { share, place } => write!(
                f,
                "service.local_share: {share} of the limit of {place} has a window above 366d"
            ),
            Self::UnusedShare => {
                f.write_str("service.local_share: only goes with `on_error: local`")
            }
            Self::Descriptor { place, problem } => write!(f, "{place}.{problem}"),
        }
    }
}

impl Error for InvalidGlobalPolicy {}

impl From<InvalidPolicy> for InvalidGlobalPolicy {
    fn from(invalid: InvalidPolicy) -> Self {
        Self::Policy(invalid)
    }
}

/// Why a rule cannot be told to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidDescriptor {
    /// It has a limit that nobody would hear of.
    UnusedLimit,
    /// It has overrides, and no limit.
    UnusedOverrides,
    /// It charges nothing, which the proxy by itself cannot.
    CheckWithoutService,
    /// Its limit is to be sent, and the protocol has no such limits.
    Unsendable,
    /// There are more or fewer names than values.
    Entries {
        /// How many names there are.
        found: usize,
        /// How many values there are.
        expected: usize,
    },
    /// Two values have one name.
    RepeatedEntry {
        /// The name.
        name: String,
    },
}

impl fmt::Display for InvalidDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnusedLimit => f.write_str(
                "limit: the service has its own; leave it out, or write `descriptor: { limit: true }` or \
                 `on_error: local`",
            ),
            Self::UnusedOverrides => f.write_str("overrides: there is no limit for them to be beside"),
            Self::CheckWithoutService => f.write_str(
                "descriptor.check: true does not go with `on_error: local`, which charges",
            ),
            Self::Unsendable => f.write_str(
                "descriptor.limit: only one limit can be sent, of up to 4294967295 requests per 1s, 1m, \
                 1h, 1d or 7d",
            ),
            Self::Entries { found, expected } => write!(
                f,
                "descriptor.entries: {found} names are not {expected}, one for each value of the key"
            ),
            Self::RepeatedEntry { name } => write!(
                f,
                "descriptor.entries: {name:?} names two values of the key; name each apart"
            ),
        }
    }
}
