//! Whom a request counts against: a key composed of what the request carries.
//!
//! Every part of a key goes in with its kind and its length, so that no two requests with
//! different parts share a key: `a:b` and `c` is not `a` and `b:c`.
//!
//! A header counts only when exactly one line carries it. Of several lines none is better than the
//! others, and a client that may add a line could choose whom it counts against.
//!
//! Not here: what becomes of a request without a key ([`crate::config::Unkeyed`]).

use std::error::Error;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::{HeaderName, Headers};

/// What a key is composed of: one part or more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<Part>")]
#[schemars(inline, extend("minItems" = 1))]
pub struct KeyTemplate(Vec<Part>);

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The value of a header, byte for byte.
    Header(HeaderName),
    /// The request's path without its query.
    Path,
    /// The same text for every request: it sets apart, or makes one quota for all.
    Constant(Constant),
}

/// Why no single key can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoKey<'template> {
    /// No line carries the header.
    Missing {
        /// The header's name.
        header: &'template HeaderName,
    },
    /// Several lines carry the header.
    Repeated {
        /// The header's name.
        header: &'template HeaderName,
    },
}

impl fmt::Display for NoKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { header } => write!(f, "no line has {header}"),
            Self::Repeated { header } => write!(f, "several lines have {header}"),
        }
    }
}

impl KeyTemplate {
    /// The key that all requests without one may share; no template composes it.
    pub const SHARED: &'static [u8] = b"";

    /// A key of these parts, in this order.
    ///
    /// # Errors
    ///
    /// [`NoParts`] when there are none.
    pub fn new(parts: Vec<Part>) -> Result<Self, NoParts> {
        if parts.is_empty() { Err(NoParts) } else { Ok(Self(parts)) }
    }

    /// The request's key, as bytes that no other combination of parts has.
    ///
    /// Shape: for each part its kind (one byte: `h`, `p` or `c`), its length in
    /// bytes (`u32`, little-endian) and its bytes.
    ///
    /// # Errors
    ///
    /// [`NoKey`] with the first part that cannot be read.
    pub fn compose(&self, headers: &Headers) -> Result<Vec<u8>, NoKey<'_>> {
        let mut key = Vec::new();
        for part in &self.0 {
            match part {
                Part::Header(name) => append(&mut key, b'h', only_line(headers, name)?),
                Part::Path => {
                    append(&mut key, b'p', without_query(headers.path().unwrap_or_default()));
                }
                Part::Constant(Constant(text)) => append(&mut key, b'c', text.as_bytes()),
            }
        }
        Ok(key)
    }
}

impl TryFrom<Vec<Part>> for KeyTemplate {
    type Error = NoParts;

    fn try_from(parts: Vec<Part>) -> Result<Self, NoParts> {
        Self::new(parts)
    }
}

/// A key of no parts: all requests would share it, which `constant` says aloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoParts;

impl fmt::Display for NoParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an empty list; name at least one part: a header, path or a constant")
    }
}

impl Error for NoParts {}

/// The text of a constant: not empty.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("minLength" = 1))]
pub struct Constant(String);

impl Constant {
    /// This text.
    ///
    /// # Errors
    ///
    /// [`EmptyConstant`] when there is none.
    pub fn new(text: &str) -> Result<Self, EmptyConstant> {
        if text.is_empty() { Err(EmptyConstant) } else { Ok(Self(text.to_owned())) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Constant {
    type Error = EmptyConstant;

    fn try_from(text: String) -> Result<Self, EmptyConstant> {
        Self::new(&text)
    }
}

/// A constant without text, which sets nothing apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyConstant;

impl fmt::Display for EmptyConstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"\" is not a constant; write at least one character")
    }
}

impl Error for EmptyConstant {}

fn only_line<'request, 'template>(
    headers: &'request Headers,
    header: &'template HeaderName,
) -> Result<&'request [u8], NoKey<'template>> {
    let mut lines = headers.all(header.as_str());
    match (lines.next(), lines.next()) {
        (None, _) => Err(NoKey::Missing { header }),
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(NoKey::Repeated { header }),
    }
}

/// Envoy refuses a path with a fragment by default; where it is told not to, a client could
/// otherwise count each request against a path of its own.
fn without_query(path: &[u8]) -> &[u8] {
    path.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default()
}

fn append(key: &mut Vec<u8>, kind: u8, value: &[u8]) {
    // No header map holds 4 GiB: the lengths of two values never saturate to the same.
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    key.push(kind);
    key.extend(length.to_le_bytes());
    key.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(name: &str) -> Part {
        Part::Header(HeaderName::new(name).unwrap())
    }

    fn constant(text: &str) -> Part {
        Part::Constant(Constant::new(text).unwrap())
    }

    /// `expected` is the key, or why there is none.
    fn check(parts: &[Part], headers: &[(&str, &[u8])], path: &str, expected: Result<&[u8], &str>) {
        let lines = headers.iter().copied().chain([(":path", path.as_bytes())]);
        let headers: Headers = lines.collect();
        let template = KeyTemplate::new(parts.to_vec()).unwrap();
        let found = template.compose(&headers);
        let found = found.map_err(|why| why.to_string());
        assert_eq!(found, expected.map(<[u8]>::to_vec).map_err(str::to_owned), "{parts:?}");
    }

    #[test]
    fn a_key_holds_each_part_with_its_kind_and_length() {
        let user: &[(&str, &[u8])] = &[("X-User", b"alice")];
        check(&[header("x-user")], user, "/", Ok(b"h\x05\0\0\0alice"));
        check(&[Part::Path], user, "/a/b", Ok(b"p\x04\0\0\0/a/b"));
        check(&[constant("eu")], user, "/", Ok(b"c\x02\0\0\0eu"));
        check(
            &[constant("eu"), Part::Path, header("x-user")],
            user,
            "/",
            Ok(b"c\x02\0\0\0eup\x01\0\0\0/h\x05\0\0\0alice"),
        );
    }

    #[test]
    fn a_path_has_no_query() {
        check(&[Part::Path], &[], "/a?b=/c?d", Ok(b"p\x02\0\0\0/a"));
        check(&[Part::Path], &[], "/a#b?c", Ok(b"p\x02\0\0\0/a"));
        check(&[Part::Path], &[], "?", Ok(b"p\0\0\0\0"));
        check(&[Part::Path], &[], "", Ok(b"p\0\0\0\0"));
    }

    #[test]
    fn a_header_value_is_any_bytes_on_one_line() {
        let key = [header("x-user")];
        check(&key, &[("x-user", b"\xff")], "/", Ok(b"h\x01\0\0\0\xff"));
        check(&key, &[("x-user", b"a,b")], "/", Ok(b"h\x03\0\0\0a,b"));
        check(&key, &[("x-user", b"")], "/", Ok(b"h\0\0\0\0"));
    }

    #[test]
    fn a_header_on_no_line_or_on_several_gives_no_key() {
        let two: &[(&str, &[u8])] = &[("x-user", b"a"), ("x-org", b"o"), ("X-User", b"a")];
        check(&[header("x-user")], two, "/", Err("several lines have x-user"));
        check(&[header("x-user")], &[], "/", Err("no line has x-user"));
        check(&[header("x-org"), header("x-team")], two, "/", Err("no line has x-team"));
    }

    #[test]
    fn the_shared_key_is_no_templates_key() {
        check(&[Part::Path], &[], "", Ok(b"p\0\0\0\0"));
        assert_eq!(KeyTemplate::new(Vec::new()), Err(NoParts));
        assert!(KeyTemplate::SHARED.is_empty());
    }

    proptest! {
        #[test]
        fn different_parts_never_compose_the_same_key(
            one in proptest::collection::vec("[hpc:\0\u{1}]{0,3}", 2),
            other in proptest::collection::vec("[hpc:\0\u{1}]{0,3}", 2),
        ) {
            let template = KeyTemplate::new(vec![header("x-a"), header("x-b"), Part::Path]).unwrap();
            let compose = |values: &[String]| {
                let headers: Headers = [("x-a", &values[0]), ("x-b", &values[1])].into_iter().collect();
                template.compose(&headers).unwrap()
            };
            prop_assert_eq!(compose(&one) == compose(&other), one == other);
        }
    }
}
