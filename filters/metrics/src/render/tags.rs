//! What takes the labels out of the names of metrics, and the bounds of histograms.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::config::Policy;
use crate::measure::Metric;

/// The value of `stats_config` in the bootstrap of Envoy, to be added to what is there.
///
/// Source: Envoy 1.40, `envoy.config.metrics.v3.StatsConfig`.
pub fn stats_config(policy: &Policy) -> Value {
    let mut config = Map::new();
    config.insert("stats_tags".to_owned(), policy.label_names().to_json());
    let settings: Vec<Value> = histogram_bounds(policy)
        .map(|(regex, bounds)| {
            let names = json!({ "safe_regex": { "regex": regex } });
            json!({ "match": names, "buckets": bounds })
        })
        .collect();
    if !settings.is_empty() {
        config.insert("histogram_bucket_settings".to_owned(), settings.into());
    }
    Value::Object(config)
}

/// The annotations that a pod of Istio needs. Bounds are by the beginning of a name there, so that all
/// histograms of Wasm filters have those of the first metric that has some.
///
/// Source: Istio, "Resource Annotations".
pub fn annotations(policy: &Policy) -> BTreeMap<&'static str, String> {
    let tags = policy.label_names().to_istio();
    let mut annotations = BTreeMap::from([("sidecar.istio.io/extraStatTags", tags)]);
    if let Some(metric) = with_bounds(policy).next() {
        let bounds = json!({ "wasmcustom": metric.bounds });
        annotations.insert("sidecar.istio.io/statsHistogramBuckets", bounds.to_string());
    }
    annotations
}

/// The upper bounds of the buckets of each histogram that has some, by a regular expression of its names.
pub fn histogram_bounds(policy: &Policy) -> impl Iterator<Item = (String, &[u32])> {
    // The name of a series ends in that of its metric.
    with_bounds(policy)
        .map(|metric| (format!(r"wasmcustom\.(.*;\.;)?{}", metric.name), metric.bounds.as_slice()))
}

fn with_bounds(policy: &Policy) -> impl Iterator<Item = &Metric> {
    policy.metrics().iter().filter(|metric| !metric.bounds.is_empty())
}
