//! An Envoy with a policy of this filter, as the command renders it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::envoy::{Envoy, bootstrap, cluster, connection_manager, get, http_filter};
use crate::common::{modules, tollgate};

/// How long Envoy may take to count, and to merge histograms.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an Envoy is started with.
pub(crate) struct Proxy<'a> {
    envoy: &'a Path,
    folder: PathBuf,
    workers: u8,
    filters: Vec<Value>,
    stats_config: Value,
    routes: Value,
    options: Value,
    clusters: Vec<Value>,
}

/// An Envoy with this policy, which keeps its files in the folder.
pub(crate) fn proxy<'a>(envoy: &'a Path, folder: &Path, policy: &str) -> Proxy<'a> {
    fs::create_dir_all(folder).unwrap();
    let file = folder.join("policy.yaml");
    fs::write(&file, policy).unwrap();
    let (file, modules) = (file.to_str().unwrap(), modules().to_str().unwrap());
    let output = tollgate(&["render", file, "--target", "envoy", "--modules", modules]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rendered = String::from_utf8(output.stdout).unwrap();
    let (filters, of_bootstrap) = rendered.split_once("\n---\n").unwrap();
    let rendered: Value = tollgate_host::yaml::parse(of_bootstrap).unwrap();
    let output = tollgate(&["metrics", "tags", file]);
    let stats = String::from_utf8(output.stdout).unwrap();
    let mut stats: Value = tollgate_host::yaml::parse(&stats).unwrap();
    assert_eq!(rendered, stats, "the filter is rendered with the same labels and bounds");
    Proxy {
        envoy,
        folder: folder.to_owned(),
        workers: 1,
        filters: tollgate_host::yaml::parse(filters).unwrap(),
        stats_config: stats["stats_config"].take(),
        routes: json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }]),
        options: json!({}),
        clusters: Vec::new(),
    }
}

impl Proxy<'_> {
    pub(crate) fn workers(self, workers: u8) -> Self {
        Self { workers, ..self }
    }

    pub(crate) fn routes(self, routes: Value) -> Self {
        Self { routes, ..self }
    }

    /// Fields of the connection manager.
    pub(crate) fn options(self, options: Value) -> Self {
        Self { options, ..self }
    }

    /// A filter in front of this one.
    pub(crate) fn behind(mut self, filter: Value) -> Self {
        self.filters.insert(0, filter);
        self
    }

    /// Where the cluster `upstream` is.
    pub(crate) fn upstream(mut self, at: SocketAddr) -> Self {
        self.clusters.push(cluster("upstream", at));
        self
    }

    pub(crate) fn start(mut self) -> Envoy {
        self.filters.push(http_filter("router", "Router"));
        let mut manager = connection_manager(&json!(self.filters), &self.routes);
        let fields = manager["typed_config"].as_object_mut().unwrap();
        fields.extend(self.options.as_object().unwrap().clone());
        let mut bootstrap = bootstrap("all", &json!([{ "filters": [manager] }]));
        bootstrap["stats_config"] = self.stats_config;
        bootstrap["static_resources"]["clusters"] = json!(self.clusters);
        Envoy::start_with(self.workers, self.envoy, &self.folder, &bootstrap, &[])
    }
}

/// A route to the upstream, with these fields of its action.
pub(crate) fn to_upstream(prefix: &str, fields: &Value) -> Value {
    let mut action = json!({ "cluster": "upstream" });
    action.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ "match": { "prefix": prefix }, "route": action })
}

/// The series of a metric as Prometheus reads them: labels as they are written there, and the value.
pub(crate) fn series(admin: SocketAddr, metric: &str) -> BTreeMap<String, u64> {
    let (text, _) = get(admin, "/stats/prometheus", "");
    let of_metric = text.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix(metric)?.rsplit_once(' ')?;
        let labels = match labels {
            "" | "{}" => "",
            _ => labels.strip_prefix('{')?.strip_suffix('}')?,
        };
        Some((labels.to_owned(), value.trim().parse().ok()?))
    });
    of_metric.collect()
}

/// The value of a metric without labels.
pub(crate) fn value(admin: SocketAddr, metric: &str) -> u64 {
    series(admin, metric).get("").copied().unwrap_or(0)
}

/// Waits until something holds, for as long as counting may take: what does not hold then, the test says.
pub(crate) fn wait_until(holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() && begin.elapsed() < PATIENCE {
        sleep(Duration::from_millis(50));
    }
}
