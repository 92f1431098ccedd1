//! Envoy itself: an HTTP filter for the chain of a connection manager, and what the bootstrap needs for it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Facts, FailurePolicy, Policy};

/// An entry of `http_filters`.
///
/// Source: Envoy 1.40, `envoy.extensions.filters.http.wasm.v3.Wasm`.
#[derive(Serialize)]
struct HttpFilter<'a> {
    name: &'a str,
    typed_config: Wasm<'a>,
}

#[derive(Serialize)]
struct Wasm<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    config: Plugin<'a>,
}

#[derive(Serialize)]
struct Plugin<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    root_id: &'a str,
    failure_policy: &'static str,
    /// Fields that have to be true.
    #[serde(flatten)]
    needs: BTreeMap<&'a str, bool>,
    vm_config: Vm<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<Configuration>,
}

#[derive(Serialize)]
struct Vm<'a> {
    runtime: &'static str,
    code: Code<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment_variables: Option<Environment<'a>>,
    capability_restriction_config: Restriction<'a>,
}

#[derive(Serialize)]
struct Code<'a> {
    local: Local<'a>,
}

#[derive(Serialize)]
struct Local<'a> {
    filename: &'a str,
}

#[derive(Serialize)]
struct Environment<'a> {
    key_values: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Restriction<'a> {
    allowed_capabilities: BTreeMap<&'a str, Map<String, Value>>,
}

#[derive(Serialize)]
struct Configuration {
    #[serde(rename = "@type")]
    kind: &'static str,
    value: String,
}

#[derive(Serialize)]
struct Bootstrap<'a> {
    stats_config: Stats<'a>,
}

#[derive(Serialize)]
struct Stats<'a> {
    stats_tags: Vec<StatsTag<'a>>,
}

#[derive(Serialize)]
struct StatsTag<'a> {
    tag_name: &'a str,
    regex: &'a str,
}

/// Renders a policy: a list for `http_filters`, to stand before the router; where its metrics have labels,
/// a second document with the `stats_config` that the bootstrap needs.
///
/// # Errors
///
/// When YAML cannot carry a text, which none that a policy can have is.
pub fn render(policy: &Policy, facts: &Facts) -> Result<String, serde_saphyr::ser::Error> {
    let filter = HttpFilter {
        name: policy.plugin_name(),
        typed_config: Wasm {
            kind: "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            config: plugin(policy, facts),
        },
    };
    let mut rendered = serde_saphyr::to_string(&[filter])?;
    if !facts.stats_tags.is_empty() {
        let stats_tags = facts.stats_tags.iter();
        let stats_tags = stats_tags.map(|(tag_name, regex)| StatsTag { tag_name, regex }).collect();
        rendered.push_str("---\n# for the bootstrap: labels of its metrics\n");
        rendered += &serde_saphyr::to_string(&Bootstrap { stats_config: Stats { stats_tags } })?;
    }
    Ok(rendered)
}

fn plugin<'a>(policy: &'a Policy, facts: &'a Facts) -> Plugin<'a> {
    let allowed = facts.capabilities.iter();
    Plugin {
        name: policy.plugin_name(),
        root_id: &policy.root_id,
        // Said also where it is Envoy's default: that has changed between versions.
        failure_policy: match policy.failure_policy {
            FailurePolicy::Closed => "FAIL_CLOSED",
            FailurePolicy::Reload => "FAIL_RELOAD",
            FailurePolicy::Open => "FAIL_OPEN",
        },
        needs: facts.needs.iter().map(|need| (need.as_str(), true)).collect(),
        vm_config: Vm {
            runtime: "envoy.wasm.runtime.v8",
            code: Code { local: Local { filename: &facts.file } },
            environment_variables: Some(Environment { key_values: &policy.environment })
                .filter(|environment| !environment.key_values.is_empty()),
            capability_restriction_config: Restriction {
                allowed_capabilities: allowed.map(|name| (name.as_str(), Map::new())).collect(),
            },
        },
        configuration: configuration(&policy.config),
    }
}

fn configuration(config: &Value) -> Option<Configuration> {
    let value = match config {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        config => config.to_string(),
    };
    Some(Configuration { kind: "type.googleapis.com/google.protobuf.StringValue", value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &str, facts: &Facts, expected: &str) {
        let rendered = render(&Policy::parse(policy).unwrap(), facts).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&rendered).unwrap();
        let expected: Vec<Value> = serde_saphyr::from_multiple(expected).unwrap();
        assert_eq!(documents, expected, "{rendered}");
    }

    #[test]
    fn a_filter_may_do_what_it_needs_and_no_more() {
        let facts = Facts {
            file: "/etc/envoy/limits.wasm".into(),
            capabilities: ["proxy_log", "proxy_on_request_headers"].map(String::from).into(),
            ..Facts::default()
        };
        check(
            "{ filter: ratelimit, name: limits, config: { rules: [] } }",
            &facts,
            r#"
- name: limits
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
    config:
      name: limits
      failure_policy: FAIL_CLOSED
      vm_config:
        runtime: envoy.wasm.runtime.v8
        code: { local: { filename: /etc/envoy/limits.wasm } }
        capability_restriction_config:
          allowed_capabilities: { proxy_log: {}, proxy_on_request_headers: {} }
      configuration:
        "@type": type.googleapis.com/google.protobuf.StringValue
        value: '{"rules":[]}'
"#,
        );
    }

    #[test]
    fn what_a_module_needs_and_its_labels_are_told() {
        let facts = Facts {
            file: "a.wasm".into(),
            needs: ["allow_on_headers_stop_iteration".into()].into(),
            stats_tags: vec![("user".into(), "x(.*)".into())],
            ..Facts::default()
        };
        check(
            "{ filter: a, root_id: one, failure_policy: open, environment: { MODE: x }, config: text }",
            &facts,
            r#"
- name: a
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
    config:
      name: a
      root_id: one
      failure_policy: FAIL_OPEN
      allow_on_headers_stop_iteration: true
      vm_config:
        runtime: envoy.wasm.runtime.v8
        code: { local: { filename: a.wasm } }
        environment_variables: { key_values: { MODE: x } }
        capability_restriction_config: { allowed_capabilities: {} }
      configuration:
        "@type": type.googleapis.com/google.protobuf.StringValue
        value: text
---
stats_config: { stats_tags: [ { tag_name: user, regex: x(.*) } ] }
"#,
        );
    }
}
