;; Tells what plugins of its vm_id share, over a connection of TCP in front of an echo.
;;
;; A question is the length of the rest, `d` for shared data or `q` for the next message of a queue, and
;; the key or the name. An answer is the status of the host call, the length of the rest, and the value.
;; Lengths are u32, little-endian.
(module
  (import "env" "proxy_get_buffer_bytes"
    (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes"
    (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_property" (func $get_property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_shared_data"
    (func $get_shared_data (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_resolve_shared_queue"
    (func $resolve_queue (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "plugin_vm_id")
  ;; 64 and 68: the question; 72 and 76: the vm_id; 80 and 84: the value, each with its length; 88: the
  ;; version of the value, or the queue; 92: the status, 93: the length of the value, as they are sent.
  (global $free (mut i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $free))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (block $fits (loop $more
      (br_if $fits (i32.le_u (global.get $free) (i32.shl (memory.size) (i32.const 16))))
      (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))
      (br $more)))
    (local.get $at))
  (func (export "proxy_on_downstream_data") (param $context i32) (param $size i32) (param $end i32)
    (result i32)
    (local $key i32) (local $length i32) (local $status i32)
    ;; What was asked before is answered.
    (global.set $free (i32.const 1024))
    (if (i32.lt_u (local.get $size) (i32.const 5)) (then (return (i32.const 1))))
    (drop (call $get_buffer
      (i32.const 2) (i32.const 0) (local.get $size) (i32.const 64) (i32.const 68)))
    (local.set $length (i32.load (i32.load (i32.const 64))))
    (if (i32.ne (local.get $size) (i32.add (local.get $length) (i32.const 4)))
      (then (return (i32.const 1))))
    (local.set $key (i32.add (i32.load (i32.const 64)) (i32.const 5)))
    (local.set $length (i32.sub (local.get $length) (i32.const 1)))
    (i64.store (i32.const 80) (i64.const 0))
    (if (i32.eq (i32.load8_u offset=4 (i32.load (i32.const 64))) (i32.const 0x64))
      (then
        (local.set $status (call $get_shared_data
          (local.get $key) (local.get $length) (i32.const 80) (i32.const 84) (i32.const 88))))
      (else
        (i64.store (i32.const 72) (i64.const 0))
        (drop (call $get_property (i32.const 0) (i32.const 12) (i32.const 72) (i32.const 76)))
        (local.set $status (call $resolve_queue
          (i32.load (i32.const 72)) (i32.load (i32.const 76)) (local.get $key) (local.get $length)
          (i32.const 88)))
        (if (i32.eqz (local.get $status)) (then
          (local.set $status (call $dequeue
            (i32.load (i32.const 88)) (i32.const 80) (i32.const 84)))))))
    (i32.store8 (i32.const 92) (local.get $status))
    (i32.store (i32.const 93) (i32.load (i32.const 84)))
    (drop (call $set_buffer (i32.const 2) (i32.const 0) (local.get $size)
      (i32.load (i32.const 80)) (i32.load (i32.const 84))))
    (drop (call $set_buffer (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 92) (i32.const 5)))
    (i32.const 0)))
