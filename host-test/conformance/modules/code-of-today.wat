;; Tail calls, vectors and bulk memory.
(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1"))
  (data (i32.const 64) "hello")
  (func $length (result i32) (i32x4.extract_lane 1 (i32x4.splat (i32.const 5))))
  (func $tail (result i32) (return_call $length))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (memory.copy (i32.const 128) (i32.const 64) (i32.const 5))
    (drop (call $log (i32.const 2) (i32.const 128) (call $tail)))
    (i32.const 0)))
