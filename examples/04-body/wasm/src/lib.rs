//! The filter of example-depth as a Proxy-Wasm module.

tollgate::export!(example_depth::Depth);
