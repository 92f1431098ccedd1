//! The rate limit filter that has a service count, as a Proxy-Wasm module.

tollgate::export!(tollgate_ratelimit::GlobalRateLimit);
