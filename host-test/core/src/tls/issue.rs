//! Issues the certificates of a scenario: the same bytes each time, on every host.
//!
//! Keys follow from names, and signatures from keys and what is signed (RFC 6979). Whoever can read this
//! can make all keys: they protect nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::EncodePrivateKey;
use sha2::{Digest, Sha256};
use x509_cert::TbsCertificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::{BitString, GeneralizedTime, Ia5String, OctetString, UtcTime};
use x509_cert::der::flagset::FlagSet;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{self, Encode};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{self, BasicConstraints, KeyUsages};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

use super::certificate::pem;
use super::{Certificate, DistinguishedName, KeyUsage, NotRead};
use crate::scenario::{CertificateTime, Issuance, Issuer, LATEST, SubjectAltName, Tls};

/// The first second that is written with four digits for the year: 2050-01-01T00:00:00Z.
const FOUR_DIGITS: Duration = Duration::from_hours(701_280);

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The certificate.
    pub certificate: Arc<Certificate>,
    /// Its private key: the DER of PKCS #8.
    pub key: Vec<u8>,
}

impl Credential {
    /// Its private key as PEM.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

/// All that is issued for a scenario.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The CA that the proxy trusts.
    pub trusted: Arc<Certificate>,
    /// The proxy's own.
    pub own: Credential,
    /// Those of the peers, in their order.
    pub peers: Vec<Option<Credential>>,
}

impl Credentials {
    /// Issues what a scenario says, when that begins so long after the Unix epoch.
    ///
    /// # Errors
    ///
    /// [`NotIssued`] when a certificate cannot say what it should.
    pub fn issue(tls: &Tls, begin: Duration) -> Result<Self, NotIssued> {
        let cas = Cas { trusted: Ca::new("trusted")?, untrusted: Ca::new("untrusted")? };
        let peers = tls.peers.iter().map(|peer| {
            let issuance = peer.certificate.as_ref();
            issuance.map(|issuance| cas.issue(&peer.name, issuance, begin)).transpose()
        });
        Ok(Self {
            own: cas.issue("proxy", &tls.certificate, begin)?,
            peers: peers.collect::<Result<_, _>>()?,
            trusted: cas.trusted.certificate(begin)?,
        })
    }
}

/// Who signs.
struct Cas {
    trusted: Ca,
    untrusted: Ca,
}

struct Ca {
    name: DistinguishedName,
    key: SigningKey,
}

impl Ca {
    fn new(name: &str) -> Result<Self, NotIssued> {
        let key = key_of("ca", name)?;
        let name = DistinguishedName::parse(&format!("CN={name},O=Tollgate"));
        Ok(Self {
            name: name.map_err(|_| NotIssued::Encoding(der::ErrorKind::Failed.into()))?,
            key,
        })
    }

    fn certificate(&self, begin: Duration) -> Result<Arc<Certificate>, NotIssued> {
        let own = Issuance {
            // Longer than whatever it signs.
            not_before: CertificateTime::At(Duration::ZERO),
            not_after: CertificateTime::At(LATEST.saturating_sub(Duration::from_secs(1))),
            ca: Some(true),
            key_usage: Some(vec![KeyUsage::KeyCertSign, KeyUsage::CrlSign]),
            extended_key_usage: None,
            serial: Some(vec![1]),
            ..Issuance::new(self.name.clone())
        };
        Ok(Arc::new(sign(&own, &[1], &self.key, self, begin)?))
    }
}

impl Cas {
    fn issue(
        &self,
        name: &str,
        issuance: &Issuance,
        begin: Duration,
    ) -> Result<Credential, NotIssued> {
        let key = key_of("peer", name)?;
        let itself;
        let issuer = match issuance.issuer {
            Issuer::Trusted => &self.trusted,
            Issuer::Untrusted => &self.untrusted,
            Issuer::Itself => {
                itself = Ca { name: issuance.subject.clone(), key: key.clone() };
                &itself
            }
        };
        let serial = issuance.serial.clone().unwrap_or_else(|| serial_of(name));
        let certificate = Arc::new(sign(issuance, &serial, &key, issuer, begin)?);
        let key = p256::SecretKey::from(&key).to_pkcs8_der();
        let key = key.map_err(|_| NotIssued::Encoding(der::ErrorKind::Failed.into()))?;
        Ok(Credential { certificate, key: key.as_bytes().to_vec() })
    }
}

/// The key that follows from a name. Of 2³² hashes one is no key; then the next one is taken.
fn key_of(kind: &str, name: &str) -> Result<SigningKey, NotIssued> {
    const ROUNDS: u8 = 8;
    let hash = |round: u8| Sha256::digest(format!("tollgate {kind} {round} {name}"));
    let mut keys = (0..ROUNDS).filter_map(|round| SigningKey::from_slice(&hash(round)).ok());
    keys.next().ok_or(NotIssued::Encoding(der::ErrorKind::Failed.into()))
}

fn serial_of(name: &str) -> Vec<u8> {
    let mut serial = Sha256::digest(format!("tollgate serial {name}")).to_vec();
    serial.truncate(8);
    if let Some(first) = serial.first_mut() {
        // Positive, and without zeros that would not be written.
        *first = *first & 0x7f | 0x40;
    }
    serial
}

fn sign(
    issuance: &Issuance,
    serial: &[u8],
    key: &SigningKey,
    issuer: &Ca,
    begin: Duration,
) -> Result<Certificate, NotIssued> {
    let ecdsa_with_sha256 = AlgorithmIdentifierOwned {
        oid: der::asn1::ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"),
        parameters: None,
    };
    let tbs_certificate = TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(serial)?,
        signature: ecdsa_with_sha256.clone(),
        issuer: issuer.name.0.clone(),
        validity: Validity {
            not_before: time(issuance.not_before.since_epoch(begin))?,
            not_after: time(issuance.not_after.since_epoch(begin))?,
        },
        subject: issuance.subject.0.clone(),
        subject_public_key_info: SubjectPublicKeyInfoOwned::from_key(*key.verifying_key())?,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions(issuance)?).filter(|extensions| !extensions.is_empty()),
    };
    let signature: DerSignature = issuer.key.sign(&tbs_certificate.to_der()?);
    let certificate = x509_cert::Certificate {
        tbs_certificate,
        signature_algorithm: ecdsa_with_sha256,
        signature: BitString::from_bytes(signature.as_bytes())?,
    };
    Ok(Certificate::read(certificate.to_der()?)?)
}

fn extensions(issuance: &Issuance) -> der::Result<Vec<Extension>> {
    let mut extensions = Vec::new();
    if let Some(ca) = issuance.ca {
        extensions.push(extension(&BasicConstraints { ca, path_len_constraint: None }, true)?);
    }
    if let Some(usages) = &issuance.key_usage {
        let bits =
            usages.iter().fold(FlagSet::<KeyUsages>::default(), |bits, usage| bits | usage.bit());
        extensions.push(extension(&pkix::KeyUsage(bits), true)?);
    }
    if let Some(usages) = &issuance.extended_key_usage {
        let purposes = usages.iter().map(|usage| usage.oid()).collect();
        extensions.push(extension(&pkix::ExtendedKeyUsage(purposes), false)?);
    }
    if !issuance.subject_alt_names.is_empty() {
        let names = issuance.subject_alt_names.iter().map(general_name);
        let names = pkix::SubjectAltName(names.collect::<der::Result<_>>()?);
        // As RFC 5280 has it: without a subject there is no other name.
        extensions.push(extension(&names, issuance.subject.0.is_empty())?);
    }
    Ok(extensions)
}

fn extension<T: Encode + AssociatedOid>(value: &T, critical: bool) -> der::Result<Extension> {
    Ok(Extension { extn_id: T::OID, critical, extn_value: OctetString::new(value.to_der()?)? })
}

fn general_name(name: &SubjectAltName) -> der::Result<GeneralName> {
    Ok(match name {
        SubjectAltName::Uri(uri) => GeneralName::UniformResourceIdentifier(Ia5String::new(uri)?),
        SubjectAltName::Dns(name) => GeneralName::DnsName(Ia5String::new(name)?),
        SubjectAltName::Email(address) => GeneralName::Rfc822Name(Ia5String::new(address)?),
        SubjectAltName::Ip(address) => GeneralName::from(*address),
    })
}

fn time(since_epoch: Duration) -> der::Result<Time> {
    let seconds = Duration::from_secs(since_epoch.as_secs());
    if seconds < FOUR_DIGITS {
        UtcTime::from_unix_duration(seconds).map(Time::UtcTime)
    } else {
        GeneralizedTime::from_unix_duration(seconds).map(Time::GeneralTime)
    }
}

/// A certificate cannot say what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotIssued {
    /// It cannot be written.
    Encoding(der::Error),
    /// It cannot be read again.
    Reading(NotRead),
}

impl fmt::Display for NotIssued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding(error) => write!(f, "a certificate cannot be issued: {error}"),
            Self::Reading(error) => write!(f, "a certificate cannot be issued: {error}"),
        }
    }
}

impl std::error::Error for NotIssued {}

impl From<der::Error> for NotIssued {
    fn from(error: der::Error) -> Self {
        Self::Encoding(error)
    }
}

impl From<x509_cert::spki::Error> for NotIssued {
    fn from(_: x509_cert::spki::Error) -> Self {
        Self::Encoding(der::ErrorKind::Failed.into())
    }
}

impl From<NotRead> for NotIssued {
    fn from(error: NotRead) -> Self {
        Self::Reading(error)
    }
}
