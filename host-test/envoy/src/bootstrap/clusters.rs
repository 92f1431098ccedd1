//! Clusters: with one endpoint each, and the protocol that is spoken there.

use serde_json::{Value, json};
use tollgate_host::scenario::{Protocol, UPSTREAM};

use super::loopback;

/// A cluster that guests call.
pub(crate) struct Called<'a> {
    pub(crate) name: &'a str,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// Each callout has a connection of its own, which can be refused.
    pub(crate) connects_anew: bool,
}

impl Called<'_> {
    pub(super) fn to_json(&self) -> Value {
        let common = if self.connects_anew {
            json!({ "max_requests_per_connection": 1 })
        } else {
            json!({})
        };
        let endpoint = json!({ "endpoint": { "address": loopback(self.port) } });
        let options = json!({
            "common_http_protocol_options": common,
            "explicit_http_config": explicit(self.protocol),
        });
        cluster(self.name, &endpoint, options)
    }
}

/// A further cluster that routes lead to. The runner reads the statistics of all of them as one.
pub(super) fn routed(name: &str, port: u16) -> Value {
    let endpoint = json!({ "endpoint": { "address": loopback(port) } });
    let options = json!({ "explicit_http_config": explicit(Protocol::Http) });
    let mut cluster = cluster(name, &endpoint, options);
    if let Some(fields) = cluster.as_object_mut() {
        fields.insert("alt_stat_name".into(), UPSTREAM.into());
    }
    cluster
}

/// A cluster with one endpoint.
pub(super) fn cluster(name: &str, endpoint: &Value, mut options: Value) -> Value {
    let protocol = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    if let Some(options) = options.as_object_mut() {
        options.insert("@type".into(), format!("type.googleapis.com/{protocol}").into());
    }
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [endpoint] }],
        },
        "typed_extension_protocol_options": { protocol: options },
    })
}

pub(super) fn explicit(protocol: Protocol) -> Value {
    match protocol {
        Protocol::Http => json!({ "http_protocol_options": { "enable_trailers": true } }),
        Protocol::Http2 | Protocol::Grpc => json!({ "http2_protocol_options": {} }),
    }
}
