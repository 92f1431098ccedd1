use std::path::PathBuf;

use super::*;

/// Writes a suite into a folder of its own and reads it.
fn read(name: &str, text: &str) -> Result<Suite, ReadError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("body.data"), b"\xff\x00").unwrap();
    std::fs::write(folder.path().join("head.data"), b"GET /file HTTP/1.1\nHost: h\n").unwrap();
    let file: PathBuf = folder.path().join(name);
    std::fs::write(&file, text).unwrap();
    Suite::read(&file)
}

#[test]
fn all_ways_to_write_a_suite_are_the_same() {
    let text = r#"
        env { wasm_path: "a.wasm" log_level: DEBUG time_secs: 7 }
        test {
          name: "a"
          num_chunks: 2
          properties { path: "a.b" value: "\001" }
          request_headers {
            input { header { key: ":path" value: "/" } header { key: "n" value: "200" } }
            result {
              has_header { key: "n" value: "yes" }
              headers { regex: "n: .*" invert: true }
              immediate { http_status: 403 grpc_status: 7 details: "d" }
              log { exact: "l" }
            }
          }
          request_body { input { file: "body.data" } result { body { file: "body.data" } } }
          response_headers { input { content: "HTTP/1.1 200 OK\nA: b" } }
        }"#;
    let yaml = r#"
env: { wasm_path: a.wasm, log_level: debug, time_secs: 7 }
tests:
  - name: a
    body_chunking_plan: { num_chunks: 2 }
    properties: [ { path: a.b, value: "\x01" } ]
    request_headers:
      input: { headers: [ { key: ":path", value: / }, "n: 200" ] }
      result:
        has_header: [ { key: n, value: yes } ]
        headers: [ { regex: "n: .*", invert: true } ]
        immediate: { http_status: 403, grpc_status: 7, details: d }
        log: [ { exact: l } ]
    request_body: [ { input: { file: body.data }, result: { body: [ { file: body.data } ] } } ]
    response_headers: { input: { content: "HTTP/1.1 200 OK\nA: b" } }
"#;
    let as_text_proto = r#"
env: { wasm_path: a.wasm, log_level: DEBUG, time_secs: 7 }
test:
  - name: a
    num_chunks: 2
    properties: [ { path: a.b, value: "\x01" } ]
    request_headers:
      input: { header: [ { key: ":path", value: / }, { key: n, value: 200 } ] }
      result:
        has_header: [ { key: n, value: 'yes' } ]
        headers: [ { regex: "n: .*", invert: 'true' } ]
        immediate: { http_status: 403, grpc_status: 7, details: d }
        log: [ { exact: l, invert: 'FALSE' } ]
    request_body: [ { input: { file: body.data }, result: { body: [ { file: body.data } ] } } ]
    response_headers: { input: { content: "HTTP/1.1 200 OK\nA: b" } }
"#;
    assert!(Suite::is_in_yaml(yaml) && Suite::is_in_yaml(as_text_proto));
    assert!(!Suite::is_in_yaml("name: a scenario\nfilters: []\nsteps: []\n"));
    let text = read("a.textpb", text).unwrap();
    for yaml in [yaml, as_text_proto] {
        assert_eq!(format!("{text:?}"), format!("{:?}", read("a.yaml", yaml).unwrap()));
    }
    let [test] = text.tests.as_slice() else { panic!("{text:?}") };
    assert_eq!(test.properties, [(b"a.b".to_vec(), b"\x01".to_vec())]);
    let inputs: Vec<&Input> = test.phases.iter().map(|phase| &phase.input).collect();
    let line = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    assert_eq!(
        inputs,
        [
            &Input::RequestHeaders(vec![line(":path", "/"), line("n", "200")]),
            &Input::RequestBody(vec![vec![0xff], vec![0]]),
            &Input::ResponseHeaders(vec![line(":status", "200"), line("a", "b")]),
        ]
    );
}

#[test]
fn bodies_are_cut_as_planned() {
    let check = |plan: &str, body: &str, expected: &[&str]| {
        let text = format!("test {{ {plan} request_body {{ input {{ content: '{body}' }} }} }}");
        let suite = read("a.textpb", &text).expect(&text);
        let expected = expected.iter().map(|chunk| chunk.as_bytes().to_vec()).collect();
        assert_eq!(suite.tests[0].phases[0].input, Input::RequestBody(expected), "{text}");
    };
    check("", "abc", &["abc"]);
    check("", "", &[""]);
    check("num_chunks: 3", "abcdefghij", &["abc", "def", "ghij"]);
    check("num_chunks: 1", "abc", &["abc"]);
    check("chunk_size: 2", "abcd", &["ab", "cd"]);
    check("chunk_size: 3", "abcd", &["abc", "d"]);
    check("chunk_size: 3", "", &[""]);
}

#[test]
fn what_a_suite_may_not_say_is_placed() {
    let check = |name: &str, text: &str, parts: &[&str]| {
        let error = read(name, text).expect_err(text).to_string();
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    };
    let text = |text: &str, parts: &[&str]| check("a.textpb", text, parts);
    let yaml = |text: &str, parts: &[&str]| check("a.yaml", text, parts);
    text("tests { }", &["line 1 column 1", "this name is of YAML"]);
    text("test {\n  nam: 'a'\n}", &["line 2 column 3", "unknown field `nam`"]);
    text("test { num_chunks: 0 }", &["line 1 column 6", "num_chunks: 0 is not at least 1"]);
    text("test { num_chunks: 1 chunk_size: 1 }", &["only one can be"]);
    text(
        "test { name: 'x' num_chunks: 4 request_body { input { content: 'abc' } } }",
        &["test 1 `x`.request_body.input", "num_chunks: 4 is above the body's 3 bytes"],
    );
    text("test { num_chunks: 2 request_body { } request_body { } }", &["a plan of chunks"]);
    text(
        "test { request_headers {\n result {\n log { } } } }",
        &["line 3 column 6", "exact, regex or file: one of them must be"],
    );
    text(
        "test { request_headers { result { log { regex: '(' } } } }",
        &["column 39", "regex `(`: unclosed group"],
    );
    text("test { request_headers { result { has_header { } } } }", &["without its key"]);
    text(
        "test { request_headers { input { content: 'a' file: 'b' } } }",
        &["line 1 column 26", "only one can be"],
    );
    text(
        "test { request_headers { input { content: 'GET' } } }",
        &["test 1 `test 1`.request_headers.input.content", "not a request line"],
    );
    text(
        "test { request_headers { input { file: 'none.data' } } }",
        &["request_headers.input.file", "none.data", "cannot be read"],
    );
    text(
        "test { stream_init { log { file: 'none.data' } } }",
        &["stream_init.log.file", "none.data"],
    );
    text("test { request_body { input { header { key: 'a' } } } }", &["a body has no headers"]);
    text("env { log_level: LOUD }", &["line 1 column 18", "LOUD"]);
    text("test { benchmark: 'true' }", &["line 1 column 19", "expected true or false"]);
    yaml(
        "test: [ { benchmark: 'yes' } ]\n",
        &["line 1 column 11", "string \"yes\", expected true or false"],
    );
    yaml(
        "test: [ { num_chunks: 1, body_chunking_plan: { chunk_size: 1 } } ]\n",
        &["line 1", "body_chunking_plan stands in place of num_chunks and chunk_size"],
    );
    yaml("tests:\n  - nam: a\n", &["line 2 column 5", "unknown field `nam`"]);
    yaml(
        "tests:\n  - request_headers: { input: { headers: [ \"a\" ] } }\n",
        &["line 2", "`a` has no colon"],
    );
    yaml(
        "tests:\n  - request_headers: { input: { headers: [ \":path: /\" ] } }\n",
        &["line 2", "write key and value"],
    );
}

#[test]
fn what_is_not_done_is_told() {
    let check = |text: &str, parts: &[&str]| {
        let ignored = read("a.textpb", text).expect(text).ignored;
        assert_eq!(ignored.len(), parts.len(), "{ignored:?}");
        for (said, part) in ignored.iter().zip(parts) {
            assert!(said.contains(part), "`{part}` is not in: {said}");
        }
    };
    check("test { benchmark: false } env { log_path: '' test_path: 'x' }", &[]);
    check(
        "env { log_path: '/dev/stdout' num_additional_streams: 5 } test { benchmark: true }",
        &["benchmark: 1 of the tests", "num_additional_streams", "/dev/stdout"],
    );
}
