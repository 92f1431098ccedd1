//! Sessions of TLS that a client resumes: Envoy says that nothing was verified.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use serde_json::json;

use crate::common::envoy::{Envoy, bootstrap, connection_manager, fetched, http_filter, route};
use crate::listener::wasm;
use crate::module;
use crate::peers::Peers;

/// The status of an answer on a connection of its own, and how its session came to be.
fn get(
    to: SocketAddr,
    (config, name): &(Arc<ClientConfig>, ServerName<'static>),
) -> (String, HandshakeKind) {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name.clone()).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // Tickets come before the answer. A peer may end a connection without a word of TLS.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, stream.conn.handshake_kind().unwrap())
}

#[test]
fn a_resumed_session_passes_where_the_listener_vouches_for_it() {
    let Some(binary) = fetched() else { return };
    let peers = Peers::issue();
    for (verified_by, expected) in [("proxy", "403"), ("listener", "200")] {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mtls-resumed").join(verified_by);
        fs::create_dir_all(&folder).unwrap();
        let policy = json!({
            "identity": { "verified_by": verified_by },
            "rules": [{
                "name": "shop", "action": "allow",
                "from": [{ "principals": ["spiffe://acme/ns/shop/sa/cart"] }],
            }],
        });
        let filters = json!([wasm(0, &module(), &policy), http_filter("router", "Router")]);
        let mut socket = peers.socket();
        socket["typed_config"]["require_client_certificate"] = json!(true);
        let chains = json!([{
            "transport_socket": socket,
            "filters": [connection_manager(&filters, &json!([route("all", "/")]))],
        }]);
        let envoy = Envoy::start(&binary, &folder, &bootstrap("resumed", &chains));
        let (config, name) = peers.client("cart");
        let mut config = (*config).clone();
        config.resumption = Resumption::in_memory_sessions(4);
        let client = (Arc::new(config), name);
        assert_eq!(get(envoy.listener, &client), ("200".into(), HandshakeKind::Full));
        let resumed = (expected.into(), HandshakeKind::Resumed);
        assert_eq!(get(envoy.listener, &client), resumed, "verified by {verified_by}");
    }
}
