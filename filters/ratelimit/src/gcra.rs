//! The decision: whether a key may spend now, from one number per key.
//!
//! The generic cell rate algorithm keeps a key's *theoretical arrival time*: the instant at which
//! everything it has spent will be earned back. Spending moves that instant ahead by one emission
//! interval; it may not run further ahead of now than a whole burst takes. There is no counter to
//! reset and no timer to run, and what is left and how long to wait follow from the same number.
//!
//! Not here: where that number is kept ([`crate::table`]) and who reads the clock.
//!
//! Source: ITU-T I.371, "virtual scheduling algorithm".

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::quota::Quota;

/// An instant of the wall clock, in nanoseconds since the Unix epoch.
///
/// It ends in the year 2262, so that adding a [`Quota`]'s times to it cannot overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixNanos(u64);

impl UnixNanos {
    /// The latest instant; a clock that passes it stands still.
    pub const MAX: Self = Self(u64::MAX >> 1);

    /// The instant this many nanoseconds after the Unix epoch, at most [`Self::MAX`].
    pub const fn new(nanos: u64) -> Self {
        if nanos < Self::MAX.0 { Self(nanos) } else { Self::MAX }
    }

    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

/// What a key has spent: when all of it will be earned back, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TheoreticalArrival(u64);

impl TheoreticalArrival {
    /// Of a key that has not spent anything; the same as any other arrival that has passed.
    pub const NOTHING_SPENT: Self = Self(0);

    /// Whether the whole burst is there to be spent.
    pub fn has_passed(self, now: UnixNanos) -> bool {
        self.0 <= now.0
    }

    /// At most what an empty quota has at `now`.
    ///
    /// An arrival that is further ahead was written by a clock that has since stepped back. Left
    /// as it is, it would lock the key out until the clock is back where it was.
    #[must_use]
    pub fn clamped(self, now: UnixNanos, quota: &Quota) -> Self {
        Self(self.0.min(now.0.saturating_add(quota.tolerance_nanos())))
    }

    /// After a request of this cost, which was charged, was not made after all.
    #[must_use]
    pub fn refunded(self, quota: &Quota, cost: NonZeroU64) -> Self {
        Self(self.0.saturating_sub(quota.interval_nanos().saturating_mul(cost).get()))
    }

    pub(crate) const fn from_unix_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) const fn unix_nanos(self) -> u64 {
        self.0
    }
}

/// The answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request passes.
    Admitted {
        /// What is left.
        left: Left,
    },
    /// The request would pass later.
    Refused {
        /// How long until it passes, if nothing is spent before then: one nanosecond less is too
        /// early.
        retry_after: Duration,
        /// What is left, which is less than it costs.
        left: Left,
    },
    /// The request costs more than the whole burst and never passes.
    Impossible,
}

impl Decision {
    /// How long until the request passes; `None` for one that has, or never will.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => Some(*retry_after),
            Self::Admitted { .. } | Self::Impossible => None,
        }
    }

    /// What is left.
    pub fn left(&self) -> Option<Left> {
        match self {
            Self::Admitted { left } | Self::Refused { left, .. } => Some(*left),
            Self::Impossible => None,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admitted { left } => write!(f, "admits it, and {} more", left.requests),
            Self::Refused { retry_after, .. } => {
                write!(f, "admits it in {} s", retry_after_seconds(*retry_after))
            }
            Self::Impossible => f.write_str("never admits it: it costs more than all at once"),
        }
    }
}

/// What a key may still spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// How many requests would pass at this instant.
    pub requests: u64,
    /// How long until one more would, if nothing is spent before then.
    pub next_in: Duration,
}

impl Left {
    fn of(room: u64, quota: &Quota) -> Self {
        let interval = quota.interval_nanos();
        let next_in = interval.get().saturating_sub(room % interval);
        Self { requests: room / interval, next_in: Duration::from_nanos(next_in) }
    }
}

/// Decides whether a request of this `cost` passes, and what its key has spent afterwards.
///
/// Only an admitted request spends. Any request brings an arrival that a clock stepping back has
/// left too far ahead to what an empty quota has at `now`: a clock that goes backwards earns
/// nothing, and takes nothing beyond the burst.
pub fn decide(
    spent: TheoreticalArrival,
    now: UnixNanos,
    quota: &Quota,
    cost: NonZeroU64,
) -> (TheoreticalArrival, Decision) {
    let spent = spent.clamped(now, quota);
    if cost > quota.burst() {
        return (spent, Decision::Impossible);
    }
    // No sum saturates: now is below 2^63, the tolerance and thus the price are below 2^55.
    let price = quota.interval_nanos().saturating_mul(cost).get();
    let arrival = spent.0.max(now.0).saturating_add(price);
    let latest = now.0.saturating_add(quota.tolerance_nanos());
    if let Some(room) = latest.checked_sub(arrival) {
        (TheoreticalArrival(arrival), Decision::Admitted { left: Left::of(room, quota) })
    } else {
        let retry_after = Duration::from_nanos(arrival.saturating_sub(latest));
        let room = latest.saturating_sub(spent.0.max(now.0));
        (spent, Decision::Refused { retry_after, left: Left::of(room, quota) })
    }
}

/// The value of a `retry-after` header: whole seconds, rounded up, at least 1.
///
/// Source: RFC 9110, section 10.2.3.
pub fn retry_after_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: NonZeroU64 = NonZeroU64::MIN;

    /// What is admitted of requests at these milliseconds, with `per_second` and `burst`: `.` is
    /// admitted, `x` is refused.
    fn check(burst: u64, per_second: u64, at_millis: &[u64], expected: &str) {
        let quota = Quota::new(per_second, Duration::from_secs(1), Some(burst)).unwrap();
        let mut spent = TheoreticalArrival::NOTHING_SPENT;
        let found: String = at_millis
            .iter()
            .map(|millis| {
                let now = UnixNanos::new(1_700_000_000_000_000_000 + millis * 1_000_000);
                let (after, decision) = decide(spent, now, &quota, ONE);
                spent = after;
                match decision {
                    Decision::Admitted { .. } => '.',
                    Decision::Refused { .. } => 'x',
                    Decision::Impossible => '!',
                }
            })
            .collect();
        assert_eq!(found, expected, "burst {burst}, {per_second} a second, at {at_millis:?}");
    }

    #[test]
    fn a_burst_passes_and_then_one_request_each_interval() {
        check(1, 1, &[0, 0, 999, 1_000, 1_000, 2_500, 3_499, 3_500], ".xx.x.x.");
        check(2, 2, &[0, 0, 0, 500, 500], "..x.x");
        check(3, 1, &[0, 0, 0, 0, 1_000, 1_000, 3_000, 3_000, 3_000], "...x.x..x");
    }

    #[test]
    fn a_long_rest_is_worth_one_burst() {
        check(2, 2, &[0, 0, 3_600_000, 3_600_000, 3_600_000], "....x");
    }

    #[test]
    fn a_clock_that_goes_backwards_earns_nothing_and_locks_nobody_out() {
        check(2, 2, &[9_000, 9_000, 0, 499, 500, 500, 1_000], "..xx.x.");
        check(2, 2, &[9_000, 8_000, 8_000, 8_500], ".xx.");
        check(2, 2, &[9_000, 0, 0, 500], ".xx.");
    }

    #[test]
    fn a_cost_above_the_burst_is_impossible_and_spends_nothing() {
        let quota = Quota::new(2, Duration::from_secs(1), None).unwrap();
        let cost = NonZeroU64::new(3).unwrap();
        for spent in [TheoreticalArrival::NOTHING_SPENT, TheoreticalArrival(5)] {
            let found = decide(spent, UnixNanos::new(9), &quota, cost);
            assert_eq!(found, (spent, Decision::Impossible));
        }
    }

    #[test]
    fn an_arrival_has_passed_at_its_own_nanosecond() {
        let arrival = TheoreticalArrival(5);
        assert!(!arrival.has_passed(UnixNanos::new(4)));
        assert!(arrival.has_passed(UnixNanos::new(5)));
    }

    #[test]
    fn seconds_to_wait_are_rounded_up_and_never_none() {
        for (nanos, seconds) in [(0, 1), (1, 1), (1_000_000_000, 1), (1_000_000_001, 2)] {
            assert_eq!(retry_after_seconds(Duration::from_nanos(nanos)), seconds, "{nanos} ns");
        }
        assert_eq!(retry_after_seconds(Duration::MAX), u64::MAX);
    }

    pub(crate) fn quotas() -> impl Strategy<Value = Quota> {
        (1..50_u64, 1..100_000_u64, 1..20_u64).prop_map(|(requests, per, burst)| {
            Quota::new(requests, Duration::from_millis(per), Some(burst)).unwrap()
        })
    }

    /// Requests as the time since the one before, in hundredths of an interval, and the cost.
    fn requests(hundredths: std::ops::Range<i64>) -> impl Strategy<Value = Vec<(i64, u64)>> {
        let hundredths = prop_oneof![3 => hundredths, 1 => Just(0), 1 => Just(100)];
        proptest::collection::vec((hundredths, prop_oneof![4 => Just(1), 1 => 1..6_u64]), 1..100)
    }

    /// Any admitted requests in a row cost at most the burst and what the time between the first
    /// and the last has earned; time is what the clock went forward, and the rest earns nothing.
    fn never_above_burst_and_rate(quota: &Quota, requests: &[(i64, u64)]) {
        let interval = i128::from(quota.interval_nanos().get());
        let tolerance = i128::from(quota.tolerance_nanos());
        let mut clock: i128 = 1_700_000_000_000_000_000;
        let mut earned: i128 = 0;
        let mut spent = TheoreticalArrival::NOTHING_SPENT;
        let mut admitted: Vec<(i128, i128)> = Vec::new();
        for &(hundredths, cost) in requests {
            let step = i128::from(hundredths) * interval / 100;
            clock += step;
            earned += step.max(0);
            let now = UnixNanos::new(u64::try_from(clock).unwrap());
            let (after, decision) = decide(spent, now, quota, NonZeroU64::new(cost).unwrap());
            spent = after;
            if matches!(decision, Decision::Admitted { .. }) {
                admitted.push((earned, i128::from(cost) * interval));
            }
        }
        for (first, &(from, _)) in admitted.iter().enumerate() {
            let mut price = 0;
            for &(to, one_price) in &admitted[first..] {
                price += one_price;
                assert!(price <= tolerance + (to - from), "{price} from {from} to {to}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_window_admits_at_most_the_burst_and_what_it_earns(
            quota in quotas(),
            requests in requests(0..300),
        ) {
            never_above_burst_and_rate(&quota, &requests);
        }

        #[test]
        fn a_clock_that_steps_back_earns_no_more_than_one_that_stood_still(
            quota in quotas(),
            requests in requests(-2_000..2_000),
        ) {
            never_above_burst_and_rate(&quota, &requests);
        }

        #[test]
        fn after_a_step_back_never_more_is_left_than_before_it(
            quota in quotas(),
            spent in 0..200_000_000_000_u64,
            now in 0..100_000_000_000_u64,
            back in 0..100_000_000_000_u64,
        ) {
            let left = |nanos| {
                match decide(TheoreticalArrival(spent), UnixNanos::new(nanos), &quota, ONE).1 {
                    Decision::Admitted { left } => left.requests + 1,
                    Decision::Refused { .. } | Decision::Impossible => 0,
                }
            };
            prop_assert!(left(now.saturating_sub(back)) <= left(now));
        }

        #[test]
        fn retry_after_is_exact_to_the_nanosecond(
            quota in quotas(),
            spent in prop_oneof![any::<u64>(), 0..400_000_000_000_u64],
            now in 0..200_000_000_000_u64,
            cost in 1..20_u64,
        ) {
            let cost = NonZeroU64::new(cost).unwrap();
            let decide = |spent, nanos| decide(spent, UnixNanos::new(nanos), &quota, cost);
            let (spent, decision) = decide(TheoreticalArrival(spent), now);
            if let Decision::Refused { retry_after, left } = decision {
                prop_assert!(left.requests < cost.get());
                prop_assert!(left.next_in <= retry_after);
                let later = now + u64::try_from(retry_after.as_nanos()).unwrap();
                let (_, too_early) = decide(spent, later - 1);
                let one_nano = Duration::from_nanos(1);
                let left = Left { requests: cost.get() - 1, next_in: one_nano };
                prop_assert_eq!(too_early, Decision::Refused { retry_after: one_nano, left });
                let (_, in_time) = decide(spent, later);
                let left = Left { requests: 0, next_in: quota.interval() };
                prop_assert_eq!(in_time, Decision::Admitted { left });
            }
        }

        #[test]
        fn what_is_refunded_was_never_spent(
            quota in quotas(),
            before in prop_oneof![Just(0), 99_000_000_000..100_000_000_000_u64],
            cost in 1..20_u64,
            rest in 0..300_000_000_u64,
        ) {
            let now = UnixNanos::new(100_000_000_000);
            let cost = NonZeroU64::new(cost).unwrap();
            let spent = TheoreticalArrival(before).clamped(now, &quota);
            let (charged, decision) = decide(spent, now, &quota, cost);
            if matches!(decision, Decision::Admitted { .. }) {
                let later = UnixNanos::new(now.get() + rest);
                let refunded = charged.refunded(&quota, cost);
                prop_assert_eq!(
                    decide(refunded, later, &quota, ONE).1,
                    decide(spent, later, &quota, ONE).1
                );
            }
        }

        #[test]
        fn a_rest_earns_the_burst_back_and_never_more(
            quota in quotas(),
            requests in requests(0..300),
            rest in 0..u64::MAX / 4,
        ) {
            let mut nanos = 1_700_000_000_000_000_000_u64;
            let mut spent = TheoreticalArrival::NOTHING_SPENT;
            for (hundredths, _) in requests {
                let hundredths = u64::try_from(hundredths).unwrap();
                nanos += quota.interval_nanos().get() * hundredths / 100;
                spent = decide(spent, UnixNanos::new(nanos), &quota, ONE).0;
            }
            let burst = quota.burst().get();
            let refilled = UnixNanos::new(nanos + quota.tolerance_nanos() + rest);
            let (_, decision) = decide(spent, refilled, &quota, ONE);
            let left = Left { requests: burst - 1, next_in: quota.interval() };
            prop_assert_eq!(decision, Decision::Admitted { left });
            let any_time = UnixNanos::new(nanos + rest % quota.tolerance_nanos());
            if let (_, Decision::Admitted { left }) = decide(spent, any_time, &quota, ONE) {
                prop_assert!(left.requests < burst);
            }
        }

        #[test]
        fn no_number_is_too_large(
            spent in prop_oneof![any::<u64>(), Just(u64::MAX)],
            now in prop_oneof![any::<u64>(), Just(u64::MAX), Just(UnixNanos::MAX.0)],
            cost in prop_oneof![any::<u64>(), 1..1_000_000_u64],
            (requests, per, burst) in prop_oneof![
                Just((1, 366 * 24 * 3_600_000, None)),
                Just((1, 1, Some(31_622_400_000))),
                (1..1_000_u64, any::<u64>(), any::<Option<u64>>()),
            ],
        ) {
            let Ok(quota) = Quota::new(requests, Duration::from_millis(per), burst) else {
                return Ok(());
            };
            let Some(cost) = NonZeroU64::new(cost) else { return Ok(()) };
            let now = UnixNanos::new(now);
            let (after, decision) = decide(TheoreticalArrival(spent), now, &quota, cost);
            let price = u128::from(quota.interval_nanos().get()) * u128::from(cost.get());
            let latest = u128::from(now.0) + u128::from(quota.tolerance_nanos());
            let arrival = u128::from(spent.clamp(now.0, u64::try_from(latest).unwrap())) + price;
            match decision {
                Decision::Admitted { .. } => prop_assert_eq!(u128::from(after.0), arrival),
                Decision::Refused { retry_after, .. } => {
                    prop_assert_eq!(retry_after.as_nanos(), arrival - latest);
                }
                Decision::Impossible => prop_assert!(cost > quota.burst()),
            }
            prop_assert!(u128::from(after.0) <= latest);
        }
    }
}
