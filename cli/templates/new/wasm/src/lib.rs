//! The filter as a Proxy-Wasm module.

tollgate::export!({{crate}}::Tenants);
