//! A real Prometheus reads a real Envoy, and answers what dashboard and rules ask.

use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_host_envoy::Supervised;

use crate::common::envoy::{ask, fetched, get};
use crate::common::is_installed;
use crate::conversation::{Turn, upstream};
use crate::proxy::{proxy, to_upstream};
use crate::{POLICY, folder, written};

/// How long servers may take to start, and until all queries have data.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn a_real_prometheus_answers_what_dashboard_and_rules_ask_of_a_real_envoy() {
    let Some(envoy) = fetched() else { return };
    if !is_installed("prometheus") {
        return;
    }
    let folder = folder("prometheus");
    let upstream = upstream(|request, _| {
        let answer = match request {
            _ if request.starts_with("GET /broken") => "HTTP/1.1 503 Broken\r\n",
            // An empty message of gRPC.
            _ if request.starts_with("POST /shop") => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",
            _ => "HTTP/1.1 200 OK\r\n",
        };
        let body = if request.starts_with("POST /shop") { "\0\0\0\0\0" } else { "" };
        vec![Turn::Says(format!("{answer}connection: close\r\n\r\n{body}"))]
    });
    let envoy = proxy(&envoy, &folder.join("envoy"), POLICY)
        .routes(json!([to_upstream("/", &json!({}))]))
        .upstream(upstream)
        .start();
    let (_prometheus, prometheus) = start_prometheus(&folder, envoy.admin);

    let mut queries = queries(&folder);
    let begin = Instant::now();
    loop {
        for path in ["/users/7", "/users/8", "/broken"] {
            envoy.get(path, "");
        }
        // An empty message of gRPC, to which there is another one.
        let of_grpc = "content-type: application/grpc\r\n";
        ask(envoy.listener, "POST /shop.Cart/Add", of_grpc, &[0; 5]);
        queries.retain(|query| !has_data(prometheus, query));
        if queries.is_empty() {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "these have no data: {queries:#?}");
        sleep(Duration::from_millis(200));
    }
}

/// Each query of the dashboard, what the rules record, an alert, and labels as labels.
fn queries(folder: &Path) -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&written(folder, &["dashboard"])).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut queries: Vec<String> =
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    queries.extend(["5m", "30m", "1h", "2h", "6h", "1d", "3d"].map(|window| {
        format!("tollgate_metrics:objective_bad:ratio_rate{window}{{objective=\"fast\"}}")
    }));
    queries.extend(
        [
            r#"tollgate_metrics_requests_total{route="/users/{id}",outcome="success"}"#,
            r#"tollgate_metrics_requests_total{route="other",outcome="server_error"}"#,
            r#"tollgate_metrics_duration_milliseconds_bucket{le="1000"}"#,
            r#"ALERTS{alertname="TollgateObjectiveBurns"}"#,
        ]
        .map(str::to_owned),
    );
    queries
}

/// Whether Prometheus answers a query with numbers.
fn has_data(prometheus: SocketAddr, query: &str) -> bool {
    let encoded = query.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
    let (answer, _) = get(prometheus, &format!("/api/v1/query?query={encoded}"), "");
    let Some((_, body)) = answer.split_once("\r\n\r\n") else { return false };
    let Ok(answer) = serde_json::from_str::<Value>(body) else { return false };
    assert_ne!(answer["status"], "error", "{query}: {answer}");
    let results = answer["data"]["result"].as_array().unwrap();
    results.iter().any(|result| result["value"][1].as_str().is_some_and(|value| value != "NaN"))
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
    while get(address, "/-/ready", "").1 != "200" {
        let said = || fs::read_to_string(folder.join("prometheus.log")).unwrap_or_default();
        assert!(!process.has_ended().unwrap() && begin.elapsed() < PATIENCE, "{}", said());
        sleep(Duration::from_millis(50));
    }
    (process, address)
}

/// One that is free now, and so most often in a moment.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
