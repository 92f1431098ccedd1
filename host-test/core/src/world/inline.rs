//! Headers that Envoy keeps in a place of their own, so that each has one line: what is added to it comes
//! after a comma.
//!
//! Source: Envoy, `INLINE_REQ_STR_HEADERS`, `INLINE_RESP_STR_HEADERS` and what the extensions of a release
//! register besides; measured on Envoy 1.40 by sending two lines of each.

/// In which message a header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inline {
    Request,
    Response,
    /// Trailers, where every line stays as it is.
    Nothing,
}

impl Inline {
    /// Whether a header of this name has one line.
    pub(crate) fn has(self, name: &[u8]) -> bool {
        match self {
            Self::Request => name.starts_with(b":") || is_of_request(name) || is_of_both(name),
            Self::Response => name.starts_with(b":") || is_of_response(name) || is_of_both(name),
            Self::Nothing => false,
        }
    }
}

/// Headers of either message.
fn is_of_both(name: &[u8]) -> bool {
    matches!(
        name,
        b"cache-control"
            | b"connection"
            | b"content-encoding"
            | b"content-length"
            | b"content-type"
            | b"keep-alive"
            | b"proxy-connection"
            | b"proxy-status"
            | b"transfer-encoding"
            | b"upgrade"
            | b"via"
            | b"x-envoy-attempt-count"
            | b"x-envoy-decorator-operation"
            | b"x-request-id"
    )
}

/// Headers of requests.
fn is_of_request(name: &[u8]) -> bool {
    matches!(
        name,
        b"accept"
            | b"accept-encoding"
            | b"access-control-request-headers"
            | b"access-control-request-method"
            | b"access-control-request-private-network"
            | b"authentication"
            | b"authorization"
            | b"cdn-loop"
            | b"expect"
            | b"grpc-accept-encoding"
            | b"grpc-timeout"
            | b"host"
            | b"if-match"
            | b"if-modified-since"
            | b"if-none-match"
            | b"if-range"
            | b"if-unmodified-since"
            | b"origin"
            | b"pragma"
            | b"referer"
            | b"te"
            | b"user-agent"
            | b"x-client-trace-id"
            | b"x-envoy-downstream-service-cluster"
            | b"x-envoy-downstream-service-node"
            | b"x-envoy-external-address"
            | b"x-envoy-is-timeout-retry"
            | b"x-envoy-original-host"
            | b"x-envoy-original-path"
            | b"x-forwarded-client-cert"
            | b"x-forwarded-for"
            | b"x-forwarded-host"
            | b"x-forwarded-port"
            | b"x-forwarded-proto"
    )
}

/// Headers of responses.
fn is_of_response(name: &[u8]) -> bool {
    matches!(
        name,
        b"access-control-allow-credentials"
            | b"access-control-allow-headers"
            | b"access-control-allow-methods"
            | b"access-control-allow-origin"
            | b"access-control-allow-private-network"
            | b"access-control-expose-headers"
            | b"access-control-max-age"
            | b"age"
            | b"date"
            | b"etag"
            | b"expires"
            | b"grpc-message"
            | b"grpc-status"
            | b"last-modified"
            | b"location"
            | b"server"
            | b"vary"
            | b"x-envoy-degraded"
            | b"x-envoy-immediate-health-check-fail"
            | b"x-envoy-ratelimited"
            | b"x-envoy-upstream-canary"
            | b"x-envoy-upstream-healthchecked-cluster"
            | b"x-envoy-upstream-service-time"
    )
}
