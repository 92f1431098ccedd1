//! Higress: its own `WasmPlugin`, for gateways.
//!
//! Its `matchRules` are no routing: they are written into the configuration, and the plugin has to follow
//! them. A filter that does not know them gets none here.
//!
//! Source: alibaba/higress, `api/extensions/v1alpha1/wasmplugin.proto`.

use serde_json::json;

use crate::istio::{pinned, unpinned};
use crate::istio_plugin::object;
use crate::rendered::{Document, Rendered, put};
use crate::wasm::sha256;
use crate::{Delivery, Facts, FailurePolicy, InvalidPolicy, Policy, Traffic, Workload};

pub(crate) fn render(policy: &Policy, facts: &Facts) -> Result<Rendered, InvalidPolicy> {
    let namespace = policy.need_namespace()?;
    is_possible(policy, facts)?;
    let mut rendered = Rendered::default();
    let mut spec = json!({});
    if !policy.apply.selector.is_empty() {
        put(&mut spec, "selector", json!({ "matchLabels": policy.apply.selector }));
    }
    match &policy.module {
        Some(Delivery::Image(pull)) => {
            put(&mut spec, "url", json!(pull.reference.to_string()));
            match pinned(policy, pull)? {
                Some(digest) => put(&mut spec, "sha256", json!(digest)),
                None => rendered.note(unpinned(pull)),
            }
            if let Some(pull_policy) = pull.pull_policy {
                put(&mut spec, "imagePullPolicy", json!(pull_policy.as_str()));
            }
            if let Some(secret) = &pull.pull_secret {
                put(&mut spec, "imagePullSecret", json!(secret));
            }
        }
        Some(Delivery::Url(url)) => {
            put(&mut spec, "url", json!(url));
            put(&mut spec, "sha256", json!(sha256(facts)));
        }
        Some(Delivery::File(file)) => {
            rendered.note(format!("the file {file} has to be mounted into the gateway"));
            put(&mut spec, "url", json!(format!("file://{file}")));
        }
        Some(Delivery::Inline) | None => {
            return Err(policy.refused("module", "say `image`, `url` or `file`"));
        }
    }
    if !policy.root_id.is_empty() {
        put(&mut spec, "pluginName", json!(policy.root_id));
    }
    if let Some(phase) = policy.apply.phase {
        put(&mut spec, "phase", json!(phase.as_str()));
    }
    if let Some(order) = policy.apply.order {
        // The greatest comes first.
        put(&mut spec, "priority", json!(1000 - order));
    }
    let strategy = match policy.failure_policy {
        FailurePolicy::Open => "FAIL_OPEN",
        FailurePolicy::Closed | FailurePolicy::Reload => "FAIL_CLOSE",
    };
    put(&mut spec, "failStrategy", json!(strategy));
    if let Some(config) = object(policy)? {
        put(&mut spec, "defaultConfig", config);
    }
    put(&mut spec, "defaultConfigDisable", json!(false));
    let resource = json!({
        "apiVersion": "extensions.higress.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": { "name": policy.plugin_name(), "namespace": namespace },
        "spec": spec,
    });
    rendered.documents.push(Document::new("wasmplugin.yaml", "", resource));
    rendered.note("Higress restricts no capabilities: the filter may call any function");
    if policy.variants.is_some() {
        rendered.note("variants: an Ingress that matches the header is yours to write");
    }
    rendered.notes.extend(facts.unlabelled("Higress"));
    Ok(rendered)
}

fn is_possible(policy: &Policy, facts: &Facts) -> Result<(), InvalidPolicy> {
    let apply = &policy.apply;
    let refuse = |path: &str, what: &str| Err(policy.refused(path, what));
    if apply.to != Workload::Gateway {
        return refuse("apply.to", "Higress is a gateway; write `to: gateway`");
    }
    if !apply.targets.is_empty() {
        return refuse("apply.targets", "Higress knows `selector`");
    }
    if !apply.ports.is_empty() {
        return refuse("apply.ports", "a plugin of Higress is for all ports");
    }
    if apply.anchor.is_some() {
        return refuse("apply.anchor", "a plugin stands in a `phase`, not beside a filter");
    }
    if !apply.routes.is_empty() {
        let what = "Higress writes rules into the configuration, which this filter does not follow";
        return refuse("apply.routes", what);
    }
    if facts.traffic == Traffic::Tcp {
        return refuse("filter", "this is a filter of TCP, and Higress takes those of HTTP");
    }
    if let Some(need) = facts.needs.iter().next() {
        let what = format!("this module needs {need}, which a plugin of Higress cannot say");
        return refuse("filter", &what);
    }
    if policy.failure_policy == FailurePolicy::Reload {
        return refuse("failure_policy", "Higress knows `closed` and `open`");
    }
    for (path, is_said) in [
        ("environment", !policy.environment.is_empty()),
        ("host_environment", !policy.host_environment.is_empty()),
        ("clusters", !policy.clusters.is_empty()),
    ] {
        if is_said {
            return refuse(path, "a plugin of Higress says none");
        }
    }
    Ok(())
}
