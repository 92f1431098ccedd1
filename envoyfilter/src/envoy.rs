//! Envoy itself: an entry for the chain of a connection manager, or a whole bootstrap.
//!
//! Source: Envoy 1.40, `envoy.extensions.filters.http.wasm.v3.Wasm` and `envoy.config.bootstrap.v3`.

use serde_json::{Value, json};

use crate::istio::{CONNECTION_MANAGER, ROUTER, TCP_PROXY};
use crate::rendered::{Document, Rendered, put};
use crate::{Address, Delivery, Facts, InvalidPolicy, ListenerTls, Policy, Proxy, Traffic, wasm};

/// The file of the filter, where Envoy takes it from one.
const DISCOVERED: &str = "filter.yaml";

/// A list for `http_filters` or `filters`, to stand before the last one; and what the rest of the
/// configuration needs for it.
pub(crate) fn snippet(policy: &Policy, facts: &Facts) -> Result<Rendered, InvalidPolicy> {
    let mut rendered = Rendered::default();
    let mut entry = entry(policy, facts, &mut rendered)?;
    if !policy.apply.routes.is_empty() {
        put(&mut entry, "disabled", json!(true));
    }
    rendered.documents.push(Document::new("filter.yaml", "", json!([entry])));
    if !policy.apply.routes.is_empty() {
        let comment = "for the routes or virtual hosts that it is limited to:";
        let names = policy.apply.routes.iter().map(|route| match &route.route {
            Some(name) => format!("\n  {name} of {}", route.virtual_host),
            None => format!("\n  {}", route.virtual_host),
        });
        let comment = names.fold(comment.to_owned(), |comment, name| comment + &name);
        let enabled = wasm::enabled(policy.plugin_name());
        rendered.documents.push(Document::new("route.yaml", &comment, enabled));
    }
    if !policy.clusters.is_empty() {
        let clusters: Vec<Value> = policy.clusters.iter().map(wasm::cluster).collect();
        let comment = "for the bootstrap: clusters that it calls";
        let value = json!({ "clusters": clusters });
        rendered.documents.push(Document::new("clusters.yaml", comment, value));
    }
    if let Some(stats) = stats(facts) {
        let comment = "for the bootstrap: labels of its metrics, and bounds of its histograms";
        let value = json!({ "stats_config": stats });
        rendered.documents.push(Document::new("stats.yaml", comment, value));
    }
    told_elsewhere(policy, &mut rendered);
    Ok(rendered)
}

/// A bootstrap with the filter in it.
pub(crate) fn bootstrap(policy: &Policy, facts: &Facts) -> Result<Rendered, InvalidPolicy> {
    let mut rendered = Rendered::default();
    let entry = entry(policy, facts, &mut rendered)?;
    rendered.documents.push(Document::new("envoy.yaml", "", whole(policy, facts, &entry)?));
    told_elsewhere(policy, &mut rendered);
    Ok(rendered)
}

/// A bootstrap, and the filter in a file beside it, which Envoy reads again when it is replaced.
pub(crate) fn discovered(policy: &Policy, facts: &Facts) -> Result<Rendered, InvalidPolicy> {
    let mut rendered = Rendered::default();
    let name = policy.plugin_name();
    let entry = entry(policy, facts, &mut rendered)?;
    let config = entry.get("typed_config").cloned().unwrap_or_default();
    let source = json!({
        "name": name,
        "config_discovery": {
            "config_source": {
                // Envoy watches the folder, and so wants one to be named.
                "path_config_source": { "path": format!("./{DISCOVERED}") },
                "resource_api_version": "V3",
                "initial_fetch_timeout": "0s",
            },
            "type_urls": [facts.traffic.type_url()],
        },
    });
    let resource = json!({ "resources": [{
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": name,
        "typed_config": config,
    }] });
    let comment = format!("for a file {DISCOVERED} in the folder where Envoy is started");
    let bootstrap = whole(policy, facts, &source)?;
    rendered.documents.push(Document::new("envoy.yaml", "", bootstrap));
    rendered.documents.push(Document::new(DISCOVERED, &comment, resource));
    rendered.note(format!("{DISCOVERED} is read again when another file is moved over it"));
    told_elsewhere(policy, &mut rendered);
    Ok(rendered)
}

fn entry(policy: &Policy, facts: &Facts, rendered: &mut Rendered) -> Result<Value, InvalidPolicy> {
    let code = match &policy.module {
        None => wasm::local(&facts.file),
        Some(Delivery::File(file)) => wasm::local(file),
        Some(Delivery::Inline) => {
            let (code, note) = wasm::inline(policy, facts)?;
            // No cluster stores it.
            drop(note);
            code
        }
        Some(Delivery::Image(_)) => {
            rendered.note(
                "Envoy pulls no images: it is given the file that was judged; name another with \
                 `module: { file: … }`",
            );
            wasm::local(&facts.file)
        }
        Some(Delivery::Url(_)) => {
            let what = "Envoy's own fetching of modules may crash it; fetch the file, and name it \
                        with `module: { file: … }`";
            return Err(policy.refused("module.url", what));
        }
    };
    let name = policy.plugin_name();
    let config = wasm::filter(policy, facts, name, &code);
    Ok(json!({ "name": name, "typed_config": config }))
}

/// What only whoever writes the rest of the configuration can see to.
fn told_elsewhere(policy: &Policy, rendered: &mut Rendered) {
    let apply = &policy.apply;
    let meshes = [
        ("selector", !apply.selector.is_empty()),
        ("targets", !apply.targets.is_empty()),
        ("direction", apply.direction.is_some()),
        ("ports", !apply.ports.is_empty()),
        ("phase", apply.phase.is_some()),
        ("anchor", apply.anchor.is_some()),
        ("order", apply.order.is_some()),
    ];
    let said: Vec<&str> = meshes.iter().filter(|(_, is)| *is).map(|(key, _)| *key).collect();
    if !said.is_empty() {
        let keys = said.join(", ");
        rendered.note(format!("apply: {keys}: put the entry into the chains where it is to be"));
    }
    if policy.variants.is_some() {
        rendered.note("variants: routes that match the header are yours to write");
    }
}

fn stats(facts: &Facts) -> Option<Value> {
    let tag = |(name, regex): &(String, String)| json!({ "tag_name": name, "regex": regex });
    let tags: Vec<Value> = facts.stats_tags.iter().map(tag).collect();
    let setting = |(regex, bounds): &(String, Vec<u32>)| {
        let names = json!({ "safe_regex": { "regex": regex } });
        json!({ "match": names, "buckets": bounds })
    };
    let settings: Vec<Value> = facts.histogram_bounds.iter().map(setting).collect();
    let mut stats = json!({});
    for (key, values) in [("stats_tags", tags), ("histogram_bucket_settings", settings)] {
        if !values.is_empty() {
            put(&mut stats, key, Value::Array(values));
        }
    }
    Some(stats).filter(|stats| *stats != json!({}))
}

fn whole(policy: &Policy, facts: &Facts, entry: &Value) -> Result<Value, InvalidPolicy> {
    let missing =
        || policy.refused("proxy", "missing; say where Envoy is to listen, and its upstream");
    let proxy = policy.proxy.as_ref().ok_or_else(missing)?;
    if !policy.apply.routes.is_empty() {
        let what = "a bootstrap has one route; render envoy, and write the routes";
        return Err(policy.refused("apply.routes", what));
    }
    let filters = match facts.traffic {
        Traffic::Http => http(policy, entry),
        Traffic::Tcp => tcp(policy, entry),
    };
    let mut bootstrap = json!({ "node": { "id": "tollgate", "cluster": policy.plugin_name() } });
    let Proxy { listen, upstream, admin, tls } = proxy;
    if let Some(admin) = admin {
        put(&mut bootstrap, "admin", json!({ "address": wasm::socket(admin) }));
    }
    if let Some(stats) = stats(facts) {
        put(&mut bootstrap, "stats_config", stats);
    }
    let own = policy.clusters.iter().map(wasm::cluster);
    let clusters: Vec<Value> = std::iter::once(upstream_cluster(upstream)).chain(own).collect();
    let mut chain = json!({ "filters": filters });
    if let Some(tls) = tls {
        put(&mut chain, "transport_socket", terminating(tls));
    }
    let resources = json!({
        "listeners": [{
            "name": "ingress",
            "address": wasm::socket(listen),
            "filter_chains": [chain],
        }],
        "clusters": clusters,
    });
    put(&mut bootstrap, "static_resources", resources);
    Ok(bootstrap)
}

/// Nobody without a certificate is let in, and of no session it is left open whether it had one.
fn terminating(tls: &ListenerTls) -> Value {
    let ListenerTls { certificate_file, key_file, client_ca_file } = tls;
    let file = |file: &str| json!({ "filename": file });
    let kind = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("type.googleapis.com/{kind}"),
            "require_client_certificate": true,
            "disable_stateless_session_resumption": true,
            "disable_stateful_session_resumption": true,
            "common_tls_context": {
                "tls_certificates": [
                    { "certificate_chain": file(certificate_file), "private_key": file(key_file) },
                ],
                "validation_context": { "trusted_ca": file(client_ca_file) },
            },
        },
    })
}

fn http(policy: &Policy, entry: &Value) -> Value {
    let router = json!({
        "name": ROUTER,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        },
    });
    let kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "upstream" } });
    json!([{
        "name": CONNECTION_MANAGER,
        "typed_config": {
            "@type": format!("type.googleapis.com/{kind}"),
            "stat_prefix": policy.plugin_name(),
            // Filters that trust addresses trust those of the connection.
            "use_remote_address": true,
            "http_filters": [entry, router],
            "route_config": { "virtual_hosts": [
                { "name": "all", "domains": ["*"], "routes": [route] },
            ] },
        },
    }])
}

fn tcp(policy: &Policy, entry: &Value) -> Value {
    let kind = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    let proxy = json!({
        "name": TCP_PROXY,
        "typed_config": {
            "@type": kind,
            "stat_prefix": policy.plugin_name(),
            "cluster": "upstream",
        },
    });
    json!([entry, proxy])
}

fn upstream_cluster(address: &Address) -> Value {
    wasm::cluster(&crate::Cluster {
        name: "upstream".into(),
        address: address.clone(),
        protocol: crate::Protocol::Http1,
        tls: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &str, facts: &Facts, expected: &str) {
        let rendered = snippet(&Policy::parse(policy).unwrap(), facts).unwrap();
        let rendered = rendered.to_text().unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&rendered).unwrap();
        let expected: Vec<Value> = serde_saphyr::from_multiple(expected).unwrap();
        assert_eq!(documents, expected, "{rendered}");
    }

    #[test]
    fn a_filter_may_do_what_it_needs_and_no_more() {
        let facts = Facts {
            file: "/etc/envoy/limits.wasm".into(),
            capabilities: ["proxy_log", "proxy_on_request_headers"].map(String::from).into(),
            ..Facts::default()
        };
        check(
            "{ filter: ratelimit, name: limits, config: { rules: [] } }",
            &facts,
            r#"
- name: limits
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
    config:
      name: limits
      failure_policy: FAIL_CLOSED
      vm_config:
        vm_id: limits
        runtime: envoy.wasm.runtime.v8
        code: { local: { filename: /etc/envoy/limits.wasm } }
        capability_restriction_config:
          allowed_capabilities: { proxy_log: {}, proxy_on_request_headers: {} }
      configuration:
        "@type": type.googleapis.com/google.protobuf.StringValue
        value: '{"rules":[]}'
"#,
        );
    }

    #[test]
    fn what_a_module_needs_and_its_labels_are_told() {
        let facts = Facts {
            file: "a.wasm".into(),
            needs: ["allow_on_headers_stop_iteration".into()].into(),
            stats_tags: vec![("user".into(), "x(.*)".into())],
            ..Facts::default()
        };
        check(
            "{ filter: a, root_id: one, failure_policy: open, environment: { MODE: x }, config: text }",
            &facts,
            r#"
- name: a
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
    config:
      name: a
      root_id: one
      failure_policy: FAIL_OPEN
      allow_on_headers_stop_iteration: true
      vm_config:
        vm_id: a
        runtime: envoy.wasm.runtime.v8
        code: { local: { filename: a.wasm } }
        environment_variables: { key_values: { MODE: x } }
        capability_restriction_config: { allowed_capabilities: {} }
      configuration:
        "@type": type.googleapis.com/google.protobuf.StringValue
        value: text
---
stats_config: { stats_tags: [ { tag_name: user, regex: x(.*) } ] }
"#,
        );
    }
}
