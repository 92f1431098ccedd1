//! The configuration that Envoy starts with: one listener, the chain of filters, one cluster, and those
//! that guests call.
//!
//! Envoy adds to requests and responses as little as it can be told to, so that a scenario sees what the
//! filters do; what it adds even so, the offline host adds as well.

mod clusters;
mod http;
mod plugin;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollgate_host::scenario::{
    Configured, Metadata, Protocol, Scenario, Step, Tls, Traffic, TrafficDirection,
    TrustChainVerification, UPSTREAM,
};
use tollgate_host::tls::Credentials;

use crate::tcp::ECHOED;
use clusters::{cluster, explicit, routed};
use http::{connection_manager, hiding_what_trailers_need, naming_the_client};

pub(crate) use clusters::Called;
pub(crate) use plugin::{Plugin, wasm_filter};

/// The `te` line that Envoy adds to a request without one on its way to our upstream, which takes it off
/// again.
pub(crate) const TRAILERS_WELCOME: &str = "trailers, tollgate";

/// The line by which our upstream tells clients apart when several have requests under way: Envoy adds it
/// behind the filters, and our upstream takes it off again.
pub(crate) const CLIENT: &str = "x-tollgate-client";

/// The name of the listener with the filters.
pub(crate) const LISTENER: &str = "listener";

/// What the configuration is made from.
pub(crate) struct Bootstrap<'a> {
    /// What the filters stand in front of.
    pub(crate) traffic: Traffic,
    /// The chain of filters, in order, as rendered.
    pub(crate) filters: &'a [Value],
    /// The objects of the filter state that they find, by name.
    pub(crate) filter_state: &'a [(&'a str, &'a str)],
    /// Names and metadata.
    pub(crate) proxy: &'a Configured,
    /// Whether some message has trailers.
    pub(crate) trailers: Trailers,
    /// Whether clients are told apart.
    pub(crate) apart: Apart,
    /// The certificates, when the listener terminates TLS.
    pub(crate) tls: Option<(&'a Tls, &'a Credentials)>,
    /// How many bytes a connection may have buffered.
    pub(crate) buffer_limit: usize,
    /// Port of the upstream on the loopback interface.
    pub(crate) upstream_port: u16,
    /// Ports of the further clusters that routes lead to.
    pub(crate) routed_ports: BTreeMap<String, u16>,
    /// The clusters that guests call.
    pub(crate) clusters: Vec<Called<'a>>,
    /// The listeners that tell what plugins share, as rendered.
    pub(crate) shared: Vec<Value>,
}

/// Trailers of the messages of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trailers {
    /// No message has any.
    None,
    /// Some message has some.
    Some,
}

/// Whether the upstream has to tell clients apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Apart {
    /// One request is under way at a time.
    No,
    /// Some step has several at once.
    Yes,
}

impl Apart {
    /// What a scenario needs.
    pub(crate) fn of(scenario: &Scenario) -> Self {
        let is_together = |step: &Step| matches!(step, Step::Together(_));
        if scenario.steps.iter().any(is_together) { Self::Yes } else { Self::No }
    }
}

impl Bootstrap<'_> {
    /// Renders the configuration.
    pub(crate) fn to_json(&self) -> Value {
        let (filters, echo) = match self.traffic {
            Traffic::Http => (vec![self.http()], None),
            Traffic::Tcp => (self.tcp(), Some(echoing())),
        };
        let mut chain = json!({ "filters": filters });
        if let (Some((tls, credentials)), Some(fields)) = (self.tls, chain.as_object_mut()) {
            fields.insert("transport_socket".into(), terminating(tls, credentials));
        }
        let filter_chains: Vec<Value> = echo.into_iter().chain([chain]).collect();
        let listener = json!({
            "name": LISTENER,
            "address": loopback(0),
            "per_connection_buffer_limit_bytes": self.buffer_limit,
            "traffic_direction": match self.proxy.listener.direction {
                TrafficDirection::Unspecified => "UNSPECIFIED",
                TrafficDirection::Inbound => "INBOUND",
                TrafficDirection::Outbound => "OUTBOUND",
            },
            "metadata": metadata(&self.proxy.listener.metadata),
            "listener_filters": self.tls.map(|_| inspector()).into_iter().collect::<Vec<_>>(),
            // The next connection goes to a worker that has the fewest.
            "connection_balance_config": { "exact_balance": {} },
            "filter_chains": filter_chains,
        });
        let listeners: Vec<&Value> = std::iter::once(&listener).chain(&self.shared).collect();
        json!({
            "node": {
                "id": self.proxy.node.id,
                "cluster": self.proxy.node.cluster,
                "metadata": self.proxy.node.metadata,
            },
            "admin": { "address": loopback(0) },
            "static_resources": { "listeners": listeners, "clusters": self.clusters() },
        })
    }

    fn http(&self) -> Value {
        let plugins = self.filter_state().into_iter().chain(self.filters.iter().cloned());
        let mut filters: Vec<Value> = match self.trailers {
            Trailers::None => plugins.collect(),
            Trailers::Some => hiding_what_trailers_need(plugins),
        };
        if self.apart == Apart::Yes {
            filters.push(naming_the_client());
        }
        filters.push(json!({
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                "suppress_envoy_headers": true,
            },
        }));
        json!({
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": connection_manager(&filters, self.proxy),
        })
    }

    fn tcp(&self) -> Vec<Value> {
        let proxy = json!({
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "ingress",
                "cluster": self.proxy.cluster.name,
            },
        });
        self.filter_state().into_iter().chain(self.filters.iter().cloned()).chain([proxy]).collect()
    }

    /// What sets the filter state before the filters are asked.
    fn filter_state(&self) -> Option<Value> {
        let object = |(name, text): &(&str, &str)| {
            json!({
                "object_key": name,
                "factory_key": "envoy.string",
                "format_string": {
                    "text_format_source": { "inline_string": text.replace('%', "%%") },
                },
            })
        };
        let objects: Vec<Value> = self.filter_state.iter().map(object).collect();
        let (level, when) = match self.traffic {
            Traffic::Http => ("http", "on_request_headers"),
            Traffic::Tcp => ("network", "on_new_connection"),
        };
        let kind = format!("envoy.extensions.filters.{level}.set_filter_state.v3.Config");
        (!objects.is_empty()).then(|| {
            json!({
                "name": format!("envoy.filters.{level}.set_filter_state"),
                "typed_config": { "@type": format!("type.googleapis.com/{kind}"), when: objects },
            })
        })
    }

    fn clusters(&self) -> Vec<Value> {
        let further = self.routed_ports.iter().map(|(name, &port)| routed(name, port));
        let called = self.clusters.iter().map(Called::to_json);
        std::iter::once(self.upstream()).chain(further).chain(called).collect()
    }

    fn upstream(&self) -> Value {
        let address = json!({ "address": loopback(self.upstream_port) });
        // An endpoint with empty metadata is not one without.
        let endpoint = match &self.proxy.endpoint.metadata {
            none if none.0.is_empty() => json!({ "endpoint": address }),
            some => json!({ "endpoint": address, "metadata": metadata(some) }),
        };
        let options = json!({ "explicit_http_config": explicit(Protocol::Http) });
        let mut upstream = cluster(&self.proxy.cluster.name, &endpoint, options);
        if let Some(fields) = upstream.as_object_mut() {
            // The runner reads the statistics of the cluster by this name.
            fields.insert("alt_stat_name".into(), UPSTREAM.into());
            fields.insert("metadata".into(), metadata(&self.proxy.cluster.metadata));
        }
        upstream
    }
}

/// The chain for connections that tell how far a worker is, past all filters of the scenario.
fn echoing() -> Value {
    let source = json!({ "address_prefix": ECHOED, "prefix_len": 32 });
    json!({
        "filter_chain_match": { "source_prefix_ranges": [source] },
        "filters": [echo()],
    })
}

/// What sends back what has come.
pub(crate) fn echo() -> Value {
    json!({
        "name": "envoy.filters.network.echo",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo",
        },
    })
}

/// What tells the server that a client asks for: without it, Envoy knows none.
fn inspector() -> Value {
    let kind = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
    json!({
        "name": "envoy.filters.listener.tls_inspector",
        "typed_config": { "@type": format!("type.googleapis.com/{kind}") },
    })
}

/// The socket of a listener that terminates TLS.
fn terminating(tls: &Tls, credentials: &Credentials) -> Value {
    let kind = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    let own = &credentials.own;
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("type.googleapis.com/{kind}"),
            "require_client_certificate": tls.require_client_certificate,
            "common_tls_context": {
                "tls_certificates": [{
                    "certificate_chain": { "inline_string": own.certificate.pem() },
                    "private_key": { "inline_string": own.key_pem() },
                }],
                "validation_context": {
                    "trusted_ca": { "inline_string": credentials.trusted.pem() },
                    "trust_chain_verification": match tls.trust_chain_verification {
                        TrustChainVerification::VerifyTrustChain => "VERIFY_TRUST_CHAIN",
                        TrustChainVerification::AcceptUntrusted => "ACCEPT_UNTRUSTED",
                    },
                },
            },
        },
    })
}

fn metadata(metadata: &Metadata) -> Value {
    json!({ "filter_metadata": metadata.0 })
}

pub(crate) fn loopback(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use tollgate_host::scenario::FailurePolicy;

    use super::*;
    use crate::shared;

    fn rendered() -> Value {
        rendered_with(Traffic::Http, Trailers::None)
    }

    fn rendered_with(traffic: Traffic, trailers: Trailers) -> Value {
        let plugin = |name, root_id, module: &'static str, configuration| Plugin {
            name,
            root_id,
            vm_id: "",
            vm_configuration: "",
            environment: const { &BTreeMap::new() },
            module: Path::new(module),
            configuration,
            allow_on_headers_stop_iteration: false,
            allowed_capabilities: const { &BTreeSet::new() },
            failure_policy: FailurePolicy::Closed,
        };
        let filters = [
            plugin("first", "", "/modules/first.wasm", r#"{"rules":[]}"#),
            plugin("second", "root", "/modules/second.wasm", ""),
        ];
        let filters: Vec<Value> = filters.iter().map(|plugin| plugin.to_json(traffic)).collect();
        let bootstrap = Bootstrap {
            traffic,
            filters: &filters,
            filter_state: &[],
            proxy: &Configured::default(),
            trailers,
            apart: Apart::No,
            tls: None,
            buffer_limit: 1 << 20,
            upstream_port: 1234,
            routed_ports: BTreeMap::new(),
            clusters: Vec::new(),
            shared: vec![shared::listener("a", Path::new("/modules/reader.wasm"))],
        };
        bootstrap.to_json()
    }

    /// Checks the value at a JSON pointer.
    fn check(pointer: &str, expected: &Value) {
        assert_eq!(rendered().pointer(pointer), Some(expected), "{pointer}");
    }

    const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";

    #[test]
    fn filters_stand_in_the_order_of_the_scenario_before_the_router() {
        let check = |trailers, expected: &[&str]| {
            let pointer = format!("{MANAGER}/http_filters");
            let filters =
                rendered_with(Traffic::Http, trailers).pointer(&pointer).cloned().unwrap();
            let name = |filter: &Value| {
                let plugin = filter.pointer("/typed_config/config/name").unwrap_or(&filter["name"]);
                plugin.as_str().unwrap().to_owned()
            };
            let names: Vec<String> = filters.as_array().unwrap().iter().map(name).collect();
            assert_eq!(names, expected, "{trailers:?}");
        };
        let (mutation, router) =
            ("envoy.filters.http.header_mutation", "envoy.filters.http.router");
        check(Trailers::None, &["first", "second", router]);
        check(Trailers::Some, &[mutation, "first", "second", mutation, router]);
    }

    #[test]
    fn network_filters_stand_before_the_proxy_of_tcp_and_behind_a_chain_of_their_own() {
        let chains = rendered_with(Traffic::Tcp, Trailers::None)
            .pointer("/static_resources/listeners/0/filter_chains")
            .cloned()
            .unwrap();
        let names = |chain: usize| -> Vec<Value> {
            let filters = chains[chain]["filters"].as_array().unwrap();
            filters.iter().map(|filter| filter["name"].clone()).collect()
        };
        assert_eq!(names(0), ["envoy.filters.network.echo"]);
        let wasm = "envoy.filters.network.wasm";
        assert_eq!(names(1), [wasm, wasm, "envoy.filters.network.tcp_proxy"]);
        assert_eq!(chains[1].get("filter_chain_match"), None);
        let kind = &chains[1]["filters"][0]["typed_config"]["@type"];
        assert_eq!(kind, wasm_filter(Traffic::Tcp));
    }

    #[test]
    fn a_filter_fails_closed_and_gets_its_configuration_as_text() {
        let config = format!("{MANAGER}/http_filters/0/typed_config/config");
        check(&format!("{config}/failure_policy"), &json!("FAIL_CLOSED"));
        check(&format!("{config}/configuration/value"), &json!(r#"{"rules":[]}"#));
        check(&format!("{config}/vm_config/code/local/filename"), &json!("/modules/first.wasm"));
        check(&format!("{MANAGER}/http_filters/1/typed_config/config/root_id"), &json!("root"));
    }

    #[test]
    fn everything_listens_on_the_loopback_interface_only() {
        let mut addresses = Vec::new();
        collect_addresses(&rendered(), &mut addresses);
        assert_eq!(addresses, ["127.0.0.1"; 4].map(Value::from));
    }

    fn collect_addresses(value: &Value, found: &mut Vec<Value>) {
        match value {
            Value::Object(fields) => {
                if let Some(address) = fields.get("socket_address") {
                    found.push(address["address"].clone());
                }
                fields.values().for_each(|value| collect_addresses(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| collect_addresses(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
