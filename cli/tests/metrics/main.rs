//! `tollgate metrics`: what it writes makes a real Envoy show labels, and a real Prometheus answer what its
//! dashboard and its rules ask; and what the filter counts in a real Envoy.
//!
//! Needs an Envoy, as `cargo ci` fetches it, and `prometheus` with `promtool`, as `.ci/run` installs them;
//! without them the tests that need them say so and pass, except with `CI=true`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod budget;
#[path = "../common/mod.rs"]
mod common;
mod conversation;
mod istio;
mod prometheus;
mod proxy;
mod streams;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use common::{is_installed, tollgate};

const POLICY: &str = include_str!("../../../examples/12-metrics/policy.yaml");

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("metrics").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// What the command writes of the policy.
fn written(folder: &Path, what: &[&str]) -> String {
    let policy = folder.join("policy.yaml");
    fs::write(&policy, POLICY).unwrap();
    let output = tollgate(&[&["metrics"], what, &[policy.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn proxies_are_told_of_labels_and_bounds() {
    let folder = folder("tags");
    let config: Value = tollgate_host::yaml::parse(&written(&folder, &["tags"])).unwrap();
    let tags = config["stats_config"]["stats_tags"].as_array().unwrap();
    let names: Vec<_> = tags.iter().map(|tag| tag["tag_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["objective", "outcome", "route", "tier"]);
    let settings = &config["stats_config"]["histogram_bucket_settings"];
    assert_eq!(settings[0]["buckets"], json!([10, 100, 300, 1000]));
    let istio: Value = tollgate_host::yaml::parse(&written(&folder, &["tags", "--istio"])).unwrap();
    assert_eq!(istio["sidecar.istio.io/extraStatTags"], "objective,outcome,route,tier");
    assert_eq!(
        istio["sidecar.istio.io/statsHistogramBuckets"],
        r#"{"wasmcustom":[10,100,300,1000]}"#
    );
}

#[test]
fn what_is_no_policy_of_this_filter_is_told() {
    let folder = folder("wrong");
    let check = |text: &str, word: &str| {
        let policy = folder.join("policy.yaml");
        fs::write(&policy, text).unwrap();
        let output = tollgate(&["metrics", "rules", policy.to_str().unwrap()]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}: {error}");
        assert!(error.contains(word) && error.contains("policy.yaml"), "{text}: {error}");
    };
    check("{ filter: ratelimit }", "ratelimit is not metrics");
    check("{ filter: metrics, config: { profile: custom, budget: 0 } }", "budget: 0");
}

#[test]
fn promtool_takes_the_rules() {
    if !is_installed("promtool") {
        return;
    }
    let folder = folder("rules");
    fs::write(folder.join("rules.yaml"), written(&folder, &["rules"])).unwrap();
    let output =
        Command::new("promtool").args(["check", "rules"]).arg(folder.join("rules.yaml")).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("11 rules found"), "{output:?}");
}
