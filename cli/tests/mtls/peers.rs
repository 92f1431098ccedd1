//! Who connects: certificates issued for the run, good ones and others.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tollgate_host::scenario::{Scenario, Tls};
use tollgate_host::tls::Credentials;
use tollgate_host_envoy::Identities;

/// Whose certificates are as they have to be, or who shows none.
pub(crate) const GOOD: [&str; 11] = [
    "cart", "admin", "pay", "old", "foreign", "deep", "longer", "dotted", "prefixed", "guest",
    "plain",
];

/// Whose certificates are not.
pub(crate) const OTHERS: [&str; 8] =
    ["dns", "poses-as-dns", "poses-as-uri", "two", "root", "slash", "ca", "client-only"];

/// All of them, as `peers` of a scenario.
const PEERS: &str = r#"
name: peers
filters: [ { filter: mtls } ]
steps: [ { request: {}, peer: cart } ]
peers:
  cart: { san: [ "URI:spiffe://acme/ns/shop/sa/cart", "DNS:cart.acme.test" ], server_name: orders.acme.test }
  admin: { san: [ "URI:spiffe://acme/ns/shop/sa/admin" ], server_name: ADMIN.acme.test }
  pay: { san: [ "URI:spiffe://acme/ns/pay/sa/cart" ], server_name: orders.acme.test }
  old: { san: [ "URI:spiffe://old/ns/shop/sa/cart" ], server_name: admin.acme.test }
  foreign: { san: [ "URI:spiffe://evil/ns/shop/sa/cart", "DNS:CART.acme.test" ] }
  deep: { san: [ "URI:spiffe://acme/x/ns/shop/sa/cart" ] }
  longer: { san: [ "URI:spiffe://acme/ns/shop/sa/cart/x" ] }
  dotted: { san: [ "URI:spiffe://acme/ns/shop/sa/cXrt" ] }
  prefixed: { san: [ "URI:spiffe://acme.evil/ns/shop/sa/cart" ] }
  dns: { san: [ "DNS:web.acme.test" ], subject: "CN=web" }
  guest: { certificate: none, server_name: orders.acme.test }
  plain: { certificate: none }
  poses-as-dns: { san: [ "DNS:spiffe://acme/ns/shop/sa/cart" ] }
  poses-as-uri: { san: [ "URI:spiffe://acme/ns/shop/sa/web.acme.test" ] }
  two: { san: [ "URI:spiffe://acme/ns/shop/sa/cart", "URI:spiffe://acme/ns/shop/sa/admin" ] }
  root: { san: [ "URI:spiffe://acme" ] }
  slash: { san: [ "URI:spiffe://acme/ns/shop/sa/cart/" ] }
  ca: { san: [ "URI:spiffe://acme/ns/shop/sa/cart" ], ca: true }
  client-only: { san: [ "URI:spiffe://acme/ns/shop/sa/cart" ], extended_key_usage: [ clientAuth ] }
"#;

/// The peers with what they show.
pub(crate) struct Peers {
    tls: Tls,
    credentials: Credentials,
    identities: Identities,
}

impl Peers {
    /// Issues certificates that are valid now.
    pub(crate) fn issue() -> Self {
        let tls = Scenario::parse(PEERS).unwrap().tls.unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let credentials = Credentials::issue(&tls, now).unwrap();
        let identities = Identities::new(&tls, &credentials).unwrap();
        Self { tls, credentials, identities }
    }

    /// What a peer shakes hands with, and the server that it asks for.
    pub(crate) fn client(&self, name: &str) -> (Arc<ClientConfig>, ServerName<'static>) {
        let (place, _) = self.tls.peer(Some(name)).unwrap();
        self.identities.client(place).unwrap()
    }

    /// The socket of a listener that asks for certificates, and lets in who has none.
    pub(crate) fn socket(&self) -> Value {
        let own = &self.credentials.own;
        json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "tls_certificates": [{
                        "certificate_chain": { "inline_string": own.certificate.pem() },
                        "private_key": { "inline_string": own.key_pem() },
                    }],
                    "validation_context": {
                        "trusted_ca": { "inline_string": self.credentials.trusted.pem() },
                    },
                },
            },
        })
    }
}
