;; Puts a message into a queue of its own for each request.
(module
  (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "jobs")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $register (i32.const 0) (i32.const 4) (i32.const 100)))
    (drop (call $enqueue (i32.load (i32.const 100)) (i32.const 0) (i32.const 3)))
    (i32.const 0)))
