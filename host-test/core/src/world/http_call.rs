//! Callouts over HTTP, as a guest makes them.

use std::time::Duration;

use tollgate_abi::{Reply, Serialized, Status};

use super::callout::{Kind, NewFlight, Part, lines, mark_internal};
use super::{Scope, World};
use crate::clip::clip;

/// The longest timeout: Envoy reads the number as signed.
const LONGEST_TIMEOUT: u32 = i32::MAX.unsigned_abs();

impl World {
    pub(super) fn http_call(
        &mut self,
        scope: &Scope,
        cluster: &[u8],
        headers: &Serialized,
        body: &[u8],
        timeout_millis: u32,
    ) -> Reply {
        if timeout_millis > LONGEST_TIMEOUT {
            let why = format!("timeout {timeout_millis} ms is above {LONGEST_TIMEOUT} ms");
            return Reply::refused(Status::BadArgument, why);
        }
        if !self.knows_cluster(cluster) {
            return Reply::refused(Status::BadArgument, self.unknown_cluster(cluster));
        }
        let mut headers = lines(headers);
        let needed = [&b":path"[..], b":method", b":authority"];
        if let Some(missing) = needed.into_iter().find(|name| headers.first(name).is_none()) {
            let why =
                format!("missing {}: the headers of a callout need it", missing.escape_ascii());
            return Reply::refused(Status::BadArgument, why);
        }
        let mut outbox = Vec::new();
        if !body.is_empty() {
            headers.set(b"content-length", body.len().to_string().as_bytes());
            outbox.push(Part::Body(body.to_vec()));
        }
        outbox.push(Part::End);
        // The trailers that a guest gives are never sent, as on Envoy.
        let timeout =
            (timeout_millis > 0).then(|| Duration::from_millis(u64::from(timeout_millis)));
        mark_internal(&mut headers, timeout);
        let cluster = String::from_utf8_lossy(cluster).into_owned();
        self.take_off(scope, NewFlight { kind: Kind::Http, cluster, headers, outbox, timeout })
    }

    pub(super) fn unknown_cluster(&self, name: &[u8]) -> String {
        let known = clip(&self.callouts.clusters.join(", "));
        format!("unknown cluster `{}`, declared: {known}", clip(&name.escape_ascii()))
    }
}
