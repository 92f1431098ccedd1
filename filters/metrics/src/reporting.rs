//! Who reports, and what it can find out about the other side: what Istio's labels are told from.

use std::cell::{OnceCell, RefCell};

use tollgate::Root;
use tollgate::attributes::{connection, upstream, xds};

use crate::config::Policy;
use crate::istio::{Known, Reporter, Service, Workload};
use crate::label::{Label, Source};
use crate::observed::{Reads, View};

/// The direction of a listener that takes what is for the own workload.
const INBOUND: i64 = 1;
/// How many clusters are known by their services. Most proxies of a workload see fewer.
const MOST_CLUSTERS: usize = 64;

/// Who reports.
#[derive(Debug)]
pub(crate) struct Reporting {
    /// As the policy says, or as the first stream has shown: listeners have one direction.
    reporter: OnceCell<Reporter>,
    pub(crate) local: Workload,
    /// The service of each cluster that was seen.
    services: RefCell<Vec<(Vec<u8>, Option<Service>)>>,
}

impl Reporting {
    /// What the proxy says of itself, while it is configured; `None` when no label tells of it.
    pub(crate) fn of(policy: &Policy, root: &Root) -> Option<Self> {
        let is_istio = |label: &Label| matches!(label.source, Source::Istio(_));
        if !policy.labels().iter().any(is_istio) {
            return None;
        }
        let node = |path: &[&str]| {
            let path = [&["xds", "node", "metadata"], path].concat();
            root.property(&path).ok().flatten().unwrap_or_default()
        };
        let local = Workload {
            namespace: node(&["NAMESPACE"]),
            name: node(&["WORKLOAD_NAME"]),
            service: node(&["LABELS", "service.istio.io/canonical-name"]),
            revision: node(&["LABELS", "service.istio.io/canonical-revision"]),
            app: node(&["LABELS", "app"]),
            version: node(&["LABELS", "version"]),
            cluster: node(&["CLUSTER_ID"]),
        };
        let reporter = policy.reporter.map(OnceCell::from).unwrap_or_default();
        Some(Self { reporter, local, services: RefCell::default() })
    }

    /// Who reports.
    pub(crate) fn reporter(&self, reads: &Reads) -> Reporter {
        let by_direction = || match reads.of(&xds::LISTENER_DIRECTION) {
            Some(INBOUND) => Reporter::Destination,
            Some(_) | None => Reporter::Source,
        };
        *self.reporter.get_or_init(by_direction)
    }

    /// Reads what is known of a request.
    pub(crate) fn read(&self, view: &View<'_>) -> Known {
        let reads = view.reads;
        let service = self.service(view.policy, reads, view.authority);
        let mut known = Known { service, ..Known::default() };
        let reporter = self.reporter(reads);
        match reporter {
            Reporter::Source => {
                known.peer = peer(reads, view.upstream_state(), "upstream_peer").or_else(|| {
                    let path =
                        ["xds", "upstream_host_metadata", "filter_metadata", "istio", "workload"];
                    Workload::of_endpoint(&reads.text(&path))
                });
                known.peer_principal = text(reads.of(&upstream::FIRST_URI_SAN_OF_PEER));
                known.local_principal = text(reads.of(&upstream::FIRST_URI_SAN_OF_LOCAL));
            }
            Reporter::Destination | Reporter::Waypoint => {
                known.peer = peer(reads, "filter_state", "downstream_peer");
                if reporter == Reporter::Waypoint {
                    known.endpoint = peer(reads, view.upstream_state(), "upstream_peer");
                }
                known.peer_principal = text(reads.of(&connection::FIRST_URI_SAN_OF_PEER));
                if known.peer_principal.is_empty() {
                    // Behind a tunnel the certificate is that of the tunnel.
                    known.peer_principal = reads.text(&["filter_state", "io.istio.peer_principal"]);
                    known.local_principal =
                        reads.text(&["filter_state", "io.istio.local_principal"]);
                }
                if known.local_principal.is_empty() {
                    known.local_principal = text(reads.of(&connection::FIRST_URI_SAN_OF_LOCAL));
                }
            }
        }
        known
    }

    /// The service that was asked for: that of the cluster, else the host if it may stand for it.
    fn service(&self, policy: &Policy, reads: &Reads, authority: &[u8]) -> Service {
        let host = if policy.host_fallback { authority.to_vec() } else { Vec::new() };
        let by_host = |name: &[u8]| Service { host: host.clone(), name: name.to_vec() };
        match text(reads.of(&xds::ROUTE_NAME)).as_slice() {
            b"block_all" => return by_host(b"BlackHoleCluster"),
            b"allow_any" => return by_host(b"PassthroughCluster"),
            _ => {}
        }
        let cluster = text(reads.of(&xds::CLUSTER_NAME));
        match cluster.as_slice() {
            b"" => return by_host(&host),
            b"BlackHoleCluster"
            | b"PassthroughCluster"
            | b"InboundPassthroughCluster"
            | b"InboundPassthroughClusterIpv4"
            | b"InboundPassthroughClusterIpv6" => return by_host(&cluster),
            _ => {}
        }
        let mut services = self.services.borrow_mut();
        if let Some((_, known)) = services.iter().find(|(known, _)| *known == cluster) {
            return known.clone().unwrap_or_else(|| by_host(&host));
        }
        let said = |key: &str| {
            reads.text(&[
                "xds",
                "cluster_metadata",
                "filter_metadata",
                "istio",
                "services",
                "0",
                key,
            ])
        };
        let found = Some(said("host")).filter(|host| !host.is_empty()).map(|host| {
            let name = Some(said("name")).filter(|name| !name.is_empty()).unwrap_or_else(|| {
                host.split(|byte| *byte == b'.').next().unwrap_or_default().to_vec()
            });
            Service { host, name }
        });
        if services.len() < MOST_CLUSTERS {
            services.push((cluster, found.clone()));
        }
        found.unwrap_or_else(|| by_host(&host))
    }
}

fn text(text: Option<tollgate::attributes::Text>) -> Vec<u8> {
    text.map(tollgate::attributes::Text::into_bytes).unwrap_or_default()
}

/// The other side, as its proxy has told ours. Every workload has a namespace.
fn peer(reads: &Reads, state: &str, object: &str) -> Option<Workload> {
    let part = |name: &str| reads.text(&[state, object, name]);
    let namespace = Some(part("namespace")).filter(|namespace| !namespace.is_empty())?;
    Some(Workload {
        namespace,
        name: part("workload"),
        service: part("service"),
        revision: part("revision"),
        app: part("app"),
        version: part("version"),
        cluster: part("cluster"),
    })
}
