//! Driving filters in a test, request by request.
//!
//! [`Proxy`] is the offline host on which scenarios run, and each is a value: tests may run any number of
//! them at once. Filters are modules that an engine has loaded, or linked into the test.

mod bytes;
mod connection;
mod exchange;
mod peer;
mod proxy;
mod start;

pub use crate::proxy::{End, HostFailure, LogLine};
pub use crate::scenario::{
    Act, Answer, CertificateTime, Fault, GrpcAnswer, InvalidScenario, Issuer, Meets,
    PlannedCallout, Upstream,
};
pub use crate::tls::{Alert, TlsVersion};
pub use crate::transcript::Entry;
pub use tollgate_abi::LogLevel;

pub use self::bytes::Bytes;
pub use self::connection::{Connect, Connection, Moment, Side};
pub use self::exchange::{Callout, Exchange, Meanwhile, Received, Response, Together};
pub use self::peer::Peer;
pub use self::proxy::{PlayError, Proxy, Request};
pub use self::start::{Bootstrap, StartError};
