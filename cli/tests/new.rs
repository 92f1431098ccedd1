//! A project made by `tollgate new`, from its first file to its module.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::root;

/// An empty folder for one test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a program in a folder, without network, and with what was built there before.
fn run(program: &str, arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("CARGO_NET_OFFLINE", "true");
    // A folder of its own beside the project, which is made anew each time.
    command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-target"));
    command.env("CARGO_PROFILE_DEV_DEBUG", "0").output().unwrap()
}

fn tollgate(arguments: &[&str], folder: &Path) -> Output {
    run(env!("CARGO_BIN_EXE_tollgate"), arguments, folder)
}

fn succeeds(what: &str, output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{what}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn refuses(output: &Output, word: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.starts_with("error: ") && error.contains(word), "`{word}` is not in: {error}");
}

#[test]
fn a_new_project_builds_tests_and_checks() {
    let folder = folder("new");
    let sdk = root();
    let made = tollgate(&["new", "tenant-gate", "--sdk", sdk.to_str().unwrap()], &folder);
    succeeds("new", &made);
    let project = folder.join("tenant-gate");
    // The versions that are on this machine already.
    std::fs::copy(sdk.join("Cargo.lock"), project.join("Cargo.lock")).unwrap();

    let cargo = env!("CARGO");
    // The folder lies in this repository, whose style is not the project's.
    let style = ["fmt", "--", "--check", "--config", "use_small_heuristics=Default"];
    succeeds("fmt", &run(cargo, &style, &project));
    let tested = succeeds("test", &run(cargo, &["test"], &project));
    assert!(tested.contains("4 passed") && tested.contains("1 passed"), "{tested}");

    let built = tollgate(&["build", "--out", "target/filters"], &project);
    succeeds("build", &built);
    let played = succeeds("test", &tollgate(&["test"], &project));
    assert!(played.ends_with("2 passed, 0 failed\n"), "{played}");
    let check = ["check", "tenant-gate", "--config", "config.yaml"];
    let checked = succeeds("check", &tollgate(&check, &project));
    assert!(checked.contains("configuration  accepted"), "{checked}");
    let render = ["render", "policy.yaml", "--target", "envoy"];
    let rendered = succeeds("render", &tollgate(&render, &project));
    assert!(rendered.contains("filename: ") && rendered.contains("tenant-gate.wasm"), "{rendered}");
    let schema = succeeds("schema", &tollgate(&["check", "tenant-gate", "--schema"], &project));
    assert!(schema.contains("The tenants whose requests pass."), "{schema}");
}

#[test]
fn a_folder_that_is_there_is_left_alone() {
    let folder = folder("taken");
    let kept = folder.join("tenants/kept");
    std::fs::create_dir_all(&kept).unwrap();
    refuses(&tollgate(&["new", "tenants"], &folder), "tenants cannot be made");
    let there: Vec<_> = std::fs::read_dir(folder.join("tenants")).unwrap().collect();
    assert_eq!(there.len(), 1);
}

#[test]
fn what_cannot_be_made_is_told_and_leaves_nothing() {
    let folder = folder("refused");
    let sdk = folder.to_str().unwrap();
    for (arguments, word) in [
        (&["new", "2nd"][..], "`2nd` does not begin with a letter"),
        (&["new", "../up"], "does not begin with a letter"),
        (&["new", "async"], "`async` is taken"),
        (&["new", "tenants", "--sdk", "no/such"], "no/such is neither a URL nor a folder"),
        (&["new", "tenants", "--sdk", sdk], "no checkout of Tollgate"),
    ] {
        refuses(&tollgate(arguments, &folder), word);
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn without_a_path_the_sdk_comes_from_its_repository() {
    let folder = folder("by-git");
    succeeds("new", &tollgate(&["new", "tenants"], &folder));
    let manifest = std::fs::read_to_string(folder.join("tenants/Cargo.toml")).unwrap();
    let repository = env!("CARGO_PKG_REPOSITORY");
    assert!(manifest.contains(&format!("tollgate = {{ git = \"{repository}\" }}")), "{manifest}");
    for file in ["README.md", "src/lib.rs", "wasm/src/lib.rs", "tests/scenarios/tenants.yaml"] {
        let text = std::fs::read_to_string(folder.join("tenants").join(file)).unwrap();
        assert!(!text.contains("{{"), "{file}: {text}");
    }
}
