//! Properties: what the proxy knows of a request, a connection and itself.

use std::borrow::Cow;

use tollgate_abi::{Answer, Call, Reply, Status, property};

use super::header::Lines;
use super::{Scope, World};

/// The first segments under which Envoy knows properties. A path below one of them that is not
/// answered here is not served, rather than absent.
const KNOWN_ROOTS: &[&str] = &[
    "request",
    "response",
    "source",
    "destination",
    "connection",
    "connection_id",
    "upstream",
    "metadata",
    "filter_state",
    "upstream_filter_state",
    "xds",
];

/// What Envoy knows of a request and this host does not tell.
const UNSERVED_OF_REQUEST: &[&str] =
    &["duration", "headers", "headers_bytes", "size", "time", "total_size"];

/// What a connection has only with TLS.
const OF_TLS: &[&str] = &[
    "dns_san_local_certificate",
    "dns_san_peer_certificate",
    "peer_certificate",
    "sha256_peer_certificate_digest",
    "subject_local_certificate",
    "subject_peer_certificate",
    "tls_version",
    "uri_san_local_certificate",
    "uri_san_peer_certificate",
];

impl World {
    pub(super) fn property(&mut self, scope: &Scope, path: &[u8]) -> Reply {
        let segments: Vec<Cow<'_, str>> =
            property::split(path).map(String::from_utf8_lossy).collect();
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let value = match segments.as_slice() {
            ["plugin_name"] => self.plugin_of(scope).map(|plugin| plugin.name.clone().into()),
            ["plugin_root_id"] => self.plugin_of(scope).map(|plugin| plugin.root_id.clone().into()),
            ["plugin_vm_id"] => self.plugin_of(scope).map(|plugin| plugin.vm_id.clone()),
            ["request", name @ ("path" | "url_path" | "query" | "host" | "scheme" | "method")] => {
                self.request_line(scope, name)
            }
            ["xds", "cluster_name"] => self.at_stage(scope).map(|_| b"upstream".to_vec()),
            ["xds", "route_name"] => self.at_stage(scope).map(|_| b"route".to_vec()),
            ["xds", "virtual_host_name"] => self.at_stage(scope).map(|_| b"vhost".to_vec()),
            ["request", "protocol"] => self.at_stage(scope).map(|_| b"HTTP/1.1".to_vec()),
            ["request", "useragent"] => self.request_header(scope, "user-agent"),
            ["request", "referer"] => self.request_header(scope, "referer"),
            ["request", "id"] => self.request_header(scope, "x-request-id"),
            ["request", name] if !UNSERVED_OF_REQUEST.contains(name) => None,
            ["response", "code"] => self.response_code(scope),
            ["response", "headers", name] => {
                self.response_headers(scope).and_then(|lines| joined(lines, name))
            }
            // The connection of a client is without TLS here.
            ["connection", "requested_server_name"] => self.at_stage(scope).map(|_| Vec::new()),
            ["connection", name] if OF_TLS.contains(name) => None,
            ["connection", "mtls"] => self.at_stage(scope).map(|_| vec![0]),
            ["request", "headers", name] => self.request_header(scope, name),
            // As on Envoy: a whole object has no serialised form, nor has no path at all.
            [
                "" | "request" | "response" | "upstream" | "source" | "connection" | "xds"
                | "filter_state",
            ] => {
                return Reply::refused(
                    Status::SerializationFailure,
                    "this is an object; ask for a part",
                );
            }
            [root, ..] if KNOWN_ROOTS.contains(root) => {
                return self.unserved(&Call::GetProperty { path: path.to_vec() });
            }
            _ => None,
        };
        match value {
            Some(value) => Reply::Done(Answer::Bytes(value)),
            None => Reply::refused(Status::NotFound, "no such property here"),
        }
    }

    fn request_line(&self, scope: &Scope, name: &str) -> Option<Vec<u8>> {
        let lines = self.request_headers(scope)?;
        let path = || lines.first(b":path").unwrap_or_default();
        let question_mark = || path().iter().position(|&byte| byte == b'?');
        Some(match name {
            "path" => lines.first(b":path")?.to_vec(),
            "url_path" => path().get(..question_mark().unwrap_or(path().len()))?.to_vec(),
            "query" => match question_mark() {
                Some(at) => path().get(at + 1..)?.to_vec(),
                None => Vec::new(),
            },
            "host" => lines.first(b":authority")?.to_vec(),
            "scheme" => lines.first(b":scheme")?.to_vec(),
            _ => lines.first(b":method")?.to_vec(),
        })
    }

    fn request_header(&self, scope: &Scope, name: &str) -> Option<Vec<u8>> {
        self.request_headers(scope).and_then(|lines| joined(lines, name))
    }

    /// The status of the response as 64 bits, from its headers on.
    fn response_code(&self, scope: &Scope) -> Option<Vec<u8>> {
        let (stream, _) = self.at_stage(scope)?;
        let status = str::from_utf8(stream.response.headers.first(b":status")?).ok()?;
        Some(status.parse::<u64>().ok()?.to_le_bytes().to_vec())
    }

    fn response_headers(&self, scope: &Scope) -> Option<&Lines> {
        let (stream, stage) = self.at_stage(scope)?;
        (stage.logging || stage.response.headers_visible).then_some(&stream.response.headers)
    }

    fn request_headers(&self, scope: &Scope) -> Option<&Lines> {
        let (stream, stage) = self.at_stage(scope)?;
        (stage.logging || stage.request.headers_visible).then_some(&stream.request.headers)
    }
}

/// All lines of a header, joined by commas.
fn joined(lines: &Lines, name: &str) -> Option<Vec<u8>> {
    let name = name.to_ascii_lowercase();
    let values: Vec<&[u8]> = lines
        .0
        .iter()
        .filter(|(line, _)| line == name.as_bytes())
        .map(|(_, value)| value.as_slice())
        .collect();
    (!values.is_empty()).then(|| values.join(&b","[..]))
}
