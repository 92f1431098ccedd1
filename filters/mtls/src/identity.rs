//! Who calls: one typed answer from three sources, to the letter of the SPIFFE standards.
//!
//! A caller is nobody, somebody, or somebody who has shown what cannot be believed. The last is a
//! [`Refusal`] and never nobody: a broken certificate must not pass where no certificate may.
//!
//! Not here: who may do what, which is [`crate::policy`].

pub mod certificate;
mod der;
mod pem;
mod presented;
pub mod svid;
pub mod xfcc;

use std::error::Error;
use std::fmt;

use sha2::{Digest, Sha256};
use tollgate::origin::SpiffeId;

use self::certificate::Certificate;
pub use self::presented::Presented;
use self::xfcc::Element;
use crate::time::Moment;

/// The name of the filter state in which a waypoint keeps the caller of the tunnel around a connection.
///
/// Source: Istio, `pilot/pkg/security/authz/model/principal.go`.
pub const WAYPOINT_PRINCIPAL: &str = "io.istio.peer_principal";

/// Where a policy takes identities from, and what makes them believable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Where from.
    pub source: Source,
    /// Whether a caller has to be somebody.
    pub is_required: bool,
    /// What a certificate has to be.
    pub checks: Checks,
    /// Who is refused whatever else is said.
    pub revoked: Revoked,
}

/// Where identities are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The certificate of the connection.
    Connection,
    /// What the waypoint says of the tunnel around the connection.
    Waypoint,
    /// What a known proxy before says in `x-forwarded-client-cert`.
    Forwarded(Forwarded),
}

/// What makes a certificate believable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Who says that it was verified.
    pub verified_by: Verifier,
    /// What is read of it.
    pub reads: Reads,
    /// What form it has.
    pub svid: Svid,
    /// How long after the first second of its validity it is taken, in seconds.
    pub max_age_seconds: Option<u64>,
}

/// Who says that a certificate was verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verifier {
    /// The proxy, connection by connection: `connection.peer_certificate_valid`.
    #[default]
    Proxy,
    /// The operator: the listener lets nobody in whose certificate it has not verified.
    Listener,
}

/// What is read of a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// All of it.
    #[default]
    Certificate,
    /// Its first names only, on proxies that do not tell the rest. Weaker: neither its end nor a second URI
    /// nor what its key is for can be seen.
    FirstNames,
}

/// What form a certificate has to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Svid {
    /// It is an X.509-SVID.
    #[default]
    Required,
    /// One without a URI is good, too: it has DNS names and a subject.
    Optional,
}

/// Who is believed about clients behind proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// Which element says who the caller is, from the right; 1 is the last.
    pub hops: usize,
    /// Who the proxies say that they are (`By`), each of the elements from that one on.
    pub by: Vec<SpiffeId>,
    /// Who may connect to tell: the IDs of the certificates of the proxies right before this one.
    pub proxies: Vec<SpiffeId>,
    /// Digests of client certificates that are taken, in hex; all if there are none.
    pub hashes: Vec<String>,
}

/// Callers that are refused whatever else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// By SPIFFE ID.
    pub ids: Vec<SpiffeId>,
    /// By the SHA-256 digest of the certificate, in lower-case hex.
    pub digests: Vec<String>,
    /// By the serial number, the highest byte first.
    pub serials: Vec<Vec<u8>>,
}

/// Somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Its SPIFFE ID.
    pub id: Option<SpiffeId>,
    /// The DNS names of its certificate.
    pub dns_names: Vec<String>,
    /// The subject of its certificate, as the proxy writes it.
    pub subject: Option<String>,
    /// The SHA-256 digest of its certificate, in lower-case hex.
    pub digest: Option<String>,
    /// The serial number of its certificate.
    pub serial: Option<Vec<u8>>,
}

impl Identity {
    /// Who holds the certificate of a connection; `None` for nobody.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when there is a certificate that cannot be believed.
    pub fn of_connection(
        &self,
        presented: Presented,
        now: Moment,
    ) -> Result<Option<Caller>, Refusal> {
        if !presented.is_presented {
            return Ok(None);
        }
        match (self.checks.verified_by, presented.is_valid) {
            // What Envoy says is not asked for: of a session that was resumed it says no.
            (Verifier::Listener, _) | (Verifier::Proxy, Some(true)) => {}
            (Verifier::Proxy, Some(false)) => return Err(Refusal::NotVerified),
            (Verifier::Proxy, None) => return Err(Refusal::Unverifiable),
        }
        let caller = match self.checks.reads {
            Reads::Certificate => {
                let text = presented.pem.as_deref().ok_or(Refusal::NoCertificateText)?;
                let certificate = Certificate::from_pem(text).map_err(|_| Refusal::Unreadable)?;
                Caller {
                    subject: presented.subject,
                    digest: presented.digest,
                    ..self.of_certificate(certificate, now)?
                }
            }
            Reads::FirstNames => Caller {
                id: self.of_uris(presented.uri.as_slice())?,
                dns_names: presented.dns_name.into_iter().collect(),
                subject: presented.subject,
                digest: presented.digest,
                serial: None,
            },
        };
        self.revoked.check(&caller)?;
        Ok(Some(caller))
    }

    /// Who a waypoint says that it is.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when what it says is no SPIFFE ID of a workload.
    pub fn of_waypoint(&self, principal: Option<&[u8]>) -> Result<Option<Caller>, Refusal> {
        let Some(principal) = principal.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let text = str::from_utf8(principal).map_err(|_| Refusal::NotASpiffeId)?;
        let id = SpiffeId::parse(text).map_err(|_| Refusal::NotASpiffeId)?;
        let caller = Caller { id: Some(svid::of_workload(id)?), ..Caller::default() };
        self.revoked.check(&caller)?;
        Ok(Some(caller))
    }

    /// Who the proxies before say that it is. `proxy` is who holds the connection's own certificate.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when the proxy is none of those that are believed, or says what cannot be.
    pub fn of_forwarded<'a>(
        &self,
        forwarded: &Forwarded,
        proxy: Option<&Caller>,
        lines: impl Iterator<Item = &'a [u8]>,
        now: Moment,
    ) -> Result<Option<Caller>, Refusal> {
        let known = proxy.and_then(|proxy| proxy.id.as_ref());
        if !known.is_some_and(|id| forwarded.proxies.contains(id)) {
            return Err(Refusal::UnknownProxy);
        }
        let elements = xfcc::parse(lines).map_err(|_| Refusal::MalformedXfcc)?;
        if elements.is_empty() {
            return Ok(None);
        }
        let from_the_right = elements.len().checked_sub(forwarded.hops);
        let at = from_the_right.ok_or(Refusal::TooFewHops)?;
        let trusted = elements.get(at..).unwrap_or_default();
        let is_known_by = |element: &Element| {
            let known = |uri: &String| forwarded.by.iter().any(|id| id.as_str() == uri);
            !element.by.is_empty() && element.by.iter().any(known)
        };
        if !trusted.iter().all(is_known_by) {
            return Err(Refusal::UnknownProxy);
        }
        let element = trusted.first().ok_or(Refusal::TooFewHops)?;
        let told = element.hash.as_ref().map(|hash| hash.to_ascii_lowercase());
        let (certificate, digest) = match &element.cert {
            None => (None, told),
            Some(encoded) => {
                let (certificate, digest) = read_forwarded(encoded).ok_or(Refusal::Unreadable)?;
                if told.is_some_and(|told| told != digest) {
                    return Err(Refusal::WrongHash);
                }
                (Some(certificate), Some(digest))
            }
        };
        let is_pinned = |hash: &String| forwarded.hashes.contains(hash);
        if !forwarded.hashes.is_empty() && !digest.as_ref().is_some_and(is_pinned) {
            return Err(Refusal::UnknownHash);
        }
        let mut caller = match certificate {
            None => Caller {
                id: self.of_uris(&element.uris)?,
                dns_names: element.dns_names.clone(),
                ..Caller::default()
            },
            Some(certificate) => {
                if !element.uris.is_empty() && element.uris != certificate.uris {
                    return Err(Refusal::MalformedXfcc);
                }
                self.of_certificate(certificate, now)?
            }
        };
        caller.digest = digest;
        caller.subject = element.subject.clone().filter(|subject| !subject.is_empty());
        self.revoked.check(&caller)?;
        Ok(Some(caller))
    }

    fn of_certificate(&self, certificate: Certificate, now: Moment) -> Result<Caller, Refusal> {
        let (begin, end) = certificate.validity.ok_or(Refusal::Unreadable)?;
        if now < begin {
            return Err(Refusal::NotYetValid);
        }
        if now > end {
            return Err(Refusal::Expired);
        }
        let age = now.unix_seconds().saturating_sub(begin.unix_seconds());
        if self.checks.max_age_seconds.is_some_and(|most| age > most) {
            return Err(Refusal::TooOld);
        }
        let id = match (self.checks.svid, certificate.uris.as_slice()) {
            (Svid::Optional, []) if certificate.is_ca => return Err(Refusal::CertificateOfCa),
            (Svid::Optional, []) => None,
            (Svid::Optional | Svid::Required, _) => Some(svid::spiffe_id(&certificate)?),
        };
        Ok(Caller {
            id,
            dns_names: certificate.dns_names,
            subject: None,
            digest: None,
            serial: Some(certificate.serial),
        })
    }

    fn of_uris(&self, uris: &[String]) -> Result<Option<SpiffeId>, Refusal> {
        match (uris, self.checks.svid) {
            ([], Svid::Optional) => Ok(None),
            ([], Svid::Required) => Err(Refusal::NoUri),
            ([uri], _) => {
                let id = SpiffeId::parse(uri).map_err(|_| Refusal::NotASpiffeId)?;
                svid::of_workload(id).map(Some)
            }
            (_, _) => Err(Refusal::SeveralUris),
        }
    }
}

impl Revoked {
    fn check(&self, caller: &Caller) -> Result<(), Refusal> {
        if caller.id.as_ref().is_some_and(|id| self.ids.contains(id)) {
            return Err(Refusal::RevokedId);
        }
        if caller.digest.as_ref().is_some_and(|digest| self.digests.contains(digest)) {
            return Err(Refusal::RevokedDigest);
        }
        if caller.serial.as_ref().is_some_and(|serial| self.serials.contains(serial)) {
            return Err(Refusal::RevokedSerial);
        }
        Ok(())
    }
}

/// A certificate that a proxy before has written down, and its digest.
fn read_forwarded(encoded: &str) -> Option<(Certificate, String)> {
    let der = pem::decode(&percent_decoded(encoded)?)?;
    let digest = Sha256::digest(&der);
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
    Some((Certificate::from_der(&der).ok()?, digits.collect()))
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let byte = digit(*high)?.checked_mul(16)?.checked_add(digit(*low)?)?;
                bytes.push(u8::try_from(byte).ok()?);
                after
            }
            (b'%', _) => return None,
            (byte, after) => {
                bytes.push(byte);
                after
            }
        };
    }
    Some(bytes)
}

/// Why what a caller shows is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The proxy has not found the certificate good.
    NotVerified,
    /// The proxy does not tell whether it has verified the certificate.
    Unverifiable,
    /// The proxy does not tell the certificate.
    NoCertificateText,
    /// The certificate cannot be read.
    Unreadable,
    /// Its validity has not begun.
    NotYetValid,
    /// Its validity is over.
    Expired,
    /// It began to be valid longer ago than is taken.
    TooOld,
    /// It has no URI.
    NoUri,
    /// It has more than one URI.
    SeveralUris,
    /// What it or a proxy says is no SPIFFE ID.
    NotASpiffeId,
    /// Its SPIFFE ID is that of a trust domain, and of no workload.
    RootPath,
    /// It is that of a CA.
    CertificateOfCa,
    /// It does not say what its key is for.
    NoKeyUsage,
    /// Its key signs certificates.
    SigningKey,
    /// Its key is not for signatures, or that is not critical.
    WrongKeyUsage,
    /// It names purposes, and not both sides of TLS.
    WrongPurpose,
    /// It has no subject, and its names are not critical.
    NamesNotCritical,
    /// The proxy before is none that is believed.
    UnknownProxy,
    /// What the proxy before says may be read in two ways.
    MalformedXfcc,
    /// Fewer proxies have said something than there are.
    TooFewHops,
    /// The certificate is none of those that are pinned.
    UnknownHash,
    /// The digest that the proxy before tells is not that of the certificate beside it.
    WrongHash,
    /// The SPIFFE ID is refused.
    RevokedId,
    /// The certificate is refused by its digest.
    RevokedDigest,
    /// The certificate is refused by its serial number.
    RevokedSerial,
}

impl Refusal {
    /// How metrics and logs call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotVerified => "not_verified",
            Self::Unverifiable => "unverifiable",
            Self::NoCertificateText => "no_certificate_text",
            Self::Unreadable => "unreadable_certificate",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::TooOld => "too_old",
            Self::NoUri => "no_uri",
            Self::SeveralUris => "several_uris",
            Self::NotASpiffeId => "not_a_spiffe_id",
            Self::RootPath => "root_path",
            Self::CertificateOfCa => "certificate_of_ca",
            Self::NoKeyUsage => "no_key_usage",
            Self::SigningKey => "signing_key",
            Self::WrongKeyUsage => "wrong_key_usage",
            Self::WrongPurpose => "wrong_purpose",
            Self::NamesNotCritical => "names_not_critical",
            Self::UnknownProxy => "unknown_proxy",
            Self::MalformedXfcc => "malformed_xfcc",
            Self::TooFewHops => "too_few_hops",
            Self::UnknownHash => "unknown_hash",
            Self::WrongHash => "wrong_hash",
            Self::RevokedId => "revoked_id",
            Self::RevokedDigest => "revoked_digest",
            Self::RevokedSerial => "revoked_serial",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error for Refusal {}
