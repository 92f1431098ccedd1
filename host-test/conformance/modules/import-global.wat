;; Envoy has no globals.
;; refused: missing import: env.stack
(module
  (import "env" "stack" (global i32))
  (memory (export "memory") 1)
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1")))
