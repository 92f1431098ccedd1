//! When a request is made again.

use std::time::Duration;

/// How often, and after how long, a request is made again that may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often it is made at most.
    pub attempts: u32,
    /// The pause after the first attempt; it doubles with each.
    pub first_pause: Duration,
    /// The longest pause, also when the registry asks for one.
    pub longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
        }
    }
}

impl Retry {
    /// The pause after this many attempts; `asked` is what the registry wants. `None` when it is of no use
    /// to wait: all attempts were made, or the registry wants a longer pause than is allowed.
    pub(crate) fn pause(&self, made: u32, asked: Option<Duration>) -> Option<Duration> {
        if made >= self.attempts {
            return None;
        }
        let doubled = self.first_pause.saturating_mul(1_u32.checked_shl(made.saturating_sub(1))?);
        let pause = doubled.min(self.longest_pause).max(asked.unwrap_or_default());
        (pause <= self.longest_pause).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(made: u32, asked: Option<u64>, expected: Option<u64>) {
        let retry = Retry {
            attempts: 6,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(10),
        };
        let pause = retry.pause(made, asked.map(Duration::from_secs));
        assert_eq!(pause.map(|pause| pause.as_secs()), expected);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        check(1, None, Some(1));
        check(2, None, Some(2));
        check(4, None, Some(8));
        check(5, None, Some(10));
        check(6, None, None);
    }

    #[test]
    fn what_the_registry_asks_for_is_the_least_and_is_bounded() {
        check(1, Some(0), Some(1));
        check(1, Some(7), Some(7));
        check(1, Some(10), Some(10));
        check(1, Some(11), None);
        check(1, Some(u64::MAX), None);
    }
}
