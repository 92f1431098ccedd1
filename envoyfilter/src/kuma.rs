//! Kuma and Kong Mesh: a `MeshProxyPatch`. Nothing is fetched there: the module is a mounted file, or inside.
//!
//! Source: kumahq/kuma, `pkg/plugins/policies/meshproxypatch/api/v1alpha1`.

use serde_json::{Value, json};

use crate::istio::{ROUTER, TCP_PROXY};
use crate::rendered::{Document, Rendered, put, to_yaml};
use crate::{Anchor, Delivery, Direction, Facts, InvalidPolicy, Policy, Traffic, Workload, wasm};

pub(crate) fn render(policy: &Policy, facts: &Facts) -> Result<Rendered, InvalidPolicy> {
    let namespace = policy.need_namespace()?;
    is_possible(policy)?;
    let mut rendered = Rendered::default();
    let code = match &policy.module {
        Some(Delivery::File(file)) => {
            rendered.note(format!("the file {file} has to be mounted into kuma-dp"));
            wasm::local(file)
        }
        Some(Delivery::Inline) => {
            let (code, note) = wasm::inline(policy, facts)?;
            rendered.notes.extend(note);
            code
        }
        Some(Delivery::Image(_) | Delivery::Url(_)) | None => {
            return Err(policy.refused("module", "Kuma fetches no modules; say `file` or `inline`"));
        }
    };
    let name = policy.plugin_name();
    let config = wasm::filter(policy, facts, &format!("{namespace}/{name}"), &code);
    let filter = json!({ "name": name, "typed_config": config });
    let (kind, last) = match facts.traffic {
        Traffic::Http => ("httpFilter", ROUTER),
        Traffic::Tcp => ("networkFilter", TCP_PROXY),
    };
    let mut matched = json!({});
    let operation = match &policy.apply.anchor {
        Some(Anchor::First) => "AddFirst",
        Some(Anchor::Before(name)) => {
            put(&mut matched, "name", json!(name));
            "AddBefore"
        }
        Some(Anchor::After(name)) if name == last => {
            let what = format!("{name} has to be the last of its chain; stand before it");
            return Err(policy.refused("apply.anchor", what));
        }
        Some(Anchor::After(name)) => {
            put(&mut matched, "name", json!(name));
            "AddAfter"
        }
        None => {
            put(&mut matched, "name", json!(last));
            "AddBefore"
        }
    };
    let origin = match (policy.apply.to, policy.apply.direction.unwrap_or_default()) {
        (Workload::Gateway | Workload::Waypoint, _) => "gateway",
        (Workload::Sidecar, Direction::Inbound) => "inbound",
        (Workload::Sidecar, Direction::Outbound) => "outbound",
    };
    put(&mut matched, "origin", json!(origin));
    let text =
        |value: &Value| to_yaml(value).map_err(|error| policy.refused("config", error.to_string()));
    let patch = json!({ "operation": operation, "match": matched, "value": text(&filter)? });
    let mut patches = vec![json!({ kind: patch })];
    for cluster in &policy.clusters {
        let value = text(&wasm::cluster(cluster))?;
        patches.push(json!({ "cluster": { "operation": "Add", "value": value } }));
    }
    let resource = json!({
        "apiVersion": "kuma.io/v1alpha1",
        "kind": "MeshProxyPatch",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": { "kuma.io/mesh": "default" },
        },
        "spec": {
            "targetRef": target(policy),
            "default": { "appendModifications": patches },
        },
    });
    rendered.documents.push(Document::new("meshproxypatch.yaml", "", resource));
    if !policy.apply.targets.is_empty() {
        rendered.note("apply.targets: Kuma takes a MeshGateway up to 2.14, and not from 3.0 on");
    }
    if policy.apply.order.is_some() {
        rendered.note("apply.order: Kuma applies patches in the order of their resources' names");
    }
    rendered.notes.extend(facts.unlabelled("Kuma"));
    if policy.variants.is_some() {
        rendered.note("variants: a MeshHTTPRoute that matches the header is yours to write");
    }
    Ok(rendered)
}

/// The proxies of the patch; a Dataplane has the labels of its workload.
fn target(policy: &Policy) -> Value {
    match policy.apply.targets.first() {
        Some(target) => json!({ "kind": target.kind, "name": target.name }),
        None if policy.apply.selector.is_empty() => json!({ "kind": "Mesh" }),
        None => json!({ "kind": "Dataplane", "labels": policy.apply.selector }),
    }
}

fn is_possible(policy: &Policy) -> Result<(), InvalidPolicy> {
    let apply = &policy.apply;
    let refuse = |path: &str, what: &str| Err(policy.refused(path, what));
    if apply.to == Workload::Waypoint {
        return refuse("apply.to", "Kuma has no waypoints");
    }
    if apply.targets.len() > 1 {
        return refuse("apply.targets", "a MeshProxyPatch has one target; write a policy for each");
    }
    if let Some(target) = apply.targets.first().filter(|target| target.kind != "MeshGateway") {
        let what = format!("a gateway of Kuma is a MeshGateway, not a {}", target.kind);
        return refuse("apply.targets[0].kind", &what);
    }
    if !apply.ports.is_empty() {
        return refuse("apply.ports", "a MeshProxyPatch does not match ports");
    }
    if apply.phase.is_some() {
        return refuse("apply.phase", "Kuma has no phases; write `anchor`");
    }
    if !apply.routes.is_empty() {
        return refuse("apply.routes", "a MeshProxyPatch does not change routes");
    }
    Ok(())
}
