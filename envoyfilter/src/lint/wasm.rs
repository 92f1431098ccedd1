//! A filter in Wasm inside a patch: its plugin, its VM, its module.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tollgate_tree::Node;

use super::patch::Patch;
use super::rules::{
    BAD_DIGEST, BLOCKED_ADDRESS, CAPABILITY_PLACE, CONFIGURATION_TYPE, DIGEST_MISMATCH,
    DUPLICATE_VARIABLE, FAIL_OPEN, INLINE_IMAGE, INLINE_REMOTE, INLINE_TOO_LARGE,
    NEVER_PULLED_AGAIN, NO_CLUSTER, NO_CODE, NO_FAILURE_POLICY, NO_TIMEOUT, NO_VM_ID,
    NOT_REWRITTEN, PULL_POLICY, REFUSED_FIELD, RUNTIME, Rule, SECRET_IN_CLEAR, TRAFFIC,
    TYPED_AND_DISCOVERED, UNKNOWN_FIELD, UNKNOWN_TYPE, UNPINNED,
};
use super::{Lint, fields, list_at, text_at, type_of};

const HTTP: &str = "envoy.extensions.filters.http.wasm.v3.Wasm";
const NETWORK: &str = "envoy.extensions.filters.network.wasm.v3.Wasm";
/// Where clouds tell machines of themselves, beside link-local addresses.
const ALIBABA_METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// When an image is pulled, as Istio's agent knows it.
const PULL_POLICIES: [&str; 3] = ["IfNotPresent", "Always", "UNSPECIFIED_POLICY"];
/// The largest text of a module, in bytes, that leaves a resource within what etcd stores.
const INLINE_LIMIT: usize = 1_500_000;

/// Opens an `Any`: its type, and what it holds. A `TypedStruct` holds another one.
pub(super) fn opened(any: &Node) -> (&str, &Node) {
    let kind = type_of(any);
    match any.find("value") {
        Some(value) if kind.ends_with(".TypedStruct") => {
            (text_at(any, &["type_url"]).rsplit('/').next().unwrap_or_default(), value)
        }
        Some(_) | None => (kind, any),
    }
}

/// Who fetches a module.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fetcher {
    /// Istio's agent, for what comes over ECDS.
    Agent,
    /// Envoy itself.
    Envoy,
}

pub(super) fn check(patch: &Patch<'_>, value: &Node, lint: &mut Lint) {
    let fetcher = match patch.apply_to {
        "EXTENSION_CONFIG" => Fetcher::Agent,
        "HTTP_FILTER" | "NETWORK_FILTER" => Fetcher::Envoy,
        _ => return,
    };
    fields::check(value, "a filter", fields::FILTER, lint);
    let Some(typed) = value.find("typed_config") else { return };
    if let Some(discovery) = value.find("config_discovery") {
        lint.found(discovery, &TYPED_AND_DISCOVERED, "config_discovery beside typed_config");
    }
    let (kind, config) = opened(typed);
    let expected = match (patch.apply_to, kind) {
        (_, kind) if ![HTTP, NETWORK].contains(&kind) => {
            if kind.is_empty() || kind.to_lowercase().contains(".wasm.") {
                lint.found(typed, &UNKNOWN_TYPE, format!("`{kind}`"));
            }
            return;
        }
        ("HTTP_FILTER", _) => HTTP,
        ("NETWORK_FILTER", _) => NETWORK,
        (_, kind) => kind,
    };
    if kind != expected {
        lint.found(typed, &TRAFFIC, format!("{kind} in a patch of {}", patch.apply_to));
    }
    let outer = type_of(typed);
    let unknown = if outer.ends_with(".TypedStruct") { &REFUSED_FIELD } else { &UNKNOWN_FIELD };
    if let Some(plugin) = config.find("config") {
        check_plugin(plugin, unknown, lint);
        if let Some(code) = plugin.at(&["vm_config", "code"]) {
            fields::check_by(unknown, code, "code", fields::CODE, lint);
            if fetcher == Fetcher::Agent
                && outer.starts_with("xds.")
                && code.find("remote").is_some()
            {
                lint.found(typed, &NOT_REWRITTEN, outer);
            }
            check_code(plugin, code, fetcher, lint);
        }
    }
}

/// Looks at a plugin and its VM; `unknown` says what comes of fields that are not known.
fn check_plugin(plugin: &Node, unknown: &'static Rule, lint: &mut Lint) {
    fields::check_by(unknown, plugin, "PluginConfig", fields::PLUGIN, lint);
    match (plugin.find("fail_open"), plugin.find("failure_policy")) {
        (Some(at), _) => lint.found(at, &FAIL_OPEN, "fail_open"),
        (None, None) => lint.found(plugin, &NO_FAILURE_POLICY, "no failure_policy"),
        (None, Some(policy)) if policy.text() == Ok("UNSPECIFIED") => {
            lint.found(policy, &NO_FAILURE_POLICY, "failure_policy: UNSPECIFIED");
        }
        (None, Some(_)) => {}
    }
    if let Some(at) = plugin.find("capability_restriction_config") {
        lint.found(at, &CAPABILITY_PLACE, "capability_restriction_config of the plugin");
    }
    check_configuration(plugin, lint);
    let Some(vm) = plugin.find("vm_config") else {
        return lint.found(plugin, &NO_CODE, "no vm_config");
    };
    fields::check_by(unknown, vm, "VmConfig", fields::VM, lint);
    check_configuration(vm, lint);
    if text_at(vm, &["vm_id"]).is_empty() {
        lint.found(vm, &NO_VM_ID, "no vm_id");
    }
    let runtime = text_at(vm, &["runtime"]);
    if runtime != "envoy.wasm.runtime.v8" {
        lint.found(vm.find("runtime").unwrap_or(vm), &RUNTIME, format!("`{runtime}`"));
    }
    let Some(variables) = vm.find("environment_variables") else { return };
    let own = variables.find("key_values");
    for key in list_at(variables, &["host_env_keys"]) {
        let name = key.text().unwrap_or_default();
        if own.is_some_and(|own| own.keys().any(|own| own == name)) {
            lint.found(key, &DUPLICATE_VARIABLE, name);
        }
    }
    let Some(own) = own else { return };
    if let Some(secret) = own.find("ISTIO_META_WASM_IMAGE_PULL_SECRET") {
        lint.found(secret, &SECRET_IN_CLEAR, "ISTIO_META_WASM_IMAGE_PULL_SECRET");
    }
    check_pull_policy(own.find("ISTIO_META_WASM_IMAGE_PULL_POLICY"), lint);
    if let Some(policy) = own.find("ISTIO_META_WASM_IMAGE_PULL_POLICY")
        && policy.text() == Ok("Always")
        && text_at(own, &["ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION"]).is_empty()
    {
        lint.found(policy, &NEVER_PULLED_AGAIN, "ISTIO_META_WASM_IMAGE_PULL_POLICY: Always");
    }
}

/// When an image is pulled, of the agent's variables or of a plugin.
pub(super) fn check_pull_policy(policy: Option<&Node>, lint: &mut Lint) {
    let Some(policy) = policy else { return };
    let text = policy.text().unwrap_or_default();
    if !PULL_POLICIES.contains(&text) {
        lint.found(policy, &PULL_POLICY, format!("`{text}`"));
    }
}

/// Whether Istio's agent connects to where a module is.
pub(super) fn check_address(url: &str, at: &Node, lint: &mut Lint) {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or_default(),
    };
    if host.parse().is_ok_and(is_blocked) {
        lint.found(at, &BLOCKED_ADDRESS, host);
    }
}

/// Source: Istio, `pkg/wasm/ssrf.go`.
fn is_blocked(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local() || address == ALIBABA_METADATA,
        IpAddr::V6(address) => address.is_unicast_link_local() || address == AWS_METADATA,
    }
}

fn check_configuration(node: &Node, lint: &mut Lint) {
    let Some(any) = node.find("configuration") else { return };
    let known =
        ["google.protobuf.StringValue", "google.protobuf.BytesValue", "google.protobuf.Struct"];
    if !known.contains(&type_of(any)) {
        lint.found(any, &CONFIGURATION_TYPE, format!("`{}`", type_of(any)));
    }
}

fn check_code(plugin: &Node, code: &Node, fetcher: Fetcher, lint: &mut Lint) {
    if let Some(inline) = code.at(&["local", "inline_bytes"]) {
        let size = inline.text().unwrap_or_default().len();
        if size > INLINE_LIMIT {
            lint.found(inline, &INLINE_TOO_LARGE, format!("{size} bytes"));
        }
    }
    let Some(remote) = code.find("remote") else {
        if code.find("local").is_none() {
            lint.found(code, &NO_CODE, "neither local nor remote");
        }
        return;
    };
    fields::check(remote, "remote", fields::REMOTE, lint);
    let uri = text_at(remote, &["http_uri", "uri"]);
    let at = remote.at(&["http_uri", "uri"]).unwrap_or(remote);
    if fetcher == Fetcher::Envoy {
        let rule = if uri.starts_with("oci://") { &INLINE_IMAGE } else { &INLINE_REMOTE };
        return lint.found(at, rule, format!("{uri} in the chain itself"));
    }
    check_address(uri, at, lint);
    if let Some(http_uri) = remote.find("http_uri") {
        if http_uri.find("timeout").is_none() {
            lint.found(http_uri, &NO_TIMEOUT, "no timeout");
        }
        if text_at(http_uri, &["cluster"]).is_empty() {
            lint.found(http_uri, &NO_CLUSTER, "no cluster");
        }
    }
    let version = ["vm_config", "environment_variables", "key_values"];
    let follows = plugin
        .at(&version)
        .is_some_and(|own| text_at(own, &["ISTIO_META_WASM_IMAGE_PULL_POLICY"]) == "Always");
    check_digest(remote, uri, at, follows, lint);
}

/// How a module is pinned, of `remote` or of a plugin. Whoever pulls always has said so: told is then only
/// what is wrong.
pub(super) fn check_digest(
    holder: &Node,
    url: &str,
    at: &Node,
    is_followed: bool,
    lint: &mut Lint,
) {
    let sha256 = match text_at(holder, &["sha256"]) {
        "nil" => "",
        sha256 => sha256,
    };
    if let Some(number) = holder.find("sha256").filter(|node| node.text().is_err()) {
        return lint.found(number, &BAD_DIGEST, "not text; write it in quotes");
    }
    let in_url = url.split_once("@sha256:").map(|(_, digest)| digest);
    let is_digest = |text: &str| crate::image::Digest::parse(text).is_some();
    for (digest, node) in [(in_url, Some(at)), (Some(sha256), holder.find("sha256"))] {
        if let (Some(digest), Some(node)) = (digest, node)
            && !digest.is_empty()
            && !is_digest(digest)
        {
            lint.found(node, &BAD_DIGEST, format!("`{digest}`"));
        }
    }
    match in_url {
        Some(digest) if !sha256.is_empty() && digest != sha256 => {
            lint.found(holder.find("sha256").unwrap_or(at), &DIGEST_MISMATCH, sha256);
        }
        None if sha256.is_empty() && !is_followed && !url.starts_with("file://") => {
            lint.found(at, &UNPINNED, url);
        }
        Some(_) | None => {}
    }
}
