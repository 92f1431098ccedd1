//! What stands beside a filter: clusters that it calls, and the variants that its decisions lead to.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A cluster that the filter calls by its name.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Its name, as the filter's configuration has it.
    pub name: String,
    /// Host and port.
    pub address: Address,
    /// What is spoken; gRPC needs `http2`.
    #[serde(default)]
    pub protocol: Protocol,
    /// TLS to it.
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// What is spoken with a cluster.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
}

/// TLS to a cluster: its certificate has to have the name.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The name.
    pub server_name: String,
    /// Certificates of who is trusted to issue it: a file that the proxy sees.
    pub ca_file: String,
}

/// A host and a port: `authz.shop.svc.cluster.local:8080`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Address {
    /// A name or an address.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let split = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let parsed = split.and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match parsed {
            Some((host, port)) if port > 0 => Ok(Self { host: host.to_owned(), port }),
            Some(_) | None => Err(format!("`{text}` is not HOST:PORT, with a port of 1 to 65535")),
        }
    }
}

/// How the decisions of the filter lead to variants of a service: by a header that it writes.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Variants {
    /// The host name of the service.
    pub host: String,
    /// The header, as the filter's configuration has it.
    pub header: String,
    /// The variant that requests without one of the other values go to.
    pub default: String,
    /// By the value of the header: the labels of the variant's pods.
    pub subsets: BTreeMap<String, BTreeMap<String, String>>,
    /// The gateways whose requests are routed, `NAMESPACE/NAME`; those of the mesh when none is said.
    #[serde(default)]
    pub gateways: Vec<String>,
}

/// The Envoy of a bootstrap.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// Where it listens.
    pub listen: Address,
    /// Where requests go.
    pub upstream: Address,
    /// Where it is administered; nowhere by default.
    #[serde(default)]
    pub admin: Option<Address>,
    /// TLS of who comes; none by default.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
}

/// TLS of a listener that takes nobody without a certificate: files that the proxy sees.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Its own certificate, and those between it and its CA.
    pub certificate_file: String,
    /// The key of that.
    pub key_file: String,
    /// Certificates of who is trusted to issue those of clients.
    pub client_ca_file: String,
}
