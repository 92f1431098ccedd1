//! What proxies, Prometheus and Grafana have to be told, of a policy.
//!
//! Not here: how it is written down; all is JSON, which YAML can carry too.

mod dashboard;
mod rules;
mod tags;

pub use dashboard::dashboard;
pub use rules::rules;
pub use tags::{annotations, histogram_bounds, stats_config};
