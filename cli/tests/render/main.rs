//! `tollgate render`: what it writes makes a real Envoy do as the policy says, and a policy that the filter
//! refuses is not written. The resources of this repository are what it writes.
//!
//! Needs an Envoy, as `cargo ci` fetches it; without one the test of it says so and passes, except with
//! `CI=true`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod mesh;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use common::envoy::{Envoy, bootstrap, connection_manager, fetched, http_filter, route};
use common::{modules, root, tollgate};

/// The resources of this repository: the folder, which is the target, and the policies; each is named after
/// its filter.
const READY: [(&str, &str); 9] = [
    ("istio", ""),
    ("istio-wasmplugin", ""),
    ("istio-trafficextension", ""),
    ("envoy-gateway", "-gateway"),
    ("higress", "-higress"),
    ("kuma", "-file"),
    ("envoy", "-file"),
    ("envoy-bootstrap", "-file"),
    ("envoy-xds", "-file"),
];

fn render(policy: &Path, target: &str) -> Output {
    let modules = modules().to_str().unwrap();
    tollgate(&["render", policy.to_str().unwrap(), "--target", target, "--modules", modules])
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("render").join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_rendered_policy_does_on_envoy_what_it_says() {
    let Some(envoy) = fetched() else { return };
    let rendered = text(render(&root().join("examples/01-rate-limit/deployed.yaml"), "envoy"));
    // The second document is for the bootstrap: the labels of the metrics.
    let (filters, stats) = rendered.split_once("\n---\n").unwrap();
    assert!(stats.contains("stats_tags"), "{stats}");
    let mut filters: Vec<Value> = tollgate_host::yaml::parse(filters).unwrap();
    filters.push(http_filter("router", "Router"));
    let manager = connection_manager(&json!(filters), &json!([route("all", "/")]));
    let bootstrap = bootstrap("all", &json!([{ "filters": [manager] }]));
    let envoy = Envoy::start(&envoy, &folder("envoy"), &bootstrap);
    let statuses = [(); 3].map(|()| envoy.get("/", "x-user: alice\r\n"));
    assert_eq!(statuses, ["200", "200", "429"]);
    assert_eq!(envoy.get("/", "x-user: bob\r\n"), "200");
}

#[test]
fn the_resources_of_this_repository_are_what_is_rendered() {
    let envoyfilter = root().join("envoyfilter");
    for filter in ["canary", "ratelimit"] {
        for (target, which) in READY {
            let policy = envoyfilter.join(format!("policies/{filter}{which}.yaml"));
            let got = text(render(&policy, target));
            let file = envoyfilter.join(target).join(format!("{filter}.yaml"));
            if std::env::var_os("BLESS").is_some() {
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, &got).unwrap();
            }
            let expected = fs::read_to_string(&file).unwrap_or_default();
            assert!(got == expected, "review {} with BLESS=1", file.display());
        }
    }
}

#[test]
fn the_resources_of_this_repository_have_no_traps() {
    let all = READY.iter().flat_map(|(target, _)| {
        ["canary", "ratelimit"].map(|filter| format!("envoyfilter/{target}/{filter}.yaml"))
    });
    let files: Vec<String> = all.collect();
    let arguments: Vec<&str> =
        ["lint"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let output = tollgate(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn traps_are_told_with_file_line_and_column() {
    let file = "envoyfilter/tests/lint/traps/add.yaml";
    let correct = "envoyfilter/tests/lint/correct/pair.yaml";
    let output = tollgate(&["lint", correct, file]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.starts_with(&format!("{file}:51:18: add-after-router: ")), "{told}");
    assert!(told.contains("why: ") && told.contains("fix: "), "{told}");

    let output = tollgate(&["lint", "--format", "json", file]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["findings"][0]["rule"], "add-after-router");
    assert_eq!(report["findings"][0]["file"], file);
    assert_eq!(tollgate(&["lint", correct]).status.code(), Some(0));
    assert_eq!(tollgate(&["lint", "no-such.yaml"]).status.code(), Some(2));
}

#[test]
fn documents_go_into_a_folder_a_file_each() {
    let folder = folder("out");
    let policy = root().join("envoyfilter/policies/ratelimit-file.yaml");
    let (policy, out) = (policy.to_str().unwrap(), folder.to_str().unwrap());
    let modules = modules().to_str().unwrap();
    let arguments = ["render", policy, "--target", "envoy-xds", "--modules", modules, "--out", out];
    assert_eq!(text(tollgate(&arguments)), "");
    for name in ["envoy.yaml", "filter.yaml"] {
        assert!(folder.join(name).exists(), "{name}");
    }
}

/// A whole bootstrap of the policy of the example, with ports that are free.
fn whole(target: &str, name: &str) -> (PathBuf, Value) {
    let folder = folder(name);
    let policy = root().join("examples/01-rate-limit/deployed.yaml");
    let (policy, out) = (policy.to_str().unwrap(), folder.to_str().unwrap());
    let modules = modules().to_str().unwrap();
    text(tollgate(&["render", policy, "--target", target, "--modules", modules, "--out", out]));
    let rendered = fs::read_to_string(folder.join("envoy.yaml")).unwrap();
    let mut bootstrap: Value = tollgate_host::yaml::parse(&rendered).unwrap();
    let port = "/static_resources/listeners/0/address/socket_address/port_value";
    *bootstrap.pointer_mut(port).unwrap() = json!(0);
    let loopback = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
    bootstrap["admin"] = json!({ "address": loopback });
    (folder, bootstrap)
}

#[test]
fn a_rendered_bootstrap_is_one() {
    let Some(envoy) = fetched() else { return };
    for target in ["envoy-bootstrap", "envoy-xds"] {
        let (folder, mut bootstrap) = whole(target, target);
        let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        let file = format!(
            "{manager}/http_filters/0/config_discovery/config_source/path_config_source/path"
        );
        if let Some(path) = bootstrap.pointer_mut(&file) {
            assert_eq!(path, "./filter.yaml");
            *path = json!(folder.join("filter.yaml"));
        }
        let envoy = Envoy::start(&envoy, &folder, &bootstrap);
        // Nothing answers behind it.
        let statuses = [(); 3].map(|()| envoy.get("/", "x-user: alice\r\n"));
        assert_eq!(statuses, ["503", "503", "429"], "{target}");
    }
}

/// Every command of the README's part on meshes that this program has.
#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, part) = readme.split_once("\n## Into a mesh\n").unwrap();
    let (part, _) = part.split_once("\n## ").unwrap();
    let modules = modules().to_str().unwrap();
    let mut ran = 0;
    for command in part.lines().filter_map(|line| line.strip_prefix("$ cargo tollgate ")) {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        if arguments[0] == "render" {
            arguments.extend(["--modules", modules]);
        }
        text(tollgate(&arguments));
        ran += 1;
    }
    assert!(ran >= 5, "only {ran}");
    for file in ["istio/envoyfilter.yaml", "gateway/envoyextensionpolicy.yaml", "envoy/envoy.yaml"]
    {
        assert!(root().join("target/mesh").join(file).exists(), "{file}");
    }
}

#[test]
fn what_is_wrong_is_told_and_nothing_rendered() {
    let folder = folder("wrong");
    let check = |text: &str, target: &str, code: i32, word: &str| {
        let policy = folder.join("policy.yaml");
        fs::write(&policy, text).unwrap();
        let output = render(&policy, target);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}: {error}");
        assert!(error.contains(word) && error.contains("policy.yaml"), "{text}: {error}");
        assert!(output.stdout.is_empty(), "{text}");
    };
    check("{ filter: ratelimit, config: { rules: [] } }", "envoy", 1, "rules");
    check("{ filter: ratelimit }", "envoy", 1, "rules");
    check("filter: ratelimit\nconfg: {}", "envoy", 2, "confg");
    check("filter: ''", "envoy", 2, "filter: empty");
    check("filter: no-such-filter", "envoy", 2, "no-such-filter");
    let policy = fs::read_to_string(root().join("examples/01-rate-limit/deployed.yaml")).unwrap();
    check(&policy, "istio", 2, "namespace: missing");
}
