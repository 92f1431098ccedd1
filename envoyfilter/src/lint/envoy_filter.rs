//! An `EnvoyFilter` as a whole: whom it chooses, and in which order it is applied.

use tollgate_tree::Node;

use super::patch::Patch;
use super::rules::{
    API_VERSION, BOTH_SELECTORS, PRIORITY_ZERO, SELECTOR_WILDCARD, TARGET_CLASS, TARGET_CONTEXT,
    TARGET_COUNT, TARGET_KIND, TARGET_NAMESPACE, TARGETS_ON_SIDECAR, WAYPOINT,
};
use super::{Lint, fields, list_at, text_at};
use crate::placement::ROOT_NAMESPACE;

/// What policies are attached to: group and kind.
///
/// Source: Istio, `pkg/config/validation`, `validatePolicyTargetReference`.
const TARGETS: [(&str, &str); 4] = [
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("", "Service"),
    ("networking.istio.io", "ServiceEntry"),
];
/// What only waypoints are attached to.
const OF_WAYPOINTS: [&str; 3] = ["Service", "ServiceEntry", "GatewayClass"];

pub(super) fn check(document: &Node, lint: &mut Lint) {
    version(document, "networking.istio.io/v1alpha3", lint);
    let Some(spec) = document.find("spec") else { return };
    fields::check(spec, "spec", fields::SPEC, lint);
    if let (Some(targets), Some(_)) = (spec.find("targetRefs"), spec.find("workloadSelector")) {
        lint.found(targets, &BOTH_SELECTORS, "targetRefs beside workloadSelector");
    }
    targets(document, lint);
    let labels = spec.at(&["workloadSelector", "labels"]);
    wildcards(labels, lint);
    if let Some(labels) = labels.filter(|labels| is_waypoint(labels)) {
        lint.found(labels, &WAYPOINT, "labels of a waypoint");
    }
    let patches: Vec<Patch<'_>> =
        list_at(spec, &["configPatches"]).iter().map(Patch::read).collect();
    let is_for_sidecars = patches.iter().any(|patch| patch.context().starts_with("SIDECAR"));
    for target in list_at(spec, &["targetRefs"]).iter().filter(|_| !is_for_sidecars) {
        let kind = text_at(target, &["kind"]);
        if OF_WAYPOINTS.contains(&kind) {
            lint.found(target, &WAYPOINT, format!("a target of kind {kind}"));
        }
    }
    for patch in &patches {
        patch.check(lint);
        whom(spec, patch, lint);
    }
    let priority = spec.find("priority").map_or(Ok(0), Node::number).unwrap_or(0);
    if priority == 0 && patches.iter().any(Patch::is_relative) {
        let at = spec.find("priority").unwrap_or(spec);
        lint.found(at, &PRIORITY_ZERO, "operations that stand in an order, with priority 0");
    }
}

/// Whether those that are chosen take the patch at all.
fn whom(spec: &Node, patch: &Patch<'_>, lint: &mut Lint) {
    let targets = list_at(spec, &["targetRefs"]);
    let Some(at) = patch.node.at(&["match", "context"]) else { return };
    if !patch.context().starts_with("SIDECAR") {
        return;
    }
    if targets.is_empty() {
        if spec.at(&["workloadSelector", "labels"]).is_some_and(is_gateway) {
            lint.found(at, &TARGET_CONTEXT, format!("{} for a gateway", patch.context()));
        }
        return;
    }
    if targets.iter().any(|target| text_at(target, &["kind"]) == "Gateway") {
        lint.found(at, &TARGET_CONTEXT, format!("{} for a Gateway", patch.context()));
    } else if targets.iter().any(|target| OF_WAYPOINTS.contains(&text_at(target, &["kind"]))) {
        lint.found(at, &TARGETS_ON_SIDECAR, format!("{} with targetRefs", patch.context()));
    }
}

/// The version of a resource.
pub(super) fn version(document: &Node, expected: &str, lint: &mut Lint) {
    let at = document.find("apiVersion").unwrap_or(document);
    let found = text_at(document, &["apiVersion"]);
    if found != expected {
        lint.found(at, &API_VERSION, format!("`{found}` in place of {expected}"));
    }
}

/// What is said of targets in `targetRefs`.
pub(super) fn targets(document: &Node, lint: &mut Lint) {
    let targets = list_at(document, &["spec", "targetRefs"]);
    if let (true, Some(at)) = (targets.len() > 16, document.at(&["spec", "targetRefs"])) {
        lint.found(at, &TARGET_COUNT, format!("{} targets", targets.len()));
    }
    let is_root = text_at(document, &["metadata", "namespace"]) == ROOT_NAMESPACE;
    for target in targets {
        let (group, kind) = (text_at(target, &["group"]), text_at(target, &["kind"]));
        let group = if group == "core" { "" } else { group };
        if !TARGETS.contains(&(group, kind)) {
            lint.found(target, &TARGET_KIND, format!("`{kind}` of `{group}`"));
        }
        let name = text_at(target, &["name"]);
        if kind == "GatewayClass" && !(is_root && name == "istio-waypoint") {
            lint.found(target, &TARGET_CLASS, format!("GatewayClass {name}"));
        }
        let namespace = text_at(target, &["namespace"]);
        if let (false, Some(at)) = (namespace.is_empty(), target.find("namespace")) {
            lint.found(at, &TARGET_NAMESPACE, format!("a target in {namespace}"));
        }
    }
}

/// Whether labels are those of a gateway: of the Gateway API, or as Istio's charts install it.
fn is_gateway(labels: &Node) -> bool {
    let label = |name: &str| text_at(labels, &[name]);
    !label("gateway.networking.k8s.io/gateway-name").is_empty()
        || ["ingressgateway", "egressgateway"].contains(&label("istio"))
}

/// Whether labels are those of a waypoint.
pub(super) fn is_waypoint(labels: &Node) -> bool {
    text_at(labels, &["gateway.networking.k8s.io/gateway-class-name"]) == "istio-waypoint"
}

/// Labels that are no labels.
pub(super) fn wildcards(labels: Option<&Node>, lint: &mut Lint) {
    for (name, value) in labels.map(Node::entries).unwrap_or_default() {
        if format!("{name}{}", value.text().unwrap_or_default()).contains('*') {
            let value = value.text().unwrap_or_default().to_owned();
            let at = labels.and_then(|labels| labels.find(name));
            if let Some(at) = at {
                lint.found(at, &SELECTOR_WILDCARD, format!("{name}: {value}"));
            }
        }
    }
}
