//! The README's way into a mesh, typed as it stands there, in a shell: with a registry of this machine, a real Envoy
//! and a real curl. There is no cluster: what `kubectl` would be given is the resource of this repository, with the
//! image that was pushed.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

use super::registry::{Mode, Registry};
use super::{DIGEST, upstream};
use crate::common::envoy::fetched;
use crate::common::{is_installed, modules, root};

/// What stands for the programs: modules are built already, `kubectl` keeps what it is given, and `curl` waits for
/// who is to answer, and tells statuses.
const PROGRAMS: &str = r#"
set -eu
trap '[ -z "${!-}" ] || kill $!' EXIT
cargo() {
    [ "$1" = tollgate ]; shift
    case $1 in
        build) test -f "$MODULES/$2.wasm" ;;
        lint) "$TOLLGATE" "$@" >&2 ;;
        *) "$TOLLGATE" "$@" --modules "$MODULES" ;;
    esac
}
kubectl() { [ "$1 $2 $#" = "apply -f 3" ]; cat "$3"/*; }
curl() {
    until command curl --silent --output /dev/null "$READY"; do sleep 0.1; done
    command curl --silent --output /dev/null --write-out '%{http_code} ' "$@"
}
"#;

/// The commands of a way: the block behind these words of the README's part on meshes.
fn commands(words: &str) -> Vec<String> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, part) = readme.split_once("\n## Into a mesh\n").unwrap();
    let (part, _) = part.split_once("\n## ").unwrap();
    let (_, part) = part.split_once(words).unwrap_or_else(|| panic!("{words}"));
    let (_, block) = part.split_once("```console\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let lines = block.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned);
    let commands: Vec<String> = lines.collect();
    assert_eq!(commands.len(), 5, "{words}: {commands:#?}");
    commands
}

/// What comes of commands that are typed one after another, with these texts in the place of others.
fn typed(commands: &[String], changes: &[(&str, &str)], ready: &str) -> String {
    let mut script = commands.join("\n");
    for (old, new) in changes {
        assert!(script.contains(old), "{old}: {script}");
        script = script.replace(old, new);
    }
    let output = Command::new("sh")
        .args(["-c", &format!("{PROGRAMS}\n{script}\n")])
        .current_dir(root())
        .env("TOLLGATE", cargo_bin("tollgate"))
        .env("MODULES", modules())
        .env("READY", ready)
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_filter_is_in_a_mesh_after_five_commands() {
    let Some(registry) = Registry::start(Mode::Plain) else { return };
    for (words, resource) in [
        ("\nIstio, ", "istio/ratelimit.yaml"),
        ("\nEnvoy Gateway:", "envoy-gateway/ratelimit.yaml"),
    ] {
        let folder = TempDir::new().unwrap();
        let address = registry.address();
        let out = folder.path().to_str().unwrap();
        let changes = [("registry.example.com", address.as_str()), ("target/mesh", out)];
        let given = typed(&commands(words), &changes, "");
        let (_, rest) = given.split_once("@sha256:").unwrap();
        let digest = rest.get(..64).unwrap();
        let ready = fs::read_to_string(root().join("envoyfilter").join(resource)).unwrap();
        let expected = ready
            .replace("registry.example.com", &address)
            .replace(DIGEST.trim_start_matches("sha256:"), digest);
        assert_eq!(given, expected);
    }
}

#[test]
fn a_filter_is_in_an_envoy_after_five_commands() {
    let Some(envoy) = fetched().filter(|_| is_installed("curl")) else { return };
    let folder = TempDir::new().unwrap();
    let mut commands = commands("\nEnvoy alone, ");
    // Nothing is installed by a test: it is the same that is fetched for it.
    let install = commands.remove(0);
    let (_, package) = install.rsplit_once(' ').unwrap();
    let setup = fs::read_to_string(root().join("xtask/src/setup.rs")).unwrap();
    assert!(setup.contains(&format!("{package:?}")), "{install}");
    assert!(install.contains("-m venv target/envoy/venv && target/envoy/venv/bin/pip install "));

    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let policy = "examples/01-rate-limit/deployed.yaml";
    let text = fs::read_to_string(root().join(policy)).unwrap();
    let text = text
        .replace("127.0.0.1:8080", &upstream().to_string())
        .replace(":10000", &format!(":{listen}"));
    let own = folder.path().join("policy.yaml");
    fs::write(&own, text).unwrap();
    let envoy = format!("timeout 60 {} --log-level error", envoy.display());
    let changes = [
        (policy, own.to_str().unwrap()),
        ("target/mesh", folder.path().to_str().unwrap()),
        ("target/envoy/venv/bin/envoy", &envoy),
        ("10000", &listen),
    ];
    // The last one is typed again.
    let last = commands.last().unwrap().clone();
    commands.extend([last.clone(), last]);
    let statuses = typed(&commands, &changes, &format!("http://127.0.0.1:{listen}/"));
    assert_eq!(statuses, "200 200 429 ");
}
