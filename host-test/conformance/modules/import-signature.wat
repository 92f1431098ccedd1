;; A host function with other arguments.
;; refused: import type mismatch: env.proxy_log, want: i32 i64 -> void, but host exports: i32 i32 i32 -> i32
(module
  (import "env" "proxy_log" (func (param i32 i64)))
  (memory (export "memory") 1)
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1")))
