//! Resources against the definitions that Istio installs: their schemas, strictly, and their rules in CEL,
//! as the API server does. Those of other meshes, and the filters in patches, against schemas of what is
//! rendered.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
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

/// The definitions, by version and kind: the schema of `spec`, or of what has no kind.
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
            let schema = &version["schema"]["openAPIV3Schema"];
            (format!("{name} {kind}"), schema["properties"]["spec"].clone())
        };
        let others = documents(&folder().join("tests/crds/others.yaml")).into_iter();
        let other =
            |other: Value| (other["name"].as_str().unwrap().to_owned(), other["spec"].clone());
        Self(definitions.iter().map(definition).chain(others.map(other)).collect())
    }

    /// What a document is, by its version and kind.
    fn name(document: &Value) -> String {
        let text = |key: &str| document[key].as_str().unwrap_or_default();
        match text("kind") {
            "" if document.get("stream_filters").is_some() => "MOSN".into(),
            kind => format!("{} {kind}", text("apiVersion")),
        }
    }

    /// Why a resource would be refused; nothing when there is no definition for it.
    fn refusals(&self, resource: &Value) -> Option<Vec<String>> {
        let name = Self::name(resource);
        let spec = if name == "MOSN" { resource } else { &resource["spec"] };
        let mut refusals = self.judge(&name, spec, "/spec")?;
        // The definitions leave open what stands in a patch.
        for patch in spec["configPatches"].as_array().into_iter().flatten() {
            let value = &patch["patch"]["value"];
            let apply_to = patch["applyTo"].as_str().unwrap_or_default();
            let is_wasm = value["typed_config"]["@type"]
                .as_str()
                .is_none_or(|kind| kind.ends_with(".wasm.v3.Wasm"));
            if ["EXTENSION_CONFIG", "HTTP_FILTER", "NETWORK_FILTER"].contains(&apply_to) && is_wasm
            {
                refusals.extend(self.judge("Filter", value, "/value").unwrap());
            }
        }
        Some(refusals)
    }

    /// Judges a value by the schema of this name.
    fn judge(&self, name: &str, value: &Value, path: &str) -> Option<Vec<String>> {
        let (_, schema) = self.0.iter().find(|(found, _)| found == name)?;
        let validator = jsonschema::draft202012::new(&strict(schema)).unwrap();
        let errors = validator.iter_errors(value);
        let mut refusals: Vec<String> =
            errors.map(|error| format!("{path}{}: {error}", error.instance_path())).collect();
        self.rules(schema, value, path, &mut refusals);
        Some(refusals)
    }

    /// Judges every rule that stands at a value or below it, and every filter in a text.
    fn rules(&self, schema: &Value, value: &Value, path: &str, refusals: &mut Vec<String>) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let text = rule["rule"].as_str().unwrap();
            if !holds(text, value) {
                refusals.push(format!("{path}: {}", rule["message"].as_str().unwrap_or(text)));
            }
        }
        if schema["x-filter"] == json!(true) {
            let text = value.as_str().unwrap_or_default();
            match tollgate_tree::parse(text).unwrap_or_default().as_slice() {
                [filter] => {
                    let filter = in_snake_case(&filter.json());
                    refusals.extend(self.judge("Filter", &filter, path).unwrap());
                }
                filters => refusals.push(format!("{path}: {} filters, not one", filters.len())),
            }
        }
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let schema = match schema["properties"].get(key) {
                        Some(schema) => schema,
                        None => &schema["additionalProperties"],
                    };
                    self.rules(schema, value, &format!("{path}/{key}"), refusals);
                }
            }
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    self.rules(&schema["items"], value, &format!("{path}/{index}"), refusals);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// With names of fields as protocol buffers write them; JSON may have its own.
fn in_snake_case(value: &Value) -> Value {
    let snake = |name: &str| {
        let is_upper = |letter: char| letter.is_ascii_uppercase();
        let letters = name.chars().map(|letter| {
            let low = letter.to_ascii_lowercase();
            if is_upper(letter) { format!("_{low}") } else { low.to_string() }
        });
        letters.collect::<String>()
    };
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (snake(name), in_snake_case(value))).collect()
        }
        Value::Array(values) => values.iter().map(in_snake_case).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
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

/// Every document below a folder, with its file.
fn resources(folder: &Path) -> Vec<(PathBuf, Value)> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(resources(&path));
        } else if path.extension().is_some_and(|ending| ending == "yaml" || ending == "json") {
            let all = documents(&path);
            found.extend(all.into_iter().map(|document| (path.clone(), document)));
        }
    }
    found
}

#[test]
fn what_is_rendered_and_what_is_correct_is_taken_by_the_api_server() {
    let definitions = Definitions::read();
    let mut judged = BTreeSet::new();
    let ready = ["istio", "istio-wasmplugin", "istio-trafficextension"];
    let others = ["envoy-gateway", "higress", "kuma"];
    let tried = ["tests/golden", "tests/lint/correct"];
    for name in ready.iter().chain(&others).chain(&tried) {
        for (file, resource) in resources(&folder().join(name)) {
            let Some(refusals) = definitions.refusals(&resource) else { continue };
            assert!(refusals.is_empty(), "{}: {refusals:#?}", file.display());
            judged.insert(Definitions::name(&resource));
        }
    }
    let known = definitions.0.iter().map(|(name, _)| name.clone());
    let known: BTreeSet<String> = known.filter(|name| name != "Filter").collect();
    assert_eq!(judged, known, "each kind is rendered");
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

#[test]
fn what_is_wrong_for_other_meshes_is_refused() {
    let definitions = Definitions::read();
    // A ready resource, with one value changed or taken away.
    let check = |file: &str, path: &str, value: Value, word: &str| {
        let mut resource = documents(&folder().join(file)).remove(0);
        assert_eq!(definitions.refusals(&resource), Some(Vec::new()), "{file}");
        let (parent, key) = path.rsplit_once('/').unwrap();
        let parent = resource.pointer_mut(parent).unwrap();
        match (parent, value) {
            (Value::Object(fields), Value::Null) => drop(fields.remove(key).unwrap()),
            (Value::Object(fields), value) => drop(fields.insert(key.into(), value)),
            (Value::Array(values), value) => values[key.parse::<usize>().unwrap()] = value,
            (parent, _) => panic!("{file}: {path} is in {parent}"),
        }
        let refusals = definitions.refusals(&resource).unwrap();
        assert!(refusals.iter().any(|refusal| refusal.contains(word)), "{path}: {refusals:?}");
    };
    let gateway = |path: &str, value, word: &str| {
        check("tests/lint/correct/gateway.yaml", path, value, word);
    };
    gateway("/spec/targetRef", json!({}), "targetRef");
    gateway("/spec/targetRefs/0/kind", json!("Service"), "Service");
    gateway("/spec/targetRefs/0/sectionName", json!("http"), "sectionName");
    gateway("/spec/wasm/0/code/image", Value::Null, "/code");
    gateway("/spec/wasm/0/code/type", json!("HTTP"), "/code");
    gateway("/spec/wasm/0/code/image/url", json!("oci://a.io/b"), "/url");
    gateway("/spec/wasm/0/code/image/sha256", json!("AB"), "/sha256");
    gateway("/spec/wasm/0/failStrategy", json!("FAIL_OPEN"), "failStrategy");
    gateway("/spec/wasm/0/env/key_values", json!({}), "key_values");
    let higress = |path: &str, value, word: &str| {
        check("tests/lint/correct/higress.yaml", path, value, word);
    };
    higress("/spec/url", Value::Null, "url");
    higress("/spec/failStrategy", json!("FAIL_RELOAD"), "FAIL_RELOAD");
    higress("/spec/phase", json!("LAST"), "LAST");
    higress("/spec/priority", json!("10"), "integer");
    higress("/spec/targetRefs", json!([]), "targetRefs");
    let kuma = |path: &str, value, word: &str| {
        check("tests/golden/tcp.kuma.yaml", path, value, word);
    };
    let patch = "/spec/default/appendModifications/0/networkFilter";
    kuma("/spec/targetRef/kind", json!("Mesh"), "/targetRef");
    kuma("/spec/targetRef/labels", Value::Null, "/targetRef");
    kuma(&format!("{patch}/operation"), json!("INSERT_BEFORE"), "networkFilter");
    kuma(&format!("{patch}/match/name"), Value::Null, "networkFilter");
    kuma(&format!("{patch}/value"), json!({ "name": "a" }), "string");
    kuma(&format!("{patch}/value"), json!("name: a"), "value");
    let two = json!({ "httpFilter": {}, "networkFilter": {} });
    kuma("/spec/default/appendModifications/0", two, "more than 1");
    let mosn = |path: &str, value, word: &str| {
        check("tests/golden/texts.mosn.json", path, value, word);
    };
    let config = "/stream_filters/0/config";
    mosn("/stream_filters/0/type", json!("wasm"), "proxywasm");
    mosn(&format!("{config}/vm_config"), Value::Null, "config");
    mosn(&format!("{config}/vm_config/path"), Value::Null, "vm_config");
    mosn(&format!("{config}/vm_config/runtime"), json!("v8"), "runtime");
    mosn(&format!("{config}/rules"), json!([]), "string");
    mosn(&format!("{config}/instance_num"), json!(0), "minimum");
    let filter = |path: &str, value, word: &str| {
        check("tests/lint/correct/pair.yaml", path, value, word);
    };
    let plugin = "/spec/configPatches/0/patch/value/typed_config/config";
    filter(&format!("{plugin}/failure_polcy"), json!("FAIL_OPEN"), "failure_polcy");
    filter(&format!("{plugin}/failure_policy"), json!("FAIL_CLOSE"), "FAIL_CLOSE");
    filter(&format!("{plugin}/vm_config/runtime"), json!("v8"), "runtime");
    filter(&format!("{plugin}/vm_config/code/local"), json!({ "filename": "/a" }), "/code");
    let discovery = "/spec/configPatches/1/patch/value/config_discovery";
    filter(&format!("{discovery}/type_urls"), json!([]), "type_urls");
    filter(&format!("{discovery}/config_source/ads"), Value::Null, "ads");
}
