//! Where a filter applies: which proxies, which of their traffic, and which place in the chain.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Policy;

/// Where resources are for the whole mesh, unless Istio was installed with another.
pub(crate) const ROOT_NAMESPACE: &str = "istio-system";

/// Where a filter applies.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// In which proxies.
    #[serde(default)]
    pub to: Workload,
    /// Which traffic of sidecars.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// Labels of the workloads; all of the namespace when neither this nor `targets` is said.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
    /// Resources of the Gateway API that it is attached to: at most 16.
    #[serde(default)]
    pub targets: Vec<TargetRef>,
    /// Ports of the traffic; all when none is said.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// The part of the mesh's own chain that it belongs to.
    #[serde(default)]
    pub phase: Option<Phase>,
    /// The filter of the chain beside which it stands.
    #[serde(default)]
    pub anchor: Option<Anchor>,
    /// Its place among filters of the same phase or anchor: 1 to 999, the least comes first.
    #[serde(default)]
    pub order: Option<u16>,
    /// Routes to which it is limited.
    #[serde(default)]
    pub routes: Vec<RouteName>,
}

/// What runs the proxy.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// A pod of the application.
    #[default]
    Sidecar,
    /// A gateway.
    Gateway,
    /// A waypoint of the ambient mesh.
    Waypoint,
}

/// Which traffic of a sidecar.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// What comes to the application.
    #[default]
    Inbound,
    /// What the application sends.
    Outbound,
}

/// A part of the chain of a mesh.
///
/// Source: Istio, `extensions.v1alpha1.PluginPhase`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before authentication.
    Authn,
    /// Before authorisation, after authentication.
    Authz,
    /// Before statistics, after authorisation.
    Stats,
}

impl Phase {
    /// As Istio and its kin write it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Authn => "AUTHN",
            Self::Authz => "AUTHZ",
            Self::Stats => "STATS",
        }
    }
}

/// A place beside another filter.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// Before all others.
    First,
    /// Before the filter of this name.
    Before(String),
    /// After the filter of this name.
    After(String),
}

/// A resource of the Gateway API.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TargetRef {
    /// Its group.
    #[serde(default = "gateway_api")]
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

fn gateway_api() -> String {
    "gateway.networking.k8s.io".into()
}

/// A route of a virtual host, or all routes of one.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct RouteName {
    /// The name of the virtual host: in Istio the host and the port, `shop.example.com:80`.
    pub virtual_host: String,
    /// The name of the route.
    #[serde(default)]
    pub route: Option<String>,
}

/// What is to be said of a resource of the root namespace that chooses nothing.
pub(crate) fn whole_mesh(policy: &Policy) -> Option<String> {
    let chooses_none = policy.apply.selector.is_empty() && policy.apply.targets.is_empty();
    let is_root = policy.namespace.as_deref() == Some(ROOT_NAMESPACE);
    (is_root && chooses_none).then(|| {
        format!(
            "{ROOT_NAMESPACE} is Istio's root namespace, and `apply` chooses nothing: this is for \
             every proxy of the mesh"
        )
    })
}
