//! What each target makes of policies, beside golden files; and what it refuses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use tollgate_envoyfilter::Target::{
    Envoy, EnvoyBootstrap, EnvoyGateway, EnvoyXds, Higress, Istio, IstioTrafficExtension,
    IstioWasmPlugin, Kuma, Mosn,
};
use tollgate_envoyfilter::lint::lint;
use tollgate_envoyfilter::{Facts, Policy, Target, Traffic, render};

const TARGETS: [(Target, &str); 10] = [
    (Envoy, "envoy"),
    (EnvoyBootstrap, "envoy-bootstrap"),
    (EnvoyXds, "envoy-xds"),
    (Istio, "istio"),
    (IstioWasmPlugin, "istio-wasmplugin"),
    (IstioTrafficExtension, "istio-trafficextension"),
    (EnvoyGateway, "envoy-gateway"),
    (Higress, "higress"),
    (Kuma, "kuma"),
    (Mosn, "mosn"),
];

fn facts() -> Facts {
    Facts {
        file: "/work/filters/guard.wasm".into(),
        bytes: b"\0asm\x01\0\0\0".to_vec(),
        abi: "0.2.1".into(),
        traffic: Traffic::Http,
        capabilities: ["proxy_log", "proxy_on_request_headers"].map(String::from).into(),
        ..Facts::default()
    }
}

/// A policy beside the golden file of one target; `BLESS=1` writes it anew. What Istio and its kin get has no
/// traps.
fn check(name: &str, target: Target, facts: &Facts) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let policy = std::fs::read_to_string(folder.join("policies").join(format!("{name}.yaml")));
    let policy = Policy::parse(&policy.unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let rendered = render(target, &policy, facts).unwrap_or_else(|error| panic!("{name}: {error}"));
    let text = rendered.to_text().unwrap();
    let (_, written) = TARGETS.iter().find(|(known, _)| *known == target).unwrap();
    let ending = if target == Mosn { "json" } else { "yaml" };
    let file = folder.join(format!("{name}.{written}.{ending}"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, expected, "review {} with BLESS=1", file.display());
    let findings = lint(&text).unwrap();
    assert!(findings.is_empty(), "{name}: {findings:#?}");
}

#[test]
fn policies_are_rendered_as_the_golden_files_have_them() {
    let everything = Facts {
        needs: ["allow_on_headers_stop_iteration".into()].into(),
        stats_tags: vec![("rule".into(), r"(rule\.=\.(.*?);\.)".into())],
        ..facts()
    };
    check("everything", Istio, &everything);
    let everything = Facts { needs: [].into(), ..everything };
    check("everything", Envoy, &everything);
    check("plugin", IstioWasmPlugin, &everything);
    check("plugin", IstioTrafficExtension, &everything);
    check("waypoint", IstioWasmPlugin, &facts());
    check("waypoint", IstioTrafficExtension, &facts());
    let tcp = Facts { traffic: Traffic::Tcp, ..facts() };
    for target in [Istio, IstioWasmPlugin, Kuma, EnvoyBootstrap] {
        check("tcp", target, &tcp);
    }
    for target in [Istio, Envoy, Kuma] {
        check("inline", target, &facts());
    }
    for target in [Istio, IstioWasmPlugin, EnvoyGateway] {
        check("url", target, &facts());
        check("moving", target, &facts());
    }
    check("front", Istio, &facts());
    check("front-tcp", Istio, &tcp);
    let old = Facts { abi: "0.2.0".into(), ..facts() };
    check("texts", Mosn, &old);
}

/// What a target says of a policy that it cannot carry out.
fn refuses(target: Target, policy: &str, facts: &Facts, words: &[&str]) {
    let policy = Policy::parse(policy).unwrap_or_else(|error| panic!("{policy}: {error}"));
    let error = render(target, &policy, facts).map(|rendered| rendered.to_text().unwrap());
    let Err(error) = error else { panic!("{target:?} renders {policy:?}") };
    let error = error.to_string();
    for word in words {
        assert!(error.contains(word), "{target:?}: {error}");
    }
}

#[test]
fn what_a_target_cannot_express_is_refused_with_its_place() {
    let file = "filter: a\nnamespace: shop\nmodule: { file: /a.wasm }\n";
    let image = "filter: a\nnamespace: shop\nmodule: { image: { reference: oci://a.io/b, pull_policy: always } }\n";
    let with = |head: &str, tail: &str| format!("{head}{tail}\n");
    let here = facts();
    let needy = Facts { needs: ["allow_on_headers_stop_iteration".into()].into(), ..facts() };
    let tcp = Facts { traffic: Traffic::Tcp, ..facts() };
    refuses(Istio, "filter: a", &here, &["namespace: missing"]);
    refuses(Istio, "{ filter: a, namespace: b }", &here, &["module: missing"]);
    let tag = "filter: a\nnamespace: b\nmodule: { image: { reference: 'oci://a.io/b:1' } }";
    for target in [Istio, IstioWasmPlugin, IstioTrafficExtension] {
        refuses(target, tag, &here, &["line 3 column", "module.image.reference", "not pinned"]);
    }
    let moved = "{ filter: 'oci://a.io/b:1', namespace: b }";
    refuses(Istio, moved, &here, &["filter: oci://a.io/b:1 is not pinned"]);
    let secret = "filter: a\nnamespace: b\nmodule:\n  image:\n    reference: oci://a.io/b\n    pull_secret: regcred";
    refuses(Istio, secret, &here, &["line 6 column 18", "module.image.pull_secret"]);
    let apply = |text: &str| with(file, &format!("apply: {text}"));
    refuses(Istio, &apply("{ phase: authz }"), &here, &["apply.phase", "AUTHZ", "line 4"]);
    let beside = |name: &str| apply(&format!("{{ anchor: {{ before: {name} }} }}"));
    refuses(Istio, &beside("envoy.filters.http.rbac"), &here, &["apply.anchor", "vanish"]);
    refuses(Istio, &beside("extensions.istio.io/wasmplugin/a"), &here, &["apply.anchor"]);
    let after = apply("{ anchor: { after: envoy.filters.http.router } }");
    refuses(Istio, &after, &here, &["apply.anchor", "last"]);
    refuses(Kuma, &after, &here, &["apply.anchor", "last"]);
    let waypoint = apply("{ to: waypoint, targets: [ { kind: Service, name: a } ] }");
    refuses(Istio, &waypoint, &here, &["apply.to", "waypoints"]);
    refuses(Kuma, &waypoint, &here, &["apply.to", "waypoints"]);
    let called = with(&waypoint, "clusters: [ { name: a, address: 'b:1' } ]");
    refuses(IstioWasmPlugin, &called, &here, &["clusters", "waypoints"]);
    let route = apply("{ to: gateway, targets: [ { kind: HTTPRoute, name: a } ] }");
    refuses(Istio, &route, &here, &["apply.targets[0].kind", "HTTPRoute"]);
    let routes = apply("{ routes: [ { virtual_host: a } ] }");
    refuses(Istio, &routes, &tcp, &["apply.routes", "TCP"]);
    for target in [IstioWasmPlugin, Kuma] {
        refuses(target, &routes, &here, &["apply.routes"]);
    }
    refuses(
        EnvoyBootstrap,
        &with(&routes, "proxy: { listen: 'a:1', upstream: 'b:2' }"),
        &here,
        &["apply.routes"],
    );
    for target in [IstioWasmPlugin, IstioTrafficExtension] {
        refuses(target, file, &needy, &["allow_on_headers_stop_iteration"]);
        refuses(target, &beside("x"), &here, &["apply.anchor", "phase"]);
        refuses(target, &with(file, "config: text"), &here, &["config: only an object"]);
        refuses(target, &with(file, "config: {}"), &here, &["config: an empty object"]);
        let inline = "filter: a\nnamespace: b\nmodule: inline";
        refuses(target, inline, &here, &["module", "no code"]);
    }
    refuses(IstioTrafficExtension, file, &tcp, &["TCP"]);

    let large = Facts { bytes: vec![0; 1_200_000], ..facts() };
    let inline = "filter: a\nnamespace: b\nmodule: inline";
    refuses(Istio, inline, &large, &["module: ", "1600000 bytes", "1572864"]);

    let gateway = with(image, "apply: { to: gateway, targets: [ { kind: Gateway, name: a } ] }");
    let to = |tail: &str| with(&gateway, tail);
    refuses(EnvoyGateway, image, &here, &["apply.to", "gateway"]);
    refuses(EnvoyGateway, &with(image, "apply: { to: gateway }"), &here, &["apply.targets"]);
    refuses(EnvoyGateway, &gateway, &tcp, &["TCP"]);
    refuses(EnvoyGateway, &gateway, &needy, &["allow_on_headers_stop_iteration"]);
    refuses(EnvoyGateway, &to("failure_policy: reload"), &here, &["failure_policy", "line 5"]);
    refuses(EnvoyGateway, &to("environment: { A: b }"), &here, &["environment"]);
    refuses(EnvoyGateway, &to("clusters: [ { name: a, address: 'b:1' } ]"), &here, &["clusters"]);
    let own = gateway.replace("to: gateway", "to: gateway, phase: authn");
    refuses(EnvoyGateway, &own, &here, &["apply.phase", "filterOrder"]);
    let ports = gateway.replace("to: gateway", "to: gateway, ports: [ 80 ]");
    refuses(EnvoyGateway, &ports, &here, &["apply.ports"]);
    let mounted = with(file, "apply: { to: gateway, targets: [ { kind: Gateway, name: a } ] }");
    refuses(EnvoyGateway, &mounted, &here, &["module", "image"]);

    let higress = with(image, "apply: { to: gateway }");
    refuses(Higress, image, &here, &["apply.to"]);
    refuses(Higress, &gateway, &here, &["apply.targets"]);
    refuses(Higress, &with(&higress, "failure_policy: reload"), &here, &["failure_policy"]);
    refuses(Higress, &with(&higress, "environment: { A: b }"), &here, &["environment"]);
    refuses(Higress, &higress, &tcp, &["TCP"]);
    let ruled = higress.replace("to: gateway", "to: gateway, routes: [ { virtual_host: a } ]");
    refuses(Higress, &ruled, &here, &["apply.routes", "rules"]);

    refuses(Kuma, image, &here, &["module", "fetches no modules"]);
    refuses(Kuma, &apply("{ ports: [ 80 ] }"), &here, &["apply.ports"]);
    refuses(Kuma, &apply("{ phase: stats }"), &here, &["apply.phase"]);

    let old = Facts { abi: "0.2.0".into(), ..facts() };
    refuses(Mosn, file, &here, &["filter", "0.2.1"]);
    refuses(Mosn, &with(file, "config: { rules: [] }"), &old, &["config.rules", "texts"]);
    refuses(Mosn, &with(file, "config: { key: 1 }"), &old, &["config.key"]);
    refuses(Mosn, &with(file, "root_id: a"), &old, &["root_id"]);
    refuses(Mosn, &apply("{ ports: [ 80 ] }"), &old, &["apply"]);

    let url = "filter: a\nmodule: { url: https://a/b.wasm }";
    refuses(Envoy, url, &here, &["module.url", "crash"]);
    refuses(EnvoyXds, "filter: a", &here, &["proxy: missing"]);
}

#[test]
fn traps_that_a_policy_leads_into_are_told() {
    let check = |target: Target, apply: &str, module: &str, rule: &str| {
        let text = format!("filter: a\nnamespace: b\nmodule: {module}\napply: {apply}");
        let rendered = render(target, &Policy::parse(&text).unwrap(), &facts()).unwrap();
        let told = |note: &&String| note.starts_with(&format!("{rule}: "));
        assert_eq!(rendered.notes.iter().filter(told).count(), 1, "{rule}: {:?}", rendered.notes);
    };
    let file = "{ file: /a.wasm }";
    let waypoint = "{ gateway.networking.k8s.io/gateway-class-name: istio-waypoint }";
    check(Istio, "{ ports: [ 15006 ] }", file, "capture-port");
    check(Istio, "{ selector: { istio: ingressgateway } }", file, "target-context");
    check(Istio, &format!("{{ selector: {waypoint} }}"), file, "waypoint");
    check(IstioWasmPlugin, &format!("{{ selector: {waypoint} }}"), file, "selector-on-waypoint");
    let misspelt = "{ anchor: { before: envoy.filters.http.routr } }";
    check(Istio, misspelt, file, "unknown-anchor");
    let hex = "a".repeat(64);
    let image = format!("{{ image: {{ reference: 'oci://169.254.169.254/a@sha256:{hex}' }} }}");
    check(Istio, "{}", &image, "blocked-address");
    let gateway = "{ to: gateway, targets: [ { kind: MeshGateway, name: a } ] }";
    check(Kuma, gateway, file, "apply.targets");
    check(IstioTrafficExtension, "{}", &image, "blocked-address");
    let class = "{ to: waypoint, targets: [ { kind: GatewayClass, name: istio-waypoint } ] }";
    check(IstioWasmPlugin, class, file, "target-class");
    let route = "{ to: gateway, targets: [ { kind: HTTPRoute, name: web } ] }";
    check(IstioWasmPlugin, route, file, "target-kind");
}

#[test]
fn a_resource_for_the_whole_mesh_is_told() {
    let told = |target: Target, namespace: &str, apply: &str| {
        let text = format!(
            "filter: a\nnamespace: {namespace}\nmodule: {{ file: /a.wasm }}\napply: {apply}"
        );
        let rendered = render(target, &Policy::parse(&text).unwrap(), &facts()).unwrap();
        rendered.notes.iter().any(|note| note.contains("every proxy of the mesh"))
    };
    for target in [Istio, IstioWasmPlugin, IstioTrafficExtension] {
        assert!(told(target, "istio-system", "{}"), "{target:?}");
        assert!(!told(target, "istio-system", "{ selector: { app: a } }"), "{target:?}");
        assert!(!told(target, "shop", "{}"), "{target:?}");
    }
}

#[test]
fn filters_of_one_place_stand_in_the_order_that_is_said() {
    let priority = |anchor: &str, order: u16| {
        let text = format!(
            "{{ filter: a, namespace: b, module: inline, apply: {{ {anchor}order: {order} }} }}"
        );
        let rendered = render(Istio, &Policy::parse(&text).unwrap(), &facts()).unwrap();
        let value = rendered.documents.first().unwrap().value.pointer("/spec/priority").cloned();
        value.and_then(|value| value.as_i64()).unwrap()
    };
    // What is applied later stands nearer to the router, and nearer to the front.
    assert!(priority("", 10) < priority("", 20));
    assert!(priority("anchor: first, ", 10) > priority("anchor: first, ", 20));
}
