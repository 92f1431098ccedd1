//! The route of a request: chosen when it comes, and anew once a guest has had it forgotten.
//!
//! Source: Envoy, `ActiveStream::refreshCachedRoute`; a change of the request headers by a guest has the
//! route forgotten, as does `clear_route_cache`.

use std::collections::BTreeMap;

use super::stream::Stream;
use super::{Scope, World};
use crate::scenario::{Destination, Metadata};

const NO_METADATA: &Metadata = &Metadata(BTreeMap::new());

/// The route that was chosen, and the cluster that it led to.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// Its place among those before the last; none for the last one.
    place: Option<usize>,
    cluster: Vec<u8>,
}

impl World {
    /// The route that a stream takes as it is now.
    pub(crate) fn choose_route(&self, stream: &Stream) -> Chosen {
        let headers = &stream.request.headers;
        let place = self.proxy.routes.iter().position(|route| {
            // As on Envoy: one of several lines is enough.
            let has = |(name, value): &(String, String)| {
                headers.0.iter().any(|line| {
                    (line.0.as_slice(), line.1.as_slice()) == (name.as_bytes(), value.as_bytes())
                })
            };
            let keeps = |(name, value): &(String, String)| {
                stream.state.text(name.as_bytes()) == Some(value.as_bytes())
            };
            route.headers.iter().all(has) && route.filter_state.iter().all(keeps)
        });
        let route = place.and_then(|place| self.proxy.routes.get(place));
        let cluster = match route.map(|route| &route.to) {
            None => self.proxy.cluster.name.clone().into(),
            Some(Destination::Cluster(name)) => name.clone().into(),
            Some(Destination::ClusterHeader(name)) => {
                headers.first(name.as_bytes()).unwrap_or_default().to_vec()
            }
            Some(Destination::Weighted { header, clusters }) => {
                let drawn = headers.first(header.as_bytes());
                let drawn = drawn.and_then(|text| str::from_utf8(text).ok()?.parse().ok());
                // Without a number Envoy draws one at random.
                weighed(clusters, drawn.unwrap_or(0)).unwrap_or_default().into()
            }
        };
        Chosen { place, cluster }
    }

    /// Has the route of the stream that the guest acts on chosen anew, if there is a stream.
    pub(super) fn forget_route(&mut self, scope: &Scope) {
        if let Some((stream, _)) = self.at_stage_mut(scope) {
            stream.notes.route_is_forgotten = true;
        }
    }

    /// The name and the metadata of the route that was chosen last.
    pub(super) fn route_of(&self, stream: &Stream) -> (&str, &Metadata) {
        let place = stream.notes.route.as_ref().and_then(|chosen| chosen.place);
        match place.and_then(|place| self.proxy.routes.get(place)) {
            Some(route) => (&route.name, NO_METADATA),
            None => (&self.proxy.route.name, &self.proxy.route.metadata),
        }
    }

    /// The name and the metadata of the cluster that it leads to, if there is one.
    pub(crate) fn cluster_of(&self, stream: &Stream) -> Option<(&str, &Metadata)> {
        let own = &self.proxy.cluster;
        let Some(Chosen { cluster, .. }) = &stream.notes.route else {
            return Some((&own.name, &own.metadata));
        };
        if own.name.as_bytes() == cluster {
            return Some((&own.name, &own.metadata));
        }
        let name = self.proxy.clusters.iter().find(|name| name.as_bytes() == cluster)?;
        Some((name, NO_METADATA))
    }
}

fn weighed(clusters: &[(String, u32)], drawn: u64) -> Option<String> {
    let total = clusters.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut rest = drawn.checked_rem(total)?;
    for (name, weight) in clusters {
        match rest.checked_sub(u64::from(*weight)) {
            Some(less) => rest = less,
            None => return Some(name.clone()),
        }
    }
    None
}
