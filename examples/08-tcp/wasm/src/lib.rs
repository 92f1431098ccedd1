//! The filter of example-preamble as a Proxy-Wasm module.

tollgate::export!(example_preamble::Preamble);
