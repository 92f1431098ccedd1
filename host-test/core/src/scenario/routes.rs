//! Routes that are tried before the last one, which takes what no other does, and the clusters that they
//! lead to.

use serde::Deserialize;

use super::configured::Configured;

/// A route, and which requests take it: all that it says has to hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct RouteRule {
    /// Its name.
    pub name: String,
    /// Headers by name, each with the exact value that one of its lines has to have.
    pub headers: Vec<(String, String)>,
    /// Objects of the filter state by name, each with its exact text.
    pub filter_state: Vec<(String, String)>,
    /// Where it leads.
    pub to: Destination,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To this cluster.
    Cluster(String),
    /// To the cluster that this header names.
    ClusterHeader(String),
    /// To the cluster in whose weight the number in this header lies.
    Weighted {
        /// The header.
        header: String,
        /// The clusters, each with its weight.
        clusters: Vec<(String, u32)>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    filter_state: Vec<(String, String)>,
    cluster: Option<String>,
    cluster_header: Option<String>,
    weighted: Option<Weighted>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weighted {
    header: String,
    clusters: Vec<(String, u32)>,
}

impl TryFrom<Written> for RouteRule {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { name, headers, filter_state, cluster, cluster_header, weighted } = written;
        let to = match (cluster, cluster_header, weighted) {
            (Some(cluster), None, None) => Destination::Cluster(cluster),
            (None, Some(header), None) => Destination::ClusterHeader(header),
            (None, None, Some(Weighted { header, clusters })) => {
                if clusters.iter().all(|(_, weight)| *weight == 0) {
                    return Err(format!("route {name}: no cluster has a weight above 0"));
                }
                Destination::Weighted { header, clusters }
            }
            _ => {
                let one = "write exactly one of `cluster`, `cluster_header` and `weighted`";
                return Err(format!("route {name}: {one}"));
            }
        };
        Ok(Self { name, headers, filter_state, to })
    }
}

impl Configured {
    /// Whether requests can be routed to a cluster of this name.
    pub fn has_cluster(&self, name: &str) -> bool {
        self.cluster.name == name || self.clusters.iter().any(|cluster| cluster == name)
    }

    /// Checks that routes lead to clusters that there are.
    pub(super) fn check_routes(&self) -> Result<(), String> {
        for (index, route) in self.routes.iter().enumerate() {
            let named: Vec<&String> = match &route.to {
                Destination::Cluster(cluster) => vec![cluster],
                Destination::ClusterHeader(_) => Vec::new(),
                Destination::Weighted { clusters, .. } => {
                    clusters.iter().map(|(cluster, _)| cluster).collect()
                }
            };
            if let Some(unknown) = named.into_iter().find(|cluster| !self.has_cluster(cluster)) {
                return Err(format!(
                    "proxy.routes[{index}]: `{unknown}` is not a cluster; add it to `proxy.clusters`"
                ));
            }
        }
        Ok(())
    }
}
