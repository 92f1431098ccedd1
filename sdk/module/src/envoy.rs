//! What Envoy looks at in a module beyond the tables of the ABI. What it does with it is elsewhere.
//!
//! Source: proxy-wasm-cpp-host, `src/wasm.cc` and `src/v8/v8.cc`; each line was checked against Envoy
//! 1.40.0 with `--mode validate`.

use tollgate_abi::{AbiVersion, CallbackKind, Stub};

use crate::signature::Signature;

/// The most pages of 64 KiB that a memory may start with.
pub(crate) const MAX_PAGES: u64 = 16_384;

/// The allocators, in the order in which Envoy looks for them.
pub(crate) const ALLOCATORS: [&str; 2] = ["malloc", "proxy_on_memory_allocate"];

/// The functions that start a module: the first two exclude each other, the others follow the first.
pub(crate) const STARTS: [&str; 4] = ["_initialize", "_start", "main", "__main_void"];

/// How the exports start that declare a version of the ABI.
pub(crate) const MARKER_PREFIX: &str = "proxy_abi_version_";

/// Whether a host calls the export for an event. The allocator is not for one.
pub(crate) fn is_callback(export: &str) -> bool {
    (export.starts_with("proxy_on_") && !ALLOCATORS.contains(&export))
        || export == "proxy_validate_configuration"
}

/// The signature that Envoy wants of an export, or `None` where it takes any.
///
/// `has` tells which other functions the module exports, since Envoy passes over some for others.
pub(crate) fn wanted(
    export: &str,
    abi: AbiVersion,
    has: impl Fn(&str) -> bool,
) -> Option<Signature> {
    match export {
        "malloc" => Some(Signature::of_words(1, 1)),
        "proxy_on_memory_allocate" if !has("malloc") => Some(Signature::of_words(1, 1)),
        "_initialize" => Some(Signature::of_words(0, 0)),
        "_start" if !has("_initialize") => Some(Signature::of_words(0, 0)),
        "main" if has("_initialize") => Some(Signature::of_words(2, 1)),
        "__main_void" if has("_initialize") => Some(Signature::of_words(0, 1)),
        "proxy_validate_configuration"
        | "proxy_on_request_metadata"
        | "proxy_on_response_metadata" => Some(Signature::of_words(2, 1)),
        "proxy_on_foreign_function" if abi == AbiVersion::V0_1_0 => None,
        _ => CallbackKind::from_name(export).map(|callback| Signature::of_callback(callback, abi)),
    }
}

/// Whether Envoy has a function for an import that the table does not list, at best a stub.
pub(crate) fn has_stub(module: &str, name: &str) -> bool {
    match module {
        "env" => matches!(name, "pthread_equal" | "emscripten_notify_memory_growth"),
        _ => Stub::from_import(module, name).is_some(),
    }
}

#[cfg(test)]
mod tests {
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
