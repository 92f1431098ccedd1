;; And of one that only Envoy knows.
;; refused: Bad function signature for: envoy_on_stats_update
(module
  (memory (export "memory") 1)
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "envoy_on_stats_update") (param i64)))
