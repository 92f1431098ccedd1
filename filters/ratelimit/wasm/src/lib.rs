//! The rate limit filter as a Proxy-Wasm module.

tollgate::export!(tollgate_ratelimit::RateLimit);
