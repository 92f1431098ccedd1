;; Names of functions that cannot be read.
;; refused: Failed to parse corrupted Wasm module
(module
  (memory (export "memory") 1)
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1"))
  (@custom "name" "\01\05\ff\ff\ff\ff\ff"))
