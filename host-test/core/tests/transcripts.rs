//! Transcripts for tools: events, the page, and what Envoy logs of the border.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::Arc;

use common::{Scripted, agree, log, respond};
use serde_json::json;
use tollgate_abi::{Call, Callback, MapType};
use tollgate_host::engine::{Module, Trap};
use tollgate_host::offline::Offline;
use tollgate_host::proxy::StartError;
use tollgate_host::run::play;
use tollgate_host::scenario::{FilterUse, HostName, Scenario};
use tollgate_host::transcript::{Event, What, envoy_log, events, html, lines};
use tollgate_host::world::World;

#[expect(clippy::unnecessary_wraps, reason = "as every guest is")]
fn guest(world: &mut World, callback: &Callback) -> Result<u32, Trap> {
    if let Callback::RequestHeaders { .. } = callback {
        let name = b"x-a".to_vec();
        world.handle(Call::GetHeaderMapValue { map: MapType::ResponseHeaders, name });
        log(world, "denies");
        respond(world, 403, &[("why", "<b>")], "no");
        return Ok(1);
    }
    Ok(agree(callback))
}

fn traced() -> Vec<Event> {
    trace("name: x\nfilters: [ { filter: x } ]\nsteps: [ { advance: 1500ms }, { request: {} } ]")
}

fn trace(text: &str) -> Vec<Event> {
    let loader = |_: &FilterUse| -> Result<Arc<dyn Module>, StartError> {
        Ok(Arc::new(Scripted::new(guest)))
    };
    let scenario = Scenario::parse(text).unwrap();
    let host = Offline::new(HostName::Wasmtime, &loader);
    let mut run = host.start_recorded(&scenario).map_err(|(error, _)| error).unwrap();
    assert_eq!(play(&scenario, &mut run), []);
    events(&run.take_timed_transcript())
}

#[test]
fn a_transcript_is_events() {
    let events = serde_json::to_value(traced()).unwrap();
    let find = |part: &str| {
        let events = events.as_array().unwrap();
        let found = events.iter().find(|event| event.to_string().contains(part));
        found.unwrap_or_else(|| panic!("no `{part}`")).clone()
    };
    assert_eq!(
        find("proxy_on_request_headers"),
        json!({
            "at_seconds": 1.5,
            "entry": "callback",
            "guest": "x@0",
            "name": "proxy_on_request_headers",
            "context": 2,
            "arguments": [
                { "name": "context", "value": "2" },
                { "name": "count", "value": "5" },
                { "name": "end_of_stream", "value": "true" },
            ],
        })
    );
    let reply = find("proxy_send_local_response");
    assert_eq!(reply["guest"], "x@0");
    assert_eq!(reply["arguments"][3], json!({ "name": "headers", "value": "[why: <b>]" }));
    assert_eq!((&reply["status"], &reply["answer"]), (&"ok".into(), &serde_json::Value::Null));
    let refused = find("proxy_get_header_map_value");
    assert_eq!(refused["status"], "bad_argument");
    assert!(refused["why"].as_str().unwrap().contains("proxy_on_response_headers"), "{refused}");
    assert_eq!(find("at_seconds\":0.0")["entry"], "callback");
}

#[test]
fn what_ends_of_a_connection_do_is_told_in_the_words_of_scenarios() {
    let text = "name: x\nprotocol: tcp\nfilters: [ { filter: x } ]\nsteps:\n  - connection:\n      - client: { sends: \"a\\n\" }\n      - upstream: { sends: { hex: ff } }\n      - client: ends\n      - upstream: resets\n";
    let events = trace(text);
    let notes = events.iter().filter_map(|event| match &event.what {
        What::Note { text } => Some(text.as_str()),
        _ => None,
    });
    let notes: Vec<&str> =
        notes.filter(|note| note.starts_with("client ") || note.starts_with("upstream ")).collect();
    assert_eq!(
        notes,
        ["client sends \"a\\n\"", "upstream sends \"\\xff\"", "client ends", "upstream resets"]
    );
}

#[test]
fn a_transcript_is_a_page() {
    let page = html("a scenario", &traced());
    for part in ["x@0 · context 2", "[why: &lt;b&gt;]", ">1.5s</time>", "call refused"] {
        assert!(page.contains(part), "`{part}` is not in {page}");
    }
    assert!(!page.contains("<b>]") && !page.contains("src=") && !page.contains("http:"), "{page}");
}

const LOG: &str = include_str!("envoy-log/ratelimit.log");

#[test]
fn what_envoy_logs_is_a_transcript() {
    let read = envoy_log(LOG);
    let lines: Vec<String> = read.events.iter().map(ToString::to_string).collect();
    let begin = lines.iter().position(|line| line.contains("proxy_on_request_headers")).unwrap();
    let rest: Vec<&str> = lines[begin..].iter().map(|line| line.trim_start()).collect();
    let thread = rest[0].split(" proxy").next().unwrap();
    assert_eq!(
        rest[..6],
        [
            &*format!("{thread} proxy_on_request_headers(context=2, count=9, end_of_stream=true)"),
            "proxy_get_header_map_pairs(map=request_headers, pairs_data=1046936, pairs_size=1046940) = ok",
            "proxy_get_current_time_nanoseconds(nanoseconds=1047248) = ok",
            "proxy_get_shared_data(key_data=1185024, key_size=45, value_data=1045696, value_size=1045700, cas=1045704) = not_found",
            "proxy_set_shared_data(key_data=1185024, key_size=45, value_data=1185088, value_size=137, cas=4294967295) = ok",
            "proxy_increment_metric(metric=4, offset=1) = ok",
        ]
    );
    assert!(rest.contains(&"-> stop_iteration"), "{rest:?}");
    let logged = "proxy_log(level=info, message=\"ratelimit: per-path: refused for 3600 s\") = ok";
    assert!(rest.contains(&logged), "{rest:?}");
    let others = read.events.iter().filter(|event| matches!(event.what, What::Other { .. }));
    assert_eq!(others.count(), read.other_lines);
    let of_the_border = LOG.lines().filter(|line| line.contains("vm]") || line.contains("host]"));
    let own = LOG.lines().filter(|line| line.contains("vm->host]") || line.contains("vm<-host]"));
    let (all, own) = (LOG.lines().count(), own.count());
    let logged = LOG.lines().filter(|line| line.contains("wasm log")).count();
    let told = of_the_border.count() + logged + read.other_lines;
    assert!(own > 40 && logged == 1 && told == all, "{all} lines");
    assert!(read.events.iter().any(|event| event.at.as_millis() > 0));
}

#[test]
fn what_threads_do_at_once_is_told_apart() {
    let on = |thread: u32, text: &str| {
        format!("[2026-11-28 16:09:05.510][{thread}][trace][wasm] [source/w.cc:39] {text}\n")
    };
    let log = [
        on(1, "[host->vm] proxy_on_request_headers(2, 3, 0)"),
        on(2, "[host->vm] proxy_on_tick(1)"),
        on(1, "[vm->host] env.proxy_log(2, 1024, 7)"),
        on(2, "[vm->host] env.proxy_log(3, 1024, 4)"),
        on(2, "wasm log my: root: b: c"),
        on(1, "wasm log: two\nlin"),
        on(1, "[vm<-host] env.proxy_log return: 0"),
        on(2, "[vm<-host] env.proxy_log return: 0"),
        on(2, "[host<-vm] proxy_on_tick return: void"),
        on(1, "wasm log: of nobody"),
        on(1, "[host<-vm] proxy_on_request_headers return: 0"),
    ];
    let read = envoy_log(&log.concat());
    let lines = lines(&read.events);
    let lines: Vec<&str> =
        lines.iter().filter(|line| !line.starts_with('[')).map(String::as_str).collect();
    assert_eq!(
        lines,
        [
            "  thread 1 proxy_on_request_headers(context=2, count=3, end_of_stream=false)",
            "  thread 2 proxy_on_tick(context=1)",
            "    thread 1 proxy_log(level=info, message=\"two\\nlin\") = ok",
            "    thread 2 proxy_log(level=warn, message=\"b: c\") = ok",
            "  -> nothing",
            "  thread 1 -> continue",
        ]
    );
    assert_eq!(read.other_lines, 1);
    let guests: Vec<_> = read.events.iter().map(|event| event.what.guest()).collect();
    let (one, two) = (Some("thread 1"), Some("thread 2"));
    assert_eq!(guests, [one, two, one, two, two, None, one]);
}

#[test]
fn a_line_that_is_broken_is_kept() {
    let check = |text: &str, events: &[&str], other_lines: usize| {
        let read = envoy_log(text);
        let lines: Vec<String> = read.events.iter().map(ToString::to_string).collect();
        assert_eq!(lines, events, "{text}");
        assert_eq!(read.other_lines, other_lines, "{text}");
    };
    check("", &[], 0);
    check("[host->vm] proxy_on_tick(1)", &["  vm proxy_on_tick(context=1)"], 0);
    check("[host->vm] proxy_on_tick(1", &["[host->vm] proxy_on_tick(1"], 1);
    check("[host->vm] run(7, -1)", &["  vm run(0=7, 1=-1)"], 0);
    check("[vm->host] env.mine(7)\n[vm<-host] env.mine return: 3", &["    env.mine(0=7) = 3"], 0);
    check("[vm->host] env.proxy_done()", &["    proxy_done() = no answer"], 0);
    check("[vm<-host] env.proxy_done return: 0", &["[vm<-host] env.proxy_done return: 0"], 1);
    check("[host<-vm] proxy_on_done return: 1", &["  -> true"], 0);
    check("[host->vm] malloc(4)\n[host<-vm] malloc return: 64", &[], 0);
    check("[elsewhere] text", &["[elsewhere] text"], 1);
    check("é[host->vm]", &["é[host->vm]"], 1);
}
