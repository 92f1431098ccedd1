//! What a proxy has to be told so that labels become labels.
//!
//! The same for all proxies that run a filter, and known when it is compiled: the filter says it once, and
//! `tollgate build` writes it into the module for whoever writes the configuration of the proxy.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::labels::check_all;

/// The labels of a filter, as the configurations of Envoy and Istio name them. What is wrong with them
/// does not compile, as with those of one metric ([`Labels`](super::Labels)).
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
/// const TAGS: StatsTags = StatsTags::of(&[ByTenant::NAMES]);
/// assert_eq!(TAGS.to_json()[1]["tag_name"], "tenant");
/// assert_eq!(TAGS.to_istio(), "code,tenant");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct StatsTags(&'static [&'static [&'static str]]);

impl StatsTags {
    /// Of no labels.
    pub const NONE: Self = Self(&[]);

    /// Those of some metrics: the [`NAMES`](super::Labels::NAMES) of each.
    ///
    /// # Panics
    ///
    /// When names do not work, or do not side by side; in a constant, while compiling.
    pub const fn of(names: &'static [&'static [&'static str]]) -> Self {
        check_all(names);
        Self(names)
    }

    /// The value of `stats_config.stats_tags` in Envoy's bootstrap: a list, to be added to what is there.
    ///
    /// An expression begins with the namespace of Wasm metrics, so that Envoy tries it on no other, and
    /// takes a label only where one begins.
    pub fn to_json(self) -> Value {
        to_json(&self.names().collect())
    }

    /// The value of the annotation `sidecar.istio.io/extraStatTags`, or of `extraStatTags` in the mesh's
    /// `proxyConfig`, joined by commas. Istio makes expressions of its own from it.
    pub fn to_istio(self) -> String {
        to_istio(&self.names().collect())
    }

    /// All names, some of them several times.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        self.0.iter().copied().flatten().copied()
    }
}

/// What [`StatsTags::to_json`] gives for these names.
pub(crate) fn to_json(names: &BTreeSet<&str>) -> Value {
    let tag = |name: &&str| {
        let regex = format!(r"^wasmcustom\.(?:.*;\.;)?({name}=\.=(.*?);\.;)");
        json!({ "tag_name": name, "regex": regex })
    };
    names.iter().map(tag).collect()
}

/// What [`StatsTags::to_istio`] gives for these names.
pub(super) fn to_istio(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(",")
}
