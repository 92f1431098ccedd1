//! The filter as Envoy is told of it, whoever tells: its plugin, its VM, its clusters, its routes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::companions::{Cluster, Protocol, Tls};
use crate::rendered::put;
use crate::{Facts, FailurePolicy, InvalidPolicy, Policy, Traffic};

/// The filter of HTTP.
pub(crate) const HTTP: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
/// The filter of TCP.
pub(crate) const NETWORK: &str =
    "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm";

/// The largest object that etcd takes by default, in bytes.
const OBJECT_LIMIT: usize = 1_572_864;
/// The largest object that `kubectl apply` keeps a copy of in an annotation, in bytes.
const APPLY_LIMIT: usize = 262_144;

impl Traffic {
    /// The type of the filter.
    pub(crate) fn type_url(self) -> &'static str {
        match self {
            Self::Http => HTTP,
            Self::Tcp => NETWORK,
        }
    }
}

impl FailurePolicy {
    /// As Envoy writes it.
    pub(crate) fn as_envoy(self) -> &'static str {
        match self {
            Self::Closed => "FAIL_CLOSED",
            Self::Reload => "FAIL_RELOAD",
            Self::Open => "FAIL_OPEN",
        }
    }
}

/// The configuration of the filter, under a name that no other filter of the proxy has.
///
/// The name is that of the VM as well: filters that share an id share what they store.
///
/// Source: Envoy 1.40, `envoy.extensions.wasm.v3.PluginConfig`.
pub(crate) fn filter(policy: &Policy, facts: &Facts, name: &str, code: &Value) -> Value {
    let mut plugin = json!({ "name": name });
    if !policy.root_id.is_empty() {
        put(&mut plugin, "root_id", json!(policy.root_id));
    }
    // Said also where it is Envoy's default: that has changed between versions.
    put(&mut plugin, "failure_policy", json!(policy.failure_policy.as_envoy()));
    for need in &facts.needs {
        put(&mut plugin, need, json!(true));
    }
    let mut vm = json!({ "vm_id": name, "runtime": "envoy.wasm.runtime.v8", "code": code });
    if let Some(environment) = environment(policy) {
        put(&mut vm, "environment_variables", environment);
    }
    let allowed = facts.capabilities.iter().map(|name| (name.clone(), json!({})));
    let allowed: Map<String, Value> = allowed.collect();
    let restriction = json!({ "allowed_capabilities": allowed });
    put(&mut vm, "capability_restriction_config", restriction);
    put(&mut plugin, "vm_config", vm);
    if let Some(text) = configuration(policy) {
        let kind = "type.googleapis.com/google.protobuf.StringValue";
        put(&mut plugin, "configuration", json!({ "@type": kind, "value": text }));
    }
    json!({ "@type": facts.traffic.type_url(), "config": plugin })
}

fn environment(policy: &Policy) -> Option<Value> {
    let mut variables = json!({});
    if !policy.host_environment.is_empty() {
        put(&mut variables, "host_env_keys", json!(policy.host_environment));
    }
    if !policy.environment.is_empty() {
        put(&mut variables, "key_values", json!(policy.environment));
    }
    Some(variables).filter(|variables| *variables != json!({}))
}

/// The text that the filter is configured with.
pub(crate) fn configuration(policy: &Policy) -> Option<String> {
    match &policy.config {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        config => Some(config.to_string()),
    }
}

/// The code in a file that the proxy sees.
pub(crate) fn local(file: &str) -> Value {
    json!({ "local": { "filename": file } })
}

/// The code inside the resource, and what has to be told of its size.
///
/// # Errors
///
/// When the resource would be larger than a cluster stores.
pub(crate) fn inline(
    policy: &Policy,
    facts: &Facts,
) -> Result<(Value, Option<String>), InvalidPolicy> {
    let text = STANDARD.encode(&facts.bytes);
    let size = text.len();
    if size > OBJECT_LIMIT {
        let what = format!(
            "the module is {size} bytes in base64, and etcd stores objects of at most {OBJECT_LIMIT}; \
             deliver it as a file or an image"
        );
        return Err(policy.refused("module", what));
    }
    let note = (size > APPLY_LIMIT).then(|| {
        format!(
            "the module is {size} bytes in base64, more than the {APPLY_LIMIT} that `kubectl apply` \
             copies into an annotation; use `kubectl apply --server-side`"
        )
    });
    Ok((json!({ "local": { "inline_bytes": text } }), note))
}

/// The SHA-256 digest of the module, in hexadecimal digits.
pub(crate) fn sha256(facts: &Facts) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(&facts.bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A cluster that the filter calls.
pub(crate) fn cluster(cluster: &Cluster) -> Value {
    let Cluster { name, address, protocol, tls } = cluster;
    let mut value = json!({
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(address) } }] }],
        },
    });
    if *protocol == Protocol::Http2 {
        let options = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        } });
        put(&mut value, "typed_extension_protocol_options", options);
    }
    if let Some(Tls { server_name, ca_file }) = tls {
        let kind = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
        let socket = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("type.googleapis.com/{kind}"),
                "sni": server_name,
                "common_tls_context": { "validation_context": {
                    "trusted_ca": { "filename": ca_file },
                    "match_typed_subject_alt_names": [
                        { "san_type": "DNS", "matcher": { "exact": server_name } },
                    ],
                } },
            },
        });
        put(&mut value, "transport_socket", socket);
    }
    value
}

/// An address of TCP.
pub(crate) fn socket(address: &crate::Address) -> Value {
    json!({ "socket_address": { "address": address.host, "port_value": address.port } })
}

/// What enables a filter for a route, where it is disabled for others.
pub(crate) fn enabled(name: &str) -> Value {
    let kind = "type.googleapis.com/envoy.config.route.v3.FilterConfig";
    json!({ "typed_per_filter_config": { name: { "@type": kind, "config": {} } } })
}
