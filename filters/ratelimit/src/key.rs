//! Whom a request counts against: a key composed of what the request carries.
//!
//! Every part of a key goes in with its kind and its length, so that no two requests with
//! different parts share a key: `a:b` and `c` is not `a` and `b:c`.
//!
//! A header, a cookie or a parameter counts only when it is there exactly once. Of several none is
//! better than the others, and a client that may add one could choose whom it counts against.
//!
//! Not here: what becomes of a request without a key ([`crate::config::Unkeyed`]).

use std::error::Error;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::attributes::AttributeError;
use tollgate::cookie::CookieName;
use tollgate::matching::{Names, PathPattern, RequestPath};
use tollgate::origin::{ClientAddress, NoAddress};
use tollgate::{HeaderName, Headers, query};

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
    /// The value of a cookie, byte for byte.
    Cookie(CookieName),
    /// The value of a parameter in the query, decoded.
    Query(Text),
    /// The request's path without its query, percent-decoded.
    Path,
    /// What a path that fits has in place of the segments in braces.
    Template(Box<PathPattern>),
    /// The network that stands for the client.
    ClientAddress(ClientAddress),
    /// The SPIFFE ID of the client.
    Peer,
    /// The same text for every request: it sets apart, or makes one quota for all.
    Constant(Text),
}

/// What a key is read from.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The request's headers.
    pub headers: &'a Headers,
    /// What the proxy knows of it.
    pub names: &'a dyn Names,
}

/// Why no single key can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoKey<'template> {
    /// The request does not have it.
    Missing {
        /// The part.
        part: &'template Part,
    },
    /// The request has several.
    Repeated {
        /// The part.
        part: &'template Part,
    },
    /// Servers read it in different ways.
    Unclear {
        /// The part.
        part: &'template Part,
    },
    /// The proxy does not say.
    Unsaid(AttributeError),
}

impl fmt::Display for NoKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { part } => write!(f, "it has no {part}"),
            Self::Repeated { part } => write!(f, "it has several of {part}"),
            Self::Unclear { part } => write!(f, "its {part} can be read in two ways"),
            Self::Unsaid(error) => write!(f, "{error}"),
        }
    }
}

/// The part as it is called; no value of a request.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Query(Text(name)) => write!(f, "parameter {name:?}"),
            Self::Path => f.write_str("path"),
            Self::Template(_) => f.write_str("path like the template"),
            Self::ClientAddress(_) => f.write_str("client address"),
            Self::Peer => f.write_str("SPIFFE ID"),
            Self::Constant(Text(text)) => write!(f, "constant {text:?}"),
        }
    }
}

/// Its parts as they are called; no value of a request.
impl fmt::Display for KeyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{part}")?;
        }
        Ok(())
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
    /// Shape: for each part its kind (one byte: `h`, `k`, `q`, `p`, `t`, `a`, `i` or `c`), its length in
    /// bytes (`u32`, little-endian) and its bytes.
    ///
    /// # Errors
    ///
    /// [`NoKey`] with the first part that cannot be read.
    pub fn compose(&self, request: Request<'_>) -> Result<Vec<u8>, NoKey<'_>> {
        let mut key = Vec::with_capacity(USUAL_BYTES);
        for part in &self.0 {
            part.append(request, &mut key)?;
        }
        Ok(key)
    }
}

/// The values that a composed key is of, in order.
pub(crate) fn values(mut key: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (_, rest) = key.split_first()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (value, rest) = rest.split_at_checked(length)?;
        key = rest;
        Some(value)
    })
}

impl KeyTemplate {
    /// What a service that knows no parts calls the values of a key, in order: a header, a cookie and a
    /// parameter by their names, what is in braces by the names there.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().flat_map(Part::names).collect()
    }

    /// The key that requests without one share where values are told: all that are not constant are
    /// empty.
    pub(crate) fn compose_of_nothing(&self) -> Vec<u8> {
        let mut key = Vec::new();
        for part in &self.0 {
            match part {
                Part::Constant(Text(text)) => append(&mut key, b'c', text.as_bytes()),
                other => (0..other.values()).for_each(|_| append(&mut key, other.kind(), b"")),
            }
        }
        key
    }

    /// The key of a request whose parts, but for constants, have these values.
    ///
    /// # Errors
    ///
    /// [`WrongValues`] when there are more or fewer of them.
    pub fn compose_of(&self, values: &[String]) -> Result<Vec<u8>, WrongValues> {
        let expected = self.0.iter().map(Part::values).sum();
        if values.len() != expected {
            return Err(WrongValues { expected, found: values.len() });
        }
        let mut values = values.iter().map(String::as_bytes);
        let mut key = Vec::new();
        for part in &self.0 {
            match part {
                Part::Constant(Text(text)) => append(&mut key, b'c', text.as_bytes()),
                other => {
                    for value in values.by_ref().take(other.values()) {
                        append(&mut key, other.kind(), value);
                    }
                }
            }
        }
        Ok(key)
    }
}

/// Values that are not one for each part of a key which a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongValues {
    expected: usize,
    found: usize,
}

impl fmt::Display for WrongValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, found } = self;
        write!(f, "{found} values are not {expected}, one for each part that is not constant")
    }
}

impl Error for WrongValues {}

impl Part {
    /// How many values of a request it is.
    fn values(&self) -> usize {
        match self {
            Self::Constant(_) => 0,
            Self::Template(pattern) => pattern.captured().count(),
            Self::Header(_)
            | Self::Cookie(_)
            | Self::Query(_)
            | Self::Path
            | Self::ClientAddress(_)
            | Self::Peer => 1,
        }
    }

    fn names(&self) -> Vec<String> {
        let name = match self {
            Self::Header(name) => name.as_str(),
            Self::Cookie(name) => name.as_str(),
            Self::Query(Text(name)) => name,
            Self::Path => "path",
            Self::Template(pattern) => return pattern.captured().map(str::to_owned).collect(),
            Self::ClientAddress(_) => "remote_address",
            Self::Peer => "peer",
            Self::Constant(_) => "generic_key",
        };
        vec![name.to_owned()]
    }

    /// What its values begin with in a key.
    fn kind(&self) -> u8 {
        match self {
            Self::Header(_) => b'h',
            Self::Cookie(_) => b'k',
            Self::Query(_) => b'q',
            Self::Path => b'p',
            Self::Template(_) => b't',
            Self::ClientAddress(_) => b'a',
            Self::Peer => b'i',
            Self::Constant(_) => b'c',
        }
    }

    fn append(&self, request: Request<'_>, key: &mut Vec<u8>) -> Result<(), NoKey<'_>> {
        let Request { headers, names } = request;
        let kind = self.kind();
        match self {
            Self::Header(name) => append(key, kind, self.only(headers.all(name.as_str()))?),
            Self::Cookie(name) => append(key, kind, self.only(name.all(headers))?),
            Self::Query(Text(name)) => {
                let path = headers.path().unwrap_or_default();
                append(key, kind, &self.only(query::all(path, name))?);
            }
            Self::Path => append(key, kind, &self.path(headers)?.decoded()),
            Self::Template(pattern) => {
                let captured = pattern.captures(self.path(headers)?);
                for segment in captured.ok_or(NoKey::Missing { part: self })? {
                    append(key, kind, &segment);
                }
            }
            Self::ClientAddress(client) => match client.read(headers) {
                Ok(network) => append(key, kind, network.to_string().as_bytes()),
                Err(NoAddress::Missing | NoAddress::NotAnAddress) => {
                    return Err(NoKey::Missing { part: self });
                }
                Err(NoAddress::Host(error)) => return Err(NoKey::Unsaid(error)),
            },
            Self::Peer => {
                let peer = names.peer().map_err(NoKey::Unsaid)?;
                let id = peer.ok_or(NoKey::Missing { part: self })?;
                append(key, kind, id.as_str().as_bytes());
            }
            Self::Constant(Text(text)) => append(key, kind, text.as_bytes()),
        }
        Ok(())
    }

    /// Whoever may write a path in several ways could otherwise count each against a key of its own.
    fn path<'a>(&self, headers: &'a Headers) -> Result<RequestPath<'a>, NoKey<'_>> {
        let path = headers.path().unwrap_or_default();
        RequestPath::read(path).map_err(|_| NoKey::Unclear { part: self })
    }

    /// The only one of these.
    fn only<T>(&self, mut found: impl Iterator<Item = T>) -> Result<T, NoKey<'_>> {
        match (found.next(), found.next()) {
            (None, _) => Err(NoKey::Missing { part: self }),
            (Some(value), None) => Ok(value),
            (Some(_), Some(_)) => Err(NoKey::Repeated { part: self }),
        }
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
        f.write_str("an empty list; name at least one part, such as { header: x-user }")
    }
}

impl Error for NoParts {}

/// The text of a constant, or the name of a parameter: not empty.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("minLength" = 1))]
pub struct Text(String);

impl Text {
    /// This text.
    ///
    /// # Errors
    ///
    /// [`EmptyText`] when there is none.
    pub fn new(text: &str) -> Result<Self, EmptyText> {
        if text.is_empty() { Err(EmptyText) } else { Ok(Self(text.to_owned())) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Text {
    type Error = EmptyText;

    fn try_from(text: String) -> Result<Self, EmptyText> {
        Self::new(&text)
    }
}

/// A text that sets nothing apart and names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyText;

impl fmt::Display for EmptyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"\" is not a text; write at least one character")
    }
}

impl Error for EmptyText {}

/// Room for most keys: to move one that grows takes longer than to compose it.
const USUAL_BYTES: usize = 56;

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
    use tollgate::matching::NoNames;

    fn header(name: &str) -> Part {
        Part::Header(HeaderName::new(name).unwrap())
    }

    fn constant(text: &str) -> Part {
        Part::Constant(Text::new(text).unwrap())
    }

    fn template(text: &str) -> Part {
        Part::Template(Box::new(PathPattern::template(text).unwrap()))
    }

    /// `expected` is the key, or why there is none.
    fn check(parts: &[Part], headers: &[(&str, &[u8])], path: &str, expected: Result<&[u8], &str>) {
        let lines = headers.iter().copied().chain([(":path", path.as_bytes())]);
        let headers: Headers = lines.collect();
        let template = KeyTemplate::new(parts.to_vec()).unwrap();
        let found = template.compose(Request { headers: &headers, names: &NoNames });
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
    fn a_path_counts_without_its_query_however_it_is_written() {
        for path in ["/a?b=/c?d", "/%61", "/a/", "/%61/?"] {
            check(&[Part::Path], &[], path, Ok(b"p\x02\0\0\0/a"));
        }
        check(&[Part::Path], &[], "/A", Ok(b"p\x02\0\0\0/A"));
        check(&[Part::Path], &[], "/?", Ok(b"p\x01\0\0\0/"));
        for path in ["/a#b?c", "?", "", "//a", "/b/../a", "/a;v=1", "/%2e/a", "/a%2fb"] {
            check(&[Part::Path], &[], path, Err("its path can be read in two ways"));
        }
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
        check(&[header("x-user")], two, "/", Err("it has several of header x-user"));
        check(&[header("x-user")], &[], "/", Err("it has no header x-user"));
        check(&[header("x-org"), header("x-team")], two, "/", Err("it has no header x-team"));
    }

    #[test]
    fn a_cookie_or_a_parameter_counts_when_it_is_there_once() {
        let cookie = [Part::Cookie(CookieName::new("id").unwrap())];
        check(&cookie, &[("cookie", b"a=1; id=7")], "/", Ok(b"k\x01\0\0\x007"));
        check(
            &cookie,
            &[("cookie", b"id=7"), ("cookie", b"id=8")],
            "/",
            Err("it has several of cookie id"),
        );
        check(&cookie, &[("cookie", b"ID=7")], "/", Err("it has no cookie id"));
        let parameter = [Part::Query(Text::new("key").unwrap())];
        check(&parameter, &[], "/?k%65y=a%20b", Ok(b"q\x03\0\0\0a b"));
        check(&parameter, &[], "/?key=a&key=a", Err("it has several of parameter \"key\""));
        check(&parameter, &[], "/key=a", Err("it has no parameter \"key\""));
    }

    #[test]
    fn a_template_gives_the_segments_in_its_braces_decoded() {
        let key = [template("/users/{user}/orders/{order}")];
        let expected: &[u8] = b"t\x01\0\0\x007t\x02\0\0\0ab";
        check(&key, &[], "/users/7/orders/ab?x", Ok(expected));
        check(&key, &[], "/users/%37/orders/a%62/", Ok(expected));
        for path in ["/users/7", "/users/7/orders/ab/c"] {
            check(&key, &[], path, Err("it has no path like the template"));
        }
        for path in ["/users//orders/ab", "/x/../users/7/orders/a"] {
            check(&key, &[], path, Err("its path like the template can be read in two ways"));
        }
    }

    #[test]
    fn a_client_is_its_network() {
        let client =
            |json: &str| [Part::ClientAddress(tollgate::config::parse(json.as_bytes()).unwrap())];
        let forwarded: &[(&str, &[u8])] = &[("x-forwarded-for", b"6.6.6.6, 2001:db8:1:2:3::4")];
        check(
            &client(r#"{"trusted_hops":1}"#),
            forwarded,
            "/",
            Ok(b"a\x11\0\0\x002001:db8:1:2::/64"),
        );
        check(&client(r#"{"trusted_hops":2}"#), forwarded, "/", Ok(b"a\x0a\0\0\x006.6.6.6/32"));
        check(&client(r#"{"trusted_hops":3}"#), forwarded, "/", Err("it has no client address"));
    }

    #[test]
    fn nobody_has_no_id() {
        check(&[Part::Peer], &[], "/", Err("it has no SPIFFE ID"));
    }

    #[test]
    fn the_shared_key_is_no_templates_key() {
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
                let headers: Headers = [("x-a", values[0].as_str()), ("x-b", values[1].as_str()), (":path", "/")]
                    .into_iter()
                    .collect();
                template.compose(Request { headers: &headers, names: &NoNames }).unwrap()
            };
            prop_assert_eq!(compose(&one) == compose(&other), one == other);
        }
    }
}
