//! Shares, exact to a millionth.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A share, in millionths of the whole: from `0%` to `100%`, with at most four decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Percent(u32);

const PER_PERCENT: u32 = 10_000;

impl Percent {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(1_000_000);

    /// A share as it is written, such as `12.5%`.
    ///
    /// # Errors
    ///
    /// [`InvalidPercent`] when it is written in another form, or more than 100%.
    pub fn parse(text: &str) -> Result<Self, InvalidPercent> {
        millionths(text).map(Self).ok_or_else(|| InvalidPercent { text: text.to_owned() })
    }

    /// The share, in millionths.
    pub const fn millionths(self) -> u32 {
        self.0
    }
}

fn millionths(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, decimals) = match number.split_once('.') {
        Some((whole, decimals)) if (1..=4).contains(&decimals.len()) => (whole, decimals),
        Some(_) => return None,
        None => (number, ""),
    };
    let has_zeros_before = whole.len() > 1 && whole.starts_with('0');
    if has_zeros_before || !whole.bytes().chain(decimals.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let decimals: u32 = format!("{decimals:0<4}").parse().ok()?;
    let sum = whole.checked_mul(PER_PERCENT)?.checked_add(decimals)?;
    (sum <= Percent::ALL.0).then_some(sum)
}

/// Millionths as a percentage, without zeros at its end.
pub(super) fn show(millionths: u32) -> String {
    let decimals = millionths.checked_rem(PER_PERCENT).unwrap_or_default();
    let whole = millionths.checked_div(PER_PERCENT).unwrap_or_default();
    let text = format!("{whole}.{decimals:04}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(self.0))
    }
}

impl TryFrom<String> for Percent {
    type Error = InvalidPercent;

    fn try_from(text: String) -> Result<Self, InvalidPercent> {
        Self::parse(&text)
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^(100(\.0{1,4})?|(0|[1-9][0-9]?)(\.[0-9]{1,4})?)%$",
            "description": "A share such as 10% or 0.5%, to at most four decimals.",
        })
    }
}

/// A text that is no [`Percent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPercent {
    text: String,
}

impl fmt::Display for InvalidPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a share; write one from 0% to 100% with at most four decimals, such as 12.5%",
            self.text
        )
    }
}

impl Error for InvalidPercent {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_exactly_or_not_at_all() {
        for (text, expected) in [
            ("0%", Some(0)),
            ("0.0001%", Some(1)),
            ("0.10%", Some(1_000)),
            ("12.5%", Some(125_000)),
            ("99.9999%", Some(999_999)),
            ("100%", Some(1_000_000)),
            ("100.0%", Some(1_000_000)),
            ("100.0001%", None),
            ("0.00001%", None),
            ("1.%", None),
            (".5%", None),
            ("05%", None),
            ("+5%", None),
            ("-5%", None),
            ("5", None),
            ("5 %", None),
            ("", None),
            ("%", None),
            ("5%%", None),
            ("99999999999%", None),
        ] {
            assert_eq!(millionths(text), expected, "{text}");
        }
    }

    #[test]
    fn a_share_is_shown_as_it_is_written() {
        for text in ["0%", "0.0001%", "12.5%", "10%", "100%"] {
            assert_eq!(Percent::parse(text).unwrap().to_string(), text);
        }
    }
}
