//! A certificate as the proxy tells of it.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{self, Decode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::DistinguishedName;

/// How many letters of base64 stand in a line.
const LINE: usize = 64;

/// A certificate, and what it says; serialised as the base64 of its DER.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Certificate {
    der: Vec<u8>,
    pub(super) parsed: x509_cert::Certificate,
    subject: String,
    uris: Vec<String>,
    dns: Vec<String>,
    digest: String,
}

impl Certificate {
    /// Reads a certificate from its DER.
    ///
    /// # Errors
    ///
    /// [`NotRead`].
    pub fn read(der: Vec<u8>) -> Result<Self, NotRead> {
        let parsed = x509_cert::Certificate::from_der(&der).map_err(NotRead)?;
        let subject = DistinguishedName(parsed.tbs_certificate.subject.clone()).to_string();
        let digest = hex(&Sha256::digest(&der));
        let (mut uris, mut dns) = (Vec::new(), Vec::new());
        let names = extension::<SubjectAltName>(&parsed).map_err(NotRead)?;
        for name in names.into_iter().flat_map(|names| names.0) {
            match name {
                GeneralName::UniformResourceIdentifier(uri) => uris.push(uri.to_string()),
                GeneralName::DnsName(name) => dns.push(name.to_string()),
                GeneralName::OtherName(_)
                | GeneralName::Rfc822Name(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EdiPartyName(_)
                | GeneralName::IpAddress(_)
                | GeneralName::RegisteredId(_) => {}
            }
        }
        Ok(Self { der, parsed, subject, uris, dns, digest })
    }

    /// Its DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its subject, the most particular part first.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Its names that are URIs, in order.
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// Its names of the DNS, in order.
    pub fn dns(&self) -> &[String] {
        &self.dns
    }

    /// Its subject alternative names in order, as scenarios write them; `None` when one is of a kind that
    /// they do not have.
    pub fn written_names(&self) -> Option<Vec<String>> {
        let names = extension::<SubjectAltName>(&self.parsed).ok()?;
        let written = names.into_iter().flat_map(|names| names.0).map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(format!("URI:{uri}")),
            GeneralName::DnsName(name) => Some(format!("DNS:{name}")),
            GeneralName::Rfc822Name(address) => Some(format!("email:{address}")),
            GeneralName::IpAddress(address) => {
                let bytes = address.as_bytes();
                let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
                let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()?;
                Some(format!("IP:{address}"))
            }
            GeneralName::OtherName(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EdiPartyName(_)
            | GeneralName::RegisteredId(_) => None,
        });
        written.collect()
    }

    /// The SHA-256 of its DER, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Its serial number, in hex.
    pub fn serial(&self) -> String {
        hex(self.parsed.tbs_certificate.serial_number.as_bytes())
    }

    /// It as PEM.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// Its PEM as Envoy writes it into one line.
    pub fn url_encoded_pem(&self) -> String {
        let mut encoded = String::new();
        for letter in self.pem().chars() {
            match letter {
                '\n' => encoded.push_str("%0A"),
                ' ' => encoded.push_str("%20"),
                '+' => encoded.push_str("%2B"),
                '/' => encoded.push_str("%2F"),
                '=' => encoded.push_str("%3D"),
                letter => encoded.push(letter),
            }
        }
        encoded
    }
}

impl From<Certificate> for String {
    fn from(certificate: Certificate) -> Self {
        STANDARD.encode(certificate.der)
    }
}

impl TryFrom<String> for Certificate {
    type Error = NotRead;

    fn try_from(text: String) -> Result<Self, NotRead> {
        let der = STANDARD.decode(text).map_err(|_| NotRead(der::ErrorKind::Failed.into()))?;
        Self::read(der)
    }
}

/// DER as PEM.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem + &format!("-----END {label}-----\n")
}

/// What a certificate says in an extension, if it has that.
pub(super) fn extension<T>(certificate: &x509_cert::Certificate) -> der::Result<Option<T>>
where
    T: for<'a> Decode<'a> + der::oid::AssociatedOid,
{
    let wanted: ObjectIdentifier = T::OID;
    let mut all = certificate.tbs_certificate.extensions.iter().flatten();
    let found = all.find(|extension| extension.extn_id == wanted);
    found.map(|extension| T::from_der(extension.extn_value.as_bytes())).transpose()
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes that are no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRead(der::Error);

impl fmt::Display for NotRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a certificate: {}", self.0)
    }
}

impl std::error::Error for NotRead {}
