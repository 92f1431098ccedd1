//! Peers as YAML has them.

use std::time::Duration;

use chrono::DateTime;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::{
    CertificateTime, Issuance, Issuer, LATEST, Peer, SubjectAltName, Tls, TrustChainVerification,
};
use crate::scenario::value::{duration, unhex};
use crate::tls::{DistinguishedName, ExtendedKeyUsage, KeyUsage, TlsVersion};

/// The most bytes of a serial number, as RFC 5280 has it.
const LONGEST_SERIAL: usize = 20;

/// The listener's TLS as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::scenario) struct RawTls {
    #[serde(default)]
    require_client_certificate: bool,
    #[serde(default)]
    trust_chain_verification: TrustChainVerification,
    #[serde(default)]
    certificate: RawPeer,
}

/// The peers as they are written: by name, in order.
pub(in crate::scenario) struct RawPeers(Vec<(String, RawPeer)>);

impl RawTls {
    /// The TLS of a scenario; none when neither the listener nor a peer is said to have any.
    pub(in crate::scenario) fn check(
        tls: Option<Self>,
        peers: Option<RawPeers>,
    ) -> Result<Option<Tls>, String> {
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
                Ok(RawPeers(peers))
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
