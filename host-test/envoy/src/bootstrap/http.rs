//! What stands around the filters of requests: the connection manager, its routes, and the filters that
//! keep our client and upstream out of sight.

use serde_json::{Value, json};
use tollgate_host::scenario::{
    ClientCertDetail, Configured, Destination, ForwardClientCertDetails, RouteRule,
};

use super::{CLIENT, TRAILERS_WELCOME, metadata};

pub(super) fn connection_manager(filters: &[Value], proxy: &Configured) -> Value {
    let kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let tells = |detail| proxy.set_current_client_cert_details.contains(&detail);
    let last = json!({
        "name": proxy.route.name,
        "metadata": metadata(&proxy.route.metadata),
        "match": { "prefix": "/" },
        // The client has the only patience.
        "route": { "cluster": proxy.cluster.name, "timeout": "0s" },
    });
    let routes: Vec<Value> = proxy.routes.iter().map(route).chain([last]).collect();
    json!({
        "@type": format!("type.googleapis.com/{kind}"),
        "stat_prefix": "ingress",
        "codec_type": "HTTP1",
        "http_protocol_options": { "enable_trailers": true },
        "generate_request_id": false,
        "skip_xff_append": true,
        "use_remote_address": false,
        "server_header_transformation": "PASS_THROUGH",
        "forward_client_cert_details": match proxy.forward_client_cert_details {
            ForwardClientCertDetails::Sanitize => "SANITIZE",
            ForwardClientCertDetails::ForwardOnly => "FORWARD_ONLY",
            ForwardClientCertDetails::AppendForward => "APPEND_FORWARD",
            ForwardClientCertDetails::SanitizeSet => "SANITIZE_SET",
            ForwardClientCertDetails::AlwaysForwardOnly => "ALWAYS_FORWARD_ONLY",
        },
        "set_current_client_cert_details": {
            "subject": tells(ClientCertDetail::Subject),
            "cert": tells(ClientCertDetail::Cert),
            "chain": tells(ClientCertDetail::Chain),
            "dns": tells(ClientCertDetail::Dns),
            "uri": tells(ClientCertDetail::Uri),
        },
        "http_filters": filters,
        "route_config": {
            "name": "routes",
            "virtual_hosts": [{
                "name": proxy.virtual_host.name,
                "metadata": metadata(&proxy.virtual_host.metadata),
                "domains": ["*"],
                "routes": routes,
            }],
        },
    })
}

/// Our client and upstream announce trailers, else they cannot send them, and the upstream must hear
/// that trailers are welcome. Guests see nothing of either, but for `te` in the request headers when a
/// request is logged.
pub(super) fn hiding_what_trailers_need(plugins: impl Iterator<Item = Value>) -> Vec<Value> {
    let without_announcement = json!([{ "remove": "trailer" }]);
    let welcome = json!([{
        "append": {
            "header": { "key": "te", "value": TRAILERS_WELCOME },
            "append_action": "ADD_IF_ABSENT",
        },
    }]);
    let before = mutation(&json!({ "request_mutations": without_announcement }));
    let after = mutation(&json!({
        "request_mutations": welcome,
        "response_mutations": without_announcement,
    }));
    std::iter::once(before).chain(plugins).chain([after]).collect()
}

/// Guests see the line only in the request headers when a request is logged.
pub(super) fn naming_the_client() -> Value {
    let client = json!([{
        "append": {
            "header": { "key": CLIENT, "value": "%DOWNSTREAM_REMOTE_PORT%" },
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        },
    }]);
    mutation(&json!({ "request_mutations": client }))
}

fn mutation(mutations: &Value) -> Value {
    let kind = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
    json!({
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {
            "@type": format!("type.googleapis.com/{kind}"),
            "mutations": mutations,
        },
    })
}

/// A route that is tried before the last one.
fn route(rule: &RouteRule) -> Value {
    let exact = |value: &String| json!({ "exact": value });
    let headers = rule.headers.iter();
    let headers: Vec<Value> = headers
        .map(|(name, value)| json!({ "name": name, "string_match": exact(value) }))
        .collect();
    let objects = rule.filter_state.iter();
    let objects: Vec<Value> =
        objects.map(|(key, value)| json!({ "key": key, "string_match": exact(value) })).collect();
    let (field, to) = match &rule.to {
        Destination::Cluster(name) => ("cluster", json!(name)),
        Destination::ClusterHeader(name) => ("cluster_header", json!(name)),
        Destination::Weighted { header, clusters } => {
            let weight = |(name, weight): &(String, u32)| json!({ "name": name, "weight": weight });
            let clusters: Vec<Value> = clusters.iter().map(weight).collect();
            ("weighted_clusters", json!({ "clusters": clusters, "header_name": header }))
        }
    };
    json!({
        "name": rule.name,
        "match": { "prefix": "/", "headers": headers, "filter_state": objects },
        "route": { field: to, "timeout": "0s" },
    })
}
