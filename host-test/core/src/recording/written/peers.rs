//! Clients that came with TLS, as the peers of a scenario: what their certificates say. Their keys are
//! others, and so are the digests of the certificates.

use serde_json::{Map, Value, json};

use super::{NotWritten, put};
use crate::offline::ConnectionId;
use crate::recording::told::Told;
use crate::tls::Secured;

/// The peers of a session.
pub(super) struct Peers<'a> {
    /// For each connection, the place of its peer.
    places: Vec<usize>,
    /// Those that differ, in the order in which they came.
    peers: Vec<&'a Secured>,
}

impl<'a> Peers<'a> {
    /// Those of a session; none when no client came with TLS.
    ///
    /// # Errors
    ///
    /// [`NotWritten::Peer`] when a certificate has a name that scenarios do not have.
    pub(super) fn of(told: &'a Told) -> Result<Self, NotWritten> {
        let (mut places, mut peers) = (Vec::new(), Vec::<&Secured>::new());
        for (at, secured) in &told.connections {
            let mut certificates = secured.peer.iter().chain([&secured.local]);
            if certificates.any(|certificate| certificate.written_names().is_none()) {
                return Err(NotWritten::Peer { at: *at });
            }
            let place = peers.iter().position(|peer| is_same(peer, secured));
            places.push(place.unwrap_or_else(|| {
                peers.push(secured);
                peers.len() - 1
            }));
        }
        Ok(Self { places, peers })
    }

    /// The name of the peer that a connection belongs to.
    pub(super) fn name(&self, connection: Option<ConnectionId>) -> Option<String> {
        let ConnectionId(number) = connection?;
        let connection = usize::try_from(number).ok()?.checked_sub(1)?;
        self.places.get(connection).map(|place| name(*place))
    }

    /// Adds them to a scenario, with the listener's TLS.
    pub(super) fn put(&self, whole: &mut Value) {
        let Some(first) = self.peers.first() else { return };
        let mut tls = json!({
            "certificate": {
                "subject": first.local.subject(),
                "san": first.local.written_names().unwrap_or_default(),
            },
        });
        if self.peers.iter().any(|peer| peer.peer.is_some() && !peer.peer_is_valid) {
            put(&mut tls, "trust_chain_verification", json!("ACCEPT_UNTRUSTED"));
        }
        put(whole, "tls", tls);
        let peers = self.peers.iter().enumerate();
        let peers: Map<String, Value> = peers.map(|(at, peer)| (name(at), written(peer))).collect();
        put(whole, "peers", Value::Object(peers));
    }
}

fn name(place: usize) -> String {
    format!("peer-{}", place + 1)
}

/// Whether a guest is told the same of both.
fn is_same(one: &Secured, other: &Secured) -> bool {
    one.peer == other.peer
        && one.peer_is_valid == other.peer_is_valid
        && one.server_name == other.server_name
        && one.version == other.version
}

fn written(secured: &Secured) -> Value {
    let mut peer = json!({ "version": secured.version });
    match &secured.peer {
        None => put(&mut peer, "certificate", json!("none")),
        Some(certificate) => {
            put(&mut peer, "subject", json!(certificate.subject()));
            put(&mut peer, "san", json!(certificate.written_names().unwrap_or_default()));
            put(&mut peer, "serial", json!(certificate.serial()));
            let issuer = if secured.peer_is_valid { "trusted" } else { "untrusted" };
            put(&mut peer, "issuer", json!(issuer));
        }
    }
    if let Some(server_name) = &secured.server_name {
        put(&mut peer, "server_name", json!(server_name));
    }
    peer
}
