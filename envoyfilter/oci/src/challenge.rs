//! What a registry wants of those who are not logged in: the header `WWW-Authenticate`.
//!
//! Source: RFC 9110, section 11; the distribution project's token authentication.

use std::fmt;

/// A way to log in that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token, given by another service.
    Bearer {
        /// The URL of the service.
        realm: String,
        /// What it calls the registry.
        service: Option<String>,
    },
}

impl Challenge {
    /// The best of what the lines of the header offer.
    pub(crate) fn best(lines: &[&str]) -> Option<Self> {
        let bearer = lines.iter().find_map(|line| {
            let parameters = after_scheme(line, "bearer")?;
            let realm = parameter(parameters, "realm")?;
            Some(Self::Bearer { realm, service: parameter(parameters, "service") })
        });
        let is_basic = |line: &&str| after_scheme(line, "basic").is_some();
        bearer.or_else(|| lines.iter().any(is_basic).then_some(Self::Basic))
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic => f.write_str("Basic"),
            Self::Bearer { realm, .. } => write!(f, "Bearer at {realm}"),
        }
    }
}

/// What follows the name of a scheme, which begins the line or stands after a comma.
fn after_scheme<'a>(line: &'a str, scheme: &str) -> Option<&'a str> {
    let is_scheme = |word: &str| word.eq_ignore_ascii_case(scheme);
    let mut rest = line;
    loop {
        let part = rest.trim_start();
        let (word, after) = part.split_once([' ', ',']).unwrap_or((part, ""));
        if is_scheme(word) {
            return Some(after);
        }
        rest = beyond_comma(part)?;
    }
}

/// What follows the first comma that is not between quotes.
fn beyond_comma(text: &str) -> Option<&str> {
    let mut is_quoted = false;
    let at = text.find(|letter| {
        is_quoted ^= letter == '"';
        letter == ',' && !is_quoted
    })?;
    text.get(at.saturating_add(1)..)
}

fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let part = rest.trim_start();
        if let Some((found, value)) = part.split_once('=')
            && found.trim_end().eq_ignore_ascii_case(name)
        {
            let value = value.trim_start();
            let text = match value.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next(),
                None => value.split([',', ' ']).next(),
            };
            return text.map(str::to_owned);
        }
        rest = beyond_comma(part)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], expected: Option<&Challenge>) {
        assert_eq!(Challenge::best(lines).as_ref(), expected, "{lines:?}");
    }

    #[test]
    fn challenges_of_registries_are_read() {
        let bearer = |realm: &str, service: Option<&str>| Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
        };
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a,b:pull""#;
        check(&[hub], Some(&bearer("https://auth.docker.io/token", Some("registry.docker.io"))));
        check(
            &[r#"bearer scope="a,realm=b", realm=https://a/t"#],
            Some(&bearer("https://a/t", None)),
        );
        check(&[r#"Basic realm="Registry""#], Some(&Challenge::Basic));
        check(&["basic"], Some(&Challenge::Basic));
        check(&[r#"Basic realm="a", Bearer realm="https://b""#], Some(&bearer("https://b", None)));
        check(
            &["Basic realm=a", r#"Bearer realm="https://b",service="c""#],
            Some(&bearer("https://b", Some("c"))),
        );
    }

    #[test]
    fn what_is_not_known_is_no_challenge() {
        for line in [
            "",
            "Negotiate",
            "Bearer",
            "Bearer scope=\"a\"",
            "Digest realm=\"basic\"",
            "\"",
            ",,,=",
        ] {
            check(&[line], None);
        }
    }
}
