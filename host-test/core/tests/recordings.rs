//! Recordings as scenarios: what a session says, step by step.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tollgate_host::recording::{NotWritten, Session, Written, as_scenario};
use tollgate_host::scenario::Scenario;

const HEAD: &str = r#"{"tollgate_recording":1,"filters":[{"filter":"guest","config":"{\"a\":1}","allow_on_headers_stop_iteration":false,"code":1}],"workers":2,"clusters":["authz"],"imports":{},"wall":0,"redacted":[]}"#;

/// A line: what came at a number of milliseconds, and what the proxy did.
fn line(at: u64, input: &Value, outputs: &Value) -> String {
    json!({ "at": at * 1_000_000, "in": input, "out": outputs }).to_string()
}

fn open(path: &str) -> Value {
    let head =
        json!({ "method": "POST", "path": path, "authority": "a", "headers": [["x-a", "1"]] });
    json!({ "open": { "worker": 1, "head": head, "end": false } })
}

/// What the proxy sends upstream and to the client, and the end.
fn sent_on(stream: u64, path: &str) -> Value {
    let headers = json!([["x-a", "1"], ["x-made", "2"], ["x-request-id", "7"]]);
    let head = json!({ "method": "POST", "path": path, "headers": headers });
    json!({ "stream": [stream, { "request": { "head": { "head": head, "end": false } } }] })
}

fn over(stream: u64, status: u16) -> Vec<Value> {
    let head = json!({ "status": status, "headers": [["server", "envoy"]], "body": "no" });
    vec![
        json!({ "stream": [stream, { "response": { "head": { "head": head, "end": true } } }] }),
        json!({ "stream": [stream, { "over": { "is_reset": false, "has_arrived": status == 200 } }] }),
    ]
}

fn answer(stream: u64) -> Value {
    json!({ "answer": { "stream": stream, "status": 200, "headers": [], "end": true } })
}

fn write(lines: &[String]) -> Result<Written, NotWritten> {
    let text = [&[HEAD.to_owned()], lines].concat().join("\n") + "\n";
    as_scenario(&Session::read_all(text.as_bytes()).unwrap()[0], "recorded")
}

fn exchange(at: u64) -> String {
    let filter = json!({ "filter": "guest", "config": "text", "allow_on_headers_stop_iteration": false, "code": 1 });
    let input = json!({ "exchange": { "place": 0, "filter": filter } });
    line(at, &input, &json!([{ "refused": "rules: missing" }]))
}

#[test]
fn requests_exchanges_and_pauses_become_steps() {
    let chunk = |stream: u64, text: &str| json!({ "request": [stream, { "body": text }] });
    let end = |stream: u64| json!({ "request": [stream, "end"] });
    let written = write(&[
        line(5, &open("/one"), &json!([sent_on(1, "/one")])),
        line(6, &chunk(1, "ab"), &json!([])),
        line(7, &chunk(1, "c"), &json!([])),
        line(8, &end(1), &json!([])),
        line(28, &answer(1), &json!(over(1, 200))),
        exchange(40),
        line(50, &open("/two"), &json!([])),
        line(60, &open("/three"), &json!(over(3, 403))),
        line(
            70,
            &json!({ "leave": 2 }),
            &json!([{ "stream": [2, { "over": { "is_reset": false, "has_arrived": false } }] }]),
        ),
        line(80, &open("/never"), &json!([])),
    ])
    .unwrap();
    assert_eq!(written.unfinished, 1);
    let scenario = &written.scenario;
    Scenario::parse(&scenario.to_string()).unwrap();
    assert_eq!(scenario["filters"][0]["config"], json!({ "a": 1 }));
    let steps = &scenario["steps"];
    let first = json!({
        "request": { "method": "POST", "path": "/one", "authority": "a", "headers": [["x-a", "1"]], "body": ["ab", "c"] },
        "worker": 1,
        "upstream": { "status": 200, "headers": [], "delay": "23ms" },
        "expect": {
            "upstream": { "method": "POST", "path": "/one", "headers": [["x-made", "2"]] },
            "response": { "status": 200, "body": "no", "headers": [] },
        },
    });
    assert_eq!(steps[0], json!({ "advance": "5ms" }));
    assert_eq!(steps[1], first);
    assert_eq!(steps[2], json!({ "advance": "12ms" }));
    let configure = json!({ "filter": 0, "config": "text", "refused": "rules: missing" });
    assert_eq!(steps[3], json!({ "configure": configure }));
    assert_eq!(steps[4], json!({ "advance": "10ms" }));
    let together = &steps[5]["together"];
    assert_eq!(together[0]["request"]["disconnect"], "20ms");
    assert_eq!(together[0]["expect"], json!({ "upstream": "none", "response": "left" }));
    assert_eq!(
        (&together[1]["after"], &together[1]["request"]["path"]),
        (&json!("10ms"), &json!("/three"))
    );
    assert_eq!(together[1]["expect"]["response"]["status"], 403);
    assert_eq!(steps.as_array().unwrap().len(), 6);
}

#[test]
fn a_filter_is_exchanged_while_a_request_waits_for_its_upstream() {
    let alone = write(&[
        line(5, &open("/one"), &json!([sent_on(1, "/one")])),
        exchange(6),
        line(8, &answer(1), &json!(over(1, 200))),
    ]);
    let configure = json!({ "filter": 0, "config": "text", "refused": "rules: missing" });
    let scenario = alone.unwrap().scenario;
    Scenario::parse(&scenario.to_string()).unwrap();
    assert_eq!(scenario["steps"][1]["meanwhile"], json!({ "configure": configure }));
    assert_eq!(scenario["steps"].as_array().unwrap().len(), 2);

    let together = write(&[
        line(5, &open("/one"), &json!([sent_on(1, "/one")])),
        line(6, &open("/two"), &json!([sent_on(2, "/two")])),
        exchange(7),
        line(8, &open("/three"), &json!(over(3, 403))),
        line(9, &answer(1), &json!(over(1, 200))),
        line(10, &answer(2), &json!(over(2, 200))),
    ]);
    let scenario = together.unwrap().scenario;
    Scenario::parse(&scenario.to_string()).unwrap();
    let together = &scenario["steps"][1]["together"];
    let has_one = |at: usize| together[at].get("meanwhile").is_some();
    assert_eq!([has_one(0), has_one(1), has_one(2)], [false, true, false]);
}

#[test]
fn what_no_scenario_can_say_is_an_error() {
    let check = |lines: &[String], expected: &str| {
        let error = write(lines).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&[line(5, &open("/"), &json!([]))], "no request came to an end");
    check(
        &[
            line(5, &open("/"), &json!([])),
            exchange(6),
            line(7, &json!("time"), &json!(over(1, 403))),
        ],
        "a filter was exchanged at 6ms, while POST / or a request behind it was under way",
    );
    // One begins after the upstream was asked, and finds the old filter.
    check(
        &[
            line(5, &open("/one"), &json!([sent_on(1, "/one")])),
            line(6, &open("/two"), &json!([])),
            exchange(7),
            line(8, &answer(1), &json!(over(1, 200))),
            line(9, &json!("time"), &json!(over(2, 403))),
        ],
        "a filter was exchanged at 7ms, while POST /one or",
    );
    check(
        &[
            line(5, &open("/one"), &json!([sent_on(1, "/one")])),
            exchange(6),
            exchange(7),
            line(8, &answer(1), &json!(over(1, 200))),
        ],
        "a filter was exchanged at 7ms, while POST /one or",
    );
    let seeds = "../../filters/mtls/fuzz/seeds/certificate";
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(seeds);
    let certificate = STANDARD.encode(std::fs::read(seeds.join("other-name.der")).unwrap());
    let connect = json!({ "connect": {
        "local": certificate, "peer": null, "peer_is_valid": false, "server_name": null,
        "version": "TLSv1.3",
    } });
    check(
        &[line(5, &connect, &json!([]))],
        "a client connected at 5ms with a certificate, or to one,",
    );
    let mut lines: Vec<String> = (0..17).map(|at| line(at, &open("/"), &json!([]))).collect();
    lines.extend((1..18).map(|stream| line(20, &json!("time"), &json!(over(stream, 403)))));
    check(&lines, "17 requests were under way at once from 0ns on, the first of them POST /;");
}
