//! An `EnvoyFilter` as a whole: whom it chooses, and in which order it is applied.

use tollgate_tree::Node;

use super::patch::Patch;
use super::rules::{
    API_VERSION, BOTH_SELECTORS, PRIORITY_ZERO, SELECTOR_WILDCARD, TARGET_CONTEXT, TARGET_COUNT,
    TARGET_NAMESPACE, TARGETS_ON_SIDECAR, WAYPOINT,
};
use super::{Lint, fields, list_at, text_at};

pub(super) fn check(document: &Node, lint: &mut Lint) {
    version(document, "networking.istio.io/v1alpha3", lint);
    let Some(spec) = document.find("spec") else { return };
    fields::check(spec, "spec", fields::SPEC, lint);
    if let (Some(targets), Some(_)) = (spec.find("targetRefs"), spec.find("workloadSelector")) {
        lint.found(targets, &BOTH_SELECTORS, "targetRefs beside workloadSelector");
    }
    targets(spec, lint);
    wildcards(spec.at(&["workloadSelector", "labels"]), lint);
    for target in list_at(spec, &["targetRefs"]) {
        let kind = text_at(target, &["kind"]);
        if matches!(kind, "Service" | "ServiceEntry" | "GatewayClass") {
            lint.found(target, &WAYPOINT, format!("a target of kind {kind}"));
        }
    }
    let patches: Vec<Patch<'_>> =
        list_at(spec, &["configPatches"]).iter().map(Patch::read).collect();
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
    if targets.is_empty() || !patch.context().starts_with("SIDECAR") {
        return;
    }
    if targets.iter().any(|target| text_at(target, &["kind"]) == "Gateway") {
        lint.found(at, &TARGET_CONTEXT, format!("{} for a Gateway", patch.context()));
    } else {
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
pub(super) fn targets(spec: &Node, lint: &mut Lint) {
    let targets = list_at(spec, &["targetRefs"]);
    if let (true, Some(at)) = (targets.len() > 16, spec.find("targetRefs")) {
        lint.found(at, &TARGET_COUNT, format!("{} targets", targets.len()));
    }
    for target in targets {
        let namespace = text_at(target, &["namespace"]);
        if let (false, Some(at)) = (namespace.is_empty(), target.find("namespace")) {
            lint.found(at, &TARGET_NAMESPACE, format!("a target in {namespace}"));
        }
    }
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
