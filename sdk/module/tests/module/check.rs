//! What is read out of a module, and what is said of one that a host would not load.

use tollgate_abi::{AbiVersion, CallbackKind};
use tollgate_module::{InvalidModule, MemoryLimits, Module, Problem};

use crate::fixture::{FILTER, FLOOR, filter, read, wasm};

#[test]
fn a_module_is_read_without_running_it() {
    let bytes = wasm(FILTER);
    let module = read(&bytes);
    assert_eq!(module.size_bytes(), bytes.len());
    assert_eq!(module.abi(), Some(AbiVersion::V0_2_1));
    assert_eq!(module.allocator(), Some("proxy_on_memory_allocate"));
    assert_eq!(module.start_functions(), ["_initialize"]);
    assert_eq!(module.callbacks().next(), Some(CallbackKind::ContextCreate));
    assert_eq!(module.callbacks().count(), 8);
    assert_eq!(
        module.memory(),
        Some(MemoryLimits { min_pages: 17, max_pages: None, is_wide: false })
    );
    let imports: Vec<String> = module.imports().iter().map(ToString::to_string).collect();
    assert_eq!(
        imports,
        [
            "env.proxy_log(i32, i32, i32) -> i32",
            "env.proxy_get_buffer_bytes(i32, i32, i32, i32, i32) -> i32",
            "wasi_snapshot_preview1.fd_write(i32, i32, i32, i32) -> i32",
        ]
    );
    let sections = module.custom_sections().iter();
    let version = sections.clone().find(|it| it.name == "tollgate.version");
    assert_eq!(version.unwrap().size_bytes, "1.2.0\n".len());
    assert_eq!(module.metadata(), Ok(None));
    assert_eq!(module.check(), []);
}

#[test]
fn what_is_no_module_is_named() {
    let check = |bytes: &[u8], expected: &str| {
        assert_eq!(Module::read(bytes).unwrap_err().to_string(), expected);
    };
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    check(b"", "not a WebAssembly module but an empty file; build it again");
    check(b"(module)", "not a WebAssembly module but its text format; assemble it with wat2wasm");
    check(
        b"\nversion https://git-lfs.github.com/spec/v1\noid sha256:1",
        "not a WebAssembly module but text that starts with \"version https://git-lfs.github.c\"; give the .wasm file",
    );
    check(
        &[b"a\t\xc3\xa9 ".repeat(60), b"\xff".to_vec()].concat(),
        "not a WebAssembly module but text that starts with \"a\\té a\\té a\\té a\\té a\\té a\\té a\\té a\\té \"; give the .wasm file",
    );
    check(b"\x1f\x8b\x08\0", "not a WebAssembly module but gzip data; unpack it first");
    check(b"\x28\xb5\x2f\xfd", "not a WebAssembly module but zstd data; unpack it first");
    check(b"PK\x03\x04", "not a WebAssembly module but a zip archive; unpack it first");
    check(&tar, "not a WebAssembly module but a tar archive; unpack it first");
    check(b"\x7fELF\x02", "not a WebAssembly module but native code; build for wasm32-wasip1");
    check(
        b"\xde\x00",
        "not a WebAssembly module but bytes that start with de 00; give the .wasm file",
    );
    check(
        b"\0asm\x0d\0\x01\0",
        "not a WebAssembly module but a component; build for wasm32-wasip1 instead of wasm32-wasip2",
    );
    check(
        b"\0asm\x02\0\0\0",
        "not a valid WebAssembly module: unknown binary version: 0x2 at byte 4; build or fetch it again",
    );
}

#[test]
fn a_module_cut_short_or_with_invalid_code_is_no_module() {
    let whole = wasm(FILTER);
    let short = Module::read(&whole[..whole.len() - 1]).unwrap_err();
    assert!(matches!(short, InvalidModule::Malformed { .. }), "{short}");

    let code = wasm("(module (func (result i32) i64.const 0))");
    let invalid = Module::read(&code).unwrap_err();
    assert!(matches!(invalid, InvalidModule::Malformed { .. }), "{invalid}");
}

/// Whether Envoy 1.40.0 refuses the module in `--mode validate` stands before each line.
fn check(bytes: &[u8], expected: &[&str]) {
    let problems = read(bytes).check();
    let said = problems.iter().map(|problem| {
        let refused = problem.keeps_envoy_from_loading();
        format!("{} {problem}", if refused { "refused:" } else { "loaded:" })
    });
    assert_eq!(said.collect::<Vec<_>>(), expected);
}

#[test]
fn a_module_without_anything_is_no_filter() {
    check(
        &wasm("(module)"),
        &[
            "refused: no export declares an abi version; build the filter with a Proxy-Wasm SDK, which exports proxy_abi_version_0_2_1",
            "loaded: no memory is exported, and Envoy crashes at the first host call; link with --export-memory",
            "refused: neither malloc nor proxy_on_memory_allocate is exported; build the filter with a Proxy-Wasm SDK, or export one",
        ],
    );
    check(&filter(""), &[]);
}

#[test]
fn a_module_declares_one_abi() {
    let declare = |exports: &str| wasm(&format!("(module {FLOOR} {exports})"));
    let old = r#"(func (export "proxy_abi_version_0_1_0"))"#;
    let new = r#"(func (export "proxy_abi_version_0_2_1"))"#;
    check(&declare(old), &[]);
    check(
        &declare(&[new, old].concat()),
        &[
            "loaded: exports declare abi versions 0.2.1 and 0.1.0, of which Envoy takes the first; link one SDK only",
        ],
    );
    let both = declare(&[old, new].concat());
    assert_eq!(read(&both).abi(), Some(AbiVersion::V0_1_0));
    check(
        &declare(r#"(func (export "proxy_abi_version_0_3_0"))"#),
        &[
            "refused: export proxy_abi_version_0_3_0 declares an unknown abi version; use an SDK for 0.1.0, 0.2.0 or 0.2.1",
        ],
    );
    check(
        &declare(r#"(global (export "proxy_abi_version_0_2_1") i32 (i32.const 0))"#),
        &[
            "refused: no export declares an abi version; build the filter with a Proxy-Wasm SDK, which exports proxy_abi_version_0_2_1",
        ],
    );
}

#[test]
fn a_memory_starts_at_1_gib_at_most_and_has_32_bit_addresses() {
    let memory = |limits: &str| {
        let floor = FLOOR.replace("\"memory\") 1", &format!("\"memory\") {limits}"));
        wasm(&format!(r#"(module {floor} (func (export "proxy_abi_version_0_2_1")))"#))
    };
    check(&memory("16384 65536"), &[]);
    check(
        &memory("16385"),
        &["refused: memory starts at 16385 pages, above Envoy's 16384; lower --initial-memory"],
    );
    check(
        &filter("(memory 20000)"),
        &["refused: memory starts at 20000 pages, above Envoy's 16384; lower --initial-memory"],
    );
    check(
        &memory("i64 1"),
        &[
            "loaded: memory has 64-bit addresses, which the abi cannot pass; build for wasm32-wasip1",
        ],
    );
}

#[test]
fn every_import_has_to_be_a_host_function_of_the_abi() {
    check(
        &filter(
            r#"
            (import "env" "proxy_get_secret" (func (param i32 f64) (result i64)))
            (import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
            (import "env" "fd_write" (func))
            (import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32)))
            (import "wasi_unstable" "random_get" (func (param i32 i32) (result i32)))
            (import "env" "evil\n\00name" (global externref))
            (import "env" "table" (table 1 funcref))
            (import "env" "tag" (tag))"#,
        ),
        &[
            "refused: import env.proxy_get_secret(i32, f64) -> i64 is not a host function; remove the code that needs it",
            "refused: import env.fd_write() is not a host function; remove the code that needs it",
            "loaded: import wasi_snapshot_preview1.fd_read(i32, i32, i32, i32) -> i32 is at best a stub on Envoy and missing elsewhere; remove the code that needs it",
            "refused: import env.evil\\n\\0name (a global) is not a host function; remove the code that needs it",
            "loaded: import env.table (a table) is not a host function; remove the code that needs it",
            "refused: import env.tag (a tag) is not a host function; remove the code that needs it",
        ],
    );
    check(
        &filter(
            r#"
            (import "env" "proxy_increment_metric" (func (param i32 i32) (result i32)))
            (import "env" "proxy_log" (func))
            (import "env" "proxy_continue_request" (func (result i32)))"#,
        ),
        &[
            "refused: import env.proxy_increment_metric(i32, i32) -> i32 has the wrong signature; declare it as (i32, i64) -> i32",
            "refused: import env.proxy_log() has the wrong signature; declare it as (i32, i32, i32) -> i32",
            "refused: import env.proxy_continue_request is not part of abi 0.2.1; use an SDK for 0.1.0",
        ],
    );
    check(
        &wasm(&format!(
            r#"(module
                (import "env" "proxy_continue_stream" (func (param i32) (result i32)))
                {FLOOR} (func (export "proxy_abi_version_0_1_0")))"#
        )),
        &[
            "refused: import env.proxy_continue_stream is not part of abi 0.1.0; use an SDK for 0.2.0 or 0.2.1",
        ],
    );
}

#[test]
fn an_export_that_the_host_calls_has_the_signature_that_the_host_wants() {
    check(
        &filter(
            r#"
            (func (export "proxy_on_log"))
            (func (export "proxy_on_request_headers") (param i32 i32) (result i32) i32.const 0)
            (func (export "proxy_on_nonsense") (param f32))
            (func (export "proxy_on_memory_allocate"))
            (func (export "_initialize"))
            (func (export "_start") (param i32))
            (func (export "main"))
            (func (export "on_my_own") (param f32))"#,
        ),
        &[
            "refused: export proxy_on_log() has the wrong signature; define it as (i32)",
            "refused: export proxy_on_request_headers(i32, i32) -> i32 has the wrong signature; define it as (i32, i32, i32) -> i32",
            "refused: export main() has the wrong signature; define it as (i32, i32) -> i32",
        ],
    );
}

#[test]
fn a_start_section_and_broken_names_are_told() {
    check(
        &filter("(func $start) (start $start)"),
        &[
            "loaded: module has a start section, and Envoy crashes when that calls a host function; export _initialize instead",
        ],
    );
    check(
        &filter(r#"(@custom "name" "\01\05\ff\ff\ff\ff\ff")"#),
        &[
            "refused: the name section is broken, for which Envoy refuses the module; finish or strip it",
        ],
    );
    // Envoy does not mind a name that is not UTF-8.
    check(&filter(r#"(@custom "name" "\01\04\01\00\01\ff")"#), &[]);
}

#[test]
fn what_v8_takes_for_wasm_is_taken() {
    check(&filter("(tag $t) (func try throw $t catch $t end)"), &[]);
    check(&filter("(func (drop (i32.atomic.load (i32.const 0))))"), &[]);
    check(&filter("(type (struct (field i32)))"), &[]);
    let paged = wasm(&format!("(module {FLOOR} (memory 1 (pagesize 1)))"));
    assert!(Module::read(&paged).is_err(), "V8 has one size of pages");
}

#[test]
fn problems_are_values() {
    let problems = Module::read(&wasm(&format!("(module {FLOOR})"))).unwrap().check();
    assert_eq!(problems, [Problem::NoAbiMarker]);
}
