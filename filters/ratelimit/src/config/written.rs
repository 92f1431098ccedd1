//! The shape of a policy's JSON.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use tollgate::HeaderName;
use tollgate::config::{AtLeastOne, Object, present, word};
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
    /// The limits: a request passes when all that are for it admit it.
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

/// Limits for some requests.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rule", extend("oneOf" = [{ "required": ["limit"] }, { "required": ["limits"] }]))]
pub(super) struct WrittenRule {
    /// Names the rule in logs, in metrics, in what is stored, and to clients.
    name: RuleName,
    /// Which requests it is for; all, if left out.
    #[serde(default, rename = "match", deserialize_with = "present")]
    #[schemars(with = "Match")]
    requests: Option<Match>,
    /// Whom a request counts against.
    key: KeyTemplate,
    /// How much each key may spend.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "WrittenLimit")]
    limit: Option<Object<WrittenLimit>>,
    /// How much each key may spend, over several windows: all have to admit a request.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<WrittenLimit>")]
    limits: Option<AtLeastOne<Object<WrittenLimit>>>,
    /// What becomes of a request without a key.
    #[serde(default, deserialize_with = "word")]
    unkeyed: Unkeyed,
    /// For which requests this rule is enforced: as for the policy, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Mode")]
    mode: Option<Mode>,
}

/// How much a key may spend over one window.
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
        let place = format!("rules[{position}]");
        let Self { name, requests, key, limit, limits, unkeyed, mode } = self;
        let limits = quotas(&place, limit, limits)?;
        Ok(Rule { name, requests, key, limits, unkeyed, mode })
    }
}

/// What stands at `limit` or at `limits`: each with a window of its own.
#[inline(never)]
fn quotas(
    place: &str,
    limit: Option<Object<WrittenLimit>>,
    limits: Option<AtLeastOne<Object<WrittenLimit>>>,
) -> Result<Vec<Quota>, InvalidPolicy> {
    let written = match (limit, limits) {
        (Some(limit), None) => vec![(format!("{place}.limit"), limit)],
        (None, Some(limits)) => {
            let numbered = limits.into_vec().into_iter().enumerate();
            numbered.map(|(at, limit)| (format!("{place}.limits[{at}]"), limit)).collect()
        }
        (None, None) | (Some(_), Some(_)) => {
            return Err(InvalidPolicy::LimitOrLimits { place: place.to_owned() });
        }
    };
    let mut quotas: Vec<Quota> = Vec::with_capacity(written.len());
    for (place, Object(WrittenLimit { requests, per: Window(per), burst })) in written {
        if let Some(earlier) = quotas.iter().position(|quota| quota.per() == per) {
            return Err(InvalidPolicy::RepeatedWindow { place, earlier, per });
        }
        match Quota::new(requests, per, burst) {
            Ok(quota) => quotas.push(quota),
            Err(problem) => return Err(InvalidPolicy::Quota { place, problem }),
        }
    }
    Ok(quotas)
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
    #[inline(never)]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Clone, Copy, Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
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
                match map.next_key::<Kind>()? {
                    Some(_) => {
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
        let text = generator.subschema_for::<Constant>();
        let part = |name: &str, value: Schema| {
            json_schema!({
                "type": "object",
                "properties": { name: value },
                "required": [name],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "What a request counts against, or a part of it.",
            "oneOf": [
                { "const": "path" },
                part("header", generator.subschema_for::<HeaderName>()),
                part("constant", text),
            ],
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
