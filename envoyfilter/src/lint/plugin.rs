//! `WasmPlugin` and `TrafficExtension` of Istio, and the `WasmPlugin` of Higress.

use tollgate_tree::Node;

use super::envoy_filter::{is_waypoint, targets, version, wildcards};
use super::rules::{
    BOTH_SELECTORS, EMPTY_CONFIG, HOST_VALUE, NO_FAIL_STRATEGY, NO_URL, PHASE,
    SELECTOR_ON_WAYPOINT, TARGET_REF, URL_SCHEME, VERIFICATION_KEY, WASM_AND_LUA,
};
use super::{Lint, list_at, text_at, wasm};

pub(super) fn check(document: &Node, lint: &mut Lint) {
    let is_higress = text_at(document, &["apiVersion"]).starts_with("extensions.higress.io/");
    let expected =
        if is_higress { "extensions.higress.io/v1alpha1" } else { "extensions.istio.io/v1alpha1" };
    version(document, expected, lint);
    let Some(spec) = document.find("spec") else { return };
    let ways = ["selector", "targetRefs", "targetRef"].iter().filter_map(|key| spec.find(key));
    if let Some(second) = ways.clone().nth(1) {
        lint.found(second, &BOTH_SELECTORS, "two ways of choosing workloads");
    }
    if let Some(target) = spec.find("targetRef") {
        lint.found(target, &TARGET_REF, "targetRef");
    }
    targets(document, lint);
    let labels = spec.at(&["selector", "matchLabels"]);
    wildcards(labels, lint);
    if let Some(labels) = labels.filter(|labels| is_waypoint(labels)) {
        lint.found(labels, &SELECTOR_ON_WAYPOINT, "labels of a waypoint");
    }
    if let Some(phase) = spec.find("phase")
        && !["AUTHN", "AUTHZ", "STATS", "UNSPECIFIED_PHASE"]
            .contains(&phase.text().unwrap_or_default())
    {
        lint.found(phase, &PHASE, format!("`{}`", phase.text().unwrap_or_default()));
    }
    let wasm = if text_at(document, &["kind"]) == "TrafficExtension" {
        match (spec.find("wasm"), spec.find("lua")) {
            (Some(wasm), Some(_)) => {
                lint.found(wasm, &WASM_AND_LUA, "wasm beside lua");
                return;
            }
            (Some(wasm), None) => wasm,
            (None, _) => return,
        }
    } else {
        spec
    };
    module(wasm, lint);
    if let Some(at) = wasm.find("url").filter(|_| !is_higress) {
        wasm::check_address(at.text().unwrap_or_default(), at, lint);
    }
    for variable in list_at(wasm, &["vmConfig", "env"]) {
        if let Some(value) = variable.find("value")
            && text_at(variable, &["valueFrom"]) == "HOST"
        {
            lint.found(value, &HOST_VALUE, text_at(variable, &["name"]));
        }
    }
    if wasm.find("failStrategy").is_none() {
        lint.found(wasm, &NO_FAIL_STRATEGY, "no failStrategy");
    }
    if let Some(config) = wasm.find("pluginConfig")
        && config.json() == serde_json::json!({})
    {
        lint.found(config, &EMPTY_CONFIG, "pluginConfig: {}");
    }
}

fn module(wasm: &Node, lint: &mut Lint) {
    if let Some(key) = wasm.find("verificationKey") {
        lint.found(key, &VERIFICATION_KEY, "verificationKey");
    }
    let Some(at) = wasm.find("url") else { return lint.found(wasm, &NO_URL, "no url") };
    let url = at.text().unwrap_or_default();
    if let Some((scheme, _)) = url.split_once("://")
        && !["oci", "https", "http", "file"].contains(&scheme)
    {
        return lint.found(at, &URL_SCHEME, format!("`{scheme}://`"));
    }
    wasm::check_pull_policy(wasm.find("imagePullPolicy"), lint);
    // Istio itself says what changes, and so what is pulled again.
    let is_followed = text_at(wasm, &["imagePullPolicy"]) == "Always";
    wasm::check_digest(wasm, url, at, is_followed, lint);
}
