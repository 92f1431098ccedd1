//! The metrics filter for connections of TCP as a Proxy-Wasm module.

tollgate::export!(tollgate_metrics::TcpMetrics);
