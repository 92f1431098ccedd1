;; Answers every request by itself, before its body has come.
(module
  (import "env" "proxy_send_local_response"
    (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "no")
  ;; One pair: x-why: policy.
  (data (i32.const 200) "\01\00\00\00\05\00\00\00\06\00\00\00x-why\00policy\00")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $respond (i32.const 403) (i32.const 0) (i32.const 0)
      (i32.const 100) (i32.const 2) (i32.const 200) (i32.const 25) (i32.const -1)))
    (i32.const 0)))
