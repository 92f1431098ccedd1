//! `tollgate serve` between a real client and a real upstream: filters that change meanwhile, TLS, recordings,
//! and what `tollgate replay` makes of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod proxy;
mod tls;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::envoy::fetched;
use common::tollgate;
use proxy::{Serving, get, modules, post, upstream};

fn policy(requests: u32) -> String {
    format!(
        "rules: [ {{ name: users, key: [ {{ header: x-user }} ], \
         limit: {{ requests: {requests}, per: 1h }} }} ]\n\
         fields: none\n"
    )
}

/// A proxy that limits users, and records.
fn limiting(config: &Path, upstream: SocketAddr, record: &Path) -> Serving {
    let upstream = format!("http://{upstream}");
    let (config, record) = (config.to_str().unwrap(), record.to_str().unwrap());
    Serving::start(
        &[
            &["--filter", "ratelimit", "--config", config, "--upstream", &upstream][..],
            &["--record", record, "--redact", "X-Secret"],
        ]
        .concat(),
    )
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn replay(recording: &Path, more: &[&str]) -> (Option<i32>, String) {
    let recording = recording.to_str().unwrap();
    let modules = modules().to_str().unwrap();
    let output = tollgate(&[&["replay", recording, "--modules", modules], more].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_recording_of_a_proxy_that_was_killed_is_decided_again_as_it_was() {
    let folder = folder("recorded");
    let (config, recording) = (folder.join("policy.yaml"), folder.join("recording.jsonl"));
    fs::write(&config, policy(2)).unwrap();
    let upstream = upstream();
    // Two proxies, one after the other, in one file.
    for _ in 0..2 {
        let proxy = limiting(&config, upstream, &recording);
        let statuses = ["alice", "bob", "alice", "alice"].map(|user| get(proxy.address, user));
        assert_eq!(statuses, [200, 200, 200, 429]);
    }
    let text = fs::read_to_string(&recording).unwrap();
    assert!(!text.contains("s3cret") && !text.contains("4711-secret"), "{text}");

    let (code, told) = replay(&recording, &[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("proxy 2: 4 requests, 0 decided otherwise"), "{told}");

    let strict = folder.join("strict.yaml");
    fs::write(&strict, policy(1)).unwrap();
    let (code, told) = replay(&recording, &["--config", strict.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{told}");
    for words in [
        "4 requests, 2 decided otherwise",
        // Of a quota of one an hour, the next is later.
        "\n     1  429 by the proxy, with another message\n",
        "\n     1  passed, 200 -> 429 by the proxy\n          #3 at ",
        ": GET /orders\n",
        "- client got 200\n",
        "tollgate_ratelimit_refused is 2, and was 1",
    ] {
        assert!(told.contains(words), "{words}\n{told}");
    }
    let loose = folder.join("loose.yaml");
    fs::write(&loose, policy(9)).unwrap();
    let (code, told) =
        replay(&recording, &["--config", loose.to_str().unwrap(), "--format", "json"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(r#""now": "passed, 200""#) && told.contains(r#""made_up_answers": 1"#));

    // It is a scenario, on every host that is there.
    let (code, scenario) = replay(&recording, &["--as-scenario", "2"]);
    assert_eq!(code, Some(0), "{scenario}");
    let file = folder.join("recorded.yaml");
    fs::write(&file, &scenario).unwrap();
    let hosts = ["wasmtime", "envoy"].into_iter();
    for host in hosts.filter(|host| *host != "envoy" || fetched().is_some()) {
        let file = file.to_str().unwrap();
        let modules = modules().to_str().unwrap();
        let played = tollgate(&["test", file, "--on", host, "--seed", "7", "--modules", modules]);
        let told = String::from_utf8_lossy(&played.stdout);
        assert!(played.status.success(), "{host}: {told}\n{scenario}");
    }
    let (code, told) = replay(&recording, &["--as-scenario", "3"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("--as-scenario 3: the recording has 2 proxies"), "{told}");

    // Cut while a request was under way.
    let cut = text.find("{\"open\"").and_then(|at| Some(at + text.get(at..)?.find('\n')? + 1));
    fs::write(&recording, text.get(..cut.unwrap()).unwrap()).unwrap();
    let (code, told) = replay(&recording, &["--seed", "7"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("1 under way when the recording ended, and not compared"), "{told}");

    // The last line may have been half written; one in the midst may not.
    fs::write(&recording, text.get(..text.len() - 30).unwrap()).unwrap();
    let (code, told) = replay(&recording, &[]);
    assert_eq!(code, Some(0), "{told}");
    fs::write(&recording, text.replacen("{\"at\"", "{\"at", 1)).unwrap();
    let (code, told) = replay(&recording, &[]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("recording.jsonl: line 2: "), "{told}");
}

/// Lets a request go if a function that no host serves returns 1.
const ASKING_A_VENDOR: &str = r#"(module
  (import "env" "proxy_get_secret" (func $secret (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (if (i32.eq (i32.const 1) (call $secret (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
      (then (return (i32.const 0))))
    (drop (call $reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 0) (i32.const 0) (i32.const -1)))
    (i32.const 1)))"#;

#[test]
fn what_imports_answered_is_recorded_and_can_be_answered_otherwise() {
    let folder = folder("imports");
    let (module, recording) = (folder.join("asking.wasm"), folder.join("recording.jsonl"));
    fs::write(&module, wat::parse_str(ASKING_A_VENDOR).unwrap()).unwrap();
    let upstream = format!("http://{}", upstream());
    let import = ["--import", "env.proxy_get_secret=1"];
    let proxy = Serving::start(
        &[
            &["--filter", module.to_str().unwrap(), "--upstream", &upstream][..],
            &["--record", recording.to_str().unwrap()],
            &import,
        ]
        .concat(),
    );
    assert_eq!(post(proxy.address, "abcd"), 200);
    drop(proxy);

    let (code, told) = replay(&recording, &[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("1 requests, 0 decided otherwise"), "{told}");
    let (code, told) = replay(&recording, &["--import", "env.proxy_get_secret=2"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("passed, 200 -> 403 by the proxy"), "{told}");

    let (code, scenario) = replay(&recording, &["--as-scenario"]);
    assert_eq!(code, Some(0), "{scenario}");
    assert!(scenario.contains("imports:") && scenario.contains("only:"), "{scenario}");
    // Its bodies may come otherwise, and it is the same.
    let file = folder.join("recorded.yaml");
    fs::write(&file, format!("vary: all\n{scenario}")).unwrap();
    for more in [&[][..], &["--variant", "request body split at 1"]] {
        let played = tollgate(&[&["test", file.to_str().unwrap()], more].concat());
        let told =
            String::from_utf8_lossy(&played.stdout) + String::from_utf8_lossy(&played.stderr);
        assert!(played.status.success(), "{more:?}: {told}\n{scenario}");
        assert!(told.contains(if more.is_empty() { "(53 runs)" } else { "(2 runs)" }), "{told}");
    }
    let both = replay(&recording, &[&["--as-scenario"][..], &import].concat());
    assert_eq!(both.0, Some(2), "{}", both.1);
    assert!(both.1.contains("cannot be used with"), "{}", both.1);
}

#[test]
fn a_policy_that_changes_is_in_force_for_new_requests_and_a_wrong_one_is_not() {
    let folder = folder("reloaded");
    let (config, recording) = (folder.join("policy.yaml"), folder.join("recording.jsonl"));
    fs::write(&config, policy(1)).unwrap();
    let proxy = limiting(&config, upstream(), &recording);
    assert_eq!([get(proxy.address, "alice"), get(proxy.address, "alice")], [200, 429]);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut statuses = Vec::new();
            while !is_done.load(Ordering::Relaxed) && statuses.len() < 5000 {
                statuses.push(get(proxy.address, "bob"));
                thread::sleep(Duration::from_millis(5));
            }
            statuses
        });
        fs::write(&config, policy(3)).unwrap();
        proxy.wait_for("reloaded: new requests find the new ratelimit");
        let statuses = [(); 4].map(|()| get(proxy.address, "carol"));
        assert_eq!(statuses, [200, 200, 200, 429]);
        fs::write(&config, "rules: []\n").unwrap();
        proxy.wait_for("refused: ");
        proxy.wait_for("the old ratelimit stays");
        let statuses = [(); 4].map(|()| get(proxy.address, "dave"));
        assert_eq!(statuses, [200, 200, 200, 429]);
        is_done.store(true, Ordering::Relaxed);
        let statuses = traffic.join().unwrap();
        assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    });
    drop(proxy);
    let (code, told) = replay(&recording, &[]);
    assert_eq!(code, Some(0), "{told}");
    // A filter that is refused otherwise is another decision.
    let text = fs::read_to_string(&recording).unwrap();
    fs::write(&recording, text.replacen("{\"refused\":\"", "{\"refused\":\"else: ", 1)).unwrap();
    let (code, told) = replay(&recording, &[]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("and was refused: else: "), "{told}");
}

#[test]
fn a_guest_that_traps_is_told_of() {
    let folder = folder("trapped");
    let guest = r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
        (func $decide unreachable)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $decide) i32.const 0))"#;
    let module = folder.join("guest.wasm");
    fs::write(&module, wat::parse_str(guest).unwrap()).unwrap();
    let origin = format!("http://{}", upstream());
    let proxy = Serving::start(&["--filter", module.to_str().unwrap(), "--upstream", &origin]);
    assert_eq!(get(proxy.address, "alice"), 503);
    let told = proxy.wait_for("trapped in");
    for words in ["guest@0", "proxy_on_request_headers(context=2", "of GET /", "unreachable"] {
        assert!(told.contains(words), "{told}");
    }
    assert_eq!(proxy.wait_for("0: "), "  0: decide");
}

/// The rate limit as Istio deploys it, with a policy.
fn plugin(policy: &str) -> String {
    format!(
        "kind: WasmPlugin\nmetadata: {{ name: limits, namespace: shop }}\nspec:\n  \
         url: oci://example.com/ratelimit:1\n  pluginConfig:\n    {}\n",
        policy.trim_end().replace('\n', "\n    ")
    )
}

#[test]
fn what_is_deployed_is_served_and_followed_when_it_changes() {
    let folder = folder("deployed");
    let (file, recording) = (folder.join("plugin.yaml"), folder.join("recording.jsonl"));
    fs::write(&file, plugin(&policy(1))).unwrap();
    let upstream = format!("http://{}", upstream());
    let from = ["--from", file.to_str().unwrap(), "--module", "shop.limits=ratelimit"];
    let record = ["--upstream", &upstream, "--record", recording.to_str().unwrap()];
    let proxy = Serving::start(&[&from[..], &record].concat());
    assert_eq!([get(proxy.address, "alice"), get(proxy.address, "alice")], [200, 429]);
    fs::write(&file, plugin(&policy(2))).unwrap();
    proxy.wait_for("reloaded: new requests find the new shop.limits");
    assert_eq!([(); 3].map(|()| get(proxy.address, "bob")), [200, 200, 429]);
    let module = format!("file://{}", modules().join("ratelimit.wasm").display());
    let second = plugin(&policy(3)).replace("name: limits", "name: more");
    let second = second.replace("oci://example.com/ratelimit:1", &module);
    fs::write(&file, format!("{}---\n{second}", plugin(&policy(3)))).unwrap();
    proxy.wait_for("refused: the chain has 2 filters, and 1 when it was started");
    fs::write(&file, "kind: [").unwrap();
    let refused = proxy.wait_for("refused: ");
    assert!(refused.contains("plugin.yaml: line 1"), "{refused}");
    assert_eq!([(); 3].map(|()| get(proxy.address, "carol")), [200, 200, 429]);
    drop(proxy);
    // The plugin is recorded as it was deployed, also where it was exchanged.
    let (code, told) = replay(&recording, &[]);
    assert_eq!(code, Some(0), "{told}");
    let text = fs::read_to_string(&recording).unwrap();
    assert_eq!(text.matches("\"name\":\"shop.limits\"").count(), 2, "{text}");
    let (code, scenario) = replay(&recording, &["--as-scenario"]);
    assert_eq!(code, Some(0), "{scenario}");
    assert!(scenario.contains("name: shop.limits"), "{scenario}");

    let check = |arguments: &[&str], words: &str| {
        let output = tollgate(&[&["serve", "--upstream", &upstream][..], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(words), "`{words}` is not in: {error}");
    };
    check(&[], "--filter <FILTER>");
    check(&["--from", "x.yaml", "--filter", "ratelimit"], "cannot be used with");
    check(&["--from", "x.yaml", "--config", "x.yaml"], "cannot be used with");
    check(&["--from", "no/such.yaml"], "no/such.yaml");
    check(&["--filter", "ratelimit", "--plugin", "x"], "--from");
}
