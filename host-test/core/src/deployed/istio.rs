//! Filters as Istio deploys them: by `EnvoyFilter`, `WasmPlugin` and `TrafficExtension`.

use tollgate_tree::Node;

use super::envoy::{self, Entry};
use super::{Deployed, Invalid, List, ModuleAt};

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
        let mut filters = Vec::new();
        for patch in patches.iter().filter(|patch| [ANY, context].contains(&patch.context)) {
            patch.apply(&mut filters)?;
        }
        if !filters.is_empty() {
            lists.push(List { name: context.to_owned(), filters });
        }
    }
    Ok(lists)
}

/// The context of a patch that is for every proxy, also where none is written.
const ANY: &str = "ANY";

/// A patch of a chain with a filter in Wasm.
struct Patch<'a> {
    context: &'a str,
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
        if matches!(envoy::entry(filter)?, Entry::Other) {
            return Ok(None);
        }
        let context = patch.at(&["match", "context"]).map_or(Ok(ANY), Node::text)?;
        let beside = patch.at(&["match", "listener", "filterChain", "filter", "subFilter"]);
        let beside = beside.map_or(Ok(""), |filter| filter.text_of("name"))?;
        Ok(Some(Self { context, beside, operation: change.need("operation")?, filter }))
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

fn left(wasm: &Node) -> Result<Vec<String>, Invalid> {
    let mut left = Vec::new();
    let strategy = wasm.text_of("failStrategy")?;
    if !matches!(strategy, "" | "FAIL_CLOSE") {
        left.push(format!("failStrategy: {strategy} is played as FAIL_CLOSE"));
    }
    let variables = wasm.at(&["vmConfig", "env"]).map_or(Ok(&[][..]), Node::list)?;
    let names = variables.iter().map(|variable| variable.text_of("name"));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    if !names.is_empty() {
        left.push(format!("vmConfig.env: {} are not set", names.join(", ")));
    }
    Ok(left)
}
