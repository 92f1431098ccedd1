//! SPIFFE IDs, to the letter of the standard.

use std::error::Error;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::attributes::{AttributeError, connection};

const SCHEME: &str = "spiffe://";

/// The longest SPIFFE ID, in bytes.
const MOST_BYTES: usize = 2048;

/// The longest trust domain, in bytes.
const MOST_DOMAIN_BYTES: usize = 255;

/// The name of a workload: `spiffe://TRUST-DOMAIN/PATH`.
///
/// # Examples
///
/// ```
/// use tollgate::origin::SpiffeId;
///
/// let id = SpiffeId::parse("spiffe://example.org/ns/shop/sa/cart")?;
/// assert_eq!(id.trust_domain(), "example.org");
/// assert_eq!(id.path(), "/ns/shop/sa/cart");
/// # Ok::<(), tollgate::origin::InvalidSpiffeId>(())
/// ```
///
/// Source: SPIFFE-ID, section 2.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, with = "String", extend("pattern" = r"^spiffe://[a-z0-9._-]+(/[a-zA-Z0-9._-]+)*$"))]
pub struct SpiffeId(String);

impl SpiffeId {
    /// A SPIFFE ID as it is written in certificates.
    ///
    /// # Errors
    ///
    /// [`InvalidSpiffeId`] with the first rule of the standard that it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidSpiffeId> {
        if text.len() > MOST_BYTES {
            return Err(InvalidSpiffeId::TooLong { bytes: text.len() });
        }
        let (domain, segments) = parts(text)?;
        check_domain(domain)?;
        segments.map_or(Ok(()), |mut segments| segments.try_for_each(check_segment))?;
        Ok(Self(text.to_owned()))
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain: who vouches for the workload.
    pub fn trust_domain(&self) -> &str {
        self.below_scheme().split('/').next().unwrap_or_default()
    }

    /// The path, with the slash at its beginning; empty for the trust domain itself.
    pub fn path(&self) -> &str {
        let below = self.below_scheme();
        below.find('/').and_then(|at| below.get(at..)).unwrap_or_default()
    }

    fn below_scheme(&self) -> &str {
        self.0.strip_prefix(SCHEME).unwrap_or_default()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = InvalidSpiffeId;

    fn try_from(text: String) -> Result<Self, InvalidSpiffeId> {
        Self::parse(&text)
    }
}

/// Some SPIFFE IDs: one in which segments may be `*`, each of which stands for exactly one segment. The
/// trust domain is always written out: another one says nothing about its names.
///
/// # Examples
///
/// ```
/// use tollgate::origin::{SpiffeId, SpiffePattern};
///
/// let carts = SpiffePattern::parse("spiffe://example.org/ns/*/sa/cart")?;
/// assert!(carts.matches(&SpiffeId::parse("spiffe://example.org/ns/shop/sa/cart")?));
/// assert!(!carts.matches(&SpiffeId::parse("spiffe://example.org/ns/shop/x/sa/cart")?));
/// # Ok::<(), tollgate::origin::InvalidSpiffeId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(
    inline,
    with = "String",
    extend("pattern" = r"^spiffe://[a-z0-9._-]+(/(\*|[a-zA-Z0-9._-]+))*$")
)]
pub struct SpiffePattern(String);

impl SpiffePattern {
    /// A pattern as it is written.
    ///
    /// # Errors
    ///
    /// [`InvalidSpiffeId`] when no SPIFFE ID is like this.
    pub fn parse(text: &str) -> Result<Self, InvalidSpiffeId> {
        let (domain, segments) = parts(text)?;
        check_domain(domain)?;
        let check = |segment: &str| if segment == "*" { Ok(()) } else { check_segment(segment) };
        segments.map_or(Ok(()), |mut segments| segments.try_for_each(check))?;
        Ok(Self(text.to_owned()))
    }

    /// Whether an ID is one of these.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        fits(&self.0, id)
    }
}

/// Whether an ID is one of a [`SpiffePattern`], as it is written.
pub(crate) fn fits(pattern: &str, id: &SpiffeId) -> bool {
    let (mut own, mut found) = (pattern.split('/'), id.as_str().split('/'));
    loop {
        match (own.next(), found.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(text), Some(segment)) if text == segment => {}
            _ => return false,
        }
    }
}

impl TryFrom<String> for SpiffePattern {
    type Error = InvalidSpiffeId;

    fn try_from(text: String) -> Result<Self, InvalidSpiffeId> {
        Self::parse(&text)
    }
}

/// Why a text is no [`SpiffeId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidSpiffeId {
    /// It is longer than 2048 bytes.
    TooLong {
        /// How long.
        bytes: usize,
    },
    /// It does not begin with `spiffe://`.
    Scheme {
        /// What is written.
        text: String,
    },
    /// The trust domain is empty, longer than 255 bytes, or has another character than a-z, 0-9, `.`,
    /// `-` and `_`.
    TrustDomain {
        /// What is written.
        domain: String,
    },
    /// A segment of the path is empty, `.` or `..`, or has another character than letters, digits, `.`,
    /// `-` and `_`.
    Segment {
        /// What is written.
        segment: String,
    },
}

impl fmt::Display for InvalidSpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes } => {
                write!(f, "{bytes} bytes are not at most {MOST_BYTES}, the longest SPIFFE ID")
            }
            Self::Scheme { text } => write!(f, "{text:?} does not begin with spiffe://"),
            Self::TrustDomain { domain } => write!(
                f,
                "{domain:?} is not a trust domain: 1 to {MOST_DOMAIN_BYTES} of a-z, 0-9, ., - and _"
            ),
            Self::Segment { segment } => write!(
                f,
                "{segment:?} is not a segment of a SPIFFE ID: letters, digits, ., - and _, not . or .."
            ),
        }
    }
}

impl Error for InvalidSpiffeId {}

/// The SPIFFE ID in the certificate of the connection's client.
///
/// The proxy tells the first URI of the certificate only, and not whether anybody has verified it: the
/// listener has to require and to verify certificates.
///
/// # Errors
///
/// [`NoIdentity`] when there is no certificate, or no SPIFFE ID first in it.
pub fn peer() -> Result<SpiffeId, NoIdentity> {
    let uri = connection::FIRST_URI_SAN_OF_PEER.read().map_err(NoIdentity::Host)?;
    let uri = uri.ok_or(NoIdentity::Missing)?;
    let text = str::from_utf8(uri.as_bytes()).map_err(|_| NoIdentity::NotASpiffeId)?;
    match text {
        "" => Err(NoIdentity::Missing),
        text => SpiffeId::parse(text).map_err(|_| NoIdentity::NotASpiffeId),
    }
}

/// Why a client has no SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoIdentity {
    /// It presented no certificate, or one without a URI.
    Missing,
    /// The first URI of its certificate is no SPIFFE ID.
    NotASpiffeId,
    /// The proxy does not say.
    Host(AttributeError),
}

impl fmt::Display for NoIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the client has no certificate with a SPIFFE ID"),
            Self::NotASpiffeId => {
                f.write_str("the first URI of the client's certificate is no SPIFFE ID")
            }
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl Error for NoIdentity {}

/// The trust domain, and the segments of the path, if there is a path.
fn parts(text: &str) -> Result<(&str, Option<std::str::Split<'_, char>>), InvalidSpiffeId> {
    let scheme = || InvalidSpiffeId::Scheme { text: text.to_owned() };
    let below = text.strip_prefix(SCHEME).ok_or_else(scheme)?;
    Ok(match below.split_once('/') {
        Some((domain, path)) => (domain, Some(path.split('/'))),
        None => (below, None),
    })
}

fn check_domain(domain: &str) -> Result<(), InvalidSpiffeId> {
    let is_allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
    };
    if (1..=MOST_DOMAIN_BYTES).contains(&domain.len()) && domain.bytes().all(is_allowed) {
        Ok(())
    } else {
        Err(InvalidSpiffeId::TrustDomain { domain: domain.to_owned() })
    }
}

fn check_segment(segment: &str) -> Result<(), InvalidSpiffeId> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !matches!(segment, "" | "." | "..") && segment.bytes().all(is_allowed) {
        Ok(())
    } else {
        Err(InvalidSpiffeId::Segment { segment: segment.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, &str), &str>) {
        let found = SpiffeId::parse(text);
        let found = found
            .as_ref()
            .map(|id| (id.trust_domain(), id.path()))
            .map_err(std::string::ToString::to_string);
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn the_standards_own_examples_are_ids() {
        for (text, domain, path) in [
            (
                "spiffe://staging.example.com/payments/mysql",
                "staging.example.com",
                "/payments/mysql",
            ),
            (
                "spiffe://k8s-west.example.com/ns/staging/sa/default",
                "k8s-west.example.com",
                "/ns/staging/sa/default",
            ),
            (
                "spiffe://example.com/9eebccd2-12bf-40a6-b262-65fe0487d453",
                "example.com",
                "/9eebccd2-12bf-40a6-b262-65fe0487d453",
            ),
            ("spiffe://example.com", "example.com", ""),
            ("spiffe://1.2.3.4/service", "1.2.3.4", "/service"),
            ("spiffe://a_b/A.B-C_1/...", "a_b", "/A.B-C_1/..."),
        ] {
            check(text, Ok((domain, path)));
        }
    }

    #[test]
    fn what_the_standard_forbids_is_no_id() {
        for text in ["", "spiffe:/a/b", "SPIFFE://a/b", "https://a/b", "a/b", " spiffe://a/b"] {
            check(text, Err(&format!("{text:?} does not begin with spiffe://")));
        }
        for domain in ["", "Example.com", "a:80", "u@a", "a?b", "a#b", "%41", "ä", "a b"] {
            let expected =
                format!("{domain:?} is not a trust domain: 1 to 255 of a-z, 0-9, ., - and _");
            check(&format!("spiffe://{domain}/b"), Err(&expected));
        }
        for segment in ["", ".", "..", "a?b", "a#b", "%2e", "ä", "a b", "*", "a\0"] {
            let expected = format!(
                "{segment:?} is not a segment of a SPIFFE ID: letters, digits, ., - and _, not . or .."
            );
            check(&format!("spiffe://a/{segment}/c"), Err(&expected));
            check(&format!("spiffe://a/c/{segment}"), Err(&expected));
        }
    }

    #[test]
    fn an_id_has_a_longest_length() {
        let longest_domain = "d".repeat(255);
        check(&format!("spiffe://{longest_domain}"), Ok((&longest_domain, "")));
        assert!(SpiffeId::parse(&format!("spiffe://{longest_domain}d")).is_err());
        let path = format!("/{}", "p".repeat(MOST_BYTES - SCHEME.len() - 2));
        check(&format!("spiffe://a{path}"), Ok(("a", &path)));
        let expected = "2049 bytes are not at most 2048, the longest SPIFFE ID";
        check(&format!("spiffe://a{path}p"), Err(expected));
    }

    #[test]
    fn a_star_is_one_segment() {
        let matches = |pattern, id| {
            SpiffePattern::parse(pattern).unwrap().matches(&SpiffeId::parse(id).unwrap())
        };
        assert!(matches("spiffe://a/ns/*/sa/*", "spiffe://a/ns/b/sa/c"));
        assert!(matches("spiffe://a", "spiffe://a"));
        for (pattern, id) in [
            ("spiffe://a/ns/*", "spiffe://a/ns"),
            ("spiffe://a/ns/*", "spiffe://a/ns/b/c"),
            ("spiffe://a/*", "spiffe://b/c"),
            ("spiffe://a/b", "spiffe://a/B"),
            ("spiffe://a", "spiffe://a/b"),
        ] {
            assert!(!matches(pattern, id), "{pattern} {id}");
        }
        for pattern in ["spiffe://*/a", "spiffe://a/b*", "spiffe://a/**", "*"] {
            assert!(SpiffePattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
