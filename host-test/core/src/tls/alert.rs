//! Alerts: how a side of TLS says why it ends a handshake.

use std::fmt;
use std::str::FromStr;

/// Why a handshake was ended, by the number of the alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert(pub u8);

impl Alert {
    /// The two sides have nothing in common, or in TLS 1.2 a certificate is missing.
    pub const HANDSHAKE_FAILURE: Self = Self(40);
    /// A certificate is broken.
    pub const BAD_CERTIFICATE: Self = Self(42);
    /// It is for another purpose.
    pub const UNSUPPORTED_CERTIFICATE: Self = Self(43);
    /// It is not valid any more, or not yet.
    pub const CERTIFICATE_EXPIRED: Self = Self(45);
    /// A field contradicts another.
    pub const ILLEGAL_PARAMETER: Self = Self(47);
    /// Nobody who is trusted has signed it.
    pub const UNKNOWN_CA: Self = Self(48);
    /// Its signature is wrong.
    pub const DECRYPT_ERROR: Self = Self(51);
    /// There is none.
    pub const CERTIFICATE_REQUIRED: Self = Self(116);
}

/// Names as RFC 8446 has them, section 6.
const NAMES: &[(u8, &str)] = &[
    (0, "close_notify"),
    (10, "unexpected_message"),
    (20, "bad_record_mac"),
    (22, "record_overflow"),
    (40, "handshake_failure"),
    (42, "bad_certificate"),
    (43, "unsupported_certificate"),
    (44, "certificate_revoked"),
    (45, "certificate_expired"),
    (46, "certificate_unknown"),
    (47, "illegal_parameter"),
    (48, "unknown_ca"),
    (49, "access_denied"),
    (50, "decode_error"),
    (51, "decrypt_error"),
    (70, "protocol_version"),
    (71, "insufficient_security"),
    (80, "internal_error"),
    (86, "inappropriate_fallback"),
    (90, "user_canceled"),
    (109, "missing_extension"),
    (110, "unsupported_extension"),
    (112, "unrecognized_name"),
    (113, "bad_certificate_status_response"),
    (115, "unknown_psk_identity"),
    (116, "certificate_required"),
    (120, "no_application_protocol"),
];

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "alert {}", self.0),
        }
    }
}

impl FromStr for Alert {
    type Err = NoAlert;

    fn from_str(text: &str) -> Result<Self, NoAlert> {
        let known = NAMES.iter().find(|(_, name)| *name == text);
        known.map(|(number, _)| Self(*number)).ok_or_else(|| NoAlert { text: text.into() })
    }
}

/// A text that is not the name of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAlert {
    /// The text.
    pub text: String,
}

impl fmt::Display for NoAlert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not an alert of TLS; write one as RFC 8446 names it, such as unknown_ca, \
             certificate_expired, bad_certificate or certificate_required",
            self.text.escape_debug()
        )
    }
}

impl std::error::Error for NoAlert {}
