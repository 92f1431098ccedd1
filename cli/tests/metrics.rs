//! `tollgate metrics`: what it writes makes a real Envoy show labels, and a real Prometheus answer what its
//! dashboard and its rules ask.
//!
//! Needs an Envoy, as `cargo ci` fetches it, and `prometheus` with `promtool`, as `.ci/run` installs them;
//! without them the tests that need them say so and pass, except with `CI=true`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_host_envoy::{Supervised, find_envoy};

use common::{is_installed, modules, root, tollgate};

/// How long servers may take to start, and until all queries have data.
const PATIENCE: Duration = Duration::from_mins(1);

const POLICY: &str = r#"
filter: metrics
config:
  profile: custom
  in_flight: true
  labels:
    - { name: route, templates: [ "/users/{id}" ] }
    - { name: outcome, fact: outcome }
  metrics:
    - { measure: duration, bounds: [ 10, 100, 1000 ] }
  objectives:
    - { name: fast, within_milliseconds: 300, target: 99.9% }
"#;

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
    assert_eq!(names, ["objective", "outcome", "route"]);
    let settings = &config["stats_config"]["histogram_bucket_settings"];
    assert_eq!(settings[0]["buckets"], json!([10, 100, 1000]));
    let istio: Value = tollgate_host::yaml::parse(&written(&folder, &["tags", "--istio"])).unwrap();
    assert_eq!(istio["sidecar.istio.io/extraStatTags"], "objective,outcome,route");
    assert_eq!(istio["sidecar.istio.io/statsHistogramBuckets"], r#"{"wasmcustom":[10,100,1000]}"#);
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

#[test]
fn a_real_prometheus_answers_what_dashboard_and_rules_ask_of_a_real_envoy() {
    let envoy = match find_envoy(None, &root().join("target/envoy/venv")) {
        Ok(envoy) => envoy,
        Err(error) => {
            let required = std::env::var_os("CI").is_some_and(|value| value == "true");
            assert!(!required, "{error}");
            return println!("skipped: {error}");
        }
    };
    if !is_installed("prometheus") {
        return;
    }
    let folder = folder("prometheus");
    let (_envoy, admin, listener) = start_envoy(&envoy, &folder);
    let (_prometheus, prometheus) = start_prometheus(&folder, admin);

    let dashboard: Value = serde_json::from_str(&written(&folder, &["dashboard"])).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut queries: Vec<String> =
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    queries.extend(["5m", "30m", "1h", "2h", "6h", "1d", "3d"].map(|window| {
        format!("tollgate_metrics:objective_bad:ratio_rate{window}{{objective=\"fast\"}}")
    }));
    // Labels are labels, and what happened is told apart by them.
    queries
        .push(r#"tollgate_metrics_requests_total{route="/users/{id}",outcome="success"}"#.into());
    queries.push(r#"tollgate_metrics_requests_total{route="other",outcome="server_error"}"#.into());
    queries.push(r#"tollgate_metrics_duration_milliseconds_bucket{le="1000"}"#.into());
    queries.push(r#"ALERTS{alertname="TollgateObjectiveBurns"}"#.into());
    let begin = Instant::now();
    loop {
        for path in ["/users/7", "/users/8", "/broken"] {
            get(listener, path);
        }
        // An empty message of gRPC, to which there is another one.
        ask(listener, "POST /shop.Cart/Add", "content-type: application/grpc\r\n", &[0; 5]);
        queries.retain(|query| !has_data(prometheus, query));
        if queries.is_empty() {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "these have no data: {queries:#?}");
        sleep(Duration::from_millis(200));
    }
}

/// Whether Prometheus answers a query with numbers.
fn has_data(prometheus: SocketAddr, query: &str) -> bool {
    let encoded = query.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
    let (answer, _) = get(prometheus, &format!("/api/v1/query?query={encoded}"));
    let Some((_, body)) = answer.split_once("\r\n\r\n") else { return false };
    let Ok(answer) = serde_json::from_str::<Value>(body) else { return false };
    assert_ne!(answer["status"], "error", "{query}: {answer}");
    let results = answer["data"]["result"].as_array().unwrap();
    results.iter().any(|result| result["value"][1].as_str().is_some_and(|value| value != "NaN"))
}

/// An Envoy with the rendered filter; where its admin interface and its listener are.
fn start_envoy(envoy: &Path, folder: &Path) -> (Supervised, SocketAddr, SocketAddr) {
    let policy = folder.join("policy.yaml");
    fs::write(&policy, POLICY).unwrap();
    let modules = modules().to_str().unwrap();
    let output =
        tollgate(&["render", policy.to_str().unwrap(), "--target", "envoy", "--modules", modules]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rendered = String::from_utf8(output.stdout).unwrap();
    let (filters, of_bootstrap) = rendered.split_once("\n---\n").unwrap();
    let filters: Vec<Value> = tollgate_host::yaml::parse(filters).unwrap();
    let rendered: Value = tollgate_host::yaml::parse(of_bootstrap).unwrap();
    let stats: Value = tollgate_host::yaml::parse(&written(folder, &["tags"])).unwrap();
    assert_eq!(
        rendered["stats_config"]["stats_tags"], stats["stats_config"]["stats_tags"],
        "the filter is rendered with the same tags"
    );
    fs::write(folder.join("envoy.json"), bootstrap(filters, &stats).to_string()).unwrap();
    let file = |name: &str| folder.join(name).into_os_string();
    let mut command = vec![envoy.into(), "--config-path".into(), file("envoy.json")];
    command.extend(["--admin-address-path".into(), file("admin")]);
    let rest = ["--concurrency", "2", "--log-level", "error", "--disable-hot-restart"];
    command.extend(rest.map(Into::into));
    let mut process = Supervised::start(&command, folder, "envoy.log").unwrap();
    let begin = Instant::now();
    loop {
        let said = || fs::read_to_string(folder.join("envoy.log")).unwrap_or_default();
        assert!(!process.has_ended().unwrap() && begin.elapsed() < PATIENCE, "{}", said());
        sleep(Duration::from_millis(20));
        let admin = fs::read_to_string(folder.join("admin")).unwrap_or_default();
        let Ok(admin) = admin.trim().parse() else { continue };
        let (listeners, status) = get(admin, "/listeners");
        let address = listeners.lines().find_map(|line| line.strip_prefix("all::"));
        if let (Some(address), "200") = (address, status.as_str())
            && get(admin, "/ready").1 == "200"
        {
            return (process, admin, address.trim().parse().unwrap());
        }
    }
}

/// A Prometheus that reads the Envoy each second, with the rules of the policy.
fn start_prometheus(folder: &Path, admin: SocketAddr) -> (Supervised, SocketAddr) {
    fs::write(folder.join("rules.yaml"), written(folder, &["rules"])).unwrap();
    let config = json!({
        "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
        "rule_files": [folder.join("rules.yaml")],
        "scrape_configs": [{
            "job_name": "envoy",
            "metrics_path": "/stats/prometheus",
            "static_configs": [{ "targets": [admin.to_string()] }],
        }],
    });
    fs::write(folder.join("prometheus.yaml"), config.to_string()).unwrap();
    // It cannot be told to take any port.
    let address = free_address();
    let option = |name: &str, value: &str| OsString::from(format!("--{name}={value}"));
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let command = [
        "prometheus".into(),
        option("config.file", &path("prometheus.yaml")),
        option("storage.tsdb.path", &path("data")),
        option("web.listen-address", &address.to_string()),
        option("log.level", "warn"),
    ];
    let mut process = Supervised::start(&command, folder, "prometheus.log").unwrap();
    let begin = Instant::now();
    while get(address, "/-/ready").1 != "200" {
        let said = || fs::read_to_string(folder.join("prometheus.log")).unwrap_or_default();
        assert!(!process.has_ended().unwrap() && begin.elapsed() < PATIENCE, "{}", said());
        sleep(Duration::from_millis(50));
    }
    (process, address)
}

fn get(to: SocketAddr, path: &str) -> (String, String) {
    ask(to, &format!("GET {path}"), "", &[])
}

/// The answer to a request, and its status.
fn ask(to: SocketAddr, line: &str, headers: &str, body: &[u8]) -> (String, String) {
    let Ok(mut connection) = TcpStream::connect(to) else { return Default::default() };
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(connection, "{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n")
        .unwrap();
    connection.write_all(body).unwrap();
    let mut answer = Vec::new();
    // Envoy may break a connection behind an answer that did not wait for the body.
    let _ = connection.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    (answer, status)
}

/// Two listeners: one with the filter, and the upstream behind it.
fn bootstrap(mut filters: Vec<Value>, stats: &Value) -> Value {
    let extensions = "type.googleapis.com/envoy.extensions.filters";
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": format!("{extensions}.http.router.v3.Router") },
    });
    filters.push(router.clone());
    let answer = |path: &str, answer: Value| json!({ "match": { "prefix": path }, "direct_response": answer });
    let kind = "network.http_connection_manager.v3.HttpConnectionManager";
    let listener = |name: &str, port: u16, filters: Vec<Value>, routes: Value| {
        json!({
            "name": name,
            "address": address(port),
            "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": format!("{extensions}.{kind}"),
                    "stat_prefix": name,
                    "http_filters": filters,
                    "route_config": { "virtual_hosts": [{
                        "name": "all",
                        "domains": ["*"],
                        "routes": routes,
                    }] },
                },
            }] }],
        })
    };
    let upstream = free_address().port();
    // Envoy itself answers what is of gRPC without a body.
    let to_upstream = json!([{
        "match": { "prefix": "/" },
        "route": { "cluster": "upstream" },
        "request_headers_to_remove": ["content-type"],
    }]);
    let answers = json!([
        answer("/broken", json!({ "status": 503 })),
        answer("/shop", json!({ "status": 200, "body": { "inline_bytes": "AAAAAAA=" } })),
        answer("/", json!({ "status": 200 })),
    ]);
    let endpoint = json!({ "endpoint": { "address": address(upstream) } });
    json!({
        "node": { "id": "metrics", "cluster": "metrics" },
        "admin": { "address": address(0) },
        "stats_config": stats["stats_config"],
        "static_resources": {
            "listeners": [
                listener("all", 0, filters, to_upstream),
                listener("upstream", upstream, vec![router], answers),
            ],
            "clusters": [{
                "name": "upstream",
                "load_assignment": {
                    "cluster_name": "upstream",
                    "endpoints": [{ "lb_endpoints": [endpoint] }],
                },
            }],
        },
    })
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

/// One that is free now, and so most often in a moment.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
