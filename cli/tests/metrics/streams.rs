//! Each stream is counted exactly once by a real Envoy, however it goes: what a scenario cannot say, with
//! both ends byte by byte. Each case has its name in `x-case`, and is one series.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::thread::{scope, sleep};
use std::time::Duration;

use serde_json::json;

use crate::common::envoy::{Envoy, fetched};
use crate::conversation::Turn::{self, Hears, Says, Sends};
use crate::conversation::{case, client, talk, upstream};
use crate::folder;
use crate::proxy::{Proxy, proxy, series, to_upstream, value, wait_until};

/// How long there must be no further count.
const CALM: Duration = Duration::from_millis(500);

const POLICY: &str = r"
filter: metrics
config:
  profile: custom
  in_flight: true
  report_seconds: 1
  labels:
    - { name: case, header: x-case }
    - { name: code, fact: code }
    - { name: flags, fact: flags }
    - { name: outcome, fact: outcome }
";

const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 503 Broken\r\nconnection: close\r\n\r\n";
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf";
const UPGRADED: &str =
    "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
/// Waits until the other end has closed.
const END: Turn = Hears("\0never\0");

struct Case {
    name: &'static str,
    client: Vec<Turn>,
    /// For each time that the upstream is asked.
    upstream: Vec<Vec<Turn>>,
    /// Code, flags and outcome.
    expected: (&'static str, &'static str, &'static str),
}

/// The head of a request.
fn head(line: &str, case: &str, lines: &str) -> Turn {
    Says(format!("{line} HTTP/1.1\r\nhost: a\r\nx-case: {case}\r\n{lines}\r\n"))
}

fn says(text: &str) -> Turn {
    Says(text.to_owned())
}

/// Over HTTP/2 a client asks, and once it has heard a half, resets the stream.
fn resets_over_http2(case: &str) -> Vec<Turn> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // GET, http, and literals that are not indexed: path, authority and the case.
    let headers = [
        vec![0x82, 0x86, 0x04],
        text("/served"),
        vec![0x01],
        text("a"),
        vec![0x00],
        text("x-case"),
        text(case),
    ];
    let (settings, headers) = (frame(4, 0, 0, &[]), frame(1, 5, 1, &headers.concat()));
    let cancel = frame(3, 0, 1, &[0, 0, 0, 8]);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    vec![Sends([preface, settings, headers].concat()), Hears("half"), Sends(cancel), END]
}

fn case_of(
    name: &'static str,
    client: Vec<Turn>,
    upstream: Vec<Vec<Turn>>,
    expected: (&'static str, &'static str, &'static str),
) -> Case {
    Case { name, client, upstream, expected }
}

/// A client asks, and waits until this has come.
fn get(path: &str, case: &str, hears: &'static str) -> Vec<Turn> {
    vec![head(&format!("GET {path}"), case, ""), Hears(hears)]
}

/// Streams that come to the end that client and upstream want.
#[rustfmt::skip]
fn that_are_served() -> Vec<Case> {
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    let success = |code| (code, "-", "success");
    vec![
        case_of("plain", get("/served", "plain", "200"), vec![vec![says(OK)]], success("200")),
        case_of(
            "100-continue",
            vec![
                head("POST /served", "100-continue", "expect: 100-continue\r\ncontent-length: 5\r\n"),
                Hears("100 Continue"), says("hello"), Hears("200"),
            ],
            vec![vec![says("HTTP/1.1 100 Continue\r\n\r\n"), Hears("hello"), says(OK)]],
            success("200"),
        ),
        case_of(
            "103-early-hints",
            get("/served", "103-early-hints", "200"),
            vec![vec![says("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), says(OK)]],
            success("200"),
        ),
        case_of(
            "101-websocket",
            vec![head("GET /served", "101-websocket", upgrade), Hears("101"), says("ping"), Hears("pong")],
            vec![vec![says(UPGRADED), Hears("ping"), says("pong"), END]],
            ("101", "DC", "disconnected"),
        ),
        case_of(
            "101-websocket-ended-by-the-upstream",
            vec![head("GET /served", "101-websocket-ended-by-the-upstream", upgrade), Hears("pong"), END],
            vec![vec![says(UPGRADED), says("pong")]],
            ("101", "UC", "success"),
        ),
        case_of(
            "connect",
            vec![head("CONNECT a:80", "connect", ""), Hears("200"), says("ping"), Hears("pong"), END],
            vec![vec![says("HTTP/1.1 200 OK\r\n\r\n"), Hears("ping"), says("pong")]],
            ("200", "UC", "success"),
        ),
        case_of(
            "retried",
            get("/retried", "retried", "200"),
            vec![vec![says(BROKEN)], vec![says(OK)]],
            success("200"),
        ),
        case_of(
            "retried-in-vain",
            get("/retried", "retried-in-vain", "503"),
            vec![vec![says(BROKEN)], vec![says(BROKEN)]],
            ("503", "URX", "server_error"),
        ),
        case_of(
            "redirected",
            get("/redirected", "redirected", "200"),
            vec![
                vec![says("HTTP/1.1 302 Found\r\nlocation: http://a/served\r\nconnection: close\r\n\r\n")],
                vec![says(OK)],
            ],
            success("200"),
        ),
    ]
}

/// Streams that somebody ends before, or that the proxy answers.
#[rustfmt::skip]
fn that_are_not() -> Vec<Case> {
    vec![
        case_of(
            "left",
            vec![head("GET /served", "left", "")],
            vec![vec![END]],
            ("0", "DC", "disconnected"),
        ),
        case_of(
            "left-in-the-body",
            get("/served", "left-in-the-body", "half"),
            vec![vec![says(HALF), END]],
            ("200", "DC", "disconnected"),
        ),
        case_of(
            "reset-over-http2",
            resets_over_http2("reset-over-http2"),
            vec![vec![says(HALF), END]],
            ("200", "DR", "disconnected"),
        ),
        case_of(
            "broken-by-the-upstream",
            get("/served", "broken-by-the-upstream", "503"),
            vec![vec![]],
            ("503", "UC", "server_error"),
        ),
        case_of(
            "broken-in-the-body",
            vec![head("GET /served", "broken-in-the-body", ""), Hears("half"), END],
            vec![vec![says(HALF)]],
            ("200", "UPE", "server_error"),
        ),
        case_of(
            "too-slow",
            get("/slow", "too-slow", "504"),
            vec![vec![END]],
            ("504", "UT", "server_error"),
        ),
        case_of("no-route", get("/nowhere", "no-route", "404"), vec![], ("404", "NR", "client_error")),
        case_of("direct", get("/direct", "direct", "418"), vec![], ("418", "-", "client_error")),
        case_of(
            "aborted-by-another-filter",
            vec![
                head("GET /served", "aborted-by-another-filter", "x-envoy-fault-abort-request: 429\r\n"),
                Hears("429"),
            ],
            vec![],
            ("429", "FI", "client_error"),
        ),
        case_of("", vec![says("nonsense\r\n\r\n"), Hears("400")], vec![], ("400", "DPE", "client_error")),
    ]
}

/// An Envoy with the policy that does all that the cases need.
fn with_all<'a>(proxy: Proxy<'a>, cases: &[Case]) -> Proxy<'a> {
    let turns: BTreeMap<&'static str, Vec<Vec<Turn>>> =
        cases.iter().map(|case| (case.name, case.upstream.clone())).collect();
    let upstream = upstream(move |head, before| {
        let of_case = turns.get(case(head)).and_then(|turns| turns.get(before));
        of_case.cloned().unwrap_or_default()
    });
    let retried = json!({ "retry_policy": { "retry_on": "5xx", "num_retries": 1 } });
    let redirected = json!({ "internal_redirect_policy": { "max_internal_redirects": 1 } });
    let connect = json!({ "match": { "connect_matcher": {} }, "route": { "cluster": "upstream" } });
    let abort = json!({ "header_abort": {}, "percentage": { "numerator": 100 } });
    let fault = json!({
        "name": "envoy.filters.http.fault",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            "abort": abort,
        },
    });
    proxy
        .upstream(upstream)
        .behind(fault)
        .options(json!({
            "proxy_100_continue": true,
            "upgrade_configs": [{ "upgrade_type": "websocket" }, { "upgrade_type": "CONNECT" }],
        }))
        .routes(json!([
            to_upstream("/served", &json!({})),
            to_upstream("/retried", &retried),
            to_upstream("/redirected", &redirected),
            to_upstream("/slow", &json!({ "timeout": "0.3s" })),
            { "match": { "prefix": "/direct" }, "direct_response": { "status": 418 } },
            connect,
        ]))
}

#[test]
fn each_stream_is_counted_once_however_it_goes() {
    let Some(envoy) = fetched() else { return };
    let cases: Vec<Case> = that_are_served().into_iter().chain(that_are_not()).collect();
    let envoy = with_all(proxy(&envoy, &folder("streams"), POLICY), &cases).start();
    scope(|scope| {
        for case in &cases {
            scope.spawn(|| client(envoy.listener, &case.client));
        }
    });
    let expected: BTreeMap<String, u64> = (cases.iter())
        .map(|Case { name, expected: (code, flags, outcome), .. }| {
            let labels =
                format!(r#"case="{name}",code="{code}",flags="{flags}",outcome="{outcome}""#);
            (labels, 1)
        })
        .collect();
    let counted = || series(envoy.admin, "tollgate_metrics_requests_total");
    wait_until(|| counted().len() >= expected.len());
    sleep(CALM);
    assert_eq!(counted(), expected);
    assert_eq!(value(envoy.admin, "tollgate_metrics_counted"), cases.len() as u64);
    assert_eq!(value(envoy.admin, "tollgate_metrics_in_flight"), 0);
    assert_eq!(value(envoy.admin, "tollgate_metrics_errors"), 0);
}

#[test]
fn an_open_stream_is_reported_while_it_is_open() {
    let Some(envoy) = fetched() else { return };
    let upstream = upstream(|_, _| vec![says(UPGRADED), says("hello"), Hears("ping"), END]);
    let envoy = proxy(&envoy, &folder("open"), POLICY)
        .upstream(upstream)
        .options(json!({ "upgrade_configs": [{ "upgrade_type": "websocket" }] }))
        .routes(json!([to_upstream("/", &json!({}))]))
        .start();
    let of = |envoy: &Envoy, metric: &str| series(envoy.admin, metric).into_values().sum::<u64>();
    let passed = |envoy: &Envoy| {
        ["received", "sent"].map(|way| of(envoy, &format!("tollgate_metrics_{way}_bytes_total")))
    };
    let client = TcpStream::connect(envoy.listener).unwrap();
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    let begin = [head("GET /served", "long", upgrade), Hears("101"), says("ping")];
    talk(client.try_clone().unwrap(), Vec::new(), &begin);
    wait_until(|| passed(&envoy) == [4, 5]);
    // It is still open: not counted yet, and in flight.
    assert_eq!(passed(&envoy), [4, 5]);
    assert_eq!(of(&envoy, "tollgate_metrics_requests_total"), 0);
    assert_eq!(value(envoy.admin, "tollgate_metrics_in_flight"), 1);
    drop(client);
    wait_until(|| of(&envoy, "tollgate_metrics_requests_total") == 1);
    assert_eq!(passed(&envoy), [4, 5]);
    assert_eq!(value(envoy.admin, "tollgate_metrics_in_flight"), 0);
}
