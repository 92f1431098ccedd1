//! A guest without a library: it calls every function of WASI that only answers, and logs what came back.

use std::fmt::Write;

use tollgate_abi::Stub;

/// Where the guest's own texts lie, where the addresses begin that every call is given, one per place
/// among its arguments, how far they are apart, and how much memory is logged.
const TEXTS: usize = 4096;
const ADDRESS: usize = 64;
const APART: usize = 16;
const SHOWN: usize = 160;

/// What the memory at the address holds before each call.
const FILL: u8 = 0xaa;

/// The file descriptors that are asked about.
const DESCRIPTORS: [u32; 4] = [0, 1, 2, 3];

/// The module. In `on_request_headers` it logs, for each call, its name, the descriptor and the number
/// that came back, then the bytes at the address that it was given.
pub(crate) fn module() -> Vec<u8> {
    let (mut imports, mut texts, mut calls) = (String::new(), String::new(), String::new());
    let mut at = TEXTS;
    for stub in Stub::ALL {
        let name = stub.name();
        let words: String = stub.words().map(|wide| if wide { " i64" } else { " i32" }).collect();
        let import = format!(
            r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param{words}) (result i32)))"#
        );
        writeln!(imports, "{import}").unwrap();
        for descriptor in DESCRIPTORS {
            let text = format!("{name} {descriptor} -> ???");
            writeln!(texts, r#"(data (i32.const {at}) "{text}")"#).unwrap();
            let arguments: String = stub
                .words()
                .enumerate()
                .map(|(place, wide)| match (place, wide) {
                    (0, _) => format!(" (i32.const {descriptor})"),
                    (_, false) => format!(" (i32.const {})", ADDRESS + APART * place),
                    (_, true) => " (i64.const 0)".into(),
                })
                .collect();
            let length = text.len();
            let call = format!(
                "(call $tell (i32.const {at}) (i32.const {length}) (call ${name}{arguments}))"
            );
            writeln!(calls, "{call}").unwrap();
            at += length;
        }
    }
    let text = format!(
        r#"(module {imports}
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        {texts}
        (func $digit (param $at i32) (param $number i32) (param $unit i32)
          (i32.store8 (local.get $at) (i32.add (i32.const 48)
            (i32.rem_u (i32.div_u (local.get $number) (local.get $unit)) (i32.const 10)))))
        (func $tell (param $text i32) (param $length i32) (param $number i32) (local $end i32)
          (local.set $end (i32.add (local.get $text) (local.get $length)))
          (call $digit (i32.sub (local.get $end) (i32.const 3)) (local.get $number) (i32.const 100))
          (call $digit (i32.sub (local.get $end) (i32.const 2)) (local.get $number) (i32.const 10))
          (call $digit (i32.sub (local.get $end) (i32.const 1)) (local.get $number) (i32.const 1))
          (drop (call $log (i32.const 2) (local.get $text) (local.get $length)))
          (drop (call $log (i32.const 2) (i32.const {ADDRESS}) (i32.const {SHOWN})))
          (call $fill))
        (func $fill (memory.fill (i32.const {ADDRESS}) (i32.const {FILL}) (i32.const {SHOWN})))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $fill) {calls} (i32.const 0))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 32768))
        (func (export "proxy_abi_version_0_2_1")))"#
    );
    wat::parse_str(text).unwrap()
}
