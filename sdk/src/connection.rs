//! The phases of a TCP connection.
//!
//! A filter has these or those of HTTP, not both: a proxy puts it either into the chain of a listener or
//! into that of a route.

use tollgate_abi::PeerType;

use crate::body::{DownstreamData, UpstreamData};
use crate::ending::CloseConnection;
use crate::filter::Filter;

/// A TCP filter that takes part when a client has connected.
///
/// # Examples
///
/// A filter has phases of TCP or of HTTP, not both:
///
/// ```compile_fail
/// # use tollgate_host_native as _;
/// # use tollgate::config::NoConfig;
/// # use tollgate::*;
/// # struct Both;
/// # impl Filter for Both {
/// #     const NAME: &'static str = "both";
/// #     type Config = NoConfig;
/// #     type Stream = ();
/// #     fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> { Ok(Self) }
/// # }
/// impl OnConnection for Both {
///     fn on_connection(&self, (): &mut ()) -> Result<(), CloseConnection> { Ok(()) }
/// }
/// impl OnRequestHeaders for Both {
///     fn on_request_headers(&self, (): &mut (), _: &mut RequestHeaders) -> Outcome { Ok(()) }
/// }
///
/// tollgate::registration!(Both);
/// ```
pub trait OnConnection: Filter {
    /// Decides about a connection, before anything of it is sent on.
    ///
    /// # Errors
    ///
    /// [`CloseConnection`] when it must not be.
    fn on_connection(&self, connection: &mut Self::Stream) -> Result<(), CloseConnection>;
}

/// A TCP filter that takes part in what the client sends.
pub trait OnDownstreamData: Filter {
    /// Decides about bytes, before they reach the upstream. How they are cut is up to the network.
    ///
    /// # Errors
    ///
    /// [`CloseConnection`] when they must not.
    fn on_downstream_data(
        &self,
        connection: &mut Self::Stream,
        data: &mut DownstreamData,
    ) -> Result<(), CloseConnection>;
}

/// A TCP filter that takes part in what the upstream sends.
pub trait OnUpstreamData: Filter {
    /// Decides about bytes, before they reach the client. How they are cut is up to the network.
    ///
    /// # Errors
    ///
    /// [`CloseConnection`] when they must not.
    fn on_upstream_data(
        &self,
        connection: &mut Self::Stream,
        data: &mut UpstreamData,
    ) -> Result<(), CloseConnection>;
}

/// A TCP filter that takes part when the client's side is closed.
pub trait OnDownstreamClose: Filter {
    /// Notes that the client's side is closed, and by whom.
    fn on_downstream_close(&self, connection: &mut Self::Stream, by: PeerType);
}

/// A TCP filter that takes part when the upstream's side is closed.
pub trait OnUpstreamClose: Filter {
    /// Notes that the upstream's side is closed, and by whom. Envoy 1.40 does not say whom.
    fn on_upstream_close(&self, connection: &mut Self::Stream, by: PeerType);
}
