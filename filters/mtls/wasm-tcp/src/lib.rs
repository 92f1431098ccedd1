//! The mtls filter of TCP connections as a Proxy-Wasm module.

tollgate::export!(tollgate_mtls::MtlsTcp);
