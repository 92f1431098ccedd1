;; WASI has functions that Envoy does not.
;; refused: missing import: wasi_snapshot_preview1.proc_raise
(module
  (import "wasi_snapshot_preview1" "proc_raise" (func (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1")))
