//! The filter of example-authoriser as a Proxy-Wasm module.

tollgate::export!(example_authoriser::Authoriser);
