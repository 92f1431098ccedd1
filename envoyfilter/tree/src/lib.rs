//! YAML as a tree that knows where it stands, for resources of which only a part is ours.
//!
//! Not here: what a resource means. Types that are read whole are read with serde.

#![forbid(unsafe_code)]

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A document or resource that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Line, counted from 1.
    pub line: u64,
    /// Column, counted from 1.
    pub column: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}: {}", self.line, self.column, self.what)
    }
}

impl std::error::Error for Invalid {}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Line, counted from 1.
    pub line: u64,
    /// Column, counted from 1.
    pub column: u64,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Map(Vec<(String, Node)>),
    List(Vec<Node>),
    Scalar(serde_json::Value),
}

/// Reads every document of a text. Only `true` and `false` are booleans.
///
/// # Errors
///
/// [`Invalid`] where it is no YAML.
pub fn parse(text: &str) -> Result<Vec<Node>, Invalid> {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let place = error.location();
        Invalid {
            line: place.map_or(1, |place| place.line()),
            column: place.map_or(1, |place| place.column()),
            what: error.without_snippet().to_string(),
        }
    })
}

impl Node {
    /// An error at this place.
    pub fn invalid(&self, what: impl Into<String>) -> Invalid {
        Invalid { line: self.line, column: self.column, what: what.into() }
    }

    /// The value of a key, which may be written as protocol buffers or as JSON write it: `root_id` or
    /// `rootId`.
    pub fn find(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        let json = camel_case(key);
        let found = entries.iter().find(|(name, _)| name == key || *name == json);
        found.map(|(_, node)| node).filter(|node| !node.is_null())
    }

    /// The value at the end of a path of keys.
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.find(key))
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// [`Invalid`] when it is not there.
    pub fn need(&self, key: &str) -> Result<&Self, Invalid> {
        self.find(key).ok_or_else(|| self.invalid(format!("`{key}` is missing")))
    }

    /// The text of a key; empty when it is not there.
    ///
    /// # Errors
    ///
    /// [`Invalid`] when it is not text.
    pub fn text_of(&self, key: &str) -> Result<&str, Invalid> {
        self.find(key).map_or(Ok(""), |node| node.text())
    }

    /// This node as text.
    ///
    /// # Errors
    ///
    /// [`Invalid`] when it is something else.
    pub fn text(&self) -> Result<&str, Invalid> {
        match &self.value {
            Value::Scalar(serde_json::Value::String(text)) => Ok(text),
            _ => Err(self.invalid("text is expected here")),
        }
    }

    /// This node as true or false.
    ///
    /// # Errors
    ///
    /// [`Invalid`] when it is something else.
    pub fn flag(&self) -> Result<bool, Invalid> {
        match &self.value {
            Value::Scalar(serde_json::Value::Bool(flag)) => Ok(*flag),
            // A wrapper, as some printers write one.
            Value::Map(_) => self.need("value")?.flag(),
            Value::List(_) | Value::Scalar(_) => {
                Err(self.invalid("true or false is expected here"))
            }
        }
    }

    /// This node as a whole number.
    ///
    /// # Errors
    ///
    /// [`Invalid`] when it is something else.
    pub fn number(&self) -> Result<i64, Invalid> {
        match &self.value {
            Value::Scalar(number) => number.as_i64(),
            Value::Map(_) | Value::List(_) => None,
        }
        .ok_or_else(|| self.invalid("a whole number is expected here"))
    }

    /// This node as a list.
    ///
    /// # Errors
    ///
    /// [`Invalid`] when it is something else.
    pub fn list(&self) -> Result<&[Self], Invalid> {
        match &self.value {
            Value::List(nodes) => Ok(nodes),
            Value::Map(_) | Value::Scalar(_) => Err(self.invalid("a list is expected here")),
        }
    }

    /// The keys of a map, as they are written.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries().iter().map(|(key, _)| key.as_str())
    }

    /// The nearest node on a path of keys and indices, as errors write it: `rules[2].limit.requests`.
    pub fn nearest(&self, path: &str) -> &Self {
        let mut node = self;
        for step in path.split(['.', '[']) {
            let next = match (step.strip_suffix(']'), &node.value) {
                (Some(index), Value::List(nodes)) => {
                    index.parse::<usize>().ok().and_then(|index| nodes.get(index))
                }
                (Some(_), Value::Map(_) | Value::Scalar(_)) => None,
                (None, _) => node.find(step),
            };
            let Some(next) = next else { break };
            node = next;
        }
        node
    }

    /// Everything below, itself first, in the order in which it is written.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Self)) {
        visit(self);
        match &self.value {
            Value::Map(entries) => entries.iter().for_each(|(_, node)| node.walk(visit)),
            Value::List(nodes) => nodes.iter().for_each(|node| node.walk(visit)),
            Value::Scalar(_) => {}
        }
    }

    /// This node without its places.
    pub fn json(&self) -> serde_json::Value {
        match &self.value {
            Value::Map(entries) => {
                let entries = entries.iter().map(|(key, node)| (key.clone(), node.json()));
                serde_json::Value::Object(entries.collect())
            }
            Value::List(nodes) => nodes.iter().map(Self::json).collect(),
            Value::Scalar(value) => value.clone(),
        }
    }

    /// The entries of a map, in the order in which they are written; none of anything else.
    pub fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::List(_) | Value::Scalar(_) => &[],
        }
    }

    fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(serde_json::Value::Null))
    }
}

/// A name of protocol buffers as JSON writes it: `root_id` becomes `rootId`.
pub fn camel_case(key: &str) -> String {
    let mut words = key.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
        name
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let place = spanned.referenced;
        Ok(Self { line: place.line(), column: place.column(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("YAML")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Value::Map(entries))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = list.next_element()? {
                    nodes.push(node);
                }
                Ok(Value::List(nodes))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Scalar(text.into()))
            }

            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Value, E> {
                Ok(Value::Scalar(flag.into()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Scalar(number.into()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
                Ok(Value::Scalar(number.into()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
                Ok(Value::Scalar(number.into()))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
                Ok(Value::Scalar(serde_json::Value::Null))
            }

            fn visit_none<E: de::Error>(self) -> Result<Value, E> {
                self.visit_unit()
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}
