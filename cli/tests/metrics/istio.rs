//! The series of the profile `istio`, field by field, as Istio's own filter tells them. What is expected in
//! the scenarios is derived here from what each request is, by the rules of that filter and without any code
//! of ours; the scenarios are played on every host.
//!
//! Source: Istio, `source/extensions/filters/http/istio_stats/istio_stats.cc`; of statuses of gRPC the table
//! "HTTP to gRPC Status Code Mapping" of gRPC.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::common::root;

/// The labels in order, and of each that is of a side what it tells of it.
const LABELS: [(&str, Tells); 25] = [
    ("reporter", Tells::Reporter),
    ("source_workload", Tells::Of(Side::Source, "workload")),
    ("source_canonical_service", Tells::Of(Side::Source, "service")),
    ("source_canonical_revision", Tells::Of(Side::Source, "revision")),
    ("source_workload_namespace", Tells::Of(Side::Source, "namespace")),
    ("source_principal", Tells::Principal(Side::Source)),
    ("source_app", Tells::Of(Side::Source, "app")),
    ("source_version", Tells::Of(Side::Source, "version")),
    ("source_cluster", Tells::Of(Side::Source, "cluster")),
    ("destination_workload", Tells::Of(Side::Destination, "workload")),
    ("destination_workload_namespace", Tells::Of(Side::Destination, "namespace")),
    ("destination_principal", Tells::Principal(Side::Destination)),
    ("destination_app", Tells::Of(Side::Destination, "app")),
    ("destination_version", Tells::Of(Side::Destination, "version")),
    ("destination_service", Tells::ServiceHost),
    ("destination_canonical_service", Tells::Of(Side::Destination, "service")),
    ("destination_canonical_revision", Tells::Of(Side::Destination, "revision")),
    ("destination_service_name", Tells::ServiceName),
    ("destination_service_namespace", Tells::OfService("namespace")),
    ("destination_cluster", Tells::OfService("cluster")),
    ("request_protocol", Tells::Protocol),
    ("response_code", Tells::Code),
    ("grpc_response_status", Tells::GrpcStatus),
    ("response_flags", Tells::Flags),
    ("connection_security_policy", Tells::Security),
];

/// Metrics of messages have the labels before this one: those that are known while a stream is open.
const FIRST_OF_THE_END: &str = "request_protocol";

#[derive(Clone, Copy)]
enum Tells {
    Reporter,
    Of(Side, &'static str),
    Principal(Side),
    ServiceHost,
    ServiceName,
    /// The own value of a server or a waypoint, that of the peer of a client.
    OfService(&'static str),
    Protocol,
    Code,
    GrpcStatus,
    Flags,
    Security,
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Source,
    Destination,
}

/// Who a side of a request is to who reports.
#[derive(PartialEq)]
enum Role {
    Own,
    Peer,
    /// The server behind a waypoint.
    Endpoint,
}

struct Request<'a> {
    scenario: &'a Value,
    step: &'a Value,
}

impl Request<'_> {
    fn value(&self, tells: Tells) -> String {
        match tells {
            Tells::Reporter => self.reporter().to_owned(),
            Tells::Of(side, part) => self.part(&self.role(side), part),
            Tells::Principal(side) => match self.role(side) {
                Role::Own => or_unknown(self.own_san()),
                Role::Peer => or_unknown(self.peer_san()),
                Role::Endpoint => "unknown".to_owned(),
            },
            Tells::ServiceHost => self.service(self.service_host()),
            Tells::ServiceName => self.service(self.service_name()),
            Tells::OfService(part) => {
                let role = if self.reporter() == "source" { Role::Peer } else { Role::Own };
                self.part(&role, part)
            }
            Tells::Protocol => (if self.is_grpc() { "grpc" } else { "http" }).to_owned(),
            Tells::Code => self.code().to_string(),
            Tells::GrpcStatus if self.is_grpc() => self.grpc_status().to_string(),
            Tells::GrpcStatus => String::new(),
            Tells::Flags => self.flags().to_owned(),
            Tells::Security => match (self.reporter(), self.peer_san(), self.own_san()) {
                ("source", ..) => "unknown",
                (_, Some(_), Some(_)) => "mutual_tls",
                _ => "none",
            }
            .to_owned(),
        }
    }

    fn reporter(&self) -> &str {
        let configured = self.config()["reporter"].as_str();
        configured.unwrap_or(match self.scenario["proxy"]["listener"]["direction"].as_str() {
            Some("inbound") => "destination",
            _ => "source",
        })
    }

    fn config(&self) -> &Value {
        &self.scenario["filters"][0]["config"]
    }

    fn role(&self, side: Side) -> Role {
        match (self.reporter(), side) {
            ("source", Side::Source) | ("destination", Side::Destination) => Role::Own,
            ("waypoint", Side::Destination) => Role::Endpoint,
            _ => Role::Peer,
        }
    }

    fn part(&self, role: &Role, part: &str) -> String {
        let said = match role {
            // What a workload does not say of itself is empty.
            Role::Own => return self.own(part).unwrap_or_default(),
            Role::Peer if part == "namespace" => {
                let proven = self.peer_san().and_then(|san| {
                    let (_, rest) = san.split_once("/ns/")?;
                    rest.split('/').next().map(str::to_owned)
                });
                proven.or_else(|| self.peer(part))
            }
            Role::Peer => self.peer(part),
            Role::Endpoint => self.object("upstream_peer", part),
        };
        said.unwrap_or_else(|| match (role, part) {
            (Role::Peer, "revision") => "latest".to_owned(),
            _ => "unknown".to_owned(),
        })
    }

    fn own(&self, part: &str) -> Option<String> {
        let metadata = &self.scenario["proxy"]["node"]["metadata"];
        let labels = &metadata["LABELS"];
        text(match part {
            "workload" => &metadata["WORKLOAD_NAME"],
            "namespace" => &metadata["NAMESPACE"],
            "cluster" => &metadata["CLUSTER_ID"],
            "service" => &labels["service.istio.io/canonical-name"],
            "revision" => &labels["service.istio.io/canonical-revision"],
            part => &labels[part],
        })
    }

    /// What the other side's proxy has said, else what the control plane says of the endpoint.
    fn peer(&self, part: &str) -> Option<String> {
        if self.reporter() != "source" {
            return self.object("downstream_peer", part);
        }
        let of_endpoint = || {
            let workload = &self.scenario["proxy"]["endpoint"]["metadata"]["istio"]["workload"];
            let parts = ["workload", "namespace", "service", "revision", "cluster"];
            let at = parts.iter().position(|known| *known == part)?;
            let said = workload.as_str()?.split(';').nth(at)?;
            (!said.is_empty()).then(|| said.to_owned())
        };
        self.object("upstream_peer", part).or_else(of_endpoint)
    }

    fn object(&self, object: &str, part: &str) -> Option<String> {
        text(&self.scenario["properties"][format!("filter_state.{object}.{part}")])
    }

    fn peer_san(&self) -> Option<String> {
        let peers = &self.scenario["peers"];
        let name = self.step["peer"].as_str();
        let of_certificate = || first_uri(name.map(|name| &peers[name])?);
        self.principal("peer").or_else(of_certificate).filter(|_| self.reporter() != "source")
    }

    fn own_san(&self) -> Option<String> {
        let of_certificate = || first_uri(&self.scenario["tls"]["certificate"]);
        self.principal("local").or_else(of_certificate).filter(|_| self.reporter() != "source")
    }

    fn principal(&self, whose: &str) -> Option<String> {
        text(&self.scenario["properties"][format!("filter_state[io.istio.{whose}_principal]")])
    }

    fn host(&self) -> Option<String> {
        let authority = self.step["request"]["authority"].as_str().unwrap_or("example.com");
        let is_allowed = self.config()["host_fallback"] != false;
        is_allowed.then(|| authority.to_owned())
    }

    /// A word of Istio for what goes to no service.
    fn word(&self) -> Option<&str> {
        let cluster = self.scenario["proxy"]["cluster"]["name"].as_str().unwrap_or_default();
        match self.scenario["proxy"]["route"]["name"].as_str() {
            Some("block_all") => Some("BlackHoleCluster"),
            Some("allow_any") => Some("PassthroughCluster"),
            _ if cluster.ends_with("BlackHoleCluster") => Some(cluster),
            _ if cluster.contains("PassthroughCluster") => Some(cluster),
            _ => None,
        }
    }

    fn of_service(&self, key: &str) -> Option<String> {
        let metadata = &self.scenario["proxy"]["cluster"]["metadata"];
        text(&metadata["istio"]["services"][0][key]).filter(|_| self.word().is_none())
    }

    fn service_host(&self) -> Option<String> {
        self.of_service("host").or_else(|| self.host())
    }

    fn service_name(&self) -> Option<String> {
        let word = self.word().map(str::to_owned);
        word.or_else(|| self.of_service("name")).or_else(|| self.host())
    }

    fn service(&self, said: Option<String>) -> String {
        said.unwrap_or_else(|| match self.reporter() {
            "source" => "unknown".to_owned(),
            _ => self.part(&self.role(Side::Destination), "service"),
        })
    }

    fn is_grpc(&self) -> bool {
        let kind = header(&self.step["request"]["headers"], "content-type").unwrap_or_default();
        kind == "application/grpc" || kind.starts_with("application/grpc+")
    }

    fn code(&self) -> u64 {
        let upstream = &self.step["upstream"];
        match () {
            () if !self.step["request"]["disconnect"].is_null() => 0,
            () if upstream["reset"] == true => 503,
            () => upstream["status"].as_u64().unwrap_or(200),
        }
    }

    fn flags(&self) -> &str {
        match () {
            () if !self.step["request"]["disconnect"].is_null() => "DC",
            () if self.step["upstream"]["reset"] == true => "UC",
            () => "-",
        }
    }

    fn grpc_status(&self) -> i64 {
        let upstream = &self.step["upstream"];
        let said = header(&upstream["trailers"], "grpc-status")
            .or_else(|| header(&upstream["headers"], "grpc-status"));
        match (said, self.code()) {
            (Some(status), _) => status.parse().ok().filter(|s| (0..=16).contains(s)).unwrap_or(-1),
            (None, 400) => 13,
            (None, 401) => 16,
            (None, 403) => 7,
            (None, 404) => 12,
            (None, 429 | 502 | 503 | 504) => 14,
            (None, _) => 2,
        }
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn or_unknown(value: Option<String>) -> String {
    value.unwrap_or_else(|| "unknown".to_owned())
}

fn first_uri(certificate: &Value) -> Option<String> {
    let names = certificate["san"].as_array()?;
    names.iter().find_map(|name| name.as_str()?.strip_prefix("URI:").map(str::to_owned))
}

fn header<'a>(lines: &'a Value, name: &str) -> Option<&'a str> {
    let lines = lines.as_array()?;
    lines.iter().find(|line| line[0] == name).and_then(|line| line[1].as_str())
}

/// The labels of a metric of the request, by the reference.
fn expected(request: &Request<'_>, metric: &str) -> Vec<(String, String)> {
    let changes = request.config()["labels"].as_array();
    let is_dropped =
        |name: &str| changes.is_some_and(|all| all.iter().any(|label| label["name"] == name));
    let is_of_end = metric.ends_with("_messages_total");
    (LABELS.iter())
        .take_while(|(name, _)| !(is_of_end && *name == FIRST_OF_THE_END))
        .filter(|(name, _)| !is_dropped(name))
        .map(|(name, tells)| ((*name).to_owned(), request.value(*tells)))
        .collect()
}

/// The metric and the labels that a scenario names.
fn parsed(series: &str) -> (&str, Vec<(String, String)>) {
    let (labels, metric) = series.rsplit_once(";.;").unwrap_or(("", series));
    let pair = |label: &str| {
        let (name, value) = label.split_once("=.=").unwrap();
        (name.to_owned(), value.to_owned())
    };
    (metric, labels.split(";.;").map(pair).collect())
}

#[test]
fn the_series_of_istio_are_those_of_its_own_filter() {
    let mut requests = 0;
    let mut reporters = BTreeMap::<String, u32>::new();
    let folder = root().join("filters/metrics/tests/scenarios");
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if !file.file_name().unwrap().to_str().unwrap().starts_with("istio-") {
            continue;
        }
        let scenario: Value =
            tollgate_host::yaml::parse(&fs::read_to_string(&file).unwrap()).unwrap();
        let mut counts = BTreeMap::<Vec<(String, String)>, u64>::new();
        for step in scenario["steps"].as_array().unwrap() {
            let request = Request { scenario: &scenario, step };
            let labels = expected(&request, "istio_requests_total");
            let count = counts.entry(labels.clone()).or_default();
            *count += step["repeat"].as_u64().unwrap_or(1);
            for (series, value) in step["expect"]["metrics"].as_object().into_iter().flatten() {
                let (metric, told) = parsed(series);
                let place = format!("{}: {}", file.display(), step["request"]);
                assert_eq!(told, expected(&request, metric), "{place}");
                if metric == "istio_requests_total" {
                    assert_eq!(value.as_u64(), Some(*count), "{place}");
                    requests += 1;
                    *reporters.entry(request.reporter().to_owned()).or_default() += 1;
                }
            }
        }
    }
    println!("{requests} requests: {reporters:?}");
    assert!(requests >= 40, "{requests} requests");
    assert_eq!(reporters.len(), 3, "{reporters:?}");
}
