//! The table of attributes: each of Envoy 1.40 stands here, once.
//!
//! A row is its constant, its type, the segments of its path, and the name by which hosts before Envoy
//! 1.33 know it, if it had another. The names of constants say what the value is, where the host's own
//! name says more than it holds.

use std::time::Duration;

use super::value::{Address, Message, Metadata, Text, Timestamp};
use super::{Attribute, InvalidSegment, Value};
use crate::headers::Headers;

/// Makes constants of rows. What a family has after the `+` are attributes that take a name.
macro_rules! families {
    ($( $(#[$about:meta])* $family:ident { $( $(#[$doc:meta])* $name:ident: $type:ty = $first:literal $(. $rest:literal)* $(, older $older:literal)?; )* } $( + { $($more:item)* } )? )*) => {
        $(
            $(#[$about])*
            pub mod $family {
                use super::*;

                $(
                    #[doc = concat!("`", $first $(, ".", $rest)*, "`.")]
                    ///
                    $(#[$doc])*
                    pub static $name: Attribute<$type> =
                        Attribute::fixed(concat!($first $(, "\0", $rest)*), families!(@ $($older)?));
                )*

                $( $($more)* )?
            }
        )*

        /// The name and the type of every row.
        #[cfg(test)]
        fn rows() -> Vec<(String, super::Kind)> {
            vec![$( $( ($family::$name.name(), <$type as Value>::KIND), )* )*]
        }
    };
    (@) => { None };
    (@ $older:literal) => { Some($older) };
}

families! {
    /// The request.
    ///
    /// Its lines are those that the filter sees: they can be read while the filter holds the request
    /// headers, that is in `on_request_headers` and until it goes on, and again when the stream is logged;
    /// in between they are absent. What a later phase needs belongs into a [`Snapshot`](super::Snapshot).
    request {
        /// The path with its query. While the request headers are held, and in the log.
        PATH: Text = "request"."path";
        /// The path without its query. While the request headers are held, and in the log.
        URL_PATH: Text = "request"."url_path";
        /// The query, without the question mark and up to a `#`; empty when there is none. While the
        /// request headers are held, and in the log.
        QUERY: Text = "request"."query";
        /// The host, and perhaps port, that the request is for. While the request headers are held, and
        /// in the log.
        HOST: Text = "request"."host";
        /// `http` or `https`. While the request headers are held, and in the log.
        SCHEME: Text = "request"."scheme";
        /// The method. While the request headers are held, and in the log.
        METHOD: Text = "request"."method";
        /// All headers: a name comes once, all of its lines joined by commas, in no order. Not for
        /// decisions about security: a comma may be part of a line. While the request headers are held,
        /// and in the log; empty in between.
        HEADERS: Headers = "request"."headers";
        /// How many bytes the names and values of the headers have. 0 when they cannot be read.
        HEADERS_BYTES: i64 = "request"."headers_bytes";
        /// The `referer` header. While the request headers are held, and in the log.
        REFERER: Text = "request"."referer";
        /// The `user-agent` header. While the request headers are held, and in the log.
        USER_AGENT: Text = "request"."useragent";
        /// The `x-request-id` header, which a client may have chosen. While the request headers are
        /// held, and in the log.
        ID: Text = "request"."id";
        /// When the proxy began to read the request. In every phase of a stream.
        TIME: Timestamp = "request"."time";
        /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2` or `HTTP/3`. In every phase of a stream.
        PROTOCOL: Text = "request"."protocol";
        /// How long the request took to its end. When it has ended: in the log, most often.
        DURATION: Duration = "request"."duration";
        /// The length that the client announced, while the request headers can be read; else how many
        /// bytes of the body have come.
        SIZE: i64 = "request"."size";
        /// How many bytes of the body have come, and those of the headers while they can be read.
        TOTAL_SIZE: i64 = "request"."total_size";
    } + {
        /// The lines of a header, joined by commas. Not for decisions about security: a comma may be
        /// part of a line. While the request headers are held, and in the log.
        ///
        /// # Errors
        ///
        /// [`InvalidSegment`] when the name contains NUL.
        pub fn header(name: &str) -> Result<Attribute<Text>, InvalidSegment> {
            HEADERS.below(&[name])
        }
    }

    /// The response. From the response headers on; of a local reply too.
    response {
        /// The status. From the response headers on.
        CODE: i64 = "response"."code";
        /// Which part of the proxy made the response, and why: `via_upstream`, or another word without
        /// blanks. From the response headers on.
        CODE_DETAILS: Text = "response"."code_details";
        /// What went wrong, as bits. In every phase of a stream; most are set at its end.
        FLAGS: i64 = "response"."flags";
        /// The status of gRPC, from the trailers, the headers or the code of the response.
        GRPC_STATUS: i64 = "response"."grpc_status";
        /// All headers: a name comes once, all of its lines joined by commas, in no order. While the
        /// response headers are held, and in the log; empty else.
        HEADERS: Headers = "response"."headers";
        /// How many bytes the names and values of the headers have. 0 when they cannot be read.
        HEADERS_BYTES: i64 = "response"."headers_bytes";
        /// All trailers: a name comes once, all of its lines joined by commas, in no order. While they
        /// are held, and in the log; empty else.
        TRAILERS: Headers = "response"."trailers";
        /// How many bytes of the body have been sent.
        SIZE: i64 = "response"."size";
        /// How many bytes of the body have been sent, and those of headers and trailers while they can
        /// be read.
        TOTAL_SIZE: i64 = "response"."total_size";
        /// From the first byte sent to the upstream to the last that came from it. When that has come.
        BACKEND_LATENCY: Duration = "response"."backend_latency";
    } + {
        /// The lines of a header, joined by commas. While the response headers are held, and in the log.
        ///
        /// # Errors
        ///
        /// [`InvalidSegment`] when the name contains NUL.
        pub fn header(name: &str) -> Result<Attribute<Text>, InvalidSegment> {
            HEADERS.below(&[name])
        }

        /// The lines of a trailer, joined by commas. While the response trailers are held, and in the
        /// log.
        ///
        /// # Errors
        ///
        /// [`InvalidSegment`] when the name contains NUL.
        pub fn trailer(name: &str) -> Result<Attribute<Text>, InvalidSegment> {
            TRAILERS.below(&[name])
        }
    }

    /// Who speaks to the proxy. In every phase of a stream.
    source {
        /// Where the connection comes from, or where a trusted proxy before says that it does.
        ADDRESS: Address = "source"."address";
        /// Its port.
        PORT: i64 = "source"."port";
    }

    /// Where the proxy was spoken to. In every phase of a stream.
    destination {
        /// The address that the connection was made to.
        ADDRESS: Address = "destination"."address";
        /// Its port.
        PORT: i64 = "destination"."port";
    }

    /// The connection of the client. In every phase of a stream; what belongs to TLS only with TLS.
    ///
    /// None of it is an identity: see [the module](super#identity).
    connection {
        /// The number of the connection, unique in this proxy.
        ID: u64 = "connection"."id", older "connection_id";
        /// Whether the client presented a certificate. **Not whether it is a good one**: a listener that
        /// accepts untrusted certificates, or asks for one without a list of trusted issuers, says `true`
        /// for any. The host calls this `mtls`. `false` without TLS.
        PEER_CERTIFICATE_PRESENTED: bool = "connection"."mtls";
        /// The name that the client asked for by SNI; empty when it asked for none.
        REQUESTED_SERVER_NAME: Text = "connection"."requested_server_name";
        /// The version of TLS, as in `TLSv1.3`. With TLS.
        TLS_VERSION: Text = "connection"."tls_version";
        /// The subject of the proxy's own certificate. With TLS; empty when it has none.
        SUBJECT_OF_LOCAL: Text = "connection"."subject_local_certificate";
        /// The subject of the client's certificate, which may not have been verified. With TLS; empty
        /// when there is none.
        SUBJECT_OF_PEER: Text = "connection"."subject_peer_certificate";
        /// The **first** DNS name of the proxy's own certificate. There may be more, which the host does
        /// not tell.
        FIRST_DNS_SAN_OF_LOCAL: Text = "connection"."dns_san_local_certificate";
        /// The **first** DNS name of the client's certificate, which may not have been verified. There
        /// may be more, which the host does not tell.
        FIRST_DNS_SAN_OF_PEER: Text = "connection"."dns_san_peer_certificate";
        /// The **first** URI of the proxy's own certificate. There may be more, which the host does not
        /// tell.
        FIRST_URI_SAN_OF_LOCAL: Text = "connection"."uri_san_local_certificate";
        /// The **first** URI of the client's certificate, where a SPIFFE ID stands; it may not have been
        /// verified. There may be more, which the host does not tell: that a certificate has exactly one,
        /// as an X.509-SVID must, cannot be seen here.
        FIRST_URI_SAN_OF_PEER: Text = "connection"."uri_san_peer_certificate";
        /// The SHA-256 digest of the client's certificate in hex digits. When one was presented.
        SHA256_OF_PEER_CERTIFICATE: Text = "connection"."sha256_peer_certificate_digest";
        /// The client's certificate as PEM. When one was presented, on Envoy since 2026.
        PEER_CERTIFICATE: Text = "connection"."peer_certificate";
        /// Whether the proxy has found the client's certificate good. With TLS, on Envoy since 2026.
        PEER_CERTIFICATE_VALID: bool = "connection"."peer_certificate_valid";
        /// Why the transport of the connection failed. When it has.
        TRANSPORT_FAILURE_REASON: Text = "connection"."transport_failure_reason";
        /// Why the proxy ended the connection. When it has.
        TERMINATION_DETAILS: Text = "connection"."termination_details";
    }

    /// The endpoint that the request goes to. Once the router has chosen one, which is after every filter
    /// has seen the request headers; what belongs to TLS only with TLS.
    upstream {
        /// Where the endpoint is.
        ADDRESS: Address = "upstream"."address";
        /// Its port.
        PORT: i64 = "upstream"."port";
        /// How many endpoints the cluster has. Once the route is known, before an endpoint is.
        ENDPOINTS: u64 = "upstream"."num_endpoints";
        /// The address of the proxy on the connection to the endpoint.
        LOCAL_ADDRESS: Address = "upstream"."local_address";
        /// Where the endpoint stands: an `envoy.config.core.v3.Locality`.
        LOCALITY: Message = "upstream"."locality";
        /// How often the request was sent. In every phase of a stream; 0 before.
        REQUEST_ATTEMPTS: u64 = "upstream"."request_attempt_count";
        /// How long it took until a connection was ready for the request.
        CONNECTION_READY: Duration = "upstream"."cx_pool_ready_duration";
        /// Why the transport of the connection failed; empty when it has not.
        TRANSPORT_FAILURE_REASON: Text = "upstream"."transport_failure_reason";
        /// The version of TLS, as in `TLSv1.3`.
        TLS_VERSION: Text = "upstream"."tls_version";
        /// The subject of the proxy's own certificate; empty when it has none.
        SUBJECT_OF_LOCAL: Text = "upstream"."subject_local_certificate";
        /// The subject of the endpoint's certificate, which may not have been verified.
        SUBJECT_OF_PEER: Text = "upstream"."subject_peer_certificate";
        /// The **first** DNS name of the proxy's own certificate. There may be more.
        FIRST_DNS_SAN_OF_LOCAL: Text = "upstream"."dns_san_local_certificate";
        /// The **first** DNS name of the endpoint's certificate, which may not have been verified. There
        /// may be more.
        FIRST_DNS_SAN_OF_PEER: Text = "upstream"."dns_san_peer_certificate";
        /// The **first** URI of the proxy's own certificate. There may be more.
        FIRST_URI_SAN_OF_LOCAL: Text = "upstream"."uri_san_local_certificate";
        /// The **first** URI of the endpoint's certificate, which may not have been verified. There may
        /// be more.
        FIRST_URI_SAN_OF_PEER: Text = "upstream"."uri_san_peer_certificate";
        /// The SHA-256 digest of the endpoint's certificate in hex digits.
        SHA256_OF_PEER_CERTIFICATE: Text = "upstream"."sha256_peer_certificate_digest";
        /// The endpoint's certificate as PEM in URL encoding. On Envoy since 2026.
        PEER_CERTIFICATE: Text = "upstream"."peer_certificate";
    }

    /// What the proxy is configured with: itself, the listener, the route and the cluster. Envoy has these
    /// names since 1.33, and some of them had others before.
    xds {
        /// The proxy: an `envoy.config.core.v3.Node`. Also without a stream.
        NODE: Message = "xds"."node", older "node";
        /// The name of the proxy. Also without a stream.
        NODE_ID: Text = "xds"."node"."id", older "node\0id";
        /// The group of proxies that this one belongs to. Also without a stream.
        NODE_CLUSTER: Text = "xds"."node"."cluster", older "node\0cluster";
        /// The name of the cluster. Once the route is known.
        CLUSTER_NAME: Text = "xds"."cluster_name", older "cluster_name";
        /// The metadata of the cluster. Once the route is known.
        CLUSTER_METADATA: Metadata = "xds"."cluster_metadata", older "cluster_metadata";
        /// 0 when not said, 1 inbound, 2 outbound.
        LISTENER_DIRECTION: i64 = "xds"."listener_direction", older "listener_direction";
        /// The metadata of the listener.
        LISTENER_METADATA: Metadata = "xds"."listener_metadata", older "listener_metadata";
        /// The name of the route. Once it is known; empty when it has none.
        ROUTE_NAME: Text = "xds"."route_name", older "route_name";
        /// The metadata of the route. Once it is known.
        ROUTE_METADATA: Metadata = "xds"."route_metadata", older "route_metadata";
        /// The name of the virtual host. Once the route is known.
        VIRTUAL_HOST_NAME: Text = "xds"."virtual_host_name";
        /// The metadata of the virtual host. Once the route is known.
        VIRTUAL_HOST_METADATA: Metadata = "xds"."virtual_host_metadata";
        /// The metadata of the endpoint. Once the router has chosen one.
        UPSTREAM_HOST_METADATA: Metadata =
            "xds"."upstream_host_metadata", older "upstream_host_metadata";
        /// The metadata of the place where the endpoint stands. Once the router has chosen one.
        UPSTREAM_HOST_LOCALITY_METADATA: Metadata = "xds"."upstream_host_locality_metadata";
        /// The name of the filter chain; empty when it has none.
        FILTER_CHAIN_NAME: Text = "xds"."filter_chain_name";
    }

    /// This filter, as the proxy is configured with it. Also without a stream.
    plugin {
        /// The name of the plugin.
        NAME: Text = "plugin_name";
        /// Which of the filters in the module it is.
        ROOT_ID: Text = "plugin_root_id";
        /// The id of its VM: plugins with the same one share data.
        VM_ID: Text = "plugin_vm_id";
    }
}

/// A value in the metadata that filters write about a request: what stands under `key` in the namespace,
/// which is most often the name of the filter. In every phase of a stream, once it is written. Numbers are
/// `f64`, as in JSON; `null` has no form, and the host refuses it.
///
/// # Errors
///
/// [`InvalidSegment`] when a name contains NUL.
pub fn metadata<T: Value>(namespace: &str, key: &str) -> Result<Attribute<T>, InvalidSegment> {
    Attribute::at(&["metadata", "filter_metadata", namespace, key])
}

/// An object that a filter keeps about a request or its connection; of the objects of other filters those
/// that have a form as bytes. In every phase of a stream, once it is written.
///
/// What a filter writes by [`filter_state::set`](crate::filter_state::set) has `wasm.` before its name.
///
/// # Errors
///
/// [`InvalidSegment`] when the name contains NUL.
pub fn filter_state<T: Value>(name: &str) -> Result<Attribute<T>, InvalidSegment> {
    Attribute::at(&["filter_state", name])
}

/// A field of an object of another filter, such as `ip` of `envoy.network.ip`. An object with fields has
/// no form as a whole.
///
/// # Errors
///
/// [`InvalidSegment`] when a name contains NUL.
pub fn filter_state_field<T: Value>(
    name: &str,
    field: &str,
) -> Result<Attribute<T>, InvalidSegment> {
    Attribute::at(&["filter_state", name, field])
}

/// An object that is kept about the connection to the upstream. Once there is one.
///
/// # Errors
///
/// [`InvalidSegment`] when the name contains NUL.
pub fn upstream_filter_state<T: Value>(name: &str) -> Result<Attribute<T>, InvalidSegment> {
    Attribute::at(&["upstream_filter_state", name])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::rows;

    /// The attributes of Envoy 1.40 without a name to give, as its documentation lists them.
    const LISTED: &[(&str, &[&str])] = &[
        (
            "request",
            &[
                "path",
                "url_path",
                "host",
                "scheme",
                "method",
                "headers",
                "headers_bytes",
                "referer",
                "useragent",
                "time",
                "id",
                "protocol",
                "query",
                "duration",
                "size",
                "total_size",
            ],
        ),
        (
            "response",
            &[
                "code",
                "code_details",
                "flags",
                "grpc_status",
                "headers",
                "headers_bytes",
                "trailers",
                "size",
                "total_size",
                "backend_latency",
            ],
        ),
        ("source", &["address", "port"]),
        ("destination", &["address", "port"]),
        (
            "connection",
            &[
                "id",
                "mtls",
                "requested_server_name",
                "tls_version",
                "subject_local_certificate",
                "subject_peer_certificate",
                "dns_san_local_certificate",
                "dns_san_peer_certificate",
                "uri_san_local_certificate",
                "uri_san_peer_certificate",
                "sha256_peer_certificate_digest",
                "peer_certificate",
                "peer_certificate_valid",
                "transport_failure_reason",
                "termination_details",
            ],
        ),
        (
            "upstream",
            &[
                "address",
                "port",
                "num_endpoints",
                "tls_version",
                "subject_local_certificate",
                "subject_peer_certificate",
                "dns_san_local_certificate",
                "dns_san_peer_certificate",
                "uri_san_local_certificate",
                "uri_san_peer_certificate",
                "sha256_peer_certificate_digest",
                "peer_certificate",
                "local_address",
                "transport_failure_reason",
                "request_attempt_count",
                "cx_pool_ready_duration",
                "locality",
            ],
        ),
        (
            "xds",
            &[
                "node",
                "node.id",
                "node.cluster",
                "cluster_name",
                "cluster_metadata",
                "listener_direction",
                "listener_metadata",
                "route_name",
                "route_metadata",
                "virtual_host_name",
                "virtual_host_metadata",
                "upstream_host_metadata",
                "upstream_host_locality_metadata",
                "filter_chain_name",
            ],
        ),
    ];

    #[test]
    fn every_attribute_that_envoy_lists_stands_in_the_table_once() {
        let names: Vec<String> = rows().into_iter().map(|(name, _)| name).collect();
        let found: BTreeSet<String> = names.iter().cloned().collect();
        let listed = LISTED
            .iter()
            .flat_map(|(family, names)| names.iter().map(move |name| format!("{family}.{name}")));
        let plugin = ["plugin_name", "plugin_root_id", "plugin_vm_id"].map(String::from);
        let listed: BTreeSet<String> = listed.chain(plugin).collect();
        assert_eq!(found, listed);
        assert_eq!(names.len(), found.len());
    }
}
