//! Scenarios from text: what is taken, and what is said of what is not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use tollgate_host::scenario::{ReadError, Scenario, Step};

const FILTERS: &str = "name: x\nfilters: [ { filter: ratelimit } ]\n";

fn refuse(text: &str, place: (u64, u64), expected: &str) {
    let error = Scenario::parse(text).unwrap_err();
    assert!(error.to_string().contains(expected), "{text}\nsays: {error}\nnot: {expected}");
    assert_eq!((error.line, error.column), place, "{text}\nsays: {error}");
}

const TCP: &str = "name: x\nprotocol: tcp\nfilters: [ { filter: ratelimit } ]\n";

#[test]
fn a_wrong_connection_is_refused_with_line_and_column() {
    let refuse_event = |event: &str, place: (u64, u64), expected: &str| {
        let text = format!("{TCP}steps:\n  - connection:\n      - {event}\n");
        refuse(&text, place, expected);
    };
    refuse_event("client: leaves", (6, 17), "`leaves`; write `ends`, `closes`, `resets` or");
    refuse_event("client: { send: x }", (6, 19), "unknown field `send`");
    refuse_event("{ client: ends, upstream: ends }", (6, 9), "an event is one of");
    refuse_event("expect: { upstream: nobody }", (6, 9), "write `none` or { got: …, end: … }");
    refuse_event("expect: { client: { end: gone } }", (6, 34), "unknown variant `gone`");
    let of_step = [
        ("client: { sends: '' }", "connection[0].client: sends: nothing"),
        ("client: ends\n      - client: { sends: x }", "connection[1].client: it has ended"),
        ("upstream: resets\n      - upstream: ends", "connection[1].upstream: it is gone"),
        (
            "client: ends\n    meanwhile: { configure: { filter: ratelimit } }",
            "belong to a request",
        ),
        ("client: ends\n    expect: { response: reset }", "stands among its events"),
        ("client: ends\n    repeat: 1000001", "bound of 1000000"),
    ];
    for (event, expected) in of_step {
        refuse_event(event, (5, 5), expected);
    }
    let long = format!("client: {{ sends: {} }}", "x".repeat(32_769));
    refuse_event(&long, (5, 5), "sends: 32769 bytes are above the bound of 32768");
}

#[test]
fn steps_are_those_of_the_protocol() {
    let request = "steps: [ { request: {} } ]\n";
    refuse(
        &format!("{TCP}{request}"),
        (4, 21),
        "steps[0].request: a scenario with `protocol: tcp`",
    );
    let connection = "steps: [ { connection: [] } ]\n";
    refuse(
        &format!("{FILTERS}{connection}"),
        (3, 24),
        "steps[0].connection: needs `protocol: tcp`",
    );
    refuse(&format!("{FILTERS}protocol: udp\n{request}"), (3, 11), "unknown variant `udp`");
    let callout =
        "steps:\n  - connection: []\n    callouts: [ { cluster: upstream, never: true } ]\n";
    refuse(&format!("{TCP}{callout}"), (6, 15), "`upstream` speaks TCP in this scenario");
    assert!(Scenario::parse(&format!("{TCP}{connection}")).is_ok());
}

/// The same, for steps below the fixed head of two lines.
fn refuse_step(step: &str, place: (u64, u64), expected: &str) {
    refuse(&format!("{FILTERS}steps:\n  - {step}\n"), place, expected);
}

#[test]
fn a_wrong_scenario_is_refused_with_line_and_column() {
    refuse("", (1, 1), "unexpected end of input");
    refuse("name: x\nfilters: []\nsteps: [ { advance: 1s } ]", (2, 10), "name at least one filter");
    refuse(FILTERS, (1, 1), "steps: missing");
    let filters = |filter: &str| {
        format!("name: x\nfilters: [ {{ filter: {filter} }} ]\nsteps: [ {{ advance: 1s }} ]")
    };
    for filter in ["''", "a.b"] {
        refuse(&filters(filter), (2, 22), "filters[0].filter: ");
    }
    let image =
        Scenario::parse(&filters("oci://registry:5000/filters/limit:1.0@sha256:ab")).unwrap();
    assert_eq!(image.filters[0].name, "limit");
    refuse(&format!("{FILTERS}stps: []\n"), (3, 1), "unknown field `stps`");
    refuse(
        &format!("{FILTERS}workers: 0\nsteps: [ {{ advance: 1s }} ]\n"),
        (3, 1),
        "`0` is too little; write 1 or more",
    );
    refuse(
        &format!("{FILTERS}workers: 17\nsteps: [ {{ advance: 1s }} ]\n"),
        (3, 10),
        "bound of 16",
    );
    refuse(&format!("{FILTERS}name: again\n"), (3, 1), "`name` is written twice; remove one");
    refuse(&format!("{FILTERS}steps: [\n"), (3, 8), "unclosed bracket");
    refuse(
        &format!("{FILTERS}refused: no\nsteps: [ {{ advance: 1s }} ]\n"),
        (4, 8),
        "refuses to start takes none",
    );
    refuse(
        &format!(
            "{FILTERS}only: {{ on: [wasmtime], reason: ' ' }}\nsteps: [ {{ advance: 1s }} ]\n"
        ),
        (3, 33),
        "only.reason: empty",
    );
    for (key, expected) in [
        ("proxy: { rout: {} }", "unknown field `rout`"),
        ("proxy: { listener: { direction: up } }", "unknown variant `up`"),
        ("proxy: { route: { metadata: { ns: text } } }", "expected map"),
        ("profile: apache", "unknown variant `apache`"),
        ("profile: nginx", "profile: a real Envoy is no other host"),
        ("imports: { env.x: trap }", "imports: a real Envoy refuses"),
        ("imports: { proxy_x: trap }", "write its module too, as in env.proxy_x"),
        ("imports: { env.proxy_log: trap }", "env.proxy_log is served by the host itself"),
        ("imports: { env.x: [] }", "imports: env.x: an empty list"),
        ("imports: { env.x: { bytes: a } }", "an answer of an import is `trap`"),
        ("imports: { env.x: { return: 0, bytes: a, number: 1 } }", "an answer of an import is"),
    ] {
        let text = format!("{FILTERS}{key}\nsteps: [ {{ advance: 1s }} ]\n");
        let error = Scenario::parse(&text).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    for (keys, expected) in [
        ("failure_policy: FAIL_OPEN", "unknown variant `FAIL_OPEN`"),
        ("failure_policy: open, reload_backoff: 1s", "reload_backoff belongs to"),
        ("reload_backoff: 1s", "reload_backoff belongs to"),
        ("failure_policy: reload, reload_backoff: 1ms", "1ms is below the least backoff, 2ms"),
    ] {
        let filter = format!("filters: [ {{ filter: x, {keys} }} ]");
        let text = format!("name: x\n{filter}\nsteps: [ {{ advance: 1s }} ]\n");
        let error = Scenario::parse(&text).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    for (names, expected) in [
        ("[]", "allowed_capabilities: none, which allows all"),
        ("[proxy_log, log]", "allowed_capabilities: `log` is no host function and no callback"),
        ("[malloc]", "`malloc` is no host function"),
    ] {
        let filter = format!("filters: [ {{ filter: x, allowed_capabilities: {names} }} ]");
        refuse(&format!("name: x\n{filter}\nsteps: [ {{ advance: 1s }} ]\n"), (2, 47), expected);
    }
    let names = "proxy_log, proxy_on_log, fd_write, fd_close, proxy_validate_configuration";
    let filter = format!("filters: [ {{ filter: x, allowed_capabilities: [{names}] }} ]");
    assert!(Scenario::parse(&format!("name: x\n{filter}\nsteps: [ {{ advance: 1s }} ]")).is_ok());
    let told = "properties: { connection.mtls: true }";
    refuse(
        &format!("{FILTERS}{told}\nsteps: [ {{ advance: 1s }} ]\n"),
        (3, 13),
        "a real Envoy cannot be told what it knows",
    );
    let not_a_value = "properties: { connection.mtls: [1] }";
    let text = format!("{FILTERS}{not_a_value}\nsteps: [ {{ advance: 1s }} ]\n");
    let error = Scenario::parse(&text).unwrap_err();
    assert!(error.to_string().contains("connection.mtls: write text"), "{error}");
    refuse(
        &format!("{FILTERS}only: {{ on: [nginx], reason: x }}\nsteps: [ {{ advance: 1s }} ]\n"),
        (3, 14),
        "unknown variant `nginx`",
    );
}

#[test]
fn what_no_client_sends_is_refused_where_envoy_is_to_play_it() {
    let belongs = "cannot be sent over HTTP/1.1 to a real Envoy";
    for (step, column, place) in [
        ("{ request: { path: /a b } }", 24, "steps[0].request.path: `/a b`"),
        ("{ request: { path: '/a#b' } }", 24, "steps[0].request.path: `/a#b`"),
        ("{ request: { method: 'GET X' } }", 26, "steps[0].request.method: `GET X`"),
        (
            r#"{ request: { headers: [ [a, "b\r\nc: d"] ] } }"#,
            27,
            r"steps[0].request.headers: `a: b\r\nc: d`",
        ),
        (
            r#"{ request: {}, upstream: { headers: [ [a, "\0"] ] } }"#,
            41,
            r"steps[0].upstream.headers: `a: \x00`",
        ),
    ] {
        refuse_step(step, (4, column), &format!("{place} {belongs}"));
        let alone = format!("{FILTERS}only: {{ on: [wasmtime], reason: x }}\nsteps:\n  - {step}\n");
        assert!(Scenario::parse(&alone).is_ok(), "{step}");
    }
}

#[test]
fn numbers_and_texts_are_asked_for_in_words_of_the_file() {
    let expect = |what: &str| format!("{{ request: {{}}, expect: {{ {what} }} }}");
    let whole = "a whole number from 0 to 18446744073709551615 is expected here";
    refuse_step(&expect("metrics: { g: -1 }"), (4, 44), whole);
    let whole = "a whole number from 0 to 65535 is expected here";
    refuse_step(&expect("response: { status: x }"), (4, 50), whole);
    refuse_step("{ request: {}, repeat: 0 }", (4, 20), "`0` is too little; write 1 or more");
    refuse_step("{ request: { path: null } }", (4, 24), "text is expected here; write \"\" where");
}

#[test]
fn a_mistake_in_a_file_is_told_of_the_file() {
    let folder = std::env::temp_dir().join(format!("tollgate-reading-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("wrong.yaml");
    std::fs::write(&file, format!("{FILTERS}stps: []\n")).unwrap();
    let said = Scenario::read(&file).unwrap_err().to_string();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(said.contains(&format!("--> {}:3:1", file.display())), "{said}");
}

#[test]
fn wrong_peers_are_refused_with_their_place() {
    for (key, expected) in [
        ("peers: {}", "peers: none; name at least one"),
        ("peers: { a: {}, a: {} }", "`a` is written twice"),
        ("peers: { a: { sans: [] } }", "unknown field `sans`"),
        ("peers: { a: { san: [spiffe] } }", "`spiffe` is not a subject alternative name"),
        ("peers: { a: { san: ['IP:10.0.0'] } }", "`IP:10.0.0` is not a subject alternative name"),
        ("peers: { a: { san: ['DNS:zürich'] } }", "in ASCII"),
        ("peers: { a: { subject: web } }", "peers.a.subject: `web` is not a distinguished name"),
        ("peers: { a: { serial: '' } }", "peers.a.serial: empty"),
        ("peers: { a: { serial: 'x1' } }", "peers.a.serial: `x1` is not hex"),
        ("peers: { a: { serial: 'ffffffffffffffffffffffffffffffffffffffff' } }", "159 bits"),
        ("peers: { a: { not_after: 1h } }", "`1h` is not a moment"),
        ("peers: { a: { not_after: '1969-01-01T00:00:00Z' } }", "not between 1970 and 2199"),
        ("peers: { a: { ca: maybe } }", "`maybe`; write true, false or none"),
        ("peers: { a: { key_usage: [] } }", "peers.a.key_usage: an empty list"),
        ("peers: { a: { key_usage: [signing] } }", "unknown variant `signing`"),
        ("peers: { a: { extended_key_usage: all } }", "`all`; write none or a list"),
        ("peers: { a: { certificate: none, ca: true } }", "peers.a.certificate: it has none"),
        ("peers: { a: { server_name: 10.0.0.1 } }", "`10.0.0.1` is not a name of a host"),
        ("peers: { a: { version: TLSv1.1 } }", "unknown variant `TLSv1.1`"),
        ("tls: { certificate: { server_name: a } }", "tls.certificate.server_name: belongs to"),
        ("tls: { trust_chain_verification: NONE }", "unknown variant `NONE`"),
        ("proxy: { forward_client_cert_details: ALWAYS }", "unknown variant `ALWAYS`"),
    ] {
        let text = format!("{FILTERS}{key}\nsteps: [ {{ advance: 1s }} ]\n");
        let error = Scenario::parse(&text).unwrap_err();
        assert!(error.to_string().contains(expected), "{key}: {error}");
    }
    for (keys, step, expected) in [
        ("", "{ request: {}, peer: a }", "steps[0].peer: a is not among `peers`; there are none"),
        ("peers: { a: {}, b: {} }", "{ request: {} }", "there are several `peers`: a, b"),
        ("peers: { a: {}, b: {} }", "{ request: {}, peer: c }", "c is not among `peers`: a, b"),
        ("peers: { a: {} }", "{ advance: 1s, peer: a }", "`peer` belongs to a request"),
        ("peers: { a: {} }", "{ request: {}, expect: { refused: no } }", "`no` is not an alert"),
        (
            "peers: { a: {} }",
            "{ request: {}, expect: { refused: unknown_ca, response: { status: 200 } } }",
            "who is refused gets none",
        ),
    ] {
        let text = format!("{FILTERS}{keys}\nsteps: [ {step} ]\n");
        let error = Scenario::parse(&text).unwrap_err();
        assert!(error.to_string().contains(expected), "{step}: {error}");
    }
}

#[test]
fn a_wrong_step_is_refused_with_line_and_column() {
    refuse_step(
        "{}",
        (4, 5),
        "one of `request`, `connection`, `together`, `advance`, `clock` and `configure`",
    );
    refuse_step(
        "{ advance: 1s, clock: +1s }",
        (4, 5),
        "one of `request`, `connection`, `together`, `advance`, `clock` and `configure`",
    );
    refuse_step("{ advance: 1 }", (4, 16), "not a duration");
    refuse_step("{ advance: 1s, repeat: 2 }", (4, 5), "`repeat` belongs to a request");
    refuse_step("{ clock: 10s }", (4, 14), "has no direction");
    refuse_step("{ configure: { filter: 7 } }", (4, 28), "there is no filter 7");
    refuse_step("{ configure: { filter: no } }", (4, 28), "no filter is named `no`");
    refuse_step("{ configure: { filter: 0, refused: ' ' } }", (4, 40), "refused: empty");
    refuse_step("{ configure: { filter: 0 }, worker: 0 }", (4, 5), "not to `configure`");
    refuse_step(
        "{ request: {}, meanwhile: { configure: { filter: 7 } } }",
        (4, 54),
        "steps[0].meanwhile.configure.filter: there is no filter 7",
    );
    refuse_step("{ request: {}, repeat: 0 }", (4, 20), "`0` is too little");
    refuse_step("{ request: {}, worker: 1 }", (4, 28), "steps[0].worker: 1 does not exist");
    refuse_step("{ request: { header: [] } }", (4, 18), "unknown field `header`");
    refuse_step("{ request: { headers: [ [x y, a] ] } }", (4, 30), "is not a header name");
    refuse_step("{ request: { headers: [ [x, { hex: abc }] ] } }", (4, 33), "is not hex");
    refuse_step("{ request: { headers: [ [x, { contains: a }] ] } }", (4, 33), "compares");
    refuse_step(
        "{ request: {}, upstream: { reset: true, status: 200 } }",
        (4, 5),
        "either answers or resets",
    );
    refuse_step(
        "{ request: {}, upstream: { status: 99 } }",
        (4, 5),
        "99 is not between 200 and 599",
    );
    refuse_step(
        "{ request: {}, expect: { response: never } }",
        (4, 5),
        "write `reset`, `none`, `left` or a response",
    );
    refuse_step(
        "{ request: {}, expect: { upstream: nothing } }",
        (4, 5),
        "write `none` or a request",
    );
    refuse_step(
        "{ request: {}, expect: { logs: [ { level: loud, contains: x } ] } }",
        (4, 47),
        "not a log level",
    );
    refuse_step(
        "{ request: {}, faults: [ { call: proxy_no, status: 1 } ] }",
        (4, 5),
        "no host function `proxy_no`",
    );
    refuse_step(
        "{ advance: 1s, faults: [ { call: proc_exit, status: 1 } ] }",
        (4, 5),
        "faults.call: proc_exit does not return",
    );
    refuse(
        &format!(
            "{FILTERS}start: {{ faults: [ {{ call: proxy_log, status: 1 }} ] }}\nsteps: [ {{ advance: 1s }} ]"
        ),
        (3, 18),
        "start.faults: a real Envoy cannot be told to fail",
    );
    refuse_step(
        "{ request: {}, faults: [ { call: proxy_log, status: 0 } ] }",
        (4, 5),
        "0 is success",
    );
    refuse_step(
        "{ request: {}, faults: [ { call: proxy_log, status: 1 } ] }",
        (4, 28),
        "cannot be told to fail",
    );
}

#[test]
fn requests_at_once_are_refused_with_line_and_column() {
    let two = |first: &str| format!("together: [ {{ {first} }}, {{ request: {{}} }} ]");
    let alone = "not for one of several";
    refuse_step("together: [ { request: {} } ]", (4, 5), "at least two");
    refuse_step(&two("advance: 1s"), (4, 17), "each is a `request`");
    refuse_step(&two("request: {}, aftr: 1s"), (4, 32), "unknown field `aftr`");
    refuse_step(&two("request: {}, after: 16s"), (4, 17), "after: 16s is above the bound of 15s");
    refuse_step(&two("request: {}, repeat: 2"), (4, 17), alone);
    refuse_step(&two("request: {}, callouts: [ { cluster: a, never: true } ]"), (4, 17), alone);
    refuse_step(&two("request: {}, worker: 1"), (4, 5), "worker: 1 does not exist");
    refuse_step("{ request: {}, after: 1s }", (4, 5), "`after` belongs to one of the requests");
    refuse_step(
        "{ together: [ { request: {} }, { request: {} } ], expect: {} }",
        (4, 5),
        "`expect` belongs to a request",
    );
    let many = vec!["{ request: {} }"; 17].join(", ");
    refuse_step(&format!("together: [ {many} ]"), (4, 5), "17 requests are above the bound of 16");
}

#[test]
fn a_client_that_leaves_is_expected_to() {
    let check = |step, expected| refuse_step(step, (4, 5), expected);
    check("{ request: {}, expect: { response: left } }", "`left` needs a `disconnect`");
    check(
        "{ request: { disconnect: 1s }, expect: { response: none } }",
        "waits for nothing; write `left`",
    );
    check("request: { disconnect: 16s }", "above the bound of 15s");
    check("request: { unfinished: true }", "say when the client leaves");
    check(
        "request: { unfinished: true, disconnect: 1s, trailers: [ [a, b] ] }",
        "a request that is unfinished has none",
    );
    check(
        "{ request: {}, upstream: { unfinished: true, trailers: [ [a, b] ] } }",
        "an answer that is unfinished has none",
    );
    check(
        "{ advance: 1s, callouts: [ { cluster: a, answer: { unfinished: true } } ] }",
        "a callout is answered whole",
    );
}

#[test]
fn a_value_is_what_was_written() {
    let text = format!(
        "{FILTERS}steps:\n  - request: {{ headers: [ [a, '1'], [b, no], [c, {{ hex: 'ff80' }}] ] }}\n"
    );
    let scenario = Scenario::parse(&text).unwrap();
    let Some(Step::Request(step)) = scenario.steps.first() else { panic!("no request") };
    let lines: Vec<(&[u8], &[u8])> =
        step.request.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    assert_eq!(lines, [(&b"a"[..], &b"1"[..]), (b"b", b"no"), (b"c", b"\xff\x80")]);
    refuse_step("{ request: { headers: [ [a, 0x10] ] } }", (4, 33), "in quotes: \"16\"");
    refuse_step("{ request: { headers: [ [a, true] ] } }", (4, 33), "in quotes: \"true\"");
}

#[test]
fn a_file_that_is_not_utf8_says_where() {
    let file = std::env::temp_dir().join(format!("tollgate-not-utf8-{}.yaml", std::process::id()));
    std::fs::write(&file, b"name: x\nfilters: \xff\n").unwrap();
    let result = Scenario::read(&file);
    std::fs::remove_file(&file).unwrap();
    match result {
        Err(ReadError::NotUtf8 { line, column }) => assert_eq!((line, column), (2, 10)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wrong_plan_of_callouts_is_refused() {
    let refuse = |clusters: &str, callout: &str, expected: &str| {
        let steps = format!("steps: [ {{ request: {{}}, callouts: [ {callout} ] }} ]");
        let text = format!("{FILTERS}clusters: {clusters}\n{steps}\n");
        let error = Scenario::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\nsays: {error}\nnot: {expected}");
    };
    refuse("[upstream]", "", "`upstream` is always there");
    refuse("[a, a]", "", "`a` stands twice");
    refuse("[a]\nproxy: { cluster: { name: a } }", "", "`a` is the upstream");
    refuse("['a b']", "", "`a b` is not a name");
    refuse("[a]", "{ cluster: b, never: true }", "steps[0].callouts: `b` is not in `clusters`");
    refuse("[a]", "{ cluster: a }", "meets one of `answer`");
    refuse("[a]", "{ cluster: a, answer: {}, never: true }", "meets one of `answer`");
    refuse("[a]", "{ cluster: a, answer: { reset: true } }", "write `reset` beside `answer`");
    refuse("[a]", "{ cluster: a, answer: {}, delay: 1s }", "unknown field `delay`");
    refuse("[a]", "{ cluster: a, expect: {}, grpc: {}, never: true }", "not both");
    refuse("[a]", "{ cluster: a, expect: {}, refused: true }", "nobody can tell");
    refuse("[a]", "{ cluster: a, answer_grpc: { status: 17 } }", "17 is above 16");
    let both = "{ cluster: a, answer: {} }, { cluster: a, answer_grpc: {} }";
    refuse("[a]", both, "speaks either HTTP or gRPC");
    refuse("[]", "{ cluster: upstream, answer_grpc: {} }", "speaks either HTTP or gRPC");
    refuse("[]", "{ cluster: upstream, refused: true }", "carries requests too");
    refuse_step("{ clock: -1s, callouts: [] }", (4, 5), "`callouts` belongs to a request");
}
