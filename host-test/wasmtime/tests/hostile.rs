//! Modules that mean harm: each ends in a report of what it did, where, which limit it met and how to raise
//! that; none brings the host down, hangs it, or makes it take memory without bound.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::{ABI, IMPORTS, MEMORY, Sent, callback, module, on_request_headers, send, verdict};
use tollgate_host::proxy::StartError;
use tollgate_host_wasmtime::{Limits, LoadError};

/// Little of everything, so that each bound is met soon.
const TIGHT: Limits = Limits {
    module_bytes: 8 << 20,
    memory_bytes: 2 << 20,
    table_elements: 1000,
    fuel_per_call: 20_000_000,
    time_per_call: Duration::from_secs(20),
    fuel_per_step: 60_000_000,
    ticks_per_step: 1000,
    messages_at_once: 1000,
    kept_bytes: 128 << 10,
    expression_bytes: 8 << 10,
    uncompressed_bytes: 1 << 20,
    transcript_bytes: 1 << 20,
};

/// What Envoy needs to load a module.
const MALLOC: &str = r#"(func (export "malloc") (param i32) (result i32) i32.const 8)"#;

const LOOP: &str = "(loop $again (br $again))";

fn contains(told: &str, words: &[&str], what: &str) {
    for word in words {
        assert!(told.contains(word), "{what}: `{word}` is not in: {told}");
    }
}

/// The guest runs, and what comes of a request to it is told in these words.
fn check(fields: &str, words: &[&str]) {
    check_module(&module(fields), words);
}

fn check_module(module: &[u8], words: &[&str]) {
    let sent: Sent = send(TIGHT, module).unwrap();
    contains(&sent.told(), words, "the request");
}

/// The proxy does not start, in these words.
fn check_start(module: &[u8], words: &[&str]) {
    match send(TIGHT, module) {
        Ok(sent) => panic!("started: {}", sent.told()),
        Err(error) => {
            assert!(!matches!(error, StartError::Module(_)), "{error}");
            contains(&error.to_string(), words, "the start");
        }
    }
}

fn check_load(bytes: &[u8], words: &[&str]) {
    let error = common::engine(TIGHT).load(bytes).map(|_| ()).unwrap_err();
    contains(&error.to_string(), words, "loading");
}

#[test]
fn endless_loops_end_with_their_fuel_in_every_callback() {
    const STREAM: [(&str, usize, bool); 10] = [
        ("proxy_on_context_create", 2, false),
        ("proxy_on_request_headers", 3, true),
        ("proxy_on_request_body", 3, true),
        ("proxy_on_request_trailers", 2, true),
        ("proxy_on_response_headers", 3, true),
        ("proxy_on_response_body", 3, true),
        ("proxy_on_response_trailers", 2, true),
        ("proxy_on_done", 1, true),
        ("proxy_on_log", 1, false),
        ("proxy_on_delete", 1, false),
    ];
    let fuel = ["used up its fuel", "limit fuel_per_call of 20000000", "--limit fuel_per_call="];
    for (name, params, has_result) in STREAM {
        // Not the root context, which is the first.
        let body = format!("(if (i32.gt_u (local.get 0) (i32.const 1)) (then {LOOP}))");
        let fields = callback(name, params, has_result, &body);
        let steps = "steps: [ { request: { method: POST, body: hello, trailers: [ [a, b] ] }, \
                     upstream: { body: hello, trailers: [ [a, b] ] }, expect: { response: { status: 201 } } } ]";
        let told = format!("{:?}", verdict(TIGHT, &module(&fields), steps));
        contains(&told, &fuel, name);
        contains(&told, &[&format!("{name}(context=2"), "POST /"], name);
    }
    for (name, params, has_result) in [
        ("proxy_on_context_create", 2, false),
        ("proxy_on_vm_start", 2, true),
        ("proxy_on_configure", 2, true),
        ("_initialize", 0, false),
        ("_start", 0, false),
    ] {
        check_start(&module(&callback(name, params, has_result, LOOP)), &fuel);
    }
    check_start(&module(&format!("(func $start {LOOP}) (start $start)")), &fuel);
}

#[test]
fn ticks_queues_and_callouts_end_too() {
    let configure = |body: &str| {
        format!(
            r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) {body} (i32.const 1))
            (data (i32.const 64) "queue")"#
        )
    };
    let ticking = configure("(drop (call $tick (i32.const 1)))");
    let steps = "steps: [ { advance: 1h } ]";
    let told = |fields: &str| format!("{:?}", verdict(TIGHT, &module(fields), steps));
    let tick = callback("proxy_on_tick", 1, false, "");
    contains(&told(&format!("{ticking} {tick}")), &["limit ticks_per_step of 1000"], "ticks");
    let counts = "(local $i i32) (loop $again (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 1000000))))";
    let busy = callback("proxy_on_tick", 1, false, counts);
    contains(&told(&format!("{ticking} {busy}")), &["limit fuel_per_step of 60000000"], "busy");

    // A message for each message.
    let send = "(drop (call $enqueue (i32.const 1) (i32.const 64) (i32.const 1)))";
    let take = "(drop (call $dequeue (i32.const 1) (i32.const 8) (i32.const 12)))";
    let register = configure(&format!(
        "(drop (call $register (i32.const 64) (i32.const 5) (i32.const 8))) {send}"
    ));
    let ready = callback("proxy_on_queue_ready", 2, false, &format!("{take} {send}"));
    contains(
        &told(&format!("{register} {ready}")),
        &["queue 1 fills itself", "limit messages_at_once of 1000"],
        "queue",
    );

    // A callout that fails at once for each that has failed.
    let call = "(drop (call $grpc_call (i32.const 80) (i32.const 6) (i32.const 64) (i32.const 5)
        (i32.const 64) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 1000) (i32.const 8)))";
    let fields = format!(
        r#"{} {} (data (i32.const 64) "queue") (data (i32.const 80) "\0a\04\0a\02no")"#,
        on_request_headers(call),
        callback("proxy_on_grpc_close", 3, false, call)
    );
    check(&fields, &["callouts make callouts", "limit messages_at_once of 1000"]);
}

#[test]
fn memory_and_tables_are_bounded() {
    let grow = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
    check(
        &on_request_headers(grow),
        &["503", "unreachable", "not let grow to 2162688 bytes", "limit memory_bytes of 2097152"],
    );
    let large = format!(r#"(module {ABI} {MALLOC} (memory (export "memory") 16384))"#);
    check_start(&wat::parse_str(large).unwrap(), &["1073741824 bytes", "--limit memory_bytes="]);
    // All memories count together.
    let two = format!("(module {ABI} {MALLOC} {MEMORY} (memory 32))");
    check_start(&wat::parse_str(two).unwrap(), &["not let grow to", "--limit memory_bytes="]);

    let table = "(loop $again (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 100)) (i32.const -1)))) unreachable";
    check(
        &format!("(table $t 1 funcref) {}", on_request_headers(table)),
        &["503", "not let grow to 1001 elements", "limit table_elements of 1000"],
    );
    let many = "(table 300 funcref) ".repeat(4);
    check_start(&module(&many), &["1200 elements", "--limit table_elements="]);
}

#[test]
fn recursion_ends_with_the_stack() {
    let deeper = "(func $deeper (param i32) (result i32) (call $deeper (local.get 0)))";
    let fields = format!("{deeper} {}", on_request_headers("(drop (call $deeper (i32.const 0)))"));
    check(
        &fields,
        &["503", "call stack exhausted", "proxy_on_request_headers(context=2", "POST /a?b"],
    );
}

#[test]
fn allocators_may_do_anything() {
    let ask = "(drop (call $pairs (i32.const 0) (i32.const 8) (i32.const 12)))";
    let check = |allocator: &str, words: &[&str]| {
        let fields = format!(
            r#"(module {IMPORTS} {ABI} (memory (export "memory") 1)
                (func $allocate (export "malloc") (param i32) (result i32) {allocator})
                {})"#,
            on_request_headers(&format!(
                "{ask} (drop (call $get (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 12)))"
            ))
        );
        check_module(&wat::parse_str(&fields).expect(&fields), words);
    };
    // The call after it, which is out of its phase, is refused in any case: the guest lives.
    let lives = ["200", "proxy_get_header_map_value(map=response_headers"];
    check("i32.const 0", &["200", "invalid_memory_access: the guest's allocator gave no"]);
    check("i32.const -1", &["200", "at 0xffffffff leave the guest's memory"]);
    check("i32.const 65535", &["200", "at 0xffff leave the guest's memory"]);
    check("i32.const 0", &lives);
    check("i32.const 8", &lives);
    check("(drop (memory.grow (i32.const 4))) i32.const 131072", &lives);
    check("(drop (call $log (i32.const 2) (i32.const 0) (i32.const 1))) i32.const 1024", &lives);
    check("unreachable", &["503", "unreachable", "allocate", "proxy_on_request_headers"]);
    check(&format!("{LOOP} unreachable"), &["503", "limit fuel_per_call"]);
    // It asks for what it is asked for.
    check(&format!("{ask} i32.const 1024"), &["503", "call stack exhausted", "allocate"]);
    // As on Envoy, it returns.
    check("(call $exit (i32.const 3)) i32.const 0", &lives);
}

#[test]
fn what_guests_make_the_host_keep_is_bounded() {
    let again = |call: &str| {
        format!(
            "(local $i i32) (loop $again
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (i32.store (i32.const 64) (local.get $i))
        {call} (br $again))"
        )
    };
    let kept = ["limit kept_bytes of 131072; raise it with --limit kept_bytes="];
    let big = "(i32.const 64) (i32.const 4096)";
    let key = "(i32.const 64) (i32.const 4)";
    let none = "(i32.const 0) (i32.const 0)";
    for call in [
        format!("(drop (call $log (i32.const 3) {big}))"),
        format!("(drop (call $log (i32.const 3) {none}))"),
        format!("(drop (call $add (i32.const 0) {key} {key}))"),
        format!("(drop (call $set_property {key} {key}))"),
        format!("(drop (call $set_shared {key} {key} (i32.const 0)))"),
        format!("(drop (call $register {key} (i32.const 8)))"),
        format!("(drop (call $register (i32.const 128) (i32.const 1) (i32.const 8)))
                 (drop (call $enqueue (i32.const 1) {none}))"),
        format!("(drop (call $define (i32.const 0) {key} (i32.const 8)))"),
        "(drop (call $define (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 8)))".into(),
        format!("(drop (call $reply (i32.const 200) {none} {big} {none} (i32.const -1)))"),
        format!("(drop (call $http_call (i32.const 256) (i32.const 5) (i32.const 320) (i32.const 83)
                 {big} {none} (i32.const 9) (i32.const 8)))"),
        format!("(drop (call $grpc_stream (i32.const 256) (i32.const 5) {none} {none} {none} (i32.const 8)))"),
        format!("(drop (call $grpc_stream (i32.const 256) (i32.const 5) {none} {none} {none} (i32.const 8)))
                 (loop $send (br_if $send (i32.eqz (call $grpc_send (i32.const 6) {none} (i32.const 0)))))"),
    ] {
        // :method GET, :path /, :authority a
        let fields = format!(
            r#"{} (data (i32.const 128) "q") (data (i32.const 256) "authz")
            (data (i32.const 320) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/\00:authority\00a\00")"#,
            on_request_headers(&again(&call))
        );
        let fields = fields.replace("(i32.const 83)", "(i32.const 61)");
        check(&fields, &kept);
    }
    let body =
        format!("(drop (call $set_buffer (i32.const 0) (i32.const -1) (i32.const 0) {big}))");
    check(&callback("proxy_on_request_body", 3, true, &again(&body)), &kept);
    let grown =
        format!("(drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) {big}))");
    check(&callback("proxy_on_request_body", 3, true, &again(&grown)), &kept);
    // What is let go is not counted: each of these is one of a kind at any time.
    for call in [
        format!("(drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const -1) {big}))"),
        format!("(drop (call $set_shared (i32.const 128) (i32.const 1) {big} (i32.const 0)))"),
        format!(
            "(drop (call $register (i32.const 128) (i32.const 1) (i32.const 8)))
                 (drop (call $enqueue (i32.const 1) {big}))
                 (drop (call $dequeue (i32.const 1) (i32.const 8) (i32.const 12)))"
        ),
    ] {
        let body = again(&call)
            .replace("(br $again)", "(br_if $again (i32.lt_u (local.get $i) (i32.const 900)))");
        check(&callback("proxy_on_request_body", 3, true, &body), &["200"]);
    }
}

#[test]
fn buffers_and_counts_that_lie_are_answered() {
    // 1000 buffers of all memory each.
    let gather = "(local $i i32) (loop $again
        (i32.store (i32.add (i32.const 1024) (i32.mul (local.get $i) (i32.const 8))) (i32.const 0))
        (i32.store (i32.add (i32.const 1028) (i32.mul (local.get $i) (i32.const 8))) (i32.const 65536))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 2000))))
        (if (i32.ne (call $fd_write (i32.const 1) (i32.const 1024) (i32.const 2000) (i32.const 8)) (i32.const 21))
            (then unreachable))";
    check(&on_request_headers(gather), &["200", "more than 67108864 bytes together"]);
    let count = "(if (i32.ne (call $fd_write (i32.const 1) (i32.const 1024) (i32.const -1) (i32.const 8)) (i32.const 21))
            (then unreachable))";
    check(&on_request_headers(count), &["200", "fd_write(…) = 21: "]);
    // Pairs that announce more than there are wipe the map, as on Envoy; a reply comes without them.
    let pairs = r#"(data (i32.const 64) "\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff")"#;
    let wipe = "(drop (call $set_pairs (i32.const 0) (i32.const 64) (i32.const 12)))";
    check(&format!("{pairs} {}", on_request_headers(wipe)), &["4"]);
    let reply =
        "(drop (call $reply (i32.const 418) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 64) (i32.const 12) (i32.const -1)))";
    check(&format!("{pairs} {}", on_request_headers(reply)), &["418"]);
    // Slots for an answer that lie in each other, and the last byte of memory.
    for (pointer, size, status) in [(8, 8, 0), (8, 10, 0), (65532, 65532, 0), (65533, 8, 6)] {
        let ask = format!(
            "(if (i32.ne (call $pairs (i32.const 0) (i32.const {pointer}) (i32.const {size})) (i32.const {status}))
                (then unreachable))"
        );
        check(&on_request_headers(&ask), &["200"]);
    }
    let random = "(if (i32.ne (call $random (i32.const 65535) (i32.const 2)) (i32.const 21)) (then unreachable))";
    check(&on_request_headers(random), &["200", "random_get(…) = 21: 2 bytes at 0xffff leave"]);
    let bomb = "(drop (call $foreign (i32.const 64) (i32.const -1) (i32.const 64) (i32.const -1) (i32.const 8) (i32.const 12)))";
    check(&on_request_headers(bomb), &["200", "leave the guest's memory"]);
}

/// A module of raw sections.
fn raw(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    for (id, content) in sections {
        bytes.push(*id);
        bytes.extend(leb(content.len()));
        bytes.extend(content);
    }
    bytes
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

fn list(count: usize, item: &[u8]) -> Vec<u8> {
    [leb(count), item.repeat(count)].concat()
}

#[test]
fn modules_that_are_large_in_any_way_are_refused() {
    let types = (1, list(1, &[0x60, 0, 0]));
    let memory = (5, list(1, &[0, 1]));
    // One more of each than any engine takes.
    let functions =
        [types.clone(), (3, list(1_000_001, &[0])), (10, list(1_000_001, &[2, 0, 0x0b]))];
    check_load(&raw(&functions), &["functions count exceeds limit of 1000000"]);
    let globals = (6, list(1_000_001, &[0x7f, 0, 0x41, 0, 0x0b]));
    check_load(&raw(&[globals]), &["globals count exceeds limit of 1000000"]);
    let data = (11, list(100_001, &[1, 0]));
    check_load(&raw(&[memory, data]), &["data segments count exceeds limit of 100000"]);
    let locals: Vec<u8> = [leb(1), leb(50_001), vec![0x7f, 0x0b]].concat();
    let code = [leb(1), leb(locals.len()), locals].concat();
    check_load(&raw(&[types.clone(), (3, list(1, &[0])), (10, code)]), &["locals exceed maximum"]);
    let counts_lie =
        raw(&[types, (3, [leb(usize::try_from(u32::MAX).unwrap()), vec![0]].concat())]);
    check_load(&counts_lie, &["not a valid WebAssembly module"]);
    let long = raw(&[(0, vec![0; 8 << 20])]);
    check_load(&long, &["the module has 83886", "limit module_bytes of 8388608"]);
    // Names may be of any length; of a trap they are shown in part.
    let name = "n".repeat(100_000);
    let fields =
        format!("(func ${name} unreachable) {}", on_request_headers(&format!("(call ${name})")));
    let sent = send(TIGHT, &module(&fields)).unwrap();
    assert!(sent.told().len() < 2000 && sent.told().contains("nnn…"), "{}", sent.told());
}

#[test]
fn a_transcript_ends_at_its_bound() {
    use std::sync::Arc;
    use tollgate_host::engine::Module;
    use tollgate_host::offline::Offline;
    use tollgate_host::proxy::Proxy as _;
    use tollgate_host::scenario::{FilterUse, HostName, Scenario, Step};

    // Lines below the level are not kept, but for the transcript.
    let log = "(loop $again (drop (call $log (i32.const 0) (i32.const 64) (i32.const 4096))) (br $again))";
    let module = module(&on_request_headers(log));
    let engine = common::engine(TIGHT);
    let loader = |_: &FilterUse| -> Result<Arc<dyn Module>, StartError> {
        Ok(Arc::new(
            engine.load(&module).map_err(|error: LoadError| StartError::Module(error.into()))?,
        ))
    };
    let scenario =
        Scenario::parse("name: x\nfilters: [ { filter: x } ]\nsteps: [ { request: {} } ]").unwrap();
    let host = Offline::new(HostName::Wasmtime, &loader).with_limits(TIGHT);
    let mut run = host.start_recorded(&scenario).map_err(|(error, _)| error).unwrap();
    let Some(Step::Request(step)) = scenario.steps.first() else { panic!() };
    run.exchange(0, step).unwrap();
    let transcript = run.take_transcript();
    let last = transcript.last().unwrap().to_string();
    assert!(transcript.len() < 300, "{}", transcript.len());
    contains(
        &last,
        &["what follows is left out", "limit transcript_bytes of 1048576"],
        "transcript",
    );
}
