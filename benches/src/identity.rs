//! Filters that ask who is calling: ours, Envoy's own, and one on the stock crate, all behind TLS.
//!
//! Each lets callers of one namespace have two paths. What else they look at differs: the README says it.

use std::time::SystemTime;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tollgate_host::scenario::Scenario;
use tollgate_host::tls::{Certificate, Credential, Credentials};
use tollgate_host_bench::Secured;

use crate::fixtures::Fixtures;
use crate::variants::{Effect, NONE, Variant, chain, filter, native};

/// Our filter.
pub(crate) const MTLS: &str = "mtls";
/// Our filter, without the certificate.
pub(crate) const MTLS_FIRST_NAMES: &str = "mtls, first names";
/// Envoy's own.
pub(crate) const RBAC: &str = "native rbac";
/// The first URI, on the stock crate.
pub(crate) const STOCK_MTLS: &str = "stock, first URI";

const POLICY: &str = r#"{"rules":[{"name":"shop","action":"allow","from":[{"principals":["spiffe://acme/ns/shop/sa/*"]}],"to":[{"paths":[{"prefix":"/orders"},{"prefix":"/seen"}]}]}]}"#;

const POLICY_OF_FIRST_NAMES: &str = r#"{"identity":{"reads":"first_names"},"rules":[{"name":"shop","action":"allow","from":[{"principals":["spiffe://acme/ns/shop/sa/*"]}],"to":[{"paths":[{"prefix":"/orders"},{"prefix":"/seen"}]}]}]}"#;

const PEER: &str = r#"{ name: a, filters: [ { filter: mtls } ], steps: [ { request: {} } ],
    peers: { web: { san: [ "URI:spiffe://acme/ns/shop/sa/web" ] } } }"#;

/// All of them, the one without a filter first.
///
/// # Errors
///
/// No certificate can be issued.
pub(crate) fn all(fixtures: &Fixtures) -> Result<Vec<Variant>> {
    let tls = secured()?;
    let passes = Effect::Passes;
    let variants = [
        native(NONE, vec![], passes),
        chain(MTLS, &fixtures.mtls, POLICY, 1, passes),
        chain(MTLS_FIRST_NAMES, &fixtures.mtls, POLICY_OF_FIRST_NAMES, 1, passes),
        native(RBAC, vec![rbac()], passes),
        chain(STOCK_MTLS, &fixtures.stock_mtls, "", 1, passes),
    ];
    Ok(variants.map(|variant| Variant { tls: Some(tls.clone()), ..variant }).into())
}

/// The sockets of both ends, with certificates that are valid now.
fn secured() -> Result<Secured> {
    let tls = Scenario::parse(PEER)?.tls.context("a scenario with a peer has TLS")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let credentials = Credentials::issue(&tls, now)?;
    let web = credentials.peers.first().and_then(Option::as_ref).context("a peer has one")?;
    let asking = ("require_client_certificate", json!(true));
    // Each connection shakes hands anew: of a session that is resumed Envoy says that nothing was verified.
    let anew = ("max_session_keys", json!(0));
    let trusted = &credentials.trusted;
    Ok(Secured {
        downstream: socket("DownstreamTlsContext", &credentials.own, trusted, asking),
        upstream: socket("UpstreamTlsContext", web, trusted, anew),
    })
}

fn socket(
    kind: &str,
    own: &Credential,
    trusted: &Certificate,
    (name, value): (&str, Value),
) -> Value {
    let kind = format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}");
    let context = json!({
        "@type": kind,
        (name): value,
        "common_tls_context": {
            "tls_certificates": [{
                "certificate_chain": { "inline_string": own.certificate.pem() },
                "private_key": { "inline_string": own.key_pem() },
            }],
            "validation_context": { "trusted_ca": { "inline_string": trusted.pem() } },
        },
    });
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": context })
}

/// The same policy for Envoy's own filter.
fn rbac() -> Value {
    let path = |prefix: &str| json!({ "url_path": { "path": { "prefix": prefix } } });
    let caller = json!({ "safe_regex": { "regex": "spiffe://acme/ns/shop/sa/[^/]+" } });
    let policy = json!({
        "permissions": [path("/orders"), path("/seen")],
        "principals": [{ "authenticated": { "principal_name": caller } }],
    });
    let rules = json!({ "rules": { "action": "ALLOW", "policies": { "shop": policy } } });
    filter("envoy.filters.http.rbac", "rbac.v3.RBAC", &rules)
}
