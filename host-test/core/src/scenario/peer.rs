//! Peers: clients with their certificates, and the TLS that the listener terminates for them.
//!
//! What is written here is what a certificate says; [`tls`](crate::tls) issues it.

mod written;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::tls::{DistinguishedName, ExtendedKeyUsage, KeyUsage, TlsVersion};

pub(super) use written::{RawPeers, RawTls};

/// The most peers of a scenario.
const MOST_PEERS: usize = 64;

/// The first moment that no certificate names: 2200-01-01T00:00:00Z.
pub(crate) const LATEST: Duration = Duration::from_hours(2_016_144);

/// The TLS of the listener, and who connects to it.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Whether a client without a certificate is refused.
    pub require_client_certificate: bool,
    /// What becomes of a client whose certificate is not good.
    pub trust_chain_verification: TrustChainVerification,
    /// The proxy's own certificate.
    pub certificate: Issuance,
    /// Who connects; at least one.
    pub peers: Vec<Peer>,
}

/// What becomes of a client whose certificate is not good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TrustChainVerification {
    /// It is refused.
    #[default]
    VerifyTrustChain,
    /// It is let in, as one that shows a certificate.
    AcceptUntrusted,
}

/// A client.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What steps call it.
    pub name: String,
    /// What it shows; nothing for one that has none.
    pub certificate: Option<Issuance>,
    /// The server that it asks for (SNI).
    pub server_name: Option<String>,
    /// The only version of TLS that it speaks.
    pub version: TlsVersion,
}

/// What a certificate says, and who signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuance {
    /// Its subject.
    pub subject: DistinguishedName,
    /// Its subject alternative names, in order.
    pub subject_alt_names: Vec<SubjectAltName>,
    /// Who signs it.
    pub issuer: Issuer,
    /// Its serial number, the highest byte first; by default one that follows from the peer's name.
    pub serial: Option<Vec<u8>>,
    /// The first second at which it is valid.
    pub not_before: CertificateTime,
    /// The last second at which it is valid.
    pub not_after: CertificateTime,
    /// Whether it is a CA's; `None` when it says nothing of it.
    pub ca: Option<bool>,
    /// What its key may be used for; `None` when it says nothing of it.
    pub key_usage: Option<Vec<KeyUsage>>,
    /// For what purposes; `None` when it says nothing of it.
    pub extended_key_usage: Option<Vec<ExtendedKeyUsage>>,
}

/// One of the names of a certificate beside its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectAltName {
    /// A URI, as a SPIFFE ID is one.
    Uri(String),
    /// A name of the DNS.
    Dns(String),
    /// An address for mail.
    Email(String),
    /// An address of the Internet protocol.
    Ip(IpAddr),
}

/// Who signs a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Issuer {
    /// The CA that the proxy trusts.
    #[default]
    Trusted,
    /// A CA that it does not trust.
    Untrusted,
    /// The holder itself.
    Itself,
}

/// A moment in the time of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateTime {
    /// So long before the scenario begins.
    Before(Duration),
    /// So long after it has begun.
    After(Duration),
    /// Then, since the Unix epoch.
    At(Duration),
}

impl Tls {
    /// The peer that a step names, and its place; without a name the only one.
    pub fn peer(&self, name: Option<&str>) -> Option<(usize, &Peer)> {
        let mut peers = self.peers.iter().enumerate();
        match (name, self.peers.as_slice()) {
            (Some(name), _) => peers.find(|(_, peer)| peer.name == name),
            (None, [only]) => Some((0, only)),
            (None, _) => None,
        }
    }

    /// Checks what the types leave open.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        match self.peers.len() {
            0 => return Err("peers: none; name at least one".into()),
            count if count > MOST_PEERS => {
                return Err(format!("peers: {count} are above the bound of {MOST_PEERS}"));
            }
            _ => {}
        }
        for peer in &self.peers {
            if !names.insert(&peer.name) {
                return Err(format!("peers.{}: there are two of the name", peer.name));
            }
            peer.check().map_err(|what| format!("peers.{}.{what}", peer.name))?;
        }
        Ok(())
    }

    /// Checks whom a step names.
    pub(super) fn check_peer(tls: Option<&Self>, name: Option<&str>) -> Result<(), String> {
        let names = |tls: &Self| {
            let names: Vec<&str> = tls.peers.iter().map(|peer| peer.name.as_str()).collect();
            names.join(", ")
        };
        match (tls, name) {
            (None, None) => Ok(()),
            (None, Some(name)) => Err(format!("peer: {name} is not among `peers`; there are none")),
            (Some(tls), name) if tls.peer(name).is_some() => Ok(()),
            (Some(tls), Some(name)) => {
                Err(format!("peer: {name} is not among `peers`: {}", names(tls)))
            }
            (Some(tls), None) => {
                Err(format!("peer: missing; there are several `peers`: {}", names(tls)))
            }
        }
    }
}

impl Peer {
    fn check(&self) -> Result<(), String> {
        let names = self.certificate.iter().flat_map(|shown| &shown.subject_alt_names);
        let mut texts = names.filter_map(|name| match name {
            SubjectAltName::Uri(text) | SubjectAltName::Dns(text) | SubjectAltName::Email(text) => {
                Some(text)
            }
            SubjectAltName::Ip(_) => None,
        });
        if let Some(text) = texts.find(|text| !text.is_ascii()) {
            return Err(format!("san: `{text}` is not ASCII"));
        }
        match self.server_name.as_ref().filter(|name| !is_host_name(name)) {
            Some(name) => Err(format!("server_name: `{name}` is not a name of a host")),
            None => Ok(()),
        }
    }
}

impl Issuance {
    /// A certificate as an X.509-SVID has to be, valid from an hour before the scenario begins to a day after.
    pub fn new(subject: DistinguishedName) -> Self {
        Self {
            subject,
            subject_alt_names: Vec::new(),
            issuer: Issuer::Trusted,
            serial: None,
            not_before: CertificateTime::Before(Duration::from_hours(1)),
            not_after: CertificateTime::After(Duration::from_hours(24)),
            ca: Some(false),
            key_usage: Some(vec![KeyUsage::DigitalSignature]),
            extended_key_usage: Some(vec![
                ExtendedKeyUsage::ServerAuth,
                ExtendedKeyUsage::ClientAuth,
            ]),
        }
    }
}

impl CertificateTime {
    /// Since the Unix epoch, for a scenario that begins then.
    pub fn since_epoch(self, begin: Duration) -> Duration {
        match self {
            Self::Before(by) => begin.saturating_sub(by),
            Self::After(by) => begin.saturating_add(by),
            Self::At(at) => at,
        }
    }
}

fn is_host_name(name: &str) -> bool {
    const LONGEST_LABEL: usize = 63;
    let is_label = |label: &str| {
        let is_of_it = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !label.is_empty() && label.len() <= LONGEST_LABEL && label.bytes().all(is_of_it)
    };
    name.parse::<IpAddr>().is_err() && name.split('.').all(is_label)
}
