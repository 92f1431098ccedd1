//! From a policy file to the resources that bring a filter into a proxy: one file per target.
//!
//! Nothing is read or run here: whoever calls says what the module is ([`Facts`]), and has had it judge its
//! configuration before.

#![forbid(unsafe_code)]

pub mod envoy;
mod policy;

pub use policy::{FailurePolicy, InvalidPolicy, Policy};

use std::collections::BTreeSet;

/// What a module is, as far as a proxy has to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Where the proxy finds the module.
    pub file: String,
    /// The callbacks and host functions that it needs, by name: it may do no more.
    pub capabilities: BTreeSet<String>,
    /// Fields of Envoy's `PluginConfig` that have to be true.
    pub needs: BTreeSet<String>,
    /// What takes the labels out of the names of its metrics: name and regular expression.
    pub stats_tags: Vec<(String, String)>,
}
