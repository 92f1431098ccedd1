//! What a proxy has to be told so that labels become labels.
//!
//! The same for all proxies that run a filter, and known when it is compiled: whoever writes the
//! configuration of the proxy asks for it, not the filter that runs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::labels::{Labels, check};

/// The labels of a filter, as the configurations of Envoy and Istio name them.
///
/// ```
/// use tollgate::metrics::{Labels, StatsTags};
///
/// struct ByTenant;
///
/// impl Labels for ByTenant {
///     const NAMES: &'static [&'static str] = &["tenant", "code"];
///     type Values<'a> = (&'a [u8], u32);
/// }
///
/// let tags = StatsTags::new().with::<ByTenant>();
/// assert_eq!(tags.to_json()[1]["tag_name"], "tenant");
/// assert_eq!(tags.to_istio(), "code,tenant");
/// ```
#[derive(Clone, Debug, Default)]
pub struct StatsTags(BTreeSet<&'static str>);

impl StatsTags {
    /// Of no labels.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of `L`, too.
    #[must_use]
    pub fn with<L: Labels>(mut self) -> Self {
        const { check::<L>() };
        self.0.extend(L::NAMES);
        self
    }

    /// The value of `stats_config.stats_tags` in Envoy's bootstrap: a list, to be added to what is there.
    ///
    /// An expression begins with the namespace of Wasm metrics, so that Envoy tries it on no other, and
    /// takes a label only where one begins.
    pub fn to_json(&self) -> Value {
        let tag = |name: &&str| {
            let regex = format!(r"^wasmcustom\.(?:.*;\.;)?({name}=\.=(.*?);\.;)");
            json!({ "tag_name": name, "regex": regex })
        };
        self.0.iter().map(tag).collect()
    }

    /// The value of the annotation `sidecar.istio.io/extraStatTags`, or of `extraStatTags` in the mesh's
    /// `proxyConfig`, joined by commas. Istio makes expressions of its own from it.
    pub fn to_istio(&self) -> String {
        self.0.iter().copied().collect::<Vec<_>>().join(",")
    }
}
