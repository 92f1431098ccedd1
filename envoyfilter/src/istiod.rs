//! A small model of what Istio does with an `EnvoyFilter`: istiod patches the configuration of a proxy, and
//! the agent beside the proxy fetches modules. With it a resource can be tried out on a plain Envoy.
//!
//! The model has the operations on filters, routes and clusters, and extensions over ECDS. Selectors,
//! namespaces and versions of proxies are not looked at: whoever calls has chosen the resources.
//!
//! Source: Istio 1.32, `pilot/pkg/networking/core/envoyfilter` and `pkg/wasm/convert.go`.

use std::fmt;
use std::path::Path;

use serde_json::{Value, json};

use crate::istio::CONNECTION_MANAGER;
use crate::wasm::{HTTP, NETWORK};

/// Which configuration of a proxy is patched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// What comes to a sidecar.
    SidecarInbound,
    /// What a sidecar sends.
    SidecarOutbound,
    /// A gateway.
    Gateway,
}

impl Context {
    fn as_str(self) -> &'static str {
        match self {
            Self::SidecarInbound => "SIDECAR_INBOUND",
            Self::SidecarOutbound => "SIDECAR_OUTBOUND",
            Self::Gateway => "GATEWAY",
        }
    }
}

/// A resource that istiod would not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotApplied {
    /// A part of a patch is missing.
    Incomplete {
        /// Which patch, counted from 0.
        patch: usize,
        /// The part.
        part: &'static str,
    },
    /// The model does not have this operation there.
    Unmodelled {
        /// What is patched.
        apply_to: String,
        /// How.
        operation: String,
    },
}

impl fmt::Display for NotApplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete { patch, part } => {
                write!(f, "spec.configPatches[{patch}]: `{part}` is missing")
            }
            Self::Unmodelled { apply_to, operation } => {
                write!(f, "operation {operation} on {apply_to} is not modelled")
            }
        }
    }
}

impl std::error::Error for NotApplied {}

/// Applies resources to a bootstrap, oldest first; gives the extensions that the proxy asks for.
///
/// # Errors
///
/// [`NotApplied`] with the patch that cannot be.
pub fn apply(
    bootstrap: &mut Value,
    context: Context,
    resources: &[Value],
) -> Result<Vec<Value>, NotApplied> {
    let mut resources: Vec<&Value> = resources.iter().collect();
    // Stable: of the same priority the oldest comes first.
    resources.sort_by_key(|resource| {
        resource.pointer("/spec/priority").and_then(Value::as_i64).unwrap_or(0)
    });
    let mut extensions = Vec::new();
    for resource in resources {
        let patches = resource.pointer("/spec/configPatches").and_then(Value::as_array);
        for (index, patch) in patches.into_iter().flatten().enumerate() {
            let patch = Patch::read(index, patch)?;
            match patch.apply_to {
                "EXTENSION_CONFIG" => extensions.extend(patch.extension()),
                "HTTP_FILTER" | "NETWORK_FILTER" if patch.is_for(context) => {
                    patch.change_filters(bootstrap)?;
                }
                "VIRTUAL_HOST" | "HTTP_ROUTE" if patch.is_for(context) => {
                    patch.change_routes(bootstrap)?;
                }
                "CLUSTER" if patch.adds_cluster(context) => patch.add_cluster(bootstrap)?,
                "HTTP_FILTER" | "NETWORK_FILTER" | "VIRTUAL_HOST" | "HTTP_ROUTE" | "CLUSTER" => {}
                _ => return Err(patch.unmodelled()),
            }
        }
    }
    let asked = asked(bootstrap);
    extensions.retain(|extension| {
        text(extension, "/name").is_some_and(|name| asked.contains(&name.to_owned()))
    });
    Ok(extensions)
}

/// The names of the extensions that a proxy asks for.
fn asked(value: &Value) -> Vec<String> {
    let own = value.get("config_discovery").and_then(|_| text(value, "/name"));
    let below: Vec<String> = match value {
        Value::Object(fields) => fields.values().flat_map(asked).collect(),
        Value::Array(values) => values.iter().flat_map(asked).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    own.map(str::to_owned).into_iter().chain(below).collect()
}

struct Patch<'a> {
    apply_to: &'a str,
    matched: &'a Value,
    operation: &'a str,
    value: &'a Value,
}

impl<'a> Patch<'a> {
    fn read(index: usize, patch: &'a Value) -> Result<Self, NotApplied> {
        let part =
            |path, part| text(patch, path).ok_or(NotApplied::Incomplete { patch: index, part });
        Ok(Self {
            apply_to: part("/applyTo", "applyTo")?,
            matched: patch.get("match").unwrap_or(&Value::Null),
            operation: part("/patch/operation", "patch.operation")?,
            value: patch.pointer("/patch/value").unwrap_or(&Value::Null),
        })
    }

    fn unmodelled(&self) -> NotApplied {
        NotApplied::Unmodelled {
            apply_to: self.apply_to.to_owned(),
            operation: self.operation.to_owned(),
        }
    }

    fn context(&self) -> &str {
        text(self.matched, "/context").unwrap_or("ANY")
    }

    fn is_for(&self, context: Context) -> bool {
        ["ANY", context.as_str()].contains(&self.context())
    }

    /// Clusters are added for gateways and for what sidecars send, whatever calls them.
    fn adds_cluster(&self, context: Context) -> bool {
        match context {
            Context::Gateway => self.is_for(Context::Gateway),
            Context::SidecarInbound | Context::SidecarOutbound => {
                self.is_for(Context::SidecarOutbound)
            }
        }
    }

    /// Neither operation, match nor context of an extension are looked at, but that it is added.
    fn extension(&self) -> Option<Value> {
        (self.operation == "ADD").then(|| self.value.clone())
    }

    fn change_filters(&self, bootstrap: &mut Value) -> Result<(), NotApplied> {
        for listener in items(bootstrap, "/static_resources/listeners") {
            let name = text(listener, "/name").unwrap_or_default().to_owned();
            let port = listener.pointer("/address/socket_address/port_value").cloned();
            for chain in items(listener, "/filter_chains") {
                if !self.fits_chain(&name, port.as_ref(), chain) {
                    continue;
                }
                if self.apply_to == "NETWORK_FILTER" {
                    let beside = text(self.matched, "/listener/filterChain/filter/name");
                    if let Some(Value::Array(filters)) = chain.get_mut("filters") {
                        self.change(filters, beside)?;
                    }
                    continue;
                }
                let beside = text(self.matched, "/listener/filterChain/filter/subFilter/name");
                for filter in items(chain, "/filters") {
                    if text(filter, "/name") != Some(CONNECTION_MANAGER) {
                        continue;
                    }
                    if let Some(Value::Array(filters)) =
                        filter.pointer_mut("/typed_config/http_filters")
                    {
                        self.change(filters, beside)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The ports of the listeners for all traffic are those of their chains.
    fn fits_chain(&self, listener: &str, port: Option<&Value>, chain: &Value) -> bool {
        let own = ["virtualInbound", "virtualOutbound"].contains(&listener);
        let port = if own { chain.pointer("/filter_chain_match/destination_port") } else { port };
        let is = |path: &str, actual: Option<&Value>| {
            self.matched.pointer(path).is_none_or(|wanted| Some(wanted) == actual)
        };
        let has = |name: &Value| {
            chain.get("filters").and_then(Value::as_array).is_some_and(|filters| {
                filters.iter().any(|filter| filter.get("name") == Some(name))
            })
        };
        is("/listener/name", Some(&json!(listener)))
            && is("/listener/portNumber", port)
            && is("/listener/filterChain/name", chain.get("name"))
            && is(
                "/listener/filterChain/destinationPort",
                chain.pointer("/filter_chain_match/destination_port"),
            )
            // The filter of a patch of network filters says where in a chain, not in which.
            && (self.apply_to == "NETWORK_FILTER"
                || self.matched.pointer("/listener/filterChain/filter/name").is_none_or(has))
    }

    fn change(&self, filters: &mut Vec<Value>, beside: Option<&str>) -> Result<(), NotApplied> {
        let at = beside
            .map(|name| filters.iter().position(|filter| text(filter, "/name") == Some(name)));
        let value = self.value.clone();
        match (self.operation, at) {
            // After the last one, which Envoy refuses.
            ("ADD", _) | ("INSERT_AFTER", None) => filters.push(value),
            ("INSERT_FIRST", _) | ("INSERT_BEFORE", None) => filters.insert(0, value),
            ("INSERT_BEFORE", Some(Some(at))) => filters.insert(at, value),
            ("INSERT_AFTER", Some(Some(at))) => filters.insert(at + 1, value),
            ("REPLACE", Some(Some(at))) => {
                if let Some(filter) = filters.get_mut(at) {
                    *filter = value;
                }
            }
            ("REMOVE", Some(Some(at))) => drop(filters.remove(at)),
            // In silence: what stands beside nothing is dropped.
            ("INSERT_BEFORE" | "INSERT_AFTER" | "REPLACE" | "REMOVE", _) => {}
            _ => return Err(self.unmodelled()),
        }
        Ok(())
    }

    fn change_routes(&self, bootstrap: &mut Value) -> Result<(), NotApplied> {
        if self.operation != "MERGE" {
            return Err(self.unmodelled());
        }
        let wanted = |part| self.matched.pointer(&format!("/routeConfiguration/vhost/{part}"));
        let (host, route) = (wanted("name"), wanted("route/name"));
        let is = |wanted: Option<&Value>, actual: &Value| {
            wanted.is_none_or(|wanted| Some(wanted) == actual.get("name"))
        };
        for listener in items(bootstrap, "/static_resources/listeners") {
            for chain in items(listener, "/filter_chains") {
                for filter in items(chain, "/filters") {
                    for virtual_host in items(filter, "/typed_config/route_config/virtual_hosts") {
                        if !is(host, virtual_host) {
                            continue;
                        }
                        if self.apply_to == "VIRTUAL_HOST" {
                            merge(virtual_host, self.value);
                            continue;
                        }
                        for found in items(virtual_host, "/routes") {
                            if is(route, found) {
                                merge(found, self.value);
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn add_cluster(&self, bootstrap: &mut Value) -> Result<(), NotApplied> {
        if self.operation != "ADD" {
            return Err(self.unmodelled());
        }
        if let Some(Value::Array(clusters)) = bootstrap.pointer_mut("/static_resources/clusters") {
            clusters.push(self.value.clone());
        }
        Ok(())
    }
}

/// As messages are merged: lists grow, and all else is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (into, from) => *into = from.clone(),
    }
}

/// What became of fetching a module.
#[derive(Clone, Copy, Debug)]
pub enum Fetched<'a> {
    /// It lies in this file.
    File(&'a Path),
    /// It could not be had.
    Failed,
}

/// Hands an extension to the proxy, as the agent does: the module is in a file, and when it cannot be had
/// a filter takes its place that lets everything pass, or nothing, as the plugin's failure policy says.
///
/// What names no module elsewhere is passed on as it is.
pub fn converted(extension: &Value, fetched: Fetched<'_>) -> Value {
    let mut extension = extension.clone();
    let Some(config) = extension.pointer_mut("/typed_config") else { return extension };
    let kind = text(config, "/@type").unwrap_or_default().to_owned();
    let is_wasm = [HTTP, NETWORK].contains(&kind.as_str());
    if !is_wasm || config.pointer("/config/vm_config/code/remote").is_none() {
        return extension;
    }
    match fetched {
        Fetched::File(file) => {
            if let Some(code) = config.pointer_mut("/config/vm_config/code") {
                *code = json!({ "local": { "filename": file } });
            }
            let variables = "/config/vm_config/environment_variables/key_values";
            if let Some(Value::Object(variables)) = config.pointer_mut(variables) {
                variables.retain(|name, _| !name.starts_with("ISTIO_META_"));
            }
        }
        Fetched::Failed => {
            let is_open = text(config, "/config/failure_policy") == Some("FAIL_OPEN");
            let kind = kind.replace("wasm.v3.Wasm", "rbac.v3.RBAC");
            *config = if is_open {
                json!({ "@type": kind, "rules_stat_prefix": "wasm-default-allow" })
            } else {
                json!({ "@type": kind, "rules": {}, "rules_stat_prefix": "wasm-default-deny" })
            };
            if kind.contains(".network.") {
                // Required there.
                crate::rendered::put(config, "stat_prefix", json!("wasm-default"));
            }
        }
    }
    extension
}

/// Has a proxy without a control plane take its extensions from files in a folder, one each; gives the name
/// of each file with what is to stand in it.
pub fn by_files(
    bootstrap: &mut Value,
    extensions: &[Value],
    folder: &Path,
) -> Vec<(String, Value)> {
    let file = |name: &str| format!("{}.json", name.replace('/', "-"));
    point_at_files(bootstrap, &|name| folder.join(file(name)).display().to_string());
    let resource = |extension: &Value| {
        let mut resource =
            json!({ "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig" });
        merge(&mut resource, extension);
        let name = text(extension, "/name").unwrap_or_default();
        (file(name), json!({ "resources": [resource] }))
    };
    extensions.iter().map(resource).collect()
}

fn point_at_files(value: &mut Value, file: &dyn Fn(&str) -> String) {
    let name = text(value, "/name").map(file);
    if let (Some(path), Some(Value::Object(source))) =
        (name, value.pointer_mut("/config_discovery/config_source"))
    {
        source.remove("ads");
        source.insert("path_config_source".into(), json!({ "path": path }));
    }
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|value| point_at_files(value, file)),
        Value::Array(values) => values.iter_mut().for_each(|value| point_at_files(value, file)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    value.pointer(path).and_then(Value::as_str)
}

fn items<'a>(value: &'a mut Value, path: &str) -> impl Iterator<Item = &'a mut Value> {
    value.pointer_mut(path).and_then(Value::as_array_mut).into_iter().flatten()
}

#[cfg(test)]
mod tests;
