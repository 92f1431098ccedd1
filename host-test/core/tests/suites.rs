//! Suites of Service Extensions on the offline host: one that uses all of the format, and its wrong twin.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Scripted, agree, log, respond, status};
use tollgate_abi::{
    Answer, BufferType, Call, Callback, LogLevel, MapType, MetricType, Reply, Status, StreamType,
};
use tollgate_host::engine::{Module, Trap};
use tollgate_host::offline::Offline;
use tollgate_host::proxy::StartError;
use tollgate_host::report::Verdict;
use tollgate_host::scenario::{FilterUse, HostName, Scenario};
use tollgate_host::suite::{Suite, play};
use tollgate_host::world::World;

/// A guest that shows in its log and its headers what a suite shows it.
fn guest(world: &mut World, callback: &Callback) -> Result<u32, Trap> {
    match *callback {
        Callback::Configure { .. } => {
            let config = bytes(world, BufferType::PluginConfiguration);
            if config == "refuse" {
                log(world, "refused");
                return Ok(0);
            }
            log(world, &format!("configured with {config}"));
            let level = LogLevel::Debug;
            world.handle(Call::Log { level, message: b"a quiet line".to_vec() });
            let property = world.handle(Call::GetProperty { path: b"a\0b".to_vec() });
            assert_eq!(
                status(&property),
                Status::NotFound,
                "the plugin has no property of a stream"
            );
        }
        Callback::ContextCreate { parent, .. } if parent != 0 => {
            let root_id = world.handle(Call::GetProperty { path: b"plugin_root_id".to_vec() });
            assert_eq!(root_id, Reply::Done(Answer::Bytes(Vec::new())));
            log(world, "begins");
        }
        Callback::RequestHeaders { count, end_of_stream, .. } => {
            return Ok(on_request_headers(world, count, end_of_stream));
        }
        Callback::RequestBody { size, end_of_stream, .. } => {
            log(world, &format!("{size} bytes, end {end_of_stream}"));
            let (buffer, start) = (BufferType::HttpRequestBody, u32::MAX);
            let value = b"+".to_vec();
            world.handle(Call::SetBufferBytes { buffer, start, size: 0, value });
            out_of_phase(world);
            // What is returned does not matter to a suite.
            return Ok(1);
        }
        Callback::ResponseHeaders { .. } => {
            let map = MapType::ResponseHeaders;
            let pairs = world.handle(Call::GetHeaderMapPairs { map });
            let pairs = common::lines(&pairs);
            log(world, &pairs.join(" | "));
            set(world, map, "Server", "x");
            if pairs.iter().any(|line| line == "late: yes") {
                respond(world, 500, &[], "late");
            }
        }
        Callback::ResponseBody { .. } => {
            let body = bytes(world, BufferType::HttpResponseBody);
            if body == "trap" {
                log(world, "about to trap");
                return Err(Trap { message: "unreachable".into(), backtrace: Vec::new() });
            }
            let (buffer, value) = (BufferType::HttpResponseBody, body.to_uppercase().into_bytes());
            world.handle(Call::SetBufferBytes { buffer, start: 0, size: u32::MAX, value });
        }
        Callback::Done { context } if context > 1 => log(world, "ends"),
        Callback::Log { .. } => panic!("a suite does not log streams"),
        _ => {}
    }
    Ok(agree(callback))
}

fn on_request_headers(world: &mut World, count: usize, end_of_stream: bool) -> u32 {
    assert!(!end_of_stream);
    let map = MapType::RequestHeaders;
    log(world, &format!("{count} headers"));
    let path = get(world, map, ":PATH").unwrap_or_default();
    match path.as_str() {
        "/deny" => {
            respond(world, 403, &[("why", "first"), ("Why", "last")], "denied");
            return 0;
        }
        "/stop" => return 1,
        _ => {}
    }
    let (name, value) = (b"X-Seen".to_vec(), b"1".to_vec());
    world.handle(Call::AddHeaderMapValue { map, name: name.clone(), value: value.clone() });
    world.handle(Call::AddHeaderMapValue { map, name: b"List".to_vec(), value });
    world.handle(Call::RemoveHeaderMapValue { map, name: b"SECRET".to_vec() });
    assert_eq!(get(world, map, "x-seen").as_deref(), Some("1"));
    let property = world.handle(Call::GetProperty { path: b"a\0b".to_vec() });
    for path in [&b"a.b"[..], b"a\0b\0", b"\0a\0\0b"] {
        assert_eq!(world.handle(Call::GetProperty { path: path.to_vec() }), property);
    }
    if let Reply::Done(Answer::Bytes(value)) = property {
        log(world, &format!("a.b is {}", value.escape_ascii()));
    }
    let clocks = [Call::GetCurrentTime {}, Call::ClockTimeGet { clock: 1, precision: 0 }];
    for call in clocks {
        let Reply::Done(Answer::U64(now)) = world.handle(call) else { panic!("no time") };
        log(world, &format!("at {now}"));
    }
    let other = Call::GetHeaderMapValue { map: MapType::ResponseHeaders, name };
    assert_eq!(status(&world.handle(other)), Status::BadArgument);
    let kind = MetricType::Counter;
    let metric = world.handle(Call::DefineMetric { kind, name: b"m".to_vec() });
    assert_eq!(status(&metric), Status::Unimplemented);
    let stream = StreamType::HttpRequest;
    assert_eq!(status(&world.handle(Call::ContinueStream { stream })), Status::Unimplemented);
    0
}

/// What is not there while a body is.
fn out_of_phase(world: &mut World) {
    let map = MapType::RequestHeaders;
    assert_eq!(status(&world.handle(Call::GetHeaderMapPairs { map })), Status::BadArgument);
    let buffer = BufferType::HttpResponseBody;
    assert_eq!(status(&world.handle(Call::GetBufferStatus { buffer })), Status::NotFound);
    let headers = tollgate_abi::Serialized(Vec::new());
    let (details, body) = (Vec::new(), Vec::new());
    let reply =
        Call::SendLocalResponse { status_code: 500, details, body, headers, grpc_status: u32::MAX };
    assert_eq!(status(&world.handle(reply)), Status::BadArgument);
}

fn bytes(world: &mut World, buffer: BufferType) -> String {
    let call = Call::GetBufferBytes { buffer, start: 0, max_size: u32::MAX };
    let Reply::Done(Answer::Bytes(bytes)) = world.handle(call) else { panic!("no {buffer}") };
    String::from_utf8(bytes).unwrap()
}

fn get(world: &mut World, map: MapType, name: &str) -> Option<String> {
    match world.handle(Call::GetHeaderMapValue { map, name: name.as_bytes().to_vec() }) {
        Reply::Done(Answer::Bytes(value)) => Some(String::from_utf8(value).unwrap()),
        _ => None,
    }
}

fn set(world: &mut World, map: MapType, name: &str, value: &str) {
    let (name, value) = (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    assert_eq!(world.handle(Call::ReplaceHeaderMapValue { map, name, value }), Reply::OK);
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites")
}

/// Plays a suite, and tells what came of each test.
fn verdicts(file: &str, config: &str) -> String {
    let suite = Suite::read(&folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let loader = |_: &FilterUse| -> Result<Arc<dyn Module>, StartError> {
        Ok(Arc::new(Scripted::new(guest)))
    };
    let host = Offline::new(HostName::Wasmtime, &loader);
    let text = "name: x\nfilters: [ { filter: x } ]\nsteps: [ { request: {} } ]";
    let mut filter = Scenario::parse(text).unwrap().filters.remove(0);
    filter.config = config.as_bytes().to_vec();
    let mut out = String::new();
    for test in &suite.tests {
        match play(test, &suite.environment, &filter, &host).unwrap() {
            Verdict::Failed { failures } => {
                writeln!(out, "FAILED {}", test.name).unwrap();
                for failure in failures {
                    writeln!(out, "  {}", failure.to_string().replace('\n', "\n  ")).unwrap();
                }
            }
            verdict => writeln!(out, "{verdict:?} {}", test.name).unwrap(),
        }
    }
    out
}

#[test]
fn a_suite_that_uses_all_of_the_format_passes() {
    for file in ["every-field.textpb", "every-field.yaml"] {
        let verdicts = verdicts(file, "a configuration");
        assert!(verdicts.lines().count() > 4, "{verdicts}");
        assert!(verdicts.lines().all(|line| line.starts_with("Passed ")), "{file}: {verdicts}");
    }
}

/// The fields of `runner.proto`, by their messages.
const FORMAT: [(&str, &[&str]); 10] = [
    ("TestSuite", &["env", "test"]),
    (
        "Env",
        &[
            "test_path",
            "wasm_path",
            "config_path",
            "log_level",
            "log_path",
            "time_secs",
            "num_additional_streams",
            "additional_stream_advance_rate",
        ],
    ),
    (
        "Test",
        &[
            "name",
            "benchmark",
            "num_chunks",
            "chunk_size",
            "properties",
            "request_headers",
            "request_body",
            "response_headers",
            "response_body",
            "plugin_init",
            "stream_init",
            "stream_destroy",
        ],
    ),
    ("Property", &["path", "value"]),
    ("Invocation", &["input", "result"]),
    ("Input", &["header", "content", "file"]),
    ("Header", &["key", "value"]),
    ("Expectation", &["has_header", "no_header", "headers", "body", "immediate", "log"]),
    ("Immediate", &["http_status", "grpc_status", "details"]),
    ("StringMatcher", &["invert", "exact", "regex", "file"]),
];

#[test]
fn both_ways_to_write_it_have_all_fields_and_are_the_same_suite() {
    let read = |file: &str| std::fs::read_to_string(folder().join(file)).unwrap();
    for file in ["every-field.textpb", "every-field.yaml"] {
        let text = read(file);
        let words = text.split(|letter: char| !(letter.is_ascii_lowercase() || letter == '_'));
        let words: Vec<&str> = words.collect();
        for (message, fields) in FORMAT {
            for field in fields {
                assert!(words.contains(field), "{file} has no {message}.{field}");
            }
        }
    }
    let suite = |file: &str| format!("{:#?}", Suite::read(&folder().join(file)).unwrap());
    assert_eq!(suite("every-field.textpb"), suite("every-field.yaml"));
}

/// Each expectation that a twin can miss misses what the suite shows; what is not expected, such as
/// `benchmark`, cannot fail.
#[test]
fn its_wrong_twin_fails_in_the_right_places() {
    golden("wrong.expected", &verdicts("wrong.textpb", "a configuration"));
}

#[test]
fn a_plugin_that_does_not_start_fails_every_test() {
    let verdicts = verdicts("every-field.yaml", "refuse");
    assert!(verdicts.contains("plugin_init: refused\n"), "{verdicts}");
    assert!(!verdicts.contains("Passed"), "{verdicts}");
}

/// Compares with a file, which `BLESS=1` writes anew.
fn golden(file: &str, got: &str) {
    let path = folder().join(file);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, got).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(got, expected, "review {file} with BLESS=1");
}
