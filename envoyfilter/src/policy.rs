//! The policy file: which filter, with which configuration, where it applies, how its module comes to the
//! proxy, and what becomes of requests when it fails. What each target makes of it is elsewhere.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use tollgate_tree::Node;

use crate::companions::{Cluster, Proxy, Variants};
use crate::image::Image;
use crate::placement::{Anchor, Placement, Workload};

/// A policy as its author writes it. Unknown keys are errors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The filter: a built-in name, the path of a module, from the folder of the policy, or an image.
    pub filter: String,
    /// The name of the plugin and of the resource; by default the filter's.
    #[serde(default)]
    pub name: Option<String>,
    /// The namespace of the resource.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The root id, by which a module of several filters chooses one.
    #[serde(default)]
    pub root_id: String,
    /// How the module comes to the proxy; by default as the image that `filter` names, and on Envoy as the
    /// file that it is here.
    #[serde(default)]
    pub module: Option<Delivery>,
    /// What becomes of requests once the filter has failed for good.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// Environment variables of its VM.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Environment variables of the proxy that its VM sees.
    #[serde(default)]
    pub host_environment: Vec<String>,
    /// What the filter is configured with.
    #[serde(default)]
    pub config: Value,
    /// Where the filter applies.
    #[serde(default)]
    pub apply: Placement,
    /// The clusters that it calls, and that the proxy does not have anyway.
    #[serde(default)]
    pub clusters: Vec<Cluster>,
    /// Where its decisions lead.
    #[serde(default)]
    pub variants: Option<Variants>,
    /// The Envoy of a bootstrap.
    #[serde(default)]
    pub proxy: Option<Proxy>,
    /// The text, for the places of errors.
    #[serde(skip)]
    source: Option<Node>,
}

/// How a module comes to the proxy.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// As a file that the proxy sees, mounted by whoever deploys it.
    File(String),
    /// Inside the resource.
    Inline,
    /// As an image, pulled by the mesh.
    Image(Pull),
    /// From a server of HTTP, fetched by the mesh; held to what it is here.
    Url(String),
}

/// An image, and how it is pulled.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// The image.
    pub reference: Image,
    /// The secret of the resource's namespace with the credentials.
    #[serde(default)]
    pub pull_secret: Option<String>,
    /// When it is pulled.
    #[serde(default)]
    pub pull_policy: Option<PullPolicy>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// When the proxy does not have it.
    IfNotPresent,
    /// Whenever the resource changes.
    Always,
}

impl PullPolicy {
    /// As Kubernetes and its kin write it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Always => "Always",
        }
    }
}

/// What becomes of requests once the filter has failed.
///
/// Source: Envoy, `envoy.extensions.wasm.v3.FailurePolicy`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum FailurePolicy {
    /// They are answered with 503.
    #[default]
    Closed,
    /// The same, until the VM has been made anew, at most once in a second.
    Reload,
    /// They pass by the filter.
    Open,
}

/// A policy is wrong, or says what a target cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidPolicy {
    /// It is no YAML of that shape: what is wrong, with line and column.
    Shape(String),
    /// A value is wrong.
    Value {
        /// Line, counted from 1.
        line: u64,
        /// Column, counted from 1.
        column: u64,
        /// Its place: `apply.ports[1]`.
        path: String,
        /// What is wrong, and what to write.
        what: String,
    },
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(text) => f.write_str(text),
            Self::Value { line, column, path, what } => {
                write!(f, "line {line} column {column}: {path}: {what}")
            }
        }
    }
}

impl std::error::Error for InvalidPolicy {}

impl Policy {
    /// Reads a policy from YAML or JSON.
    ///
    /// # Errors
    ///
    /// [`InvalidPolicy`] with the place, what stands there and what may.
    pub fn parse(text: &str) -> Result<Self, InvalidPolicy> {
        let options = serde_saphyr::options! { strict_booleans: true };
        let mut policy: Self = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| InvalidPolicy::Shape(error.to_string()))?;
        let documents = tollgate_tree::parse(text);
        policy.source = documents.ok().and_then(|documents| documents.into_iter().next());
        policy.is_whole()?;
        policy.applies_somewhere()?;
        policy.leads_somewhere()?;
        if policy.module.is_none()
            && let Ok(reference) = Image::parse(&policy.filter)
        {
            let pull = Pull { reference, pull_secret: None, pull_policy: None };
            policy.module = Some(Delivery::Image(pull));
        }
        Ok(policy)
    }

    /// Has the module come as this image, pulled as the policy says of its own.
    pub fn deliver(&mut self, reference: Image) {
        let pull = match self.module.take() {
            Some(Delivery::Image(pull)) => Pull { reference, ..pull },
            Some(Delivery::File(_) | Delivery::Inline | Delivery::Url(_)) | None => {
                Pull { reference, pull_secret: None, pull_policy: None }
            }
        };
        self.module = Some(Delivery::Image(pull));
    }

    /// The name of the plugin.
    pub fn plugin_name(&self) -> &str {
        let file = self.filter.rsplit('/').next().unwrap_or(&self.filter);
        let file = file.split([':', '@']).next().unwrap_or(file);
        self.name.as_deref().unwrap_or_else(|| file.strip_suffix(".wasm").unwrap_or(file))
    }

    /// An error at a path of this policy.
    pub(crate) fn refused(&self, path: &str, what: impl Into<String>) -> InvalidPolicy {
        let (line, column) = self.source.as_ref().map_or((1, 1), |source| {
            let place = source.nearest(path);
            (place.line, place.column)
        });
        InvalidPolicy::Value { line, column, path: path.to_owned(), what: what.into() }
    }

    /// Whether the author has written this key.
    pub(crate) fn source_has(&self, key: &str) -> bool {
        self.source.as_ref().is_some_and(|source| source.find(key).is_some())
    }

    fn is_whole(&self) -> Result<(), InvalidPolicy> {
        let mut texts =
            vec![("filter", Some(self.filter.as_str())), ("name", self.name.as_deref())];
        texts.push(("namespace", self.namespace.as_deref()));
        if let Some(Delivery::File(text) | Delivery::Url(text)) = &self.module {
            texts.push(("module", Some(text)));
        }
        for (path, text) in texts {
            if text.is_some_and(|text| text.trim().is_empty()) {
                return Err(self.refused(path, "empty; write one, or leave the key out"));
            }
        }
        if self.filter.starts_with("oci://") {
            Image::parse(&self.filter)
                .map_err(|error| self.refused("filter", error.to_string()))?;
        }
        for (path, text) in [("name", self.plugin_name()), ("namespace", self.namespace())] {
            if !is_dns_label(text) {
                let what = "is no name of Kubernetes; use 1 to 63 of a-z, 0-9 and `-`";
                return Err(self.refused(path, format!("`{text}` {what}")));
            }
        }
        if let Some(Delivery::Url(url)) = &self.module
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            let what = format!("`{url}` begins with neither https:// nor http://");
            return Err(self.refused("module.url", what));
        }
        let reserved = |name: &&String| name.starts_with("ISTIO_META_") || name.is_empty();
        if let Some(name) = self.environment.keys().chain(&self.host_environment).find(reserved) {
            let what = format!("`{name}`: names that begin with ISTIO_META_ are for Istio's agent");
            return Err(self.refused("environment", what));
        }
        if let Some(name) = self.host_environment.iter().find(|n| self.environment.contains_key(*n))
        {
            return Err(self.refused("host_environment", format!("{name} is set already")));
        }
        Ok(())
    }

    fn applies_somewhere(&self) -> Result<(), InvalidPolicy> {
        let Placement { to, direction, selector, targets, ports, .. } = &self.apply;
        if !selector.is_empty() && !targets.is_empty() {
            return Err(self.refused("apply.targets", "stands beside `selector`; keep one of them"));
        }
        if targets.len() > 16 {
            let what = format!("{} targets; Istio takes at most 16", targets.len());
            return Err(self.refused("apply.targets", what));
        }
        if *to == Workload::Sidecar && !targets.is_empty() {
            let what = "sidecars are chosen by `selector`; Istio ignores targets for them";
            return Err(self.refused("apply.targets", what));
        }
        if *to == Workload::Waypoint && targets.is_empty() {
            return Err(self.refused("apply", "a waypoint is chosen by `targets`"));
        }
        if *to != Workload::Sidecar && direction.is_some() {
            let what = "only the traffic of sidecars has a direction; leave it out";
            return Err(self.refused("apply.direction", what));
        }
        if let Some((key, value)) = selector.iter().find(|(k, v)| format!("{k}{v}").contains('*')) {
            let what = format!("{key}: {value}: labels have no wildcards");
            return Err(self.refused("apply.selector", what));
        }
        for (index, port) in ports.iter().enumerate() {
            if *port == 0 || ports.iter().take(index).any(|earlier| earlier == port) {
                let what = format!("{port}; write each port once, from 1 to 65535");
                return Err(self.refused(&format!("apply.ports[{index}]"), what));
            }
        }
        if let Some(order) = self.apply.order.filter(|order| !(1..=999).contains(order)) {
            return Err(self.refused("apply.order", format!("{order} is not from 1 to 999")));
        }
        if self.apply.phase.is_some() && self.apply.anchor.is_some() {
            return Err(self.refused("apply.anchor", "stands beside `phase`; keep one of them"));
        }
        if let Some(Anchor::Before(name) | Anchor::After(name)) = &self.apply.anchor
            && name.is_empty()
        {
            return Err(self.refused("apply.anchor", "names no filter"));
        }
        Ok(())
    }

    fn leads_somewhere(&self) -> Result<(), InvalidPolicy> {
        let Some(variants) = &self.variants else { return Ok(()) };
        if !variants.subsets.contains_key(&variants.default) {
            let what = format!("`{}` is none of `subsets`", variants.default);
            return Err(self.refused("variants.default", what));
        }
        if !has_text(&self.config, &variants.header) {
            let what = format!("`{}` stands nowhere in `config`", variants.header);
            return Err(self.refused("variants.header", what));
        }
        if let Some(name) = variants.subsets.keys().find(|name| !is_dns_label(name)) {
            let what = format!("`{name}` is no subset; use 1 to 63 of a-z, 0-9 and `-`");
            return Err(self.refused("variants.subsets", what));
        }
        Ok(())
    }

    /// The namespace, where one has to be said.
    pub(crate) fn need_namespace(&self) -> Result<&str, InvalidPolicy> {
        let missing = || self.refused("namespace", "missing; say where the resource is to be");
        self.namespace.as_deref().ok_or_else(missing)
    }

    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }
}

fn is_dns_label(text: &str) -> bool {
    let may = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_inside = !text.starts_with('-') && !text.ends_with('-');
    (1..=63).contains(&text.len()) && text.bytes().all(may) && is_inside
}

fn has_text(config: &Value, text: &str) -> bool {
    match config {
        Value::String(here) => here == text,
        Value::Array(values) => values.iter().any(|value| has_text(value, text)),
        Value::Object(values) => values.values().any(|value| has_text(value, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_needs_no_more_than_a_filter() {
        let policy = Policy::parse("filter: ratelimit").unwrap();
        assert_eq!(policy.plugin_name(), "ratelimit");
        assert_eq!(policy.failure_policy, FailurePolicy::Closed);
        assert_eq!(policy.config, Value::Null);
    }

    #[test]
    fn the_plugin_is_named_after_the_module() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Policy::parse(text).unwrap().plugin_name(), expected);
        };
        check("filter: ../filters/tenants.wasm", "tenants");
        check("{ filter: tenants, name: shop }", "shop");
        check("filter: oci://a.io/filters/tenants:1.0", "tenants");
    }

    #[test]
    fn a_filter_that_is_an_image_is_delivered_as_one() {
        let policy = Policy::parse("filter: oci://a.io/filters/tenants:1.0").unwrap();
        let Some(Delivery::Image(pull)) = policy.module else { panic!("{:?}", policy.module) };
        assert_eq!(pull.reference.to_string(), "oci://a.io/filters/tenants:1.0");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let check = |text: &str, words: &[&str]| {
            let error = Policy::parse(text).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{text}: {error}");
            }
        };
        check("filter: a\nfailure_polcy: open", &["failure_polcy", "2"]);
        check("filter: a\nfailure_policy: opened", &["opened", "closed", "reload", "open"]);
        check("config: {}", &["filter"]);
        check("filter: ''", &["filter: empty", "line 1 column 9"]);
        check("{ filter: a, name: ' ' }", &["name: empty"]);
        check("{ filter: a, name: A_b }", &["name: `A_b`", "63"]);
        check("filter: oci://b", &["filter: `oci://b` is no image"]);
        check("filter: a\nmodule: { url: ftp://a }", &["module.url", "line 2", "https://"]);
        check("filter: a\nmodule: { image: { reference: x } }", &["`x` is no image", "2"]);
        check("filter: a\nenvironment: { ISTIO_META_X: y }", &["ISTIO_META_X"]);
        check(
            "{ filter: a, environment: { A: y }, host_environment: [ A ] }",
            &["host_environment: A is set already"],
        );
        let apply = |text: &str| format!("filter: a\napply:\n  {text}");
        check(&apply("ports: [ 80, 80 ]"), &["apply.ports[1]: 80", "line 3 column 16"]);
        check(&apply("ports: [ 0 ]"), &["apply.ports[0]: 0", "65535"]);
        check(&apply("ports: [ 65536 ]"), &["65536", "3"]);
        check(&apply("order: 1000"), &["apply.order: 1000", "999"]);
        check(&apply("targets: [ { kind: Gateway, name: a } ]"), &["selector", "apply.targets"]);
        check(&apply("selector: { app: 'a*' }"), &["app: a*", "wildcards"]);
        check(&apply("to: waypoint"), &["targets"]);
        check(&apply("{ to: gateway, direction: inbound }"), &["apply.direction"]);
        check(&apply("{ phase: authn, anchor: first }"), &["apply.anchor", "phase"]);
        check(&apply("anchor: { before: '' }"), &["apply.anchor"]);
        check("{ filter: a, clusters: [ { name: b, address: c } ] }", &["`c` is not HOST:PORT"]);
        let variants = "filter: a\nconfig: { steer: { header: x-v } }\nvariants:\n  { host: h, header: HEADER, default: DEFAULT, subsets: { one: { v: v1 } } }";
        let variants = |header: &str, default: &str| {
            variants.replace("HEADER", header).replace("DEFAULT", default)
        };
        assert!(Policy::parse(&variants("x-v", "one")).is_ok());
        check(&variants("x-w", "one"), &["variants.header: `x-w`", "config"]);
        check(&variants("x-v", "two"), &["variants.default: `two`", "subsets"]);
    }
}
