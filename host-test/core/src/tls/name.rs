//! Distinguished names: read as RFC 4514 writes them, and told as Envoy does.

use std::fmt;

use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Encode, Tag, Tagged};
use x509_cert::name::Name;

/// Short names of `BoringSSL` for the parts of a name.
const SHORT_NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// A distinguished name; the most particular part stands first, as in `CN=web,O=Acme`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistinguishedName(pub(super) Name);

impl DistinguishedName {
    /// Reads it from text; an empty text is an empty name.
    ///
    /// # Errors
    ///
    /// [`InvalidName`].
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.parse().map(Self).map_err(|_| InvalidName { text: text.into() })
    }

    /// A name of nothing but a common name.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] when the common name is empty.
    pub fn of_common_name(name: &str) -> Result<Self, InvalidName> {
        let escaped: String = name
            .chars()
            .flat_map(|letter| ["\\".chars().next().filter(|_| needs_escape(letter)), Some(letter)])
            .flatten()
            .collect();
        Self::parse(&format!("CN={escaped}"))
    }
}

fn needs_escape(letter: char) -> bool {
    matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' | '#' | ' ')
}

/// As `X509_NAME_print_ex` of `BoringSSL` writes it with `XN_FLAG_RFC2253`.
impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.0.iter().rev().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            for (index, value) in part.0.iter().rev().enumerate() {
                if index > 0 {
                    f.write_str("+")?;
                }
                write_part(f, value)?;
            }
        }
        Ok(())
    }
}

fn write_part(f: &mut fmt::Formatter<'_>, part: &AttributeTypeAndValue) -> fmt::Result {
    let is_it = |(oid, _): &&(&str, &str)| part.oid == ObjectIdentifier::new_unwrap(oid);
    let short = SHORT_NAMES.iter().find(is_it).map(|(_, name)| *name);
    match short {
        Some(name) => write!(f, "{name}=")?,
        None => write!(f, "{}=", part.oid)?,
    }
    let is_text = matches!(
        part.value.tag(),
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::TeletexString
    );
    if !is_text || short.is_none() {
        f.write_str("#")?;
        let der = part.value.to_der().map_err(|_| fmt::Error)?;
        return der.iter().try_for_each(|byte| write!(f, "{byte:02X}"));
    }
    let text = part.value.value();
    for (index, &byte) in text.iter().enumerate() {
        let is_end = index == 0 || index + 1 == text.len();
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => write!(f, "\\{}", char::from(byte))?,
            b'#' if index == 0 => f.write_str("\\#")?,
            b' ' if is_end => f.write_str("\\ ")?,
            0x20..=0x7e => write!(f, "{}", char::from(byte))?,
            _ => write!(f, "\\{byte:02X}")?,
        }
    }
    Ok(())
}

/// A text that is no distinguished name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidName {
    /// The text.
    pub text: String,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a distinguished name; write it as CN=web,O=Acme",
            self.text.escape_debug()
        )
    }
}

impl std::error::Error for InvalidName {}
