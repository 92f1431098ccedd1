//! How much a key may spend: a rate and a burst, held as the two numbers that the decision needs.
//!
//! Not here: what a key has spent ([`crate::gcra`]) and how a quota is written ([`crate::config`]).

use std::error::Error;
use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::time::Duration;

use tollgate::mode::Percent;

/// The shortest window a rate may be stated over.
pub const SHORTEST_WINDOW: Duration = Duration::from_millis(1);

/// The longest window a rate may be stated over, and the longest time that a burst may take to be
/// earned back.
pub const LONGEST_WINDOW: Duration = Duration::from_hours(366 * 24);

/// The fastest rate is one request in this many nanoseconds, so that rounding the interval up to
/// whole nanoseconds takes at most 0.1 % off the rate.
pub const SHORTEST_INTERVAL_NANOS: NonZeroU64 = NonZeroU64::new(1_000).unwrap();

/// A rate, and how far a key may run ahead of it.
///
/// A key that has been idle may spend `burst` requests at once; after that, one request becomes
/// free each *emission interval*: the window divided by the requests, rounded up to nanoseconds.
/// Rounding up means that a quota never admits more than was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    requests: NonZeroU64,
    per: Duration,
    interval_nanos: NonZeroU64,
    burst: NonZeroU64,
    tolerance_nanos: u64,
}

impl Quota {
    /// A quota of `requests` per window `per`; without a `burst`, a whole window's requests may
    /// come at once.
    ///
    /// Bounds: `per` is from 1 ms to 366 days; `requests` is from 1 to one per microsecond of
    /// `per`; `burst` is from 1 to what the rate earns in 366 days.
    ///
    /// # Errors
    ///
    /// [`InvalidQuota`] names the number that is out of bounds, and the bound.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tollgate_ratelimit::quota::Quota;
    /// let quota = Quota::new(100, Duration::from_secs(60), Some(20))?;
    /// assert_eq!(quota.interval(), Duration::from_millis(600));
    /// # Ok::<(), tollgate_ratelimit::quota::InvalidQuota>(())
    /// ```
    pub fn new(requests: u64, per: Duration, burst: Option<u64>) -> Result<Self, InvalidQuota> {
        let Some(rate) = NonZeroU64::new(requests) else {
            return Err(InvalidQuota::NoRequests);
        };
        let Some(window_nanos) = window_nanos(per) else {
            return Err(InvalidQuota::WindowOutOfBounds { per });
        };
        let most = window_nanos.get() / SHORTEST_INTERVAL_NANOS;
        if requests > most {
            return Err(InvalidQuota::RateTooHigh { requests, per, most });
        }
        let Some(burst) = NonZeroU64::new(burst.unwrap_or(requests)) else {
            return Err(InvalidQuota::NoBurst);
        };
        let most = earned_in_longest_window(rate, window_nanos);
        if burst.get() > most {
            return Err(InvalidQuota::BurstTooLarge { burst: burst.get(), most });
        }
        let interval_nanos = window_nanos.div_ceil(rate);
        // The bounds keep this below 367 days: it cannot saturate.
        let tolerance_nanos = burst.saturating_mul(interval_nanos).get();
        Ok(Self { requests: rate, per, interval_nanos, burst, tolerance_nanos })
    }

    /// This share of the quota: as many requests over a longer window, and as much of the burst, rounded
    /// down, but for one request.
    ///
    /// # Errors
    ///
    /// [`InvalidQuota`] when the window becomes too long.
    pub fn shared(&self, share: Percent) -> Result<Self, InvalidQuota> {
        let (part, whole) = (u128::from(share.millionths()), u128::from(Percent::ALL.millionths()));
        let nanos = self.per.as_nanos().saturating_mul(whole);
        // Rounded up: a share is never more than was written.
        let nanos =
            NonZeroU128::new(part).and_then(|part| u64::try_from(nanos.div_ceil(part.get())).ok());
        let nanos = nanos.unwrap_or(u64::MAX);
        let burst = u128::from(self.burst.get()).saturating_mul(part).checked_div(whole);
        let burst = burst.and_then(|burst| u64::try_from(burst).ok()).unwrap_or_default().max(1);
        Self::new(self.requests.get(), Duration::from_nanos(nanos), Some(burst))
    }

    /// How many requests a key may make per window.
    pub fn requests(&self) -> NonZeroU64 {
        self.requests
    }

    /// The window.
    pub fn per(&self) -> Duration {
        self.per
    }

    /// The time in which one request becomes free.
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval_nanos.get())
    }

    /// How many requests a key that has been idle may make at once.
    pub fn burst(&self) -> NonZeroU64 {
        self.burst
    }

    /// [`Self::interval`], in nanoseconds.
    pub(crate) fn interval_nanos(&self) -> NonZeroU64 {
        self.interval_nanos
    }

    /// The time in which a whole burst becomes free, in nanoseconds: below 2^55.
    pub(crate) fn tolerance_nanos(&self) -> u64 {
        self.tolerance_nanos
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, burst, per, .. } = self;
        write!(f, "{requests} in {}, {burst} at once", shown(*per))
    }
}

/// Why numbers make no [`Quota`]; the text starts with the field that has to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidQuota {
    /// No request would ever be admitted.
    NoRequests,
    /// The window is shorter than [`SHORTEST_WINDOW`] or longer than [`LONGEST_WINDOW`].
    WindowOutOfBounds {
        /// The window asked for.
        per: Duration,
    },
    /// The rate is above one request per microsecond.
    RateTooHigh {
        /// The requests asked for.
        requests: u64,
        /// The window asked for.
        per: Duration,
        /// The most requests that this window takes.
        most: u64,
    },
    /// Not even one request could be made at once.
    NoBurst,
    /// At this rate the burst takes longer than [`LONGEST_WINDOW`] to be earned back.
    BurstTooLarge {
        /// The burst asked for.
        burst: u64,
        /// The largest burst at this rate.
        most: u64,
    },
}

impl fmt::Display for InvalidQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRequests => write!(f, "requests: 0 is not at least 1"),
            Self::WindowOutOfBounds { per } => {
                write!(f, "per: {} is not between 1ms and 366d", shown(*per))
            }
            Self::RateTooHigh { requests, per, most } => write!(
                f,
                "requests: {requests} is not at most {most}, one per microsecond of {}",
                shown(*per)
            ),
            Self::NoBurst => write!(f, "burst: 0 is not at least 1"),
            Self::BurstTooLarge { burst, most } => {
                write!(f, "burst: {burst} is not at most {most}, what this rate earns in 366 days")
            }
        }
    }
}

impl Error for InvalidQuota {}

/// A window in whole seconds, or else in whole milliseconds: it is written in these.
pub(crate) fn shown(per: Duration) -> String {
    let (number, unit) = match per.subsec_millis() {
        0 => (per.as_secs(), "s"),
        _ => (u64::try_from(per.as_millis()).unwrap_or(u64::MAX), "ms"),
    };
    [&number.to_string(), unit].concat()
}

fn window_nanos(per: Duration) -> Option<NonZeroU64> {
    if (SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&per) {
        u64::try_from(per.as_nanos()).ok().and_then(NonZeroU64::new)
    } else {
        None
    }
}

fn earned_in_longest_window(rate: NonZeroU64, window_nanos: NonZeroU64) -> u64 {
    let requests_by_nanos = LONGEST_WINDOW.as_nanos().saturating_mul(u128::from(rate.get()));
    u64::try_from(requests_by_nanos / NonZeroU128::from(window_nanos)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_hours(24);

    /// `expected` is the interval in nanoseconds and the burst, or the error's text.
    fn check(requests: u64, per: Duration, burst: Option<u64>, expected: Result<(u64, u64), &str>) {
        let found = Quota::new(requests, per, burst)
            .map(|quota| (quota.interval_nanos().get(), quota.burst().get()))
            .map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{requests} per {per:?}, {burst:?}");
    }

    #[test]
    fn a_rate_becomes_an_interval_and_the_burst_defaults_to_the_rate() {
        let second = Duration::from_secs(1);
        check(2, second, None, Ok((500_000_000, 2)));
        check(2, second, Some(1), Ok((500_000_000, 1)));
        check(1, 366 * DAY, None, Ok((31_622_400_000_000_000, 1)));
        check(1_000, Duration::from_millis(1), None, Ok((1_000, 1_000)));
    }

    #[test]
    fn an_interval_is_rounded_up_so_that_nothing_is_admitted_too_early() {
        check(3, Duration::from_secs(1), None, Ok((333_333_334, 3)));
        check(999_999, Duration::from_secs(1), None, Ok((1_001, 999_999)));
    }

    #[test]
    fn numbers_out_of_bounds_are_named_with_their_bound() {
        let second = Duration::from_secs(1);
        check(0, second, None, Err("requests: 0 is not at least 1"));
        check(1, second, Some(0), Err("burst: 0 is not at least 1"));
        check(1, Duration::ZERO, None, Err("per: 0s is not between 1ms and 366d"));
        check(1, 367 * DAY, None, Err("per: 31708800s is not between 1ms and 366d"));
        check(
            1_001,
            Duration::from_millis(1),
            None,
            Err("requests: 1001 is not at most 1000, one per microsecond of 1ms"),
        );
        check(1, DAY, Some(366), Ok((86_400_000_000_000, 366)));
        check(
            1,
            DAY,
            Some(367),
            Err("burst: 367 is not at most 366, what this rate earns in 366 days"),
        );
    }

    proptest! {
        #[test]
        fn any_numbers_make_a_quota_that_is_never_faster_than_written(
            requests in prop_oneof![any::<u64>(), 0..2_000_000_u64],
            per in prop_oneof![any::<u64>(), 0..40_000_000_000_000_000_u64],
            burst in proptest::option::of(prop_oneof![any::<u64>(), 0..2_000_000_u64]),
        ) {
            if let Ok(quota) = Quota::new(requests, Duration::from_nanos(per), burst) {
                let interval = u128::from(quota.interval_nanos().get());
                prop_assert!(interval * u128::from(requests) >= u128::from(per));
                prop_assert!((interval - 1) * u128::from(requests) < u128::from(per));
                let tolerance = interval * u128::from(quota.burst().get());
                prop_assert_eq!(u128::from(quota.tolerance_nanos()), tolerance);
                prop_assert!(tolerance < 1 << 55);
            }
        }
    }
}
