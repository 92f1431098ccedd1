//! What the proxy is configured with besides its filters, and properties that a scenario makes up.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::{Map, Value};

use super::routes::RouteRule;
use super::value::unhex;

/// What the proxy is configured with besides its filters: names and metadata that filters can read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Configured {
    /// The proxy itself.
    pub node: Node,
    /// The listener that takes the requests.
    pub listener: Listener,
    /// The virtual host of every request.
    pub virtual_host: VirtualHost,
    /// Routes that are tried before `route`, in order.
    pub routes: Vec<RouteRule>,
    /// The route of every other request.
    pub route: Route,
    /// The cluster that the route leads to.
    pub cluster: Cluster,
    /// Further clusters, to which `routes` lead.
    pub clusters: Vec<String>,
    /// The only endpoint of the cluster.
    pub endpoint: Endpoint,
    /// What becomes of `x-forwarded-client-cert`.
    pub forward_client_cert_details: ForwardClientCertDetails,
    /// What the proxy tells in it, besides its own URI and the digest of the client's certificate.
    pub set_current_client_cert_details: Vec<ClientCertDetail>,
}

/// What becomes of `x-forwarded-client-cert`, which tells of clients' certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardClientCertDetails {
    /// It is taken away.
    #[default]
    Sanitize,
    /// It is left as it comes, from a client that shows a certificate; from others it is taken away.
    ForwardOnly,
    /// The proxy tells of its client behind what comes.
    AppendForward,
    /// The proxy tells of its client, and nothing else stays.
    SanitizeSet,
    /// It is left as it comes, from anybody.
    AlwaysForwardOnly,
}

/// What the proxy tells of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertDetail {
    /// The subject of its certificate.
    Subject,
    /// The certificate.
    Cert,
    /// All certificates that it has sent.
    Chain,
    /// The names of the DNS in it.
    Dns,
    /// The URIs in it.
    Uri,
}

/// The proxy itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// Its name.
    pub id: String,
    /// The group of proxies that it belongs to.
    pub cluster: String,
    /// What else is said of it.
    pub metadata: Map<String, Value>,
}

impl Default for Node {
    fn default() -> Self {
        Self { id: "tollgate".into(), cluster: "tollgate".into(), metadata: Map::new() }
    }
}

/// The listener that takes the requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listener {
    /// Whether it is for requests from outside or from the workload.
    pub direction: TrafficDirection,
    /// Its metadata.
    pub metadata: Metadata,
}

/// Which way the traffic of a listener goes, seen from the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrafficDirection {
    /// Not said.
    #[default]
    Unspecified,
    /// To the workload.
    Inbound,
    /// From the workload.
    Outbound,
}

/// Declares a part of the configuration that has a name and metadata.
macro_rules! named {
    ($( $(#[$doc:meta])* $part:ident = $name:literal; )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $part {
            /// Its name.
            pub name: String,
            /// Its metadata.
            pub metadata: Metadata,
        }

        impl Default for $part {
            fn default() -> Self {
                Self { name: $name.into(), metadata: Metadata::default() }
            }
        }
    )* };
}

named! {
    /// The virtual host of every request.
    VirtualHost = "vhost";
    /// The route of every request.
    Route = "route";
    /// The cluster that the route leads to.
    Cluster = "upstream";
}

/// The only endpoint of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoint {
    /// Its metadata.
    pub metadata: Metadata,
}

/// Metadata: in each namespace, most often the name of a filter, what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Metadata(pub BTreeMap<String, Map<String, Value>>);

/// A property that a scenario makes up, since no offline host could derive it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeUp {
    /// The segments of its path, joined by NUL.
    pub path: Vec<u8>,
    /// Its bytes; nothing makes it absent.
    pub value: Option<Vec<u8>>,
}

impl MadeUp {
    /// The name and the text of an object of the filter state, if it is one: of those a real Envoy can be told,
    /// too.
    pub fn filter_state(&self) -> Option<(&str, &str)> {
        let name = str::from_utf8(&self.path).ok()?.strip_prefix("filter_state\0")?;
        let text = str::from_utf8(self.value.as_deref()?).ok()?;
        (!name.contains('\0')).then_some((name, text))
    }
}

/// The properties that a scenario makes up.
#[derive(Default)]
pub(super) struct RawProperties(pub(super) Vec<MadeUp>);

impl<'de> Deserialize<'de> for RawProperties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = BTreeMap::<String, Option<Value>>::deserialize(deserializer)?;
        let property = |(path, value): (String, Option<Value>)| {
            let value = value.map(|value| bytes(&path, &value)).transpose()?;
            Ok(MadeUp { path: segments(&path).into_bytes(), value })
        };
        let properties = written.into_iter().map(property).collect::<Result<_, String>>();
        properties.map(Self).map_err(de::Error::custom)
    }
}

/// The segments of a path, each but the first after a NUL. They are written with dots between them; the last may
/// be in brackets, and then keeps its own: `filter_state[io.istio.peer_principal]`.
fn segments(path: &str) -> String {
    match path.strip_suffix(']').and_then(|path| path.split_once('[')) {
        Some((before, last)) => format!("{}\0{last}", before.replace('.', "\0")),
        None => path.replace('.', "\0"),
    }
}

/// The bytes of a value as Envoy serialises it.
fn bytes(path: &str, value: &Value) -> Result<Vec<u8>, String> {
    let wrong = || {
        format!(
            "properties: {path}: write text, true or false, a whole number, {{ hex: … }} or null"
        )
    };
    match value {
        Value::String(text) => Ok(text.clone().into_bytes()),
        Value::Bool(value) => Ok(vec![u8::from(*value)]),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Ok(number.to_le_bytes().to_vec()),
            (None, Some(number)) => Ok(number.to_le_bytes().to_vec()),
            (None, None) => Err(wrong()),
        },
        Value::Object(fields) => match (fields.len(), fields.get("hex")) {
            (1, Some(Value::String(text))) => unhex::<de::value::Error>(text)
                .map_err(|error| format!("properties: {path}: {error}")),
            _ => Err(wrong()),
        },
        Value::Null | Value::Array(_) => Err(wrong()),
    }
}
