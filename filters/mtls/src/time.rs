//! Moments as certificates and policies write them, in seconds since the Unix epoch.

use std::error::Error;
use std::fmt;

const SECONDS_OF_DAY: u64 = 86_400;

/// A moment in whole seconds since the Unix epoch; earlier ones are the epoch itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// So many seconds after the epoch.
    pub const fn from_unix_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// The second in which these nanoseconds after the epoch lie.
    pub const fn from_unix_nanos(nanos: u64) -> Self {
        Self(nanos / 1_000_000_000)
    }

    /// Seconds after the epoch.
    pub const fn unix_seconds(self) -> u64 {
        self.0
    }

    /// The last second of a day written `YYYY-MM-DD`, in UTC.
    ///
    /// # Errors
    ///
    /// [`InvalidDate`] when there is no such day, or none from 1970 to 9999.
    pub fn end_of_day(text: &str) -> Result<Self, InvalidDate> {
        let invalid = || InvalidDate { text: text.to_owned() };
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text.as_bytes() else {
            return Err(invalid());
        };
        let number = |digits: &[u8]| number(digits).ok_or_else(invalid);
        let (year, month, day) =
            (number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?);
        let begin = Self::of(year, month, day, [0, 0, 0]).filter(|_| year >= 1970);
        let begin = begin.ok_or_else(invalid)?;
        Ok(Self(begin.0.saturating_add(SECONDS_OF_DAY.saturating_sub(1))))
    }

    /// A moment of the Gregorian calendar in UTC; `None` when there is none such.
    pub(crate) fn of(
        year: u64,
        month: u64,
        day: u64,
        [hour, minute, second]: [u64; 3],
    ) -> Option<Self> {
        let is_leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days_of_month = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if is_leap => 29,
            2 => 28,
            _ => return None,
        };
        if !(1..=days_of_month).contains(&day) || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        if year < 1970 {
            return Some(Self(0));
        }
        // Years begin in March here, so that the day of a leap year is their last one.
        let (year, month) = if month > 2 {
            (year, month.checked_sub(3)?)
        } else {
            (year.checked_sub(1)?, month.checked_add(9)?)
        };
        let leap_days = (year / 4).checked_sub(year / 100)?.checked_add(year / 400)?;
        let of_month = month.checked_mul(153)?.checked_add(2)? / 5;
        let days = year.checked_mul(365)?.checked_add(leap_days)?.checked_add(of_month)?;
        // Day 719,468 after the first of March of the year 0 is the epoch.
        let days = days.checked_add(day)?.checked_sub(719_469)?;
        let minutes = hour.checked_mul(60)?.checked_add(minute)?;
        let seconds = minutes.checked_mul(60)?.checked_add(second)?;
        days.checked_mul(SECONDS_OF_DAY)?.checked_add(seconds).map(Self)
    }
}

/// The number that digits write, and nothing but digits.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// A text that is no day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDate {
    text: String,
}

impl fmt::Display for InvalidDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a day from 1970 on, such as 2026-12-31", self.text)
    }
}

impl Error for InvalidDate {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (text, seconds) in [
            ("1970-01-01", 86_399),
            ("1972-02-29", 68_255_999),
            ("2000-02-29", 951_868_799),
            ("2026-12-31", 1_798_761_599),
        ] {
            assert_eq!(Moment::end_of_day(text), Ok(Moment(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_day_is_told() {
        for text in [
            "",
            "2026-2-1",
            "2026-02-29",
            "1969-12-31",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "+026-01-01",
            "2026-01-01T",
        ] {
            assert!(Moment::end_of_day(text).is_err(), "{text}");
        }
        assert_eq!(Moment::of(1950, 1, 1, [0; 3]), Some(Moment(0)));
        assert_eq!(Moment::of(9999, 12, 31, [23, 59, 59]), Some(Moment(253_402_300_799)));
    }
}
