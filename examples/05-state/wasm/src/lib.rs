//! The filter of example-lockout as a Proxy-Wasm module.

tollgate::export!(example_lockout::Lockout);
