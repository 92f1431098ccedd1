//! The canary filter as a Proxy-Wasm module.

tollgate::export!(tollgate_canary::Canary);
