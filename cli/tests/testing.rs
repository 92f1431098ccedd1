//! `tollgate test` as a tool: what is chosen, what is told, suites, and running again what changes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use common::tollgate;
use tempfile::TempDir;

/// A guest that adds `x-seen: 1` to the request and logs what it is configured with.
const GUEST: &str = r#"(module
    (import "env" "proxy_add_header_map_value"
        (func $add (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_buffer_bytes"
        (func $read (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "x-seen")
    (data (i32.const 32) "VALUE")
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $read (i32.const 7) (i32.const 0) (i32.const 100) (i32.const 0) (i32.const 4)))
        (drop (call $log (i32.const 2) (i32.load (i32.const 0)) (i32.load (i32.const 4))))
        i32.const 1)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $add (i32.const 0) (i32.const 16) (i32.const 6) (i32.const 32) (i32.const 1)))
        i32.const 0))"#;

/// A folder with the guest, which adds `value`, and files.
struct Folder(TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self(TempDir::new().unwrap());
        folder.guest("1");
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    fn guest(&self, value: &str) {
        let module = wat::parse_str(GUEST.replace("VALUE", value)).unwrap();
        std::fs::write(self.path("guest.wasm"), module).unwrap();
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Runs `tollgate test` on the folder.
    fn test(&self, arguments: &[&str]) -> Output {
        let folder = self.text("");
        let mut all = vec!["test", &folder];
        all.extend(arguments);
        tollgate(&all)
    }
}

fn scenario(name: &str, seen: &str) -> String {
    format!(
        "name: {name}\nfilters: [ {{ filter: ../guest.wasm }} ]\nsteps:\n  - request: {{}}\n    expect: {{ upstream: {{ headers: [ [x-seen, \"{seen}\"] ] }} }}\n"
    )
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn three() -> Folder {
    Folder::with(&[
        ("scenarios/1.yaml", &scenario("the first passes", "1")),
        ("scenarios/2.yaml", &scenario("the second fails", "2")),
        ("scenarios/3.yaml", &scenario("the third passes, too", "1")),
    ])
}

#[test]
fn cases_are_chosen_by_their_names() {
    let folder = three();
    let check = |arguments: &[&str], code: i32, expected: &[&str]| {
        let output = folder.test(arguments);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let lines = text(&output);
        let lines: Vec<&str> =
            lines.lines().map(|line| line.rsplit(": ").next().unwrap()).collect();
        assert_eq!(lines, expected, "{arguments:?}");
    };
    check(&["--name", "third"], 0, &["the third passes, too", "1 passed, 0 failed"]);
    check(
        &["--name", "^the (first|third)"],
        0,
        &["the first passes", "the third passes, too", "2 passed, 0 failed"],
    );
    check(&["--list"], 0, &["the first passes", "the second fails", "the third passes, too"]);
    check(&["--list", "--name", "s$"], 0, &["the first passes", "the second fails"]);
    let json = folder.test(&["--list", "--name", "first", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["cases"][0]["name"], "the first passes");
    assert_eq!(json["cases"].as_array().unwrap().len(), 1);

    let none = folder.test(&["--name", "fourth"]);
    assert_eq!(none.status.code(), Some(2));
    let error = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(error.contains("none of 3 names matches `fourth`"), "{error}");
    assert_eq!(folder.test(&["--name", "("]).status.code(), Some(2));
}

#[test]
fn the_first_that_fails_can_be_the_last() {
    let output = three().test(&["--fail-fast", "--jobs", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let text = text(&output);
    assert!(text.ends_with("1 passed, 1 failed, 1 left out\n"), "{text}");
    assert!(!text.contains("third"), "{text}");
    let output = three().test(&["--fail-fast", "--jobs", "1", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["left_out"], &json["failed"]), (&1.into(), &1.into()));
}

#[test]
fn junit_gets_its_report_beside_the_other() {
    let folder = three();
    let report = folder.text("report.xml");
    let output = folder.test(&["--junit", &report]);
    assert!(text(&output).contains("2 passed, 1 failed"));
    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains(r#"<testsuites tests="3" failures="1" skipped="0""#), "{report}");
    assert!(report.contains(r#"<testcase name="the second fails""#), "{report}");
    assert!(report.contains("upstream header x-seen: expected &quot;2&quot;"), "{report}");
    let output = folder.test(&["--junit", "no/such/report.xml"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn what_cannot_be_played_loses_nothing_of_the_others() {
    let nowhere = scenario("no module", "1").replace("guest.wasm", "nope.wasm");
    let folder = Folder::with(&[
        ("scenarios/1.yaml", &scenario("the first passes", "1")),
        ("scenarios/2.yaml", "name: [\n"),
        ("scenarios/3.yaml", &nowhere),
        ("scenarios/4.yaml", &nowhere),
        ("scenarios/5.yaml", &scenario("the last fails", "2")),
    ]);
    let report = folder.text("report.xml");
    let output = folder.test(&["--format", "json", "--junit", &report]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    let (second, third) = (folder.text("scenarios/2.yaml"), folder.text("scenarios/3.yaml"));
    assert_eq!(errors.matches("error: ").count(), 2, "{errors}");
    assert!(errors.contains(&format!("error: {second}: ")), "{errors}");
    assert!(errors.contains(&format!("error: {third} and 1 more: ")), "{errors}");

    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let counts = ["passed", "failed", "skipped", "unplayed"].map(|count| json[count].as_u64());
    assert_eq!(counts, [Some(1), Some(1), Some(0), Some(3)]);
    let cases = json["cases"].as_array().unwrap();
    let told: Vec<_> = cases.iter().map(|case| (&case["name"], &case["verdict"])).collect();
    let expected = [
        ("the first passes", "passed"),
        ("2.yaml", "unplayed"),
        ("no module", "unplayed"),
        ("no module", "unplayed"),
        ("the last fails", "failed"),
    ];
    let expected = expected.map(|(name, verdict)| (name.into(), verdict.into()));
    assert_eq!(told, expected.each_ref().map(|(name, verdict)| (name, verdict)));
    assert!(cases[2]["why"].as_str().unwrap().contains("nope.wasm cannot be read"), "{json}");

    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains(r#"failures="1" skipped="0" errors="3""#), "{report}");
    assert!(report.contains(r#"<testcase name="2.yaml""#), "{report}");
    assert_eq!(report.matches("<error message=").count(), 3, "{report}");

    let told = folder.test(&["--name", "first"]);
    assert_eq!(told.status.code(), Some(2), "what cannot be read may be what is meant");
    assert!(text(&told).ends_with("1 passed, 0 failed, 1 not played\n"), "{told:?}");
    let listed = folder.test(&["--list"]);
    assert_eq!((listed.status.code(), text(&listed).lines().count()), (Some(2), 4));
    let first = folder.test(&["--fail-fast", "--jobs", "1"]);
    assert!(text(&first).ends_with("1 passed, 0 failed, 1 not played, 3 left out\n"), "{first:?}");
}

#[test]
fn a_filter_that_is_not_linked_is_named() {
    let folder = Folder::with(&[("scenarios/1.yaml", &scenario("a module", "1"))]);
    for command in ["test", "trace"] {
        let output = tollgate(&[command, &folder.text("scenarios/1.yaml"), "--on", "native"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("guest.wasm` is not linked into this command"), "{error}");
    }
}

#[test]
fn what_differs_is_told_line_by_line() {
    let folder = Folder::with(&[(
        "scenarios/body.yaml",
        "name: a body\nfilters: [ { filter: ../guest.wasm } ]\nsteps:\n  - request: {}\n    upstream: { body: \"a\\nb\\nc\" }\n    expect: { response: { body: \"a\\nX\\nc\" } }\n",
    )]);
    let output = text(&folder.test(&[]));
    let expected = "step 1, GET /: response body: differs (- expected, + got)\n          a\n        - X\n        + b\n          c\n";
    assert!(output.contains(expected), "{output}");
}

const SUITE: &str = r#"
test {
  name: "the guest adds a header"
  plugin_init { log { exact: "from a file" } }
  request_headers {
    input { header { key: ":path" value: "/" } }
    result { has_header { key: "x-seen" value: "1" } }
  }
}
test {
  name: "it adds another"
  request_headers { result { has_header { key: "x-seen" value: "2" } } }
}
"#;

#[test]
fn a_suite_runs_as_it_is() {
    let folder = Folder::with(&[("tests.textpb", SUITE), ("config.json", "from a file")]);
    let suite = folder.text("tests.textpb");
    let (guest, config) = (folder.text("guest.wasm"), folder.text("config.json"));
    let output = tollgate(&["test", &suite, "--filter", &guest, "--config", &config]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = text(&output);
    let passed = format!("ok      wasmtime  {suite}: the guest adds a header\n");
    let failed = format!(
        "FAILED  wasmtime  {suite}: it adds another\n        request_headers: header x-seen: expected \"2\", got \"1\"\n"
    );
    assert_eq!(told, format!("{passed}{failed}1 passed, 1 failed\n"));

    let named = format!("env {{ wasm_path: '{guest}' config_path: '{config}' }} {SUITE}");
    folder.write("named.textproto", &named);
    let yaml = format!(
        "env: {{ wasm_path: {guest}, log_path: /dev/null }}\ntests:\n  - name: a test in YAML\n    request_headers: {{ result: {{ has_header: [ \"x-seen: 1\" ] }} }}\n"
    );
    folder.write("suite.yaml", &yaml);
    let (named, yaml) = (folder.text("named.textproto"), folder.text("suite.yaml"));
    let output = tollgate(&["test", &named, &yaml, "--name", "a header|YAML"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output).ends_with("2 passed, 0 failed\n"), "{output:?}");
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(notes.contains("note: ") && notes.contains("env.log_path"), "{notes}");
}

#[test]
fn a_suite_that_cannot_be_run_says_why() {
    let folder = Folder::with(&[("tests.textpb", SUITE), ("wrong.textpb", "test {\n nam: 'x' }")]);
    let check = |arguments: &[&str], words: &[&str]| {
        let mut all = vec!["test"];
        all.extend(arguments);
        let output = tollgate(&all);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
    };
    let (suite, guest) = (folder.text("tests.textpb"), folder.text("guest.wasm"));
    check(&[&suite], &["tests.textpb", "no module", "--filter"]);
    check(&[&suite, "--filter", "no/such.wasm"], &["no/such.wasm"]);
    check(&[&suite, "--filter", &guest, "--config", "no/such.json"], &["no/such.json"]);
    let wrong = folder.text("wrong.textpb");
    check(
        &[&wrong, "--filter", &guest],
        &["wrong.textpb", "line 2 column 2", "unknown field `nam`"],
    );
    folder.write("scenarios/1.yaml", &scenario("a scenario", "1"));
    let scenario = folder.text("scenarios/1.yaml");
    check(&[&scenario, "--filter", &guest], &["--filter and --config are for suites"]);
    for option in
        [&["--strict"][..], &["--seed", "3"], &["--profile", "spec"], &["--import", "env.mine=0"]]
    {
        let mut arguments = vec![suite.as_str(), "--filter", &guest];
        arguments.extend(option);
        check(&arguments, &[option[0], "is for scenarios"]);
    }
    for command in ["trace", "demo"] {
        let output = tollgate(&[command, &suite]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("tests.textpb: a suite of Service Extensions"), "{error}");
    }
}

/// The command as it goes on, with its lines.
struct Watching {
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    fn of(folder: &Path) -> Self {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("tollgate"))
            .args(["test", "--watch", "--jobs", "1", folder.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _nobody_reads = sender.send(line);
                }
            });
        }
        Self { child, lines }
    }

    /// The verdicts up to the counts of a round, which come before the next change is waited for.
    fn round(&self) -> Vec<String> {
        let mut round = Vec::new();
        let mut is_over = (false, false);
        while is_over != (true, true) {
            let line = self.lines.recv_timeout(Duration::from_mins(1)).expect("a round ends");
            is_over.0 |= line.contains(" passed, ") || line.starts_with("error: ");
            is_over.1 |= line.starts_with("watching ");
            let verdict = line.split("  ").next().unwrap_or_default().trim();
            let name = line.rsplit(": ").next().unwrap_or_default();
            if ["ok", "FAILED"].contains(&verdict) {
                round.push(format!("{verdict} {name}"));
            } else if line.starts_with("error: ") {
                round.push("error".into());
            }
        }
        round
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn what_changes_is_run_again() {
    let folder = Folder::with(&[
        ("scenarios/1.yaml", &scenario("the first", "1")),
        ("scenarios/2.yaml", &scenario("the second", "1")),
    ]);
    let watching = Watching::of(folder.0.path());
    assert_eq!(watching.round(), ["ok the first", "ok the second"]);
    folder.write("scenarios/2.yaml", &scenario("the second", "2"));
    assert_eq!(watching.round(), ["FAILED the second"]);
    folder.write("scenarios/2.yaml", "name: [\n");
    assert_eq!(watching.round(), ["error"]);
    folder.write("scenarios/2.yaml", &scenario("the second", "2"));
    assert_eq!(watching.round(), ["FAILED the second"]);
    folder.guest("2");
    assert_eq!(watching.round(), ["FAILED the first", "ok the second"]);
    folder.write("scenarios/3.yaml", &scenario("the third", "2"));
    assert_eq!(watching.round(), ["ok the third"]);
}

#[test]
fn a_module_that_cannot_run_here_says_why() {
    let folder = Folder::with(&[("scenarios/1.yaml", &scenario("one", "1"))]);
    let check = |module: &[u8], arguments: &[&str], words: &str| {
        std::fs::write(folder.path("guest.wasm"), module).unwrap();
        let output = folder.test(arguments);
        assert_ne!(output.status.code(), Some(0), "{output:?}");
        let told = text(&output) + &String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("guest.wasm: ") && told.contains(words), "{told}");
    };
    let guest = wat::parse_str(GUEST).unwrap();
    check(&guest, &["--limit", "module_bytes=100"], "beyond the limit module_bytes of 100");
    let shared =
        GUEST.replace("(memory (export \"memory\") 1)", "(memory (export \"memory\") 1 2 shared)");
    check(&wat::parse_str(shared).unwrap(), &[], "threads");
}
