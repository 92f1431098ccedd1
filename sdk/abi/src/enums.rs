//! The enumerations of the ABI: open, because the other side may send any number.

use core::fmt;

/// Declares an open enumeration: listed values by name, every other as `Unknown`.
macro_rules! open_enum {
    ($(#[$meta:meta])* $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $value:literal $text:literal, )* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant, )*
            /// A value that the ABI does not list.
            Unknown(u32),
        }

        impl $name {
            /// The listed values, in order.
            pub const LISTED: &'static [Self] = &[ $( Self::$variant ),* ];
        }

        impl From<u32> for $name {
            fn from(value: u32) -> Self {
                match value {
                    $( $value => Self::$variant, )*
                    unlisted => Self::Unknown(unlisted),
                }
            }
        }

        impl From<$name> for u32 {
            fn from(value: $name) -> Self {
                match value {
                    $( $name::$variant => $value, )*
                    $name::Unknown(unlisted) => unlisted,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $( Self::$variant => f.write_str($text), )*
                    Self::Unknown(unlisted) => write!(f, "{unlisted}"),
                }
            }
        }
    };
}

open_enum! {
    /// What a host function returned.
    ///
    /// Source: Proxy-Wasm v0.2.1, "Status codes"; 5, 9 and 11 from proxy-wasm-cpp-host.
    Status {
        /// The call was carried out.
        Ok = 0 "ok",
        /// There is no such header, property, key, queue or metric.
        NotFound = 1 "not_found",
        /// An argument is out of range, or not allowed in this phase.
        BadArgument = 2 "bad_argument",
        /// A value could not be serialised.
        SerializationFailure = 3 "serialization_failure",
        /// A value could not be parsed.
        ParseFailure = 4 "parse_failure",
        /// An expression is invalid.
        BadExpression = 5 "bad_expression",
        /// A pointer or a length leaves the guest's memory.
        InvalidMemoryAccess = 6 "invalid_memory_access",
        /// The queue holds nothing.
        Empty = 7 "empty",
        /// Another writer came first.
        CasMismatch = 8 "cas_mismatch",
        /// The result has another type than asked for.
        ResultMismatch = 9 "result_mismatch",
        /// The host failed, or the call is restricted.
        InternalFailure = 10 "internal_failure",
        /// The connection is broken.
        BrokenConnection = 11 "broken_connection",
        /// The host does not offer this.
        Unimplemented = 12 "unimplemented",
    }
}

open_enum! {
    /// The level of a log line.
    LogLevel {
        /// For following a program.
        Trace = 0 "trace",
        /// For finding a fault.
        Debug = 1 "debug",
        /// For the operator, in normal running.
        Info = 2 "info",
        /// Unexpected, handled.
        Warn = 3 "warn",
        /// Failed.
        Error = 4 "error",
        /// Cannot go on.
        Critical = 5 "critical",
    }
}

open_enum! {
    /// A header map that the host holds for the guest.
    MapType {
        /// Headers of the request.
        RequestHeaders = 0 "request_headers",
        /// Trailers of the request.
        RequestTrailers = 1 "request_trailers",
        /// Headers of the response.
        ResponseHeaders = 2 "response_headers",
        /// Trailers of the response.
        ResponseTrailers = 3 "response_trailers",
        /// Initial metadata of a gRPC callout's answer.
        GrpcReceiveInitialMetadata = 4 "grpc_receive_initial_metadata",
        /// Trailing metadata of a gRPC callout's answer.
        GrpcReceiveTrailingMetadata = 5 "grpc_receive_trailing_metadata",
        /// Headers of an HTTP callout's answer.
        HttpCallResponseHeaders = 6 "http_call_response_headers",
        /// Trailers of an HTTP callout's answer.
        HttpCallResponseTrailers = 7 "http_call_response_trailers",
    }
}

open_enum! {
    /// A buffer that the host holds for the guest.
    BufferType {
        /// Body of the request.
        HttpRequestBody = 0 "http_request_body",
        /// Body of the response.
        HttpResponseBody = 1 "http_response_body",
        /// TCP bytes from the client.
        DownstreamData = 2 "downstream_data",
        /// TCP bytes from the upstream.
        UpstreamData = 3 "upstream_data",
        /// Body of an HTTP callout's answer.
        HttpCallResponseBody = 4 "http_call_response_body",
        /// Message of a gRPC callout's answer.
        GrpcReceiveBuffer = 5 "grpc_receive_buffer",
        /// Configuration of the VM.
        VmConfiguration = 6 "vm_configuration",
        /// Configuration of the plugin.
        PluginConfiguration = 7 "plugin_configuration",
        /// Arguments of a foreign function.
        CallData = 8 "call_data",
    }
}

open_enum! {
    /// A direction of a stream or a connection.
    StreamType {
        /// HTTP request.
        HttpRequest = 0 "http_request",
        /// HTTP response.
        HttpResponse = 1 "http_response",
        /// TCP, from the client.
        Downstream = 2 "downstream",
        /// TCP, from the upstream.
        Upstream = 3 "upstream",
    }
}

open_enum! {
    /// The kind of a metric.
    MetricType {
        /// Only grows.
        Counter = 0 "counter",
        /// Goes up and down.
        Gauge = 1 "gauge",
        /// Counts values by size.
        Histogram = 2 "histogram",
    }
}

open_enum! {
    /// Who closed a connection.
    PeerType {
        /// Not known.
        NotKnown = 0 "not_known",
        /// The proxy.
        Local = 1 "local",
        /// The other side.
        Remote = 2 "remote",
    }
}

open_enum! {
    /// What a headers callback asks of the host. Values from 2 on are Envoy's own.
    HeadersAction {
        /// Go on to the next filter.
        Continue = 0 "continue",
        /// Hold the headers; on Envoy, by default, body and trailers too, with back-pressure.
        StopIteration = 1 "stop_iteration",
        /// Go on, and end the stream here.
        ContinueAndEndStream = 2 "continue_and_end_stream",
        /// Hold everything and buffer the body.
        StopAllIterationAndBuffer = 3 "stop_all_iteration_and_buffer",
        /// Hold everything with back-pressure.
        StopAllIterationAndWatermark = 4 "stop_all_iteration_and_watermark",
    }
}

open_enum! {
    /// What a body callback asks of the host. Values from 2 on are Envoy's own.
    BodyAction {
        /// Pass on what is held.
        Continue = 0 "continue",
        /// Hold this chunk; the next callback sees it together with what follows.
        StopIterationAndBuffer = 1 "stop_iteration_and_buffer",
        /// The same, with back-pressure instead of a limit.
        StopIterationAndWatermark = 2 "stop_iteration_and_watermark",
        /// Hold, and do not keep this chunk in the host's buffer.
        StopIterationNoBuffer = 3 "stop_iteration_no_buffer",
    }
}

open_enum! {
    /// What a trailers callback asks of the host.
    TrailersAction {
        /// Pass on what is held.
        Continue = 0 "continue",
        /// Hold.
        StopIteration = 1 "stop_iteration",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives_the_way_in_and_out() {
        for number in (0..64).chain([u32::MAX - 1, u32::MAX]) {
            assert_eq!(u32::from(Status::from(number)), number);
            assert_eq!(u32::from(MapType::from(number)), number);
            assert_eq!(u32::from(BufferType::from(number)), number);
            assert_eq!(u32::from(LogLevel::from(number)), number);
            assert_eq!(u32::from(MetricType::from(number)), number);
            assert_eq!(u32::from(HeadersAction::from(number)), number);
        }
    }

    #[test]
    fn a_number_that_the_abi_does_not_list_is_shown_as_a_number() {
        assert_eq!(Status::from(12), Status::Unimplemented);
        assert_eq!(Status::from(13), Status::Unknown(13));
        assert_eq!(Status::from(13).to_string(), "13");
        assert_eq!(Status::NotFound.to_string(), "not_found");
    }
}
