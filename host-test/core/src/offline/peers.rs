//! The connections of peers: when one shakes hands, and which connection it uses again.

use std::sync::Arc;

use super::Run;
use crate::scenario::Tls;
use crate::tls::{Alert, Credentials, Handshake, NotIssued, Secured};
use crate::world::EPOCH;

/// Who connects with TLS, and the connections that they have.
#[derive(Debug)]
pub(super) struct Peers {
    tls: Tls,
    credentials: Credentials,
    open: Vec<Connection>,
}

/// A connection of a peer to a worker.
#[derive(Debug)]
struct Connection {
    worker: usize,
    peer: usize,
    secured: Arc<Secured>,
}

impl Peers {
    /// Issues the certificates of a scenario.
    pub(super) fn new(tls: &Tls) -> Result<Self, NotIssued> {
        let credentials = Credentials::issue(tls, EPOCH)?;
        Ok(Self { tls: tls.clone(), credentials, open: Vec::new() })
    }

    /// A connection is gone: the peer shakes hands again.
    pub(super) fn lose(&mut self, gone: &Arc<Secured>) {
        self.open.retain(|connection| !Arc::ptr_eq(&connection.secured, gone));
    }
}

impl Run {
    /// Has a peer connect to a worker, unless it has a connection there that carries nothing. Without TLS,
    /// there is nothing to do.
    ///
    /// # Errors
    ///
    /// The [`Alert`] with which the proxy refuses the peer.
    pub(super) fn let_in(
        &mut self,
        worker: usize,
        name: Option<&str>,
    ) -> Result<Option<Arc<Secured>>, Alert> {
        let Some((peer, _)) = self.peers.as_ref().and_then(|peers| peers.tls.peer(name)) else {
            return Ok(None);
        };
        let is_free = |connection: &&Connection| {
            connection.worker == worker
                && connection.peer == peer
                && !self.is_busy(worker, &connection.secured)
        };
        let open = self.peers.iter().flat_map(|peers| &peers.open);
        if let Some(free) = open.filter(is_free).map(|free| Arc::clone(&free.secured)).next() {
            return Ok(Some(free));
        }
        let shaken = self.greet(name).and_then(|secured| self.shake(name, secured));
        let Some(Handshake { secured, refused }) = shaken else { return Ok(None) };
        if let Some(alert) = refused {
            return Err(alert);
        }
        let secured = Arc::new(secured);
        if let Some(peers) = &mut self.peers {
            let secured = Arc::clone(&secured);
            peers.open.push(Connection { worker, peer, secured });
        }
        Ok(Some(secured))
    }

    /// A connection of a peer before its handshake; nothing without TLS.
    pub(super) fn greet(&self, name: Option<&str>) -> Option<Secured> {
        let Peers { tls, credentials, .. } = self.peers.as_ref()?;
        let (_, peer) = tls.peer(name)?;
        Some(Secured::before(credentials, peer))
    }

    /// The handshake of a peer as the wall clock stands.
    pub(super) fn shake(&self, name: Option<&str>, before: Secured) -> Option<Handshake> {
        let Peers { tls, credentials, .. } = self.peers.as_ref()?;
        Some(before.shake(tls, credentials, tls.peer(name)?, self.world.clock.wall()))
    }
}
