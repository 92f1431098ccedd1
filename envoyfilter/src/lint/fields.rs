//! The fields that istiod and Envoy know, by message. Others are dropped in silence.

use tollgate_tree::Node;

use super::Lint;
use super::rules::{Rule, UNKNOWN_FIELD};

/// `EnvoyFilter.spec`.
pub(super) const SPEC: &[&str] =
    &["workload_selector", "target_refs", "config_patches", "priority"];
/// An entry of `configPatches`.
pub(super) const PATCH: &[&str] = &["apply_to", "match", "patch"];
/// `match`.
pub(super) const MATCH: &[&str] =
    &["context", "proxy", "listener", "route_configuration", "cluster", "waypoint"];
/// `match.listener`.
pub(super) const LISTENER: &[&str] =
    &["port_number", "port_name", "filter_chain", "listener_filter", "name"];
/// `match.listener.filterChain`.
pub(super) const FILTER_CHAIN: &[&str] = &[
    "name",
    "sni",
    "transport_protocol",
    "transport_socket",
    "application_protocols",
    "filter",
    "destination_port",
];
/// `patch`.
pub(super) const CHANGE: &[&str] = &["operation", "value", "filter_class"];
/// A filter of a chain.
pub(super) const FILTER: &[&str] =
    &["name", "typed_config", "config_discovery", "is_optional", "disabled"];
/// `config_discovery`.
pub(super) const DISCOVERY: &[&str] =
    &["config_source", "default_config", "apply_default_config_without_warming", "type_urls"];
/// `envoy.extensions.wasm.v3.PluginConfig`.
pub(super) const PLUGIN: &[&str] = &[
    "name",
    "root_id",
    "vm_config",
    "configuration",
    "fail_open",
    "capability_restriction_config",
    "failure_policy",
    "reload_config",
    "allow_on_headers_stop_iteration",
];
/// `envoy.extensions.wasm.v3.VmConfig`.
pub(super) const VM: &[&str] = &[
    "vm_id",
    "runtime",
    "code",
    "configuration",
    "allow_precompiled",
    "nack_on_code_cache_miss",
    "environment_variables",
    "capability_restriction_config",
];
/// `envoy.config.core.v3.AsyncDataSource`.
pub(super) const CODE: &[&str] = &["local", "remote"];
/// `envoy.config.core.v3.RemoteDataSource`.
pub(super) const REMOTE: &[&str] = &["http_uri", "sha256", "retry_policy"];

/// Finds the fields of a message that are not known, and are dropped.
pub(super) fn check(node: &Node, message: &str, known: &[&str], lint: &mut Lint) {
    check_by(&UNKNOWN_FIELD, node, message, known, lint);
}

/// Finds the fields of a message that are not known, with the rule that says what comes of them.
pub(super) fn check_by(
    rule: &'static Rule,
    node: &Node,
    message: &str,
    known: &[&str],
    lint: &mut Lint,
) {
    for (name, value) in node.entries() {
        let is_known =
            known.iter().any(|known| known == name || tollgate_tree::camel_case(known) == *name);
        if !is_known {
            lint.found(value, rule, format!("{message} has no field `{name}`"));
        }
    }
}
