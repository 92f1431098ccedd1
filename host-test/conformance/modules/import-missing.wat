;; Functions of a host that is not Envoy.
;; refused: missing import: env.proxy_get_secret
(module
  (import "env" "proxy_get_secret" (func (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_kv_store_open" (func (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1")))
