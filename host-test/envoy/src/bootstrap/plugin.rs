//! A filter in the chain.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};
use tollgate_host::scenario::{FailurePolicy, Traffic};

/// A filter in the chain.
pub(crate) struct Plugin<'a> {
    pub(crate) name: &'a str,
    pub(crate) root_id: &'a str,
    pub(crate) vm_id: &'a str,
    pub(crate) vm_configuration: &'a str,
    pub(crate) environment: &'a BTreeMap<String, String>,
    pub(crate) module: &'a Path,
    pub(crate) configuration: &'a str,
    pub(crate) allow_on_headers_stop_iteration: bool,
    pub(crate) allowed_capabilities: &'a BTreeSet<String>,
    pub(crate) failure_policy: FailurePolicy,
}

impl Plugin<'_> {
    /// Renders the filter.
    pub(crate) fn to_json(&self, traffic: Traffic) -> Value {
        let allowed = self.allowed_capabilities.iter().map(|name| (name.clone(), json!({})));
        let allowed: Map<String, Value> = allowed.collect();
        json!({
            "name": match traffic {
                Traffic::Http => "envoy.filters.http.wasm",
                Traffic::Tcp => "envoy.filters.network.wasm",
            },
            "typed_config": {
                "@type": wasm_filter(traffic),
                "config": {
                    "name": self.name,
                    "root_id": self.root_id,
                    "failure_policy": match self.failure_policy {
                        FailurePolicy::Closed => "FAIL_CLOSED",
                        FailurePolicy::Open => "FAIL_OPEN",
                        FailurePolicy::Reload { .. } => "FAIL_RELOAD",
                    },
                    "reload_config": reload_config(self.failure_policy),
                    "allow_on_headers_stop_iteration": self.allow_on_headers_stop_iteration,
                    "vm_config": {
                        "vm_id": self.vm_id,
                        "runtime": "envoy.wasm.runtime.v8",
                        "configuration": {
                            "@type": "type.googleapis.com/google.protobuf.StringValue",
                            "value": self.vm_configuration,
                        },
                        "environment_variables": { "key_values": self.environment },
                        "capability_restriction_config": { "allowed_capabilities": allowed },
                        "code": { "local": { "filename": self.module } },
                    },
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.StringValue",
                        "value": self.configuration,
                    },
                },
            },
        })
    }
}

/// How long to wait before a guest is made anew, for the policy that does so.
fn reload_config(policy: FailurePolicy) -> Option<Value> {
    let FailurePolicy::Reload { backoff } = policy else { return None };
    let interval = format!("{}.{:09}s", backoff.as_secs(), backoff.subsec_nanos());
    Some(json!({ "backoff": { "base_interval": interval } }))
}

/// The type of a filter's configuration.
pub(crate) fn wasm_filter(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::Http => "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        Traffic::Tcp => "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm",
    }
}
