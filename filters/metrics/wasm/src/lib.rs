//! The metrics filter as a Proxy-Wasm module.

tollgate::export!(tollgate_metrics::Metrics);
