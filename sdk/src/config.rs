//! Configuration: JSON into the types of a filter, strictly.
//!
//! What is unknown, missing, empty or out of bounds is an error on one line that names the place, the
//! value and the bound: `rules[2].limit.requests: 0 is not at least 1`. Nothing is read as something
//! else, as long as the types say `#[serde(deny_unknown_fields)]`; [`Object`], [`word`] and
//! [`present`] switch off what serde itself would let pass.
//!
//! Not here: YAML, which is JSON by the time a filter is given it.

mod invalid;
mod misfit;
mod schema;
mod strict;
mod tree;

use std::collections::BTreeMap;
use std::str;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use self::invalid::InvalidConfig;
pub(crate) use self::schema::in_memory;
pub use self::schema::schema;
pub use self::strict::{AtLeastOne, EmptyList, Object, present, word};
use self::tree::Node;

/// The configuration of a filter that has none: nothing, or an empty object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Reads a configuration. No bytes at all, or only white space, are an empty object.
///
/// # Errors
///
/// [`InvalidConfig`] for the first thing that is wrong.
///
/// # Examples
///
/// ```
/// use serde::Deserialize;
///
/// #[derive(Debug, Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Greeting {
///     to: String,
/// }
///
/// let error = tollgate::config::parse::<Greeting>(br#"{ "to": 7 }"#).unwrap_err();
/// assert_eq!(error.to_string(), "to: 7 is not a string");
/// ```
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, InvalidConfig> {
    Document::parse(json)?.read()
}

/// A configuration that has been read as JSON, and not yet as a type.
#[derive(Clone)]
pub struct Document {
    node: Node,
    /// Nothing was written.
    is_empty: bool,
}

impl Document {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, InvalidConfig> {
        let json = str::from_utf8(json).map_err(|error| InvalidConfig::not_utf8(json, error))?;
        if json.trim().is_empty() {
            return Ok(Self::empty());
        }
        let node = serde_json::from_str(json).map_err(|error| InvalidConfig::not_json(&error))?;
        Ok(Self { node, is_empty: false })
    }

    /// What stands for nothing: an empty object.
    pub(crate) fn empty() -> Self {
        Self { node: Node::Object(Vec::new()), is_empty: true }
    }

    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, InvalidConfig> {
        T::deserialize(&self.node).map_err(|misfit| match InvalidConfig::misfit(&misfit) {
            problem if self.is_empty => InvalidConfig::Empty { problem: problem.to_string() },
            problem => problem,
        })
    }

    /// The fields of an object, each of them once.
    pub(crate) fn fields(self) -> Result<BTreeMap<String, Self>, InvalidConfig> {
        let Node::Object(fields) = self.node else {
            // Which says that it is no object.
            return self.read().map(|NoConfig {}| BTreeMap::new());
        };
        let mut documents = BTreeMap::new();
        for (name, node) in fields {
            if documents.contains_key(&name) {
                let problem = "stands twice".to_owned();
                return Err(InvalidConfig::Misfit { path: name, problem });
            }
            documents.insert(name, Self { node, is_empty: false });
        }
        Ok(documents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(try_from = "Object<WrittenLimits>")]
    struct Limits(Vec<Limit>);

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct WrittenLimits {
        limits: Vec<Object<Limit>>,
    }

    impl TryFrom<Object<WrittenLimits>> for Limits {
        type Error = &'static str;

        fn try_from(Object(written): Object<WrittenLimits>) -> Result<Self, &'static str> {
            let limits: Vec<Limit> =
                written.limits.into_iter().map(|Object(limit)| limit).collect();
            match limits.as_slice() {
                [] => Err("limits: an empty list; write at least one"),
                _ => Ok(Self(limits)),
            }
        }
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Limit {
        #[serde(default, deserialize_with = "present")]
        requests: Option<NonZeroU32>,
        #[serde(default, deserialize_with = "word")]
        else_: Else,
        #[serde(default)]
        labels: BTreeMap<String, u8>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Else {
        #[default]
        Deny,
        Allow,
    }

    fn check(json: &str, expected: Result<Limit, &str>) {
        let found = parse::<Limits>(json.as_bytes()).map_err(|error| error.to_string());
        let expected = expected.map(|limit| Limits(vec![limit]));
        assert_eq!(found, expected.map_err(str::to_owned), "{json}");
    }

    #[test]
    fn what_fits_is_read() {
        check(r#"{"limits":[{}]}"#, Ok(Limit::default()));
        let limit = Limit {
            requests: NonZeroU32::new(2),
            else_: Else::Allow,
            labels: BTreeMap::from([("a".to_owned(), 1)]),
        };
        check(r#"{"limits":[{"requests":2,"else_":"allow","labels":{"a":1}}]}"#, Ok(limit));
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        for (limit, expected) in [
            (
                r#"{"requests":null}"#,
                "limits[0].requests: null is not a whole number from 1 to 4294967295",
            ),
            (
                r#"{"requests":0}"#,
                "limits[0].requests: 0 is not a whole number from 1 to 4294967295",
            ),
            (r#"{"else_":{"deny":null}}"#, "limits[0].else_: an object is not a string"),
            (
                r#"{"labels":{"a b":1,"c":256}}"#,
                "limits[0].labels.c: 256 is not a whole number up to 255",
            ),
            ("[1]", "limits[0]: a list is not an object"),
            ("{", "line 1 column 12: not JSON: EOF while parsing an object"),
        ] {
            let rest = if limit == "{" { "" } else { "]}" };
            check(&format!("{{\"limits\":[{limit}{rest}"), Err(expected));
        }
    }

    #[test]
    fn what_the_whole_says_names_its_own_place() {
        check(r#"{"limits":[]}"#, Err("limits: an empty list; write at least one"));
        check("[]", Err("configuration: a list is not an object"));
        check("null", Err("configuration: null is not an object"));
    }

    #[test]
    fn nothing_is_an_empty_object() {
        check("", Err("the configuration is empty; limits: missing"));
        check(" \n", Err("the configuration is empty; limits: missing"));
        assert_eq!(parse::<NoConfig>(b""), Ok(NoConfig {}));
        assert_eq!(parse::<NoConfig>(b"{}"), Ok(NoConfig {}));
        let error = parse::<NoConfig>(br#"{"a":1}"#).unwrap_err();
        assert_eq!(error.to_string(), "a: unknown field, there is none");
    }
}
