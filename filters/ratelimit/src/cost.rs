//! What a request costs.

use std::borrow::Cow;
use std::num::NonZeroU64;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};
use tollgate::{HeaderName, Headers, query};

use crate::key::Text;

/// What a request costs: how many requests it counts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Always this.
    Fixed(NonZeroU64),
    /// What the request says, at most `max`: 1 if it says nothing.
    Said {
        /// Where.
        by: Says,
        /// What a request costs that says something else than a number from 1 to this.
        max: NonZeroU64,
    },
}

/// Where a request says what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// In this header.
    Header(HeaderName),
    /// In this parameter of the query.
    Query(Text),
}

impl Default for Cost {
    fn default() -> Self {
        Self::Fixed(NonZeroU64::MIN)
    }
}

impl Cost {
    /// The most that a request may cost.
    pub fn most(&self) -> NonZeroU64 {
        match self {
            Self::Fixed(cost) => *cost,
            Self::Said { max, .. } => *max,
        }
    }

    /// What this request costs. What is no number, is 0 or above the most, or is said several times,
    /// costs the most: a client gains nothing by writing nonsense.
    pub fn of(&self, headers: &Headers) -> NonZeroU64 {
        match self {
            Self::Fixed(cost) => *cost,
            Self::Said { by: Says::Header(name), max } => said(headers.all(name.as_str()), *max),
            Self::Said { by: Says::Query(name), max } => {
                said(query::all(headers.path().unwrap_or_default(), name.as_str()), *max)
            }
        }
    }
}

fn said<T: AsRef<[u8]>>(mut values: impl Iterator<Item = T>, max: NonZeroU64) -> NonZeroU64 {
    let number = |value: &[u8]| {
        let is_plain = value.iter().all(u8::is_ascii_digit);
        str::from_utf8(value).ok().filter(|_| is_plain)?.parse::<NonZeroU64>().ok()
    };
    match (values.next(), values.next()) {
        (None, _) => NonZeroU64::MIN,
        (Some(value), None) => number(value.as_ref()).filter(|&cost| cost <= max).unwrap_or(max),
        (Some(_), Some(_)) => max,
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BySaying {
    /// The header that has it.
    #[serde(default)]
    header: Option<HeaderName>,
    /// The parameter of the query that has it.
    #[serde(default)]
    query: Option<Text>,
    /// The most that a request may cost.
    max: NonZeroU64,
}

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrObject;

        impl<'de> Visitor<'de> for NumberOrObject {
            type Value = Cost;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "a cost: a number from 1, { header: NAME, max: N } or { query: NAME, max: N }",
                )
            }

            fn visit_u64<E: Error>(self, cost: u64) -> Result<Cost, E> {
                let cost = NonZeroU64::new(cost);
                cost.map(Cost::Fixed).ok_or_else(|| E::custom("0 is not at least 1"))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Cost, A::Error> {
                let BySaying { header, query, max } =
                    BySaying::deserialize(MapAccessDeserializer::new(map))?;
                let by = match (header, query) {
                    (Some(name), None) => Says::Header(name),
                    (None, Some(name)) => Says::Query(name),
                    (None, None) | (Some(_), Some(_)) => {
                        return Err(A::Error::custom("write either `header` or `query`"));
                    }
                };
                Ok(Cost::Said { by, max })
            }
        }

        deserializer.deserialize_any(NumberOrObject)
    }
}

impl JsonSchema for Cost {
    fn schema_name() -> Cow<'static, str> {
        "Cost".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let header = generator.subschema_for::<HeaderName>();
        let query = generator.subschema_for::<Text>();
        let number = json_schema!({ "type": "integer", "minimum": 1, "maximum": u64::MAX });
        json_schema!({
            "description": "How many requests a request counts as.",
            "oneOf": [
                number,
                {
                    "type": "object",
                    "properties": { "header": header, "max": number },
                    "required": ["header", "max"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": { "query": query, "max": number },
                    "required": ["query", "max"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cost: &str, lines: &[(&str, &str)], expected: u64) {
        let parsed: Cost = serde_json::from_str(cost).unwrap();
        let headers: Headers = lines.iter().copied().collect();
        assert_eq!(parsed.of(&headers).get(), expected, "{cost} {lines:?}");
    }

    #[test]
    fn a_cost_is_fixed_or_what_the_request_says() {
        check("3", &[("x-cost", "7")], 3);
        let header = r#"{ "header": "x-cost", "max": 9 }"#;
        check(header, &[], 1);
        check(header, &[("x-cost", "7")], 7);
        check(header, &[("x-cost", "9")], 9);
        let query = r#"{ "query": "n", "max": 9 }"#;
        check(query, &[(":path", "/?n=4")], 4);
        check(query, &[(":path", "/n=4")], 1);
    }

    #[test]
    fn nonsense_costs_the_most() {
        for value in ["0", "10", "-1", "+1", "1.0", "", "x", "18446744073709551616", " 1"] {
            check(r#"{ "header": "x-cost", "max": 9 }"#, &[("x-cost", value)], 9);
        }
        check(r#"{ "header": "x-cost", "max": 9 }"#, &[("x-cost", "1"), ("x-cost", "1")], 9);
        check(r#"{ "query": "n", "max": 9 }"#, &[(":path", "/?n=1&n=1")], 9);
    }
}
