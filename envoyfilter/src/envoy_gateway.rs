//! Envoy Gateway: an `EnvoyExtensionPolicy`. It pulls the module itself and hands it to Envoy.
//!
//! Source: envoyproxy/gateway, `api/v1alpha1/wasm_types.go` and `internal/xds/translator/wasm.go`.

use serde_json::{Value, json};

use crate::istio::{pinned, target_refs, unpinned};
use crate::istio_plugin::object;
use crate::rendered::{Document, Rendered, put};
use crate::wasm::sha256;
use crate::{Delivery, Facts, FailurePolicy, InvalidPolicy, Policy, Traffic, Workload};

pub(crate) fn render(policy: &Policy, facts: &Facts) -> Result<Rendered, InvalidPolicy> {
    let namespace = policy.need_namespace()?;
    is_possible(policy, facts)?;
    let mut rendered = Rendered::default();
    let name = policy.plugin_name();
    let mut wasm = json!({ "name": name });
    if !policy.root_id.is_empty() {
        put(&mut wasm, "rootID", json!(policy.root_id));
    }
    put(&mut wasm, "failOpen", json!(policy.failure_policy == FailurePolicy::Open));
    put(&mut wasm, "code", code(policy, facts, &mut rendered)?);
    if let Some(config) = object(policy)? {
        put(&mut wasm, "config", config);
    }
    if !policy.host_environment.is_empty() {
        put(&mut wasm, "env", json!({ "hostKeys": policy.host_environment }));
    }
    let resource = json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyExtensionPolicy",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "targetRefs": target_refs(policy), "wasm": [wasm] },
    });
    rendered.documents.push(Document::new("envoyextensionpolicy.yaml", "", resource));
    rendered.note("Envoy Gateway restricts no capabilities: the filter may call any function");
    if policy.apply.order.is_some() {
        rendered.note(
            "apply.order: Envoy Gateway orders filters of one policy only, by the list `spec.wasm`",
        );
    }
    rendered.notes.extend(facts.unlabelled("Envoy Gateway"));
    if policy.variants.is_some() {
        rendered.note("variants: an HTTPRoute that matches the header is yours to write");
    }
    Ok(rendered)
}

fn is_possible(policy: &Policy, facts: &Facts) -> Result<(), InvalidPolicy> {
    let apply = &policy.apply;
    let refuse = |path: &str, what: &str| Err(policy.refused(path, what));
    if apply.to != Workload::Gateway {
        return refuse("apply.to", "Envoy Gateway has gateways only; write `to: gateway`");
    }
    if apply.targets.is_empty() {
        return refuse("apply.targets", "missing; name a Gateway or a route");
    }
    if !apply.ports.is_empty() {
        return refuse("apply.ports", "a policy is for all ports of its target; target a route");
    }
    if apply.phase.is_some() || apply.anchor.is_some() {
        let path = if apply.phase.is_some() { "apply.phase" } else { "apply.anchor" };
        return refuse(
            path,
            "the place of Wasm in the chain is set for all, by EnvoyProxy.filterOrder",
        );
    }
    if !apply.routes.is_empty() {
        return refuse("apply.routes", "name the HTTPRoute in `targets`");
    }
    if facts.traffic == Traffic::Tcp {
        return refuse("filter", "this is a filter of TCP, and Envoy Gateway takes those of HTTP");
    }
    if let Some(need) = facts.needs.iter().next() {
        let what = format!("this module needs {need}, which Envoy Gateway cannot say");
        return refuse("filter", &what);
    }
    if policy.failure_policy == FailurePolicy::Reload {
        return refuse("failure_policy", "Envoy Gateway knows `closed` and `open`");
    }
    if !policy.environment.is_empty() {
        return refuse("environment", "Envoy Gateway passes on variables of the proxy only");
    }
    if !policy.clusters.is_empty() {
        return refuse("clusters", "Envoy Gateway takes none here; add them by EnvoyPatchPolicy");
    }
    Ok(())
}

fn code(policy: &Policy, facts: &Facts, rendered: &mut Rendered) -> Result<Value, InvalidPolicy> {
    match &policy.module {
        None => Err(policy.refused("module", "missing; say `image` or `url`")),
        Some(Delivery::File(_) | Delivery::Inline) => {
            Err(policy.refused("module", "Envoy Gateway takes `image` and `url`"))
        }
        Some(Delivery::Url(url)) => {
            Ok(json!({ "type": "HTTP", "http": { "url": url, "sha256": sha256(facts) } }))
        }
        Some(Delivery::Image(pull)) => {
            let digest = pinned(policy, pull)?;
            if digest.is_none() {
                rendered.note(unpinned(pull));
            }
            let repository = pull.reference.repository();
            let url = match (pull.reference.tag(), digest) {
                (Some(tag), _) => format!("{repository}:{tag}"),
                (None, Some(digest)) => format!("{repository}@sha256:{digest}"),
                (None, None) => repository.to_owned(),
            };
            let mut image = json!({ "url": url });
            if let Some(digest) = digest {
                put(&mut image, "sha256", json!(digest));
            }
            if let Some(secret) = &pull.pull_secret {
                put(&mut image, "pullSecretRef", json!({ "name": secret }));
            }
            let mut code = json!({ "type": "Image" });
            if let Some(pull_policy) = pull.pull_policy {
                put(&mut code, "pullPolicy", json!(pull_policy.as_str()));
            }
            put(&mut code, "image", image);
            Ok(code)
        }
    }
}
