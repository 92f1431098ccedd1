//! Where requests go: a scheme, a host and a port.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use hyper::http::uri::PathAndQuery;

/// A server, as `http://HOST:PORT` or `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(Uri);

impl Origin {
    /// Whether it is spoken to over TLS.
    pub fn is_secured(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// The address of a path there.
    pub(crate) fn at(&self, path: &[u8]) -> Option<Uri> {
        let mut parts = self.0.clone().into_parts();
        parts.path_and_query = Some(path.try_into().ok()?);
        Uri::from_parts(parts).ok()
    }
}

/// A text that names no server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidOrigin {
    text: String,
    why: &'static str,
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = |why| InvalidOrigin { text: text.to_owned(), why };
        let uri: Uri = text.parse().map_err(|_| invalid("not a URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(invalid("only http:// and https:// are spoken"));
        }
        if !matches!(uri.path_and_query().map(PathAndQuery::as_str), None | Some("/" | "")) {
            return Err(invalid("a path is not added to requests; leave it out"));
        }
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(invalid("a host, and no user before it"));
        }
        Ok(Self(uri))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}; write it as http://127.0.0.1:9000", self.text, self.why)
    }
}

impl std::error::Error for InvalidOrigin {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let origin = text.parse::<Origin>();
            let got = origin.as_ref().map(ToString::to_string);
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected),
                (Err(error), Err(why)) => assert_eq!(error.why, why, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        };
        check("http://127.0.0.1:9000", Ok("http://127.0.0.1:9000/"));
        check("http://localhost/", Ok("http://localhost/"));
        check("https://localhost", Ok("https://localhost/"));
        check("ftp://localhost", Err("only http:// and https:// are spoken"));
        check("127.0.0.1:9000", Err("only http:// and https:// are spoken"));
        check("http://a:1/x", Err("a path is not added to requests; leave it out"));
        check("http://u@a:1", Err("a host, and no user before it"));
        check("http://a b", Err("not a URL"));
    }

    #[test]
    fn a_path_is_put_behind_it() {
        let origin: Origin = "http://a:1".parse().unwrap();
        assert_eq!(origin.at(b"/x?y=1").unwrap().to_string(), "http://a:1/x?y=1");
        assert_eq!(origin.at(b"no path"), None);
    }
}
