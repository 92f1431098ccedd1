//! The filter of example-tenants as a Proxy-Wasm module.

tollgate::export!(example_tenants::Tenants);
