;; Of several memories the last that is exported is shared.
(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory $one 1)
  (memory $other 1)
  (export "memory" (memory $other))
  (export "linear" (memory $one))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1"))
  (data $of_one (memory $one) (i32.const 64) "hello")
  (data $of_other (memory $other) (i32.const 64) "other")
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $log (i32.const 2) (i32.const 64) (i32.const 5)))
    (i32.const 0)))
