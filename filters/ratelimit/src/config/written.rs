//! The shape of a policy's JSON.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use tollgate::HeaderName;
use tollgate::config::{Object, present, word};
use tollgate::matching::{Ambiguous, Match};
use tollgate::mode::Mode;

use super::{InvalidPolicy, OnError, Rule, RuleName, Unkeyed};
use crate::key::{Constant, KeyTemplate, Part};
use crate::quota::Quota;

// What is said of fields here goes into the schema, for whoever writes a policy.

/// A policy of the right shape; what goes beyond one value is not checked yet.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Policy")]
pub(super) struct WrittenPolicy {
    /// The limits, checked in this order.
    #[schemars(length(min = 1))]
    pub(super) rules: Vec<Object<WrittenRule>>,
    /// For which requests the limits are enforced.
    #[serde(default)]
    pub(super) mode: Mode,
    /// What becomes of a request of which nobody can say whether a rule with `match` is for it.
    #[serde(default, deserialize_with = "word")]
    pub(super) ambiguous: Ambiguous,
    /// What becomes of a request that cannot be decided.
    #[serde(default, deserialize_with = "word")]
    pub(super) on_error: OnError,
}

/// One limit.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rule")]
pub(super) struct WrittenRule {
    /// Names the rule in logs and in what is stored.
    name: RuleName,
    /// Which requests it is for; all, if left out.
    #[serde(default, rename = "match", deserialize_with = "present")]
    #[schemars(with = "Match")]
    requests: Option<Match>,
    /// Whom a request counts against.
    key: KeyTemplate,
    /// How much each key may spend.
    limit: Object<WrittenLimit>,
    /// What becomes of a request without a key.
    #[serde(default, deserialize_with = "word")]
    unkeyed: Unkeyed,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limit")]
struct WrittenLimit {
    /// How many requests each key may make per window; at most one per microsecond of it.
    #[schemars(range(min = 1, max = 31_622_400_000_000_u64))]
    requests: u64,
    /// The window, from 1ms to 366d.
    per: Window,
    /// How many of them may come at once: `requests`, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "u64", range(min = 1, max = 31_622_400_000_000_u64))]
    burst: Option<u64>,
}

#[derive(JsonSchema)]
#[schemars(inline, with = "String", extend("pattern" = "^[0-9]+(ms|s|m|h|d)$"))]
struct Window(Duration);

impl WrittenRule {
    /// The rule at this position of the list, from 0.
    pub(super) fn parse(self, position: usize) -> Result<Rule, InvalidPolicy> {
        let Object(limit) = self.limit;
        let quota = Quota::new(limit.requests, limit.per.0, limit.burst)
            .map_err(|problem| InvalidPolicy::Quota { rule: position, problem })?;
        let Self { name, requests, key, unkeyed, .. } = self;
        Ok(Rule { name, requests, key, quota, unkeyed })
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

impl JsonSchema for Part {
    fn schema_name() -> Cow<'static, str> {
        "Part".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let header = generator.subschema_for::<HeaderName>();
        let constant = generator.subschema_for::<Constant>();
        let part = |name: &str, value: Schema| {
            json_schema!({
                "type": "object",
                "properties": { name: value },
                "required": [name],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "The path without its query, the value of a header, or a text.",
            "oneOf": [{ "const": "path" }, part("header", header), part("constant", constant)],
        })
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
