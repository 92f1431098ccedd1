//! `cargo ci`: format, lints, all tests, all scenarios on every host.
//!
//! Every step runs, also after one that failed. The last line is `N passed, N failed`: tests,
//! scenarios on each host, and checks.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::setup::{add_target, cargo, fetch_compilers, fetch_envoy, is_there, show};

/// The server of an example, a workspace of its own in the same target folder.
const FLEET: &str = "examples/10-fleet-rate-limit/server/Cargo.toml";

/// What a step came to.
#[derive(Clone, Copy, Default)]
struct Count {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// `tollgate test --format json`, as far as it matters here.
#[derive(Deserialize)]
struct Report {
    passed: usize,
    failed: usize,
    skipped: usize,
    #[serde(default)]
    unplayed: usize,
    cases: Vec<serde_json::Value>,
}

/// Runs everything.
///
/// # Errors
///
/// What cannot be installed or run at all.
pub(crate) fn run() -> Result<ExitCode> {
    add_target("wasm32-wasip1")?;
    add_target("wasm32-unknown-unknown")?;
    fetch_envoy()?;
    fetch_compilers()?;

    let mut total = Count::default();
    let mut add = |step: &str, count: Count| {
        let Count { passed, failed, skipped } = count;
        println!("-- {step}: {passed} passed, {failed} failed, {skipped} skipped\n");
        total.passed += passed;
        total.failed += failed;
    };
    add("format", check(cargo().args(["fmt", "--all", "--check"]))?);
    add("lints", check(clippy().args(["--workspace", "--all-targets", "--", "-D", "warnings"]))?);
    for target in ["wasm32-wasip1", "wasm32-unknown-unknown"] {
        let mut lints = clippy();
        lints.args(["--target", target]);
        for package in [
            "tollgate-canary-wasm",
            "tollgate-metrics-wasm",
            "tollgate-metrics-tcp-wasm",
            "tollgate-mtls-wasm",
            "tollgate-mtls-tcp-wasm",
            "tollgate-ratelimit-wasm",
            "tollgate-ratelimit-global-wasm",
            "tollgate-fixtures-wasm",
            "tollgate-conformance-probe",
            "tollgate-conformance-probe-0-1-0",
            "tollgate-conformance-filters",
            "example-hello-wasm",
            "example-tenants-wasm",
            "example-depth-wasm",
            "example-lockout-wasm",
            "example-authoriser-wasm",
            "example-preamble-wasm",
            "example-bundle",
            "example-edge",
        ] {
            lints.args(["--package", package]);
        }
        add(&format!("lints for {target}"), check(lints.args(["--", "-D", "warnings"]))?);
    }
    // A workspace of its own, in the same target folder.
    let benches = ["--manifest-path", "benches/Cargo.toml", "--target-dir", "target"];
    let mut lints = clippy();
    lints.args(benches).args(["--workspace", "--all-targets", "--", "-D", "warnings"]);
    add("lints for benches", check(&mut lints)?);
    let fleet = ["--manifest-path", FLEET, "--target-dir", "target"];
    let mut lints = clippy();
    lints.args(fleet).args(["--all-targets", "--", "-D", "warnings"]);
    add("lints for the fleet", check(&mut lints)?);
    add("licences", licences()?);
    // With the tests, so that all is built once: the command alone would be given other features of what
    // it leans on, and with them another build of the engine.
    add("build", check(cargo().args(["test", "--workspace", "--no-run"]))?);
    add("filters", check(tollgate()?.arg("build"))?);
    add("tests", tests(cargo().args(["test", "--workspace", "--no-fail-fast"]))?);
    add("tests of benches", tests(cargo().arg("test").args(benches))?);
    add("tests of the fleet", tests(cargo().arg("test").args(fleet))?);
    for host in ["native", "wasmtime", "envoy"] {
        let mut test = tollgate()?;
        // Natively, the command has the ready filters; examples and the filters that only try out the
        // SDK are played by tests of their own.
        let folders: &[&str] = if host == "native" {
            &["filters", "examples/01-rate-limit"]
        } else {
            &["filters", "examples", "sdk"]
        };
        test.arg("test").args(folders).args(["--on", host, "--format", "json"]);
        add(&format!("scenarios on {host}"), scenarios(&mut test)?);
    }
    add("demo", check(tollgate()?.arg("demo"))?);

    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn clippy() -> Command {
    let mut command = cargo();
    command.args(["clippy", "--quiet"]);
    command
}

/// The command as the tests have built it, beside this program.
fn tollgate() -> Result<Command> {
    let this = std::env::current_exe().context("this program has no path")?;
    let name = format!("tollgate{}", std::env::consts::EXE_SUFFIX);
    Ok(Command::new(this.with_file_name(name)))
}

/// A command that passes or fails as a whole.
fn check(command: &mut Command) -> Result<Count> {
    println!("-- {}", show(command));
    let status = command.status().with_context(|| show(command))?;
    let passed = usize::from(status.success());
    Ok(Count { passed, failed: 1 - passed, skipped: 0 })
}

/// A command that prints the result lines of Rust's test harness.
fn tests(command: &mut Command) -> Result<Count> {
    println!("-- {}", show(command));
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| show(command))?;
    let mut count = Count::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            if let Some(result) = line.strip_prefix("test result: ") {
                count.passed += number_before(result, " passed");
                count.failed += number_before(result, " failed");
            }
        }
    }
    // A test program that did not compile, or died, has no result line of its own.
    if !child.wait()?.success() && count.failed == 0 {
        count.failed = 1;
    }
    Ok(count)
}

fn number_before(text: &str, word: &str) -> usize {
    let before = text.split_once(word).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// A command that prints a report of scenarios.
fn scenarios(command: &mut Command) -> Result<Count> {
    println!("-- {}", show(command));
    let output = command.stderr(Stdio::inherit()).output().with_context(|| show(command))?;
    let Ok(report) = serde_json::from_slice::<Report>(&output.stdout) else {
        println!("{}", String::from_utf8_lossy(&output.stdout));
        return Ok(Count { failed: 1, ..Count::default() });
    };
    for case in &report.cases {
        match case.get("verdict").and_then(serde_json::Value::as_str) {
            Some("passed") => {}
            _ => println!("{case:#}"),
        }
    }
    let failed = report.failed + report.unplayed;
    Ok(Count { passed: report.passed, failed, skipped: report.skipped })
}

fn licences() -> Result<Count> {
    if is_there("cargo-deny", "--version") {
        return check(cargo().args(["deny", "check", "bans", "licenses", "sources"]));
    }
    println!("skipped: licences are not checked, cargo-deny is not installed");
    let required = std::env::var_os("CI").is_some_and(|value| value == "true");
    Ok(Count { passed: 0, failed: usize::from(required), skipped: usize::from(!required) })
}
