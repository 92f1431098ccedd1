;; The host has to be able to ask for memory.
;; refused: missing malloc function
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1")))
