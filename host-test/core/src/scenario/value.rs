//! Values in scenarios: bytes, durations, and what a value is compared with.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

/// Bytes in a scenario: text, or `{ hex: "ff00" }` where text cannot say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// The same bytes.
    Exact(Vec<u8>),
    /// These bytes somewhere in it.
    Contains(Vec<u8>),
}

impl Matcher {
    /// Whether `value` is what is asked for.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(bytes) => value == bytes,
            Self::Contains(part) => {
                part.is_empty() || value.windows(part.len()).any(|window| window == part)
            }
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Contains(part) => write!(f, "something with \"{}\"", part.escape_ascii()),
        }
    }
}

/// By how much the wall clock is set forward or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockStep {
    /// Forward.
    Forward(Duration),
    /// Back.
    Back(Duration),
}

/// A duration in a scenario: a whole number and `ms`, `s`, `m` or `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Text(text) => Ok(Self(text.into_bytes())),
            Value::Hex(bytes) => Ok(Self(bytes)),
            Value::Contains(_) => {
                Err(de::Error::custom("`contains` compares; here the bytes themselves are needed"))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            Value::Text(text) => Self::Exact(text.into_bytes()),
            Value::Hex(bytes) => Self::Exact(bytes),
            Value::Contains(text) => Self::Contains(text.into_bytes()),
        })
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        duration(&text).map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ClockStep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let step = match (text.strip_prefix('-'), text.strip_prefix('+')) {
            (Some(back), _) => duration(back).map(Self::Back),
            (None, Some(forward)) => duration(forward).map(Self::Forward),
            (None, None) => Err(format!("`{text}` has no direction; write +10s or -10s")),
        };
        step.map_err(de::Error::custom)
    }
}

enum Value {
    Text(String),
    Hex(Vec<u8>),
    Contains(String),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text in quotes, `{ hex: … }` or `{ contains: … }`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }

            // YAML would turn 0x10 into 16 and 1.0 into 1: what was written is lost.
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
                Err(unquoted(&number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
                Err(unquoted(&number))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
                Err(unquoted(&number))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
                Err(unquoted(&value))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                const KEYS: &[&str] = &["hex", "contains"];
                let value = match map.next_key::<String>()?.as_deref() {
                    Some("hex") => Value::Hex(unhex(&map.next_value::<String>()?)?),
                    Some("contains") => Value::Contains(map.next_value()?),
                    Some(other) => return Err(de::Error::unknown_field(other, KEYS)),
                    None => return Err(de::Error::custom("write hex or contains")),
                };
                match map.next_key::<String>()? {
                    None => Ok(value),
                    Some(key) => {
                        Err(de::Error::custom(format!("one key is enough; remove `{key}`")))
                    }
                }
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}

fn unquoted<E: de::Error>(value: &dyn fmt::Display) -> E {
    E::custom(format!("write it in quotes: \"{value}\""))
}

pub(super) fn unhex<E: de::Error>(text: &str) -> Result<Vec<u8>, E> {
    let wrong = || E::custom(format!("`{text}` is not hex: write two digits per byte, as in ff00"));
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(wrong());
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Reads a time with its unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write a whole number and ms, s, m or h");
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text.strip_suffix(unit).unwrap_or(text).parse().map_err(|_| wrong())?;
    let duration = match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => return Err(wrong()),
    };
    duration
        .filter(|&duration| duration <= LONGEST)
        .ok_or_else(|| format!("`{text}` is longer than ten years"))
}

const LONGEST: Duration = Duration::from_hours(10 * 366 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        let check = |text, expected: Result<Duration, &str>| match (duration(text), expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{text}"),
            (Err(got), Err(part)) => assert!(got.contains(part), "{got} lacks {part}"),
            (got, expected) => panic!("{text}: {got:?}, expected {expected:?}"),
        };
        check("250ms", Ok(Duration::from_millis(250)));
        check("1s", Ok(Duration::from_secs(1)));
        check("2h", Ok(Duration::from_hours(2)));
        check("1", Err("not a duration"));
        check("s", Err("not a duration"));
        check("1.5s", Err("not a duration"));
        check("99999999999999999999s", Err("not a duration"));
        check("18446744073709551615h", Err("longer than ten years"));
    }
}
