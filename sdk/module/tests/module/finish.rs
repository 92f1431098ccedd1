//! What is left of a module when it is finished, and when it is not.

use serde_json::json;
use tollgate_abi::AbiVersion;
use tollgate_module::{
    Description, FinishError, InvalidModule, Metadata, Module, StatsTag, finish,
};

use crate::fixture::{FILTER, FLOOR, metadata, read, wasm};

fn exports(module: &Module) -> Vec<&str> {
    let names = module.exports().iter().map(|export| export.name.as_str());
    names.collect()
}

/// What a module that does not name itself is called in these tests.
fn named() -> Description {
    Description {
        name: Some(String::from("canary")),
        version: Some(String::from("0.1.0")),
        ..Description::default()
    }
}

#[test]
fn a_finished_module_exports_what_the_filter_implements_and_no_more() {
    let linked = wasm(FILTER);
    let finished = finish(&linked, &Description::default()).unwrap();
    let module = read(&finished);
    assert_eq!(
        exports(&module),
        [
            "memory",
            "proxy_abi_version_0_2_1",
            "_initialize",
            "proxy_on_memory_allocate",
            "proxy_on_context_create",
            "proxy_on_configure",
            "proxy_on_request_headers",
            "proxy_on_log",
            "on_my_own",
        ]
    );
    let imports: Vec<&str> = module.imports().iter().map(|it| it.name.as_str()).collect();
    assert_eq!(imports, ["proxy_log"], "the table keeps it, the rest is dead");
    let sections: Vec<_> = module.custom_sections().iter().map(|it| &it.name).collect();
    assert_eq!(sections, ["target_features", "tollgate"]);
    assert_eq!(module.check(), []);
    assert!(finished.windows(5).any(|bytes| bytes == b"hello"), "data stays");
}

#[test]
fn a_finished_module_says_what_it_is() {
    let schema = json!({"type": "object", "properties": {"burst": {"minimum": 0.1}}});
    let tag = StatsTag { tag_name: "tenant".to_owned(), regex: "(tenant=)".to_owned() };
    let description =
        Description { schema: Some(schema), stats_tags: Some(vec![tag]), ..Description::default() };
    let finished = finish(&wasm(FILTER), &description).unwrap();
    let json = serde_json::to_value(metadata(&finished)).unwrap();
    assert_eq!(
        json,
        json!({
            "name": "ratelimit",
            "version": "1.2.0",
            "abi": "0.2.1",
            "callbacks": [
                "proxy_on_configure",
                "proxy_on_context_create",
                "proxy_on_log",
                "proxy_on_request_headers"
            ],
            "host_functions": ["proxy_log"],
            "stats_tags": [{"tag_name": "tenant", "regex": "(tenant=)"}],
            "schema": {"type": "object", "properties": {"burst": {"minimum": 0.1}}}
        })
    );
    // What is finished again, without being told, still says it.
    assert_eq!(finish(&finished, &Description::default()), Ok(finished));
}

/// A filter whose table holds a virtual method that is called, one whose signature nothing asks for,
/// and one that another needs to be asked for.
const VIRTUAL: &str = r#"
(module
    (import "env" "proxy_done" (func $done (result i32)))
    (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_log_level" (func $level (param i32) (result i32)))
    (table 9 funcref)
    (memory (export "memory") 1)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "malloc") (param i32) (result i32) i32.const 0)
    (func (export "proxy_on_context_create") (param i32 i32)
        (drop (call_indirect (param i32) (result i32) (i32.const 0) (local.get 1))))
    (func $called (param i32) (result i32)
        (call_indirect (param i32 i64) (result i32) (i32.const 0) (i64.const 0) (i32.const 3)))
    (func $uncallable (param f32) (result i32) (call $log (i32.const 0) (i32.const 0) (i32.const 0)))
    (func $called_by_called (param i32 i64) (result i32) (call $done))
    (elem (i32.const 1) $called $uncallable $called_by_called $uncallable $level))"#;

#[test]
fn a_virtual_method_that_cannot_be_called_goes_with_what_it_needs() {
    let finished = finish(&wasm(VIRTUAL), &named()).unwrap();
    let callable = ["proxy_done", "proxy_get_log_level"];
    assert!(metadata(&finished).host_functions.iter().eq(callable));
    assert_eq!(finish(&finished, &named()), Ok(finished));
}

#[test]
fn a_virtual_method_stays_where_references_to_functions_travel() {
    let check = |old: &str, new: &str| {
        assert!(VIRTUAL.contains(old));
        let finished = finish(&wasm(&VIRTUAL.replace(old, new)), &named()).unwrap();
        let kept = ["proxy_done", "proxy_get_log_level", "proxy_log"];
        assert!(metadata(&finished).host_functions.iter().eq(kept), "{new}");
        assert_eq!(finish(&finished, &named()), Ok(finished));
    };
    let export = "(func (export \"proxy_abi_version_0_2_1\"))";
    let exports = |more: &str| format!("{more} {export}");
    check("(table 9 funcref)", "(table (export \"table\") 9 funcref)");
    check("(table 9 funcref)", "(import \"env\" \"table\" (table 9 funcref))");
    check(
        export,
        &exports("(func (export \"take\") (result funcref) (table.get 0 (i32.const 2)))"),
    );
    check(
        export,
        &exports("(func (export \"copy\") (table.copy (i32.const 0) (i32.const 2) (i32.const 1)))"),
    );
    check(export, &exports("(global (export \"method\") funcref (ref.func $uncallable))"));
    check(
        "(elem (i32.const 1) $called",
        "(elem (i32.const 7) funcref (ref.null func)) (elem (i32.const 1) $called",
    );
    check("(param f32)", "(param i32)");
}

#[test]
fn finishing_is_deterministic_and_a_finished_module_stays_as_it_is() {
    for schema in [None, Some(json!(null)), Some(json!({"maximum": 0.123_456_789_012_345_67}))] {
        let description = Description { schema, ..Description::default() };
        let finished = finish(&wasm(FILTER), &description).unwrap();
        assert_eq!(finish(&wasm(FILTER), &description).unwrap(), finished);
        assert_eq!(finish(&finished, &description).unwrap(), finished);
        assert_eq!(finish(&finished, &Description::default()).unwrap(), finished);
    }
}

#[test]
fn a_module_of_another_sdk_keeps_its_callbacks_and_is_named_by_the_caller() {
    let text = FILTER
        .replace("\"tollgate.callbacks\"", "\"callbacks\"")
        .replace("\"tollgate.name\"", "\"name of it\"");
    let linked = wasm(&text);
    let finished = finish(&linked, &named()).unwrap();
    let (before, after) = (read(&linked), read(&finished));
    assert_eq!(exports(&before), exports(&after));
    assert_eq!(metadata(&finished).name, "canary");
    assert_eq!(metadata(&finished).abi, AbiVersion::V0_2_1);
    assert!(metadata(&finished).callbacks.contains("proxy_on_response_metadata"));
}

#[test]
fn the_description_overrules_the_module() {
    let once = finish(&wasm(FILTER), &named()).unwrap();
    assert_eq!(metadata(&once).version, "0.1.0");
    let again = finish(&once, &Description::default()).unwrap();
    assert_eq!(metadata(&again).name, "canary");
}

#[test]
fn what_the_plugin_needs_is_told_also_when_finished_again() {
    let setting = r#"(@custom "tollgate.needs" "allow_on_headers_stop_iteration\0a")"#;
    let text = FILTER.trim_end().strip_suffix(')').unwrap();
    let once = finish(&wasm(&format!("{text} {setting})")), &named()).unwrap();
    let again = finish(&once, &Description::default()).unwrap();
    for finished in [once, again] {
        let needs: Vec<String> = metadata(&finished).needs.into_iter().collect();
        assert_eq!(needs, ["allow_on_headers_stop_iteration"]);
    }
    assert!(metadata(&finish(&wasm(FILTER), &named()).unwrap()).needs.is_empty());
}

#[test]
fn a_filter_that_lists_nothing_keeps_what_every_filter_needs() {
    let listed =
        ["proxy_on_context_create\\0a", "proxy_on_request_headers\\0a", "proxy_on_log\\0a"];
    let text = listed.iter().fold(FILTER.to_owned(), |text, name| text.replace(name, ""));
    let finished = finish(&wasm(&text), &named()).unwrap();
    let callbacks = metadata(&finished).callbacks;
    assert_eq!(callbacks.into_iter().collect::<Vec<_>>(), ["proxy_on_configure"]);
}

#[test]
fn what_cannot_be_finished_is_told() {
    let check = |old: &str, new: &str, expected: &str| {
        assert!(FILTER.contains(old));
        let error = finish(&wasm(&FILTER.replace(old, new)), &Description::default());
        assert_eq!(error.unwrap_err().to_string(), expected);
    };
    check(
        "proxy_on_log\\0a",
        "proxy_on_tick\\0aproxy_on_lag\\0a",
        "callbacks proxy_on_lag and proxy_on_tick are listed but not exported; export or do not list them",
    );
    check(
        "proxy_on_log\\0aproxy_on_request_headers\\0a",
        "proxy_on_log",
        "section `tollgate.callbacks` does not end with a line feed; use one version of the SDK only",
    );
    check(
        "ratelimit",
        "\\ff",
        "section `tollgate.name` is not UTF-8; use one version of the SDK only",
    );
    check(
        "ratelimit",
        "ratelimit\\0acanary\\0a",
        "section `tollgate.name` holds canary and ratelimit; say which one is meant",
    );
    check(
        "tollgate.version",
        "version",
        "module has no section `tollgate.version` to take its version from; give one",
    );
    check(
        "ratelimit",
        "rate\\09limit",
        "name \"rate\\tlimit\" is not one line of text; choose another",
    );
    check(
        "(func (export \"on_my_own\"))",
        "(func (export \"proxy_abi_version_0_1_0\"))",
        "exports declare abi versions 0.2.1 and 0.1.0; link one SDK only",
    );
    check(
        "proxy_abi_version_0_2_1",
        "proxy_abi_version_9",
        "no export declares an abi version; build the filter with a Proxy-Wasm SDK",
    );
    check(
        "\"target_features\" \"\\00\"",
        "\"tollgate\" \"{\"",
        "section `tollgate` is broken at line 1, column 1: EOF while parsing an object; build the module again",
    );
}

#[test]
fn what_is_no_module_is_told_apart_from_what_cannot_be_finished() {
    let error = finish(b"", &named()).unwrap_err();
    assert_eq!(error, FinishError::Invalid(InvalidModule::Empty));
}

#[test]
fn a_schema_too_deep_to_be_read_again_is_not_written() {
    let deep = (0..200).fold(json!(0), |schema, _| json!([schema]));
    let description = Description { schema: Some(deep), ..named() };
    let error = finish(&wasm(FILTER), &description).unwrap_err();
    assert!(error.to_string().contains("recursion limit exceeded"), "{error}");
}

#[test]
fn a_module_of_absurdly_many_locals_is_not_cut() {
    let locals = format!("(func (local {}))", "i32 ".repeat(50_000)).repeat(21);
    let text = format!(r#"(module {FLOOR} (func (export "proxy_abi_version_0_2_1")) {locals})"#);
    let error = finish(&wasm(&text), &named()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "functions declare 1050000 locals, above 1048576; split the functions"
    );
}

#[test]
fn metadata_is_strict_about_its_own_keys_and_passes_over_new_ones() {
    let check = |json: &str, expected: Result<&str, &str>| {
        let found = Metadata::parse(json.as_bytes());
        let found = found.map(|it| it.name).map_err(|it| it.to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    };
    let whole = r#"{"name":"a","version":"1","abi":"0.2.0","callbacks":["b"],"host_functions":[]}"#;
    check(whole, Ok("a"));
    check(&whole.replace('}', r#","signed_by":["c"]}"#), Ok("a"));
    check(
        &whole.replace("\"version\":\"1\",", ""),
        Err(
            "section `tollgate` is broken at line 1, column 64: missing field `version`; build the module again",
        ),
    );
    check(
        &whole.replace("0.2.0", "0.9.0"),
        Err(
            "section `tollgate` is broken at line 1, column 39: abi version \"0.9.0\" is not 0.1.0, 0.2.0 or 0.2.1; build the module again",
        ),
    );
    check(
        &whole.replace("[\"b\"]", "\"b\""),
        Err(
            "section `tollgate` is broken at line 1, column 55: invalid type: string \"b\", expected a sequence; build the module again",
        ),
    );
    check(
        &whole.replace("\"a\"", "\"\""),
        Err("name \"\" is not one line of text; choose another"),
    );
}

#[test]
fn two_records_are_one_too_many() {
    let twice = r#"(module (@custom "tollgate" "{}") (@custom "tollgate" "{}"))"#;
    let error = read(&wasm(twice)).metadata().unwrap_err();
    assert_eq!(
        error.to_string(),
        "section `tollgate` stands 2 times in place of once; build the module again"
    );
}
