//! The few fields of a certificate that say who holds it, and for how long.
//!
//! Signatures are not checked: that is the proxy's part, which has the trust bundle.
//!
//! Source: RFC 5280, section 4.

use std::error::Error;
use std::fmt;

use super::der::{
    BIT_STRING, BOOLEAN, Elements, GENERALIZED_TIME, INTEGER, InvalidDer, OBJECT_IDENTIFIER,
    OCTET_STRING, SEQUENCE, UTC_TIME, boolean,
};
use super::pem;
use crate::time::{Moment, number};

/// The most bytes of a certificate's text that are read.
const MOST_BYTES: usize = 64 * 1024;

/// The most names of a certificate.
const MOST_NAMES: usize = 256;

const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const UNIQUE_IDS: [u8; 2] = [0x81, 0x82];
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;

const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// What a certificate says of its holder. That somebody has verified it is not said here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Its serial number, without zeros at its beginning, the highest byte first.
    pub serial: Vec<u8>,
    /// The first and the last second at which it is valid.
    pub validity: Option<(Moment, Moment)>,
    /// Whether its subject is empty.
    pub is_subject_empty: bool,
    /// Its URIs, in order.
    pub uris: Vec<String>,
    /// Its DNS names, in order.
    pub dns_names: Vec<String>,
    /// Whether its alternative names are critical.
    pub is_san_critical: bool,
    /// Whether it is that of a CA.
    pub is_ca: bool,
    /// What its key may be used for, if it says so.
    pub key_usage: Option<KeyUsage>,
    /// Whether its purposes are both sides of TLS, if it names any.
    pub is_for_tls: Option<bool>,
}

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage {
    /// Whether others may not overlook it.
    pub is_critical: bool,
    /// Whether it signs what TLS has signed.
    pub digital_signature: bool,
    /// Whether it signs certificates or lists of revoked ones.
    pub signs_certificates: bool,
}

impl Certificate {
    /// Reads the only certificate of a PEM text.
    ///
    /// # Errors
    ///
    /// [`InvalidCertificate`] when it is not exactly one that can be read whole.
    pub fn from_pem(text: &[u8]) -> Result<Self, InvalidCertificate> {
        if text.len() > MOST_BYTES {
            return Err(InvalidCertificate);
        }
        Self::from_der(&pem::decode(text).ok_or(InvalidCertificate)?)
    }

    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// [`InvalidCertificate`] when it is not DER, repeats an extension, or holds a name that is not ASCII or
    /// has a NUL.
    pub fn from_der(bytes: &[u8]) -> Result<Self, InvalidCertificate> {
        read(bytes).map_err(|InvalidDer| InvalidCertificate)
    }
}

/// Bytes that are no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidCertificate;

impl fmt::Display for InvalidCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the certificate cannot be read")
    }
}

impl Error for InvalidCertificate {}

fn read(bytes: &[u8]) -> Result<Certificate, InvalidDer> {
    let mut whole = Elements::of(bytes);
    let mut signed = whole.within(SEQUENCE)?;
    whole.end()?;
    let mut fields = signed.within(SEQUENCE)?;
    signed.next(SEQUENCE)?;
    signed.next(BIT_STRING)?;
    signed.end()?;

    fields.optional(VERSION)?;
    let mut certificate =
        Certificate { serial: serial(fields.next(INTEGER)?)?, ..Certificate::default() };
    fields.next(SEQUENCE)?; // how it is signed
    fields.next(SEQUENCE)?; // by whom
    let mut validity = fields.within(SEQUENCE)?;
    certificate.validity = Some((moment(&mut validity)?, moment(&mut validity)?));
    validity.end()?;
    certificate.is_subject_empty = fields.next(SEQUENCE)?.is_empty();
    fields.next(SEQUENCE)?; // its key
    for tag in UNIQUE_IDS {
        fields.optional(tag)?;
    }
    if let Some(extensions) = fields.optional(EXTENSIONS)? {
        let mut outer = Elements::of(extensions);
        let list = outer.within(SEQUENCE)?;
        outer.end()?;
        certificate.read_extensions(list)?;
    }
    fields.end()?;
    Ok(certificate)
}

impl Certificate {
    fn read_extensions(&mut self, mut list: Elements<'_>) -> Result<(), InvalidDer> {
        let mut seen: Vec<&[u8]> = Vec::new();
        while list.peek().is_some() {
            let mut extension = list.within(SEQUENCE)?;
            let id = extension.next(OBJECT_IDENTIFIER)?;
            let is_critical = extension.optional(BOOLEAN)?.map_or(Ok(false), boolean)?;
            let value = extension.next(OCTET_STRING)?;
            extension.end()?;
            if seen.contains(&id) || seen.len() > MOST_NAMES {
                return Err(InvalidDer);
            }
            seen.push(id);
            let mut value = Elements::of(value);
            match id {
                SUBJECT_ALT_NAME => {
                    self.is_san_critical = is_critical;
                    self.read_names(value.within(SEQUENCE)?)?;
                }
                BASIC_CONSTRAINTS => {
                    let mut constraints = value.within(SEQUENCE)?;
                    self.is_ca = constraints.optional(BOOLEAN)?.map_or(Ok(false), boolean)?;
                    constraints.optional(INTEGER)?;
                    constraints.end()?;
                }
                KEY_USAGE => {
                    let first = first_bits(value.next(BIT_STRING)?)?;
                    self.key_usage = Some(KeyUsage {
                        is_critical,
                        digital_signature: first & 0x80 != 0,
                        signs_certificates: first & 0x06 != 0,
                    });
                }
                EXTENDED_KEY_USAGE => {
                    let mut purposes = value.within(SEQUENCE)?;
                    let (mut server, mut client) = (false, false);
                    while purposes.peek().is_some() {
                        let purpose = purposes.next(OBJECT_IDENTIFIER)?;
                        server |= purpose == SERVER_AUTH;
                        client |= purpose == CLIENT_AUTH;
                    }
                    self.is_for_tls = Some(server && client);
                }
                _ => continue,
            }
            value.end()?;
        }
        Ok(())
    }

    fn read_names(&mut self, mut names: Elements<'_>) -> Result<(), InvalidDer> {
        while names.peek().is_some() {
            let (tag, name) = names.any()?;
            let list = match tag {
                URI => &mut self.uris,
                DNS_NAME => &mut self.dns_names,
                _ => continue,
            };
            // A NUL or a control character in a name is read as another name by somebody.
            let text = str::from_utf8(name).map_err(|_| InvalidDer)?;
            if list.len() >= MOST_NAMES || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return Err(InvalidDer);
            }
            list.push(text.to_owned());
        }
        Ok(())
    }
}

/// The first eight bits of a string of bits; what is no part of it is zero.
fn first_bits(content: &[u8]) -> Result<u8, InvalidDer> {
    let (&unused, bits) = content.split_first().ok_or(InvalidDer)?;
    let (&first, &last) = bits.first().zip(bits.last()).ok_or(InvalidDer)?;
    let is_clean = unused < 8 && last.trailing_zeros() >= u32::from(unused);
    if is_clean { Ok(first) } else { Err(InvalidDer) }
}

fn serial(content: &[u8]) -> Result<Vec<u8>, InvalidDer> {
    if content.is_empty() {
        return Err(InvalidDer);
    }
    Ok(content.iter().copied().skip_while(|&byte| byte == 0).collect())
}

fn moment(validity: &mut Elements<'_>) -> Result<Moment, InvalidDer> {
    let (tag, text) = validity.any()?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2).ok_or(InvalidDer)?;
            let year = number(year).ok_or(InvalidDer)?;
            (year.saturating_add(if year < 50 { 2000 } else { 1900 }), rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4).ok_or(InvalidDer)?;
            (number(year).ok_or(InvalidDer)?, rest)
        }
        _ => return Err(InvalidDer),
    };
    let [m1, m2, d1, d2, h1, h2, n1, n2, s1, s2, b'Z'] = *rest else {
        return Err(InvalidDer);
    };
    let two = |digits: [u8; 2]| number(&digits).ok_or(InvalidDer);
    let time = [two([h1, h2])?, two([n1, n2])?, two([s1, s2])?];
    Moment::of(year, two([m1, m2])?, two([d1, d2])?, time).ok_or(InvalidDer)
}
