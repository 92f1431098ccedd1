//! Peers: clients with their certificates, and the TLS that the listener terminates for them.
//!
//! What is written here is what a certificate says; [`tls`](crate::tls) issues it.

use std::net::IpAddr;
use std::time::Duration;

use chrono::DateTime;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::value::{duration, unhex};
use crate::tls::{DistinguishedName, ExtendedKeyUsage, KeyUsage, TlsVersion};

/// The most peers of a scenario.
const MOST_PEERS: usize = 64;

/// The most bytes of a serial number, as RFC 5280 has it.
const LONGEST_SERIAL: usize = 20;

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

/// The listener's TLS as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    #[serde(default)]
    require_client_certificate: bool,
    #[serde(default)]
    trust_chain_verification: TrustChainVerification,
    #[serde(default)]
    certificate: RawPeer,
}

/// The peers as they are written: by name, in order.
pub(super) struct RawPeers(Vec<(String, RawPeer)>);

impl RawTls {
    /// The TLS of a scenario; none when neither the listener nor a peer is said to have any.
    pub(super) fn check(tls: Option<Self>, peers: Option<RawPeers>) -> Result<Option<Tls>, String> {
        if tls.is_none() && peers.is_none() {
            return Ok(None);
        }
        let tls = tls.unwrap_or_default();
        let certificate = tls.certificate.check_own();
        let certificate = certificate.map_err(|what| format!("tls.certificate.{what}"))?;
        let peers = match peers {
            Some(RawPeers(peers)) => {
                let peers = peers.into_iter().map(|(name, peer)| {
                    let place = format!("peers.{name}");
                    peer.check(name).map_err(|what| format!("{place}.{what}"))
                });
                peers.collect::<Result<Vec<_>, String>>()?
            }
            None => vec![Peer {
                name: "client".into(),
                certificate: None,
                server_name: None,
                version: TlsVersion::default(),
            }],
        };
        Ok(Some(Tls {
            require_client_certificate: tls.require_client_certificate,
            trust_chain_verification: tls.trust_chain_verification,
            certificate,
            peers,
        }))
    }
}

impl<'de> Deserialize<'de> for RawPeers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PeersVisitor;

        impl<'de> Visitor<'de> for PeersVisitor {
            type Value = RawPeers;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("peers by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawPeers, A::Error> {
                let mut peers: Vec<(String, RawPeer)> = Vec::new();
                while let Some((name, peer)) = map.next_entry::<String, RawPeer>()? {
                    peers.push((name, peer));
                }
                match peers.len() {
                    0 => Err(de::Error::custom("peers: none; name at least one")),
                    count if count > MOST_PEERS => Err(de::Error::custom(format!(
                        "peers: {count} are above the bound of {MOST_PEERS}"
                    ))),
                    _ => Ok(RawPeers(peers)),
                }
            }
        }

        deserializer.deserialize_map(PeersVisitor)
    }
}

/// A peer: what its certificate says, and how it connects; the proxy's own certificate is written so too.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPeer {
    certificate: Option<String>,
    subject: Option<String>,
    san: Option<Vec<RawSan>>,
    issuer: Option<Issuer>,
    serial: Option<String>,
    not_before: Option<RawMoment>,
    not_after: Option<RawMoment>,
    ca: Option<WordOrFlag>,
    key_usage: Option<WordOrList<KeyUsage>>,
    extended_key_usage: Option<WordOrList<ExtendedKeyUsage>>,
    server_name: Option<String>,
    version: Option<TlsVersion>,
}

impl RawPeer {
    fn check(self, name: String) -> Result<Peer, String> {
        let server_name = self.server_name.clone();
        if let Some(server_name) = server_name.as_ref().filter(|name| !is_host_name(name)) {
            return Err(format!("server_name: `{server_name}` is not a name of a host"));
        }
        let version = self.version.unwrap_or_default();
        let certificate = match self.certificate.as_deref() {
            None => Some(self.issuance(&name)?),
            Some("none") if self.says_something() => {
                return Err(
                    "certificate: it has none; remove what it says, or `certificate`".into()
                );
            }
            Some("none") => None,
            Some(word) => return Err(format!("certificate: `{word}`; write none, or remove it")),
        };
        Ok(Peer { name, certificate, server_name, version })
    }

    /// The proxy's own certificate.
    fn check_own(self) -> Result<Issuance, String> {
        let of_peers = [
            ("certificate", self.certificate.is_some()),
            ("server_name", self.server_name.is_some()),
            ("version", self.version.is_some()),
        ];
        match of_peers.iter().find(|(_, is_there)| *is_there) {
            Some((key, _)) => Err(format!("{key}: belongs to a peer, not to the proxy")),
            None => self.issuance("proxy"),
        }
    }

    fn says_something(&self) -> bool {
        self.subject.is_some()
            || self.san.is_some()
            || self.issuer.is_some()
            || self.serial.is_some()
            || self.not_before.is_some()
            || self.not_after.is_some()
            || self.ca.is_some()
            || self.key_usage.is_some()
            || self.extended_key_usage.is_some()
    }

    fn issuance(self, name: &str) -> Result<Issuance, String> {
        let subject = match self.subject {
            Some(text) => DistinguishedName::parse(&text),
            None => DistinguishedName::of_common_name(name),
        };
        let mut issuance = Issuance::new(subject.map_err(|error| format!("subject: {error}"))?);
        if let Some(names) = self.san {
            issuance.subject_alt_names = names.into_iter().map(|RawSan(name)| name).collect();
        }
        issuance.issuer = self.issuer.unwrap_or_default();
        issuance.serial = self.serial.map(|text| serial(&text)).transpose()?;
        if let Some(RawMoment(moment)) = self.not_before {
            issuance.not_before = moment;
        }
        if let Some(RawMoment(moment)) = self.not_after {
            issuance.not_after = moment;
        }
        if let Some(WordOrFlag(ca)) = self.ca {
            issuance.ca = ca;
        }
        if let Some(usage) = self.key_usage {
            issuance.key_usage = usage.check("key_usage")?;
        }
        if let Some(usage) = self.extended_key_usage {
            issuance.extended_key_usage = usage.check("extended_key_usage")?;
        }
        Ok(issuance)
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

fn serial(text: &str) -> Result<Vec<u8>, String> {
    let bytes = unhex::<de::value::Error>(text).map_err(|error| format!("serial: {error}"))?;
    let has_room = bytes.first().is_some_and(|first| *first < 0x80);
    match bytes.len() {
        0 => Err("serial: empty; write at least one byte in hex".into()),
        length if length > LONGEST_SERIAL || (length == LONGEST_SERIAL && !has_room) => {
            Err(format!("serial: {length} bytes are above the bound of 159 bits"))
        }
        _ => Ok(bytes),
    }
}

/// A name with its kind before it, as OpenSSL writes them: `URI:spiffe://acme/web`.
struct RawSan(SubjectAltName);

impl<'de> Deserialize<'de> for RawSan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            de::Error::custom(format!(
                "`{text}` is not a subject alternative name; \
                 write URI:…, DNS:…, email:… or IP:…, in ASCII"
            ))
        };
        let (kind, name) = text.split_once(':').filter(|_| text.is_ascii()).ok_or_else(wrong)?;
        Ok(Self(match kind {
            "URI" => SubjectAltName::Uri(name.into()),
            "DNS" => SubjectAltName::Dns(name.into()),
            "email" => SubjectAltName::Email(name.into()),
            "IP" => SubjectAltName::Ip(name.parse().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        }))
    }
}

struct RawMoment(CertificateTime);

impl<'de> Deserialize<'de> for RawMoment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        moment(&text).map(Self).map_err(de::Error::custom)
    }
}

fn moment(text: &str) -> Result<CertificateTime, String> {
    match (text.strip_prefix('-'), text.strip_prefix('+')) {
        (Some(before), _) => return duration(before).map(CertificateTime::Before),
        (None, Some(after)) => return duration(after).map(CertificateTime::After),
        (None, None) => {}
    }
    let date = DateTime::parse_from_rfc3339(text).map_err(|_| {
        format!(
            "`{text}` is not a moment; write -1h or +24h from the scenario's begin, \
             or a date as 2026-01-01T00:00:00Z"
        )
    })?;
    match u64::try_from(date.timestamp()).map(Duration::from_secs) {
        Ok(at) if at < LATEST => Ok(CertificateTime::At(at)),
        Ok(_) | Err(_) => Err(format!("`{text}` is not between 1970 and 2199")),
    }
}

/// `true`, `false`, or `none` for nothing said.
struct WordOrFlag(Option<bool>);

impl<'de> Deserialize<'de> for WordOrFlag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagVisitor;

        impl Visitor<'_> for FlagVisitor {
            type Value = WordOrFlag;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false or none")
            }

            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<WordOrFlag, E> {
                Ok(WordOrFlag(Some(flag)))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<WordOrFlag, E> {
                match word {
                    "none" => Ok(WordOrFlag(None)),
                    _ => Err(E::custom(format!("`{word}`; write true, false or none"))),
                }
            }
        }

        deserializer.deserialize_any(FlagVisitor)
    }
}

/// A list, or `none` for nothing said.
enum WordOrList<T> {
    Word(String),
    List(Vec<T>),
}

impl<T> WordOrList<T> {
    fn check(self, key: &str) -> Result<Option<Vec<T>>, String> {
        match self {
            Self::Word(word) if word == "none" => Ok(None),
            Self::Word(word) => Err(format!("{key}: `{word}`; write none or a list")),
            Self::List(list) if list.is_empty() => {
                Err(format!("{key}: an empty list; write none to say nothing of it"))
            }
            Self::List(list) => Ok(Some(list)),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for WordOrList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = WordOrList<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list, or none")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<WordOrList<T>, E> {
                Ok(WordOrList::Word(word.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<WordOrList<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(WordOrList::List(all))
            }
        }

        deserializer.deserialize_any(ListVisitor(std::marker::PhantomData))
    }
}
