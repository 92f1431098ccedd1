//! The clauses of one `from` or `to`, as they are written: fields, each with a list.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use tollgate::config::EmptyList;
use tollgate::matching::{HostPattern, PathPattern};
use tollgate::origin::{Network, SpiffePattern};

use super::clause::{Clause, Field, Part, Pattern};

/// The clauses of a `from` or, otherwise, of a `to`.
pub(super) struct Section<const FROM: bool>(pub(super) Vec<Clause>);

const fn part(is_from: bool) -> Part {
    if is_from { Part::From } else { Part::To }
}

const FIELDS_OF_FROM: &[&str] = &[
    "principals",
    "not_principals",
    "trust_domains",
    "not_trust_domains",
    "namespaces",
    "not_namespaces",
    "service_accounts",
    "not_service_accounts",
    "dns_names",
    "not_dns_names",
    "subjects",
    "not_subjects",
    "addresses",
    "not_addresses",
];

const FIELDS_OF_TO: &[&str] = &[
    "hosts",
    "not_hosts",
    "methods",
    "not_methods",
    "paths",
    "not_paths",
    "ports",
    "not_ports",
    "server_names",
    "not_server_names",
];

impl<'de, const FROM: bool> Deserialize<'de> for Section<FROM> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Clauses(part(FROM))).map(Self)
    }
}

struct Clauses(Part);

impl<'de> Visitor<'de> for Clauses {
    type Value = Vec<Clause>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Clause>, A::Error> {
        let mut clauses: Vec<Clause> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let known = Field::ALL.into_iter().find_map(|(field, part, name, negated)| {
                match key.as_str() {
                    _ if part != self.0 => None,
                    key if key == name => Some((field, name, false)),
                    key if key == negated => Some((field, negated, true)),
                    _ => None,
                }
            });
            let Some((field, name, is_negated)) = known else {
                let known = match self.0 {
                    Part::From => FIELDS_OF_FROM,
                    Part::To => FIELDS_OF_TO,
                };
                return Err(A::Error::unknown_field(&key, known));
            };
            if clauses.iter().any(|clause| clause.name == name) {
                return Err(A::Error::duplicate_field(name));
            }
            let patterns = map.next_value_seed(Patterns(field))?;
            clauses.push(Clause { name, field, is_negated, patterns });
        }
        if clauses.is_empty() {
            return Err(A::Error::custom(
                "says nothing; write at least one field, or leave it out",
            ));
        }
        Ok(clauses)
    }
}

struct Patterns(Field);

impl<'de> DeserializeSeed<'de> for Patterns {
    type Value = Vec<Pattern>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Vec<Pattern>, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Patterns {
    type Value = Vec<Pattern>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Pattern>, A::Error> {
        let mut patterns = Vec::new();
        while let Some(pattern) = list.next_element_seed(One(self.0))? {
            patterns.push(pattern);
        }
        if patterns.is_empty() { Err(A::Error::custom(EmptyList)) } else { Ok(patterns) }
    }
}

struct One(Field);

impl<'de> DeserializeSeed<'de> for One {
    type Value = Pattern;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Pattern, D::Error> {
        match self.0 {
            Field::Paths => PathPattern::deserialize(from).map(Pattern::Path),
            Field::Ports => match u16::deserialize(from)? {
                0 => Err(D::Error::custom("0 is not a port from 1 to 65535")),
                port => Ok(Pattern::Port(port)),
            },
            _ => from.deserialize_str(self),
        }
    }
}

impl Visitor<'_> for One {
    type Value = Pattern;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Pattern, E> {
        Pattern::parse(self.0, text).map_err(E::custom)
    }
}

impl<const FROM: bool> JsonSchema for Section<FROM> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        if FROM { "From" } else { "To" }.into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        const SEGMENT: &str = r"(?!\.{1,2}(/|$))[a-zA-Z0-9._-]+";
        let text = |pattern: &str| json_schema!({ "type": "string", "pattern": pattern });
        let mut properties = std::collections::BTreeMap::new();
        for (field, of, name, negated) in Field::ALL {
            if of != part(FROM) {
                continue;
            }
            let item = match field {
                Field::Principals => {
                    let pattern = generator.subschema_for::<SpiffePattern>();
                    json_schema!({ "anyOf": [ { "const": "*" }, pattern ] })
                }
                Field::TrustDomains => text("^[a-z0-9._-]{1,255}$"),
                Field::Namespaces => text(&format!("^{SEGMENT}$")),
                Field::ServiceAccounts => text(&format!("^{SEGMENT}/{SEGMENT}$")),
                Field::DnsNames | Field::Hosts | Field::ServerNames => {
                    generator.subschema_for::<HostPattern>()
                }
                Field::Subjects => json_schema!({ "type": "string", "minLength": 1 }),
                Field::Addresses => generator.subschema_for::<Network>(),
                Field::Methods => text("^[A-Z][A-Z0-9_-]*$"),
                Field::Paths => generator.subschema_for::<PathPattern>(),
                Field::Ports => json_schema!({ "type": "integer", "minimum": 1, "maximum": 65535 }),
            };
            let list = json_schema!({ "type": "array", "items": item, "minItems": 1 });
            properties.insert(name, list.clone());
            properties.insert(negated, list);
        }
        json_schema!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
            "minProperties": 1,
        })
    }
}
