//! Which requests a rule is for: the one matcher that all filters share.
//!
//! A [`Match`] says what a request has to be: its `routes` and `virtual_hosts` by name, its `hosts`,
//! `paths`, `methods` and `headers`, and who its `peers` are. Of a list of names, hosts, paths, methods or
//! peers one has to fit; of headers, all. What is not said fits every request.
//!
//! ```
//! use tollgate::Headers;
//! use tollgate::matching::{Ambiguous, Match, NoNames, Request};
//!
//! let orders: Match = tollgate::config::parse(
//!     br#"{ "methods": ["POST"], "paths": [{ "prefix": "/orders" }] }"#,
//! )?;
//! let request = |path| -> Headers { [(":method", "POST"), (":path", path)].into_iter().collect() };
//!
//! let (plain, twisted) = (request("/orders/7?x"), request("/x/..%2forders"));
//! let fits = |headers| orders.test(&Request::new(headers, &NoNames, Ambiguous::Deny));
//! assert_eq!(fits(&plain), Ok(true));
//! let why = fits(&twisted).unwrap_err();
//! assert_eq!(why.to_string(), "the path has an encoded slash, dot, ? or #");
//! # Ok::<(), tollgate::config::InvalidConfig>(())
//! ```
//!
//! Some requests can be read in two ways, and the upstream may read them in the other: a path with
//! `..` or `%2f`, a host with a user before it, a header of two lines that differ. Nothing is guessed:
//! whether a rule is for such a request is an [`Ambiguity`], and a policy declares with [`Ambiguous`]
//! what becomes of it. A request is ambiguous only to rules that look at what is ambiguous, and that
//! no other part of the rule excludes.
//!
//! Not here: what a filter does with an ambiguous request, and who a client is: [`crate::origin`].

mod header;
mod host;
mod path;
mod rules;
#[cfg(test)]
mod tests;
mod texts;

use std::cell::OnceCell;
use std::error::Error;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

pub use self::header::{HeaderMatch, InvalidHeaderMatch};
pub use self::host::{AmbiguousHost, HostPattern, InvalidHost, RequestHost};
pub(crate) use self::path::Decoded;
pub use self::path::{AmbiguousPath, InvalidPath, PathPattern, RequestPath};
pub use self::rules::{Rule, Rules};
use crate::attributes::AttributeError;
use crate::config::{AtLeastOne, present};
use crate::header_name::HeaderName;
use crate::headers::{Headers, NotOne};
use crate::host_error::HostError;
use crate::metrics::StatsTags;
use crate::origin::{self, NoIdentity, SpiffeId, SpiffePattern};
use crate::root::Root;

/// Which requests a rule is for; see [the module](self).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Parts")]
#[schemars(with = "Parts")]
pub struct Match(Box<Parts>);

/// Which requests a rule is for. What is left out fits every request; all that is written has to fit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Match", extend("minProperties" = 1))]
struct Parts {
    /// Names of routes: one has to fit.
    #[serde(default, deserialize_with = "texts::names")]
    #[schemars(with = "AtLeastOne<Name>")]
    routes: Option<Vec<String>>,
    /// Names of virtual hosts: one has to fit.
    #[serde(default, deserialize_with = "texts::names")]
    #[schemars(with = "AtLeastOne<Name>")]
    virtual_hosts: Option<Vec<String>>,
    /// Hosts: one has to fit.
    #[serde(default, deserialize_with = "texts::hosts")]
    #[schemars(with = "AtLeastOne<HostPattern>")]
    hosts: Option<Vec<String>>,
    /// Paths: one has to fit. They are compared decoded, without query and slash at the end.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<PathPattern>")]
    paths: Option<AtLeastOne<PathPattern>>,
    /// Methods: one has to fit.
    #[serde(default, deserialize_with = "texts::methods")]
    #[schemars(with = "AtLeastOne<Method>")]
    methods: Option<Vec<String>>,
    /// Headers: all have to fit.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<HeaderMatch>")]
    headers: Option<AtLeastOne<HeaderMatch>>,
    /// SPIFFE IDs of clients, in which `*` stands for one segment: one has to fit.
    #[serde(default, deserialize_with = "texts::peers")]
    #[schemars(with = "AtLeastOne<SpiffePattern>")]
    peers: Option<Vec<String>>,
}

/// What a policy does with requests that can be read in two ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ambiguous {
    /// They do not pass.
    #[default]
    Deny,
    /// They are compared as they came, byte for byte; of a header's lines, one has to fit.
    Literal,
}

/// A request, as rules see it.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    headers: &'a Headers,
    names: &'a dyn Names,
    ambiguous: Ambiguous,
}

impl<'a> Request<'a> {
    /// A request of these headers. The names are asked for only when a rule needs them.
    pub fn new(headers: &'a Headers, names: &'a dyn Names, ambiguous: Ambiguous) -> Self {
        Self { headers, names, ambiguous }
    }

    /// What is ambiguous, or else what it is literally.
    fn read<T>(
        &self,
        strictly: Result<T, Ambiguity>,
        literally: impl FnOnce() -> T,
    ) -> Result<T, Ambiguity> {
        match (strictly, self.ambiguous) {
            (Err(_), Ambiguous::Literal) => Ok(literally()),
            (result, Ambiguous::Deny | Ambiguous::Literal) => result,
        }
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("ambiguous", &self.ambiguous).finish_non_exhaustive()
    }
}

/// What the proxy calls the places that a request is routed through, and whom it comes from.
pub trait Names {
    /// The name of the route, if it has one.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the proxy does not say.
    fn route(&self) -> Result<Option<&[u8]>, HostError>;

    /// The name of the virtual host, if it has one.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the proxy does not say.
    fn virtual_host(&self) -> Result<Option<&[u8]>, HostError>;

    /// Who the client is, if it has shown that it is somebody.
    ///
    /// # Errors
    ///
    /// [`AttributeError`] when the proxy does not say.
    fn peer(&self) -> Result<Option<&SpiffeId>, AttributeError>;
}

/// No names: of a request without a route, by nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {
    fn route(&self) -> Result<Option<&[u8]>, HostError> {
        Ok(None)
    }

    fn virtual_host(&self) -> Result<Option<&[u8]>, HostError> {
        Ok(None)
    }

    fn peer(&self) -> Result<Option<&SpiffeId>, AttributeError> {
        Ok(None)
    }
}

/// The names that the proxy has for the request at hand: each is asked for once, and only if a rule
/// needs it. Made anew for every request.
#[derive(Debug, Default)]
pub struct ProxyNames {
    route: OnceCell<Result<Option<Vec<u8>>, HostError>>,
    virtual_host: OnceCell<Result<Option<Vec<u8>>, HostError>>,
    peer: OnceCell<Result<SpiffeId, NoIdentity>>,
}

impl ProxyNames {
    fn ask<'a>(
        name: &'a OnceCell<Result<Option<Vec<u8>>, HostError>>,
        path: [&str; 2],
    ) -> Result<Option<&'a [u8]>, HostError> {
        match name.get_or_init(|| Root::new(StatsTags::NONE).property(&path)) {
            Ok(name) => Ok(name.as_deref().filter(|name| !name.is_empty())),
            Err(error) => Err(*error),
        }
    }
}

impl Names for ProxyNames {
    fn route(&self) -> Result<Option<&[u8]>, HostError> {
        Self::ask(&self.route, ["xds", "route_name"])
    }

    fn virtual_host(&self) -> Result<Option<&[u8]>, HostError> {
        Self::ask(&self.virtual_host, ["xds", "virtual_host_name"])
    }

    fn peer(&self) -> Result<Option<&SpiffeId>, AttributeError> {
        match self.peer.get_or_init(origin::peer) {
            Ok(id) => Ok(Some(id)),
            Err(NoIdentity::Missing | NoIdentity::NotASpiffeId) => Ok(None),
            Err(NoIdentity::Host(error)) => Err(error.clone()),
        }
    }
}

/// Why nobody can say whether a rule is for a request. It tells no value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// The path may be read in two ways.
    Path(AmbiguousPath),
    /// The host may be read in two ways.
    Host(AmbiguousHost),
    /// The method is missing, repeated, or not in upper case.
    Method,
    /// Some lines of this header fit and others do not.
    Header {
        /// Its name.
        name: HeaderName,
    },
    /// The proxy does not say what the route or the virtual host is called.
    Unnamed(HostError),
    /// The proxy does not say who the client is.
    Unidentified(AttributeError),
}

impl fmt::Display for Ambiguity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(why) => write!(f, "{why}"),
            Self::Host(why) => write!(f, "{why}"),
            Self::Method => f.write_str("the method is not one in upper case"),
            Self::Header { name } => write!(f, "the lines of header {name} differ"),
            Self::Unnamed(error) => write!(f, "the route has no name: {error}"),
            Self::Unidentified(error) => write!(f, "nobody says who the client is: {error}"),
        }
    }
}

impl Error for Ambiguity {}

/// Whether one part of a rule fits a request.
type Test = fn(&Parts, &Request<'_>) -> Result<bool, Ambiguity>;

impl Match {
    /// Whether the rule is for this request. Nothing is allocated, but what a host answers with when a
    /// rule asks for the name of a route.
    ///
    /// # Errors
    ///
    /// [`Ambiguity`] when the request may be read in two ways and is not to be taken literally.
    #[inline(never)]
    pub fn test(&self, request: &Request<'_>) -> Result<bool, Ambiguity> {
        const PARTS: [Test; 7] = [
            Parts::method,
            Parts::path,
            Parts::host,
            Parts::headers,
            Parts::route,
            Parts::virtual_host,
            Parts::peer,
        ];
        let mut unclear = None;
        for part in PARTS {
            match part(&self.0, request) {
                Ok(true) => {}
                // Whatever is unclear, this rule is for others.
                Ok(false) => return Ok(false),
                Err(ambiguity) => unclear = unclear.or(Some(ambiguity)),
            }
        }
        unclear.map_or(Ok(true), Err)
    }
}

impl Parts {
    fn method(&self, request: &Request<'_>) -> Result<bool, Ambiguity> {
        let Some(methods) = &self.methods else {
            return Ok(true);
        };
        let read = match request.headers.exactly_one(":method") {
            Ok(method) if is_method(method) => Ok(method),
            Ok(_) | Err(NotOne::Missing | NotOne::Repeated) => Err(Ambiguity::Method),
        };
        let method = request.read(read, || request.headers.method().unwrap_or_default())?;
        Ok(methods.iter().any(|name| name.as_bytes() == method))
    }

    fn path(&self, request: &Request<'_>) -> Result<bool, Ambiguity> {
        let Some(paths) = &self.paths else {
            return Ok(true);
        };
        let path = request.headers.exactly_one(":path").unwrap_or_default();
        let read = RequestPath::read(path).map(Some).map_err(Ambiguity::Path);
        let path = request.read(read, || RequestPath::literal(path))?;
        Ok(path.is_some_and(|path| paths.as_slice().iter().any(|pattern| pattern.matches(path))))
    }

    fn host(&self, request: &Request<'_>) -> Result<bool, Ambiguity> {
        let Some(hosts) = &self.hosts else {
            return Ok(true);
        };
        let read = match request.headers.exactly_one(":authority") {
            Ok(authority) => RequestHost::read(authority),
            Err(NotOne::Missing) => Err(AmbiguousHost::Missing),
            Err(NotOne::Repeated) => Err(AmbiguousHost::Repeated),
        };
        let host = request.read(read.map_err(Ambiguity::Host), || {
            RequestHost::literal(request.headers.authority().unwrap_or_default())
        })?;
        Ok(hosts.iter().any(|pattern| host::fits(pattern, host)))
    }

    fn headers(&self, request: &Request<'_>) -> Result<bool, Ambiguity> {
        let mut unclear = None;
        for header in self.headers.iter().flat_map(AtLeastOne::as_slice) {
            match (header.test(request.headers), request.ambiguous) {
                (Some(false), _) => return Ok(false),
                (None, Ambiguous::Deny) => unclear = unclear.or(Some(header.name())),
                (Some(true), _) | (None, Ambiguous::Literal) => {}
            }
        }
        unclear.map_or(Ok(true), |name| Err(Ambiguity::Header { name: name.clone() }))
    }

    fn route(&self, request: &Request<'_>) -> Result<bool, Ambiguity> {
        self.routes.as_ref().map_or(Ok(true), |names| {
            let read = request.names.route().map_err(Ambiguity::Unnamed);
            Ok(is_one_of(request.read(read, || None)?, names))
        })
    }

    fn virtual_host(&self, request: &Request<'_>) -> Result<bool, Ambiguity> {
        self.virtual_hosts.as_ref().map_or(Ok(true), |names| {
            let read = request.names.virtual_host().map_err(Ambiguity::Unnamed);
            Ok(is_one_of(request.read(read, || None)?, names))
        })
    }

    fn peer(&self, request: &Request<'_>) -> Result<bool, Ambiguity> {
        self.peers.as_ref().map_or(Ok(true), |patterns| {
            let read = request.names.peer().map_err(Ambiguity::Unidentified);
            let peer = request.read(read, || None)?;
            let fits = |id| patterns.iter().any(|pattern| origin::fits(pattern, id));
            Ok(peer.is_some_and(fits))
        })
    }
}

fn is_one_of(found: Option<&[u8]>, names: &[String]) -> bool {
    names.iter().any(|name| Some(name.as_bytes()) == found)
}

impl TryFrom<Parts> for Match {
    type Error = InvalidMatch;

    fn try_from(parts: Parts) -> Result<Self, InvalidMatch> {
        let Parts { routes, virtual_hosts, hosts, paths, methods, headers, peers } = &parts;
        let says_nothing = routes.is_none()
            && virtual_hosts.is_none()
            && hosts.is_none()
            && paths.is_none()
            && methods.is_none()
            && headers.is_none()
            && peers.is_none();
        if says_nothing { Err(InvalidMatch::Nothing) } else { Ok(Self(Box::new(parts))) }
    }
}

/// The name of a route or of a virtual host.
#[derive(JsonSchema)]
#[schemars(inline, with = "String", extend("minLength" = 1))]
struct Name;

/// A method, in upper case.
#[derive(JsonSchema)]
#[schemars(inline, with = "String", extend("pattern" = "^[A-Z][A-Z0-9_-]*$"))]
struct Method;

fn is_method(method: &[u8]) -> bool {
    method.first().is_some_and(u8::is_ascii_uppercase)
        && method
            .iter()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

/// Why what is written is no [`Match`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidMatch {
    /// It says nothing, and so fits every request.
    Nothing,
    /// The name of a route or of a virtual host is empty.
    EmptyName,
    /// No client sends such a method.
    Method {
        /// The method.
        method: String,
    },
}

impl fmt::Display for InvalidMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("an empty object fits every request; leave it out"),
            Self::EmptyName => f.write_str("\"\" is not a name; write at least one character"),
            Self::Method { method } => {
                write!(f, "{method:?} is not a method; write it in upper case, such as GET")
            }
        }
    }
}

impl Error for InvalidMatch {}
