//! The name of a header that a filter can see.

use std::error::Error;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

/// The name of a header, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = r"^(?![Hh][Oo][Ss][Tt]$)[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))]
pub struct HeaderName(String);

impl HeaderName {
    /// A header's name, in any case.
    ///
    /// # Errors
    ///
    /// [`InvalidHeaderName`] when it is not a token, or when no filter would ever see the header.
    ///
    /// Source: RFC 9110, sections 5.1 and 5.6.2.
    pub fn new(name: &str) -> Result<Self, InvalidHeaderName> {
        let name = name.to_ascii_lowercase();
        if name.is_empty() {
            return Err(InvalidHeaderName::Empty);
        }
        if name.starts_with(':') {
            return Err(InvalidHeaderName::Pseudo { name });
        }
        if name == "host" {
            return Err(InvalidHeaderName::Host);
        }
        if let Some(found) = name.chars().find(|&character| !is_token(character)) {
            return Err(InvalidHeaderName::Character { name, found });
        }
        Ok(Self(name))
    }

    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for HeaderName {
    type Error = InvalidHeaderName;

    fn try_from(name: String) -> Result<Self, InvalidHeaderName> {
        Self::new(&name)
    }
}

/// Why a text is no [`HeaderName`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidHeaderName {
    /// There is no text.
    Empty,
    /// The name begins with a colon.
    Pseudo {
        /// The name.
        name: String,
    },
    /// Envoy passes `host` on as `:authority`.
    Host,
    /// A character is not allowed in a header's name.
    Character {
        /// The name.
        name: String,
        /// The first such character.
        found: char,
    },
}

impl fmt::Display for InvalidHeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "\"\" is not a header name; write one such as x-user"),
            Self::Pseudo { name } => {
                write!(f, "{name:?} is a pseudo-header; write the name of a header such as x-user")
            }
            Self::Host => write!(
                f,
                "\"host\" reaches no filter, Envoy makes it the pseudo-header :authority; \
                 write the name of another header such as x-user"
            ),
            Self::Character { name, found } => {
                write!(f, "{name:?} is not a header name; take out {found:?}")
            }
        }
    }
}

impl Error for InvalidHeaderName {}

fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Result<&str, &str>) {
        let found =
            HeaderName::new(name).map(|name| name.to_string()).map_err(|error| error.to_string());
        assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{name:?}");
    }

    #[test]
    fn a_name_is_kept_in_lower_case() {
        check("X-User", Ok("x-user"));
        check("!#$%&'*+-.^_`|~09aZ", Ok("!#$%&'*+-.^_`|~09az"));
    }

    #[test]
    fn what_no_filter_can_read_is_refused() {
        check("", Err("\"\" is not a header name; write one such as x-user"));
        check("x user", Err("\"x user\" is not a header name; take out ' '"));
        check("x-üser", Err("\"x-üser\" is not a header name; take out 'ü'"));
        check("x:y\n", Err("\"x:y\\n\" is not a header name; take out ':'"));
        check(
            ":Path",
            Err("\":path\" is a pseudo-header; write the name of a header such as x-user"),
        );
        check(
            "Host",
            Err("\"host\" reaches no filter, Envoy makes it the pseudo-header :authority; \
                 write the name of another header such as x-user"),
        );
    }
}
