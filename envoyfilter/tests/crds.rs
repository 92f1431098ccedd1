//! Resources against the definitions that Istio installs: their schemas, strictly, and their rules in CEL,
//! as the API server does.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};

use cel::extractors::This;
use cel::{Context, Program};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn documents(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let nodes = tollgate_tree::parse(&text);
    let nodes = nodes.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    nodes.iter().map(tollgate_tree::Node::json).collect()
}

/// The definitions, by kind and version: the schema of a resource.
struct Definitions(Vec<(String, Value)>);

impl Definitions {
    fn read() -> Self {
        let definitions = documents(&folder().join("tests/crds/istio.yaml"));
        let definition = |definition: &Value| {
            let spec = &definition["spec"];
            let version = &spec["versions"][0];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let name = format!("{}/{}", text(&spec["group"]), text(&version["name"]));
            let kind = text(&spec["names"]["kind"]);
            (format!("{name} {kind}"), version["schema"]["openAPIV3Schema"].clone())
        };
        Self(definitions.iter().map(definition).collect())
    }

    /// Why a resource would be refused; nothing when there is no definition for it.
    fn refusals(&self, resource: &Value) -> Option<Vec<String>> {
        let text = |key: &str| resource[key].as_str().unwrap_or_default();
        let kind = format!("{} {}", text("apiVersion"), text("kind"));
        let (_, schema) = self.0.iter().find(|(name, _)| *name == kind)?;
        let spec = &schema["properties"]["spec"];
        let validator = jsonschema::draft202012::new(&strict(spec)).unwrap();
        let errors = validator.iter_errors(&resource["spec"]);
        let mut refusals: Vec<String> =
            errors.map(|error| format!("{}: {error}", error.instance_path())).collect();
        rules(spec, &resource["spec"], "/spec", &mut refusals);
        Some(refusals)
    }
}

/// The schema as one of JSON: nullable is a type, and what is not declared is refused, as
/// `kubectl --validate=strict` does.
fn strict(schema: &Value) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let mut strict = serde_json::Map::new();
    for (key, value) in fields {
        let value = match key.as_str() {
            "properties" => {
                let properties = value.as_object().unwrap().iter();
                properties.map(|(name, schema)| (name.clone(), self::strict(schema))).collect()
            }
            "items" | "additionalProperties" => self::strict(value),
            "type" if fields.get("nullable") == Some(&json!(true)) => json!([value, "null"]),
            // Alternatives constrain what stands beside them.
            _ => value.clone(),
        };
        strict.insert(key.clone(), value);
    }
    let is_open = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true))
        || fields.contains_key("additionalProperties");
    if fields.contains_key("properties") && !is_open {
        strict.insert("additionalProperties".into(), json!(false));
    }
    Value::Object(strict)
}

/// Judges every rule that stands at a value or below it.
fn rules(schema: &Value, value: &Value, path: &str, refusals: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = rule["rule"].as_str().unwrap();
        if !holds(text, value) {
            refusals.push(format!("{path}: {}", rule["message"].as_str().unwrap_or(text)));
        }
    }
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let schema = match schema["properties"].get(key) {
                    Some(schema) => schema,
                    None => &schema["additionalProperties"],
                };
                rules(schema, value, &format!("{path}/{key}"), refusals);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                rules(&schema["items"], value, &format!("{path}/{index}"), refusals);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn holds(rule: &str, value: &Value) -> bool {
    let program = Program::compile(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
    let mut context = Context::default();
    // Kubernetes' own functions: a URL is absolute, or the path of one.
    let scheme = |text: &str| text.split_once("://").map(|(scheme, _)| scheme.to_owned());
    let is_url = move |text: std::sync::Arc<String>| {
        scheme(&text).is_some_and(|scheme| !scheme.is_empty()) || text.starts_with('/')
    };
    let scheme = |text: &str| text.split_once("://").map(|(scheme, _)| scheme.to_owned());
    let get_scheme =
        move |This(url): This<std::sync::Arc<String>>| scheme(&url).unwrap_or_default();
    context.add_function("isURL", is_url).unwrap();
    context.add_function("url", |text: std::sync::Arc<String>| text).unwrap();
    context.add_function("getScheme", get_scheme).unwrap();
    context.add_variable_from_value("self", cel::to_value(value).unwrap());
    match program.execute(&context) {
        Ok(cel::Value::Bool(holds)) => holds,
        other => panic!("{rule}: {other:?} for {value}"),
    }
}

/// Every resource of a kind of Istio below a folder, with its file.
fn resources(folder: &Path) -> Vec<(PathBuf, Value)> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(resources(&path));
        } else if path.extension().is_some_and(|ending| ending == "yaml") {
            let all = documents(&path);
            found.extend(all.into_iter().map(|document| (path.clone(), document)));
        }
    }
    found
}

#[test]
fn what_is_rendered_and_what_is_correct_is_taken_by_the_api_server() {
    let definitions = Definitions::read();
    let mut judged = 0;
    let ready = ["istio", "istio-wasmplugin", "istio-trafficextension"];
    let tried = ["tests/golden", "tests/lint/correct"];
    for name in ready.iter().chain(&tried) {
        for (file, resource) in resources(&folder().join(name)) {
            let Some(refusals) = definitions.refusals(&resource) else { continue };
            assert!(refusals.is_empty(), "{}: {refusals:#?}", file.display());
            judged += 1;
        }
    }
    assert!(judged >= 20, "only {judged}");
}

#[test]
fn what_is_wrong_is_refused() {
    let definitions = Definitions::read();
    let check = |api: &str, kind: &str, spec: Value, word: &str| {
        let resource = json!({ "apiVersion": api, "kind": kind, "spec": spec });
        let refusals = definitions.refusals(&resource).unwrap();
        assert!(refusals.iter().any(|refusal| refusal.contains(word)), "{word}: {refusals:?}");
    };
    let envoy_filter = |spec, word| {
        check("networking.istio.io/v1alpha3", "EnvoyFilter", spec, word);
    };
    let labels = json!({ "labels": { "app": "web" } });
    let target = json!({ "kind": "Gateway", "name": "web" });
    envoy_filter(json!({ "priorty": 1 }), "priorty");
    envoy_filter(json!({ "priority": "1" }), "integer");
    envoy_filter(
        json!({ "workloadSelector": labels, "targetRefs": [target] }),
        "only one of targetRefs",
    );
    envoy_filter(
        json!({ "workloadSelector": { "labels": { "app": "web*" } } }),
        "wildcard is not supported",
    );
    envoy_filter(
        json!({ "targetRefs": [{ "kind": "Gateway", "name": "web", "namespace": "a" }] }),
        "cross namespace",
    );
    let matched = |matched: Value| json!({ "configPatches": [{ "match": matched }] });
    envoy_filter(matched(json!({ "context": "GATEWAY", "waypoint": {} })), "only support waypoint");
    envoy_filter(
        matched(json!({ "context": "WAYPOINT", "waypoint": { "portNumber": 70000 } })),
        "between 1-65535",
    );
    let plugin = |spec, word| check("extensions.istio.io/v1alpha1", "WasmPlugin", spec, word);
    plugin(json!({}), "url");
    plugin(json!({ "url": "ftp://a" }), "one of [http, https, file, oci]");
    plugin(json!({ "url": "oci://a", "sha256": "AB" }), "match");
    plugin(
        json!({ "url": "oci://a", "selector": { "matchLabels": { "a*": "b" } } }),
        "wildcard not allowed in label key",
    );
    let variable = json!({ "name": "A", "valueFrom": "HOST", "value": "b" });
    plugin(json!({ "url": "oci://a", "vmConfig": { "env": [variable] } }), "valueFrom is INLINE");
    let extension =
        |spec, word| check("extensions.istio.io/v1alpha1", "TrafficExtension", spec, word);
    extension(json!({}), "exactly one of wasm or lua");
    extension(json!({ "wasm": { "url": "ftp://a" } }), "one of [http, https, file, oci]");
}
