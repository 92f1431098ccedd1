;; Tells the upstream how many requests its worker has had: x-count: 1, 2, …, 9.
(module
  (import "env" "proxy_add_header_map_value"
    (func $add_header (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "0")
  (data (i32.const 100) "x-count")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (i32.store8 (i32.const 0) (i32.add (i32.load8_u (i32.const 0)) (i32.const 1)))
    (drop (call $add_header
      (i32.const 0) (i32.const 100) (i32.const 7) (i32.const 0) (i32.const 1)))
    (i32.const 0)))
