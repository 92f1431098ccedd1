//! The filter of example-hello as a Proxy-Wasm module.

tollgate::export!(example_hello::Hello);
