;; A callback with other arguments.
;; refused: Bad function signature for: proxy_on_log, want: i32 -> void, but the module exports: void -> void
(module
  (memory (export "memory") 1)
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_log")))
