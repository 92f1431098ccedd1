//! Istio by `EnvoyFilter`: the filter comes over ECDS, so that Istio's agent fetches its module, and a
//! second patch puts its name into the chain.
//!
//! Source: Istio 1.32, `pilot/pkg/networking/core/envoyfilter` and `pkg/wasm`; Envoy 1.40,
//! `envoy.config.core.v3.ExtensionConfigSource`.

use serde_json::{Value, json};

use crate::companions::Variants;
use crate::placement::whole_mesh;
use crate::rendered::{Document, Rendered, put};
use crate::wasm::{self, sha256};
use crate::{Anchor, Delivery, Direction, Facts, InvalidPolicy, Phase, Policy, Pull, PullPolicy};
use crate::{Traffic, Workload};

/// The filter that ends every chain of HTTP.
pub(crate) const ROUTER: &str = "envoy.filters.http.router";
/// The filter of a listener that has a chain of HTTP.
pub(crate) const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
/// The filter that ends every chain of TCP.
pub(crate) const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
/// What stands in a chain only while some policy asks for it.
pub(crate) const VANISHING: [&str; 8] = [
    "envoy.filters.http.jwt_authn",
    "istio_authn",
    "envoy.filters.http.rbac",
    "envoy.filters.http.ext_authz",
    "envoy.filters.http.ext_proc",
    "envoy.filters.http.grpc_web",
    "envoy.filters.network.rbac",
    "envoy.filters.network.ext_authz",
];
/// How the names of filters begin that Istio makes of its own plugins; they change with its version.
pub(crate) const GENERATED: &str = "extensions.istio.io/";

/// The priority among `EnvoyFilter`s when the policy says no order; 0 would leave it to their age.
const ORDER: u16 = 100;

pub(crate) fn render(policy: &Policy, facts: &Facts) -> Result<Rendered, InvalidPolicy> {
    let namespace = policy.need_namespace()?;
    if policy.apply.to == Workload::Waypoint {
        let what = "an EnvoyFilter does nothing on waypoints; render istio-wasmplugin";
        return Err(policy.refused("apply.to", what));
    }
    for (index, target) in policy.apply.targets.iter().enumerate() {
        if target.kind != "Gateway" {
            let what = format!("an EnvoyFilter is attached to a Gateway, not to a {}", target.kind);
            return Err(policy.refused(&format!("apply.targets[{index}].kind"), what));
        }
    }
    let mut rendered = Rendered::default();
    rendered.notes.extend(whole_mesh(policy));
    let code = code(policy, facts, &mut rendered)?;
    let name = format!("{namespace}/{}", policy.plugin_name());
    let mut filter = wasm::filter(policy, facts, &name, &code.value);
    if let Some((pull, digest)) = code.pulled {
        for_the_agent(&mut filter, pull, &digest);
    }

    let place = place(policy, facts.traffic)?;
    if place.beside.is_none() {
        rendered.note("the front is that of every chain, also of those of HTTP; name `ports`");
    }
    let context = context(policy);
    let extension = json!({ "name": name, "typed_config": filter });
    let mut patches = vec![json!({
        "applyTo": "EXTENSION_CONFIG",
        "match": { "context": context },
        "patch": { "operation": "ADD", "value": extension },
    })];
    let discovered = discovered(policy, facts.traffic, &name);
    let ports = policy.apply.ports.iter().copied().map(Some);
    let ports: Vec<Option<u16>> =
        if policy.apply.ports.is_empty() { vec![None] } else { ports.collect() };
    for port in ports {
        let mut listener = json!({});
        if let Some(port) = port {
            put(&mut listener, "portNumber", json!(port));
        }
        if let Some(beside) = &place.beside {
            put(&mut listener, "filterChain", json!({ "filter": beside }));
        }
        let mut matched = json!({ "context": context });
        if listener != json!({}) {
            put(&mut matched, "listener", listener);
        }
        patches.push(json!({
            "applyTo": place.apply_to,
            "match": matched,
            "patch": { "operation": place.operation, "value": discovered },
        }));
    }
    patches.extend(routes(policy, facts.traffic, context, &name)?);
    patches.extend(clusters(policy));

    let order = policy.apply.order.unwrap_or(ORDER);
    // What is inserted later into the same place comes before what is there already.
    let priority = if place.is_reversed { 1000 - order } else { order };
    let resource = envoy_filter(policy, namespace, priority, patches);
    let document = Document::new("envoyfilter.yaml", &comment(policy, facts), resource);
    rendered.documents.push(document);
    rendered.documents.extend(companions(policy, namespace));
    Ok(rendered)
}

fn envoy_filter(policy: &Policy, namespace: &str, priority: u16, patches: Vec<Value>) -> Value {
    let mut spec = json!({});
    if !policy.apply.targets.is_empty() {
        put(&mut spec, "targetRefs", target_refs(policy));
    }
    if !policy.apply.selector.is_empty() {
        put(&mut spec, "workloadSelector", json!({ "labels": policy.apply.selector }));
    }
    put(&mut spec, "priority", json!(priority));
    put(&mut spec, "configPatches", Value::Array(patches));
    json!({
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": { "name": policy.plugin_name(), "namespace": namespace },
        "spec": spec,
    })
}

/// The resources that a policy is attached to.
pub(crate) fn target_refs(policy: &Policy) -> Value {
    let refs = policy.apply.targets.iter();
    refs.map(|target| json!({ "group": target.group, "kind": target.kind, "name": target.name }))
        .collect()
}

fn context(policy: &Policy) -> &'static str {
    match (policy.apply.to, policy.apply.direction.unwrap_or_default()) {
        (Workload::Gateway | Workload::Waypoint, _) => "GATEWAY",
        (Workload::Sidecar, Direction::Inbound) => "SIDECAR_INBOUND",
        (Workload::Sidecar, Direction::Outbound) => "SIDECAR_OUTBOUND",
    }
}

/// Where the code is.
struct Code<'a> {
    value: Value,
    /// How the agent is to pull it, and what changes when it is to pull it again.
    pulled: Option<(&'a Pull, String)>,
}

fn code<'a>(
    policy: &'a Policy,
    facts: &Facts,
    rendered: &mut Rendered,
) -> Result<Code<'a>, InvalidPolicy> {
    let remote = |uri: &str, sha256: Option<&str>| {
        // The agent takes 5 s for all of it when no timeout is said, and looks at no cluster.
        let http_uri = json!({ "uri": uri, "timeout": "30s", "cluster": "_" });
        json!({ "remote": { "http_uri": http_uri, "sha256": sha256.unwrap_or("nil") } })
    };
    match &policy.module {
        None => {
            let what = "missing; say how Istio gets the module: `image`, `url`, `file` or `inline`";
            Err(policy.refused("module", what))
        }
        Some(Delivery::File(file)) => {
            rendered.note(format!("the file {file} has to be mounted into istio-proxy"));
            Ok(Code { value: wasm::local(file), pulled: None })
        }
        Some(Delivery::Inline) => {
            let (value, note) = wasm::inline(policy, facts)?;
            rendered.notes.extend(note);
            Ok(Code { value, pulled: None })
        }
        Some(Delivery::Url(url)) => {
            Ok(Code { value: remote(url, Some(&sha256(facts))), pulled: None })
        }
        Some(Delivery::Image(pull)) => {
            if pull.pull_secret.is_some() {
                let what = "an EnvoyFilter names no secrets, and would have to carry its text; mount a \
                            docker configuration into istio-proxy and name it in DOCKER_CONFIG, or \
                            render istio-wasmplugin";
                return Err(policy.refused("module.image.pull_secret", what));
            }
            let version = if let Some(digest) = pinned(policy, pull)? {
                digest.to_owned()
            } else {
                rendered.note(unpinned(pull));
                sha256(facts)
            };
            let uri = pull.reference.to_string();
            let value = remote(&uri, pull.reference.digest());
            Ok(Code { value, pulled: Some((pull, version)) })
        }
    }
}

/// The digest by which an image is pinned; a tag may be followed when it is pulled always.
///
/// # Errors
///
/// When it is not pinned, and would be pulled once and never again.
pub(crate) fn pinned<'a>(
    policy: &Policy,
    pull: &'a Pull,
) -> Result<Option<&'a str>, InvalidPolicy> {
    let digest = pull.reference.digest();
    if digest.is_none() && pull.pull_policy != Some(PullPolicy::Always) {
        let is_said = policy.source_has("module");
        let path = if is_said { "module.image.reference" } else { "filter" };
        let what = format!(
            "{} is not pinned: a tag that moves is not pulled again; name what `tollgate push` has \
             printed with --image, add @sha256:, or say `pull_policy: always`",
            pull.reference
        );
        return Err(policy.refused(path, what));
    }
    Ok(digest)
}

pub(crate) fn unpinned(pull: &Pull) -> String {
    format!(
        "{} is not pinned: what runs is whatever the tag names when a proxy pulls it",
        pull.reference
    )
}

/// What Istio's agent reads of the environment, and takes off before Envoy sees it.
fn for_the_agent(filter: &mut Value, pull: &Pull, version: &str) {
    let Some(Value::Object(vm)) = filter.pointer_mut("/config/vm_config") else { return };
    let variables = vm.entry("environment_variables").or_insert_with(|| json!({}));
    let Value::Object(variables) = variables else { return };
    let values = variables.entry("key_values").or_insert_with(|| json!({}));
    let pull_policy = pull.pull_policy.unwrap_or(PullPolicy::IfNotPresent);
    put(values, "ISTIO_META_WASM_IMAGE_PULL_POLICY", json!(pull_policy.as_str()));
    // The agent pulls again when this changes, and only then.
    put(values, "ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION", json!(version));
}

/// A place in a chain.
struct Place {
    apply_to: &'static str,
    operation: &'static str,
    /// The filter that it is beside, or whose chain it is in; none for the front of every chain.
    beside: Option<Value>,
    is_reversed: bool,
}

fn place(policy: &Policy, traffic: Traffic) -> Result<Place, InvalidPolicy> {
    let last = match traffic {
        Traffic::Http => ROUTER,
        Traffic::Tcp => TCP_PROXY,
    };
    let (operation, name) = match (&policy.apply.anchor, policy.apply.phase) {
        (None, None) => ("INSERT_BEFORE", last),
        (None, Some(Phase::Authn)) | (Some(Anchor::First), _) => ("INSERT_FIRST", ""),
        (None, Some(phase)) => {
            let what = format!(
                "an EnvoyFilter has no lasting anchor for {}: the filters around it are there only \
                 while policies ask for them; write `anchor`, or render istio-wasmplugin",
                phase.as_str()
            );
            return Err(policy.refused("apply.phase", what));
        }
        (Some(Anchor::Before(name)), _) => ("INSERT_BEFORE", name.as_str()),
        (Some(Anchor::After(name)), _) => ("INSERT_AFTER", name.as_str()),
    };
    if VANISHING.contains(&name) || name.starts_with(GENERATED) {
        let what = format!(
            "{name} is in the chain only while some policy asks for it, or has another name in \
             another version, and the filter would vanish with it; stand before {last}"
        );
        return Err(policy.refused("apply.anchor", what));
    }
    if operation == "INSERT_AFTER" && name == last {
        let what = format!("{name} has to be the last of its chain; stand before it");
        return Err(policy.refused("apply.anchor", what));
    }
    let is_reversed = operation != "INSERT_BEFORE";
    let (apply_to, beside) = match (traffic, name) {
        (Traffic::Http, "") => ("HTTP_FILTER", Some(json!({ "name": CONNECTION_MANAGER }))),
        (Traffic::Http, name) => {
            let sub_filter = json!({ "name": name });
            let beside = json!({ "name": CONNECTION_MANAGER, "subFilter": sub_filter });
            ("HTTP_FILTER", Some(beside))
        }
        // Istio looks at no filter then.
        (Traffic::Tcp, "") => ("NETWORK_FILTER", None),
        (Traffic::Tcp, name) => ("NETWORK_FILTER", Some(json!({ "name": name }))),
    };
    Ok(Place { apply_to, operation, beside, is_reversed })
}

/// The entry of the chain. It names the type that the agent puts in the place of a module that it cannot
/// fetch, without which Envoy would answer everything with 500; and it holds the listener back until the
/// filter is there.
fn discovered(policy: &Policy, traffic: Traffic, name: &str) -> Value {
    let substitute = match traffic {
        Traffic::Http => "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        Traffic::Tcp => "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
    };
    let mut entry = json!({
        "name": name,
        "config_discovery": {
            "config_source": {
                "ads": {},
                "resource_api_version": "V3",
                "initial_fetch_timeout": "0s",
            },
            "type_urls": [traffic.type_url(), substitute],
        },
    });
    if !policy.apply.routes.is_empty() {
        put(&mut entry, "disabled", json!(true));
    }
    entry
}

fn routes(
    policy: &Policy,
    traffic: Traffic,
    context: &str,
    name: &str,
) -> Result<Vec<Value>, InvalidPolicy> {
    if traffic == Traffic::Tcp && !policy.apply.routes.is_empty() {
        return Err(policy.refused("apply.routes", "connections of TCP have no routes"));
    }
    let patch = |route: &crate::RouteName| {
        let mut host = json!({ "name": route.virtual_host });
        let apply_to = match &route.route {
            Some(route) => {
                put(&mut host, "route", json!({ "name": route }));
                "HTTP_ROUTE"
            }
            None => "VIRTUAL_HOST",
        };
        json!({
            "applyTo": apply_to,
            "match": { "context": context, "routeConfiguration": { "vhost": host } },
            "patch": { "operation": "MERGE", "value": wasm::enabled(name) },
        })
    };
    Ok(policy.apply.routes.iter().map(patch).collect())
}

/// Clusters are one table for all of a proxy, which Istio fills from this side only.
fn clusters(policy: &Policy) -> impl Iterator<Item = Value> {
    let context = match policy.apply.to {
        Workload::Gateway | Workload::Waypoint => "GATEWAY",
        Workload::Sidecar => "SIDECAR_OUTBOUND",
    };
    policy.clusters.iter().map(move |cluster| {
        json!({
            "applyTo": "CLUSTER",
            "match": { "context": context },
            "patch": { "operation": "ADD", "value": wasm::cluster(cluster) },
        })
    })
}

/// The clusters of a filter that another resource brings.
///
/// # Errors
///
/// When it is for a waypoint, which takes none.
pub(crate) fn clusters_alone(
    policy: &Policy,
    namespace: &str,
) -> Result<Option<Document>, InvalidPolicy> {
    if policy.clusters.is_empty() {
        return Ok(None);
    }
    if policy.apply.to == Workload::Waypoint {
        let what = "nothing adds clusters to waypoints; call a service of the mesh, by the name of \
                    its cluster";
        return Err(policy.refused("clusters", what));
    }
    let order = policy.apply.order.unwrap_or(ORDER);
    let mut resource = envoy_filter(policy, namespace, order, clusters(policy).collect());
    if let Some(name) = resource.pointer_mut("/metadata/name") {
        *name = json!(format!("{}-clusters", policy.plugin_name()));
    }
    let comment = "The clusters that the filter calls.";
    Ok(Some(Document::new("clusters.yaml", comment, resource)))
}

fn comment(policy: &Policy, facts: &Facts) -> String {
    let mut lines = vec![
        "An istiod that does not know capability_restriction_config of the VM drops it in silence."
            .to_owned(),
    ];
    if let Some(Delivery::File(file)) = &policy.module {
        let (folder, _) = file.rsplit_once('/').unwrap_or(("/", file));
        lines.push("The module is mounted by annotations of the pods, for example:".into());
        lines.push(
            r#"  sidecar.istio.io/userVolume: '{"wasm":{"hostPath":{"path":"/var/wasm"}}}'"#.into(),
        );
        lines.push(format!(
            r#"  sidecar.istio.io/userVolumeMount: '{{"wasm":{{"mountPath":"{folder}","readOnly":true}}}}'"#
        ));
    }
    lines.extend(tags_comment(facts));
    lines.join("\n")
}

/// How Istio is told of the labels of metrics.
pub(crate) fn tags_comment(facts: &Facts) -> Vec<String> {
    if facts.stats_tags.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = facts.stats_tags.iter().map(|(name, _)| name.as_str()).collect();
    let mut lines = vec![
        "Its metrics have labels, which an annotation of the pods makes visible:".into(),
        "  proxy.istio.io/config: |".into(),
        format!("    extraStatTags: [ {} ]", names.join(", ")),
    ];
    // Bounds are by the beginning of a name there, which all histograms of Wasm filters have in common.
    if let Some((_, bounds)) = facts.histogram_bounds.first() {
        lines.push(
            "Its histograms have bounds, which another one sets for all Wasm filters:".into(),
        );
        let bounds = json!({ "wasmcustom": bounds });
        lines.push(format!("  sidecar.istio.io/statsHistogramBuckets: '{bounds}'"));
    }
    lines
}

/// What Istio needs to route by the header that the filter writes.
pub(crate) fn companions(policy: &Policy, namespace: &str) -> Vec<Document> {
    let Some(variants) = &policy.variants else { return Vec::new() };
    let Variants { host, header, default, subsets, gateways } = variants;
    let metadata = json!({ "name": policy.plugin_name(), "namespace": namespace });
    let all = subsets.iter();
    let all: Vec<Value> =
        all.map(|(name, labels)| json!({ "name": name, "labels": labels })).collect();
    let to = |name: &str| json!([{ "destination": { "host": host, "subset": name } }]);
    let marked = subsets.keys().filter(|name| *name != default).map(|name| {
        let marks = json!([{ "headers": { header: { "exact": name } } }]);
        json!({ "name": name, "match": marks, "route": to(name) })
    });
    // Without a condition, and so the last one.
    let rest = json!({ "name": default, "route": to(default) });
    let http: Vec<Value> = marked.chain([rest]).collect();
    let mut routes = json!({ "hosts": [host] });
    if !gateways.is_empty() {
        put(&mut routes, "gateways", json!(gateways));
    }
    put(&mut routes, "http", Value::Array(http));
    let api = "networking.istio.io/v1";
    let rule = json!({
        "apiVersion": api,
        "kind": "DestinationRule",
        "metadata": metadata,
        "spec": { "host": host, "subsets": all },
    });
    let service = json!({
        "apiVersion": api,
        "kind": "VirtualService",
        "metadata": metadata,
        "spec": routes,
    });
    vec![
        Document::new("destinationrule.yaml", "The variants, by the labels of their pods.", rule),
        Document::new("virtualservice.yaml", "The way to a variant, by the header.", service),
    ]
}
