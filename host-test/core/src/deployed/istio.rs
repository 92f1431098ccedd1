//! Filters as Istio deploys them: by `EnvoyFilter`, `WasmPlugin` and `TrafficExtension`.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_tree::Node;

use super::{Deployed, Invalid, List, ModuleAt, envoy};
use crate::scenario::{FailurePolicy, Traffic};

/// The filters that patches of all `EnvoyFilter`s put into a chain, for each context that they name.
pub(super) fn lists<'a>(documents: &[&'a Node]) -> Result<Vec<List<'a>>, Invalid> {
    let mut patches = Vec::new();
    for document in documents {
        let list = document.need("spec")?.find("configPatches");
        for patch in list.map_or(Ok(&[][..]), Node::list)? {
            patches.extend(Patch::read(patch)?);
        }
    }
    let mut contexts: Vec<&str> = Vec::new();
    for patch in patches.iter().filter(|patch| patch.context != ANY) {
        if !contexts.contains(&patch.context) {
            contexts.push(patch.context);
        }
    }
    if contexts.is_empty() {
        contexts.push(ANY);
    }
    let mut lists = Vec::new();
    for context in contexts {
        for traffic in [Traffic::Http, Traffic::Tcp] {
            let mut filters = Vec::new();
            let is_meant = |patch: &&Patch<'_>| {
                patch.traffic == traffic && [ANY, context].contains(&patch.context)
            };
            for patch in patches.iter().filter(is_meant) {
                patch.apply(&mut filters)?;
            }
            if !filters.is_empty() {
                lists.push(List { name: context.to_owned(), traffic, filters });
            }
        }
    }
    Ok(lists)
}

/// The context of a patch that is for every proxy, also where none is written.
const ANY: &str = "ANY";

/// A patch of a chain with a filter in Wasm.
struct Patch<'a> {
    context: &'a str,
    traffic: Traffic,
    /// The filter beside which it goes; may be empty.
    beside: &'a str,
    operation: &'a Node,
    filter: &'a Node,
}

impl<'a> Patch<'a> {
    fn read(patch: &'a Node) -> Result<Option<Self>, Invalid> {
        let apply_to = patch.need("applyTo")?.text()?;
        let change = patch.need("patch")?;
        if !matches!(apply_to, "HTTP_FILTER" | "NETWORK_FILTER") {
            return Ok(None);
        }
        let Some(filter) = change.find("value") else { return Ok(None) };
        let Some(traffic) = envoy::entry(filter)?.traffic() else { return Ok(None) };
        let context = patch.at(&["match", "context"]).map_or(Ok(ANY), Node::text)?;
        let beside = patch.at(&["match", "listener", "filterChain", "filter"]);
        let beside = beside.and_then(|filter| match traffic {
            Traffic::Http => filter.find("subFilter"),
            Traffic::Tcp => Some(filter),
        });
        let beside = beside.map_or(Ok(""), |filter| filter.text_of("name"))?;
        Ok(Some(Self { context, traffic, beside, operation: change.need("operation")?, filter }))
    }

    /// Puts the filter into a chain.
    fn apply(&self, chain: &mut Vec<&'a Node>) -> Result<(), Invalid> {
        let place = chain.iter().position(|node| {
            !self.beside.is_empty() && node.text_of("name").is_ok_and(|name| name == self.beside)
        });
        match (self.operation.text()?, place) {
            ("INSERT_BEFORE", Some(place)) => chain.insert(place, self.filter),
            ("INSERT_AFTER", Some(place)) => chain.insert(place + 1, self.filter),
            ("INSERT_FIRST", _) => chain.insert(0, self.filter),
            ("REPLACE", Some(place)) => {
                if let Some(old) = chain.get_mut(place) {
                    *old = self.filter;
                }
            }
            // Beside or in place of what is not here, as the router is not.
            ("INSERT_BEFORE" | "INSERT_AFTER" | "REPLACE", None) | ("ADD", _) => {
                chain.push(self.filter);
            }
            (other, _) => {
                return Err(self.operation.invalid(format!(
                    "operation {other} on a filter in Wasm is not played; write INSERT_BEFORE, INSERT_AFTER, INSERT_FIRST, ADD or REPLACE"
                )));
            }
        }
        Ok(())
    }
}

/// A plugin, and what says where it stands in the chain: the least comes first.
pub(super) struct Ranked {
    pub(super) plugin: Deployed,
    pub(super) rank: (u8, i64),
}

/// Reads a `WasmPlugin`, or a `TrafficExtension` with Wasm; nothing when it has no Wasm.
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
    let traffic = match spec.text_of("type")? {
        "NETWORK" => Traffic::Tcp,
        _ => Traffic::Http,
    };
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
        environment: environment(wasm)?,
        traffic,
        allowed_capabilities: BTreeSet::new(),
        failure_policy: failure_policy(wasm)?,
        module,
        disabled: false,
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
    let mut names = Vec::new();
    for variable in variables(wasm)? {
        if is_of_host(variable)? {
            names.push(variable.text_of("name")?);
        }
    }
    if !names.is_empty() {
        left.push(format!("vmConfig.env: {} are not set", names.join(", ")));
    }
    Ok(left)
}

fn variables(wasm: &Node) -> Result<&[Node], Invalid> {
    wasm.at(&["vmConfig", "env"]).map_or(Ok(&[][..]), Node::list)
}

/// Whether the value of a variable is the one that the proxy has.
fn is_of_host(variable: &Node) -> Result<bool, Invalid> {
    Ok(variable.text_of("valueFrom")? == "HOST")
}

/// The variables whose values are written there.
fn environment(wasm: &Node) -> Result<BTreeMap<String, String>, Invalid> {
    let mut environment = BTreeMap::new();
    for variable in variables(wasm)? {
        if !is_of_host(variable)? {
            let (name, value) = (variable.need("name")?.text()?, variable.text_of("value")?);
            environment.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(environment)
}
