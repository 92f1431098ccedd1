//! Filters as Envoy is configured with them: in a bootstrap, a listener, a list of filters, or alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tollgate_tree::Node;

use super::{Deployed, Invalid, List, ModuleAt};
use crate::scenario::{FailurePolicy, Traffic};

/// The extension of HTTP that is ours.
const WASM: &str = "envoy.extensions.filters.http.wasm.v3.Wasm";
/// The same for TCP.
const NETWORK_WASM: &str = "envoy.extensions.filters.network.wasm.v3.Wasm";

/// A filter of a chain, as far as it is ours.
pub(super) enum Entry<'a> {
    /// Wasm, with its configuration.
    Wasm { name: &'a str, traffic: Traffic, wasm: &'a Node },
    /// Wasm, perhaps, with its configuration elsewhere.
    Discovered { name: &'a str, traffic: Traffic, at: &'a Node },
    /// Something else.
    Other,
}

impl Entry<'_> {
    /// What it stands in front of, if it is ours.
    pub(super) fn traffic(&self) -> Option<Traffic> {
        match self {
            Self::Wasm { traffic, .. } | Self::Discovered { traffic, .. } => Some(*traffic),
            Self::Other => None,
        }
    }
}

/// Reads what a filter of a chain, or an extension of it, is.
pub(super) fn entry(node: &Node) -> Result<Entry<'_>, Invalid> {
    let name = node.text_of("name")?;
    if let Some(config) = node.find("typed_config") {
        let (kind, value) = open(config)?;
        return Ok(match kind {
            Some(WASM) => Entry::Wasm { name, traffic: Traffic::Http, wasm: value },
            Some(NETWORK_WASM) => Entry::Wasm { name, traffic: Traffic::Tcp, wasm: value },
            _ => Entry::Other,
        });
    }
    if let Some(discovery) = node.find("config_discovery") {
        let types = discovery.find("type_urls").map_or(Ok(&[][..]), Node::list)?;
        for (kind, traffic) in [(WASM, Traffic::Http), (NETWORK_WASM, Traffic::Tcp)] {
            let is_wasm = |node: &Node| node.text().is_ok_and(|url| url.ends_with(kind));
            if types.iter().any(is_wasm) {
                return Ok(Entry::Discovered { name, traffic, at: node });
            }
        }
    }
    Ok(Entry::Other)
}

/// Opens an `Any`: its type, and what it holds. A `TypedStruct` holds another one.
fn open(any: &Node) -> Result<(Option<&str>, &Node), Invalid> {
    let Some(kind) = any.find("@type") else { return Ok((None, any)) };
    let kind = kind.text()?;
    let name = kind.rsplit('/').next();
    if name.is_some_and(|name| name.ends_with(".TypedStruct")) {
        let url = any.need("type_url")?.text()?;
        return Ok((url.rsplit('/').next(), any.need("value")?));
    }
    Ok((name, any))
}

/// The filters in Wasm of every chain of a document, or of the list or the one filter that it is.
pub(super) fn lists(document: &Node) -> Result<Vec<List<'_>>, Invalid> {
    let is_filter =
        document.find("typed_config").is_some() || document.find("config_discovery").is_some();
    let itself = if is_filter { Ok(std::slice::from_ref(document)) } else { document.list() };
    if let Ok(nodes) = itself {
        return in_wasm(nodes);
    }
    let mut listeners = Vec::new();
    document.walk(&mut |node| listeners.extend(parts(node).map(|parts| (node, parts))));
    if listeners.is_empty() {
        return http_lists(document);
    }
    let mut lists = Vec::new();
    for (listener, parts) in listeners {
        let name = listener.text_of("name")?;
        let mut own = Vec::new();
        for part in parts {
            let part_name = part.text_of("name")?;
            let network = part.find("filters").map_or(Ok(&[][..]), Node::list)?;
            let lists = http_lists(part)?.into_iter().chain(in_wasm(network)?);
            own.extend(lists.map(|list| (part_name, list)));
        }
        let (http, tcp): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|(_, list)| list.traffic == Traffic::Http);
        for own in [http, tcp] {
            let is_only = own.len() == 1;
            lists.extend(own.into_iter().map(|(part, list)| {
                let is_enough = is_only || part.is_empty();
                let name = if is_enough { name.to_owned() } else { format!("{name}/{part}") };
                List { name, ..list }
            }));
        }
    }
    Ok(lists)
}

/// The filter chains of a listener; nothing when it is none.
fn parts(node: &Node) -> Option<Vec<&Node>> {
    let chains = node.find("filter_chains").and_then(|chains| chains.list().ok());
    let default = node.find("default_filter_chain");
    let api = node.at(&["api_listener", "api_listener"]);
    let is_listener = chains.is_some() || default.is_some() || api.is_some();
    is_listener.then(|| chains.unwrap_or_default().iter().chain(default).chain(api).collect())
}

/// Every list of HTTP filters below a node with some in Wasm.
fn http_lists(node: &Node) -> Result<Vec<List<'_>>, Invalid> {
    let mut lists = Vec::new();
    node.walk(&mut |node| lists.extend(node.find("http_filters")));
    let mut found = Vec::new();
    for nodes in lists {
        found.extend(in_wasm(nodes.list()?)?);
    }
    Ok(found)
}

/// The filters in Wasm of a list: those for HTTP, and those for TCP.
fn in_wasm(nodes: &[Node]) -> Result<Vec<List<'_>>, Invalid> {
    let mut lists = Vec::new();
    for traffic in [Traffic::Http, Traffic::Tcp] {
        let mut filters = Vec::new();
        for node in nodes {
            if entry(node)?.traffic() == Some(traffic) {
                filters.push(node);
            }
        }
        if !filters.is_empty() {
            lists.push(List { name: String::new(), traffic, filters });
        }
    }
    Ok(lists)
}

/// Every extension with a name in a document: what filters that are discovered may be.
pub(super) fn extensions<'a>(document: &'a Node, found: &mut Vec<(&'a str, &'a Node)>) {
    document.walk(&mut |node| {
        if let Ok(Entry::Wasm { name, wasm, .. }) = entry(node) {
            found.push((name, wasm));
        }
    });
}

/// Reads the configuration of a filter.
pub(super) fn wasm(name: &str, traffic: Traffic, wasm: &Node) -> Result<Deployed, Invalid> {
    let plugin = wasm.need("config")?;
    let vm = plugin.need("vm_config")?;
    let configuration = |node: &Node| match node.find("configuration") {
        Some(any) => bytes(any),
        None => Ok(Vec::new()),
    };
    let alone = plugin.find("allow_on_headers_stop_iteration").map_or(Ok(false), Node::flag)?;
    Ok(Deployed {
        name: name.to_owned(),
        plugin: plugin.text_of("name")?.to_owned(),
        root_id: plugin.text_of("root_id")?.to_owned(),
        vm_id: vm.text_of("vm_id")?.to_owned(),
        vm_config: configuration(vm)?,
        config: configuration(plugin)?,
        allow_on_headers_stop_iteration: alone,
        environment: environment(vm)?,
        traffic,
        allowed_capabilities: allowed_capabilities(plugin, vm),
        failure_policy: failure_policy(plugin)?,
        module: module(vm.need("code")?)?,
        disabled: false,
        left: left(plugin, vm)?,
        line: wasm.line,
    })
}

/// The variables whose values are written there.
fn environment(vm: &Node) -> Result<BTreeMap<String, String>, Invalid> {
    let variables = vm.at(&["environment_variables", "key_values"]);
    let variables = variables.map_or(&[][..], Node::entries).iter();
    variables.map(|(name, value)| Ok((name.clone(), value.text()?.to_owned()))).collect()
}

fn failure_policy(plugin: &Node) -> Result<FailurePolicy, Invalid> {
    let policy = plugin.text_of("failure_policy")?;
    match (policy, is_fail_open(plugin)?) {
        ("" | "UNSPECIFIED", true) | ("FAIL_OPEN", false) => Ok(FailurePolicy::Open),
        ("" | "UNSPECIFIED" | "FAIL_CLOSED", false) => Ok(FailurePolicy::Closed),
        ("FAIL_RELOAD", false) => match plugin.at(&["reload_config", "backoff", "base_interval"]) {
            None => Ok(FailurePolicy::Reload { backoff: FailurePolicy::BACKOFF }),
            Some(interval) => seconds(interval.text()?)
                .and_then(FailurePolicy::reload)
                .map_err(|what| interval.invalid(what)),
        },
        (_, true) => Err(plugin.invalid("Envoy takes one of failure_policy and fail_open")),
        (other, false) => Err(plugin.invalid(format!(
            "failure_policy {other} is none of FAIL_CLOSED, FAIL_OPEN and FAIL_RELOAD"
        ))),
    }
}

/// The older field, which means a little more: streams under way pass, too.
fn is_fail_open(plugin: &Node) -> Result<bool, Invalid> {
    plugin.find("fail_open").map_or(Ok(false), Node::flag)
}

/// A duration as protocol buffers write it in JSON, such as `1.5s`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').and_then(|number| number.parse().ok());
    let duration = number.and_then(|number| Duration::try_from_secs_f64(number).ok());
    duration.ok_or_else(|| format!("`{text}` is not a duration; write one as 1s or 0.5s"))
}

fn allowed_capabilities(plugin: &Node, vm: &Node) -> BTreeSet<String> {
    let path = ["capability_restriction_config", "allowed_capabilities"];
    // The field of the plugin is the older one.
    let allowed = vm.at(&path).or_else(|| plugin.at(&path));
    allowed.into_iter().flat_map(Node::keys).map(str::to_owned).collect()
}

fn module(code: &Node) -> Result<ModuleAt, Invalid> {
    if let Some(local) = code.find("local") {
        if let Some(file) = local.find("filename") {
            return Ok(ModuleAt::File(PathBuf::from(file.text()?)));
        }
        if let Some(inline) = local.find("inline_bytes") {
            return Ok(ModuleAt::Inline(base64(inline)?));
        }
        return Err(local.invalid("a module is `filename` or `inline_bytes` here"));
    }
    let uri = code.at(&["remote", "http_uri", "uri"]);
    let uri = uri.ok_or_else(|| code.invalid("`local`, or `remote` with a URI, is missing"))?;
    Ok(ModuleAt::Remote(uri.text()?.to_owned()))
}

/// What a plugin gets of an `Any`: texts and bytes as they are, a structure as JSON.
fn bytes(any: &Node) -> Result<Vec<u8>, Invalid> {
    let kind = any.need("@type")?.text()?;
    match kind.rsplit('/').next() {
        Some("google.protobuf.StringValue") => Ok(any.text_of("value")?.as_bytes().to_vec()),
        Some("google.protobuf.BytesValue") => any.find("value").map_or(Ok(Vec::new()), base64),
        Some("google.protobuf.Struct") => {
            Ok(any.find("value").map_or_else(|| b"{}".to_vec(), json))
        }
        _ => Err(any.invalid(format!(
            "a plugin gets `{kind}` as raw protocol buffers; write StringValue, BytesValue or Struct of google.protobuf"
        ))),
    }
}

fn base64(node: &Node) -> Result<Vec<u8>, Invalid> {
    STANDARD.decode(node.text()?).map_err(|error| node.invalid(format!("not base64: {error}")))
}

/// A structure as a plugin gets it.
pub(super) fn json(node: &Node) -> Vec<u8> {
    node.json().to_string().into_bytes()
}

/// What is configured and not carried over.
fn left(plugin: &Node, vm: &Node) -> Result<Vec<String>, Invalid> {
    let mut left = Vec::new();
    if is_fail_open(plugin)? {
        left.push(
            "fail_open: true is played as failure_policy: FAIL_OPEN, with which the stream in which \
             the guest traps fails"
                .into(),
        );
    }
    if let Some(variables) = vm.find("environment_variables") {
        let host = variables.find("host_env_keys").map_or(Ok(&[][..]), Node::list)?;
        let names = host.iter().map(Node::text).collect::<Result<Vec<_>, _>>()?;
        if !names.is_empty() {
            left.push(format!("host_env_keys: {} are not set", names.join(", ")));
        }
    }
    Ok(left)
}
