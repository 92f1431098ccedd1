//! A dashboard for Grafana: rate, errors and durations of what the policy measures, its objectives, and how
//! much of the budget of series is used.

use serde_json::{Value, json};

use super::rules::{allowed, ratio};
use crate::config::Policy;
use crate::istio::Field;
use crate::label::{Fact, Source};
use crate::measure::{Measure, Metric};

/// How wide a panel is, of 24.
const WIDTH: usize = 12;
/// How high it is.
const HEIGHT: usize = 8;

/// A dashboard, as Grafana imports it. It asks for its data source of Prometheus.
pub fn dashboard(policy: &Policy) -> Value {
    let panels: Vec<Value> =
        panels(policy).into_iter().enumerate().map(|(at, panel)| panel.to_json(at)).collect();
    json!({
        "title": "Tollgate metrics",
        "uid": "tollgate-metrics",
        "schemaVersion": 39,
        "editable": true,
        "refresh": "30s",
        "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": [ { "name": "datasource", "type": "datasource", "query": "prometheus" } ] },
        "panels": panels,
    })
}

struct Panel {
    title: String,
    unit: &'static str,
    /// Each with what it is called.
    queries: Vec<(String, String)>,
}

impl Panel {
    fn new(title: impl Into<String>, unit: &'static str) -> Self {
        Self { title: title.into(), unit, queries: Vec::new() }
    }

    fn query(mut self, query: String, legend: impl Into<String>) -> Self {
        self.queries.push((query, legend.into()));
        self
    }

    fn to_json(&self, at: usize) -> Value {
        let targets: Vec<Value> = (self.queries.iter().zip('A'..))
            .map(|((query, legend), id)| {
                json!({ "expr": query, "legendFormat": legend, "refId": id.to_string() })
            })
            .collect();
        let (row, column) = (at / 2, at % 2);
        json!({
            "id": at.saturating_add(1),
            "title": self.title,
            "type": "timeseries",
            "datasource": { "type": "prometheus", "uid": "${datasource}" },
            "gridPos": {
                "x": column.saturating_mul(WIDTH), "y": row.saturating_mul(HEIGHT),
                "w": WIDTH, "h": HEIGHT,
            },
            "fieldConfig": { "defaults": { "unit": self.unit }, "overrides": [] },
            "targets": targets,
        })
    }
}

fn panels(policy: &Policy) -> Vec<Panel> {
    let metric = |measure| policy.metrics().iter().find(|metric| metric.measure == measure);
    let code = policy.labels().iter().find(|label| {
        matches!(
            label.source,
            Source::Fact(Fact::Outcome | Fact::CodeClass | Fact::Code)
                | Source::Istio(Field::ResponseCode)
        )
    });
    let mut panels = Vec::new();
    let requests = metric(Measure::Requests)
        .map(|metric| metric.name.clone())
        .or_else(|| metric(Measure::Duration).map(|metric| format!("{}_count", metric.name)));
    if let Some(name) = requests {
        let panel = Panel::new("Requests", "reqps");
        panels.push(match code {
            Some(label) => panel.query(
                format!("sum by ({}) (rate({name}[5m]))", label.name),
                format!("{{{{{}}}}}", label.name),
            ),
            None => panel.query(format!("sum(rate({name}[5m]))"), "requests"),
        });
    }
    for (measure, title) in [
        (Measure::Duration, "Duration"),
        (Measure::FirstByte, "Time to the first byte"),
        (Measure::Upstream, "Duration in the upstream"),
        (Measure::Overhead, "Overhead of the proxy"),
    ] {
        panels.extend(metric(measure).map(|metric| quantiles(title, metric)));
    }
    for (measure, title) in [
        (Measure::RequestBytes, "Bytes of requests"),
        (Measure::ResponseBytes, "Bytes of responses"),
    ] {
        panels.extend(metric(measure).map(|metric| {
            Panel::new(title, "Bps").query(format!("sum(rate({}_sum[5m]))", metric.name), "bytes")
        }));
    }
    let messages = [Measure::RequestMessages, Measure::ResponseMessages];
    let messages: Vec<&Metric> = messages.into_iter().filter_map(metric).collect();
    if !messages.is_empty() {
        panels.push(messages.iter().fold(
            Panel::new("Messages of gRPC", "cps"),
            |panel, metric| {
                panel.query(format!("sum(rate({}[5m]))", metric.name), metric.name.clone())
            },
        ));
    }
    for objective in policy.objectives() {
        let of = format!("{{objective=\"{}\"}}", objective.name);
        let burn = |window: &str| format!("{}{of} / {}", ratio(window), allowed(objective));
        panels.push(
            Panel::new(format!("Burn rate of {}", objective.name), "none")
                .query(burn("5m"), "5m")
                .query(burn("1h"), "1h")
                .query(burn("6h"), "6h"),
        );
    }
    panels.push(
        Panel::new("Folded requests", "reqps")
            .query("sum(rate(tollgate_metrics_folded[5m]))".to_owned(), "folded")
            .query("sum(rate(tollgate_metrics_errors[5m]))".to_owned(), "errors"),
    );
    panels
}

fn quantiles(title: &str, metric: &Metric) -> Panel {
    let quantile = |quantile: &str| {
        format!("histogram_quantile({quantile}, sum by (le) (rate({}_bucket[5m])))", metric.name)
    };
    Panel::new(title, "ms")
        .query(quantile("0.5"), "p50")
        .query(quantile("0.95"), "p95")
        .query(quantile("0.99"), "p99")
}
