;; malloc is asked before proxy_on_memory_allocate, which may be anything then.
(module
  (import "env" "proxy_get_header_map_value" (func $value (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (data (i32.const 64) "x-probe")
  (func (export "proxy_on_memory_allocate") (param i64) (unreachable))
  (func (export "malloc") (param i32) (result i32) (i32.const 2048))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $value (i32.const 0) (i32.const 64) (i32.const 7) (i32.const 16) (i32.const 20)))
    (drop (call $log (i32.const 2) (i32.const 2048) (i32.load (i32.const 20))))
    (i32.const 0)))
