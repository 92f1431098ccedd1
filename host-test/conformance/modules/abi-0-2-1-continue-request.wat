;; proxy_continue_request went with 0.1.0.
;; refused: missing import: env.proxy_continue_request
(module
  (import "env" "proxy_continue_request" (func (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1")))
