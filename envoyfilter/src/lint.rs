//! The traps of resources that bring filters into a mesh: what the API server takes, and what then does
//! something else, or nothing.
//!
//! Looked at are `EnvoyFilter`, `WasmPlugin` and `TrafficExtension` of Istio, `EnvoyExtensionPolicy` of Envoy
//! Gateway, `WasmPlugin` of Higress and `MeshProxyPatch` of Kuma. All other documents are passed over. Not
//! here: whether a resource fits its schema in all else, which the API server tells.
//!
//! Source: Istio 1.32, Envoy 1.40; each rule says what comes of it.

mod discovery;
mod envoy_filter;
mod fields;
mod patch;
mod plugin;
mod rules;
mod siblings;
mod wasm;

use std::fmt;

use serde::Serialize;
use tollgate_tree::{Invalid, Node};

pub use rules::{RULES, Rule};

/// A trap in a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Line, counted from 1.
    pub line: u64,
    /// Column, counted from 1.
    pub column: u64,
    /// Which rule.
    pub rule: &'static str,
    /// What stands there.
    pub what: String,
    /// What comes of it.
    pub why: &'static str,
    /// What to write.
    pub fix: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, rule, what, why, fix } = self;
        write!(f, "{line}:{column}: {rule}: {what}\n  why: {why}\n  fix: {fix}")
    }
}

/// Finds the traps in the resources of a file, in the order in which they stand.
///
/// # Errors
///
/// [`Invalid`] where the file is no YAML.
///
/// # Examples
///
/// ```
/// let resource = "
/// apiVersion: networking.istio.io/v1alpha3
/// kind: EnvoyFilter
/// metadata: { name: a, namespace: shop }
/// spec:
///   priority: 10
///   configPatches:
///   - applyTo: BOOTSTRAP
///     patch: { operation: MERGE, value: { flags_path: /tmp } }
/// ";
/// let findings = tollgate_envoyfilter::lint::lint(resource)?;
/// assert_eq!(findings[0].rule, "bootstrap");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn lint(text: &str) -> Result<Vec<Finding>, Invalid> {
    Ok(Resources::parse(text)?.traps(&[]))
}

/// The resources of a file.
#[derive(Clone, Debug)]
pub struct Resources(Vec<Node>);

impl Resources {
    /// Reads them: documents, and what is in lists of them.
    ///
    /// # Errors
    ///
    /// [`Invalid`] where the file is no YAML.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let documents = tollgate_tree::parse(text)?.into_iter();
        // As `kubectl get` writes several.
        let opened = documents.flat_map(|document| match text_at(&document, &["kind"]) {
            kind if kind.ends_with("List") => list_at(&document, &["items"]).to_vec(),
            _ => vec![document],
        });
        Ok(Self(opened.collect()))
    }

    /// Finds the traps in them, in the order in which they stand. What they name may be added by others,
    /// which are deployed beside them.
    pub fn traps(&self, others: &[&Self]) -> Vec<Finding> {
        let mut lint = Lint::default();
        let envoy_filters: Vec<&Node> = self.of_kind("EnvoyFilter").collect();
        for document in &envoy_filters {
            envoy_filter::check(document, &mut lint);
        }
        let others: Vec<&Node> =
            others.iter().flat_map(|others| others.of_kind("EnvoyFilter")).collect();
        discovery::check(&envoy_filters, &others, &mut lint);
        for document in self.of_kind("WasmPlugin").chain(self.of_kind("TrafficExtension")) {
            plugin::check(document, &mut lint);
        }
        self.of_kind("EnvoyExtensionPolicy")
            .for_each(|document| siblings::envoy_gateway(document, &mut lint));
        self.of_kind("MeshProxyPatch").for_each(|document| siblings::kuma(document, &mut lint));
        lint.findings.sort_by_key(|finding| (finding.line, finding.column));
        lint.findings
    }

    fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &Node> {
        self.0.iter().filter(move |document| text_at(document, &["kind"]) == kind)
    }
}

/// What was found so far.
#[derive(Default)]
struct Lint {
    findings: Vec<Finding>,
}

impl Lint {
    fn found(&mut self, at: &Node, rule: &'static Rule, what: impl Into<String>) {
        let finding = Finding {
            line: at.line,
            column: at.column,
            rule: rule.id,
            what: what.into(),
            why: rule.why,
            fix: rule.fix,
        };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}

/// The text at the end of a path; empty when there is none.
fn text_at<'a>(node: &'a Node, path: &[&str]) -> &'a str {
    node.at(path).and_then(|node| node.text().ok()).unwrap_or_default()
}

/// The list at the end of a path; empty when there is none.
fn list_at<'a>(node: &'a Node, path: &[&str]) -> &'a [Node] {
    node.at(path).and_then(|node| node.list().ok()).unwrap_or_default()
}

/// The type in an `Any`, without its prefix.
fn type_of(any: &Node) -> &str {
    text_at(any, &["@type"]).rsplit('/').next().unwrap_or_default()
}
