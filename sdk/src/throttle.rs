//! Log lines that requests cause: not one for each of them.

use std::cell::Cell;
use std::time::Duration;

/// Lets one thing pass in a while, and counts the others: for log lines that anybody can cause. Each
/// worker has its own.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollgate::Throttle;
///
/// let lines = Throttle::new(Duration::from_nanos(10));
/// assert_eq!(lines.pass(5), Some(0));
/// assert_eq!(lines.pass(6), None);
/// assert_eq!(lines.pass(14), None);
/// assert_eq!(lines.pass(15), Some(2));
/// ```
#[derive(Debug)]
pub struct Throttle {
    every_nanos: u64,
    passed_at: Cell<Option<u64>>,
    held_back: Cell<u64>,
}

impl Throttle {
    /// Lets one pass in this time.
    pub fn new(every: Duration) -> Self {
        Self {
            every_nanos: u64::try_from(every.as_nanos()).unwrap_or(u64::MAX),
            passed_at: Cell::new(None),
            held_back: Cell::new(0),
        }
    }

    /// Whether this one passes at this time, in nanoseconds since the Unix epoch; and if so, how many
    /// were held back since the one before. A clock that steps back lets it pass.
    pub fn pass(&self, unix_nanos: u64) -> Option<u64> {
        let is_early = self.passed_at.get().is_some_and(|at| {
            unix_nanos.checked_sub(at).is_some_and(|since| since < self.every_nanos)
        });
        if is_early {
            self.held_back.set(self.held_back.get().saturating_add(1));
            return None;
        }
        self.passed_at.set(Some(unix_nanos));
        Some(self.held_back.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_steps_back_holds_nothing_back() {
        let lines = Throttle::new(Duration::from_secs(1));
        assert_eq!(lines.pass(5_000_000_000), Some(0));
        assert_eq!(lines.pass(5_999_999_999), None);
        assert_eq!(lines.pass(1_000_000_000), Some(1));
        assert_eq!(lines.pass(1_500_000_000), None);
        assert_eq!(lines.pass(2_000_000_000), Some(1));
    }
}
