//! What a certificate says that its key is for, by the names of RFC 5280.

use serde::Deserialize;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::KeyUsages;

/// Declares names with what stands for them in a certificate.
macro_rules! usages {
    ($(#[$of:meta])* $usage:ident, $fn:ident -> $coded:ty { $( $(#[$doc:meta])* $variant:ident = $name:literal: $value:expr; )* }) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
        pub enum $usage { $( $(#[$doc])* #[serde(rename = $name)] $variant, )* }

        impl $usage {
            pub(super) fn $fn(self) -> $coded {
                match self { $( Self::$variant => $value, )* }
            }
        }
    };
}

usages! {
    /// What a key may be used for.
    KeyUsage, bit -> KeyUsages {
        /// Signing what is no certificate, as in a handshake.
        DigitalSignature = "digitalSignature": KeyUsages::DigitalSignature;
        /// Signing what cannot be denied.
        NonRepudiation = "nonRepudiation": KeyUsages::NonRepudiation;
        /// Enciphering keys.
        KeyEncipherment = "keyEncipherment": KeyUsages::KeyEncipherment;
        /// Enciphering data.
        DataEncipherment = "dataEncipherment": KeyUsages::DataEncipherment;
        /// Agreeing on keys.
        KeyAgreement = "keyAgreement": KeyUsages::KeyAgreement;
        /// Signing certificates.
        KeyCertSign = "keyCertSign": KeyUsages::KeyCertSign;
        /// Signing lists of revoked certificates.
        CrlSign = "cRLSign": KeyUsages::CRLSign;
    }
}

usages! {
    /// For what purpose a certificate is.
    ExtendedKeyUsage, oid -> ObjectIdentifier {
        /// Servers of TLS.
        ServerAuth = "serverAuth": SERVER_AUTH;
        /// Clients of TLS.
        ClientAuth = "clientAuth": CLIENT_AUTH;
        /// Signing programs.
        CodeSigning = "codeSigning": purpose("1.3.6.1.5.5.7.3.3");
        /// Protecting mail.
        EmailProtection = "emailProtection": purpose("1.3.6.1.5.5.7.3.4");
        /// Telling the time.
        TimeStamping = "timeStamping": purpose("1.3.6.1.5.5.7.3.8");
        /// Telling which certificates are revoked.
        OcspSigning = "OCSPSigning": purpose("1.3.6.1.5.5.7.3.9");
        /// Everything.
        Any = "anyExtendedKeyUsage": purpose("2.5.29.37.0");
    }
}

const SERVER_AUTH: ObjectIdentifier = purpose("1.3.6.1.5.5.7.3.1");
pub(super) const CLIENT_AUTH: ObjectIdentifier = purpose("1.3.6.1.5.5.7.3.2");

const fn purpose(oid: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(oid)
}
