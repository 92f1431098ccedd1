//! From a policy file to the resources that bring a filter into a proxy: one file per target.
//!
//! Nothing is read or run here: whoever calls says what the module is ([`Facts`]), and has had it judge its
//! configuration before. What a target cannot express is an error, or a note where nothing is lost that
//! requests depend on; nothing is dropped in silence.
//!
//! [`lint`] reads resources that others have written, and [`istiod`] applies them as Istio does.

#![forbid(unsafe_code)]

mod companions;
mod image;
pub mod istiod;
pub mod lint;
mod pin;
mod placement;
mod policy;
mod rendered;
mod wasm;

mod envoy;
mod envoy_gateway;
mod higress;
mod istio;
mod istio_plugin;
mod kuma;
mod mosn;

pub use companions::{Address, Cluster, ListenerTls, Protocol, Proxy, Tls, Variants};
pub use image::{Image, InvalidImage};
pub use placement::{Anchor, Direction, Phase, Placement, RouteName, TargetRef, Workload};
pub use policy::{Delivery, FailurePolicy, InvalidPolicy, Policy, Pull, PullPolicy};
pub use rendered::{Document, Rendered, Syntax};

use std::collections::BTreeSet;

/// What a module is, as far as a proxy has to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Where the module lies here, for a proxy on the same machine.
    pub file: String,
    /// The module.
    pub bytes: Vec<u8>,
    /// The version of the ABI that it speaks, `0.2.1`; empty when it says none.
    pub abi: String,
    /// What it stands in front of.
    pub traffic: Traffic,
    /// The callbacks and host functions that it needs, by name: it may do no more.
    pub capabilities: BTreeSet<String>,
    /// Fields of Envoy's `PluginConfig` that have to be true.
    pub needs: BTreeSet<String>,
    /// What takes the labels out of the names of its metrics: name and regular expression.
    pub stats_tags: Vec<(String, String)>,
    /// The upper bounds of the buckets of its histograms: a regular expression of their names, and the bounds.
    pub histogram_bounds: Vec<(String, Vec<u32>)>,
}

impl Facts {
    /// What is to be told of its metrics where nobody can say `stats_config`.
    fn unlabelled(&self, mesh: &str) -> Option<String> {
        let bounds = match self.histogram_bounds.as_slice() {
            [] => "",
            _ => ", and its histograms have the proxy's bounds",
        };
        (!self.stats_tags.is_empty()).then(|| {
            format!(
                "its metrics keep their labels in their names{bounds}: {mesh} has no stats tags"
            )
        })
    }
}

/// What a filter stands in front of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traffic {
    /// Requests of HTTP.
    #[default]
    Http,
    /// Connections of TCP.
    Tcp,
}

/// Whose resource is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Envoy: the entry of its chain, and what else its configuration needs.
    Envoy,
    /// Envoy: a whole bootstrap.
    EnvoyBootstrap,
    /// Envoy: a whole bootstrap, with the filter in a file of its own that Envoy watches.
    EnvoyXds,
    /// Istio: an `EnvoyFilter`.
    Istio,
    /// Istio: a `WasmPlugin`.
    IstioWasmPlugin,
    /// Istio from 1.30 on: a `TrafficExtension`.
    IstioTrafficExtension,
    /// Envoy Gateway: an `EnvoyExtensionPolicy`.
    EnvoyGateway,
    /// Higress: its `WasmPlugin`.
    Higress,
    /// Kuma and Kong Mesh: a `MeshProxyPatch`.
    Kuma,
    /// MOSN: its stream filters.
    Mosn,
}

/// Renders a policy. Traps that it leads into are among the notes, by the rules of [`lint`].
///
/// # Errors
///
/// [`InvalidPolicy`] with the place of what the target needs and the policy lacks, or of what the policy says
/// and the target cannot do.
pub fn render(target: Target, policy: &Policy, facts: &Facts) -> Result<Rendered, InvalidPolicy> {
    let mut rendered = match target {
        Target::Envoy => envoy::snippet(policy, facts),
        Target::EnvoyBootstrap => envoy::bootstrap(policy, facts),
        Target::EnvoyXds => envoy::discovered(policy, facts),
        Target::Istio => istio::render(policy, facts),
        Target::IstioWasmPlugin => istio_plugin::wasm_plugin(policy, facts),
        Target::IstioTrafficExtension => istio_plugin::traffic_extension(policy, facts),
        Target::EnvoyGateway => envoy_gateway::render(policy, facts),
        Target::Higress => higress::render(policy, facts),
        Target::Kuma => kuma::render(policy, facts),
        Target::Mosn => mosn::render(policy, facts),
    }?;
    rendered.note_traps();
    Ok(rendered)
}
