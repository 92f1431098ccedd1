//! Filters as Istio deploys them: by `EnvoyFilter`, `WasmPlugin` and `TrafficExtension`.

use std::collections::BTreeSet;

use tollgate_tree::Node;

use super::envoy::{self, Entry};
use super::{Deployed, Invalid, ModuleAt};
use crate::scenario::FailurePolicy;

/// The filters that patches of an `EnvoyFilter` put into a chain, in its order.
pub(super) fn envoy_filter<'a>(
    document: &'a Node,
    chain: &mut Vec<&'a Node>,
) -> Result<(), Invalid> {
    let patches = document.need("spec")?.find("configPatches");
    for patch in patches.map_or(Ok(&[][..]), Node::list)? {
        let apply_to = patch.need("applyTo")?.text()?;
        let change = patch.need("patch")?;
        if !matches!(apply_to, "HTTP_FILTER" | "NETWORK_FILTER") {
            continue;
        }
        let Some(value) = change.find("value") else { continue };
        if matches!(envoy::entry(value)?, Entry::Other) {
            continue;
        }
        let operation = change.need("operation")?;
        let beside = patch.at(&["match", "listener", "filterChain", "filter", "subFilter"]);
        let beside = beside.map_or(Ok(""), |filter| filter.text_of("name"))?;
        let place = chain.iter().position(|node| {
            !beside.is_empty() && node.text_of("name").is_ok_and(|name| name == beside)
        });
        match (operation.text()?, place) {
            ("INSERT_BEFORE", Some(place)) => chain.insert(place, value),
            ("INSERT_AFTER", Some(place)) => chain.insert(place + 1, value),
            ("INSERT_FIRST", _) => chain.insert(0, value),
            ("REPLACE", Some(place)) => {
                if let Some(old) = chain.get_mut(place) {
                    *old = value;
                }
            }
            // Beside or in place of what is not here, as the router is not.
            ("INSERT_BEFORE" | "INSERT_AFTER" | "REPLACE", None) | ("ADD", _) => chain.push(value),
            (other, _) => {
                return Err(operation.invalid(format!(
                    "operation {other} on a filter in Wasm is not played; write INSERT_BEFORE, INSERT_AFTER, INSERT_FIRST, ADD or REPLACE"
                )));
            }
        }
    }
    Ok(())
}

/// A plugin, and what says where it stands in the chain: the least comes first.
pub(super) struct Ranked {
    pub(super) plugin: Deployed,
    pub(super) rank: (u8, i64),
}

/// Reads a `WasmPlugin`, or a `TrafficExtension` with Wasm; nothing when it is for TCP, or has no Wasm.
///
/// Source: Istio, `buildPluginConfig` of `pilot/pkg/model/extensions.go`.
pub(super) fn plugin(document: &Node) -> Result<Option<Ranked>, Invalid> {
    let spec = document.need("spec")?;
    let is_extension = document.text_of("kind")? == "TrafficExtension";
    let wasm = match spec.find("wasm") {
        Some(wasm) if is_extension => wasm,
        None if is_extension => return Ok(None),
        Some(_) | None => spec,
    };
    if spec.text_of("type")? == "NETWORK" {
        return Ok(None);
    }
    let metadata = document.need("metadata")?;
    let (namespace, name) = (metadata.text_of("namespace")?, metadata.need("name")?.text()?);
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    let url = wasm.need("url")?;
    let module = match url.text()?.split_once("://") {
        Some(("file", path)) => ModuleAt::File(path.into()),
        Some(_) => ModuleAt::Remote(url.text()?.to_owned()),
        None => ModuleAt::Remote(format!("oci://{}", url.text()?)),
    };
    let plugin = Deployed {
        name: name.to_owned(),
        plugin: format!("{namespace}.{name}"),
        root_id: wasm.text_of("pluginName")?.to_owned(),
        vm_id: String::new(),
        vm_config: Vec::new(),
        // An empty one is none.
        config: wasm
            .find("pluginConfig")
            .filter(|config| config.keys().next().is_some())
            .map_or_else(Vec::new, envoy::json),
        allow_on_headers_stop_iteration: false,
        allowed_capabilities: BTreeSet::new(),
        failure_policy: failure_policy(wasm)?,
        module,
        left: left(wasm)?,
        line: document.line,
    };
    let phase = match spec.text_of("phase")? {
        "AUTHN" => 0,
        "AUTHZ" => 1,
        "STATS" => 2,
        _ => 3,
    };
    let priority = spec.find("priority").map_or(Ok(0), Node::number)?;
    Ok(Some(Ranked { plugin, rank: (phase, -priority) }))
}

fn failure_policy(wasm: &Node) -> Result<FailurePolicy, Invalid> {
    match wasm.text_of("failStrategy")? {
        "" | "FAIL_CLOSE" => Ok(FailurePolicy::Closed),
        "FAIL_OPEN" => Ok(FailurePolicy::Open),
        "FAIL_RELOAD" => Ok(FailurePolicy::Reload { backoff: FailurePolicy::BACKOFF }),
        other => Err(wasm.invalid(format!(
            "failStrategy {other} is none of FAIL_CLOSE, FAIL_OPEN and FAIL_RELOAD"
        ))),
    }
}

fn left(wasm: &Node) -> Result<Vec<String>, Invalid> {
    let mut left = Vec::new();
    let variables = wasm.at(&["vmConfig", "env"]).map_or(Ok(&[][..]), Node::list)?;
    let names = variables.iter().map(|variable| variable.text_of("name"));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    if !names.is_empty() {
        left.push(format!("vmConfig.env: {} are not set", names.join(", ")));
    }
    Ok(left)
}
