//! The values of properties: a small tree, looked into by the segments of a path, and serialised as Envoy
//! does it.
//!
//! Source: Envoy, `serializeValue` and `getProperty` in `source/extensions/common/wasm/context.cc`.

use serde_json::Value as Json;
use tollgate_abi::pairs;

use crate::scenario::{Metadata, Node};
use crate::world::header::{AUTHORITY, HOST};
use crate::world::protobuf::{field, message};

/// The value of a property.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::world) enum Value<'a> {
    /// Nothing that has a form.
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Vec<u8>),
    Map(Vec<(Vec<u8>, Value<'a>)>),
    List(Vec<Value<'a>>),
    /// Header lines, each name once; a name is looked up in any case.
    Headers(Vec<(Vec<u8>, Vec<u8>)>),
    /// What has parts and no form as a whole.
    Object,
    /// What has parts, and as a whole looks as if it had none.
    Parts(Vec<(&'static [u8], Value<'a>)>),
    Message(Message<'a>),
}

/// A message of Envoy's configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::world) enum Message<'a> {
    Metadata(&'a Metadata),
    Node(&'a Node),
    Locality,
}

/// What is found one segment further down.
#[derive(Debug, PartialEq)]
pub(in crate::world) enum Found<'a> {
    Value(Value<'a>),
    Absent,
    /// Envoy has something there that this host does not tell.
    Unserved,
}

impl<'a> From<Option<Value<'a>>> for Found<'a> {
    fn from(value: Option<Value<'a>>) -> Self {
        value.map_or(Self::Absent, Self::Value)
    }
}

impl<'a> Value<'a> {
    /// Looks a segment up.
    pub(super) fn part(self, segment: &[u8]) -> Found<'a> {
        match self {
            Self::Map(pairs) => {
                pairs.into_iter().find(|(key, _)| key == segment).map(|(_, value)| value).into()
            }
            Self::Headers(lines) => {
                let name = segment.to_ascii_lowercase();
                // As on Envoy, the host of a request is its authority; a response may have a line of that name.
                let at = |name: &[u8]| lines.iter().position(|(known, _)| known == name);
                let at = at(&name).or_else(|| at(AUTHORITY).filter(|_| name == HOST));
                let line = at.and_then(|at| lines.get(at));
                line.map(|(_, value)| Value::Text(value.clone())).into()
            }
            Self::List(values) => {
                let index =
                    str::from_utf8(segment).ok().and_then(|text| text.parse::<usize>().ok());
                index.and_then(|index| values.into_iter().nth(index)).into()
            }
            Self::Parts(parts) => {
                parts.into_iter().find(|(name, _)| *name == segment).map(|(_, part)| part).into()
            }
            Self::Message(message) => message.field(segment),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Uint(_)
            | Self::Double(_)
            | Self::Text(_)
            | Self::Object => Found::Absent,
        }
    }

    /// The bytes that a guest gets; `None` for what has no form.
    pub(in crate::world) fn serialize(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::Null | Self::Object => return None,
            Self::Bool(value) => vec![u8::from(*value)],
            Self::Int(value) => value.to_le_bytes().to_vec(),
            Self::Uint(value) => value.to_le_bytes().to_vec(),
            Self::Double(value) => value.to_le_bytes().to_vec(),
            Self::Text(text) => text.clone(),
            Self::Map(values) => {
                let pair = |(key, value): &(Vec<u8>, Value<'_>)| {
                    value.serialize().map(|value| (key.clone(), value))
                };
                let pairs: Vec<_> = values.iter().map(pair).collect::<Option<_>>()?;
                pairs::encode(&pairs).ok()?
            }
            Self::Headers(lines) => pairs::encode(lines).ok()?,
            Self::List(values) => {
                let pair = |value: &Value<'_>| value.serialize().map(|value| (value, b""));
                let pairs: Vec<_> = values.iter().map(pair).collect::<Option<_>>()?;
                pairs::encode(&pairs).ok()?
            }
            Self::Parts(_) => vec![0; 4],
            Self::Message(message) => message.serialize(),
        })
    }

    /// A value of `google.protobuf.Value`, which expressions see as their own.
    fn of_json(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => Self::Text(text.clone().into_bytes()),
            Json::Array(values) => Self::List(values.iter().map(Self::of_json).collect()),
            Json::Object(fields) => Self::of_struct(fields),
        }
    }

    fn of_struct(fields: &serde_json::Map<String, Json>) -> Self {
        let field =
            |(name, value): (&String, &Json)| (name.clone().into_bytes(), Self::of_json(value));
        Self::Map(fields.iter().map(field).collect())
    }
}

impl<'a> Message<'a> {
    fn field(self, name: &[u8]) -> Found<'a> {
        let text = |text: &str| Value::Text(text.as_bytes().to_vec());
        Found::Value(match (self, name) {
            (Self::Metadata(metadata), b"filter_metadata") => {
                let namespaces = metadata.0.iter();
                let namespace = |(name, fields): (&String, _)| {
                    (name.clone().into_bytes(), Value::of_struct(fields))
                };
                Value::Map(namespaces.map(namespace).collect())
            }
            (Self::Metadata(_), b"typed_filter_metadata") => Value::Map(Vec::new()),
            (Self::Node(node), b"id") => text(&node.id),
            (Self::Node(node), b"cluster") => text(&node.cluster),
            (Self::Node(node), b"metadata") => Value::of_struct(&node.metadata),
            (Self::Node(_), b"locality") => Value::Message(Message::Locality),
            (Self::Node(_), b"user_agent_name") => text("envoy"),
            (
                Self::Node(_),
                b"dynamic_parameters"
                | b"user_agent_version"
                | b"user_agent_build_version"
                | b"extensions"
                | b"client_features"
                | b"listening_addresses",
            ) => return Found::Unserved,
            (Self::Locality, b"region" | b"zone" | b"sub_zone") => text(""),
            (Self::Metadata(_) | Self::Node(_) | Self::Locality, _) => return Found::Absent,
        })
    }

    fn serialize(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Metadata(metadata) => {
                for (namespace, fields) in &metadata.0 {
                    let mut entry = Vec::new();
                    field(&mut entry, 1, namespace.as_bytes());
                    message(&mut entry, 2, &structure(fields));
                    message(&mut bytes, 1, &entry);
                }
            }
            Self::Node(node) => {
                field(&mut bytes, 1, node.id.as_bytes());
                field(&mut bytes, 2, node.cluster.as_bytes());
                if !node.metadata.is_empty() {
                    message(&mut bytes, 3, &structure(&node.metadata));
                }
                field(&mut bytes, 6, b"envoy");
            }
            Self::Locality => {}
        }
        bytes
    }
}

/// A `google.protobuf.Struct`.
fn structure(fields: &serde_json::Map<String, Json>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        let mut entry = Vec::new();
        field(&mut entry, 1, name.as_bytes());
        message(&mut entry, 2, &value_message(value));
        message(&mut bytes, 1, &entry);
    }
    bytes
}

/// A `google.protobuf.Value`, each kind of which is written even when it is empty.
fn value_message(value: &Json) -> Vec<u8> {
    let mut bytes = Vec::new();
    match value {
        Json::Null => bytes.extend([0x08, 0]),
        Json::Number(number) => {
            bytes.push(0x11);
            bytes.extend(number.as_f64().unwrap_or(f64::NAN).to_le_bytes());
        }
        Json::String(text) => message(&mut bytes, 3, text.as_bytes()),
        Json::Bool(value) => bytes.extend([0x20, u8::from(*value)]),
        Json::Object(fields) => message(&mut bytes, 5, &structure(fields)),
        Json::Array(values) => {
            let mut list = Vec::new();
            for value in values {
                message(&mut list, 1, &value_message(value));
            }
            message(&mut bytes, 6, &list);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_python_writes_it() {
        let check = |metadata: &str, expected: &[u8]| {
            let metadata: Metadata = serde_json::from_str(metadata).unwrap();
            let found = Message::Metadata(&metadata).serialize();
            assert_eq!(found.escape_ascii().to_string(), expected.escape_ascii().to_string());
        };
        check("{}", b"");
        check(r#"{"ns": {}}"#, b"\x0a\x06\x0a\x02ns\x12\x00");
        let namespace = |fields: &str, expected: &[u8]| {
            check(&format!(r#"{{"ns": {{{fields}}}}}"#), expected);
        };
        namespace(
            r#""n": 1.5"#,
            b"\x0a\x16\x0a\x02ns\x12\x10\x0a\x0e\x0a\x01n\x12\x09\x11\x00\x00\x00\x00\x00\x00\xf8?",
        );
        namespace(r#""t": "x""#, b"\x0a\x10\x0a\x02ns\x12\x0a\x0a\x08\x0a\x01t\x12\x03\x1a\x01x");
        namespace(r#""t": """#, b"\x0a\x0f\x0a\x02ns\x12\x09\x0a\x07\x0a\x01t\x12\x02\x1a\x00");
        namespace(r#""b": true"#, b"\x0a\x0f\x0a\x02ns\x12\x09\x0a\x07\x0a\x01b\x12\x02 \x01");
        namespace(r#""b": false"#, b"\x0a\x0f\x0a\x02ns\x12\x09\x0a\x07\x0a\x01b\x12\x02 \x00");
        namespace(r#""z": null"#, b"\x0a\x0f\x0a\x02ns\x12\x09\x0a\x07\x0a\x01z\x12\x02\x08\x00");
        namespace(
            r#""o": {"k": "v"}"#,
            b"\x0a\x19\x0a\x02ns\x12\x13\x0a\x11\x0a\x01o\x12\x0c*\x0a\x0a\x08\x0a\x01k\x12\x03\x1a\x01v",
        );
        namespace(
            r#""l": [1, "x"]"#,
            b"\x0a\x1f\x0a\x02ns\x12\x19\x0a\x17\x0a\x01l\x12\x122\x10\x0a\x09\x11\x00\x00\x00\x00\x00\x00\xf0?\x0a\x03\x1a\x01x",
        );
    }

    #[test]
    fn metadata_is_looked_into_by_its_parts() {
        let metadata: Metadata =
            serde_json::from_str(r#"{"a": {"b": {"c": [1.5, null, "x"]}, "d": true}}"#).unwrap();
        let check = |path: &[&str], expected: Option<Value<'_>>| {
            let found = path.iter().fold(
                Found::Value(Value::Message(Message::Metadata(&metadata))),
                |found, segment| match found {
                    Found::Value(value) => value.part(segment.as_bytes()),
                    other => other,
                },
            );
            assert_eq!(found, expected.into(), "{path:?}");
        };
        check(&["filter_metadata", "a", "d"], Some(Value::Bool(true)));
        check(&["filter_metadata", "a", "b", "c", "0"], Some(Value::Double(1.5)));
        check(&["filter_metadata", "a", "b", "c", "1"], Some(Value::Null));
        check(&["filter_metadata", "a", "b", "c", "3"], None);
        check(&["filter_metadata", "a", "b", "c", "-1"], None);
        check(&["filter_metadata", "a", "d", "e"], None);
        check(&["filter_metadata", "b"], None);
        check(&["nosuch"], None);
        let text = Value::Text(b"x".to_vec());
        check(&["filter_metadata", "a", "b", "c", "2"], Some(text));
    }
}
