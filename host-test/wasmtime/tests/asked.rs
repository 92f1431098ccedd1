//! Modules that are asked for a text, without a host.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tollgate_host_wasmtime::{AskError, Limits, Wasmtime};

/// Asks a module of these fields for what its export `text` makes.
fn ask(fields: &str) -> Result<Option<String>, AskError> {
    let limits = Limits {
        fuel_per_call: 100_000,
        time_per_call: Duration::from_secs(5),
        ..Limits::default()
    };
    let module = wat::parse_str(format!("(module {fields})")).unwrap();
    let text = Wasmtime::new(limits, None).unwrap().ask(&module, "text")?;
    Ok(text.map(|text| String::from_utf8(text).unwrap()))
}

const MEMORY: &str = r#"(memory (export "memory") 1) (data (i32.const 64) "hello")"#;

#[test]
fn a_text_is_read_where_the_export_says_after_the_module_was_initialized() {
    let found = ask(&format!(
        r#"(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32))) {MEMORY}
           (global $length (mut i64) (i64.const 0))
           (func (export "_initialize") (global.set $length (i64.const 5)))
           (func (export "text") (result i64)
               (drop (call $log (i32.const 0) (i32.const 0) (i32.const 0)))
               (i64.or (i64.const 0x40_00000000) (global.get $length)))"#
    ));
    assert_eq!(found, Ok(Some("hello".to_owned())));
}

#[test]
fn a_module_without_the_export_has_no_text() {
    assert_eq!(ask(MEMORY), Ok(None));
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let place = |address: &str| {
        format!(r#"{MEMORY} (func (export "text") (result i64) i64.const {address})"#)
    };
    let out = |address, size_bytes| Err(AskError::OutOfMemory { address, size_bytes });
    assert_eq!(ask(&place("0xfffe_00000003")), out(0xfffe, 3));
    assert_eq!(ask(&place("-1")), out(0xffff_ffff, 0xffff_ffff));
    assert_eq!(ask(r#"(func (export "text") (result i64) i64.const 1)"#), out(0, 1));
    for (fields, words) in [
        (r#"(func (export "text") (result i64) unreachable)"#, "unreachable"),
        (r#"(func (export "text") (result i64) (loop (br 0)) i64.const 0)"#, "fuel"),
        (r#"(func (export "text") (result i32) i32.const 0)"#, "type"),
        (r#"(memory (export "text") 1)"#, "text"),
    ] {
        let error = ask(fields).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
