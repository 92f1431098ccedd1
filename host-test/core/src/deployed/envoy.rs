//! Filters as Envoy is configured with them: in a bootstrap, a listener, a list of filters, or alone.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tollgate_tree::Node;

use super::{Deployed, Invalid, ModuleAt};
use crate::scenario::FailurePolicy;

/// The extension of HTTP that is ours.
const WASM: &str = "envoy.extensions.filters.http.wasm.v3.Wasm";
/// The same for TCP.
const NETWORK_WASM: &str = "envoy.extensions.filters.network.wasm.v3.Wasm";

/// A filter of a chain, as far as it is ours.
pub(super) enum Entry<'a> {
    /// Wasm, with its configuration.
    Wasm { name: &'a str, wasm: &'a Node },
    /// Wasm, perhaps, with its configuration elsewhere.
    Discovered { name: &'a str, at: &'a Node },
    /// Wasm for TCP.
    Network { name: &'a str },
    /// Something else.
    Other,
}

/// Reads what a filter of a chain, or an extension of it, is.
pub(super) fn entry(node: &Node) -> Result<Entry<'_>, Invalid> {
    let name = node.text_of("name")?;
    if let Some(config) = node.find("typed_config") {
        let (kind, value) = open(config)?;
        return Ok(match kind {
            Some(WASM) => Entry::Wasm { name, wasm: value },
            Some(NETWORK_WASM) => Entry::Network { name },
            _ => Entry::Other,
        });
    }
    if let Some(discovery) = node.find("config_discovery") {
        let types = discovery.find("type_urls").map_or(Ok(&[][..]), Node::list)?;
        let is_wasm = |node: &&Node| node.text().is_ok_and(|url| url.ends_with(WASM));
        if types.iter().any(|node| is_wasm(&node)) {
            return Ok(Entry::Discovered { name, at: node });
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

/// Every list of HTTP filters in a document, or the one filter that the document is.
pub(super) fn chains(document: &Node) -> Result<Vec<Vec<&Node>>, Invalid> {
    if let Ok(nodes) = document.list() {
        return Ok(vec![nodes.iter().collect()]);
    }
    let mut lists = Vec::new();
    document.walk(&mut |node| lists.extend(node.find("http_filters")));
    let chains: Vec<Vec<&Node>> = lists
        .into_iter()
        .map(|list| Ok(list.list()?.iter().collect()))
        .collect::<Result<_, _>>()?;
    let is_filter =
        document.find("typed_config").is_some() || document.find("config_discovery").is_some();
    if chains.is_empty() && is_filter { Ok(vec![vec![document]]) } else { Ok(chains) }
}

/// Every extension with a name in a document: what filters that are discovered may be.
pub(super) fn extensions<'a>(document: &'a Node, found: &mut Vec<(&'a str, &'a Node)>) {
    document.walk(&mut |node| {
        if let Ok(Entry::Wasm { name, wasm }) = entry(node) {
            found.push((name, wasm));
        }
    });
}

/// Reads the configuration of a filter.
pub(super) fn wasm(name: &str, wasm: &Node) -> Result<Deployed, Invalid> {
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
        allowed_capabilities: allowed_capabilities(plugin, vm),
        failure_policy: failure_policy(plugin)?,
        module: module(vm.need("code")?)?,
        left: left(plugin, vm)?,
        line: wasm.line,
    })
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
        let host = host.iter().map(Node::text).collect::<Result<Vec<_>, _>>()?;
        let own = variables.find("key_values").into_iter().flat_map(Node::keys);
        let names: Vec<&str> = host.into_iter().chain(own).collect();
        if !names.is_empty() {
            left.push(format!("environment_variables: {} are not set", names.join(", ")));
        }
    }
    Ok(left)
}
