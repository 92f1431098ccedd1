//! Extensions over ECDS: that who asks and what is sent fit each other.

use std::collections::BTreeMap;

use tollgate_tree::Node;

use super::patch::Patch;
use super::rules::{
    DEFAULT_CONFIG_TYPE, DUPLICATE_EXTENSION, MISSING_RBAC_TYPE, MISSING_WASM_TYPE,
    NAME_WITHOUT_NAMESPACE, NO_DEFAULT_CONFIG, NOT_OVER_ADS, SHARED_VM_ID, UNASKED_EXTENSION,
    UNKNOWN_ANCHOR, UNKNOWN_EXTENSION, WARMING,
};
use super::{Lint, fields, list_at, text_at, type_of, wasm};
use crate::istio::{CONNECTION_MANAGER, ROUTER, TCP_PROXY, VANISHING};

/// What Istio builds into its chains, whether policies ask for it or not.
///
/// Source: Istio 1.32, `pilot/pkg/networking/core`, `listener_builder.go` and its kin.
const BUILT: [&str; 18] = [
    ROUTER,
    CONNECTION_MANAGER,
    TCP_PROXY,
    "envoy.filters.http.cors",
    "envoy.filters.http.fault",
    "envoy.filters.http.grpc_stats",
    "envoy.filters.http.peer_metadata",
    "envoy.filters.http.set_filter_state",
    "envoy.filters.network.forward_downstream_sni",
    "envoy.filters.network.mongo_proxy",
    "envoy.filters.network.mysql_proxy",
    "envoy.filters.network.redis_proxy",
    "envoy.filters.network.set_filter_state",
    "envoy.filters.network.sni_cluster",
    "envoy.filters.network.sni_dynamic_forward_proxy",
    "istio.alpn",
    "istio.metadata_exchange",
    "istio.stats",
];
const RBAC: [(&str, &str); 2] = [
    ("HTTP_FILTER", "envoy.extensions.filters.http.rbac.v3.RBAC"),
    ("NETWORK_FILTER", "envoy.extensions.filters.network.rbac.v3.RBAC"),
];

/// Looks at all resources of a file together; `others` are deployed beside them.
pub(super) fn check(own: &[&Node], others: &[&Node], lint: &mut Lint) {
    let (own, others) = (patches(own), patches(others));
    let all = || own.iter().chain(&others);
    let (sent, sent_at_all): (Vec<_>, Vec<_>) = (sent(own.iter()).collect(), sent(all()).collect());
    let is_asked = |name: &str| asked(all()).any(|(_, value)| text_at(value, &["name"]) == name);
    for (index, extension) in sent.iter().enumerate() {
        let name = text_at(extension, &["name"]);
        let at = extension.find("name").unwrap_or(extension);
        if sent.iter().take(index).any(|earlier| text_at(earlier, &["name"]) == name) {
            lint.found(at, &DUPLICATE_EXTENSION, format!("a second `{name}`"));
        }
        if !name.contains('/') {
            lint.found(at, &NAME_WITHOUT_NAMESPACE, format!("`{name}`"));
        }
        if !is_asked(name) {
            lint.found(at, &UNASKED_EXTENSION, format!("`{name}`"));
        }
    }
    for (patch, value) in asked(own.iter()) {
        asking(patch, value, &sent_at_all, lint);
    }
    let added = |name: &str| {
        let filters = all().filter(|patch| patch.is_filter()).filter_map(Patch::value);
        filters.into_iter().any(|value| text_at(value, &["name"]) == name)
    };
    for (name, at) in own.iter().filter(|patch| patch.is_filter()).filter_map(Patch::beside) {
        let is_own = name.starts_with("envoy.filters.") || name.starts_with("istio.");
        if is_own && !BUILT.contains(&name) && !VANISHING.contains(&name) && !added(name) {
            lint.found(at, &UNKNOWN_ANCHOR, format!("beside {name}"));
        }
    }
    let is_wasm = |patch: &&Patch<'_>| patch.is_filter() || patch.apply_to == "EXTENSION_CONFIG";
    shared(own.iter().filter(is_wasm).filter_map(Patch::value), lint);
}

fn patches<'a>(documents: &[&'a Node]) -> Vec<Patch<'a>> {
    let patches = documents.iter().flat_map(|node| list_at(node, &["spec", "configPatches"]));
    patches.map(Patch::read).collect()
}

/// The extensions that are sent.
fn sent<'a: 'b, 'b>(
    patches: impl Iterator<Item = &'b Patch<'a>>,
) -> impl Iterator<Item = &'a Node> {
    patches.filter(|patch| patch.apply_to == "EXTENSION_CONFIG").filter_map(Patch::value)
}

/// The filters that ask for one.
fn asked<'a: 'b, 'b>(
    patches: impl Iterator<Item = &'b Patch<'a>>,
) -> impl Iterator<Item = (&'b Patch<'a>, &'a Node)> {
    let filters = patches.filter(|patch| patch.is_filter());
    let filters = filters.filter_map(|patch| Some((patch, patch.value()?)));
    filters.filter(|(_, value)| value.find("config_discovery").is_some())
}

/// A filter that asks.
fn asking(patch: &Patch<'_>, value: &Node, sent: &[&Node], lint: &mut Lint) {
    let Some(discovery) = value.find("config_discovery") else { return };
    fields::check(discovery, "config_discovery", fields::DISCOVERY, lint);
    let name = text_at(value, &["name"]);
    let types: Vec<&str> = list_at(discovery, &["type_urls"])
        .iter()
        .filter_map(|url| url.text().ok())
        .filter_map(|url| url.rsplit('/').next())
        .collect();
    let at = discovery.find("type_urls").unwrap_or(discovery);
    let extension = sent.iter().find(|extension| text_at(extension, &["name"]) == name);
    match extension {
        None => {
            let at = value.find("name").unwrap_or(value);
            lint.found(at, &UNKNOWN_EXTENSION, format!("`{name}`"));
        }
        Some(extension) => {
            let kind = extension.find("typed_config").map(wasm::opened).map(|(kind, _)| kind);
            if let Some(kind) = kind.filter(|kind| !kind.is_empty() && !types.contains(kind)) {
                lint.found(at, &MISSING_WASM_TYPE, format!("without {kind}"));
            }
        }
    }
    let is_wasm = types.iter().any(|kind| kind.ends_with("wasm.v3.Wasm"));
    let rbac = RBAC.iter().find(|(apply_to, _)| *apply_to == patch.apply_to);
    if let (true, Some((_, rbac))) = (is_wasm, rbac)
        && !types.contains(rbac)
    {
        lint.found(at, &MISSING_RBAC_TYPE, format!("without type.googleapis.com/{rbac}"));
    }
    match discovery.find("config_source") {
        Some(source) if source.find("ads").is_some() => {
            let timeout = text_at(source, &["initial_fetch_timeout"]);
            if timeout != "0s" && discovery.find("default_config").is_none() {
                let said = if timeout.is_empty() { "no initial_fetch_timeout" } else { timeout };
                lint.found(source, &WARMING, said);
            }
        }
        source => {
            lint.found(
                source.unwrap_or(discovery),
                &NOT_OVER_ADS,
                format!("`{name}` is not asked over ADS"),
            );
        }
    }
    let default = discovery.find("default_config");
    match (default, discovery.find("apply_default_config_without_warming")) {
        (None, Some(apply)) if apply.flag().unwrap_or(false) => {
            lint.found(apply, &NO_DEFAULT_CONFIG, "apply_default_config_without_warming");
        }
        (Some(default), _) if !types.contains(&type_of(default)) => {
            lint.found(default, &DEFAULT_CONFIG_TYPE, format!("`{}`", type_of(default)));
        }
        _ => {}
    }
}

/// Filters that share a VM and do not seem to mean to.
fn shared<'a>(filters: impl Iterator<Item = &'a Node>, lint: &mut Lint) {
    let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
    for extension in filters {
        let Some(vm) = extension.at(&["typed_config", "config", "vm_config"]) else { continue };
        let (id, name) = (text_at(vm, &["vm_id"]), text_at(extension, &["name"]));
        if id.is_empty() {
            continue;
        }
        match ids.get(id) {
            Some(other) if *other != name => {
                let at = vm.find("vm_id").unwrap_or(vm);
                lint.found(at, &SHARED_VM_ID, format!("`{id}` of `{other}`, and of `{name}`"));
            }
            Some(_) => {}
            None => drop(ids.insert(id, name)),
        }
    }
}
