//! What `tollgate render` writes for Istio, applied as Istio does, on a real Envoy: the filter is active, and a
//! module that cannot be fetched gives what the policy declares.
//!
//! The proxy has the filters and the routes of a sidecar that Envoy itself has; its extensions come over ECDS
//! from files, and the agent's fetch is replaced by the module that was built.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tollgate_envoyfilter::istiod::{self, Context, Fetched};

use crate::common::envoy::{Envoy, bootstrap, connection_manager, fetched, http_filter, route};
use crate::common::{modules, root, tollgate};

/// The port of the application in the policy.
const PORT: u16 = 8080;

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mesh").join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A sidecar as istiod makes it before it is patched: a chain for each port.
fn sidecar() -> Value {
    let filters = json!([
        http_filter("grpc_stats", "FilterConfig"),
        http_filter("fault", "HTTPFault"),
        http_filter("cors", "Cors"),
        http_filter("router", "Router"),
    ]);
    let routes = json!([route("limited", "/limited"), route("default", "/")]);
    let chain = |port: u16| {
        json!({
            "filter_chain_match": { "destination_port": port },
            "filters": [connection_manager(&filters, &routes)],
        })
    };
    bootstrap("virtualInbound", &json!([chain(PORT), chain(9090)]))
}

/// The resources of the policy of this repository, with changes to its text.
fn resources(folder: &Path, changes: &[(&str, &str)]) -> Vec<Value> {
    let mut text = fs::read_to_string(root().join("envoyfilter/policies/ratelimit.yaml")).unwrap();
    for (old, new) in changes {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    let policy = folder.join("policy.yaml");
    fs::write(&policy, text).unwrap();
    let modules = modules().to_str().unwrap();
    let arguments = ["render", policy.to_str().unwrap(), "--target", "istio", "--modules", modules];
    let output = tollgate(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let nodes = tollgate_tree::parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
    nodes.iter().map(tollgate_tree::Node::json).collect()
}

/// Applies resources to the sidecar, and starts it with the chain of the application's port alone: here no
/// traffic is redirected, so that the port of a connection is another one.
fn start(envoy: &Path, folder: &Path, resources: &[Value], fetched: Fetched<'_>) -> Envoy {
    let mut sidecar = sidecar();
    let extensions = istiod::apply(&mut sidecar, Context::SidecarInbound, resources).unwrap();
    assert_eq!(extensions.len(), 1, "{extensions:?}");
    let chains = sidecar.pointer_mut("/static_resources/listeners/0/filter_chains").unwrap();
    let Value::Array(chains) = chains else { panic!("{chains}") };
    let other = chains.pop().unwrap();
    assert!(!other.to_string().contains("config_discovery"), "{other}");
    for chain in chains {
        chain.as_object_mut().unwrap().remove("filter_chain_match");
    }
    let extensions: Vec<Value> =
        extensions.iter().map(|extension| istiod::converted(extension, fetched)).collect();
    for (name, resource) in istiod::by_files(&mut sidecar, &extensions, folder) {
        fs::write(folder.join(name), resource.to_string()).unwrap();
    }
    Envoy::start(envoy, folder, &sidecar)
}

fn module() -> PathBuf {
    modules().join("ratelimit.wasm")
}

fn three(envoy: &Envoy, path: &str) -> [String; 3] {
    [(); 3].map(|()| envoy.get(path, "x-user: alice\r\n"))
}

#[test]
fn the_filter_is_active_in_a_patched_sidecar() {
    let Some(envoy) = fetched() else { return };
    let folder = folder("active");
    let slow = [("per: 1s", "per: 10s")];
    let resources = resources(&folder, &slow);
    let envoy = start(&envoy, &folder, &resources, Fetched::File(&module()));
    assert_eq!(three(&envoy, "/"), ["200", "200", "429"]);
    assert_eq!(envoy.get("/", "x-user: bob\r\n"), "200");
}

#[test]
fn a_filter_for_one_route_leaves_the_others_alone() {
    let Some(envoy) = fetched() else { return };
    let folder = folder("route");
    let routes =
        "ports: [ 8080 ]\n  routes: [ { virtual_host: inbound|http|8080, route: limited } ]";
    let changes = [("per: 1s", "per: 10s"), ("ports: [ 8080 ]", routes)];
    let resources = resources(&folder, &changes);
    let envoy = start(&envoy, &folder, &resources, Fetched::File(&module()));
    assert_eq!(three(&envoy, "/"), ["200", "200", "200"]);
    assert_eq!(three(&envoy, "/limited"), ["200", "200", "429"]);
}

#[test]
fn a_module_that_cannot_be_fetched_does_what_the_policy_declares() {
    let Some(envoy) = fetched() else { return };
    for (policy, status) in [("closed", "403"), ("reload", "403"), ("open", "200")] {
        let folder = folder(policy);
        let change = format!("failure_policy: {policy}");
        let resources = resources(&folder, &[("failure_policy: reload", &change)]);
        let envoy = start(&envoy, &folder, &resources, Fetched::Failed);
        assert_eq!(envoy.get("/", ""), status, "{policy}");
    }
}

#[test]
fn without_the_type_of_the_substitute_everything_is_500() {
    let Some(envoy) = fetched() else { return };
    let folder = folder("without-rbac");
    let mut resources = resources(&folder, &[]);
    let types = "/spec/configPatches/1/patch/value/config_discovery";
    let discovery = resources.first_mut().unwrap().pointer_mut(types).unwrap();
    let urls = discovery.pointer_mut("/type_urls").and_then(Value::as_array_mut).unwrap();
    urls.pop();
    // A listener that waits for what is refused would never listen.
    let source = discovery.pointer_mut("/config_source").and_then(Value::as_object_mut).unwrap();
    source.insert("initial_fetch_timeout".into(), json!("0.1s"));
    let envoy = start(&envoy, &folder, &resources, Fetched::Failed);
    assert_eq!(envoy.get("/", ""), "500");
}
