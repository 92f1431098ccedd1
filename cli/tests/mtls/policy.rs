//! Policies drawn at random, of few words, so that rules are often about a request.

use proptest::prelude::Rng as _;
use proptest::test_runner::TestRng;
use serde_json::{Map, Value, json};

/// A policy, and the port of the listener that it is for.
pub(crate) struct Drawn {
    /// As the filter reads it.
    pub(crate) policy: Value,
    /// Where its listener is.
    pub(crate) port: u16,
}

impl Drawn {
    /// Draws a policy.
    pub(crate) fn new(random: &mut TestRng, port: u16) -> Self {
        let actions: &[&str] = match below(random, 4) {
            0 => &["deny", "except", "audit"],
            _ => &["allow", "allow", "allow", "deny", "except", "audit"],
        };
        let count = 1 + below(random, 5);
        let rules: Vec<Value> = (0..count)
            .map(|place| {
                let action = *pick(random, actions);
                rule(random, &format!("r{place}"), action, port)
            })
            .collect();
        let may_pass = !rules.iter().any(|rule| rule["action"] == "allow");
        let policy = json!({
            "identity": {
                "required": below(random, 2) == 0,
                "svid": pick(random, &["required", "optional"]),
            },
            "trust_domain": "acme",
            "trust_domain_aliases": ["old"],
            "rules": rules,
            "otherwise": if may_pass { "allow" } else { "deny" },
            "mode": "shadow",
        });
        Self { policy, port }
    }
}

fn rule(random: &mut TestRng, name: &str, action: &str, port: u16) -> Value {
    let mut rule = json!({ "name": name, "action": action });
    let fields = rule.as_object_mut().unwrap();
    if below(random, 4) > 0 {
        fields.insert("from".into(), sections(random, from_field));
    }
    if below(random, 4) > 0 {
        fields.insert("to".into(), sections(random, |random| to_field(random, port)));
    }
    if below(random, 4) == 0 {
        fields.insert("when".into(), json!([condition(random)]));
    }
    let expires = match action {
        "except" => Some("2999-12-31"),
        "allow" if below(random, 8) == 0 => Some("1999-12-31"),
        _ => None,
    };
    if let Some(day) = expires {
        fields.insert("expires".into(), json!(day));
    }
    rule
}

/// One or two sections of one or two fields each.
fn sections(
    random: &mut TestRng,
    mut field: impl FnMut(&mut TestRng) -> (&'static str, Value),
) -> Value {
    let count = 1 + below(random, 2);
    let section = |_| {
        let mut section = Map::new();
        for _ in 0..=below(random, 2) {
            let (name, values) = field(random);
            let negation = if below(random, 4) == 0 { "not_" } else { "" };
            section.insert(format!("{negation}{name}"), values);
        }
        Value::Object(section)
    };
    (0..count).map(section).collect()
}

fn from_field(random: &mut TestRng) -> (&'static str, Value) {
    match below(random, 8) {
        0 | 1 => (
            "principals",
            some(
                random,
                &[
                    json!("*"),
                    json!("spiffe://acme/ns/shop/sa/cart"),
                    json!("spiffe://acme/ns/shop/sa/*"),
                    json!("spiffe://acme/ns/*/sa/cart"),
                    json!("spiffe://acme/ns/shop/sa/c.rt"),
                    json!("spiffe://evil/ns/shop/sa/cart"),
                ],
            ),
        ),
        2 => ("trust_domains", some(random, &["acme", "old", "evil"].map(Value::from))),
        3 => ("namespaces", some(random, &["shop", "pay", "sh.p"].map(Value::from))),
        4 => {
            let accounts = ["shop/cart", "shop/c.rt", "shop/admin", "pay/cart"];
            ("service_accounts", some(random, &accounts.map(Value::from)))
        }
        5 => {
            let names = ["cart.acme.test", "*.acme.test", "web.acme.test"];
            ("dns_names", some(random, &names.map(Value::from)))
        }
        6 => ("subjects", some(random, &["CN=cart", "CN=web", "CN=guest"].map(Value::from))),
        _ => {
            let networks = ["127.0.0.1", "127.0.0.2/31", "10.0.0.0/8", "127.0.0.0/8"];
            ("addresses", some(random, &networks.map(Value::from)))
        }
    }
}

fn to_field(random: &mut TestRng, port: u16) -> (&'static str, Value) {
    match below(random, 6) {
        0 => {
            let hosts = ["orders.acme.test", "*.acme.test", "admin.acme.test"];
            ("hosts", some(random, &hosts.map(Value::from)))
        }
        1 => ("methods", some(random, &["GET", "POST", "DELETE"].map(Value::from))),
        2 | 3 => (
            "paths",
            some(
                random,
                &[
                    json!({ "exact": "/orders" }),
                    json!({ "prefix": "/orders" }),
                    json!({ "prefix": "/admin" }),
                    json!({ "suffix": "/items" }),
                    json!({ "template": "/orders/{id}/items" }),
                    json!({ "exact": "/a.b" }),
                ],
            ),
        ),
        4 => ("ports", some(random, &[json!(port), json!(443)])),
        _ => {
            let names = ["orders.acme.test", "*.acme.test", "admin.acme.test"];
            ("server_names", some(random, &names.map(Value::from)))
        }
    }
}

fn condition(random: &mut TestRng) -> Value {
    let texts = some(random, &["admin", "user*", "*-7", "*"].map(Value::from));
    let quantifier = *pick(random, &["any", "any", "none", "none", "all", "one"]);
    let values = *pick(random, &["lines", "members"]);
    json!({ "header": "x-role", "values": values, quantifier: texts })
}

/// One or two of these.
fn some(random: &mut TestRng, all: &[Value]) -> Value {
    let first = below(random, all.len());
    let second = below(random, all.len());
    let count = 1 + usize::from(first != second && below(random, 2) == 0);
    [first, second].iter().take(count).map(|&place| all[place].clone()).collect()
}

/// One of these.
pub(crate) fn pick<'a, T>(random: &mut TestRng, all: &'a [T]) -> &'a T {
    &all[below(random, all.len())]
}

/// A number below this one.
pub(crate) fn below(random: &mut TestRng, bound: usize) -> usize {
    random.next_u32() as usize % bound
}
