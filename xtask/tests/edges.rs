//! The crate edges, and the paths that the documents name, against what is really there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// Crates from outside that only some members may use.
const GUARDED: [&str; 3] = ["proxy-wasm", "wasm-bindgen", "wasmtime"];

#[derive(Deserialize)]
struct Workspace {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    optional: bool,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).expect(file)
}

fn workspace() -> Workspace {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(root());
    serde_json::from_slice(&cargo.output().unwrap().stdout).unwrap()
}

/// Each edge as a line `crate: dependency`, `crate (tests): dependency`, or `crate (optional): dependency`
/// for what only a feature brings.
fn real_edges() -> BTreeSet<String> {
    let workspace = workspace();
    let members: Vec<&str> = workspace.packages.iter().map(|p| p.name.as_str()).collect();
    let mut edges: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for package in &workspace.packages {
        edges.entry(package.name.clone()).or_default();
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if !members.contains(&name) && !GUARDED.contains(&name) {
                continue;
            }
            let from = match dependency.kind.as_deref() {
                None if dependency.optional => format!("{} (optional)", package.name),
                None => package.name.clone(),
                Some("dev") => format!("{} (tests)", package.name),
                Some(kind) => format!("{} ({kind})", package.name),
            };
            edges.entry(from).or_default().insert(name);
        }
    }
    let line = |(from, to): (String, BTreeSet<&str>)| {
        format!("{from}: {}", to.into_iter().collect::<Vec<_>>().join(" ")).trim().to_owned()
    };
    edges.into_iter().map(line).collect()
}

/// The lines of the block that ARCHITECTURE.md opens with ```` ```edges ````.
fn written_edges() -> BTreeSet<String> {
    let text = read("ARCHITECTURE.md");
    let (_, block) = text.split_once("```edges\n").expect("a block of edges");
    let (block, _) = block.split_once("```").expect("its end");
    block.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_crate_edges_are_those_that_the_architecture_lists() {
    let (real, written) = (real_edges(), written_edges());
    let unlisted: Vec<_> = real.difference(&written).collect();
    let gone: Vec<_> = written.difference(&real).collect();
    assert!(
        unlisted.is_empty() && gone.is_empty(),
        "ARCHITECTURE.md does not list: {unlisted:#?}\nand lists what is not there: {gone:#?}"
    );
}

#[test]
fn a_filter_is_tested_without_compiling_wasmtime() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--package", "tollgate-ratelimit", "--edges", "normal,dev,build"]);
    let output = cargo.current_dir(root()).output().unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("tollgate-host-native"), "the tree is not what this test knows:\n{tree}");
    assert!(!tree.contains("wasmtime v"), "{tree}");
}

#[test]
fn the_paths_that_the_documents_name_exist() {
    let mut missing = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        for word in read(document).split(['`', '(', ')', ' ', '\n']) {
            let first = word.split('/').next().unwrap_or_default();
            let is_path = word.contains('/')
                && [
                    "sdk",
                    "filters",
                    "host-test",
                    "cli",
                    "xtask",
                    "examples",
                    "envoyfilter",
                    ".ci",
                ]
                .contains(&first)
                && !word.contains(['*', '<', '{', '…']);
            if is_path && !root().join(word.trim_end_matches(['.', ',', ':', ';'])).exists() {
                missing.push(format!("{document}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
