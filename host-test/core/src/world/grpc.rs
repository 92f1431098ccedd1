//! Callouts over gRPC, as a guest makes them.

use std::time::Duration;

use tollgate_abi::{Callback, Reply, Serialized, Status};

use super::callout::{FailedAtOnce, Flight, Kind, NewFlight, Part, lines, mark_internal};
use super::header::Lines;
use super::inline::Inline;
use super::service::{self, Service};
use super::{Link, Scope, World};
use crate::limits::Bounded;

/// Where a callout goes: cluster or serialised service, name of the service, method.
type To<'a> = (&'a [u8], &'a [u8], &'a [u8]);

impl World {
    pub(super) fn grpc_call(
        &mut self,
        scope: &Scope,
        to: To<'_>,
        metadata: &Serialized,
        message: &[u8],
        timeout_millis: u32,
    ) -> Reply {
        let timeout = Duration::from_millis(u64::from(timeout_millis));
        let outbox = vec![Part::Message(message.to_vec()), Part::End];
        self.open(scope, to, metadata, Some(timeout), outbox)
    }

    pub(super) fn grpc_stream(
        &mut self,
        scope: &Scope,
        to: To<'_>,
        metadata: &Serialized,
    ) -> Reply {
        self.open(scope, to, metadata, None, Vec::new())
    }

    fn open(
        &mut self,
        scope: &Scope,
        (upstream, service, method): To<'_>,
        metadata: &Serialized,
        timeout: Option<Duration>,
        outbox: Vec<Part>,
    ) -> Reply {
        let kind = if timeout.is_some() { Kind::GrpcCall } else { Kind::GrpcStream };
        let found = match service::parse(upstream) {
            Some(service) => service,
            None if self.knows_cluster(upstream) => Service::of_cluster(upstream),
            None => return Reply::refused(Status::ParseFailure, self.unknown_cluster(upstream)),
        };
        let Some(cluster) = found.cluster else {
            let what = "a gRPC callout through Google's client";
            self.unserved.get_or_insert_with(|| what.into());
            return Reply::refused(
                Status::Unimplemented,
                "this host does not serve Google's client",
            );
        };
        if !self.knows_cluster(&cluster) {
            let owner = self.owner(scope);
            let token = self.callouts.next_token(owner.vm, kind);
            if self.callouts.failed_at_once.len() == self.limits.messages_at_once {
                let beyond = self.limits.exceeded(Bounded::messages_at_once);
                let why = format!("too many callouts that failed in one callback, {beyond}");
                return Reply::Trap { why: why.into() };
            }
            self.callouts.failed_at_once.push_back(FailedAtOnce { owner, token });
            return Reply::refused(Status::InternalFailure, self.unknown_cluster(&cluster));
        }
        let authority = found.authority.unwrap_or_else(|| cluster.clone());
        let path = [b"/", service, b"/", method].concat();
        let mut headers = Lines::default();
        headers.add(b":method", b"POST");
        headers.add(b":path", path);
        headers.add(b":authority", authority);
        headers.add(b":scheme", b"http");
        headers.add(b"te", b"trailers");
        if let Some(timeout) = timeout {
            headers.add(b"grpc-timeout", grpc_timeout(timeout).as_bytes());
        }
        headers.add(b"content-type", b"application/grpc");
        for (name, value) in found.metadata.iter().chain(&lines(metadata).0) {
            headers.append(name.as_slice(), value.as_slice(), Inline::Request);
        }
        let timeout = timeout.filter(|timeout| !timeout.is_zero());
        mark_internal(&mut headers, timeout);
        let cluster = String::from_utf8_lossy(&cluster).into_owned();
        self.take_off(scope, NewFlight { kind, cluster, headers, outbox, timeout })
    }

    pub(super) fn grpc_send(
        &mut self,
        scope: &Scope,
        token: u32,
        message: &[u8],
        end_of_stream: bool,
    ) -> Reply {
        if Kind::of(token) != Some(Kind::GrpcStream) {
            return not_of_grpc(token);
        }
        self.notice_late(scope, token);
        let owner = self.owner(scope);
        if self.flight_mut(owner, token).is_none() {
            return unknown(token);
        }
        let part = Part::Message(message.to_vec());
        let kept_bytes = part.size_bytes();
        if let Err(trap) = self.keep(kept_bytes) {
            return trap;
        }
        let Some(flight) = self.flight_mut(owner, token) else {
            return unknown(token);
        };
        flight.kept_bytes = flight.kept_bytes.saturating_add(kept_bytes);
        // As on Envoy: what comes after the last message is not sent, without an error.
        if !flight.is_sent && !flight.closed {
            flight.outbox.push_back(part);
            if end_of_stream {
                flight.outbox.push_back(Part::End);
                flight.is_sent = true;
            }
        }
        Reply::OK
    }

    pub(super) fn grpc_close(&mut self, scope: &Scope, token: u32) -> Reply {
        if Kind::of(token) != Some(Kind::GrpcStream) {
            return self.grpc_cancel(scope, token);
        }
        self.notice_late(scope, token);
        let owner = self.owner(scope);
        let Some(flight) = self.flight_mut(owner, token) else {
            return unknown(token);
        };
        if !std::mem::replace(&mut flight.is_sent, true) && !flight.closed {
            flight.outbox.push_back(Part::End);
        }
        flight.closed_by_guest = true;
        if flight.closed {
            self.land(owner, token);
        }
        Reply::OK
    }

    pub(super) fn grpc_cancel(&mut self, scope: &Scope, token: u32) -> Reply {
        if !matches!(Kind::of(token), Some(Kind::GrpcCall | Kind::GrpcStream)) {
            return not_of_grpc(token);
        }
        let owner = self.owner(scope);
        if self.flight_mut(owner, token).is_none() {
            return unknown(token);
        }
        self.land(owner, token);
        Reply::OK
    }

    /// The guest sends on a stream that it holds open, while it is told of the other side's trailers.
    fn notice_late(&mut self, scope: &Scope, token: u32) {
        let owner = self.owner(scope);
        let is_open = self.flight_mut(owner, token).is_some_and(|flight| !flight.is_sent);
        let is_told = matches!(
            &scope.callback,
            Some(Callback::GrpcReceiveTrailingMetadata { token: told, .. }) if *told == token
        );
        if is_open && is_told {
            self.harm.get_or_insert_with(|| {
                "the guest sent or closed in proxy_on_grpc_receive_trailing_metadata of an open \
                 stream: Envoy 1.40 calls it back in the midst of that call"
                    .into()
            });
        }
    }

    fn flight_mut(&mut self, owner: Link, token: u32) -> Option<&mut Flight> {
        let mut flights = self.callouts.flights.iter_mut();
        flights.find(|flight| flight.owner == owner && flight.token == token)
    }

    fn land(&mut self, owner: Link, token: u32) {
        self.retain_flights(|flight| flight.owner != owner || flight.token != token);
    }
}

/// A timeout as Envoy writes it: at most eight digits and a unit.
fn grpc_timeout(timeout: Duration) -> String {
    let (millis, seconds) = (timeout.as_millis(), timeout.as_secs());
    if millis > MOST_OF_A_UNIT { format!("{seconds}S") } else { format!("{millis}m") }
}

const MOST_OF_A_UNIT: u128 = 99_999_999;

fn not_of_grpc(token: u32) -> Reply {
    Reply::refused(Status::BadArgument, format!("{token} is not a token of such a callout"))
}

fn unknown(token: u32) -> Reply {
    Reply::refused(Status::NotFound, format!("no callout under way has the token {token}"))
}
