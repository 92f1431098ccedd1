//! The same policy for Envoy's own RBAC filter, as near as that can say it.

use serde_json::{Value, json};

/// The filters, in shadow: who has to be somebody, what is excepted, what is denied, what is allowed. Each tells of
/// its decision in the metadata of the request, under its prefix.
const PREFIXES: [&str; 4] = ["required", "except", "deny", "allow"];

/// What a client is told of those decisions.
pub(crate) fn told() -> String {
    let of = |prefix| {
        format!("%DYNAMIC_METADATA(envoy.filters.http.rbac:{prefix}_shadow_engine_result)%")
    };
    PREFIXES.map(of).join(" ")
}

/// Whether a request passes them all.
pub(crate) fn allows(told: &str) -> bool {
    match told.split(' ').collect::<Vec<_>>()[..] {
        ["denied", ..] | ["allowed", "denied", "denied", _] => false,
        ["allowed", "allowed", ..] => true,
        ["allowed", "denied", "allowed", allowed] => allowed == "allowed",
        _ => panic!("{told:?} is no decision of all four"),
    }
}

/// The filters for a policy.
pub(crate) fn filters(policy: &Value) -> [Value; 4] {
    PREFIXES.map(|prefix| {
        let rules = policy["rules"].as_array().unwrap().iter();
        let rules =
            rules.filter(|rule| rule["action"] == prefix && rule["expires"] != "1999-12-31");
        let mut policies: serde_json::Map<String, Value> = rules
            .map(|rule| (rule["name"].as_str().unwrap().to_owned(), rbac_policy(rule)))
            .collect();
        if prefix == "required" && policy["identity"]["required"] == true {
            let nobody = json!({ "not_id": somebody() });
            policies.insert(
                "nobody".into(),
                json!({ "permissions": [{ "any": true }], "principals": [nobody] }),
            );
        }
        if prefix == "allow" && policy["otherwise"] == "allow" {
            let all = json!({ "permissions": [{ "any": true }], "principals": [{ "any": true }] });
            policies.insert("otherwise".into(), all);
        }
        let action = if matches!(prefix, "required" | "deny") { "DENY" } else { "ALLOW" };
        json!({
            "name": "envoy.filters.http.rbac",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
                "shadow_rules": { "action": action, "policies": policies },
                "shadow_rules_stat_prefix": format!("{prefix}_"),
            },
        })
    })
}

fn rbac_policy(rule: &Value) -> Value {
    let principals = alternatives(&rule["from"], &[], principal);
    let conditions: Vec<Value> =
        rule["when"].as_array().into_iter().flatten().map(condition).collect();
    let permissions = alternatives(&rule["to"], &conditions, permission);
    json!({
        "permissions": ids_to_rules(permissions),
        "principals": principals,
    })
}

/// Each section with all its fields, and what is asked for beside it.
fn alternatives(sections: &Value, beside: &[Value], of: fn(&str, &Value) -> Value) -> Vec<Value> {
    let all = |parts: Vec<Value>| match parts.as_slice() {
        [] => json!({ "any": true }),
        _ => json!({ "and_ids": { "ids": parts } }),
    };
    let Some(sections) = sections.as_array() else { return vec![all(beside.to_vec())] };
    let section = |section: &Value| {
        let fields = section.as_object().unwrap().iter();
        let fields = fields.map(|(name, values)| {
            let (field, is_negated) = match name.strip_prefix("not_") {
                Some(field) => (field, true),
                None => (name.as_str(), false),
            };
            let values = values.as_array().unwrap().iter().map(|value| of(field, value));
            let one = json!({ "or_ids": { "ids": values.collect::<Vec<_>>() } });
            if is_negated { json!({ "not_id": one }) } else { one }
        });
        all(fields.chain(beside.iter().cloned()).collect())
    };
    sections.iter().map(section).collect()
}

/// Permissions are written as principals are, but for these words.
fn ids_to_rules(permissions: Vec<Value>) -> Value {
    let text = Value::Array(permissions).to_string();
    let words = [
        ("and_ids", "and_rules"),
        ("or_ids", "or_rules"),
        ("not_id", "not_rule"),
        ("ids", "rules"),
    ];
    let text = words.iter().fold(text, |text, (of_ids, of_rules)| {
        text.replace(&format!("\"{of_ids}\":"), &format!("\"{of_rules}\":"))
    });
    serde_json::from_str(&text).unwrap()
}

/// Whoever shows a certificate. To Envoy, whoever speaks TLS is authenticated, with a certificate or without.
fn somebody() -> Value {
    named(&regex(".+"))
}

fn named(matcher: &Value) -> Value {
    json!({ "authenticated": { "principal_name": matcher } })
}

fn principal(field: &str, value: &Value) -> Value {
    let text = value.as_str().unwrap();
    match field {
        "principals" if text == "*" => named(&regex("spiffe://.+")),
        "principals" => named(&regex(&in_domains(text).replace(r"\*", "[^/]+"))),
        "trust_domains" => {
            named(&regex(&format!("{}(/.*)?", in_domains(&format!("spiffe://{text}")))))
        }
        "namespaces" => {
            named(&regex(&format!("{}/[^/]+", in_domains(&format!("spiffe://acme/ns/{text}/sa")))))
        }
        "service_accounts" => {
            let (namespace, account) = text.split_once('/').unwrap();
            named(&regex(&in_domains(&format!("spiffe://acme/ns/{namespace}/sa/{account}"))))
        }
        "dns_names" => named(&host(text)),
        "subjects" => named(&json!({ "exact": text })),
        "addresses" => {
            let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
            let bits: u32 = bits.parse().unwrap();
            json!({ "remote_ip": { "address_prefix": address, "prefix_len": bits } })
        }
        other => panic!("{other} is no field of `from`"),
    }
}

fn permission(field: &str, value: &Value) -> Value {
    let header =
        |name: &str, matcher: Value| json!({ "header": { "name": name, "string_match": matcher } });
    match field {
        "hosts" => header(":authority", regex(&format!("(?i){}(:[0-9]+)?", host_pattern(value)))),
        "methods" => header(":method", json!({ "exact": value })),
        "paths" => json!({ "url_path": { "path": regex(&path_pattern(value)) } }),
        "ports" => json!({ "destination_port": value }),
        "server_names" => json!({ "requested_server_name": host(value.as_str().unwrap()) }),
        other => panic!("{other} is no field of `to`"),
    }
}

/// A condition as permission. Of the quantifiers there are only `any` and its contrary.
fn condition(condition: &Value) -> Value {
    let quantified = condition.as_object().unwrap().iter().find(|(_, value)| value.is_array());
    let (quantifier, texts) = quantified.unwrap();
    let is_of_members = condition["values"] == "members";
    let matchers = texts.as_array().unwrap().iter().map(|text| {
        let pattern = text_pattern(text.as_str().unwrap(), is_of_members);
        let pattern = if is_of_members { format!(r"(.*,)?\s*{pattern}\s*(,.*)?") } else { pattern };
        json!({ "header": { "name": "x-role", "string_match": regex(&pattern) } })
    });
    let any = json!({ "or_ids": { "ids": matchers.collect::<Vec<_>>() } });
    if quantifier == "none" { json!({ "not_id": any }) } else { any }
}

fn text_pattern(text: &str, is_member: bool) -> String {
    let (any, some) = if is_member { ("[^,]*", r"[^,\s][^,]*") } else { (".*", ".+") };
    match text {
        "*" => some.to_owned(),
        _ => escaped(text).replace(r"\*", any),
    }
}

/// A pattern of IDs in the own trust domain, also in the one that stands for it.
fn in_domains(id: &str) -> String {
    let own = escaped("spiffe://acme");
    let rest = escaped(id);
    match rest.strip_prefix(&own) {
        Some(path) if path.is_empty() || path.starts_with('/') => {
            format!("spiffe://(acme|old){path}")
        }
        _ => rest,
    }
}

fn path_pattern(value: &Value) -> String {
    let (form, path) = value.as_object().unwrap().iter().next().unwrap();
    let path = escaped(path.as_str().unwrap());
    match form.as_str() {
        "exact" => format!("{path}/?"),
        "prefix" => format!("{path}(/.*)?"),
        "suffix" => format!("(/.*)?{path}/?"),
        "template" => format!("{}/?", path.replace(r"\{id\}", "[^/]+")),
        other => panic!("{other} is no form of a path"),
    }
}

fn host(text: &str) -> Value {
    match text.strip_prefix('*') {
        Some(suffix) => json!({ "suffix": suffix, "ignore_case": true }),
        None => json!({ "exact": text, "ignore_case": true }),
    }
}

fn host_pattern(value: &Value) -> String {
    let text = escaped(value.as_str().unwrap());
    // A dot at the end names the same host.
    format!("{}\\.?", text.replace(r"\*", ".+"))
}

fn regex(pattern: &str) -> Value {
    json!({ "safe_regex": { "regex": pattern } })
}

fn escaped(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/:-_".contains(c);
    text.chars().fold(String::new(), |mut all, c| {
        if !is_plain(c) {
            all.push('\\');
        }
        all.push(c);
        all
    })
}
