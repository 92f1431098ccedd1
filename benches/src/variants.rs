//! What is compared: chains of filters that do one job, the rate limits, and metrics.
//!
//! The job is to read the request header `x-user` and to set `x-out` to the same bytes.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tollgate_host_bench::{Envoy, Listener, Secured, get};

use crate::fixtures::Fixtures;

/// A value that is not UTF-8, as Envoy lets clients send it.
const STRANGE: &[u8] = b"caf\xe9";

/// A chain of filters, which gets a listener of its own.
pub(crate) struct Variant {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Its filters as Envoy is told of them, without the router.
    pub(crate) filters: Vec<Value>,
    /// The TLS that it is behind, if any.
    pub(crate) tls: Option<Secured>,
    /// Whether `x-out` shows that the job was done.
    pub(crate) effect: Effect,
    /// For a chain of modules: the module, its configuration, and how often it stands in the chain.
    #[cfg_attr(not(feature = "offline"), expect(dead_code, reason = "only the offline host asks"))]
    pub(crate) module: Option<(PathBuf, &'static str, usize)>,
}

/// What can be seen of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The request passes unchanged.
    Passes,
    /// `x-out` is set.
    Sets,
}

impl Variant {
    /// Its listener, which shows what came of the job.
    pub(crate) fn listener(&self) -> Listener {
        let seen = json!({
            "match": { "path": "/seen" },
            "direct_response": Listener::answer(),
            "response_headers_to_add": [{
                "header": { "key": "x-seen", "value": "%REQ(x-out)%" },
            }],
        });
        Listener {
            name: self.name.into(),
            filters: self.filters.clone(),
            routes: vec![seen],
            tls: self.tls.clone(),
        }
    }

    /// Checks that it does its job, also for a value that is not text.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(crate) fn check(&self, envoy: &Envoy) -> Result<()> {
        let listener = envoy.listener(self.name)?;
        for user in [&b"alice"[..], STRANGE] {
            let answer = get(listener, "/seen", &[("x-user", user)])?;
            let line = [b"\r\nx-seen: ", user, b"\r\n"].concat();
            let seen = answer.windows(line.len()).any(|part| part == line);
            let served = answer.starts_with(b"HTTP/1.1 200 ");
            if !served || seen != (self.effect == Effect::Sets) {
                bail!("{} does not do its job: {}", self.name, answer.escape_ascii());
            }
        }
        Ok(())
    }
}

/// The variant that the others are compared with.
pub(crate) const NONE: &str = "no filter";
/// The floor.
pub(crate) const HANDWRITTEN: &str = "hand-written";
/// The floor, with the host call that the SDK reads with.
pub(crate) const HANDWRITTEN_MAP: &str = "hand-written, reading all lines";
/// Our SDK.
pub(crate) const SDK: &str = "SDK";
/// The stock crate.
pub(crate) const STOCK: &str = "stock, as linked";
/// The stock crate, with the exports removed that it does not need.
pub(crate) const STOCK_FINISHED: &str = "stock, finished";
/// Our SDK four times.
pub(crate) const SDK_CHAIN: &str = "4 × SDK";
/// Our SDK with a chain of four in one module.
pub(crate) const SDK_ONE_MODULE: &str = "4 in one module, SDK";
/// The floor four times.
pub(crate) const HANDWRITTEN_CHAIN: &str = "4 × hand-written";
/// The stock crate four times.
pub(crate) const STOCK_CHAIN: &str = "4 × stock, as linked";
/// Our rate limit.
pub(crate) const RATELIMIT: &str = "ratelimit, by header";
/// Envoy's rate limit with the same key.
pub(crate) const LOCAL_RATELIMIT: &str = "native local_ratelimit, by header";

/// Our metrics with twelve labels.
pub(crate) const METRICS: &str = "metrics, 12 labels";
/// The same on the stock crate.
pub(crate) const STOCK_METRICS: &str = "metrics, 12 labels, stock, as linked";

const LUA: &str = "function envoy_on_request(handle)
  local headers = handle:headers()
  local user = headers:get('x-user')
  if user then headers:replace('x-out', user) end
end";

const POLICY: &str = r#"{"rules":[{"name":"bench","key":[{"header":"x-user"}],"limit":{"requests":1000000,"per":"1s"}}]}"#;

/// Twelve labels, of which five are attributes; what is measured is the number of requests and their duration.
const METRICS_POLICY: &str = r#"{
    "profile": "custom",
    "labels": [
        { "name": "region", "value": "eu" },
        { "name": "route", "attribute": ["xds", "route_name"] },
        { "name": "cluster", "attribute": ["xds", "cluster_name"] },
        { "name": "user", "header": "x-user" },
        { "name": "method", "fact": "method" },
        { "name": "scheme", "fact": "scheme" },
        { "name": "protocol", "fact": "protocol" },
        { "name": "version", "fact": "version" },
        { "name": "code", "fact": "code" },
        { "name": "code_class", "fact": "code_class" },
        { "name": "flags", "fact": "flags" },
        { "name": "outcome", "fact": "outcome" }
    ],
    "metrics": [
        { "measure": "first_byte", "drop": true },
        { "measure": "upstream", "drop": true },
        { "measure": "overhead", "drop": true },
        { "measure": "request_bytes", "drop": true },
        { "measure": "response_bytes", "drop": true },
        { "measure": "request_messages", "drop": true },
        { "measure": "response_messages", "drop": true },
        { "measure": "received_bytes", "drop": true },
        { "measure": "sent_bytes", "drop": true }
    ]
}"#;

/// Those whose names contain `only`, and the one without a filter, which comes first.
pub(crate) fn named(mut variants: Vec<Variant>, only: Option<&str>) -> Vec<Variant> {
    variants.retain(|variant| {
        variant.name == NONE || only.is_none_or(|only| variant.name.contains(only))
    });
    variants
}

/// What does the job, and the rate limits.
pub(crate) fn all(fixtures: &Fixtures) -> Vec<Variant> {
    let job = |name, module: &Path, times| chain(name, module, "", times, Effect::Sets);
    vec![
        native(NONE, vec![], Effect::Passes),
        job(HANDWRITTEN, &fixtures.handwritten, 1),
        job(HANDWRITTEN_MAP, &fixtures.handwritten_map, 1),
        job(SDK, &fixtures.sdk, 1),
        job(STOCK_FINISHED, &fixtures.stock_finished, 1),
        job(STOCK, &fixtures.stock, 1),
        native("Lua", vec![lua()], Effect::Sets),
        native("native header_mutation", vec![header_mutation()], Effect::Sets),
        job(HANDWRITTEN_CHAIN, &fixtures.handwritten, 4),
        job(SDK_ONE_MODULE, &fixtures.sdk_chain, 1),
        job(SDK_CHAIN, &fixtures.sdk, 4),
        job(STOCK_CHAIN, &fixtures.stock, 4),
        chain(RATELIMIT, &fixtures.ratelimit, POLICY, 1, Effect::Passes),
        native(LOCAL_RATELIMIT, vec![local_ratelimit(&by_header())], Effect::Passes),
        native(
            "native local_ratelimit, one bucket",
            vec![local_ratelimit(&json!({}))],
            Effect::Passes,
        ),
        chain(METRICS, &fixtures.metrics, METRICS_POLICY, 1, Effect::Passes),
        chain(STOCK_METRICS, &fixtures.stock_metrics, "", 1, Effect::Passes),
    ]
}

pub(crate) fn native(name: &'static str, filters: Vec<Value>, effect: Effect) -> Variant {
    Variant { name, filters, tls: None, effect, module: None }
}

pub(crate) fn chain(
    name: &'static str,
    module: &Path,
    configuration: &'static str,
    times: usize,
    effect: Effect,
) -> Variant {
    let filters = (0..times).map(|place| wasm(&format!("{name} {place}"), module, configuration));
    let filters = filters.collect();
    let module = Some((module.to_owned(), configuration, times));
    Variant { name, filters, tls: None, effect, module }
}

fn wasm(name: &str, module: &Path, configuration: &str) -> Value {
    filter(
        "envoy.filters.http.wasm",
        "wasm.v3.Wasm",
        &json!({
            "config": {
                "name": name,
                "failure_policy": "FAIL_CLOSED",
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": { "local": { "filename": module } },
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": configuration,
                },
            },
        }),
    )
}

fn lua() -> Value {
    let code = json!({ "default_source_code": { "inline_string": LUA } });
    filter("envoy.filters.http.lua", "lua.v3.Lua", &code)
}

fn header_mutation() -> Value {
    let mutations = json!([{
        "append": {
            "header": { "key": "x-out", "value": "%REQ(x-user)%" },
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        },
    }]);
    filter(
        "envoy.filters.http.header_mutation",
        "header_mutation.v3.HeaderMutation",
        &json!({ "mutations": { "request_mutations": mutations } }),
    )
}

/// Envoy's rate limit, which never refuses here; `more` joins its configuration.
fn local_ratelimit(more: &Value) -> Value {
    let mut configuration = json!({
        "stat_prefix": "bench",
        "token_bucket": bucket(),
        "filter_enabled": always(),
        "filter_enforced": always(),
    });
    merge(&mut configuration, more);
    filter(
        "envoy.filters.http.local_ratelimit",
        "local_ratelimit.v3.LocalRateLimit",
        &configuration,
    )
}

/// A bucket for each value of `x-user`.
fn by_header() -> Value {
    json!({
        "rate_limits": [{
            "actions": [{
                "request_headers": { "header_name": "x-user", "descriptor_key": "user" },
            }],
        }],
        "descriptors": [{ "entries": [{ "key": "user" }], "token_bucket": bucket() }],
        "max_dynamic_descriptors": 100,
    })
}

fn bucket() -> Value {
    json!({ "max_tokens": 1_000_000_000, "tokens_per_fill": 1_000_000_000, "fill_interval": "1s" })
}

fn always() -> Value {
    json!({ "default_value": { "numerator": 100, "denominator": "HUNDRED" } })
}

pub(crate) fn filter(name: &str, kind: &str, configuration: &Value) -> Value {
    let kind = format!("type.googleapis.com/envoy.extensions.filters.http.{kind}");
    let mut typed = json!({ "@type": kind });
    merge(&mut typed, configuration);
    json!({ "name": name, "typed_config": typed })
}

fn merge(into: &mut Value, more: &Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more.clone());
    }
}
