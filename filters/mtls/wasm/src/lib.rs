//! The mtls filter as a Proxy-Wasm module.

tollgate::export!(tollgate_mtls::Mtls);
