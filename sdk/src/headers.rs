//! Headers as they were read: the whole map, line by line, values as bytes.
//!
//! Reading and changing them in the proxy is not here: see
//! [`RequestHeaders`](crate::RequestHeaders).

use std::error::Error;
use std::fmt;

use tollgate_abi::pairs::{self, Pairs};

pub use tollgate_abi::pairs::{InvalidPairs, Iter};

/// The lines of a header map, in their order. Names are looked up in any case.
///
/// # Examples
///
/// ```
/// use tollgate::Headers;
/// use tollgate::headers::NotOne;
///
/// let headers: Headers = [(":path", "/"), ("x-user", "alice"), ("X-User", "\u{ff}")]
///     .into_iter()
///     .collect();
/// assert_eq!(headers.path(), Some(&b"/"[..]));
/// assert_eq!(headers.all("x-user").count(), 2);
/// assert_eq!(headers.exactly_one("x-user"), Err(NotOne::Repeated));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Headers {
    /// As the host serialises them, checked: they are read where they lie, since most filters look for
    /// one line of many.
    serialized: Vec<u8>,
    len: usize,
}

impl Headers {
    /// Reads a header map as the host serialises it.
    ///
    /// # Errors
    ///
    /// [`InvalidPairs`] with the offset at which the bytes stop making sense.
    pub fn parse(serialized: Vec<u8>) -> Result<Self, InvalidPairs> {
        let len = Pairs::parse(&serialized)?.len();
        Ok(Self { serialized, len })
    }

    /// The lines as (name, value), in their order.
    pub fn iter(&self) -> Iter<'_> {
        Pairs::of_checked(&self.serialized, self.len).iter()
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of each line with this name, in order. Whoever decides by a header has to look at
    /// all of them: a client may send several.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        Pairs::of_checked(&self.serialized, self.len).named(name.as_bytes())
    }

    /// The value of the first line with this name. Not for decisions about security: a later line
    /// may say something else to the upstream.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The value of the only line with this name.
    ///
    /// # Errors
    ///
    /// [`NotOne`] when no line or several have it.
    pub fn exactly_one(&self, name: &str) -> Result<&[u8], NotOne> {
        let mut lines = self.all(name);
        match (lines.next(), lines.next()) {
            (None, _) => Err(NotOne::Missing),
            (Some(value), None) => Ok(value),
            (Some(_), Some(_)) => Err(NotOne::Repeated),
        }
    }

    /// Whether a line has this name and exactly this value.
    pub fn contains_line(&self, name: &str, value: impl AsRef<[u8]>) -> bool {
        self.all(name).any(|line| line == value.as_ref())
    }

    /// The method of a request.
    pub fn method(&self) -> Option<&[u8]> {
        self.first(":method")
    }

    /// The path of a request, with its query.
    pub fn path(&self) -> Option<&[u8]> {
        self.first(":path")
    }

    /// The host, and perhaps port, that a request is for.
    pub fn authority(&self) -> Option<&[u8]> {
        self.first(":authority")
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> Option<&[u8]> {
        self.first(":scheme")
    }

    /// The status of a response, if it is a number.
    pub fn status(&self) -> Option<u16> {
        std::str::from_utf8(self.first(":status")?).ok()?.parse().ok()
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    /// Lines of more than 4 GiB, which no header map can have, are left out.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(lines: I) -> Self {
        let fits = |part: &[u8]| u32::try_from(part.len()).is_ok();
        let lines: Vec<(N, V)> = lines
            .into_iter()
            .filter(|(name, value)| fits(name.as_ref()) && fits(value.as_ref()))
            .collect();
        pairs::encode(&lines)
            .map_or_else(|_| Self::default(), |serialized| Self { serialized, len: lines.len() })
    }
}

/// Why a header has no single value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOne {
    /// No line has the name.
    Missing,
    /// Several lines have the name.
    Repeated,
}

impl fmt::Display for NotOne {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no line has this header",
            Self::Repeated => "several lines have this header",
        })
    }
}

impl Error for NotOne {}

/// A line that would be more, or something else, than one header line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidHeader {
    /// The name is not a token, nor a colon and a token.
    Name {
        /// The name, with what is not ASCII escaped.
        name: String,
    },
    /// The value has a carriage return, a line feed or NUL. The value itself is not told: it may be a
    /// secret.
    Value {
        /// The name of the header.
        name: String,
    },
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name } => write!(f, "\"{name}\" is not the name of a header"),
            Self::Value { name } => {
                write!(f, "the value of header {name} has a line break or NUL in it")
            }
        }
    }
}

impl Error for InvalidHeader {}

/// Checks a line before it goes to the host, which may not.
///
/// Source: RFC 9110, sections 5.1, 5.5 and 5.6.2.
pub(crate) fn check_header(name: &[u8], value: &[u8]) -> Result<(), InvalidHeader> {
    let token = name.strip_prefix(b":").unwrap_or(name);
    let shown = || name.escape_ascii().to_string();
    if token.is_empty() || !token.iter().copied().all(is_token) {
        return Err(InvalidHeader::Name { name: shown() });
    }
    if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(InvalidHeader::Value { name: shown() });
    }
    Ok(())
}

/// Whether a byte may stand in a name, byte by byte.
static IS_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut tokens: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789-_.!#$%&'*+^`|~\
                              ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    while let [token, rest @ ..] = tokens {
        #[expect(
            clippy::indexing_slicing,
            clippy::as_conversions,
            reason = "evaluated by the compiler; a byte is below 256"
        )]
        {
            table[*token as usize] = true;
        }
        tokens = rest;
    }
    table
};

pub(crate) fn is_token(byte: u8) -> bool {
    IS_TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tollgate_abi::pairs::encode;

    #[test]
    fn a_name_is_found_in_any_case_and_a_value_is_bytes() {
        let headers: Headers =
            [("X-User", &b"\xff"[..]), ("x-org", b""), ("x-user", b"b")].into_iter().collect();
        let values: Vec<_> = headers.all("x-USER").collect();
        assert_eq!(values, [&b"\xff"[..], b"b"]);
        assert_eq!(headers.first("x-user"), Some(&b"\xff"[..]));
        assert_eq!(headers.exactly_one("x-user"), Err(NotOne::Repeated));
        assert_eq!(headers.exactly_one("X-Org"), Ok(&b""[..]));
        assert_eq!(headers.exactly_one("x"), Err(NotOne::Missing));
    }

    #[test]
    fn a_status_is_a_number_or_none() {
        let check = |value: &[u8], expected| {
            let headers: Headers = [(":status", value)].into_iter().collect();
            assert_eq!(headers.status(), expected, "{}", value.escape_ascii());
        };
        check(b"200", Some(200));
        check(b"65536", None);
        check(b"2\xff0", None);
        check(b"", None);
        assert_eq!(Headers::default().status(), None);
    }

    #[test]
    fn a_line_is_one_line() {
        let check = |name: &[u8], value: &[u8], expected: Result<(), &str>| {
            let found = check_header(name, value).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned));
        };
        check(b"x-user", b"\xff\x01 ", Ok(()));
        check(b":path", b"/", Ok(()));
        check(b"", b"", Err(r#""" is not the name of a header"#));
        check(b":", b"", Err(r#"":" is not the name of a header"#));
        check(b"a b", b"", Err(r#""a b" is not the name of a header"#));
        check(b"a\xff", b"", Err(r#""a\xff" is not the name of a header"#));
        for value in [&b"a\r"[..], b"\nb", b"\0"] {
            let expected = "the value of header x has a line break or NUL in it";
            check(b"x", value, Err(expected));
        }
    }

    proptest! {
        #[test]
        fn what_the_host_serialised_is_read_line_by_line(
            lines in vec((vec(any::<u8>(), 0..8), vec(any::<u8>(), 0..8)), 0..20),
        ) {
            let headers = Headers::parse(encode(&lines).unwrap()).unwrap();
            let pair = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
            prop_assert_eq!(headers.iter().map(pair).collect::<Vec<_>>(), lines.clone());
            prop_assert_eq!(headers.len(), lines.len());
            let collected: Headers = lines.iter().cloned().collect();
            prop_assert_eq!(collected.iter().map(pair).collect::<Vec<_>>(), lines);
        }

        #[test]
        fn any_bytes_are_headers_or_an_error(bytes in vec(any::<u8>(), 0..100)) {
            if let Ok(headers) = Headers::parse(bytes) {
                prop_assert_eq!(headers.iter().count(), headers.len());
            }
        }
    }
}
