//! `tollgate push`, `pull`, `inspect` and `verify` on a real registry: plain, with TLS, with logins, and
//! with what goes wrong in between.
//!
//! Needs Debian's `docker-registry`, and for some tests `skopeo` or an Envoy; without them these say so
//! and pass, except with `CI=true`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod layouts;
mod logins;
mod played;
mod proxy;
mod registry;
mod rendering;
mod tokens;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use assert_cmd::Command as Asserted;
use serde_json::Value;
use tempfile::TempDir;
use tollgate_host_envoy::find_envoy;

use common::{is_installed, modules, root};
use registry::{Mode, Registry};

/// The command without the credentials and proxies of whoever runs the tests.
pub(crate) fn command(arguments: &[&str]) -> Asserted {
    let mut command = Asserted::cargo_bin("tollgate").unwrap();
    command.current_dir(root()).args(arguments).env("HOME", "/nonexistent");
    for name in ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// What a command that succeeds prints.
#[track_caller]
pub(crate) fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// What a command that fails says.
#[track_caller]
pub(crate) fn refused(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
    said(&output)
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub(crate) fn inspected(image: &str) -> Value {
    serde_json::from_str(&printed(&["inspect", image, "--format", "json"])).unwrap()
}

/// A module that Envoy loads; each number gives another.
pub(crate) fn module(number: u32) -> Vec<u8> {
    let text = format!(
        r#"(module (memory (export "memory") 1)
            (func (export "proxy_abi_version_0_2_1"))
            (func (export "malloc") (param i32) (result i32) (i32.const {number})))"#
    );
    wat::parse_str(text).unwrap()
}

/// Files of modules, by number.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn module(&self, number: u32) -> String {
        let file = self.path(&format!("{number}.wasm"));
        fs::write(&file, module(number)).unwrap();
        file.to_str().unwrap().to_owned()
    }
}

fn digest_of(pinned: &str) -> &str {
    pinned.split_once('@').unwrap().1
}

#[test]
fn what_is_pushed_comes_back_byte_for_byte() {
    let Some(registry) = Registry::start(Mode::Plain) else { return };
    let (files, at) = (Files::new(), registry.address());
    let (module, repo) = (files.module(1), format!("{at}/filters/one"));
    let (first, second, other) =
        (format!("{repo}:1.0.0"), format!("{repo}:latest"), format!("{at}/other:v1"));

    let planned = printed(&["push", &module, &first, "--dry-run"]);
    assert!(refused(&["inspect", &first], 2).contains("no such image"));
    let pinned = printed(&["push", &module, &first, &second, &other]);
    let pinned: Vec<&str> = pinned.lines().collect();
    assert_eq!(pinned.len(), 2, "a line for each repository: {pinned:?}");
    assert_eq!(planned.lines().last(), Some(pinned[0]));
    assert_eq!(pinned[0], format!("{repo}@{}", digest_of(pinned[1])));

    for image in [&first, &second, &other, pinned[0], &repo] {
        let out = files.path("pulled.wasm");
        assert_eq!(
            digest_of(&printed(&["pull", image, "--out", out.to_str().unwrap()])),
            digest_of(pinned[0])
        );
        assert_eq!(fs::read(&out).unwrap(), fs::read(&module).unwrap(), "{image}");
    }
    let found = inspected(&first);
    assert_eq!(found["layout"], "oci-compat");
    assert_eq!(found["digest"], digest_of(pinned[0]));
    assert_eq!(found["module"]["abi"], "0.2.1");
    let verdict = printed(&["verify", pinned[0]]);
    for mesh in ["Istio", "Envoy Gateway", "Higress"] {
        assert!(verdict.contains(&format!("  {mesh:<14} takes it")), "{verdict}");
    }
    // The same again sends and changes nothing, and is no error.
    assert_eq!(printed(&["push", &module, &first]), pinned[0]);
}

#[test]
fn a_tag_that_is_a_version_stays_unless_forced() {
    let Some(registry) = Registry::start(Mode::Plain) else { return };
    let (files, at) = (Files::new(), registry.address());
    let (version, moving) = (format!("{at}/a:v1.2.0"), format!("{at}/a:1.2"));
    let first = printed(&["push", &files.module(1), &version, &moving]);
    // Refused before anything is stored, also where nothing is in the way.
    let words = refused(&["push", &files.module(2), &moving, &version], 2);
    assert!(words.contains("v1.2.0 is a version and stands for sha256:"), "{words}");
    assert_eq!(inspected(&moving)["digest"], digest_of(&first));
    let second = printed(&["push", &files.module(2), &moving, &version, "--force"]);
    assert_ne!(first, second);
    assert_eq!(inspected(&moving)["digest"], digest_of(&second));
    assert_eq!(inspected(&version)["digest"], digest_of(&second));
    assert_eq!(
        inspected(&first)["digest"],
        digest_of(&first),
        "the old image is there by its digest"
    );
}

#[test]
fn progress_is_shown_on_a_terminal_alone() {
    let Some(registry) = Registry::start(Mode::Plain) else { return };
    if !is_installed("script") {
        return;
    }
    let (files, at) = (Files::new(), registry.address());
    let tollgate = assert_cmd::cargo::cargo_bin("tollgate");
    let on_a_terminal = |arguments: &str| {
        let command = format!("{} {arguments}", tollgate.display());
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).current_dir(root());
        let output = script.output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments}: {shown}");
        shown
    };
    // Digests whose bars have come to their end, however often they were drawn.
    let whole = |shown: &str| {
        let bars = shown.split("sha256:").filter(|bar| bar.contains("=] 100 %  163 B of 163 B"));
        bars.filter_map(|bar| bar.split(' ').next()).collect::<BTreeSet<_>>().len()
    };
    let (module, image) = (files.module(1), format!("{at}/a:edge"));
    let shown = on_a_terminal(&format!("push {module} {image}"));
    // The configuration, and the layer with the module.
    assert_eq!(whole(&shown), 2, "{shown:?}");
    assert!(shown.contains("edge  named"), "{shown:?}");
    let pinned = shown.lines().last().unwrap().trim().to_owned();
    let shown = on_a_terminal(&format!("push {module} {image}"));
    assert_eq!(shown.matches("there already").count(), 2, "{shown:?}");
    let out = files.path("pulled.wasm");
    let shown = on_a_terminal(&format!("pull {pinned} --out {}", out.display()));
    assert_eq!(whole(&shown), 1, "{shown:?}");
    assert_eq!(fs::read(&out).unwrap(), fs::read(&module).unwrap());
    // Elsewhere nothing is shown.
    let output = run(&["push", &files.module(2), &image]);
    assert_eq!((said(&output).as_str(), output.status.code()), ("", Some(0)));
}

#[test]
fn wrong_usage_is_told_before_anything_is_asked() {
    let files = Files::new();
    let module = files.module(1);
    let pinned = format!("a.test/b@sha256:{}", "0".repeat(64));
    let check = |arguments: &[&str], code: i32, word: &str| {
        let words = refused(arguments, code);
        assert!(words.contains(word), "{arguments:?}: {words}");
    };
    check(&["push", &module], 2, "REPO");
    check(&["push", &module, "acme/limit:1"], 2, "REGISTRY/NAME");
    check(&["push", &module, &pinned], 2, "leave it out");
    check(&["push", &module, "a.test/b", "--annotation", "x"], 2, "KEY=VALUE");
    check(&["push", &module, "a.test/b", "--plain-http", "--ca", "x"], 2, "--ca");
    check(&["push", &module, "a.test/b", "--username", "x"], 2, "--password-stdin");
    check(&["pull", "a.test/b", "--ca", "/no-such-file"], 2, "/no-such-file");
    let variant = "module.wasm.image/variant=x";
    check(&["push", &module, "a.test/b", "--dry-run", "--annotation", variant], 2, "leave it out");
    let no_filter = files.path("no-filter.wasm");
    fs::write(&no_filter, b"\0asm\x01\0\0\0").unwrap();
    check(&["push", no_filter.to_str().unwrap(), "a.test/b"], 1, "ABI");
}

#[test]
fn a_registry_with_tls_is_trusted_by_its_ca_alone() {
    let Some(registry) = Registry::start(Mode::Tls) else { return };
    let (files, at) = (Files::new(), registry.address());
    let (module, image, ca) = (files.module(1), format!("{at}/a:1.0.0"), registry.ca());
    let ca = ca.to_str().unwrap();
    let pinned = printed(&["push", &module, &image, "--ca", ca]);
    assert!(printed(&["verify", &pinned, "--ca", ca]).contains("Istio          takes it"));
    assert!(printed(&["inspect", &image, "--ca", ca]).contains("layout    compat"));
    let pulled = files.path("pulled.wasm");
    printed(&["pull", &image, "--ca", ca, "--out", pulled.to_str().unwrap()]);
    assert_eq!(fs::read(&pulled).unwrap(), fs::read(&module).unwrap());
    let empty = files.path("empty.pem");
    fs::write(&empty, "").unwrap();
    assert!(
        refused(&["pull", &image, "--ca", empty.to_str().unwrap()], 2).contains("no certificate")
    );
    // The system vouches for the rest, and not for this one.
    let stranger = registry.stranger();
    let words = refused(&["pull", &image, "--ca", stranger.to_str().unwrap()], 2);
    assert!(words.contains("UnknownIssuer"), "{words}");
    // On loopback, plain HTTP without a CA.
    assert!(refused(&["pull", &image], 2).contains("status 400"));
}

#[test]
fn other_tools_read_what_is_pushed() {
    let Some(registry) = Registry::start(Mode::Plain) else { return };
    if !is_installed("skopeo") {
        return;
    }
    let (files, at) = (Files::new(), registry.address());
    let (module, image) = (files.module(7), format!("{at}/a:1.0.0"));
    let pinned = printed(&[
        "push",
        &module,
        &image,
        "--annotation",
        "org.opencontainers.image.licenses=MIT",
    ]);
    let skopeo = |arguments: &[&str]| {
        let output = Command::new("skopeo").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        output.stdout
    };
    let found = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{image}")]);
    let found: Value = serde_json::from_slice(&found).unwrap();
    assert_eq!(found["Digest"], digest_of(&pinned));
    assert_eq!(found["Architecture"], "amd64");
    let copy = files.path("copy");
    let to = format!("dir:{}", copy.display());
    skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{image}"), &to]);
    // By the rule of Istio, with other tools: the last layer, and `plugin.wasm` in it.
    let manifest: Value =
        serde_json::from_slice(&fs::read(copy.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["annotations"]["module.wasm.image/variant"], "compat");
    assert_eq!(manifest["annotations"]["org.opencontainers.image.licenses"], "MIT");
    let layer = manifest["layers"].as_array().unwrap().last().unwrap();
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let layer = copy.join(layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap());
    let tar = Command::new("tar").arg("-xzOf").arg(&layer).arg("plugin.wasm").output().unwrap();
    assert!(tar.status.success(), "{}", said(&tar));
    assert_eq!(tar.stdout, fs::read(&module).unwrap());
}

#[test]
fn a_pulled_filter_does_on_envoy_what_the_built_one_does() {
    let Some(registry) = Registry::start(Mode::Plain) else { return };
    if let Err(error) = find_envoy(None, &root().join("target/envoy/venv")) {
        let required = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!required, "{error}");
        return println!("skipped: {error}");
    }
    let (files, at) = (Files::new(), registry.address());
    let image = format!("{at}/ratelimit:0.1.0");
    let pinned = printed(&["push", "ratelimit", &image, "--modules", modules().to_str().unwrap()]);
    let found = inspected(&image);
    assert_eq!(found["annotations"]["org.opencontainers.image.title"], "ratelimit");
    let pulled = files.path("pulled.wasm");
    printed(&["pull", &pinned, "--out", pulled.to_str().unwrap()]);
    let scenario = root().join("filters/ratelimit/tests/scenarios/two-workers.yaml");
    let text = fs::read_to_string(scenario).unwrap();
    let text = text.replace("filter: ratelimit", &format!("filter: {}", pulled.display()));
    let scenario = files.path("two-workers.yaml");
    fs::write(&scenario, text).unwrap();
    let report =
        printed(&["test", "--on", "envoy", scenario.to_str().unwrap(), "--format", "json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["passed"], &report["failed"]), (&1.into(), &0.into()), "{report}");
}
