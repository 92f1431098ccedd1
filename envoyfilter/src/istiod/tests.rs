use super::*;

fn bootstrap() -> Value {
    let filters = json!([{ "name": "cors" }, { "name": "router" }]);
    let routes = json!({ "virtual_hosts": [
        { "name": "a:80", "routes": [{ "name": "one" }, { "name": "two" }] },
    ] });
    let chain = |port: u16| {
        json!({
            "filter_chain_match": { "destination_port": port },
            "filters": [{
                "name": CONNECTION_MANAGER,
                "typed_config": { "http_filters": filters, "route_config": routes },
            }],
        })
    };
    json!({ "static_resources": {
        "listeners": [{ "name": "virtualInbound", "filter_chains": [chain(80), chain(81)] }],
        "clusters": [],
    } })
}

fn resource(priority: i64, patches: &[(&str, &str, &str, Value)]) -> Value {
    let patches: Vec<Value> = patches
        .iter()
        .map(|(apply_to, operation, name, matched)| {
            json!({
                "applyTo": apply_to,
                "match": matched,
                "patch": { "operation": operation, "value": { "name": name } },
            })
        })
        .collect();
    json!({ "spec": { "priority": priority, "configPatches": patches } })
}

fn beside(name: &str) -> Value {
    json!({ "listener": { "filterChain": { "filter": {
        "name": CONNECTION_MANAGER, "subFilter": { "name": name },
    } } } })
}

/// The names of the first chain, and of the second.
fn check(resources: &[Value], expected: [&str; 2]) {
    let mut bootstrap = bootstrap();
    apply(&mut bootstrap, Context::SidecarInbound, resources).unwrap();
    for (index, expected) in expected.into_iter().enumerate() {
        let path = format!(
            "/static_resources/listeners/0/filter_chains/{index}/filters/0/typed_config/http_filters"
        );
        let filters = bootstrap.pointer(&path).and_then(Value::as_array).unwrap();
        let names: Vec<&str> = filters.iter().filter_map(|f| text(f, "/name")).collect();
        assert_eq!(names.join(" "), expected);
    }
}

#[test]
fn filters_are_patched_as_istiod_does() {
    let one = |operation: &str, matched: Value| {
        [resource(10, &[("HTTP_FILTER", operation, "x", matched)])]
    };
    check(&one("INSERT_BEFORE", beside("router")), ["cors x router"; 2]);
    check(&one("INSERT_AFTER", beside("cors")), ["cors x router"; 2]);
    check(&one("INSERT_BEFORE", beside("absent")), ["cors router"; 2]);
    check(&one("INSERT_BEFORE", json!({})), ["x cors router"; 2]);
    check(&one("INSERT_AFTER", json!({})), ["cors router x"; 2]);
    check(&one("INSERT_FIRST", beside("absent")), ["x cors router"; 2]);
    check(&one("ADD", beside("router")), ["cors router x"; 2]);
    check(&one("REPLACE", beside("cors")), ["x router"; 2]);
    check(&one("REMOVE", beside("cors")), ["router"; 2]);
    check(&one("ADD", json!({ "context": "GATEWAY" })), ["cors router"; 2]);
    let port = json!({ "listener": { "portNumber": 81 } });
    check(&one("INSERT_FIRST", port), ["cors router", "x cors router"]);
}

#[test]
fn a_filter_of_tcp_is_put_to_the_front_of_every_chain() {
    let tcp = json!({ "listener": { "filterChain": { "filter": { "name": "tcp" } } } });
    for (operation, expected) in [("INSERT_FIRST", "x"), ("INSERT_BEFORE", CONNECTION_MANAGER)] {
        let mut bootstrap = bootstrap();
        let resources = [resource(10, &[("NETWORK_FILTER", operation, "x", tcp.clone())])];
        apply(&mut bootstrap, Context::SidecarInbound, &resources).unwrap();
        let first = "/static_resources/listeners/0/filter_chains/0/filters/0/name";
        assert_eq!(bootstrap.pointer(first), Some(&json!(expected)), "{operation}");
    }
}

#[test]
fn patches_are_applied_by_priority() {
    let before = |priority, name| {
        resource(priority, &[("HTTP_FILTER", "INSERT_BEFORE", name, beside("router"))])
    };
    check(&[before(20, "b"), before(10, "a")], ["cors a b router"; 2]);
    check(&[before(10, "b"), before(10, "a")], ["cors b a router"; 2]);
}

#[test]
fn routes_clusters_and_extensions_are_patched() {
    let route = json!({ "routeConfiguration": { "vhost": { "name": "a:80", "route": { "name": "two" } } } });
    let resources = [
        resource(1, &[("HTTP_ROUTE", "MERGE", "changed", route)]),
        resource(1, &[("CLUSTER", "ADD", "seen", json!({ "context": "SIDECAR_OUTBOUND" }))]),
        resource(1, &[("CLUSTER", "ADD", "lost", json!({ "context": "SIDECAR_INBOUND" }))]),
        resource(1, &[("EXTENSION_CONFIG", "ADD", "unasked", json!({}))]),
    ];
    let mut bootstrap = bootstrap();
    let extensions = apply(&mut bootstrap, Context::SidecarInbound, &resources).unwrap();
    assert_eq!(extensions, Vec::<Value>::new());
    assert_eq!(bootstrap.pointer("/static_resources/clusters"), Some(&json!([{ "name": "seen" }])));
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let routes = format!("{manager}/route_config/virtual_hosts/0/routes");
    let expected = json!([{ "name": "one" }, { "name": "changed" }]);
    assert_eq!(bootstrap.pointer(&routes), Some(&expected));
}

#[test]
fn a_module_that_cannot_be_had_is_replaced() {
    let extension = |policy: &str| {
        json!({ "name": "a", "typed_config": { "@type": HTTP, "config": {
            "failure_policy": policy,
            "vm_config": {
                "code": { "remote": {} },
                "environment_variables": { "key_values": { "ISTIO_META_X": "1", "MODE": "2" } },
            },
        } } })
    };
    let open = converted(&extension("FAIL_OPEN"), Fetched::Failed);
    assert_eq!(open.pointer("/typed_config/rules"), None);
    let closed = converted(&extension("FAIL_RELOAD"), Fetched::Failed);
    assert_eq!(closed.pointer("/typed_config/rules"), Some(&json!({})));
    let there = converted(&extension("FAIL_OPEN"), Fetched::File(Path::new("/a.wasm")));
    let vm = there.pointer("/typed_config/config/vm_config").unwrap();
    assert_eq!(vm.pointer("/code/local/filename"), Some(&json!("/a.wasm")));
    let variables = vm.pointer("/environment_variables/key_values");
    assert_eq!(variables, Some(&json!({ "MODE": "2" })));
}
