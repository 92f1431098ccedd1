//! Where the filter decides otherwise than Envoy's own, on purpose.

use serde_json::Value;
use tollgate::matching::{RequestHost, RequestPath};

use crate::listener::Decision;
use crate::request::Request;

/// A reason to decide otherwise. Each is told in `filters/mtls/DIFFERENCES.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    /// A certificate that is no X.509-SVID of a workload is refused before rules are asked.
    Certificate,
    /// Envoy compares a pattern with every name of a certificate, of whatever kind.
    NameOfAnotherKind,
    /// A path that may be read in two ways counts against the caller.
    AmbiguousPath,
    /// A path is compared decoded.
    EncodedPath,
    /// A host that may be read in two ways counts against the caller.
    AmbiguousHost,
    /// Envoy has no `all` and no `one`.
    Quantifier,
}

impl Difference {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Certificate,
        Self::NameOfAnotherKind,
        Self::AmbiguousPath,
        Self::EncodedPath,
        Self::AmbiguousHost,
        Self::Quantifier,
    ];

    /// Whether it is why a request is decided otherwise.
    pub(crate) fn explains(self, policy: &Value, request: &Request, decision: &Decision) -> bool {
        let asks = |part: &str, field: &str| has(policy, part, field);
        let path = RequestPath::read(request.path.as_bytes());
        match self {
            Self::Certificate => {
                !decision.allows && refusal(request.peer, policy) == Some(&decision.reason)
            }
            Self::NameOfAnotherKind => match request.peer {
                "poses-as-uri" => asks("from", "dns_names"),
                "poses-as-dns" => {
                    let fields = ["principals", "trust_domains", "namespaces", "service_accounts"];
                    fields.iter().any(|field| asks("from", field))
                }
                _ => false,
            },
            Self::AmbiguousPath => asks("to", "paths") && path.is_err() && !decision.allows,
            Self::EncodedPath => asks("to", "paths") && path.is_ok() && request.path.contains('%'),
            Self::AmbiguousHost => {
                let is_ambiguous = RequestHost::read(request.host.as_bytes()).is_err();
                asks("to", "hosts") && is_ambiguous && !decision.allows
            }
            Self::Quantifier => conditions(policy).any(|condition| {
                let is_ours = condition.get("all").or(condition.get("one")).is_some();
                is_ours && values(request, condition["values"] == "members") > 1
            }),
        }
    }
}

/// What the filter says of the certificate of a peer that shows none of a workload.
fn refusal<'a>(peer: &str, policy: &Value) -> Option<&'a str> {
    match peer {
        "dns" | "poses-as-dns" if policy["identity"]["svid"] == "required" => Some("no_uri"),
        "two" => Some("several_uris"),
        "root" => Some("root_path"),
        "slash" => Some("not_a_spiffe_id"),
        "ca" => Some("certificate_of_ca"),
        "client-only" => Some("wrong_purpose"),
        _ => None,
    }
}

/// Whether some rule has a field, negated or not.
fn has(policy: &Value, part: &str, field: &str) -> bool {
    let sections = rules(policy).filter_map(|rule| rule[part].as_array()).flatten();
    let mut fields = sections.flat_map(|section| section.as_object().unwrap().keys());
    fields.any(|name| name.strip_prefix("not_").unwrap_or(name) == field)
}

fn conditions(policy: &Value) -> impl Iterator<Item = &Value> {
    rules(policy).filter_map(|rule| rule["when"].as_array()).flatten()
}

fn rules(policy: &Value) -> impl Iterator<Item = &Value> {
    policy["rules"].as_array().unwrap().iter()
}

fn values(request: &Request, of_members: bool) -> usize {
    let members = |line: &&str| if of_members { line.split(',').count() } else { 1 };
    request.roles.iter().map(members).sum()
}
