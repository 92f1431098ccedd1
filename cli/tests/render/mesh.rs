//! What `tollgate render` writes for Istio, applied as Istio does, on a real Envoy: each filter is active, and a
//! module that cannot be fetched gives what the policy declares.
//!
//! The proxy has the filters and the routes of a sidecar that Envoy itself has; its extensions come over ECDS
//! from files, and the agent's fetch is replaced by the module that was built.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_envoyfilter::istiod::{self, Context, Fetched};

use super::{DIGEST, render_with, upstream};
use crate::common::envoy::{
    Envoy, bootstrap, cluster, connection_manager, fetched, get, http_filter, route,
};
use crate::common::{modules, root};

/// A policy of this repository, and what comes of it in a sidecar.
struct Ready {
    filter: &'static str,
    context: Context,
    /// The port of the application in the policy.
    port: u16,
    /// What a caller in clear gets; nothing when its connection is closed.
    status: &'static str,
    /// How the name of a metric of it ends once there was a caller.
    counts: &'static str,
}

const READY: [Ready; 7] = [
    Ready::inbound("canary", 8080, "200", "tollgate_canary_decisions").sent(),
    Ready::inbound("metrics", 8080, "200", "tollgate_metrics_counted"),
    Ready::inbound("metrics-tcp", 5432, "200", "tollgate_metrics_tcp_opened_total"),
    Ready::inbound("mtls", 8080, "403", "tollgate_mtls_decisions"),
    Ready::inbound("mtls-tcp", 5432, "", "tollgate_mtls_decisions"),
    Ready::inbound("ratelimit", 8080, "200", "tollgate_ratelimit_admitted"),
    Ready::inbound("ratelimit-global", 8080, "200", "tollgate_ratelimit_unanswered"),
];

impl Ready {
    const fn inbound(
        filter: &'static str,
        port: u16,
        status: &'static str,
        counts: &'static str,
    ) -> Self {
        Self { filter, context: Context::SidecarInbound, port, status, counts }
    }

    /// The same, of what a sidecar sends.
    const fn sent(self) -> Self {
        Self { context: Context::SidecarOutbound, ..self }
    }

    fn named(filter: &str) -> &'static Self {
        READY.iter().find(|ready| ready.filter == filter).unwrap()
    }

    fn is_tcp(&self) -> bool {
        self.filter.ends_with("-tcp")
    }

    fn policy(&self) -> String {
        let file = root().join(format!("envoyfilter/policies/{}.yaml", self.filter));
        let policy = fs::read_to_string(file).unwrap();
        // A name that nobody resolves would keep Envoy waiting; nobody answers here either.
        policy.replace("limits.shop.svc.cluster.local:8081", "127.0.0.1:1")
    }

    /// The same policy, with another answer to a filter that has failed.
    fn failing(&self, failure_policy: &str) -> String {
        let policy = self.policy();
        let said = policy.lines().find(|line| line.starts_with("failure_policy: ")).unwrap();
        policy.replace(said, &format!("failure_policy: {failure_policy}"))
    }

    /// A sidecar as istiod makes it before it is patched: a chain for each port.
    fn sidecar(&self) -> Value {
        let filters = json!([
            http_filter("grpc_stats", "FilterConfig"),
            http_filter("fault", "HTTPFault"),
            http_filter("cors", "Cors"),
            http_filter("router", "Router"),
        ]);
        let routes = json!([route("limited", "/limited"), route("default", "/")]);
        let last = if self.is_tcp() { tcp_proxy() } else { connection_manager(&filters, &routes) };
        let chain = |port: u16| json!({ "filter_chain_match": { "destination_port": port }, "filters": [last] });
        let mut sidecar = bootstrap("virtualInbound", &json!([chain(self.port), chain(9090)]));
        if self.is_tcp() {
            sidecar["static_resources"]["clusters"] = json!([cluster("upstream", upstream())]);
        }
        sidecar
    }

    /// The resources of a policy.
    fn resources(&self, folder: &Path, policy: &str) -> Vec<Value> {
        let file = folder.join("policy.yaml");
        fs::write(&file, policy).unwrap();
        let image = format!("registry.example.com/filters/{}@{DIGEST}", self.filter);
        let output = render_with(&file, "istio", &["--image", &image]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let nodes = tollgate_tree::parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
        nodes.iter().map(tollgate_tree::Node::json).collect()
    }

    /// Applies resources to the sidecar, and starts it with the chain of the application's port alone: here no
    /// traffic is redirected, so that the port of a connection is another one.
    fn start(
        &self,
        envoy: &Path,
        folder: &Path,
        resources: &[Value],
        fetched: Fetched<'_>,
    ) -> Envoy {
        let mut sidecar = self.sidecar();
        let extensions = istiod::apply(&mut sidecar, self.context, resources).unwrap();
        assert_eq!(extensions.len(), 1, "{}: {extensions:?}", self.filter);
        let chains = sidecar.pointer_mut("/static_resources/listeners/0/filter_chains").unwrap();
        let Value::Array(chains) = chains else { panic!("{chains}") };
        let other = chains.pop().unwrap();
        let is_for_all = self.context == Context::SidecarOutbound;
        assert_eq!(other.to_string().contains("config_discovery"), is_for_all, "{other}");
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

    /// The sidecar with the policy and the module of its filter.
    fn run(&self, envoy: &Path, folder: &Path, policy: &str) -> Envoy {
        let module = modules().join(format!("{}.wasm", self.filter));
        self.start(envoy, folder, &self.resources(folder, policy), Fetched::File(&module))
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mesh").join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn tcp_proxy() -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "all",
            "cluster": "upstream",
        },
    })
}

/// The filters side by side.
fn of_each(check: impl Fn(&Ready) + Sync) {
    thread::scope(|scope| {
        for ready in &READY {
            let check = &check;
            scope.spawn(move || check(ready));
        }
    });
}

fn three(envoy: &Envoy, path: &str) -> [String; 3] {
    [(); 3].map(|()| envoy.get(path, "x-user: alice\r\n"))
}

#[test]
fn every_filter_is_active_in_a_patched_sidecar() {
    let Some(envoy) = fetched() else { return };
    of_each(|ready| {
        let folder = folder(&format!("active-{}", ready.filter));
        let envoy = ready.run(&envoy, &folder, &ready.policy());
        let status = envoy.get("/checkout", "x-user: alice\r\n");
        assert_eq!(status, ready.status, "{}", ready.filter);
        let begin = Instant::now();
        loop {
            let (counted, _) = get(envoy.admin, "/stats?filter=wasmcustom&usedonly", "");
            if counted.lines().any(|line| line.contains(&format!("{}: ", ready.counts))) {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "{}: {counted}", ready.filter);
            thread::sleep(Duration::from_millis(50));
        }
    });
}

#[test]
fn a_filter_for_one_route_leaves_the_others_alone() {
    let Some(envoy) = fetched() else { return };
    let ready = Ready::named("ratelimit");
    let policy = ready.policy().replace("per: 1s", "per: 10s").replace(
        "ports: [ 8080 ]",
        "ports: [ 8080 ]\n  routes: [ { virtual_host: inbound|http|8080, route: limited } ]",
    );
    let envoy = ready.run(&envoy, &folder("route"), &policy);
    assert_eq!(three(&envoy, "/"), ["200", "200", "200"]);
    assert_eq!(three(&envoy, "/limited"), ["200", "200", "429"]);
}

#[test]
fn a_module_that_cannot_be_fetched_does_what_the_policy_declares() {
    let Some(envoy) = fetched() else { return };
    of_each(|ready| {
        let refused = if ready.is_tcp() { "" } else { "403" };
        for (policy, status) in [("closed", refused), ("reload", refused), ("open", "200")] {
            let folder = folder(&format!("{policy}-{}", ready.filter));
            let resources = ready.resources(&folder, &ready.failing(policy));
            let envoy = ready.start(&envoy, &folder, &resources, Fetched::Failed);
            assert_eq!(envoy.get("/", ""), status, "{}: {policy}", ready.filter);
        }
    });
}

#[test]
fn without_the_type_of_the_substitute_everything_is_500() {
    let Some(envoy) = fetched() else { return };
    let folder = folder("without-rbac");
    let ready = Ready::named("ratelimit");
    let mut resources = ready.resources(&folder, &ready.policy());
    let types = "/spec/configPatches/1/patch/value/config_discovery";
    let discovery = resources.first_mut().unwrap().pointer_mut(types).unwrap();
    let urls = discovery.pointer_mut("/type_urls").and_then(Value::as_array_mut).unwrap();
    urls.pop();
    // A listener that waits for what is refused would never listen.
    let source = discovery.pointer_mut("/config_source").and_then(Value::as_object_mut).unwrap();
    source.insert("initial_fetch_timeout".into(), json!("0.1s"));
    let envoy = ready.start(&envoy, &folder, &resources, Fetched::Failed);
    assert_eq!(envoy.get("/", ""), "500");
}
