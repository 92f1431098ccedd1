//! `tollgate render`: what it writes makes a real Envoy do as the policy says, and a policy that the filter
//! refuses is not written.
//!
//! Needs an Envoy, as `cargo ci` fetches it; without one the test of it says so and passes, except with
//! `CI=true`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_host_envoy::{Supervised, find_envoy};

use common::{modules, root, tollgate};

/// How long Envoy may take to start and to answer.
const PATIENCE: Duration = Duration::from_secs(30);

fn render(policy: &Path) -> Output {
    let modules = modules().to_str().unwrap();
    tollgate(&["render", policy.to_str().unwrap(), "--target", "envoy", "--modules", modules])
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("render").join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_rendered_policy_does_on_envoy_what_it_says() {
    let envoy = match find_envoy(None, &root().join("target/envoy/venv")) {
        Ok(envoy) => envoy,
        Err(error) => {
            let required = std::env::var_os("CI").is_some_and(|value| value == "true");
            assert!(!required, "{error}");
            return println!("skipped: {error}");
        }
    };
    let output = render(&root().join("examples/01-rate-limit/deployed.yaml"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let filters: Vec<Value> =
        tollgate_host::yaml::parse(&String::from_utf8(output.stdout).unwrap()).unwrap();

    let folder = folder("envoy");
    fs::write(folder.join("envoy.json"), bootstrap(filters).to_string()).unwrap();
    let file = |name: &str| folder.join(name).into_os_string();
    let mut command = vec![envoy.into_os_string(), "--config-path".into(), file("envoy.json")];
    command.extend(["--admin-address-path".into(), file("admin")]);
    let rest = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"];
    command.extend(rest.map(Into::into));
    let _ = fs::remove_file(folder.join("admin"));
    let mut process = Supervised::start(&command, &folder, "log").unwrap();
    let listener = listener(&mut process, &folder);
    let statuses = [(); 3].map(|()| get(listener, "/", "x-user: alice\r\n").1);
    assert_eq!(statuses, ["200", "200", "429"]);
    assert_eq!(get(listener, "/", "x-user: bob\r\n").1, "200");
}

/// Where Envoy listens, once it serves.
fn listener(process: &mut Supervised, folder: &Path) -> SocketAddr {
    let begin = Instant::now();
    loop {
        let said = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(!process.has_ended().unwrap() && begin.elapsed() < PATIENCE, "{}", said());
        sleep(Duration::from_millis(20));
        let admin = fs::read_to_string(folder.join("admin")).unwrap_or_default();
        let Ok(admin) = admin.trim().parse() else { continue };
        let (listeners, status) = get(admin, "/listeners", "");
        let address = listeners.lines().find_map(|line| line.strip_prefix("all::"));
        if let (Some(address), "200") = (address, status.as_str())
            && get(admin, "/ready", "").1 == "200"
        {
            return address.trim().parse().unwrap();
        }
    }
}

/// The answer to a request, and its status.
fn get(to: SocketAddr, path: &str, lines: &str) -> (String, String) {
    let Ok(mut connection) = TcpStream::connect(to) else { return Default::default() };
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{lines}\r\n")
        .unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    (answer, status)
}

fn bootstrap(mut filters: Vec<Value>) -> Value {
    let loopback = || json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
    let extensions = "type.googleapis.com/envoy.extensions.filters";
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": format!("{extensions}.http.router.v3.Router") },
    }));
    let kind = "network.http_connection_manager.v3.HttpConnectionManager";
    json!({
        "node": { "id": "render", "cluster": "render" },
        "admin": { "address": loopback() },
        "static_resources": { "listeners": [{
            "name": "all",
            "address": loopback(),
            "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": format!("{extensions}.{kind}"),
                    "stat_prefix": "all",
                    "http_filters": filters,
                    "route_config": { "virtual_hosts": [{
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{
                            "match": { "prefix": "/" },
                            "direct_response": { "status": 200 },
                        }],
                    }] },
                },
            }] }],
        }] },
    })
}

#[test]
fn what_is_wrong_is_told_and_nothing_rendered() {
    let folder = folder("wrong");
    let check = |text: &str, code: i32, word: &str| {
        let policy = folder.join("policy.yaml");
        fs::write(&policy, text).unwrap();
        let output = render(&policy);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}: {error}");
        assert!(error.contains(word) && error.contains("policy.yaml"), "{text}: {error}");
        assert!(output.stdout.is_empty(), "{text}");
    };
    check("{ filter: ratelimit, config: { rules: [] } }", 1, "rules");
    check("{ filter: ratelimit }", 1, "rules");
    check("filter: ratelimit\nconfg: {}", 2, "confg");
    check("filter: ''", 2, "filter: empty");
    check("filter: no-such-filter", 2, "no-such-filter");
}
