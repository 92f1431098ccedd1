;; A main without arguments runs where there is no other.
(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1"))
  (data (i32.const 64) "hello")
  (data (i32.const 80) "again")
  (data (i32.const 96) "third")
  (func (export "_initialize") (drop (call $log (i32.const 2) (i32.const 64) (i32.const 5))))
  (func (export "__main_void") (result i32) (drop (call $log (i32.const 2) (i32.const 96) (i32.const 5))) (i32.const 0))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $log (i32.const 2) (i32.const 64) (i32.const 5)))
    (i32.const 0)))
