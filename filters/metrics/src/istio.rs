//! The labels of Istio's own filter: who called whom, as each side of a connection tells it.
//!
//! Source: Istio, `source/extensions/filters/http/istio_stats/istio_stats.cc`.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;

/// What stands where nobody knows.
const UNKNOWN: &[u8] = b"unknown";
/// The revision of a workload that has none.
const LATEST: &[u8] = b"latest";

macro_rules! fields {
    ($($field:ident = $name:literal;)*) => {
        /// A label of Istio's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the names are those of Istio")]
        pub enum Field { $($field,)* }

        impl Field {
            /// All, in the order of Istio.
            pub const ALL: [Self; 25] = [$(Self::$field,)*];

            /// The name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$field => $name,)* }
            }
        }
    };
}

fields! {
    Reporter = "reporter";
    SourceWorkload = "source_workload";
    SourceCanonicalService = "source_canonical_service";
    SourceCanonicalRevision = "source_canonical_revision";
    SourceWorkloadNamespace = "source_workload_namespace";
    SourcePrincipal = "source_principal";
    SourceApp = "source_app";
    SourceVersion = "source_version";
    SourceCluster = "source_cluster";
    DestinationWorkload = "destination_workload";
    DestinationWorkloadNamespace = "destination_workload_namespace";
    DestinationPrincipal = "destination_principal";
    DestinationApp = "destination_app";
    DestinationVersion = "destination_version";
    DestinationService = "destination_service";
    DestinationCanonicalService = "destination_canonical_service";
    DestinationCanonicalRevision = "destination_canonical_revision";
    DestinationServiceName = "destination_service_name";
    DestinationServiceNamespace = "destination_service_namespace";
    DestinationCluster = "destination_cluster";
    RequestProtocol = "request_protocol";
    ResponseCode = "response_code";
    GrpcResponseStatus = "grpc_response_status";
    ResponseFlags = "response_flags";
    ConnectionSecurityPolicy = "connection_security_policy";
}

impl Field {
    /// Whether the metrics of messages have it: those that Istio knows before the request is over.
    pub fn is_known_while_open(self) -> bool {
        self < Self::RequestProtocol
    }

    /// Whether the metrics of TCP have it.
    pub const fn is_of_connections(self) -> bool {
        !matches!(self, Self::ResponseCode | Self::GrpcResponseStatus)
    }
}

/// Who reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reporter {
    /// The sidecar of the client, or a gateway.
    Source,
    /// The sidecar of the server.
    Destination,
    /// A waypoint, for a set of servers.
    Waypoint,
}

impl Reporter {
    /// The word of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Waypoint => "waypoint",
        }
    }
}

/// A workload; what is not known of it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: Vec<u8>,
    /// Its name.
    pub name: Vec<u8>,
    /// The canonical service.
    pub service: Vec<u8>,
    /// The canonical revision.
    pub revision: Vec<u8>,
    /// The label `app`.
    pub app: Vec<u8>,
    /// The label `version`.
    pub version: Vec<u8>,
    /// The cluster of Kubernetes.
    pub cluster: Vec<u8>,
}

impl Workload {
    /// What the control plane says of an endpoint: `name;namespace;service;revision;cluster`.
    pub fn of_endpoint(text: &[u8]) -> Option<Self> {
        let parts: Vec<&[u8]> = text.split(|byte| *byte == b';').collect();
        let [name, namespace, service, revision, cluster, ..] = parts.as_slice() else {
            return None;
        };
        Some(Self {
            name: name.to_vec(),
            namespace: namespace.to_vec(),
            service: service.to_vec(),
            revision: revision.to_vec(),
            cluster: cluster.to_vec(),
            ..Self::default()
        })
    }
}

/// The service that was asked for; what is not known of it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its host.
    pub host: Vec<u8>,
    /// Its name.
    pub name: Vec<u8>,
}

/// What is known of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The other side, if its proxy or the control plane has said who it is.
    pub peer: Option<Workload>,
    /// The server behind a waypoint.
    pub endpoint: Option<Workload>,
    /// The identity of the other side, by its certificate.
    pub peer_principal: Vec<u8>,
    /// The own identity.
    pub local_principal: Vec<u8>,
    /// The service.
    pub service: Service,
}

impl Known {
    /// How the connection is secured: known on the side of the server only.
    pub fn security(&self, reporter: Reporter) -> &'static str {
        match reporter {
            Reporter::Source => "unknown",
            Reporter::Destination | Reporter::Waypoint => {
                let is_mutual = !self.peer_principal.is_empty() && !self.local_principal.is_empty();
                if is_mutual { "mutual_tls" } else { "none" }
            }
        }
    }

    /// The value of a label that is known while a request is open; `None` for the others.
    pub fn value<'a>(
        &'a self,
        field: Field,
        reporter: Reporter,
        local: &'a Workload,
    ) -> Option<Cow<'a, [u8]>> {
        let side = |is_peer: bool| Side { known: self, reporter, local, is_peer };
        // The peer of a server is the source, that of a client the destination.
        let source = side(reporter != Reporter::Source);
        let destination = side(reporter == Reporter::Source);
        let value: &'a [u8] = match field {
            Field::Reporter => reporter.as_str().as_bytes(),
            Field::SourceWorkload => source.of(|workload| &workload.name),
            Field::SourceCanonicalService => source.of(|workload| &workload.service),
            Field::SourceCanonicalRevision => source.revision(),
            Field::SourceWorkloadNamespace => source.namespace(),
            Field::SourcePrincipal => source.principal(),
            Field::SourceApp => source.of(|workload| &workload.app),
            Field::SourceVersion => source.of(|workload| &workload.version),
            Field::SourceCluster => source.of(|workload| &workload.cluster),
            Field::DestinationWorkload => destination.of(|workload| &workload.name),
            Field::DestinationWorkloadNamespace => destination.namespace(),
            Field::DestinationPrincipal => destination.principal(),
            Field::DestinationApp => destination.of(|workload| &workload.app),
            Field::DestinationVersion => destination.of(|workload| &workload.version),
            Field::DestinationService => destination.service(&self.service.host),
            Field::DestinationCanonicalService => destination.of(|workload| &workload.service),
            Field::DestinationCanonicalRevision => destination.revision(),
            Field::DestinationServiceName => destination.service(&self.service.name),
            Field::DestinationServiceNamespace => match reporter {
                Reporter::Source => destination.namespace(),
                Reporter::Destination | Reporter::Waypoint => &local.namespace,
            },
            Field::DestinationCluster => match reporter {
                Reporter::Source => destination.of(|workload| &workload.cluster),
                Reporter::Destination | Reporter::Waypoint => &local.cluster,
            },
            Field::RequestProtocol
            | Field::ResponseCode
            | Field::GrpcResponseStatus
            | Field::ResponseFlags
            | Field::ConnectionSecurityPolicy => return None,
        };
        Some(Cow::Borrowed(value))
    }
}

/// One side of a request.
struct Side<'a> {
    known: &'a Known,
    reporter: Reporter,
    local: &'a Workload,
    is_peer: bool,
}

impl<'a> Side<'a> {
    /// What is not known of another workload is `unknown`; of the own one, empty.
    fn of(&self, part: impl Fn(&'a Workload) -> &'a Vec<u8>) -> &'a [u8] {
        match self.workload() {
            Some(workload) if self.is_own() => part(workload),
            Some(workload) => known(part(workload)),
            None => UNKNOWN,
        }
    }

    fn workload(&self) -> Option<&'a Workload> {
        match (self.is_peer, self.reporter) {
            (true, _) => self.known.peer.as_ref(),
            (false, Reporter::Waypoint) => self.known.endpoint.as_ref(),
            (false, Reporter::Source | Reporter::Destination) => Some(self.local),
        }
    }

    fn is_own(&self) -> bool {
        !self.is_peer && self.reporter != Reporter::Waypoint
    }

    fn revision(&self) -> &'a [u8] {
        match self.workload().map(|workload| workload.revision.as_slice()) {
            Some(revision) if self.is_own() => revision,
            Some([]) | None if self.is_peer => LATEST,
            Some([]) | None => UNKNOWN,
            Some(revision) => revision,
        }
    }

    /// That of the certificate, before what the other side says of itself.
    fn namespace(&self) -> &'a [u8] {
        let said = self.of(|workload| &workload.namespace);
        if !self.is_peer {
            return said;
        }
        namespace(&self.known.peer_principal).unwrap_or(said)
    }

    fn principal(&self) -> &'a [u8] {
        match (self.is_peer, self.reporter) {
            (true, _) => known(&self.known.peer_principal),
            // The certificate of a waypoint is not that of the server.
            (false, Reporter::Waypoint) => UNKNOWN,
            (false, Reporter::Source | Reporter::Destination) => known(&self.known.local_principal),
        }
    }

    /// The service, or in its place the canonical one of a server that is known.
    fn service(&self, said: &'a [u8]) -> &'a [u8] {
        match (said, self.reporter) {
            ([], Reporter::Source) => UNKNOWN,
            ([], Reporter::Destination | Reporter::Waypoint) => {
                self.of(|workload| &workload.service)
            }
            (said, _) => said,
        }
    }
}

fn known(value: &[u8]) -> &[u8] {
    if value.is_empty() { UNKNOWN } else { value }
}

/// What stands after `/ns/` in an identity.
fn namespace(principal: &[u8]) -> Option<&[u8]> {
    const MARK: &[u8] = b"/ns/";
    let at = principal.windows(MARK.len()).position(|part| part == MARK)?;
    let rest = principal.get(at.saturating_add(MARK.len())..)?;
    rest.split(|byte| *byte == b'/').next().filter(|namespace| !namespace.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Workload {
        Workload {
            namespace: b"shop".to_vec(),
            name: b"web-v1".to_vec(),
            service: b"web".to_vec(),
            revision: b"v1".to_vec(),
            app: b"web".to_vec(),
            version: b"v1".to_vec(),
            cluster: b"east".to_vec(),
        }
    }

    fn check(known: &Known, reporter: Reporter, expected: &[&str; 20]) {
        let local = Workload { name: b"cart-v2".to_vec(), service: b"cart".to_vec(), ..web() };
        let told: Vec<String> = Field::ALL
            .iter()
            .filter_map(|field| known.value(*field, reporter, &local))
            .map(|value| String::from_utf8(value.into_owned()).unwrap())
            .collect();
        assert_eq!(told, *expected);
    }

    #[test]
    fn a_server_tells_of_a_client_that_it_does_not_know() {
        check(
            &Known::default(),
            Reporter::Destination,
            &[
                "destination",
                "unknown",
                "unknown",
                "latest",
                "unknown",
                "unknown",
                "unknown",
                "unknown",
                "unknown",
                "cart-v2",
                "shop",
                "unknown",
                "web",
                "v1",
                "cart",
                "cart",
                "v1",
                "cart",
                "shop",
                "east",
            ],
        );
    }

    #[test]
    fn the_certificate_of_a_client_says_more_than_the_client() {
        let known = Known {
            peer: Some(Workload { namespace: b"claimed".to_vec(), ..web() }),
            peer_principal: b"spiffe://acme/ns/proven/sa/web".to_vec(),
            local_principal: b"spiffe://acme/ns/shop/sa/cart".to_vec(),
            service: Service { host: b"cart.shop".to_vec(), name: b"cart".to_vec() },
            ..Known::default()
        };
        assert_eq!(known.security(Reporter::Destination), "mutual_tls");
        check(
            &known,
            Reporter::Destination,
            &[
                "destination",
                "web-v1",
                "web",
                "v1",
                "proven",
                "spiffe://acme/ns/proven/sa/web",
                "web",
                "v1",
                "east",
                "cart-v2",
                "shop",
                "spiffe://acme/ns/shop/sa/cart",
                "web",
                "v1",
                "cart.shop",
                "cart",
                "v1",
                "cart",
                "shop",
                "east",
            ],
        );
    }

    #[test]
    fn a_client_tells_of_its_server_by_the_endpoint() {
        let known = Known {
            peer: Workload::of_endpoint(b"pay-v3;money;pay;;west"),
            service: Service { host: b"pay.money".to_vec(), name: b"pay".to_vec() },
            ..Known::default()
        };
        assert_eq!(known.security(Reporter::Source), "unknown");
        check(
            &known,
            Reporter::Source,
            &[
                "source",
                "cart-v2",
                "cart",
                "v1",
                "shop",
                "unknown",
                "web",
                "v1",
                "east",
                "pay-v3",
                "money",
                "unknown",
                "unknown",
                "unknown",
                "pay.money",
                "pay",
                "latest",
                "pay",
                "money",
                "west",
            ],
        );
    }

    #[test]
    fn what_is_no_endpoint_is_nobody() {
        assert_eq!(Workload::of_endpoint(b"a;b;c"), None);
        assert_eq!(namespace(b"spiffe://acme/ns//sa/x"), None);
    }
}
