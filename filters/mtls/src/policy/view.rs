//! A request or a connection, as policies see it.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;
use std::net::IpAddr;

use tollgate::Headers;
use tollgate::attributes::{AttributeError, connection, destination, source};
use tollgate::origin::SpiffeId;

use super::TrustDomains;
use super::clause::Unclear;
use crate::identity::Caller;
use crate::time::Moment;

/// What is known of a connection beside who has made it.
pub trait Connection {
    /// The address that it comes from, if it is one of IP.
    ///
    /// # Errors
    ///
    /// [`AttributeError`] when the proxy does not say.
    fn address(&self) -> Result<Option<IpAddr>, AttributeError>;

    /// The port that it was made to, if it has one.
    ///
    /// # Errors
    ///
    /// [`AttributeError`] when the proxy does not say.
    fn port(&self) -> Result<Option<u16>, AttributeError>;

    /// The server that it asked for (SNI), if it did.
    ///
    /// # Errors
    ///
    /// [`AttributeError`] when the proxy does not say.
    fn server_name(&self) -> Result<Option<Cow<'_, [u8]>>, AttributeError>;
}

/// The connection at hand. The proxy is asked when a clause needs it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProxyConnection;

impl Connection for ProxyConnection {
    fn address(&self) -> Result<Option<IpAddr>, AttributeError> {
        Ok(source::ADDRESS.read()?.and_then(|address| address.socket()).map(|socket| socket.ip()))
    }

    fn port(&self) -> Result<Option<u16>, AttributeError> {
        Ok(destination::PORT.read()?.and_then(|port| u16::try_from(port).ok()))
    }

    fn server_name(&self) -> Result<Option<Cow<'_, [u8]>>, AttributeError> {
        let name = connection::REQUESTED_SERVER_NAME.read()?.filter(|name| !name.is_empty());
        Ok(name.map(|name| name.into_bytes().into()))
    }
}

/// A request, or a connection where there are no requests.
pub struct View<'a> {
    /// Who calls, if it is somebody.
    pub caller: Option<&'a Caller>,
    /// The connection.
    pub connection: &'a dyn Connection,
    /// The headers of the request.
    pub headers: Option<&'a Headers>,
    /// When.
    pub now: Moment,
    trust_domains: &'a TrustDomains,
    local_id: OnceCell<Option<SpiffeId>>,
}

impl<'a> View<'a> {
    /// What is seen.
    pub fn new(
        caller: Option<&'a Caller>,
        connection: &'a dyn Connection,
        headers: Option<&'a Headers>,
        now: Moment,
        trust_domains: &'a TrustDomains,
    ) -> Self {
        Self { caller, connection, headers, now, trust_domains, local_id: OnceCell::new() }
    }

    /// The caller's SPIFFE ID, as it is in its certificate.
    pub fn id(&self) -> Option<&'a SpiffeId> {
        self.caller.and_then(|caller| caller.id.as_ref())
    }

    /// The caller's SPIFFE ID in the policy's own trust domain; `None` when it is of none of the domains that
    /// stand for that.
    pub fn local_id(&self) -> Option<&SpiffeId> {
        self.local_id
            .get_or_init(|| self.id().and_then(|id| self.trust_domains.localised(id)))
            .as_ref()
    }

    /// The headers; a connection has none.
    pub(super) fn headers(&self) -> Result<&'a Headers, Unclear> {
        self.headers.ok_or(Unclear)
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("caller", &self.caller).finish_non_exhaustive()
    }
}
