//! Istio by `WasmPlugin`, and from 1.30 on by `TrafficExtension`, which supersedes it.
//!
//! Source: Istio 1.32, `extensions.istio.io/v1alpha1`.

use serde_json::{Value, json};

use crate::istio::{clusters_alone, companions, pinned, tags_comment, target_refs, unpinned};
use crate::placement::whole_mesh;
use crate::rendered::{Document, Rendered, put};
use crate::wasm::sha256;
use crate::{Delivery, Direction, Facts, FailurePolicy, InvalidPolicy, Policy, Traffic, Workload};

pub(crate) fn wasm_plugin(policy: &Policy, facts: &Facts) -> Result<Rendered, InvalidPolicy> {
    let mut rendered = Rendered::default();
    let Value::Object(place) = place(policy)? else { return Ok(rendered) };
    let Value::Object(mut wasm) = wasm(policy, facts, &mut rendered)? else { return Ok(rendered) };
    let kind = match facts.traffic {
        Traffic::Http => "HTTP",
        Traffic::Tcp => "NETWORK",
    };
    wasm.insert("type".into(), json!(kind));
    let spec = Value::Object(place.into_iter().chain(wasm).collect());
    finish(policy, facts, "WasmPlugin", &spec, rendered)
}

pub(crate) fn traffic_extension(policy: &Policy, facts: &Facts) -> Result<Rendered, InvalidPolicy> {
    let mut rendered = Rendered::default();
    if facts.traffic == Traffic::Tcp {
        let what = "this is a filter of TCP, and a TrafficExtension does not say so; render istio";
        return Err(policy.refused("filter", what));
    }
    let mut spec = place(policy)?;
    put(&mut spec, "wasm", wasm(policy, facts, &mut rendered)?);
    finish(policy, facts, "TrafficExtension", &spec, rendered)
}

fn finish(
    policy: &Policy,
    facts: &Facts,
    kind: &str,
    spec: &Value,
    mut rendered: Rendered,
) -> Result<Rendered, InvalidPolicy> {
    let namespace = policy.need_namespace()?;
    if let Some(need) = facts.needs.iter().next() {
        let what = format!("this module needs {need}, which a {kind} cannot say; render istio");
        return Err(policy.refused("filter", what));
    }
    let resource = json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": kind,
        "metadata": { "name": policy.plugin_name(), "namespace": namespace },
        "spec": spec,
    });
    let file = format!("{}.yaml", kind.to_ascii_lowercase());
    let comment = tags_comment(facts).join("\n");
    rendered.documents.push(Document::new(&file, &comment, resource));
    rendered.documents.extend(clusters_alone(policy, namespace)?);
    rendered.documents.extend(companions(policy, namespace));
    rendered.notes.extend(whole_mesh(policy));
    rendered.note(format!("a {kind} restricts no capabilities: the filter may call any function"));
    Ok(rendered)
}

/// Which traffic of which proxies, and where in the chain.
fn place(policy: &Policy) -> Result<Value, InvalidPolicy> {
    let apply = &policy.apply;
    if apply.anchor.is_some() {
        let what = "a plugin stands in a `phase`, not beside a filter; or render istio";
        return Err(policy.refused("apply.anchor", what));
    }
    if !apply.routes.is_empty() {
        let what = "a plugin is for all routes; render istio";
        return Err(policy.refused("apply.routes", what));
    }
    let mut spec = json!({});
    if !apply.selector.is_empty() {
        put(&mut spec, "selector", json!({ "matchLabels": apply.selector }));
    }
    if !apply.targets.is_empty() {
        put(&mut spec, "targetRefs", target_refs(policy));
    }
    if let Some(phase) = apply.phase {
        put(&mut spec, "phase", json!(phase.as_str()));
    }
    if let Some(order) = apply.order {
        // The greatest comes first.
        put(&mut spec, "priority", json!(1000 - order));
    }
    let mut traffic = json!({});
    if apply.to == Workload::Sidecar {
        let mode = match apply.direction.unwrap_or_default() {
            Direction::Inbound => "SERVER",
            Direction::Outbound => "CLIENT",
        };
        put(&mut traffic, "mode", json!(mode));
    }
    if !apply.ports.is_empty() {
        let ports = apply.ports.iter().map(|port| json!({ "number": port }));
        put(&mut traffic, "ports", ports.collect());
    }
    if traffic != json!({}) {
        put(&mut spec, "match", json!([traffic]));
    }
    Ok(spec)
}

fn wasm(policy: &Policy, facts: &Facts, rendered: &mut Rendered) -> Result<Value, InvalidPolicy> {
    let mut wasm = json!({});
    match &policy.module {
        None => {
            let what = "missing; say how Istio gets the module: `image`, `url` or `file`";
            return Err(policy.refused("module", what));
        }
        Some(Delivery::Inline) => {
            return Err(policy.refused("module", "a plugin carries no code; render istio"));
        }
        Some(Delivery::File(file)) => {
            rendered.note(format!("the file {file} has to be mounted into istio-proxy"));
            put(&mut wasm, "url", json!(format!("file://{file}")));
        }
        Some(Delivery::Url(url)) => {
            put(&mut wasm, "url", json!(url));
            put(&mut wasm, "sha256", json!(sha256(facts)));
        }
        Some(Delivery::Image(pull)) => {
            put(&mut wasm, "url", json!(pull.reference.to_string()));
            match pinned(policy, pull)? {
                Some(digest) => put(&mut wasm, "sha256", json!(digest)),
                None => rendered.note(unpinned(pull)),
            }
            if let Some(pull_policy) = pull.pull_policy {
                put(&mut wasm, "imagePullPolicy", json!(pull_policy.as_str()));
            }
            if let Some(secret) = &pull.pull_secret {
                put(&mut wasm, "imagePullSecret", json!(secret));
            }
        }
    }
    if !policy.root_id.is_empty() {
        put(&mut wasm, "pluginName", json!(policy.root_id));
    }
    let strategy = match policy.failure_policy {
        FailurePolicy::Closed => "FAIL_CLOSE",
        FailurePolicy::Reload => "FAIL_RELOAD",
        FailurePolicy::Open => "FAIL_OPEN",
    };
    put(&mut wasm, "failStrategy", json!(strategy));
    if let Some(config) = object(policy)? {
        put(&mut wasm, "pluginConfig", config);
    }
    let own = policy.environment.iter();
    let own =
        own.map(|(name, value)| json!({ "name": name, "valueFrom": "INLINE", "value": value }));
    let hosts = policy.host_environment.iter();
    let hosts = hosts.map(|name| json!({ "name": name, "valueFrom": "HOST" }));
    let variables: Vec<Value> = own.chain(hosts).collect();
    if !variables.is_empty() {
        put(&mut wasm, "vmConfig", json!({ "env": variables }));
    }
    Ok(wasm)
}

/// The configuration, where only an object can be one.
///
/// # Errors
///
/// When it is something else.
pub(crate) fn object(policy: &Policy) -> Result<Option<Value>, InvalidPolicy> {
    match &policy.config {
        Value::Null => Ok(None),
        // An empty one is none to whoever reads it.
        Value::Object(fields) if fields.is_empty() => {
            Err(policy
                .refused("config", "an empty object would not reach the filter; render istio"))
        }
        Value::Object(_) => Ok(Some(policy.config.clone())),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(policy.refused("config", "only an object can be carried; render istio or envoy"))
        }
    }
}
