//! The policy file: which filter, with which configuration, and what becomes of requests when it fails.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// A policy as its author writes it. Unknown keys are errors.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The filter: a built-in name, or the path of a module, from the folder of the policy.
    pub filter: String,
    /// The name of the plugin, under which statistics and logs have it; by default the filter's.
    #[serde(default)]
    pub name: Option<String>,
    /// The root id, by which a module of several filters chooses one.
    #[serde(default)]
    pub root_id: String,
    /// The file of the module as the proxy sees it; by default where it lies here.
    #[serde(default)]
    pub module: Option<String>,
    /// What becomes of requests once the filter has failed for good.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// Environment variables of its VM.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// What the filter is configured with.
    #[serde(default)]
    pub config: Value,
}

/// What becomes of requests once the filter has failed.
///
/// Source: Envoy, `envoy.extensions.wasm.v3.FailurePolicy`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum FailurePolicy {
    /// They are answered with 503.
    #[default]
    Closed,
    /// The same, until the VM has been made anew, at most once in a second.
    Reload,
    /// They pass by the filter.
    Open,
}

/// A text is no policy: what is wrong, with line and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPolicy(String);

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidPolicy {}

impl Policy {
    /// Reads a policy from YAML or JSON.
    ///
    /// # Errors
    ///
    /// [`InvalidPolicy`] with the place, what stands there and what may.
    pub fn parse(text: &str) -> Result<Self, InvalidPolicy> {
        let policy: Self =
            serde_saphyr::from_str(text).map_err(|error| InvalidPolicy(error.to_string()))?;
        let texts = [("filter", Some(&policy.filter)), ("name", policy.name.as_ref())];
        for (key, text) in texts.into_iter().chain([("module", policy.module.as_ref())]) {
            if text.is_some_and(|text| text.trim().is_empty()) {
                return Err(InvalidPolicy(format!(
                    "{key}: empty; write one, or leave the key out"
                )));
            }
        }
        Ok(policy)
    }

    /// The name of the plugin.
    pub fn plugin_name(&self) -> &str {
        let file = self.filter.rsplit('/').next().unwrap_or(&self.filter);
        self.name.as_deref().unwrap_or_else(|| file.strip_suffix(".wasm").unwrap_or(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_needs_no_more_than_a_filter() {
        let policy = Policy::parse("filter: ratelimit").unwrap();
        assert_eq!(policy.plugin_name(), "ratelimit");
        assert_eq!(policy.failure_policy, FailurePolicy::Closed);
        assert_eq!(policy.config, Value::Null);
    }

    #[test]
    fn the_plugin_is_named_after_the_module() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Policy::parse(text).unwrap().plugin_name(), expected);
        };
        check("filter: ../filters/tenants.wasm", "tenants");
        check("{ filter: tenants, name: shop }", "shop");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let check = |text: &str, words: &[&str]| {
            let error = Policy::parse(text).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{text}: {error}");
            }
        };
        check("filter: a\nfailure_polcy: open", &["failure_polcy", "2"]);
        check("filter: a\nfailure_policy: opened", &["opened", "closed", "reload", "open"]);
        check("config: {}", &["filter"]);
        check("filter: ''", &["filter: empty"]);
        check("{ filter: a, name: ' ' }", &["name: empty"]);
    }
}
