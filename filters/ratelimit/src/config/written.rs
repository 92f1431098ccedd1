//! The shape of a policy's JSON.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use tollgate::config::{Object, present, word};

use super::{InvalidPolicy, OnError, Rule, RuleName, Unkeyed};
use crate::key::{KeyTemplate, Part};
use crate::quota::Quota;

/// A policy of the right shape; what goes beyond one value is not checked yet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenPolicy {
    pub(super) rules: Vec<Object<WrittenRule>>,
    #[serde(default, deserialize_with = "word")]
    pub(super) on_error: OnError,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRule {
    name: RuleName,
    key: KeyTemplate,
    limit: Object<WrittenLimit>,
    #[serde(default, deserialize_with = "word")]
    unkeyed: Unkeyed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLimit {
    requests: u64,
    per: Window,
    #[serde(default, deserialize_with = "present")]
    burst: Option<u64>,
}

struct Window(Duration);

impl WrittenRule {
    /// The rule at this position of the list, from 0.
    pub(super) fn parse(self, position: usize) -> Result<Rule, InvalidPolicy> {
        let Object(limit) = self.limit;
        let quota = Quota::new(limit.requests, limit.per.0, limit.burst)
            .map_err(|problem| InvalidPolicy::Quota { rule: position, problem })?;
        Ok(Rule { name: self.name, key: self.key, quota, unkeyed: self.unkeyed })
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Window;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration: a whole number and ms, s, m, h or d, such as \"500ms\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Window, E> {
                let window = window(text).map(Window);
                window.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "lowercase")]
        enum Kind {
            Header,
            Constant,
        }

        struct TextOrField;

        impl<'de> Visitor<'de> for TextOrField {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a part: \"path\", { header: NAME } or { constant: TEXT }")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Part, E> {
                match text {
                    "path" => Ok(Part::Path),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
                let part = match map.next_key()? {
                    Some(Kind::Header) => Part::Header(map.next_value()?),
                    Some(Kind::Constant) => Part::Constant(map.next_value()?),
                    None => return Err(A::Error::invalid_type(Unexpected::Map, &self)),
                };
                match map.next_key()? {
                    Some(Kind::Header | Kind::Constant) => {
                        Err(A::Error::custom("several parts in one; make each an item of the list"))
                    }
                    None => Ok(part),
                }
            }
        }

        deserializer.deserialize_any(TextOrField)
    }
}

fn window(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    UNITS.iter().find_map(|(unit, millis)| {
        let number = text.strip_suffix(unit)?;
        let number: u64 = number.parse().ok().filter(|_| !number.starts_with('+'))?;
        Some(Duration::from_millis(number.saturating_mul(*millis)))
    })
}
