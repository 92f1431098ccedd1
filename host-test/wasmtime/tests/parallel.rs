//! Hosts are values: many at once, in threads and in processes, know nothing of each other.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;
use std::sync::{Arc, Barrier};
use std::thread;

use tollgate_host::engine::Module;
use tollgate_host::testing::Proxy;
use tollgate_host_wasmtime::{Limits, Wasmtime};

/// Counts its requests, in a metric and in shared data, and tells the upstream both.
const COUNTING: &str = r#"(module
  (import "env" "proxy_add_header_map_value"
    (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_get_shared_data"
    (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data"
    (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "requests") (data (i32.const 16) "x-count") (data (i32.const 32) "k")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $define (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 64)))
    (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $increment (i32.load (i32.const 64)) (i64.const 1)))
    (i32.store (i32.const 68) (i32.const 80)) (i32.store8 (i32.const 80) (i32.const 0x60))
    (drop (call $get (i32.const 32) (i32.const 1) (i32.const 68) (i32.const 72) (i32.const 76)))
    (i32.store8 (i32.const 80) (i32.add (i32.load8_u (i32.load (i32.const 68))) (i32.const 1)))
    (drop (call $set (i32.const 32) (i32.const 1) (i32.const 80) (i32.const 1) (i32.const 0)))
    (call $add (i32.const 0) (i32.const 16) (i32.const 7) (i32.const 80) (i32.const 1))))"#;

/// As many hosts as run at once.
const HOSTS: usize = 16;

/// Set for the process that another one starts, to the folder of its cache.
const FOLDER: &str = "TOLLGATE_TEST_OF_THE_CACHE";

#[test]
fn many_hosts_at_once_count_for_themselves() {
    let bytes = wat::parse_str(COUNTING).unwrap();
    let shared: Arc<dyn Module> =
        Wasmtime::new(Limits::default(), None).unwrap().load(&bytes).unwrap().into();
    let begin = Barrier::new(HOSTS);
    thread::scope(|scope| {
        for host in 0..HOSTS {
            let (bytes, shared, begin) = (&bytes, Arc::clone(&shared), &begin);
            scope.spawn(move || {
                // Half of them share a module, the others have an engine each.
                let module = match host % 2 {
                    0 => shared,
                    _ => {
                        Wasmtime::new(Limits::default(), None).unwrap().load(bytes).unwrap().into()
                    }
                };
                let mut proxy = Proxy::with(module).workers(2).start().unwrap();
                begin.wait();
                for count in 1..=host + 4 {
                    let exchange = proxy.get("/").send().unwrap();
                    let letter = [b'`' + u8::try_from(count).unwrap()];
                    let seen = exchange.upstream().unwrap().header("x-count").unwrap();
                    assert_eq!(seen.as_slice(), letter, "{exchange}");
                }
                assert_eq!(proxy.metric("requests"), u64::try_from(host + 4).ok());
            });
        }
    });
}

#[test]
fn another_process_takes_compiled_modules_from_the_cache() {
    let bytes = wat::parse_str(COUNTING).unwrap();
    let hits = |folder: &std::path::Path| {
        let engine = Wasmtime::new(Limits::default(), Some(folder.to_owned())).unwrap();
        engine.load(&bytes).unwrap();
        engine.cache_hits()
    };
    if let Some(folder) = std::env::var_os(FOLDER) {
        assert_eq!(hits(folder.as_ref()), 1);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(hits(folder.path()), 0);
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "another_process_takes_compiled_modules_from_the_cache"]);
    let output = again.env(FOLDER, folder.path()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}
