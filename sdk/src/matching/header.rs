//! Headers: what a rule says of their lines.
//!
//! Every line counts, each by itself: lines are neither joined nor split at commas. Where some lines
//! are as the rule says and others are not, nobody knows which the upstream believes.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::config::{present, word};
use crate::header_name::HeaderName;
use crate::headers::Headers;

/// What a rule says of a header: its `name`, and one of `exact`, `prefix`, `suffix` and `present`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct HeaderMatch {
    name: HeaderName,
    value: Value,
    lines: Lines,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Exact(String),
    Prefix(String),
    Suffix(String),
    /// Whether there is a line at all.
    Present(bool),
}

/// How many lines of a repeated header have to be as the rule says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Lines {
    #[default]
    #[serde(skip)]
    Agreeing,
    Any,
    All,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: HeaderName,
    #[serde(default, deserialize_with = "present")]
    exact: Option<String>,
    #[serde(default, deserialize_with = "present")]
    prefix: Option<String>,
    #[serde(default, deserialize_with = "present")]
    suffix: Option<String>,
    #[serde(default, deserialize_with = "present")]
    present: Option<bool>,
    #[serde(default, deserialize_with = "word")]
    lines: Lines,
}

impl HeaderMatch {
    /// Whether the lines are as the rule says; `None` when some are and others are not.
    pub(super) fn test(&self, headers: &Headers) -> Option<bool> {
        let (mut fitting, mut other) = (false, false);
        for line in headers.all(self.name.as_str()) {
            let fits = match &self.value {
                Value::Exact(text) => line == text.as_bytes(),
                Value::Prefix(text) => line.starts_with(text.as_bytes()),
                Value::Suffix(text) => line.ends_with(text.as_bytes()),
                Value::Present(_) => true,
            };
            fitting |= fits;
            other |= !fits;
        }
        match (&self.value, self.lines) {
            (Value::Present(expected), _) => Some(fitting == *expected),
            (_, Lines::Agreeing) if fitting && other => None,
            (_, Lines::Agreeing | Lines::Any) => Some(fitting),
            (_, Lines::All) => Some(fitting && !other),
        }
    }

    /// The name of the header.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }
}

impl TryFrom<Written> for HeaderMatch {
    type Error = InvalidHeaderMatch;

    fn try_from(written: Written) -> Result<Self, InvalidHeaderMatch> {
        let Written { name, exact, prefix, suffix, present, lines } = written;
        let value = match (exact, prefix, suffix, present) {
            (Some(text), None, None, None) => Value::Exact(text),
            (None, Some(text), None, None) if !text.is_empty() => Value::Prefix(text),
            (None, None, Some(text), None) if !text.is_empty() => Value::Suffix(text),
            (None, Some(_), None, None) | (None, None, Some(_), None) => {
                return Err(InvalidHeaderMatch::EmptyPart { name });
            }
            (None, None, None, Some(expected)) if lines == Lines::Agreeing => {
                Value::Present(expected)
            }
            (None, None, None, Some(_)) => return Err(InvalidHeaderMatch::LinesOfNone { name }),
            _ => return Err(InvalidHeaderMatch::NotOne { name }),
        };
        match &value {
            Value::Exact(text) | Value::Prefix(text) | Value::Suffix(text)
                if text.contains(char::is_control) =>
            {
                Err(InvalidHeaderMatch::Control { name })
            }
            _ => Ok(Self { name, value, lines }),
        }
    }
}

impl JsonSchema for HeaderMatch {
    fn schema_name() -> Cow<'static, str> {
        "HeaderMatch".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        const TEXT: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";
        let name = generator.subschema_for::<HeaderName>();
        json_schema!({
            "type": "object",
            "description": "A header, and what its lines are; several lines have to agree, unless `lines` says how many count.",
            "properties": {
                "name": name,
                "exact": { "type": "string", "pattern": TEXT },
                "prefix": { "type": "string", "minLength": 1, "pattern": TEXT },
                "suffix": { "type": "string", "minLength": 1, "pattern": TEXT },
                "present": { "type": "boolean" },
                "lines": { "type": "string", "enum": ["any", "all"] },
            },
            "required": ["name"],
            "additionalProperties": false,
            "oneOf": [
                { "required": ["exact"] },
                { "required": ["prefix"] },
                { "required": ["suffix"] },
                { "required": ["present"], "properties": { "lines": false } },
            ],
        })
    }
}

/// Why what is written is no [`HeaderMatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidHeaderMatch {
    /// It says nothing, or several things.
    NotOne {
        /// The header's name.
        name: HeaderName,
    },
    /// Every value begins and ends with nothing.
    EmptyPart {
        /// The header's name.
        name: HeaderName,
    },
    /// `lines` beside `present`.
    LinesOfNone {
        /// The header's name.
        name: HeaderName,
    },
    /// No value has a control character.
    Control {
        /// The header's name.
        name: HeaderName,
    },
}

impl fmt::Display for InvalidHeaderMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOne { name } => {
                write!(
                    f,
                    "header {name}: write exactly one of `exact`, `prefix`, `suffix`, `present`"
                )
            }
            Self::EmptyPart { name } => {
                write!(f, "header {name}: an empty text fits every value; write `present: true`")
            }
            Self::LinesOfNone { name } => {
                write!(f, "header {name}: `present` is about all lines; leave `lines` out")
            }
            Self::Control { name } => {
                write!(f, "header {name}: no value has a control character; take it out")
            }
        }
    }
}

impl Error for InvalidHeaderMatch {}
