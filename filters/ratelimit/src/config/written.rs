//! The shape of a policy's JSON.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, Unexpected, Visitor};
use tollgate::HeaderName;
use tollgate::config::{AtLeastOne, Object, present, word};
use tollgate::cookie::CookieName;
use tollgate::matching::{Ambiguous, Match, PathPattern};
use tollgate::mode::Mode;
use tollgate::origin::ClientAddress;

use super::{InvalidPolicy, OnError, Override, Rule, RuleName, Unkeyed};
use crate::answer::{Answer, Fields};
use crate::cost::Cost;
use crate::key::{KeyTemplate, Part, Text};
use crate::quota::Quota;
use crate::table::Capacity;

/// Who counts, and so what a policy may say.
pub(super) trait Scope {
    /// What may become of a request that cannot be decided.
    type OnError: DeserializeOwned + Default + JsonSchema;
    /// The service that counts.
    type Service: DeserializeOwned + JsonSchema;
    /// How it is told of a rule.
    type Descriptor: DeserializeOwned + JsonSchema;

    /// The fields that a policy has to have.
    const REQUIRED: &'static [&'static str];
    /// Whether a rule has to have a limit.
    const NEEDS_LIMIT: bool;

    /// The ways to write limits, of which a rule has to have one.
    fn limits() -> Vec<Schema>;
}

/// What a policy says whose limits the proxy counts.
pub(super) enum Local {}

impl Scope for Local {
    type OnError = OnError;
    type Service = Elsewhere;
    type Descriptor = Elsewhere;

    const REQUIRED: &'static [&'static str] = &["rules"];
    const NEEDS_LIMIT: bool = true;

    fn limits() -> Vec<Schema> {
        limit_or_limits()
    }
}

/// A rule has either a limit or several.
pub(super) fn limit_or_limits() -> Vec<Schema> {
    vec![json_schema!({ "required": ["limit"] }), json_schema!({ "required": ["limits"] })]
}

/// What only the policy of another filter says.
pub(super) enum Elsewhere {}

impl<'de> Deserialize<'de> for Elsewhere {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("only `ratelimit-global` has it"))
    }
}

impl JsonSchema for Elsewhere {
    fn schema_name() -> Cow<'static, str> {
        "Elsewhere".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(false)
    }
}

// What is said of fields here goes into the schema, for whoever writes a policy.

/// A policy of the right shape; what goes beyond one value is not checked yet.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "S: Scope"))]
#[schemars(rename = "Policy", bound = "S: Scope", extend("required" = S::REQUIRED))]
pub(super) struct WrittenPolicy<S: Scope> {
    /// The limits: a request passes when all that are for it admit it.
    #[schemars(length(min = 1))]
    pub(super) rules: Vec<Object<WrittenRule<S>>>,
    /// For which requests the limits are enforced.
    #[serde(default)]
    pub(super) mode: Mode,
    /// What becomes of a request of which nobody can say whether a rule with `match` is for it.
    #[serde(default, deserialize_with = "word")]
    pub(super) ambiguous: Ambiguous,
    /// What becomes of a request that cannot be decided.
    #[serde(default, deserialize_with = "word")]
    pub(super) on_error: S::OnError,
    /// What a request beyond a limit is answered with.
    #[serde(default)]
    pub(super) answer: Answer,
    /// Which header fields tell clients of their limits.
    #[serde(default, deserialize_with = "word")]
    pub(super) fields: Fields,
    /// The service that counts.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "S::Service")]
    pub(super) service: Option<S::Service>,
}

/// Limits for some requests.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "S: Scope"))]
#[schemars(rename = "Rule", bound = "S: Scope", extend("oneOf" = S::limits()))]
pub(super) struct WrittenRule<S: Scope> {
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
    /// Keys that may spend something else.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<WrittenOverride>")]
    overrides: Option<AtLeastOne<Object<WrittenOverride>>>,
    /// What a request costs: 1, if left out.
    #[serde(default)]
    cost: Cost,
    /// What becomes of a request without a key.
    #[serde(default, deserialize_with = "word")]
    unkeyed: Unkeyed,
    /// How many keys are told apart at one time: 10000, if left out. More than these share limits.
    #[serde(default)]
    keys: Capacity,
    /// For which requests this rule is enforced: as for the policy, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Mode")]
    mode: Option<Mode>,
    /// How the service is told of it.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "S::Descriptor")]
    descriptor: Option<S::Descriptor>,
}

/// Other limits for one key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Override",
    extend("oneOf" = [{ "required": ["limit"] }, { "required": ["limits"] }])
)]
struct WrittenOverride {
    /// The value of each part of the key that is not constant, in order.
    key: AtLeastOne<String>,
    /// How much this key may spend.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "WrittenLimit")]
    limit: Option<Object<WrittenLimit>>,
    /// How much this key may spend, over several windows.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<WrittenLimit>")]
    limits: Option<AtLeastOne<Object<WrittenLimit>>>,
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
pub(super) struct Window(pub(super) Duration);

impl<S: Scope> WrittenRule<S> {
    /// The rule at this position of the list, from 0, and how a service is told of it.
    pub(super) fn parse(
        self,
        position: usize,
    ) -> Result<(Rule, Option<S::Descriptor>), InvalidPolicy> {
        let place = format!("rules[{position}]");
        let Self { name, requests, key, cost, unkeyed, keys, mode, descriptor, .. } = self;
        let limits = match (&self.limit, &self.limits) {
            (None, None) if !S::NEEDS_LIMIT => Vec::new(),
            _ => quotas(&place, self.limit, self.limits)?,
        };
        let mut overrides: Vec<Override> = Vec::new();
        let written = self.overrides.map_or_else(Vec::new, AtLeastOne::into_vec);
        for (at, Object(written)) in written.into_iter().enumerate() {
            let place = format!("{place}.overrides[{at}]");
            let composed = key.compose_of(written.key.as_slice());
            let composed = composed
                .map_err(|problem| InvalidPolicy::OverrideKey { place: place.clone(), problem })?;
            if let Some(earlier) = overrides.iter().position(|other| other.key == composed) {
                return Err(InvalidPolicy::RepeatedOverride { place, earlier });
            }
            let limits = quotas(&place, written.limit, written.limits)?;
            overrides.push(Override { key: composed, limits });
        }
        let rule = Rule { name, requests, key, limits, overrides, cost, unkeyed, keys, mode };
        check_costs(&rule, &place)?;
        Ok((rule, descriptor))
    }
}

/// Refuses a rule for which a request may cost more than a limit ever admits.
pub(super) fn check_costs(rule: &Rule, place: &str) -> Result<(), InvalidPolicy> {
    let cost = rule.cost.most();
    let all = rule.overrides.iter().flat_map(|other| &other.limits).chain(&rule.limits);
    match all.map(Quota::burst).min().filter(|&burst| cost > burst) {
        None => Ok(()),
        Some(burst) => Err(InvalidPolicy::CostAboveBurst { place: place.to_owned(), cost, burst }),
    }
}

/// What stands at `limit` or at `limits`: each with a window of its own.
fn quotas(
    place: &str,
    limit: Option<Object<WrittenLimit>>,
    limits: Option<AtLeastOne<Object<WrittenLimit>>>,
) -> Result<Vec<Quota>, InvalidPolicy> {
    let written = match (limit, limits) {
        (Some(limit), None) => vec![([place, ".limit"].concat(), limit)],
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
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Clone, Copy, Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Kind {
            Header,
            Cookie,
            Query,
            Template,
            ClientAddress,
            Constant,
        }

        struct TextOrField;

        impl<'de> Visitor<'de> for TextOrField {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a part: \"path\", \"peer\", { header: NAME } or its like")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Part, E> {
                match text {
                    "path" => Ok(Part::Path),
                    "peer" => Ok(Part::Peer),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
                let part = match map.next_key()? {
                    Some(Kind::Header) => Part::Header(map.next_value()?),
                    Some(Kind::Cookie) => Part::Cookie(map.next_value()?),
                    Some(Kind::Query) => Part::Query(map.next_value()?),
                    Some(Kind::Template) => {
                        let text: String = map.next_value()?;
                        let pattern = PathPattern::template(&text).map_err(A::Error::custom)?;
                        Part::Template(Box::new(pattern))
                    }
                    Some(Kind::ClientAddress) => Part::ClientAddress(map.next_value()?),
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
        let text = generator.subschema_for::<Text>();
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
                { "enum": ["path", "peer"] },
                part("header", generator.subschema_for::<HeaderName>()),
                part("cookie", generator.subschema_for::<CookieName>()),
                part("query", text.clone()),
                part("template", PathPattern::template_schema()),
                part("client_address", generator.subschema_for::<ClientAddress>()),
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
