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

mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod mesh;
mod readme;
#[path = "../images/registry.rs"]
#[allow(dead_code, reason = "of its kinds one is needed here")]
mod registry;
mod scenarios;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread;

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

/// All filters.
const FILTERS: [&str; 7] =
    ["canary", "metrics", "metrics-tcp", "mtls", "mtls-tcp", "ratelimit", "ratelimit-global"];

/// The filters that a target cannot have, and what it says of them.
const CANNOT: [(&str, &str, &str); 8] = [
    ("metrics-tcp", "istio-trafficextension", "filter: this is a filter of TCP"),
    ("mtls-tcp", "istio-trafficextension", "filter: this is a filter of TCP"),
    ("metrics-tcp", "envoy-gateway", "filter: this is a filter of TCP"),
    ("metrics-tcp", "higress", "filter: this is a filter of TCP"),
    ("mtls-tcp", "envoy-gateway", "filter: this is a filter of TCP"),
    ("mtls-tcp", "higress", "filter: this is a filter of TCP"),
    ("ratelimit-global", "envoy-gateway", "clusters: Envoy Gateway takes none"),
    ("ratelimit-global", "higress", "clusters: a plugin of Higress says none"),
];

/// The digest of an image that is only an example.
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn render(policy: &Path, target: &str) -> Output {
    render_with(policy, target, &[])
}

fn render_with(policy: &Path, target: &str, arguments: &[&str]) -> Output {
    let (policy, modules) = (policy.to_str().unwrap(), modules().to_str().unwrap());
    let all = ["render", policy, "--target", target, "--modules", modules];
    tollgate(&[&all, arguments].concat())
}

/// Renders a policy of this repository; the image is an example where there is one.
fn render_ready(filter: &str, which: &str, target: &str) -> Output {
    let policy = root().join(format!("envoyfilter/policies/{filter}{which}.yaml"));
    let image = format!("registry.example.com/filters/{filter}@{DIGEST}");
    let arguments = ["--image", &image];
    render_with(&policy, target, if which == "-file" { &[] } else { &arguments })
}

/// The targets that a filter is ready for, with their policies.
fn ready(filter: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let cannot =
        |target: &str| CANNOT.iter().any(|(what, whose, _)| (*what, *whose) == (filter, target));
    READY.into_iter().filter(move |(target, _)| !cannot(target))
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

/// A server that answers whatever it gets over TCP, as long as the test runs.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let _ = connection.read(&mut [0; 1024]);
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
        }
    });
    address
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
    let check = |filter: &str| {
        for (target, which) in ready(filter) {
            let got = text(render_ready(filter, which, target));
            let file = root().join(format!("envoyfilter/{target}/{filter}.yaml"));
            if std::env::var_os("BLESS").is_some() {
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, &got).unwrap();
            }
            let expected = fs::read_to_string(&file).unwrap_or_default();
            assert!(got == expected, "review {} with BLESS=1", file.display());
        }
    };
    thread::scope(|scope| {
        for filter in FILTERS {
            scope.spawn(move || check(filter));
        }
    });
}

#[test]
fn what_a_target_cannot_do_is_refused() {
    let folder = folder("cannot");
    for (filter, target, words) in CANNOT {
        let file = root().join(format!("envoyfilter/{target}/{filter}.yaml"));
        assert!(!file.exists(), "{}", file.display());
        let policy = root().join(format!("envoyfilter/policies/{filter}.yaml"));
        let policy = fs::read_to_string(policy).unwrap().replace("reload", "closed");
        // All else is as the target can have it.
        let (before, apply) = policy.split_once("apply:\n").unwrap();
        let behind: Vec<&str> = apply.lines().skip_while(|line| line.starts_with("  ")).collect();
        let apply = match target {
            "envoy-gateway" => "{ to: gateway, targets: [ { kind: Gateway, name: web } ] }",
            "higress" => "{ to: gateway }",
            _ => "{ selector: { app: orders } }",
        };
        let file = folder.join("policy.yaml");
        fs::write(&file, format!("{before}apply: {apply}\n{}\n", behind.join("\n"))).unwrap();
        let image = format!("registry.example.com/filters/{filter}@{DIGEST}");
        let output = render_with(&file, target, &["--image", &image]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(words), "{filter}: {error}");
    }
}

#[test]
fn the_resources_of_this_repository_have_no_traps() {
    let of = |filter| {
        ready(filter).map(move |(target, _)| format!("envoyfilter/{target}/{filter}.yaml"))
    };
    let files: Vec<String> = FILTERS.into_iter().flat_map(of).collect();
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

/// A whole bootstrap of a policy, with ports that are free; its files are in the folder.
fn whole(policy: &Path, target: &str, folder: &Path) -> Value {
    text(render_with(policy, target, &["--out", folder.to_str().unwrap()]));
    let rendered = fs::read_to_string(folder.join("envoy.yaml")).unwrap();
    let mut bootstrap: Value = tollgate_host::yaml::parse(&rendered).unwrap();
    let port = "/static_resources/listeners/0/address/socket_address/port_value";
    *bootstrap.pointer_mut(port).unwrap() = json!(0);
    let loopback = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
    bootstrap["admin"] = json!({ "address": loopback });
    bootstrap
}

#[test]
fn a_rendered_bootstrap_is_one() {
    let Some(envoy) = fetched() else { return };
    for target in ["envoy-bootstrap", "envoy-xds"] {
        let folder = folder(target);
        let policy = root().join("examples/01-rate-limit/deployed.yaml");
        let mut bootstrap = whole(&policy, target, &folder);
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
    let unpinned = fs::read_to_string(root().join("envoyfilter/policies/ratelimit.yaml")).unwrap();
    check(&unpinned, "istio", 2, "`tollgate push` has printed with --image");
    let placeholder = unpinned.replace(":0.1.0", &format!("@sha256:{}", "0".repeat(64)));
    check(&placeholder, "istio", 2, "a digest of zeros is a placeholder");
    let policy = fs::read_to_string(root().join("examples/01-rate-limit/deployed.yaml")).unwrap();
    check(&policy, "istio", 2, "namespace: missing");
}

#[test]
fn an_image_that_is_not_pinned_is_refused_where_it_is_named() {
    let policy = root().join("envoyfilter/policies/ratelimit.yaml");
    let check = |image: &str, word: &str| {
        let output = render_with(&policy, "istio", &["--image", image]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{image}: {error}");
        assert!(error.contains("--image") && error.contains(word), "{image}: {error}");
        assert!(output.stdout.is_empty(), "{image}");
    };
    check("registry.example.com/a:1", "registry.example.com/a:1 has no digest");
    check(&format!("registry.example.com/a@sha256:{}", "0".repeat(64)), "a digest of zeros");
    check("registry.example.com/a@sha256:1", "64 digits");
    check("", "REGISTRY/NAME");
}
