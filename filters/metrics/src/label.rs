//! Labels: what series are told apart by, and where each value comes from.
//!
//! Not here: how values are read, which is the filter's.

use tollgate::HeaderName;
use tollgate::attributes::Kind;
use tollgate::matching::{PathPattern, RequestPath};

use crate::istio::Field;
use crate::measure::Scope;

/// What stands for a value that the policy does not list.
pub const OTHER: &str = "other";
/// What stands for a value that cannot be had.
pub const UNKNOWN: &str = "unknown";

/// A label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    pub source: Source,
    /// The values that it may have; any other one becomes [`OTHER`]. Empty: any.
    pub one_of: Vec<String>,
}

impl Label {
    /// Whether metrics of this scope have it.
    pub fn is_in(&self, scope: Scope) -> bool {
        match scope {
            Scope::Ended => true,
            Scope::Open => self.source.is_known_while_open(),
            Scope::Tcp => self.source.is_of_connections(),
        }
    }
}

/// Where the value of a label comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The policy.
    Constant(String),
    /// What the filter knows of every request.
    Fact(Fact),
    /// A header of the request, as it came.
    Header(HeaderName),
    /// A header of the response.
    ResponseHeader(HeaderName),
    /// An attribute of the proxy, by the segments of its path.
    Attribute(Vec<String>, Kind),
    /// The first template that the path of the request fits.
    Templates(Vec<Template>),
    /// A part of the SPIFFE ID of the client's certificate.
    Peer(PeerPart),
    /// A label of Istio's.
    Istio(Field),
}

/// A path with segments that stand for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// As it is written: the value of the label.
    pub text: String,
    /// What fits it.
    pub pattern: PathPattern,
}

/// What the filter knows of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// The method, `_OTHER` for one that is not registered.
    Method,
    /// `http` or `https`; anything else is `other`.
    Scheme,
    /// `http`, `grpc` or `grpc_web`; `tcp` of a connection.
    Protocol,
    /// The version of HTTP, such as `1.1`.
    Version,
    /// The status of the response, 0 without one.
    Code,
    /// The class of the status, such as `5xx`; `none` without a response.
    CodeClass,
    /// The status of gRPC; empty for other requests.
    GrpcStatus,
    /// What the proxy noted, such as `UF,URX`; `-` for nothing.
    Flags,
    /// `success`, `client_error`, `server_error` or `disconnected`.
    Outcome,
    /// What failed, of a request that did: a status of gRPC or HTTP, or what the proxy noted.
    ErrorType,
}

/// A part of a SPIFFE ID as Istio and others write it: `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeerPart {
    /// The whole ID.
    Id,
    /// The trust domain.
    TrustDomain,
    /// What stands after `/ns/`.
    Namespace,
    /// What stands after `/sa/`.
    ServiceAccount,
}

impl Source {
    /// Whether the value is known while a request is open.
    pub fn is_known_while_open(&self) -> bool {
        match self {
            Self::Constant(_) | Self::Header(_) | Self::Templates(_) | Self::Peer(_) => true,
            Self::ResponseHeader(_) => false,
            Self::Fact(fact) => match fact {
                Fact::Method | Fact::Scheme | Fact::Protocol | Fact::Version => true,
                Fact::Code
                | Fact::CodeClass
                | Fact::GrpcStatus
                | Fact::Flags
                | Fact::Outcome
                | Fact::ErrorType => false,
            },
            Self::Attribute(path, _) => path.first().is_none_or(|first| first != "response"),
            Self::Istio(field) => field.is_known_while_open(),
        }
    }

    /// Whether a connection of TCP has it.
    pub fn is_of_connections(&self) -> bool {
        match self {
            Self::Constant(_) | Self::Peer(_) => true,
            Self::Header(_) | Self::ResponseHeader(_) | Self::Templates(_) => false,
            Self::Fact(fact) => matches!(fact, Fact::Protocol | Fact::Flags),
            Self::Attribute(path, _) => {
                path.first().is_none_or(|first| first != "request" && first != "response")
            }
            Self::Istio(field) => field.is_of_connections(),
        }
    }
}

/// The first template that a path fits; [`OTHER`] when none does, or when the path can be read in two ways.
pub fn template<'a>(templates: &'a [Template], path: &[u8]) -> &'a str {
    let Ok(path) = RequestPath::read(path) else { return OTHER };
    let fitting = templates.iter().find(|template| template.pattern.matches(path));
    fitting.map_or(OTHER, |template| &template.text)
}

/// A method that is registered, or `_OTHER`.
///
/// Source: OpenTelemetry, `http.request.method`; RFC 9110, RFC 5789.
pub fn method(method: &[u8]) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| known.as_bytes() == method).unwrap_or("_OTHER")
}

impl PeerPart {
    /// This part of an ID; empty when the ID does not have it.
    pub fn of(self, id: &str) -> &str {
        let path = id.strip_prefix("spiffe://").unwrap_or(id);
        let (domain, path) = path.split_once('/').unwrap_or((path, ""));
        let mut segments = path.split('/');
        let mut after = |name: &str| {
            let at = segments.position(|segment| segment == name);
            at.and_then(|_| segments.next()).unwrap_or_default()
        };
        match self {
            Self::Id => id,
            Self::TrustDomain => domain,
            Self::Namespace => after("ns"),
            Self::ServiceAccount => after("sa"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_a_bounded_set() {
        assert_eq!(
            (method(b"GET"), method(b"get"), method(b"M-SEARCH")),
            ("GET", "_OTHER", "_OTHER")
        );
    }

    #[test]
    fn an_id_has_its_parts() {
        let id = "spiffe://acme/ns/shop/sa/cart";
        let parts =
            [PeerPart::Id, PeerPart::TrustDomain, PeerPart::Namespace, PeerPart::ServiceAccount];
        assert_eq!(parts.map(|part| part.of(id)), [id, "acme", "shop", "cart"]);
        assert_eq!(
            parts.map(|part| part.of("spiffe://acme/web")),
            ["spiffe://acme/web", "acme", "", ""]
        );
    }

    #[test]
    fn a_path_becomes_its_template() {
        let template_of = |text: &str| Template {
            text: text.to_owned(),
            pattern: PathPattern::template(text).unwrap(),
        };
        let templates = [template_of("/users/{id}"), template_of("/users/{id}/orders")];
        for (path, expected) in [
            ("/users/7?x=1", "/users/{id}"),
            ("/users/7/orders", "/users/{id}/orders"),
            ("/users/7/../8", "other"),
            ("/users", "other"),
        ] {
            assert_eq!(template(&templates, path.as_bytes()), expected, "{path}");
        }
    }
}
