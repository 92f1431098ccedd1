//! What is measured, and what a metric of it is called.

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::metrics::Instrument;

/// Whose names and labels metrics have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Those of Istio's own filter.
    Istio,
    /// The semantic conventions of OpenTelemetry, as Prometheus writes them.
    Otel,
    /// Names of Tollgate, and the labels of the policy alone.
    Custom,
}

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Requests that are over.
    Requests,
    /// How long they took, to their end; in milliseconds.
    Duration,
    /// How long until the head of the response was there; in milliseconds.
    FirstByte,
    /// How long the upstream took, from the first byte sent to it to its last; in milliseconds.
    Upstream,
    /// How long a request took beyond that, where it had an upstream; in milliseconds.
    Overhead,
    /// Bytes of requests: headers and body.
    RequestBytes,
    /// Bytes of responses: headers, body and trailers.
    ResponseBytes,
    /// Messages of gRPC from clients, also while streams are open.
    RequestMessages,
    /// Messages of gRPC to clients, also while streams are open.
    ResponseMessages,
    /// Bytes of bodies from clients, also while streams are open.
    ReceivedBytes,
    /// Bytes of bodies to clients, also while streams are open.
    SentBytes,
    /// Connections of TCP that were opened.
    TcpOpened,
    /// Connections of TCP that were closed.
    TcpClosed,
    /// Bytes to clients over TCP, also while connections are open.
    TcpSent,
    /// Bytes from clients over TCP, also while connections are open.
    TcpReceived,
}

/// Which labels a metric has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All: it is counted when a request is over.
    Ended,
    /// Those that are known while a request is open.
    Open,
    /// Those that a connection of TCP has.
    Tcp,
}

impl Measure {
    /// All, in the order of the filter.
    pub const ALL: [Self; 15] = [
        Self::Requests,
        Self::Duration,
        Self::FirstByte,
        Self::Upstream,
        Self::Overhead,
        Self::RequestBytes,
        Self::ResponseBytes,
        Self::RequestMessages,
        Self::ResponseMessages,
        Self::ReceivedBytes,
        Self::SentBytes,
        Self::TcpOpened,
        Self::TcpClosed,
        Self::TcpSent,
        Self::TcpReceived,
    ];

    /// How it is counted.
    pub const fn instrument(self) -> Instrument {
        match self {
            Self::Duration
            | Self::FirstByte
            | Self::Upstream
            | Self::Overhead
            | Self::RequestBytes
            | Self::ResponseBytes => Instrument::Histogram,
            Self::Requests
            | Self::RequestMessages
            | Self::ResponseMessages
            | Self::ReceivedBytes
            | Self::SentBytes
            | Self::TcpOpened
            | Self::TcpClosed
            | Self::TcpSent
            | Self::TcpReceived => Instrument::Counter,
        }
    }

    /// Which labels it has.
    pub const fn scope(self) -> Scope {
        match self {
            Self::Requests
            | Self::Duration
            | Self::FirstByte
            | Self::Upstream
            | Self::Overhead
            | Self::RequestBytes
            | Self::ResponseBytes => Scope::Ended,
            Self::RequestMessages
            | Self::ResponseMessages
            | Self::ReceivedBytes
            | Self::SentBytes => Scope::Open,
            Self::TcpOpened | Self::TcpClosed | Self::TcpSent | Self::TcpReceived => Scope::Tcp,
        }
    }

    /// What it is called in the profile; `None` when the profile does not have it.
    ///
    /// Source: Istio, "Istio Standard Metrics"; OpenTelemetry, "Semantic conventions for HTTP metrics". The
    /// latter have seconds, which histograms of Envoy cannot: the unit is in the name.
    pub const fn name_in(self, profile: Profile) -> Option<&'static str> {
        match profile {
            Profile::Istio => match self {
                Self::Requests => Some("istio_requests_total"),
                Self::Duration => Some("istio_request_duration_milliseconds"),
                Self::RequestBytes => Some("istio_request_bytes"),
                Self::ResponseBytes => Some("istio_response_bytes"),
                Self::RequestMessages => Some("istio_request_messages_total"),
                Self::ResponseMessages => Some("istio_response_messages_total"),
                Self::TcpOpened => Some("istio_tcp_connections_opened_total"),
                Self::TcpClosed => Some("istio_tcp_connections_closed_total"),
                Self::TcpSent => Some("istio_tcp_sent_bytes_total"),
                Self::TcpReceived => Some("istio_tcp_received_bytes_total"),
                Self::FirstByte
                | Self::Upstream
                | Self::Overhead
                | Self::ReceivedBytes
                | Self::SentBytes => None,
            },
            Profile::Otel => match self {
                Self::Duration => Some("http_server_request_duration_milliseconds"),
                Self::RequestBytes => Some("http_server_request_body_size_bytes"),
                Self::ResponseBytes => Some("http_server_response_body_size_bytes"),
                Self::Requests
                | Self::FirstByte
                | Self::Upstream
                | Self::Overhead
                | Self::RequestMessages
                | Self::ResponseMessages
                | Self::ReceivedBytes
                | Self::SentBytes
                | Self::TcpOpened
                | Self::TcpClosed
                | Self::TcpSent
                | Self::TcpReceived => None,
            },
            Profile::Custom => Some(self.own_name()),
        }
    }

    /// What it is called where no profile says otherwise.
    pub const fn own_name(self) -> &'static str {
        match self {
            Self::Requests => "tollgate_metrics_requests_total",
            Self::Duration => "tollgate_metrics_duration_milliseconds",
            Self::FirstByte => "tollgate_metrics_first_byte_milliseconds",
            Self::Upstream => "tollgate_metrics_upstream_milliseconds",
            Self::Overhead => "tollgate_metrics_overhead_milliseconds",
            Self::RequestBytes => "tollgate_metrics_request_bytes",
            Self::ResponseBytes => "tollgate_metrics_response_bytes",
            Self::RequestMessages => "tollgate_metrics_request_messages_total",
            Self::ResponseMessages => "tollgate_metrics_response_messages_total",
            Self::ReceivedBytes => "tollgate_metrics_received_bytes_total",
            Self::SentBytes => "tollgate_metrics_sent_bytes_total",
            Self::TcpOpened => "tollgate_metrics_tcp_opened_total",
            Self::TcpClosed => "tollgate_metrics_tcp_closed_total",
            Self::TcpSent => "tollgate_metrics_tcp_sent_bytes_total",
            Self::TcpReceived => "tollgate_metrics_tcp_received_bytes_total",
        }
    }
}

/// A metric of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// What it measures.
    pub measure: Measure,
    /// What it is called.
    pub name: String,
    /// The upper bounds of the buckets of a histogram, rising; the proxy's own where there are none.
    pub bounds: Vec<u32>,
}
