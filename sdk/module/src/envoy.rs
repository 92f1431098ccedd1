//! What Envoy looks at in a module beyond the tables of the ABI. What it does with it is elsewhere.
//!
//! Source: proxy-wasm-cpp-host, `src/wasm.cc` and `src/v8/v8.cc`; each line was checked against Envoy
//! 1.40.0 with `--mode validate`.

use tollgate_abi::Export;
use wasmparser::WasmFeatures;

/// The most pages of 64 KiB that a memory may start with.
pub(crate) const MAX_PAGES: u64 = 16_384;

/// What V8 takes for WebAssembly: what is finished, and exceptions of the first design too.
pub(crate) fn features() -> WasmFeatures {
    WasmFeatures::default() | WasmFeatures::LEGACY_EXCEPTIONS
}

/// Whether a host calls the export for an event. The allocator is not for one.
pub(crate) fn is_callback(export: &str) -> bool {
    (export.starts_with("proxy_on_") && !Export::ALLOCATORS.contains(&export))
        || export == "proxy_validate_configuration"
}

#[cfg(test)]
mod tests {
    use tollgate_abi::CallbackKind;

    use super::*;

    #[test]
    fn every_callback_of_the_table_is_a_callback() {
        for callback in CallbackKind::ALL {
            assert!(is_callback(callback.name()), "{callback}");
        }
        assert!(is_callback("proxy_on_request_metadata"));
        assert!(!is_callback("proxy_on_memory_allocate"));
        assert!(!is_callback("proxy_abi_version_0_2_1"));
    }
}
