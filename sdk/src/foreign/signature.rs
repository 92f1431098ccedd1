//! Signatures that the host makes and checks.
//!
//! The kind of key decides: RSA signs with PKCS #1 v1.5, an elliptic curve with ECDSA in DER. Ed25519 is
//! refused, as it takes no hash function.

use std::error::Error;
use std::fmt;

use tollgate_abi::Status;

use super::{ForeignError, call};
use crate::protobuf::{Fields, InvalidMessage, Value, Writer};

/// What the text is hashed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashFunction {
    /// SHA-1, which is broken; for what cannot be changed.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashFunction {
    const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
}

/// A key: a public one to verify, a private one to sign. Its text shows neither.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// A `SubjectPublicKeyInfo`, or the private key as PKCS #8, in DER.
    Der(&'a [u8]),
    /// The same as PEM. On Envoy since 1.37.
    Pem(&'a str),
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Der(_) => "Der(..)",
            Self::Pem(_) => "Pem(..)",
        })
    }
}

/// Checks that the owner of a key has signed a text.
///
/// # Errors
///
/// [`SignatureError`] when that is not so, and when it cannot be found out.
pub fn verify_signature(
    hash: HashFunction,
    public_key: Key<'_>,
    signature: &[u8],
    text: &[u8],
) -> Result<(), SignatureError> {
    const FUNCTION: &str = "verify_signature";
    let arguments = Writer::new().bytes(1, hash.name().as_bytes());
    let arguments = match public_key {
        Key::Der(key) => arguments.bytes(2, key),
        Key::Pem(key) => arguments.bytes(5, key.as_bytes()),
    };
    let arguments = arguments.bytes(3, signature).bytes(4, text).finish();
    let answer = ask(FUNCTION, &arguments)?;
    let outcome = Outcome::read(&answer, 2).map_err(|reason| strange(FUNCTION, reason))?;
    outcome.judge().map(|_| ())
}

/// Signs a text.
///
/// # Errors
///
/// [`SignatureError`] when the host cannot; Envoy can since 1.37.
pub fn sign(
    hash: HashFunction,
    private_key: Key<'_>,
    text: &[u8],
) -> Result<Vec<u8>, SignatureError> {
    const FUNCTION: &str = "sign";
    let arguments = Writer::new().bytes(1, hash.name().as_bytes());
    let arguments = match private_key {
        Key::Der(key) => arguments.bytes(2, key).bytes(3, text),
        Key::Pem(key) => arguments.bytes(3, text).bytes(4, key.as_bytes()),
    };
    let answer = ask(FUNCTION, &arguments.finish())?;
    let outcome = Outcome::read(&answer, 3).map_err(|reason| strange(FUNCTION, reason))?;
    outcome.judge()
}

fn ask(function: &str, arguments: &[u8]) -> Result<Vec<u8>, SignatureError> {
    call(function, arguments).map_err(|error| match error {
        ForeignError::Host { error, .. } if error.status() == Some(Status::BadArgument) => {
            SignatureError::NoKey
        }
        error => SignatureError::Foreign(error),
    })
}

fn strange(function: &str, reason: InvalidMessage) -> SignatureError {
    SignatureError::Foreign(ForeignError::Answer { function: function.to_owned(), reason })
}

/// What the host answers: whether it went well, the signature if it made one, and why not.
#[derive(Default)]
struct Outcome {
    is_good: bool,
    signature: Vec<u8>,
    error: String,
}

impl Outcome {
    /// Reads an answer whose error is in the field of this number; before it stands the signature.
    fn read(answer: &[u8], error: u32) -> Result<Self, InvalidMessage> {
        let mut outcome = Self::default();
        for field in Fields::of(answer) {
            match field? {
                (1, Value::Varint(result)) => outcome.is_good = result != 0,
                (field, Value::Bytes(text)) if field == error => {
                    outcome.error = String::from_utf8_lossy(text).into_owned();
                }
                (2, Value::Bytes(signature)) => outcome.signature = signature.to_vec(),
                // What later versions add says nothing that this one could understand.
                _ => {}
            }
        }
        Ok(outcome)
    }

    fn judge(self) -> Result<Vec<u8>, SignatureError> {
        if self.is_good {
            Ok(self.signature)
        } else {
            Err(SignatureError::Refused { reason: self.error })
        }
    }
}

/// Why there is no good signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureError {
    /// The signature is not that of this text by this key, or the key cannot be used.
    Refused {
        /// In the words of the host, which do not say which of both.
        reason: String,
    },
    /// The key is empty.
    NoKey,
    /// The function failed: nothing is known of the signature.
    Foreign(ForeignError),
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { reason } => {
                write!(f, "the proxy refused the signature or the key: {}", reason.escape_default())
            }
            Self::NoKey => f.write_str("the key is empty; give one in DER or PEM"),
            Self::Foreign(error) => write!(f, "{error}"),
        }
    }
}

impl Error for SignatureError {}
