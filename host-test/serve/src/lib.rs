//! The offline host as a local HTTP proxy: real clients and upstreams, and the filters in between.
//!
//! What filters see and do is decided in `tollgate-host`, as in scenarios; here its streams are fed from
//! sockets, and its clock follows the time that passes. All runs on one thread. Clients speak HTTP/1.1 or
//! HTTP/2, in plain text or with TLS; upstreams and services that filters call HTTP/1.1, and HTTP/2 for gRPC.

#![forbid(unsafe_code)]

mod bridge;
mod callout;
mod change;
mod client;
mod message;
mod origin;
mod pipe;
mod record;
mod tls;
mod upstream;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpListener;
use tokio::runtime;
use tokio::task::{LocalSet, spawn_local};
use tollgate_host::account::TrapReport;
use tollgate_host::offline::Run;
use tollgate_host::proxy::{Configured, HostFailure, LogLine};

use bridge::{Bridge, Ways};
pub use change::{Change, Changer, Changes, changes};
pub use origin::{InvalidOrigin, Origin};
pub use record::{Recorder, RecordingEnds};
pub use tls::{ClientCertificates, InvalidTls, NoHandshake, ServerTls, Trust};

/// What a proxy stands between.
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How clients are met with TLS; without it they speak plain text.
    pub tls: Option<ServerTls>,
    /// Whom it trusts among upstream and services with `https://`.
    pub trust: Trust,
    /// Where requests go that pass the filters.
    pub upstream: Origin,
    /// Where callouts of filters go, by the name of the cluster.
    pub clusters: BTreeMap<String, Origin>,
    /// What is written of all that comes, if anything is.
    pub recorder: Option<Recorder>,
    /// Filters that are exchanged while it runs, if any are.
    pub changes: Option<Changes>,
}

/// What a proxy tells while it runs.
#[derive(Debug)]
pub enum Told<'a> {
    /// It listens here.
    Listens(SocketAddr),
    /// A filter wrote a line.
    Log(&'a LogLine),
    /// A filter trapped.
    Trapped(&'a TrapReport),
    /// A filter was exchanged, or the old one stays.
    Exchanged {
        /// Its place in the chain.
        place: usize,
        /// What came of it.
        configured: &'a Configured,
    },
    /// Nothing more is recorded.
    RecordingEnds(&'a RecordingEnds),
    /// A client did not come to shake hands.
    NoHandshake(&'a NoHandshake),
    /// A stream is over: a line for a log of accesses.
    Access(&'a Access),
}

/// A stream that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// The status that the client got; nothing when it got none.
    pub status: Option<u16>,
    /// The upstream has seen some of the request.
    pub went_upstream: bool,
    /// How long it took, in microseconds.
    pub micros: u128,
}

/// A proxy could not go on.
#[derive(Debug)]
pub enum ServeError {
    /// It cannot listen.
    Listen {
        /// Where.
        to: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// There is no runtime for sockets.
    Runtime(io::Error),
    /// A filter did what this host does not serve, or what ends an Envoy.
    Host(HostFailure),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { to, error } => write!(f, "cannot listen on {to}: {error}"),
            Self::Runtime(error) => write!(f, "sockets cannot be used: {error}"),
            Self::Host(failure) => write!(f, "{failure}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// Serves until a filter does what ends an Envoy, or the process is ended.
///
/// # Errors
///
/// [`ServeError`].
pub fn serve(
    run: Run,
    options: Options,
    tell: impl FnMut(Told<'_>) + 'static,
) -> Result<(), ServeError> {
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Runtime)?;
    let set = LocalSet::new();
    set.block_on(&runtime, async move {
        let Options { listen, tls, trust, upstream, clusters, recorder, changes } = options;
        let cannot = |error| ServeError::Listen { to: listen, error };
        let listener = TcpListener::bind(listen).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let ways = Ways::new(upstream, clusters, &trust);
        let bridge = Rc::new(Bridge::new(run, ways, recorder, Box::new(tell)));
        bridge.tell(Told::Listens(address));
        if let Some(mut changes) = changes {
            let bridge = Rc::clone(&bridge);
            let _task = spawn_local(async move {
                loop {
                    bridge.exchange(changes.next().await);
                }
            });
        }
        let failed = tokio::select! {
            failed = bridge.clone().keep_time() => failed,
            failed = client::accept(listener, tls.map(Rc::new), Rc::clone(&bridge)) => failed,
        };
        Err(ServeError::Host(failed))
    })
}
