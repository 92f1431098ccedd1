//! MOSN: an entry of `stream_filters`. Its proxy has plugins of its own, with an older ABI, and gives them
//! texts by key in place of one text: most filters for Envoy do not run there, and are refused.
//!
//! Source: mosn/mosn, `pkg/filter/stream/proxywasm/configs.go` and `pkg/config/v2/wasm.go`.

use serde_json::{Map, Value, json};

use crate::rendered::{Document, Rendered};
use crate::{Delivery, Facts, InvalidPolicy, Policy, Traffic};

/// The versions of the ABI that it has.
const ABI: [&str; 2] = ["0.1.0", "0.2.0"];
/// Keys of the entry that are not the plugin's.
const TAKEN: [&str; 4] = ["instance_num", "root_context_id", "vm_config", "from_wasm_plugin"];

pub(crate) fn render(policy: &Policy, facts: &Facts) -> Result<Rendered, InvalidPolicy> {
    is_possible(policy, facts)?;
    let file = match &policy.module {
        Some(Delivery::File(file)) => file,
        None => &facts.file,
        Some(Delivery::Image(_) | Delivery::Url(_) | Delivery::Inline) => {
            return Err(policy.refused("module", "MOSN reads files; say `file`"));
        }
    };
    let mut entry = Map::new();
    entry.insert("instance_num".into(), json!(1));
    entry.insert("root_context_id".into(), json!(1));
    entry.insert("vm_config".into(), json!({ "engine": "wasmer", "path": file }));
    entry.extend(texts(policy)?);
    let value = json!({ "stream_filters": [{ "type": "proxywasm", "config": entry }] });
    let mut rendered = Rendered::of(Document::json("stream_filters.json", value));
    rendered.note("MOSN has no failure policy, and restricts no capabilities");
    if policy.config != Value::Null {
        rendered.note("MOSN gives the filter a map of pairs, not JSON");
    }
    Ok(rendered)
}

fn texts(policy: &Policy) -> Result<Map<String, Value>, InvalidPolicy> {
    let config = match &policy.config {
        Value::Null => return Ok(Map::new()),
        Value::Object(config) => config,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(policy.refused("config", "MOSN gives filters texts by key; write a map"));
        }
    };
    for (key, value) in config {
        let path = format!("config.{key}");
        if TAKEN.contains(&key.as_str()) {
            return Err(policy.refused(&path, "MOSN has this key for itself"));
        }
        if !value.is_string() {
            return Err(policy.refused(&path, "MOSN gives filters texts only"));
        }
    }
    Ok(config.clone())
}

fn is_possible(policy: &Policy, facts: &Facts) -> Result<(), InvalidPolicy> {
    let refuse = |path: &str, what: &str| Err(policy.refused(path, what));
    if !ABI.contains(&facts.abi.as_str()) {
        let what = format!("this module speaks ABI {}, and MOSN {}", facts.abi, ABI.join(" and "));
        return refuse("filter", &what);
    }
    if facts.traffic == Traffic::Tcp {
        return refuse("filter", "this is a filter of TCP, and MOSN takes those of HTTP");
    }
    if let Some(need) = facts.needs.iter().next() {
        return refuse("filter", &format!("this module needs {need}, which MOSN cannot say"));
    }
    if policy.apply != crate::Placement::default() {
        return refuse("apply", "an entry is for the listener that it is written into");
    }
    for (path, is_said) in [
        ("root_id", !policy.root_id.is_empty()),
        ("environment", !policy.environment.is_empty()),
        ("host_environment", !policy.host_environment.is_empty()),
        ("clusters", !policy.clusters.is_empty()),
        ("variants", policy.variants.is_some()),
    ] {
        if is_said {
            return refuse(path, "MOSN has no place for it");
        }
    }
    Ok(())
}
