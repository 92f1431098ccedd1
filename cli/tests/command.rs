//! The command as a user meets it: exit codes, one clear error, the same bytes twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::Path;
use std::process::Output;

use common::{modules, tollgate};

/// Runs a command on the modules that were built for the tests.
fn with_modules(arguments: &[&str]) -> Output {
    let mut all = arguments.to_vec();
    all.extend(["--modules", modules().to_str().unwrap()]);
    tollgate(&all)
}

/// A file for one test.
fn file(name: &str, content: &[u8]) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("inputs");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A scenario whose only filter is `filter`.
fn scenario_of(name: &str, filter: &str) -> String {
    let text =
        format!("name: x\nfilters: [ {{ filter: {filter} }} ]\nsteps: [ {{ request: {{}} }} ]\n");
    file(name, text.as_bytes())
}

/// One clear error on standard error, nothing on standard output, exit 2.
fn refuses(output: &Output, words: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{error}");
    assert_eq!(error.matches("error: ").count(), 1, "{error}");
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

fn wat(name: &str, text: &str) -> String {
    file(name, &wat::parse_str(text).unwrap())
}

const ALLOCATOR: &str = r#"(memory (export "memory") 1)
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 0)"#;

#[test]
fn a_missing_module_is_named() {
    refuses(&tollgate(&["check", "no/such.wasm"]), &["no/such.wasm", "No such file"]);
    refuses(
        &tollgate(&["check", "ratelimit", "--modules", "no/such"]),
        &["no/such/ratelimit.wasm", "tollgate build ratelimit"],
    );
    let scenario = scenario_of("missing.yaml", "./no-such.wasm");
    for command in ["test", "trace"] {
        refuses(&with_modules(&[command, &scenario]), &["no-such.wasm"]);
    }
}

#[test]
fn a_module_that_no_proxy_loads_is_refused_before_anything_runs() {
    let text = file("text.wasm", b"this is not wasm\n");
    let unmarked = wat("unmarked.wasm", &format!("(module {ALLOCATOR})"));
    let importing = wat(
        "importing.wasm",
        &format!(
            r#"(module (import "env" "proxy_get_secret" (func)) {ALLOCATOR}
                (func (export "proxy_abi_version_0_2_1")))"#
        ),
    );
    refuses(&tollgate(&["check", &text]), &[&text, "text"]);
    for (module, words) in [
        (&unmarked, "Missing or unknown Proxy-Wasm ABI version"),
        (&importing, "missing import: env.proxy_get_secret"),
    ] {
        let output = tollgate(&["check", module]);
        let report = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{report}");
        assert!(report.contains("REFUSES it") && report.contains(words), "{report}");
    }
    for (name, word) in [
        ("text", "text"),
        ("unmarked", "proxy_abi_version_0_2_1"),
        ("importing", "env.proxy_get_secret"),
    ] {
        let scenario = scenario_of(&format!("{name}.yaml"), &format!("./{name}.wasm"));
        for command in ["test", "trace"] {
            refuses(&with_modules(&[command, &scenario]), &[&format!("{name}.wasm"), word]);
        }
    }
}

#[test]
fn what_envoy_says_of_a_module_can_be_expected_and_an_import_be_declared() {
    let module = wat(
        "vendor.wasm",
        &format!(
            r#"(module (import "env" "proxy_get_secret" (func $secret (param i32 i32 i32 i32) (result i32)))
                {ALLOCATOR} (func (export "proxy_abi_version_0_2_1"))
                (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                    (if (i32.ne (call $secret (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 12)) (i32.const 7))
                        (then unreachable))
                    (i32.const 0)))"#
        ),
    );
    let expecting = file(
        "expecting.yaml",
        b"name: x\nfilters: [ { filter: ./vendor.wasm } ]\nrefused: 'missing import: env.proxy_get_secret'\n",
    );
    assert_eq!(with_modules(&["test", &expecting]).status.code(), Some(0));
    let expect = "expect: { response: { status: 200 } }";
    let declaring = file(
        "declaring.yaml",
        format!(
            "name: x\nfilters: [ {{ filter: ./vendor.wasm }} ]\nimports: {{ env.proxy_get_secret: [ {{ return: 7 }}, trap ] }}\n\
             only: {{ on: [wasmtime], reason: r }}\n\
             steps: [ {{ request: {{}}, {expect} }}, {{ request: {{}}, expect: {{ response: {{ status: 503 }} }} }} ]\n"
        )
        .as_bytes(),
    );
    assert_eq!(with_modules(&["test", &declaring]).status.code(), Some(0));
    let plain = scenario_of("vendor.yaml", "./vendor.wasm");
    refuses(&with_modules(&["test", &plain]), &["env.proxy_get_secret"]);
    let with = |answer: &str| {
        let import = format!("--import=env.proxy_get_secret={answer}");
        let checked = tollgate(&["check", &module, &import]).status.code();
        (checked, with_modules(&["test", &plain, &import]).status.code())
    };
    assert_eq!(with("7"), (Some(0), Some(0)));
    assert_eq!(with("yes"), (Some(2), Some(2)));
}

#[test]
fn a_scenario_that_cannot_be_read_is_refused_with_its_place() {
    let unknown = file("unknown.yaml", b"name: x\nfilters: [ { filter: ratelimit } ]\nstpes: []\n");
    let binary = file("binary.yaml", b"name: \xff\n");
    let check = |path: &str, words: &[&str]| {
        for command in ["test", "trace", "demo"] {
            refuses(&tollgate(&[command, path]), words);
        }
    };
    check(&unknown, &["unknown.yaml", "line 3 column 1", "unknown field `stpes`"]);
    check(&binary, &["binary.yaml", "line 1 column 7", "not UTF-8"]);
    check("no/such.yaml", &["no/such.yaml", "No such file"]);
    refuses(&tollgate(&["test", "cli/src"]), &["cli/src", "no scenario"]);
}

#[test]
fn envoy_that_is_not_there_is_told_with_the_places() {
    let scenario = "filters/ratelimit/tests/scenarios/two-keys.yaml";
    refuses(
        &with_modules(&["test", scenario, "--on", "envoy", "--envoy", "/no/such/envoy"]),
        &["/no/such/envoy"],
    );
}

#[test]
fn wrong_usage_exits_2() {
    for arguments in
        [&["nonsense"][..], &["test", "--on", "nginx"], &["trace"], &["build", "nonsense"]]
    {
        assert_eq!(tollgate(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_trace_is_the_same_bytes_twice_and_on_both_engines() {
    let scenario = "filters/ratelimit/tests/scenarios/two-workers.yaml";
    let trace = |engine| {
        let output = with_modules(&["trace", scenario, "--on", engine]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let first = trace("wasmtime");
    assert!(first.contains("proxy_on_request_headers(context=2"), "{first}");
    assert!(first.contains("proxy_set_shared_data(key="), "{first}");
    assert_eq!(first, trace("wasmtime"));
    // A module runs its start function and asks WASI; a native filter has neither to show.
    let border = |text: &str| -> Vec<String> {
        let shared = |line: &&str| !line.contains("environ") && !line.contains("start");
        text.lines().filter(shared).map(str::to_owned).collect()
    };
    assert_eq!(border(&first), border(&trace("native")));
}

#[test]
fn a_failed_scenario_exits_1_and_its_json_says_what() {
    let scenario = file(
        "wrong.yaml",
        b"name: wrong\nfilters:\n  - filter: ratelimit\n    config: { rules: [ { name: a, key: [ path ], limit: { requests: 1, per: 1s } } ] }\nsteps: [ { request: {}, expect: { response: { status: 204 } } } ]\n",
    );
    let output = with_modules(&["test", &scenario, "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["passed"], &report["failed"], &report["skipped"]),
        (&0.into(), &1.into(), &0.into())
    );
    assert_eq!(report["cases"][0]["verdict"], "failed");
    assert_eq!(
        report["cases"][0]["failures"][0]["what"],
        "response status: expected 204, got 200 with body \"\""
    );
}

#[test]
fn check_runs_the_configuration() {
    let good = file(
        "good.yaml",
        b"rules: [ { name: a, key: [ path ], limit: { requests: 1, per: 1s } } ]\n",
    );
    let bad = file(
        "bad.yaml",
        b"rules: [ { name: a, key: [ path ], limit: { requests: 0, per: 1s } } ]\n",
    );
    let check = |config: &str| {
        let output = with_modules(&["check", "ratelimit", "--config", config, "--format", "json"]);
        let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), findings)
    };
    let (code, findings) = check(&good);
    assert_eq!((code, &findings["configuration"]["verdict"]), (Some(0), &"accepted".into()));
    assert_eq!(findings["abi"], "0.2.1");
    assert_eq!(findings["name"], "ratelimit");
    let (code, findings) = check(&bad);
    assert_eq!((code, &findings["configuration"]["verdict"]), (Some(1), &"refused".into()));
    let words = findings["configuration"]["words"].to_string();
    assert!(words.contains("rules[0].limit.requests: 0 is not at least 1"), "{words}");
    refuses(&with_modules(&["check", "ratelimit", "--config", "no/such.yaml"]), &["no/such.yaml"]);
}

#[test]
fn check_shows_the_labels_that_a_proxy_has_to_be_told_of() {
    let tenants = modules().join("tenants.wasm");
    let tenants = tenants.to_str().unwrap();
    let text = String::from_utf8(tollgate(&["check", tenants]).stdout).unwrap();
    assert!(text.contains("\n  stats tags     tenant\n"), "{text}");
    let output = tollgate(&["check", tenants, "--format", "json"]);
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = serde_json::json!([
        { "tag_name": "tenant", "regex": r"^wasmcustom\.(?:.*;\.;)?(tenant=\.=(.*?);\.;)" },
    ]);
    assert_eq!(findings["stats_tags"], expected);
    // What tells them is not in the module that ships.
    let module = std::fs::read(tenants).unwrap();
    let module = tollgate_module::Module::read(&module).unwrap();
    assert!(module.exports().iter().all(|export| !export.name.contains("stats_tags")));

    let hello = modules().join("hello.wasm");
    let output = tollgate(&["check", hello.to_str().unwrap(), "--format", "json"]);
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(findings["stats_tags"], serde_json::json!([]));
}

#[test]
fn check_writes_the_schema_of_a_configuration() {
    let output = with_modules(&["check", "ratelimit", "--schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    let written = tollgate::config::schema::<tollgate_ratelimit::config::Policy>();
    assert_eq!(&schema, written.as_value());
    let output = with_modules(&["check", "ratelimit", "--format", "json"]);
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(findings["has_schema"], true);
    // What tells the schema is not in the module that ships.
    let module = std::fs::read(modules().join("ratelimit.wasm")).unwrap();
    let names = tollgate_module::Module::read(&module).unwrap();
    assert!(names.exports().iter().all(|export| !export.name.contains("schema")));

    let other = wat(
        "other.wasm",
        &format!(r#"(module {ALLOCATOR} (func (export "proxy_abi_version_0_2_1")))"#),
    );
    refuses(&tollgate(&["check", &other, "--schema"]), &["other.wasm", "carries no schema"]);
    refuses(&tollgate(&["check", &other, "--schema", "--format", "json"]), &["--schema"]);
}

/// The goal for each module that ships, in bytes.
const MODULE_BYTES: u64 = 200 << 10;

/// Modules that miss the goal, and what they may have at most, in KiB. One that meets it fails here, so
/// that the list is true. What it costs is in ARCHITECTURE.md.
const LARGER_MODULES: &[(&str, u64)] = &[
    ("canary", 324),
    ("metrics", 316),
    ("metrics-tcp", 284),
    ("mtls", 248),
    ("mtls-tcp", 245),
    ("ratelimit", 253),
    ("ratelimit-global", 370),
];

#[test]
fn a_built_module_keeps_to_its_size_and_memory() {
    for name in
        ["canary", "metrics", "metrics-tcp", "mtls", "mtls-tcp", "ratelimit", "ratelimit-global"]
    {
        let output = with_modules(&["check", name, "--format", "json"]);
        let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let size = findings["size_bytes"].as_u64().unwrap();
        let memory = findings["memory"]["start_bytes"].as_u64().unwrap();
        match LARGER_MODULES.iter().find(|(larger, _)| *larger == name) {
            None => assert!(size <= MODULE_BYTES, "{name}: {size} bytes are above {MODULE_BYTES}"),
            Some((_, most)) => {
                assert!(
                    size > MODULE_BYTES,
                    "{name}: {size} bytes meet the goal; take it off the list"
                );
                assert!(size <= most << 10, "{name}: {size} bytes are above {most} KiB");
            }
        }
        assert!(memory <= 1_258_291, "{name}: {memory} bytes are above 1.2 MiB");
    }
}
