//! Properties of the connections on both sides, and of the proxy's configuration.
//!
//! The addresses of connections are made up: those of a real proxy change from run to run. To the upstream
//! there is no TLS.
//!
//! Source: Envoy, `source/extensions/filters/common/expr/context.cc`; checked on Envoy 1.40.

use std::net::SocketAddr;

use super::message::nanos;
use super::value::{Message, Value};
use crate::scenario::TrafficDirection;
use crate::tls::{Certificate, Secured};
use crate::world::World;
use crate::world::notes::Notes;
use crate::world::stream::Stream;

/// Where the proxy listens.
const LISTENER_PORT: u16 = 10_000;
/// Where the upstream listens.
const UPSTREAM_PORT: u16 = 8_080;
/// The port of the first connection of a client.
const FIRST_CLIENT_PORT: u16 = 50_000;
/// The port of the first connection to the upstream.
const FIRST_LOCAL_PORT: u16 = 60_000;

/// The number of the client's connection.
pub(super) fn id(notes: &Notes) -> u64 {
    notes.connection
}

/// A property of the client. As on Envoy without `use_remote_address`: the last address that the request
/// says it was forwarded for is believed.
pub(super) fn source<'a>(notes: &Notes, name: &[u8]) -> Option<Value<'a>> {
    match (name, notes.forwarded) {
        (b"address", Some(ip)) => {
            Some(Value::Text(SocketAddr::new(ip, 0).to_string().into_bytes()))
        }
        (b"port", Some(_)) => Some(Value::Int(0)),
        (name, _) => peer(numbered(FIRST_CLIENT_PORT, notes), name),
    }
}

/// A property of the address that the client spoke to.
pub(super) fn destination<'a>(name: &[u8]) -> Option<Value<'a>> {
    peer(LISTENER_PORT, name)
}

/// A property of the client's connection.
pub(super) fn downstream<'a>(notes: &Notes, name: &[u8]) -> Option<Value<'a>> {
    let tls = notes.tls.as_deref();
    match name {
        b"id" => Some(Value::Uint(id(notes))),
        b"mtls" => Some(Value::Bool(tls.is_some_and(|tls| tls.peer.is_some()))),
        b"requested_server_name" => {
            let asked = tls.and_then(|tls| tls.server_name.as_deref());
            Some(text(asked.unwrap_or_default()))
        }
        name => secured(tls?, name),
    }
}

/// A property that only a connection with TLS has. As on Envoy: of several names, the first one.
fn secured<'a>(tls: &Secured, name: &[u8]) -> Option<Value<'a>> {
    let peer = tls.peer.as_deref();
    Some(match name {
        b"tls_version" => text(&tls.tell_version().to_string()),
        b"subject_local_certificate" => text(tls.local.subject()),
        b"subject_peer_certificate" => text(peer.map_or("", Certificate::subject)),
        b"dns_san_local_certificate" => text(tls.local.dns().first()?),
        b"dns_san_peer_certificate" => text(peer?.dns().first()?),
        b"uri_san_local_certificate" => text(tls.local.uris().first()?),
        b"uri_san_peer_certificate" => text(peer?.uris().first()?),
        b"sha256_peer_certificate_digest" => text(peer?.digest()),
        b"peer_certificate" => text(&peer?.pem()),
        b"peer_certificate_valid" => Value::Bool(tls.peer_is_valid),
        _ => return None,
    })
}

/// A property of the upstream. There is one from when the router has the request.
pub(super) fn upstream<'a>(stream: &Stream, name: &[u8]) -> Option<Value<'a>> {
    let notes = &stream.notes;
    let is_tcp = stream.connection.is_some();
    match name {
        b"num_endpoints" if !notes.is_unroutable => Some(Value::Uint(1)),
        b"request_attempt_count" => Some(Value::Uint(notes.is_routed.into())),
        b"local_address" => notes.connected.map(|_| address(numbered(FIRST_LOCAL_PORT, notes))),
        b"cx_pool_ready_duration" => {
            notes.connected.map(|at| Value::Int(nanos(at.saturating_sub(notes.began))))
        }
        b"transport_failure_reason" if is_tcp => Some(Value::Text(Vec::new())),
        _ if !notes.is_routed => None,
        b"transport_failure_reason" => Some(Value::Text(Vec::new())),
        b"locality" => Some(Value::Message(Message::Locality)),
        name => peer(UPSTREAM_PORT, name),
    }
}

impl World {
    /// A property of the configuration; without a stream only what the proxy is itself.
    pub(super) fn xds(&self, stream: Option<&Stream>, name: &[u8]) -> Option<Value<'_>> {
        let proxy = &self.proxy;
        let text = |text: &str| Value::Text(text.as_bytes().to_vec());
        let metadata = |metadata| Value::Message(Message::Metadata(metadata));
        let stream = match (name, stream) {
            (b"node", _) => return Some(Value::Message(Message::Node(&proxy.node))),
            (_, stream) => stream?,
        };
        let notes = &stream.notes;
        let is_tcp = stream.connection.is_some();
        Some(match name {
            b"filter_chain_name" => text(""),
            b"listener_metadata" => metadata(&proxy.listener.metadata),
            b"listener_direction" => Value::Int(match proxy.listener.direction {
                TrafficDirection::Unspecified => 0,
                TrafficDirection::Inbound => 1,
                TrafficDirection::Outbound => 2,
            }),
            // As on Envoy: an endpoint without metadata has nothing there, rather than an empty message.
            b"upstream_host_metadata" if notes.is_routed => match &proxy.endpoint.metadata {
                none if none.0.is_empty() => Value::Null,
                some => metadata(some),
            },
            b"upstream_host_locality_metadata" if notes.is_routed => Value::Null,
            b"virtual_host_name" | b"virtual_host_metadata" | b"route_name" | b"route_metadata"
                if is_tcp =>
            {
                return None;
            }
            b"virtual_host_name" => text(&proxy.virtual_host.name),
            b"virtual_host_metadata" => metadata(&proxy.virtual_host.metadata),
            _ if notes.is_unroutable => return None,
            b"route_name" => text(self.route_of(stream).0),
            b"route_metadata" => metadata(self.route_of(stream).1),
            b"cluster_name" => text(self.cluster_of(stream)?.0),
            b"cluster_metadata" => metadata(self.cluster_of(stream)?.1),
            _ => return None,
        })
    }
}

fn peer<'a>(port: u16, name: &[u8]) -> Option<Value<'a>> {
    match name {
        b"address" => Some(address(port)),
        b"port" => Some(Value::Int(port.into())),
        _ => None,
    }
}

fn text<'a>(text: &str) -> Value<'a> {
    Value::Text(text.as_bytes().to_vec())
}

fn address<'a>(port: u16) -> Value<'a> {
    Value::Text(format!("127.0.0.1:{port}").into_bytes())
}

fn numbered(first: u16, notes: &Notes) -> u16 {
    let before = notes.connection.saturating_sub(1);
    u16::try_from(before).map_or(first, |before| first.saturating_add(before))
}
