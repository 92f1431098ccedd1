//! What the proxy notes of a stream for its properties: when things happened, how many bytes passed, and
//! how it went.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::route::Chosen;
use crate::tls::Secured;

/// Bits of `response.flags`.
///
/// Source: Envoy, `envoy/stream_info/stream_info.h`; those that this host sets, checked on Envoy 1.40.
pub(crate) mod flags {
    /// The upstream broke the connection.
    pub(crate) const UPSTREAM_CONNECTION_TERMINATION: i64 = 0x40;
    /// The client closed its connection.
    pub(crate) const DOWNSTREAM_CONNECTION_TERMINATION: i64 = 0x4000;
    /// A filter made something of the request that cannot be sent.
    pub(crate) const DOWNSTREAM_PROTOCOL_ERROR: i64 = 0x4_0000;
    /// No route matches.
    pub(crate) const NO_ROUTE_FOUND: i64 = 0x100;
    /// The route leads to a cluster that there is not.
    pub(crate) const NO_CLUSTER_FOUND: i64 = 0x100_0000;
}

/// What the proxy notes of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// The number of the client's connection, from 1.
    pub(crate) connection: u64,
    /// The TLS of the client's connection.
    pub(crate) tls: Option<Arc<Secured>>,
    /// The address that the client is said to have by the last hop.
    pub(crate) forwarded: Option<IpAddr>,
    /// What the wall clock showed when the request came.
    pub(crate) came: Duration,
    /// When it came, in time that passes.
    pub(crate) began: Duration,
    /// When it was over.
    pub(crate) ended: Option<Duration>,
    /// Bytes of the request's body that have come.
    pub(crate) received: usize,
    /// Bytes of the response's body that have been sent.
    pub(crate) sent: usize,
    /// The status of the response.
    pub(crate) code: Option<u32>,
    /// Which part of the proxy made the response, and why.
    pub(crate) code_details: Option<Vec<u8>>,
    /// What went wrong.
    pub(crate) flags: i64,
    /// The router sends the request to its upstream.
    pub(crate) is_routed: bool,
    /// The router has no route for the request; the proxy has not chosen one for the connection yet.
    pub(crate) is_unroutable: bool,
    /// The route that was chosen last: properties tell it even when it is forgotten.
    pub(crate) route: Option<Chosen>,
    /// The router is to choose one anew.
    pub(crate) route_is_forgotten: bool,
    /// There is a connection to the upstream for it: since when.
    pub(crate) connected: Option<Duration>,
    /// When the last byte came from the upstream.
    pub(crate) answered: Option<Duration>,
}

impl Notes {
    /// Notes why there is a response, unless that is known.
    pub(crate) fn explain(&mut self, details: &[u8]) {
        self.code_details.get_or_insert_with(|| details.to_vec());
    }
}
