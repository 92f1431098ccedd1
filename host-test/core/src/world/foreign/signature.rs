//! Signatures: RSA with PKCS #1 v1.5, and ECDSA over P-256 and P-384.
//!
//! The words of a failure are Envoy's.
//!
//! Source: Envoy, `source/common/crypto/utility_impl.cc`; checked on Envoy 1.40.

use p256::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{
    DecodePrivateKey, DecodePublicKey, ObjectIdentifier, PrivateKeyInfo, SecretDocument,
};
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::message::{self, Fields};
use super::{NO_MESSAGE, Refusal};
use tollgate_abi::Status;

const NO_KEY: Refusal = (Status::BadArgument, "there has to be one key, in one form");

/// RFC 8410, section 3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The sizes of a number modulo the order of the curve, in bytes.
const P256_BYTES: usize = 32;
const P384_BYTES: usize = 48;

pub(super) fn verify(arguments: &[u8]) -> Result<Vec<u8>, Refusal> {
    let fields = Fields::parse(arguments).ok_or(NO_MESSAGE)?;
    let name = fields.text(1).ok_or(NO_MESSAGE)?;
    let key = Encoded::of(fields.bytes(2), fields.text(5).ok_or(NO_MESSAGE)?)?;
    let error = match (Hash::named(name), PublicKey::read(&key)) {
        (None, _) => format!("{name} is not supported."),
        (Some(_), None) => "Failed to initialize digest verify.".into(),
        (Some(hash), Some(key)) => {
            if key.has_signed(hash, fields.bytes(3), fields.bytes(4)) {
                return Ok(message::success(&[]));
            }
            "Failed to verify digest. Error code: 0".into()
        }
    };
    Ok(message::failure(2, &error))
}

pub(super) fn sign(arguments: &[u8]) -> Result<Vec<u8>, Refusal> {
    let fields = Fields::parse(arguments).ok_or(NO_MESSAGE)?;
    let name = fields.text(1).ok_or(NO_MESSAGE)?;
    let key = Encoded::of(fields.bytes(2), fields.text(4).ok_or(NO_MESSAGE)?)?;
    let error = match (Hash::named(name), PrivateKey::read(&key)) {
        (None, _) => format!("{name} is not supported."),
        (Some(_), None) if key.is_ed25519() => {
            "Invalid private key: key data is corrupted or malformed.".into()
        }
        (Some(_), None) => "Invalid key type: private key required for signing operation.".into(),
        (Some(hash), Some(key)) => match key.sign(hash, fields.bytes(3)) {
            Some(signature) => return Ok(message::success(&signature)),
            None => "Failed to create signature.".into(),
        },
    };
    Ok(message::failure(3, &error))
}

/// A key as the guest gives it.
enum Encoded<'a> {
    Der(&'a [u8]),
    Pem(&'a str),
}

impl<'a> Encoded<'a> {
    fn of(der: &'a [u8], pem: &'a str) -> Result<Self, Refusal> {
        match (der.is_empty(), pem.is_empty()) {
            (false, true) => Ok(Self::Der(der)),
            (true, false) => Ok(Self::Pem(pem)),
            (true, true) | (false, false) => Err(NO_KEY),
        }
    }

    fn public<K: DecodePublicKey>(&self) -> Option<K> {
        match self {
            Self::Der(der) => K::from_public_key_der(first_element(der)?).ok(),
            Self::Pem(pem) => K::from_public_key_pem(pem).ok(),
        }
    }

    fn private<K: DecodePrivateKey>(&self) -> Option<K> {
        match self {
            Self::Der(der) => K::from_pkcs8_der(first_element(der)?).ok(),
            Self::Pem(pem) => K::from_pkcs8_pem(pem).ok(),
        }
    }

    /// Whether it is a private key that signs without a hash function, and so not at all here.
    fn is_ed25519(&self) -> bool {
        let names_it = |der: &[u8]| {
            PrivateKeyInfo::try_from(der).is_ok_and(|key| key.algorithm.oid == ED25519)
        };
        match self {
            Self::Der(der) => first_element(der).is_some_and(names_it),
            Self::Pem(pem) => {
                SecretDocument::from_pem(pem).is_ok_and(|(_, key)| names_it(key.as_bytes()))
            }
        }
    }
}

/// The first element of DER; as on Envoy, what comes after it is not looked at.
fn first_element(der: &[u8]) -> Option<&[u8]> {
    let (&first, rest) = der.get(1..)?.split_first()?;
    let (header, length) = match usize::from(first) {
        short @ 0..=0x7f => (2, short),
        long => {
            let bytes = rest.get(..long & 0x7f).filter(|bytes| bytes.len() <= 4)?;
            let length = bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            (2 + bytes.len(), length)
        }
    };
    der.get(..header.checked_add(length)?)
}

#[derive(Clone, Copy)]
enum Hash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "sha1" => Self::Sha1,
            "sha224" => Self::Sha224,
            "sha256" => Self::Sha256,
            "sha384" => Self::Sha384,
            "sha512" => Self::Sha512,
            _ => return None,
        })
    }

    fn of(self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(text).to_vec(),
            Self::Sha224 => Sha224::digest(text).to_vec(),
            Self::Sha256 => Sha256::digest(text).to_vec(),
            Self::Sha384 => Sha384::digest(text).to_vec(),
            Self::Sha512 => Sha512::digest(text).to_vec(),
        }
    }

    /// The hash as a number of at least so many bytes.
    fn padded(self, text: &[u8], bytes: usize) -> Vec<u8> {
        let hash = self.of(text);
        let mut padded = vec![0; bytes.saturating_sub(hash.len())];
        padded.extend(hash);
        padded
    }

    fn padding(self) -> Pkcs1v15Sign {
        match self {
            Self::Sha1 => Pkcs1v15Sign::new::<Sha1>(),
            Self::Sha224 => Pkcs1v15Sign::new::<Sha224>(),
            Self::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
            Self::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
            Self::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
        }
    }
}

enum PublicKey {
    Rsa(RsaPublicKey),
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
}

impl PublicKey {
    fn read(key: &Encoded<'_>) -> Option<Self> {
        let rsa = || key.public().map(Self::Rsa);
        let p256 = || key.public().map(Self::P256);
        let p384 = || key.public().map(Self::P384);
        rsa().or_else(p256).or_else(p384)
    }

    fn has_signed(&self, hash: Hash, signature: &[u8], text: &[u8]) -> bool {
        match self {
            Self::Rsa(key) => key.verify(hash.padding(), &hash.of(text), signature).is_ok(),
            Self::P256(key) => {
                let hash = hash.padded(text, P256_BYTES);
                let signature = p256::ecdsa::Signature::from_der(signature);
                signature.is_ok_and(|signature| key.verify_prehash(&hash, &signature).is_ok())
            }
            Self::P384(key) => {
                let hash = hash.padded(text, P384_BYTES);
                let signature = p384::ecdsa::Signature::from_der(signature);
                signature.is_ok_and(|signature| key.verify_prehash(&hash, &signature).is_ok())
            }
        }
    }
}

enum PrivateKey {
    Rsa(Box<RsaPrivateKey>),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
}

impl PrivateKey {
    fn read(key: &Encoded<'_>) -> Option<Self> {
        // As on Envoy: PEM may also hold the older form of an RSA key.
        let older = || match key {
            Encoded::Pem(pem) => RsaPrivateKey::from_pkcs1_pem(pem).ok(),
            Encoded::Der(_) => None,
        };
        let rsa = || key.private().or_else(older).map(Box::new).map(Self::Rsa);
        let p256 = || key.private().map(Self::P256);
        let p384 = || key.private().map(Self::P384);
        rsa().or_else(p256).or_else(p384)
    }

    fn sign(&self, hash: Hash, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Rsa(key) => key.sign(hash.padding(), &hash.of(text)).ok(),
            Self::P256(key) => {
                let hash = hash.padded(text, P256_BYTES);
                let signature: p256::ecdsa::Signature = key.sign_prehash(&hash).ok()?;
                Some(signature.to_der().as_bytes().to_vec())
            }
            Self::P384(key) => {
                let hash = hash.padded(text, P384_BYTES);
                let signature: p384::ecdsa::Signature = key.sign_prehash(&hash).ok()?;
                Some(signature.to_der().as_bytes().to_vec())
            }
        }
    }
}
