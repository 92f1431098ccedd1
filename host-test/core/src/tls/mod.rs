//! The TLS between a client and the proxy: certificates, who lets them in, and what the proxy then tells
//! of them.
//!
//! Nothing is enciphered here. Offline a handshake is a verdict; a real one is made by whoever has sockets,
//! with what is issued here.

mod alert;
mod certificate;
mod forwarded;
mod issue;
mod name;
mod usage;
mod verify;

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

pub use alert::{Alert, NoAlert};
pub use certificate::{Certificate, NotRead};
pub(crate) use forwarded::forward;
pub use issue::{Credential, Credentials, NotIssued};
pub use name::{DistinguishedName, InvalidName};
pub use usage::{ExtendedKeyUsage, KeyUsage};
pub(crate) use verify::Handshake;

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "TLSv1.2")]
    Tls12,
    /// TLS 1.3.
    #[default]
    #[serde(rename = "TLSv1.3")]
    Tls13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        })
    }
}

/// A connection of a client, as its handshake has left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secured {
    /// The proxy's own certificate.
    pub local: Arc<Certificate>,
    /// What the client has shown.
    pub peer: Option<Arc<Certificate>>,
    /// Whether the proxy has found it good.
    pub peer_is_valid: bool,
    /// The server that the client has asked for (SNI).
    pub server_name: Option<String>,
    /// The version that both agreed on.
    pub version: TlsVersion,
    /// The version that filters were told first.
    #[serde(skip)]
    pub told_version: OnceLock<TlsVersion>,
}

impl Secured {
    /// The version that filters are told. As on Envoy: who asks before the handshake is told TLS 1.2, and
    /// that for ever.
    pub(crate) fn tell_version(&self) -> TlsVersion {
        *self.told_version.get_or_init(|| self.version)
    }
}
