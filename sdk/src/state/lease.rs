//! A lease: one worker of all holds it, until it expires.
//!
//! The decision is pure, in [`decide`]. Two workers can believe to hold it at once, when the clock
//! leaps forward or when one is held up between asking and acting: whoever acts on something that can
//! compare numbers passes [`Standing::Held`]'s `fence` along, which grows with every new holder, and
//! lets what is acted on refuse the smaller.

use std::time::Duration;

use super::hash::random;
use super::nanos;
use super::record::Record;
use super::shared::{Change, Shared, StateError};

/// What one worker of all holds at a time. From [`State::lease`](super::State::lease).
#[derive(Debug)]
pub struct Lease {
    record: Shared<Holding>,
    life: Duration,
    /// By what this worker is known: another number after it is lost and made anew.
    holder: u64,
}

/// Who holds a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This worker.
    Held {
        /// Greater than that of every holder before.
        fence: u64,
    },
    /// Another one.
    Other {
        /// Until then if it is not renewed, in nanoseconds since the Unix epoch.
        until: u64,
    },
}

impl Lease {
    pub(super) fn new(record: Shared<Holding>, life: Duration) -> Self {
        Self { record, life, holder: random() }
    }

    /// Takes the lease when it is free, renews it when it is ours and half over, and says whose it is.
    /// Between renewals it costs one read.
    ///
    /// # Errors
    ///
    /// [`StateError`] when what is stored cannot be read, when others always came first, or when the
    /// host refuses. The lease is then not to be taken for held.
    pub fn hold(&self, unix_nanos: u64) -> Result<Standing, StateError> {
        let (me, life) = (self.holder, nanos(self.life));
        self.record.update(|stored| decide(stored, me, unix_nanos, life))
    }

    /// Gives the lease up, if it is ours.
    ///
    /// # Errors
    ///
    /// [`StateError`] as in [`Self::hold`].
    pub fn release(&self) -> Result<(), StateError> {
        self.record.update(|stored| match stored {
            Some(held) if held.holder == self.holder => {
                Change::Write(Holding { until: 0, ..held }, ())
            }
            Some(_) | None => Change::Keep(()),
        })
    }
}

/// A lease as it is stored. Shape: holder, end, fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holding {
    holder: u64,
    until: u64,
    fence: u64,
}

impl Record for Holding {
    type Bytes = [u8; 24];

    fn to_bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let numbers = [self.holder, self.until, self.fence].map(u64::to_le_bytes);
        bytes.copy_from_slice(numbers.as_flattened());
        bytes
    }

    fn from_bytes(bytes: &[u8; 24]) -> Option<Self> {
        let ([holder, until, fence], []) = bytes.as_chunks() else { return None };
        let [holder, until, fence] = [holder, until, fence].map(|bytes| u64::from_le_bytes(*bytes));
        Some(Self { holder, until, fence })
    }
}

/// What becomes of a lease when worker `me` asks for it.
fn decide(stored: Option<Holding>, me: u64, now: u64, life: u64) -> Change<Holding, Standing> {
    let latest = now.saturating_add(life);
    let held = |fence| {
        Change::Write(Holding { holder: me, until: latest, fence }, Standing::Held { fence })
    };
    let Some(lease) = stored else { return held(1) };
    if lease.until <= now {
        let fence = if lease.holder == me { lease.fence } else { lease.fence.saturating_add(1) };
        return held(fence);
    }
    // Further ahead than a life: written before the clock stepped back.
    let was_ahead = lease.until > latest;
    if lease.holder == me {
        let left = lease.until.saturating_sub(now);
        return if was_ahead || left <= life / 2 {
            held(lease.fence)
        } else {
            Change::Keep(Standing::Held { fence: lease.fence })
        };
    }
    if was_ahead {
        Change::Write(Holding { until: latest, ..lease }, Standing::Other { until: latest })
    } else {
        Change::Keep(Standing::Other { until: lease.until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIFE: u64 = 10;

    /// What workers (number, time) find: the fence of who holds it, `.` for who does not; `!` follows
    /// when the record was written.
    fn check(asked: &[(u64, u64)], expected: &str) {
        let mut stored = None;
        let shown: Vec<String> = asked
            .iter()
            .map(|&(me, now)| {
                let (standing, mark) = match decide(stored, me, now, LIFE) {
                    Change::Keep(standing) => (standing, ""),
                    Change::Write(lease, standing) => {
                        stored = Some(lease);
                        (standing, "!")
                    }
                };
                match standing {
                    Standing::Held { fence } => format!("{fence}{mark}"),
                    Standing::Other { .. } => format!(".{mark}"),
                }
            })
            .collect();
        assert_eq!(shown.join(" "), expected, "{asked:?}");
    }

    #[test]
    fn one_holds_it_until_it_expires_and_renews_it_when_half_is_over() {
        check(&[(1, 100), (2, 100), (1, 104), (1, 105), (2, 114), (2, 115)], "1! . 1 1! . 2!");
        check(&[(1, 100), (2, 110), (1, 111)], "1! 2! .");
        check(&[(1, 100), (1, 500)], "1! 1!");
    }

    #[test]
    fn a_clock_that_steps_back_locks_nobody_out_for_longer_than_a_life() {
        check(&[(1, 1_000), (2, 100), (2, 109), (2, 110)], "1! .! . 2!");
        check(&[(1, 1_000), (1, 100), (2, 109), (2, 110)], "1! 1! . 2!");
    }

    proptest! {
        /// On a clock that leaps either way: a fence never goes to two holders, and grows.
        #[test]
        fn a_fence_is_one_holders(asked in proptest::collection::vec((1..4_u64, 0..60_u64), 1..80)) {
            let mut stored = None;
            let mut last = (0, 0);
            for (me, now) in asked {
                let standing = match decide(stored, me, now, LIFE) {
                    Change::Keep(standing) => standing,
                    Change::Write(lease, standing) => {
                        prop_assert_eq!(Holding::from_bytes(&lease.to_bytes()), Some(lease));
                        prop_assert!(lease.until <= now + LIFE);
                        stored = Some(lease);
                        standing
                    }
                };
                match standing {
                    Standing::Held { fence } => {
                        prop_assert!(fence > last.0 || (fence, me) == last);
                        last = (fence, me);
                    }
                    Standing::Other { until } => prop_assert!(until <= now + LIFE && until > now),
                }
            }
        }
    }
}
