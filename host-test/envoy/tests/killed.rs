//! What is killed: the process that runs scenarios, which Envoy must not outlive, and Envoy itself, of
//! which a scenario must hear.
//!
//! For the first, this program starts itself, lets its second self start an Envoy, and kills it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Stage, scenario};
use tollgate_host::proxy::ProxyHost;
use tollgate_host::scenario::Step;

/// Set for the second self.
const HOLD: &str = "TOLLGATE_TEST_HOLD";

const SERVING: &str = "serving";

const ANY: &str = "{ name: any, filters: [ { filter: count } ], steps: [ { request: {} } ] }";

fn main() {
    if env::var_os(HOLD).is_some() {
        return hold();
    }
    if Stage::new().is_none() {
        return;
    }
    for signal in ["KILL", "TERM", "INT"] {
        check_that_envoy_is_gone_after(signal);
        println!("test an_envoy_is_gone_after_sig{} ... ok", signal.to_lowercase());
    }
    an_envoy_that_is_killed_is_told_of();
    println!("test an_envoy_that_is_killed_is_told_of ... ok");
}

fn hold() {
    let stage = Stage::new().unwrap();
    let _proxy = stage.host.start(&scenario(ANY)).unwrap();
    println!("{SERVING}");
    sleep(Duration::from_mins(1));
}

fn check_that_envoy_is_gone_after(signal: &str) {
    // All files of the second self are below this folder, so that its processes can be told by it.
    let folder = tempfile::tempdir().unwrap();
    let mut second = Command::new(env::current_exe().unwrap())
        .env(HOLD, "1")
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(second.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), SERVING);
    assert!(is_running(folder.path()), "there is no Envoy to kill");
    let second_id = second.id().to_string();
    assert!(Command::new("kill").args(["-s", signal, &second_id]).status().unwrap().success());
    second.wait().unwrap();
    let begin = Instant::now();
    while is_running(folder.path()) {
        assert!(begin.elapsed() < Duration::from_secs(10), "Envoy survived SIG{signal}");
        sleep(Duration::from_millis(5));
    }
    let is_left =
        |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("tollgate-envoy-");
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().filter(is_left).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn an_envoy_that_is_killed_is_told_of() {
    let stage = Stage::new().unwrap();
    let scenario = scenario(ANY);
    let mut proxy = stage.host.start(&scenario).unwrap();
    let Some(Step::Request(step)) = scenario.steps.first() else { panic!() };
    proxy.exchange(0, step).unwrap();
    let shell = children(std::process::id());
    let envoy = shell.iter().flat_map(|&shell| children(shell)).find(|&process| {
        let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        !command.starts_with(b"sh")
    });
    let envoy = envoy.unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &envoy]).status().unwrap().success());
    let failure = proxy.exchange(0, step).unwrap_err().to_string();
    assert!(failure.starts_with("Envoy ended in the middle of the scenario"), "{failure}");
}

fn children(parent: u32) -> Vec<u32> {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(children).unwrap();
    children.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// Whether a process names the folder in its command line.
fn is_running(folder: &Path) -> bool {
    let folder = folder.to_str().unwrap();
    let names_folder = |process: fs::DirEntry| {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(folder)
    };
    fs::read_dir("/proc").unwrap().flatten().any(names_folder)
}
