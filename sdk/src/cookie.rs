//! Cookies of a request, by their exact names.

use std::error::Error;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::headers::{Headers, is_token};

/// The name of a cookie. It is compared byte for byte: `Group` is not `group`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("pattern" = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))]
pub struct CookieName(String);

impl CookieName {
    /// A cookie's name.
    ///
    /// # Errors
    ///
    /// [`InvalidCookieName`] when it is not a token.
    ///
    /// Source: RFC 6265, section 4.1.1.
    pub fn new(name: &str) -> Result<Self, InvalidCookieName> {
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(InvalidCookieName { name: name.to_owned() });
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of each cookie of this name, in the order of lines and of cookies in them. Values are
    /// bytes as they came, with their quotes if they have some.
    ///
    /// A client may send several: servers differ in which one they believe.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollgate::Headers;
    /// use tollgate::cookie::CookieName;
    ///
    /// let headers: Headers = [("cookie", "group=blue; groups=all"), ("cookie", "group=\"red\"")]
    ///     .into_iter()
    ///     .collect();
    /// let group = CookieName::new("group")?;
    /// let values: Vec<&[u8]> = group.all(&headers).collect();
    /// assert_eq!(values, [&b"blue"[..], b"\"red\""]);
    /// # Ok::<(), tollgate::cookie::InvalidCookieName>(())
    /// ```
    pub fn all<'a>(&'a self, headers: &'a Headers) -> impl Iterator<Item = &'a [u8]> {
        headers.all("cookie").flat_map(|line| line.split(|&byte| byte == b';')).filter_map(
            |cookie| {
                let at = cookie.iter().position(|&byte| byte == b'=')?;
                let (name, value) = cookie.split_at_checked(at)?;
                let value = value.strip_prefix(b"=")?;
                (name.trim_ascii() == self.0.as_bytes()).then(|| value.trim_ascii())
            },
        )
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CookieName {
    type Error = InvalidCookieName;

    fn try_from(name: String) -> Result<Self, InvalidCookieName> {
        Self::new(&name)
    }
}

/// A text that is no [`CookieName`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidCookieName {
    name: String,
}

impl fmt::Display for InvalidCookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not the name of a cookie; use letters, digits, - and _", self.name)
    }
}

impl Error for InvalidCookieName {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], expected: &[&str]) {
        let headers: Headers = lines.iter().map(|line| ("cookie", *line)).collect();
        let name = CookieName::new("a").unwrap();
        let values: Vec<&[u8]> = name.all(&headers).collect();
        let expected: Vec<&[u8]> = expected.iter().map(|value| value.as_bytes()).collect();
        assert_eq!(values, expected, "{lines:?}");
    }

    #[test]
    fn a_cookie_has_exactly_its_name() {
        check(&["a=1"], &["1"]);
        check(&["aa=1; A=2; b=a=3; a"], &[]);
        check(&["b=2;a=1;c"], &["1"]);
        check(&["a=1=2"], &["1=2"]);
        check(&["a="], &[""]);
        check(&[" a = 1 ; b"], &["1"]);
    }

    #[test]
    fn all_lines_and_all_repetitions_count() {
        check(&["a=1; a=2", "x", "a=3"], &["1", "2", "3"]);
        check(&[], &[]);
        check(&[";;=;=a", ""], &[]);
    }

    #[test]
    fn a_name_is_a_token() {
        for name in ["", "a b", "a=b", "a;", "ä", "\""] {
            assert!(CookieName::new(name).is_err(), "{name:?}");
        }
        assert_eq!(CookieName::new("__Host-id").unwrap().as_str(), "__Host-id");
    }
}
