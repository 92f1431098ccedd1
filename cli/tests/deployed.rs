//! Filters as they are deployed: checked, tested and traced from the file that a proxy gets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;
use std::process::Output;

use common::{modules, tollgate};
use tempfile::TempDir;

const RULES: &str = "rules: [ { name: a, key: [ path ], limit: { requests: 1, per: 1h } } ]";

/// A folder with a file that deploys the rate limit, whose module is elsewhere.
struct Folder(TempDir);

impl Folder {
    fn with(config: &str) -> Self {
        let folder = Self(TempDir::new().unwrap());
        let plugin = format!(
            "kind: WasmPlugin\nmetadata: {{ name: limits, namespace: shop }}\nspec:\n  url: oci://example.com/ratelimit:1\n  failStrategy: FAIL_OPEN\n  vmConfig: {{ env: [ {{ name: MODE, valueFrom: HOST }} ] }}\n  pluginConfig: {{ {config} }}\n"
        );
        folder.write("plugin.yaml", &plugin);
        folder.write(
            "scenarios/own.yaml",
            &scenario("{ from: ../plugin.yaml, modules: { shop.limits: ratelimit } }"),
        );
        folder.write("scenarios/other.yaml", &scenario("[ { filter: ./no-such.wasm } ]"));
        folder
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, command: &str, scenario: Option<&str>, arguments: &[&str]) -> Output {
        let scenario = scenario.map(|name| self.path(name).to_str().unwrap().to_owned());
        let mut all = vec![command];
        all.extend(scenario.as_deref());
        all.extend(["--modules", modules().to_str().unwrap()]);
        all.extend(arguments);
        tollgate(&all)
    }
}

fn scenario(filters: &str) -> String {
    format!(
        "name: the second is refused\nfilters: {filters}\nsteps:\n  - {{ request: {{}}, expect: {{ response: {{ status: 200 }} }} }}\n  - {{ request: {{}}, expect: {{ response: {{ status: 429 }} }} }}\n"
    )
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_scenario_takes_its_filters_from_what_is_deployed() {
    let folder = Folder::with(RULES);
    let (code, out, notes) = told(&folder.run("test", Some("scenarios/own.yaml"), &[]));
    assert_eq!(code, Some(0), "{out}{notes}");
    assert!(notes.contains("shop.limits: vmConfig.env: MODE"), "{notes}");
    folder.write("scenarios/own.yaml", &scenario("{ from: ../plugin.yaml }"));
    let (code, _, error) = told(&folder.run("test", Some("scenarios/own.yaml"), &[]));
    assert_eq!(code, Some(2), "{error}");
    for word in ["own.yaml", "filters.from", "plugin.yaml", "oci://example.com/ratelimit:1"] {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn a_file_stands_in_for_the_filters_of_a_scenario() {
    let folder = Folder::with(RULES);
    let file = folder.path("plugin.yaml");
    let from = ["--from", file.to_str().unwrap(), "--module", "shop.limits=ratelimit"];
    let (code, out, error) = told(&folder.run("test", Some("scenarios/other.yaml"), &from));
    assert_eq!(code, Some(0), "{out}{error}");
    let (code, trace, error) = told(&folder.run("trace", Some("scenarios/other.yaml"), &from));
    assert_eq!(code, Some(0), "{error}");
    assert!(trace.contains("  shop.limits@0 proxy_on_configure("), "{trace}");
    let (code, found, error) = told(&folder.run("check", None, &from));
    assert_eq!(code, Some(0), "{error}");
    assert!(found.contains("configuration  accepted"), "{found}");
}

#[test]
fn a_configuration_that_is_deployed_is_judged() {
    let folder = Folder::with(&RULES.replace("requests: 1", "requests: 0"));
    let file = folder.path("plugin.yaml");
    let from = ["--from", file.to_str().unwrap(), "--module", "shop.limits=ratelimit"];
    let (code, found, _) = told(&folder.run("check", None, &from));
    assert_eq!(code, Some(1), "{found}");
    assert!(found.contains("rules[0].limit.requests: 0 is not at least 1"), "{found}");
    let check = |arguments: &[&str], words: &[&str]| {
        let (code, _, error) = told(&folder.run("check", None, arguments));
        assert_eq!(code, Some(2), "{error}");
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
    };
    let file = file.to_str().unwrap();
    check(&["--from", file], &["plugin.yaml", "line 1", "shop.limits=FILE.wasm"]);
    check(&["--from", file, "--plugin", "x"], &["no filter `x`; there are shop.limits"]);
    check(&["--from", file, "--module", "x"], &["NAME=FILE.wasm"]);
    check(&["--from", "no/such.yaml"], &["no/such.yaml"]);
    check(&["--plugin", "x", "ratelimit"], &["--from"]);
    check(&["--from", file, "ratelimit"], &["cannot be used with"]);
    check(&[], &["--from"]);
}

/// The rate limit that patches of Istio put into two kinds of proxies.
fn patches(inbound: &str, gateway: &str) -> String {
    let patch = |context: &str, config: &str| {
        format!(
            r#"  - applyTo: HTTP_FILTER
    match: {{ context: {context} }}
    patch:
      operation: INSERT_BEFORE
      value:
        name: limits
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
          config:
            name: limits
            vm_config: {{ code: {{ remote: {{ http_uri: {{ uri: "oci://a/b" }} }} }} }}
            configuration:
              "@type": type.googleapis.com/google.protobuf.StringValue
              value: '{config}'
"#
        )
    };
    format!(
        "kind: EnvoyFilter\nmetadata: {{ name: limits }}\nspec:\n  configPatches:\n{}{}",
        patch("SIDECAR_INBOUND", inbound),
        patch("GATEWAY", gateway)
    )
}

#[test]
fn a_chain_is_chosen_where_a_file_deploys_several() {
    let folder = Folder::with(RULES);
    let strict = r#"{ "rules": [ { "name": "a", "key": [ "path" ], "limit": { "requests": 1, "per": "1h" } } ] }"#;
    let loose = strict.replace("\"requests\": 1", "\"requests\": 9");
    folder.write("filter.yaml", &patches(strict, strict));
    let file = folder.path("filter.yaml");
    let from = ["--from", file.to_str().unwrap(), "--module", "limits=ratelimit"];
    let test = |more: &[&str]| {
        let arguments = [&from[..], more].concat();
        told(&folder.run("test", Some("scenarios/other.yaml"), &arguments))
    };
    // What is alike is one.
    let (code, out, error) = test(&[]);
    assert_eq!(code, Some(0), "{out}{error}");
    folder.write("filter.yaml", &patches(strict, &loose));
    let (code, _, error) = test(&[]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("filter.yaml: 2 chains are deployed, which are not alike: SIDECAR_INBOUND, GATEWAY; name one as `chain`"), "{error}");
    assert_eq!(test(&["--chain", "SIDECAR_INBOUND"]).0, Some(0));
    let (code, out, _) = test(&["--chain", "GATEWAY"]);
    assert_eq!(code, Some(1), "{out}");
    folder.write(
        "scenarios/own.yaml",
        &scenario(
            "{ from: ../filter.yaml, chain: SIDECAR_INBOUND, modules: { limits: ratelimit } }",
        ),
    );
    let (code, out, error) = told(&folder.run("test", Some("scenarios/own.yaml"), &[]));
    assert_eq!(code, Some(0), "{out}{error}");
    let (code, _, error) = told(&folder.run("check", None, &["--chain", "x", "ratelimit"]));
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("name it with --from"), "{error}");
}

#[test]
fn a_scenario_of_connections_takes_the_filters_for_them() {
    let folder = Folder::with(RULES);
    let plugin = "kind: WasmPlugin\nmetadata: { name: seen }\nspec:\n  url: oci://a/b\n  type: NETWORK\n  pluginConfig: { profile: custom, labels: [ { name: protocol, fact: protocol } ] }\n";
    folder.write("network.yaml", plugin);
    let tcp = "name: a connection passes\nprotocol: tcp\nfilters: { from: ../network.yaml, modules: { seen: metrics-tcp } }\nsteps:\n  - connection: [ { client: { sends: a } }, { expect: { upstream: { got: a } } } ]\n";
    folder.write("scenarios/tcp.yaml", tcp);
    let (code, out, error) = told(&folder.run("test", Some("scenarios/tcp.yaml"), &[]));
    assert_eq!(code, Some(0), "{out}{error}");
    folder.write("scenarios/tcp.yaml", &tcp.replace("protocol: tcp\n", ""));
    let (code, _, error) = told(&folder.run("test", Some("scenarios/tcp.yaml"), &[]));
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("`protocol: tcp` takes those for TCP"), "{error}");
}
