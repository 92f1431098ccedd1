//! The first argument of a gRPC callout: a serialised `GrpcService` of Envoy, or the name of a cluster.
//!
//! Envoy tries the first, and whatever happens to be readable as a message of protobuf is taken for one.
//! Of the service, what changes the call is read; retries and Google's client are not.

use super::protobuf::{Value, fields};
use crate::scenario::HeaderLine;

/// Where a gRPC callout goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Service {
    /// The cluster; none when the service is not one of Envoy's own gRPC client.
    pub(super) cluster: Option<Vec<u8>>,
    /// The authority of the request, where it is not the cluster.
    pub(super) authority: Option<Vec<u8>>,
    /// Initial metadata that the service adds.
    pub(super) metadata: Vec<HeaderLine>,
}

impl Service {
    pub(super) fn of_cluster(name: &[u8]) -> Self {
        Self { cluster: Some(name.to_vec()), ..Self::default() }
    }
}

/// Reads a `GrpcService`; nothing when the bytes are no message at all.
///
/// Source: `envoy/config/core/v3/grpc_service.proto`.
pub(super) fn parse(bytes: &[u8]) -> Option<Service> {
    let mut service = Service::default();
    for (number, value) in fields(bytes)? {
        let Value::Bytes(value) = value else { continue };
        match number {
            // envoy_grpc { cluster_name = 1, authority = 2 }
            1 => {
                service.cluster.get_or_insert_default();
                for (number, value) in fields(value)? {
                    match (number, value) {
                        (1, Value::Bytes(name)) => service.cluster = Some(name.to_vec()),
                        (2, Value::Bytes(name)) if !name.is_empty() => {
                            service.authority = Some(name.to_vec());
                        }
                        _ => {}
                    }
                }
            }
            // initial_metadata { key = 1, value = 2 }
            5 => {
                let mut line = HeaderLine::default();
                for (number, value) in fields(value)? {
                    match (number, value) {
                        (1, Value::Bytes(name)) => line.0 = name.to_ascii_lowercase(),
                        (2, Value::Bytes(value)) => line.1 = value.to_vec(),
                        _ => {}
                    }
                }
                service.metadata.push(line);
            }
            _ => {}
        }
    }
    Some(service)
}

/// Whether Envoy crashes on these bytes: they are a service that names no client at all, as no bytes are.
pub(super) fn is_deadly(bytes: &[u8]) -> bool {
    let names_client =
        |(number, value): &(u64, Value<'_>)| matches!((number, value), (1 | 2, Value::Bytes(_)));
    fields(bytes).is_some_and(|fields| !fields.iter().any(names_client)) && parse(bytes).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cluster and authority.
    type Names<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

    #[test]
    fn a_service_is_read_and_a_name_is_not() {
        let check = |bytes: &[u8], expected: Option<Names<'_>>| {
            let got = parse(bytes).map(|service| (service.cluster, service.authority));
            let expected = expected.map(|(cluster, authority)| {
                (cluster.map(<[u8]>::to_vec), authority.map(<[u8]>::to_vec))
            });
            assert_eq!(got, expected, "{}", bytes.escape_ascii());
        };
        check(b"limits", None);
        check(b"upstream", None);
        check(b"\x0a\x08\x0a\x06limits", Some((Some(b"limits"), None)));
        check(b"\x0a\x0b\x0a\x06limits\x12\x01h", Some((Some(b"limits"), Some(b"h"))));
        check(b"", Some((None, None)));
        check(b"\x0a\x00", Some((Some(b""), None)));
        check(b"\x12\x00", Some((None, None)));
        check(b"\x0a\x08\x0a\x06limit", None);
    }

    #[test]
    fn a_service_without_a_client_is_deadly() {
        let check = |bytes: &[u8], expected| assert_eq!(is_deadly(bytes), expected, "{bytes:?}");
        check(b"", true);
        check(b"\x08\x01", true);
        check(b"\x0a\x00", false);
        check(b"\x12\x00", false);
        check(b"limits", false);
    }

    #[test]
    fn a_service_may_add_metadata() {
        let service = parse(b"\x0a\x03\x0a\x01a\x2a\x06\x0a\x01K\x12\x01v").unwrap();
        assert_eq!(service.metadata, [(b"k".to_vec(), b"v".to_vec())]);
    }
}
