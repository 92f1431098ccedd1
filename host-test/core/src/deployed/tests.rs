use std::fmt::Write;
use std::time::Duration;

use super::*;

/// What a text deploys, a line each.
fn told(text: &str) -> Result<Vec<String>, Invalid> {
    let show = |filter: Deployed| {
        let module = match filter.module {
            ModuleAt::File(file) => format!("file {}", file.display()),
            ModuleAt::Inline(bytes) => format!("inline {}", bytes.escape_ascii()),
            ModuleAt::Remote(uri) => uri,
        };
        let alone = if filter.allow_on_headers_stop_iteration { " alone" } else { "" };
        format!(
            "{} plugin={} root={} vm={} vm_config={} config={} {module}{alone}",
            filter.name,
            filter.plugin,
            filter.root_id,
            filter.vm_id,
            filter.vm_config.escape_ascii(),
            String::from_utf8_lossy(&filter.config),
        )
    };
    parse(text, Traffic::Http)
        .map(|chains| chains.into_iter().flat_map(|chain| chain.filters).map(show).collect())
}

const LISTENER: &str = r#"
static_resources:
  listeners:
    - filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                http_filters:
                  - name: first
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
                      config:
                        name: one
                        root_id: r
                        allow_on_headers_stop_iteration: true
                        configuration:
                          "@type": type.googleapis.com/google.protobuf.Struct
                          value: { rules: [ { requests: 2 } ], strict: true }
                        vm_config:
                          vm_id: v
                          runtime: envoy.wasm.runtime.v8
                          configuration: { "@type": type.googleapis.com/google.protobuf.BytesValue, value: AP8= }
                          code: { local: { filename: /etc/one.wasm } }
                  - name: envoy.filters.http.cors
                    typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors }
                  - name: second
                    typed_config:
                      "@type": type.googleapis.com/udpa.type.v1.TypedStruct
                      type_url: type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
                      value:
                        config:
                          rootId: r2
                          vmConfig: { code: { local: { inlineBytes: "aGk=" } } }
                  - name: envoy.filters.http.router
"#;

#[test]
fn a_chain_of_envoy_keeps_its_order() {
    assert_eq!(
        told(LISTENER).unwrap(),
        [
            r#"first plugin=one root=r vm=v vm_config=\x00\xff config={"rules":[{"requests":2}],"strict":true} file /etc/one.wasm alone"#,
            "second plugin= root=r2 vm= vm_config= config= inline hi",
        ]
    );
}

#[test]
fn a_filter_may_stand_alone() {
    let text = r#"
name: alone
typed_config:
  "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
  config: { vm_config: { code: { remote: { http_uri: { uri: "https://example.com/a.wasm" } } } } }
"#;
    let expected = ["alone plugin= root= vm= vm_config= config= https://example.com/a.wasm"];
    assert_eq!(told(text).unwrap(), expected);
    let list = format!("- {}", text.trim().replace('\n', "\n  "));
    assert_eq!(told(&list).unwrap(), expected);
    assert_eq!(told("kind: Service\nmetadata: { name: a }\n").unwrap(), [""; 0]);
}

/// Patches of an `EnvoyFilter`: operation, name, and the name beside which it goes.
fn patches(patches: &[(&str, &str, &str)]) -> String {
    let mut text = String::from("kind: EnvoyFilter\nspec:\n  configPatches:\n");
    for (operation, name, beside) in patches {
        write!(
            text,
            r#"  - applyTo: HTTP_FILTER
    match: {{ listener: {{ filterChain: {{ filter: {{ subFilter: {{ name: {beside} }} }} }} }} }}
    patch:
      operation: {operation}
      value:
        name: {name}
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
          config: {{ vm_config: {{ code: {{ local: {{ filename: x.wasm }} }} }} }}
"#
        )
        .unwrap();
    }
    text
}

#[test]
fn patches_of_istio_make_the_chain() {
    let check = |list: &[(&str, &str, &str)], expected: &[&str]| {
        let chain = told(&patches(list)).unwrap();
        let names: Vec<&str> = chain.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names, expected, "{list:?}");
    };
    let router = "envoy.filters.http.router";
    check(&[("INSERT_BEFORE", "a", router), ("INSERT_BEFORE", "b", router)], &["a", "b"]);
    check(&[("INSERT_FIRST", "a", router), ("INSERT_FIRST", "b", router)], &["b", "a"]);
    check(
        &[("INSERT_BEFORE", "a", router), ("INSERT_BEFORE", "b", "a"), ("INSERT_AFTER", "c", "b")],
        &["b", "c", "a"],
    );
    check(&[("ADD", "a", router), ("REPLACE", "b", "a")], &["b"]);
}

/// Who plays a text that deploys several chains, or why nobody does.
fn picked(text: &str, chain: Option<&str>, plugin: Option<&str>) -> Result<Picked, String> {
    let (chain, plugin) = (chain.map(str::to_owned), plugin.map(str::to_owned));
    let pick = Pick { chain, plugin, ..Pick::default() };
    pick.take(parse(text, pick.traffic).unwrap(), Path::new("")).map_err(|error| error.to_string())
}

fn names(picked: &Picked) -> Vec<&str> {
    picked.filters.iter().map(|filter| filter.name.as_str()).collect()
}

#[test]
fn a_chain_is_what_one_proxy_has() {
    let router = "envoy.filters.http.router";
    let both = patches(&[("ADD", "a", router), ("ADD", "b", router), ("ADD", "c", router)]);
    let for_contexts = |contexts: [&str; 3]| {
        let mut contexts = contexts.into_iter();
        let parts = both.split("    match: {").map(str::to_owned);
        let join = |text: String, part: String| {
            format!("{text}    match: {{ context: {},{part}", contexts.next().unwrap())
        };
        parts.reduce(join).unwrap()
    };
    let check = |contexts: [&str; 3], chain: Option<&str>, expected: Result<&[&str], &str>| {
        let found = picked(&for_contexts(contexts), chain, None);
        let found = found.as_ref().map(names);
        match expected {
            Ok(expected) => assert_eq!(found.unwrap(), expected, "{contexts:?}"),
            Err(words) => assert_eq!(found.unwrap_err(), words, "{contexts:?}"),
        }
    };
    let several =
        "2 chains are deployed, which are not alike: SIDECAR_INBOUND, GATEWAY; name one as `chain`";
    let split = ["SIDECAR_INBOUND", "ANY", "GATEWAY"];
    check(split, None, Err(several));
    check(split, Some("SIDECAR_INBOUND"), Ok(&["a", "b"]));
    check(split, Some("GATEWAY"), Ok(&["b", "c"]));
    check(split, Some("x"), Err("no chain `x`; there are SIDECAR_INBOUND, GATEWAY"));
    check(["ANY", "GATEWAY", "ANY"], None, Ok(&["a", "b", "c"]));
    // The one filter that is meant is alike in both.
    let found = picked(&for_contexts(split), None, Some("b")).unwrap();
    assert_eq!(names(&found), ["b"]);
    let alike = for_contexts(split).replace("name: c\n", "name: a\n");
    assert!(picked(&alike, None, None).unwrap_err().contains("not alike"));
    let alike = for_contexts(["SIDECAR_INBOUND", "GATEWAY", "x"]);
    let alike = alike.replace("name: b\n", "name: a\n").replace(
        "applyTo: HTTP_FILTER\n    match: { context: x",
        "applyTo: CLUSTER\n    match: { context: x",
    );
    assert_eq!(names(&picked(&alike, None, None).unwrap()), ["a"]);
}

#[test]
fn listeners_have_chains_of_their_own() {
    let named = |name: &str| {
        LISTENER
            .replace("    - filter_chains:", &format!("    - name: {name}\n      filter_chains:"))
    };
    let inline = |text: &str| text.replace("filename: /etc/one.wasm", "inlineBytes: aGk=");
    // The same chain twice is one.
    let twice = format!("{LISTENER}---{LISTENER}");
    assert_eq!(names(&picked(&twice, None, None).unwrap()), ["one", "second"]);
    let other = inline(&named("out")).replace("name: one\n", "name: two\n");
    let both = format!("{}---{other}", named("in"));
    let several = picked(&both, None, None).unwrap_err();
    assert!(several.contains("not alike: in, out;"), "{several}");
    assert_eq!(names(&picked(&both, Some("out"), None).unwrap()), ["two", "second"]);
    let nameless = format!("{LISTENER}---{other}").replace("name: out", "name: \"\"");
    let several = picked(&nameless, None, None).unwrap_err();
    assert!(several.contains("not alike: line 12, line 48;"), "{several}");
}

#[test]
fn what_stands_in_front_of_connections_is_a_chain_of_its_own() {
    let network = r#"        - filters:
            - name: guard
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm
                config: { vm_config: { code: { local: { filename: guard.wasm } } } }
            - name: envoy.filters.network.http_connection_manager"#;
    let listener = LISTENER.replacen(
        "        - filters:\n            - name: envoy.filters.network.http_connection_manager",
        network,
        1,
    );
    let patched = format!(
        "{}---\n{}",
        patches(&[("ADD", "b", "x")]),
        patches(&[("ADD", "c", "x"), ("INSERT_BEFORE", "a", "c")])
            .replace("filters.http.wasm", "filters.network.wasm")
            .replace("subFilter: { name: c }", "name: c")
    );
    let plugins = "kind: WasmPlugin\nmetadata: { name: h }\nspec: { url: 'file:///h.wasm' }\n---\n\
                   kind: WasmPlugin\nmetadata: { name: t }\nspec: { url: 'file:///t.wasm', type: NETWORK }\n";
    let check = |text: &str, traffic: Traffic, expected: &[&str]| {
        let pick = Pick { traffic, ..Pick::default() };
        let found = pick.take(parse(text, traffic).unwrap(), Path::new("")).unwrap();
        assert_eq!(names(&found), expected, "{traffic:?} {text}");
    };
    check(&listener, Traffic::Http, &["one", "second"]);
    check(&listener, Traffic::Tcp, &["guard"]);
    check(&patched, Traffic::Http, &["b"]);
    check(&patched, Traffic::Tcp, &["a", "c"]);
    check(plugins, Traffic::Http, &["default.h"]);
    check(plugins, Traffic::Tcp, &["default.t"]);
    let refuse = |text: &str, traffic: Traffic, words: &str| {
        let pick = Pick { traffic, ..Pick::default() };
        let error =
            pick.take(parse(text, traffic).unwrap(), Path::new("")).unwrap_err().to_string();
        assert_eq!(error, words);
    };
    let tcp = plugins.split("---\n").nth(1).unwrap();
    let http = "no filter in Wasm for HTTP is deployed here; `protocol: tcp` takes those for TCP";
    refuse(tcp, Traffic::Http, http);
    let tcp = "no filter in Wasm for TCP is deployed here; `protocol: http` takes those for HTTP";
    refuse(LISTENER, Traffic::Tcp, tcp);
}

#[test]
fn a_disabled_filter_is_played_when_it_is_named() {
    let text =
        LISTENER.replace("- name: first\n", "- name: first\n                    disabled: true\n");
    let all = picked(&text, None, None).unwrap();
    assert_eq!(names(&all), ["second"]);
    assert_eq!(all.left, ["one: disabled: true, so it is not in the chain"]);
    assert_eq!(names(&picked(&text, None, Some("one")).unwrap()), ["one"]);
    let alone = "name: a\ndisabled: true\ntyped_config:\n  \"@type\": x/envoy.extensions.filters.http.wasm.v3.Wasm\n  config: { vm_config: { code: { local: { filename: a.wasm } } } }\n";
    let error = picked(alone, None, None).unwrap_err();
    assert_eq!(error, "every filter in Wasm is disabled here: a; name one as `plugin` to play it");
}

#[test]
fn an_extension_is_found_by_the_name_that_is_discovered() {
    let wasm = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
    let pair = format!(
        r#"
kind: EnvoyFilter
spec:
  configPatches:
  - applyTo: EXTENSION_CONFIG
    patch:
      operation: ADD
      value:
        name: shop/id
        typed_config:
          "@type": {wasm}
          config:
            name: plugin
            failure_policy: FAIL_OPEN
            capability_restriction_config: {{ allowed_capabilities: {{ proxy_log: {{}}, proxy_on_log: {{}} }} }}
            configuration: {{ "@type": type.googleapis.com/google.protobuf.StringValue, value: "text" }}
            vm_config:
              environment_variables: {{ host_env_keys: [ HOME ], key_values: {{ MODE: a }} }}
              code: {{ remote: {{ http_uri: {{ uri: "oci://example.com/id:1" }} }} }}
  - applyTo: HTTP_FILTER
    patch:
      operation: INSERT_BEFORE
      value: {{ name: shop/id, config_discovery: {{ config_source: {{ ads: {{}} }}, type_urls: [ {wasm} ] }} }}
"#
    );
    let expected =
        ["shop/id plugin=plugin root= vm= vm_config= config=text oci://example.com/id:1"];
    assert_eq!(told(&pair).unwrap(), expected);
    let deployed = parse(&pair, Traffic::Http).unwrap().remove(0).filters.remove(0);
    assert_eq!(deployed.environment, BTreeMap::from([("MODE".into(), "a".into())]));
    assert_eq!(deployed.failure_policy, FailurePolicy::Open);
    let allowed: Vec<&str> = deployed.allowed_capabilities.iter().map(String::as_str).collect();
    assert_eq!(allowed, ["proxy_log", "proxy_on_log"]);
    assert_eq!(deployed.left, ["host_env_keys: HOME are not set"]);
    let lost = pair.replace("name: shop/id\n", "name: shop/other\n");
    let error = told(&lost).unwrap_err().to_string();
    assert!(error.contains("line 23 column") && error.contains("shop/id"), "{error}");
}

#[test]
fn a_failure_policy_is_read_with_its_backoff() {
    let read = |fields: &str| {
        let text = format!(
            "name: a\ntyped_config:\n  \"@type\": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm\n  config: {{ {fields}, vm_config: {{ code: {{ local: {{ filename: a.wasm }} }} }} }}\n"
        );
        let chains = parse(&text, Traffic::Http).map_err(|error| error.to_string())?;
        let deployed = &chains[0].filters[0];
        Ok::<_, String>((deployed.failure_policy, deployed.left.len()))
    };
    let reload = |millis| FailurePolicy::Reload { backoff: Duration::from_millis(millis) };
    let backoff = |interval: &str| {
        read(&format!(
            "failure_policy: FAIL_RELOAD, reload_config: {{ backoff: {{ base_interval: {interval} }} }}"
        ))
    };
    assert_eq!(read("failure_policy: FAIL_CLOSED"), Ok((FailurePolicy::Closed, 0)));
    assert_eq!(read("failure_policy: UNSPECIFIED"), Ok((FailurePolicy::Closed, 0)));
    assert_eq!(read("failure_policy: FAIL_RELOAD"), Ok((reload(1000), 0)));
    assert_eq!(backoff("2.5s"), Ok((reload(2500), 0)));
    // The older field is told, as it means a little more.
    assert_eq!(read("fail_open: true"), Ok((FailurePolicy::Open, 1)));
    for (wrong, part) in [
        (backoff("0.001s"), "below the least backoff, 2ms"),
        (backoff("1m"), "`1m` is not a duration"),
        (read("failure_policy: FAIL_OPEN, fail_open: true"), "takes one of"),
        (read("failure_policy: OPEN"), "is none of FAIL_CLOSED"),
    ] {
        assert!(wrong.as_ref().is_err_and(|error| error.contains(part)), "{wrong:?}: {part}");
    }
}

#[test]
fn plugins_of_istio_stand_by_phase_and_priority() {
    let plugin = |kind: &str, name: &str, spec: &str| {
        format!(
            "kind: {kind}\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ {spec} }}\n---\n"
        )
    };
    let text = [
        plugin("WasmPlugin", "last", "url: 'example.com/last:1', pluginConfig: {}"),
        plugin("WasmPlugin", "low", "url: 'file:///low.wasm', phase: AUTHZ, priority: 1"),
        plugin("WasmPlugin", "high", "url: 'oci://example.com/h', phase: AUTHZ, priority: 10"),
        plugin("WasmPlugin", "tcp", "url: 'oci://example.com/t', type: NETWORK"),
        plugin(
            "TrafficExtension",
            "first",
            "phase: AUTHN, wasm: { url: 'oci://example.com/f', pluginName: root, failStrategy: FAIL_RELOAD, pluginConfig: { header: x }, vmConfig: { env: [ { name: MODE, valueFrom: HOST }, { name: A, value: b } ] } }",
        ),
    ]
    .concat();
    assert_eq!(
        told(&text).unwrap(),
        [
            r#"first plugin=shop.first root=root vm= vm_config= config={"header":"x"} oci://example.com/f"#,
            "high plugin=shop.high root= vm= vm_config= config= oci://example.com/h",
            "low plugin=shop.low root= vm= vm_config= config= file /low.wasm",
            "last plugin=shop.last root= vm= vm_config= config= oci://example.com/last:1",
        ]
    );
    let chains = parse(&text, Traffic::Http).unwrap();
    let first = &chains[0].filters[0];
    assert_eq!(first.environment, BTreeMap::from([("A".into(), "b".into())]));
    assert_eq!(first.failure_policy, FailurePolicy::Reload { backoff: FailurePolicy::BACKOFF });
    assert_eq!(first.left, ["vmConfig.env: MODE are not set"]);
}

#[test]
fn what_is_wrong_is_placed() {
    let check = |text: &str, line: u64, part: &str| {
        let error = told(text).expect_err(text);
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    };
    check("a: [", 1, "line 1");
    check(&LISTENER.replace("AP8=", "'?'"), 23, "not base64");
    check(&LISTENER.replace("local: { filename: /etc/one.wasm }", "local: {}"), 24, "`filename`");
    check(&LISTENER.replace("google.protobuf.BytesValue", "x.TypedStruct"), 23, "raw protocol");
    check(&LISTENER.replace("root_id: r\n", "root_id: [ r ]\n"), 15, "text is expected");
    check(&LISTENER.replace("stop_iteration: true", "stop_iteration: 1"), 16, "true or false");
    check(&patches(&[("MERGE", "a", "b")]), 7, "operation MERGE");
    let lost = LISTENER.replace("vm_id: v\n", "environment_variables: { key_values: { A: 1 } }\n");
    check(&lost, 21, "text is expected");
    check(
        "kind: WasmPlugin\nmetadata: { name: a }\nspec: { phase: AUTHN }\n",
        3,
        "`url` is missing",
    );
}

#[test]
fn filters_are_picked_by_name_and_given_modules() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("listener.yaml");
    std::fs::write(&file, LISTENER).unwrap();
    let pick = |plugin: Option<&str>, modules: &[(&str, &str)]| {
        let modules = modules
            .iter()
            .map(|(name, source)| ((*name).to_owned(), FilterSource::parse(source).unwrap()));
        let plugin = plugin.map(str::to_owned);
        Picked::read(&file, &Pick { plugin, modules: modules.collect(), ..Pick::default() })
    };
    let all = pick(None, &[]).unwrap();
    let names: Vec<&str> = all.filters.iter().map(|filter| filter.name.as_str()).collect();
    assert_eq!(names, ["one", "second"]);
    assert_eq!(all.filters[0].source, FilterSource::File("/etc/one.wasm".into()));
    let FilterSource::File(inline) = &all.filters[1].source else { panic!("{all:?}") };
    assert_eq!(std::fs::read(inline).unwrap(), b"hi");
    for name in ["second", "r2"] {
        let one = pick(Some(name), &[(name, "ratelimit")]).unwrap();
        assert_eq!(one.filters.len(), 1);
        assert_eq!(one.filters[0].source, FilterSource::BuiltIn("ratelimit".into()));
    }
    let unknown = pick(Some("third"), &[]).unwrap_err().to_string();
    assert!(unknown.contains("no filter `third`; there are one, second"), "{unknown}");

    let remote = LISTENER.replace(
        "local: { filename: /etc/one.wasm }",
        "remote: { http_uri: { uri: 'oci://a/b' } }",
    );
    std::fs::write(&file, remote).unwrap();
    let error = pick(None, &[]).unwrap_err().to_string();
    assert!(error.contains("`one` is oci://a/b") && error.contains("one=FILE.wasm"), "{error}");
    assert_eq!(pick(None, &[("one", "./own.wasm")]).unwrap().filters.len(), 2);
    std::fs::write(&file, "kind: Service\n").unwrap();
    assert!(matches!(pick(None, &[]), Err(DeployedError::None { .. })));
}
