//! Rules for Prometheus: how many requests miss an objective, and when somebody has to know.
//!
//! Source: Google, "The Site Reliability Workbook", chapter 5: alerts by several windows and burn rates.

use serde_json::{Value, json};

use crate::config::{Objective, Policy};

/// The windows in which the share of bad requests is recorded.
const WINDOWS: [&str; 7] = ["5m", "30m", "1h", "2h", "6h", "1d", "3d"];

/// When somebody has to know: the long and the short window, how many times as fast as it may the budget
/// is spent, and how urgent that is.
const ALERTS: [(&str, &str, &str, &str); 4] = [
    ("1h", "5m", "14.4", "page"),
    ("6h", "30m", "6", "page"),
    ("1d", "2h", "3", "ticket"),
    ("3d", "6h", "1", "ticket"),
];

/// A file of rules, as `promtool check rules` takes it.
pub fn rules(policy: &Policy) -> Value {
    let groups: Vec<Value> = policy
        .objectives()
        .iter()
        .map(|objective| {
            let recorded = WINDOWS.iter().map(|window| recording(objective, window));
            let alerts = ALERTS.iter().map(|alert| alert_of(objective, alert));
            json!({
                "name": format!("tollgate-metrics-{}", objective.name),
                "rules": recorded.chain(alerts).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "groups": groups })
}

/// The name of the series that has the share of bad requests in a window.
pub(super) fn ratio(window: &str) -> String {
    format!("tollgate_metrics:objective_bad:ratio_rate{window}")
}

fn selector(objective: &Objective) -> String {
    format!("{{objective=\"{}\"}}", objective.name)
}

fn recording(objective: &Objective, window: &str) -> Value {
    let of = selector(objective);
    let rate =
        |metric: &str| format!("sum(rate(tollgate_metrics_objective_{metric}{of}[{window}]))");
    let (good, all) = (rate("good"), rate("requests"));
    json!({
        "record": ratio(window),
        "expr": format!("1 - ({good} or vector(0)) / ({all} > 0)"),
        "labels": { "objective": objective.name },
    })
}

fn alert_of(
    objective: &Objective,
    (long, short, factor, severity): &(&str, &str, &str, &str),
) -> Value {
    let of = selector(objective);
    let allowed = allowed(objective);
    let burns = |window: &str| format!("{}{of} > {factor} * {allowed}", ratio(window));
    json!({
        "alert": "TollgateObjectiveBurns",
        "expr": format!("{} and {}", burns(long), burns(short)),
        "labels": { "objective": objective.name, "severity": severity, "window": long },
        "annotations": {
            "summary": format!(
                "{} spends its error budget {factor} times as fast as it may, over {long}",
                objective.name
            ),
        },
    })
}

/// The share of requests that may be bad, as a fraction.
pub(super) fn allowed(objective: &Objective) -> String {
    let bad = 1_000_000_u32.saturating_sub(objective.target.millionths());
    let digits = format!("{bad:06}");
    format!("0.{}", digits.trim_end_matches('0'))
}
