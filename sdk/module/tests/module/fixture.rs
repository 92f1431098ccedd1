//! Modules for the tests: what a filter needs at least, and what is laid on top.

#![allow(
    clippy::unwrap_used,
    reason = "a module of the tests that cannot be assembled is a mistake in it"
)]

use tollgate_module::{Metadata, Module};

/// The least that Envoy loads, without an ABI marker.
pub(crate) const FLOOR: &str = r#"
    (memory (export "memory") 1)
    (func (export "malloc") (param i32) (result i32) i32.const 0)"#;

/// A filter as an SDK leaves it: it exports every callback and lists those that it implements.
pub(crate) const FILTER: &str = r#"
(module
    (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_buffer_bytes" (func $body (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (table 1 funcref)
    (memory (export "memory") 17)
    (global $stack (mut i32) (i32.const 1048576))
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "_initialize") (global.set $stack (i32.const 1)))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (global.get $stack))
    (func (export "proxy_on_context_create") (param i32 i32)
        (drop (call_indirect (param i32 i32 i32) (result i32)
            (i32.const 2) (i32.const 0) (i32.const 5) (i32.const 0))))
    (func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const 1)
    (func (export "proxy_on_vm_start") (param i32 i32) (result i32) i32.const 1)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $decide (local.get 1)))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (drop (call $body (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4)))
        (call $only_for_bodies))
    (func (export "proxy_on_response_metadata") (param i32 i32) (result i32) i32.const 0)
    (func (export "proxy_on_log") (param i32))
    (func (export "proxy_on_done") (param i32) (result i32) i32.const 1)
    (func (export "proxy_on_delete") (param i32))
    (func (export "on_my_own"))
    (func $decide (param $count i32) (result i32) (local $sum i64) (local $more i32)
        (local.set $more (i32.add (local.get $count) (i32.const 1)))
        (select (i32.const 0) (i32.const 1) (local.get $more)))
    (func $only_for_bodies (result i32)
        (call $write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
    (elem (i32.const 0) $log)
    (data (i32.const 0) "hello")
    (@custom "tollgate.callbacks" "proxy_on_context_create\0aproxy_on_request_headers\0a")
    (@custom "target_features" "\00")
    (@custom "producers" "\00")
    (@custom ".debug_info" "not debug information")
    (@custom "tollgate.callbacks" "proxy_on_log\0aproxy_on_request_headers\0a")
    (@custom "tollgate.name" "ratelimit")
    (@custom "tollgate.version" "1.2.0\0a"))"#;

/// Assembles a module.
#[allow(clippy::unwrap_used, reason = "a module that cannot be assembled is a mistake in the test")]
pub(crate) fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// A module of ABI 0.2.1 that has the floor and what is laid on top; imports come first.
pub(crate) fn filter(top: &str) -> Vec<u8> {
    wasm(&format!(r#"(module {top} {FLOOR} (func (export "proxy_abi_version_0_2_1")))"#))
}

/// Reads a module.
#[allow(
    clippy::unwrap_used,
    reason = "the test is about what a module holds, not whether it is one"
)]
pub(crate) fn read(bytes: &[u8]) -> Module {
    Module::read(bytes).unwrap()
}

/// What a finished module says of itself.
#[allow(clippy::unwrap_used, reason = "the test is about a finished module")]
pub(crate) fn metadata(bytes: &[u8]) -> Metadata {
    read(bytes).metadata().unwrap().unwrap()
}
