//! What the proxy tells of the certificate of a connection.

use tollgate::attributes::{Attribute, AttributeError, Text, connection};

use super::Reads;

/// What a client has presented, as the proxy tells it; unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presented {
    /// Whether there is a certificate.
    pub is_presented: bool,
    /// Whether the proxy has verified it; `None` when it does not tell.
    pub is_valid: Option<bool>,
    /// The certificate.
    pub pem: Option<Vec<u8>>,
    /// Its first URI, where the certificate itself is not read.
    pub uri: Option<String>,
    /// Its first DNS name, where the certificate itself is not read.
    pub dns_name: Option<String>,
    /// Its subject.
    pub subject: Option<String>,
    /// Its SHA-256 digest, in lower-case hex.
    pub digest: Option<String>,
}

impl Presented {
    /// Asks the proxy about the connection at hand.
    ///
    /// # Errors
    ///
    /// [`AttributeError`] when it does not answer, or with something else.
    pub fn read(reads: Reads) -> Result<Self, AttributeError> {
        if connection::PEER_CERTIFICATE_PRESENTED.read()? != Some(true) {
            return Ok(Self::default());
        }
        let mut presented = Self {
            is_presented: true,
            is_valid: connection::PEER_CERTIFICATE_VALID.read()?,
            subject: text(&connection::SUBJECT_OF_PEER)?,
            digest: text(&connection::SHA256_OF_PEER_CERTIFICATE)?,
            ..Self::default()
        };
        match reads {
            Reads::Certificate => {
                let pem = connection::PEER_CERTIFICATE.read()?;
                presented.pem = pem.map(Text::into_bytes).filter(|pem| !pem.is_empty());
            }
            Reads::FirstNames => {
                presented.uri = text(&connection::FIRST_URI_SAN_OF_PEER)?;
                presented.dns_name = text(&connection::FIRST_DNS_SAN_OF_PEER)?;
            }
        }
        Ok(presented)
    }
}

/// A text, if there is one. What is no UTF-8 becomes a text that equals no other.
fn text(attribute: &Attribute<Text>) -> Result<Option<String>, AttributeError> {
    let text = attribute.read()?.filter(|text| !text.is_empty());
    Ok(text.map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned()))
}
