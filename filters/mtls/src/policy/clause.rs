//! Clauses: one field of a request or connection, and what it has to be.

use std::net::IpAddr;

use tollgate::matching::{HostPattern, PathPattern, RequestHost, RequestPath};
use tollgate::origin::{Network, SpiffeId, SpiffePattern};

use super::view::View;

/// What a clause looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// SPIFFE IDs of callers; `*` for all that have one.
    Principals,
    /// Their trust domains.
    TrustDomains,
    /// Their namespaces, in the policy's own trust domain.
    Namespaces,
    /// Their service accounts, as `namespace/account`, in the policy's own trust domain.
    ServiceAccounts,
    /// DNS names of their certificates.
    DnsNames,
    /// Subjects of their certificates.
    Subjects,
    /// Addresses that they connect from.
    Addresses,
    /// Hosts that requests are for.
    Hosts,
    /// Their methods.
    Methods,
    /// Their paths.
    Paths,
    /// Ports that connections were made to.
    Ports,
    /// Servers that were asked for in the handshake (SNI).
    ServerNames,
}

/// Where a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Who calls.
    From,
    /// What is called.
    To,
}

impl Field {
    /// All, with the part in which each is written, its name, and its name when it is negated.
    pub const ALL: [(Self, Part, &'static str, &'static str); 12] = [
        (Self::Principals, Part::From, "principals", "not_principals"),
        (Self::TrustDomains, Part::From, "trust_domains", "not_trust_domains"),
        (Self::Namespaces, Part::From, "namespaces", "not_namespaces"),
        (Self::ServiceAccounts, Part::From, "service_accounts", "not_service_accounts"),
        (Self::DnsNames, Part::From, "dns_names", "not_dns_names"),
        (Self::Subjects, Part::From, "subjects", "not_subjects"),
        (Self::Addresses, Part::From, "addresses", "not_addresses"),
        (Self::Hosts, Part::To, "hosts", "not_hosts"),
        (Self::Methods, Part::To, "methods", "not_methods"),
        (Self::Paths, Part::To, "paths", "not_paths"),
        (Self::Ports, Part::To, "ports", "not_ports"),
        (Self::ServerNames, Part::To, "server_names", "not_server_names"),
    ];

    /// Whether connections have it, not only requests.
    pub const fn is_of_connections(self) -> bool {
        !matches!(self, Self::Hosts | Self::Methods | Self::Paths)
    }
}

/// A field, and what it has to be: one of these, or none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// As it is written.
    pub name: &'static str,
    /// What it looks at.
    pub field: Field,
    /// Whether it has to be none of them.
    pub is_negated: bool,
    /// At least one.
    pub patterns: Vec<Pattern>,
}

/// What one of the values of a field looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Any identity.
    AnyPrincipal,
    /// A SPIFFE ID.
    Principal(SpiffePattern),
    /// A text, byte for byte: a trust domain, a namespace, a subject, a method.
    Text(String),
    /// A namespace and an account in it.
    ServiceAccount(String, String),
    /// A DNS name, in any case.
    Host(HostPattern),
    /// A path.
    Path(PathPattern),
    /// An address.
    Network(Network),
    /// A port.
    Port(u16),
}

impl Pattern {
    /// A value of a field as it is written.
    ///
    /// # Errors
    ///
    /// Why no request has it.
    pub(super) fn parse(field: Field, text: &str) -> Result<Self, String> {
        match field {
            Field::Principals if text == "*" => Ok(Self::AnyPrincipal),
            Field::Principals => {
                SpiffePattern::parse(text).map(Self::Principal).map_err(|why| why.to_string())
            }
            Field::TrustDomains => {
                SpiffeId::parse(&format!("spiffe://{text}")).map_err(|why| why.to_string())?;
                if text.contains('/') {
                    return Err(format!("{text:?} is a SPIFFE ID, and not a trust domain"));
                }
                Ok(Self::Text(text.to_owned()))
            }
            Field::Namespaces => segment(text).map(Self::Text),
            Field::ServiceAccounts => {
                let (namespace, account) = text
                    .split_once('/')
                    .ok_or_else(|| format!("{text:?} is not namespace/account"))?;
                Ok(Self::ServiceAccount(segment(namespace)?, segment(account)?))
            }
            Field::DnsNames | Field::Hosts | Field::ServerNames => {
                HostPattern::new(text).map(Self::Host).map_err(|why| why.to_string())
            }
            Field::Subjects if text.is_empty() => Err("\"\" is no subject".to_owned()),
            Field::Subjects => Ok(Self::Text(text.to_owned())),
            Field::Addresses => {
                Network::parse(text).map(Self::Network).map_err(|why| why.to_string())
            }
            Field::Methods if is_method(text) => Ok(Self::Text(text.to_owned())),
            Field::Methods => Err(format!("{text:?} is not a method in upper case")),
            Field::Paths => Err("write an object such as { prefix: /orders }".to_owned()),
            Field::Ports => Err("write a number from 1 to 65535".to_owned()),
        }
    }
}

fn segment(text: &str) -> Result<String, String> {
    let is_one = !text.contains('/') && SpiffeId::parse(&format!("spiffe://a/{text}")).is_ok();
    if is_one {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a segment of a SPIFFE ID: letters, digits, ., - and _"))
    }
}

fn is_method(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"-_".contains(&b))
}

/// Nobody can say whether a clause holds: a request may be read in two ways, or the proxy does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear;

impl Clause {
    /// Whether it holds. What is missing is none of the patterns: a clause that is negated holds for it.
    ///
    /// # Errors
    ///
    /// [`Unclear`] when nobody can say so.
    pub fn holds(&self, view: &View<'_>) -> Result<bool, Unclear> {
        Ok(self.fits(view)? != self.is_negated)
    }

    fn fits(&self, view: &View<'_>) -> Result<bool, Unclear> {
        match self.field {
            Field::Principals => Ok(self.any_name(view, |own, id| match own {
                Pattern::AnyPrincipal => true,
                Pattern::Principal(own) => own.matches(id),
                _ => false,
            })),
            Field::TrustDomains => Ok(self.any_name(view, |own, id| {
                matches!(own, Pattern::Text(own) if own == id.trust_domain())
            })),
            Field::Namespaces => Ok(self.any_account(view, |own, namespace, _| {
                matches!(own, Pattern::Text(own) if own == namespace)
            })),
            Field::ServiceAccounts => Ok(self.any_account(view, |own, namespace, account| {
                matches!(own, Pattern::ServiceAccount(n, a) if n == namespace && a == account)
            })),
            Field::DnsNames => {
                let names = view.caller.iter().flat_map(|caller| &caller.dns_names);
                Ok(names.into_iter().any(|name| self.is_host(name.as_bytes())))
            }
            Field::Subjects => {
                let subject = view.caller.and_then(|caller| caller.subject.as_deref());
                Ok(subject.is_some_and(|subject| self.is_text(subject.as_bytes())))
            }
            Field::Addresses => {
                let address = view.connection.address().map_err(|_| Unclear)?;
                Ok(address.is_some_and(|address| self.is_there(address)))
            }
            Field::Ports => {
                let port = view.connection.port().map_err(|_| Unclear)?;
                Ok(self.any(|own| matches!(own, Pattern::Port(own) if Some(*own) == port)))
            }
            Field::ServerNames => {
                let name = view.connection.server_name().map_err(|_| Unclear)?;
                Ok(name.is_some_and(|name| self.is_host(&name)))
            }
            Field::Hosts => {
                let authority = view.headers()?.exactly_one(":authority").map_err(|_| Unclear)?;
                let host = RequestHost::read(authority).map_err(|_| Unclear)?;
                Ok(self.any(|own| matches!(own, Pattern::Host(own) if own.matches(host))))
            }
            Field::Methods => {
                let method = view.headers()?.exactly_one(":method").map_err(|_| Unclear)?;
                if !str::from_utf8(method).is_ok_and(is_method) {
                    return Err(Unclear);
                }
                Ok(self.is_text(method))
            }
            Field::Paths => {
                let path = view.headers()?.exactly_one(":path").map_err(|_| Unclear)?;
                let path = RequestPath::read(path).map_err(|_| Unclear)?;
                Ok(self.any(|own| matches!(own, Pattern::Path(own) if own.matches(path))))
            }
        }
    }

    /// Whether the caller's ID, or what it is called in the policy's own trust domain, is one of these.
    fn any_name(&self, view: &View<'_>, fits: fn(&Pattern, &SpiffeId) -> bool) -> bool {
        let names = [view.id(), view.local_id()];
        names.into_iter().flatten().any(|id| self.any(|own| fits(own, id)))
    }

    /// Whether the caller is one of these service accounts of the policy's own trust domain.
    fn any_account(&self, view: &View<'_>, fits: fn(&Pattern, &str, &str) -> bool) -> bool {
        let mut segments = view.local_id().map(SpiffeId::path).unwrap_or_default().split('/');
        let mut next = || segments.next();
        match [next(), next(), next(), next(), next(), next()] {
            [Some(""), Some("ns"), Some(namespace), Some("sa"), Some(account), None] => {
                self.any(|own| fits(own, namespace, account))
            }
            _ => false,
        }
    }

    fn any(&self, fits: impl Fn(&Pattern) -> bool) -> bool {
        self.patterns.iter().any(fits)
    }

    fn is_text(&self, text: &[u8]) -> bool {
        self.any(|own| matches!(own, Pattern::Text(own) if own.as_bytes() == text))
    }

    fn is_host(&self, name: &[u8]) -> bool {
        RequestHost::read(name).is_ok_and(|name| {
            self.any(|own| matches!(own, Pattern::Host(own) if own.matches(name)))
        })
    }

    fn is_there(&self, address: IpAddr) -> bool {
        self.any(|own| matches!(own, Pattern::Network(own) if own.contains(address)))
    }
}
