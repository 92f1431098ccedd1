//! Trying again: how often, after how long, and not when everybody does.

use std::cell::Cell;
use std::time::Duration;

use super::{CalloutError, Hedge};
use crate::runtime::sleep;

/// How a failed call is tried again.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollgate::callout::{Backoff, CalloutError, HttpCall, HttpReply, Retry, RetryBudget};
///
/// async fn fetch(budget: &RetryBudget) -> Result<HttpReply, CalloutError> {
///     let backoff = Backoff::new(Duration::from_millis(25), Duration::from_millis(250));
///     let call = HttpCall::get("catalogue", "/items");
///     Retry::new(3, backoff).within(budget).run(|| call.send()).await
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "calls are made by awaiting `run`"]
pub struct Retry<'a> {
    attempts: u32,
    backoff: Backoff,
    budget: Option<&'a RetryBudget>,
}

impl<'a> Retry<'a> {
    /// Makes each attempt a second time when it has no answer after `delay`: the first good answer wins.
    ///
    /// Second calls come out of the same budget, and are no attempts of their own: without a budget
    /// there are at most twice as many calls.
    pub const fn hedged(self, delay: Duration) -> Hedge<'a> {
        Hedge::of(delay, self)
    }

    pub(super) const fn budget(&self) -> Option<&'a RetryBudget> {
        self.budget
    }
}

impl Retry<'_> {
    /// At most this many attempts in all, at least one.
    pub const fn new(attempts: u32, backoff: Backoff) -> Self {
        Self { attempts, backoff, budget: None }
    }

    /// Further attempts come out of a budget.
    pub fn within(self, budget: &RetryBudget) -> Retry<'_> {
        Retry { attempts: self.attempts, backoff: self.backoff, budget: Some(budget) }
    }

    /// Calls until there is an answer, a failure that would repeat itself, or no attempt left.
    ///
    /// # Errors
    ///
    /// The [`CalloutError`] of the last attempt.
    pub async fn run<T>(
        self,
        mut call: impl AsyncFnMut() -> Result<T, CalloutError>,
    ) -> Result<T, CalloutError> {
        if let Some(budget) = self.budget {
            budget.deposit();
        }
        let mut attempt = 1_u32;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let may_retry = attempt < self.attempts && error.is_transient();
            if !may_retry || !self.budget.is_none_or(RetryBudget::withdraw) {
                return Err(error);
            }
            sleep(self.backoff.before(attempt)).await;
            attempt = attempt.saturating_add(1);
        }
    }
}

/// How long to wait between attempts: twice as long each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Waits `first`, then twice as long each time, up to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// How long to wait after the attempt of this number, counted from 1.
    fn before(self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.first.saturating_mul(1_u32.wrapping_shl(doublings)).min(self.longest)
    }
}

/// What a worker may spend on further attempts and on second calls: a share of its calls, so that a service that fails is
/// not called the more for it.
#[derive(Debug)]
pub struct RetryBudget {
    /// Further attempts per thousand calls.
    per_mille: u32,
    most: u64,
    /// In thousandths of an attempt.
    balance: Cell<u64>,
}

/// An attempt, in thousandths.
const ATTEMPT: u64 = 1_000;

impl RetryBudget {
    /// `per_mille` further attempts per thousand calls, and `reserve` to begin with, which is also the
    /// most that can be saved up.
    pub const fn new(per_mille: u32, reserve: u32) -> Self {
        let most = ATTEMPT.saturating_mul(widened(reserve));
        Self { per_mille, most, balance: Cell::new(most) }
    }

    fn deposit(&self) {
        let balance = self.balance.get().saturating_add(self.per_mille.into());
        self.balance.set(balance.min(self.most));
    }

    pub(super) fn withdraw(&self) -> bool {
        match self.balance.get().checked_sub(ATTEMPT) {
            Some(left) => {
                self.balance.set(left);
                true
            }
            None => false,
        }
    }
}

#[expect(clippy::as_conversions, reason = "`From` is not const")]
const fn widened(number: u32) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_twice_as_long_up_to_the_longest() {
        let backoff = Backoff::new(Duration::from_millis(25), Duration::from_millis(150));
        let waits: Vec<u128> = (1..=5).map(|n| backoff.before(n).as_millis()).collect();
        assert_eq!(waits, [25, 50, 100, 150, 150]);
        let longest = Backoff::new(Duration::MAX, Duration::MAX);
        assert_eq!(longest.before(u32::MAX), Duration::MAX);
    }

    #[test]
    fn further_attempts_are_a_share_of_the_calls() {
        let budget = RetryBudget::new(200, 2);
        let withdrawn: Vec<bool> = (0..3).map(|_| budget.withdraw()).collect();
        assert_eq!(withdrawn, [true, true, false]);
        for _ in 0..5 {
            budget.deposit();
        }
        assert_eq!((budget.withdraw(), budget.withdraw()), (true, false));
        for _ in 0..1_000 {
            budget.deposit();
        }
        let withdrawn = (0..10).filter(|_| budget.withdraw()).count();
        assert_eq!(withdrawn, 2);
    }
}
