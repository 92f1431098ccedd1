;; Logs by how many whole seconds the wall clock has moved since the last request, as a letter:
;; `a` for 0, `b` for 1, …, and "back" when it went back.
(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_current_time_nanoseconds" (func $time (param i32) (result i32)))
  (memory (export "memory") 1)
  (global $last (mut i64) (i64.const 0))
  (data (i32.const 100) "back")
  (data (i32.const 200) "forward ?")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (local $now i64)
    (drop (call $time (i32.const 0)))
    (local.set $now (i64.load (i32.const 0)))
    (if (i64.lt_s (local.get $now) (global.get $last))
      (then (drop (call $log (i32.const 2) (i32.const 100) (i32.const 4))))
      (else
        (i64.store8 (i32.const 208) (i64.add (i64.const 97)
          (i64.div_s (i64.sub (local.get $now) (global.get $last)) (i64.const 1000000000))))
        (drop (call $log (i32.const 2) (i32.const 200) (i32.const 9)))))
    (global.set $last (local.get $now))
    (i32.const 0)))
