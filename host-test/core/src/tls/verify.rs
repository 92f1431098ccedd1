//! Handshakes: whether the proxy lets a client in, or with which alert it does not.
//!
//! Source: `BoringSSL`, `X509_verify_cert` with the purpose `ssl_client` and `tls13_process_certificate`;
//! Envoy, `DefaultCertValidator`; checked on Envoy 1.40.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{DerSignature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use x509_cert::der::Encode;
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsage};

use super::certificate::extension;
use super::usage::CLIENT_AUTH;
use super::{Alert, Certificate, Credentials, Secured, TlsVersion};
use crate::scenario::{Peer, Tls, TrustChainVerification};

/// What came of a handshake.
pub(crate) struct Handshake {
    /// What the proxy knows of the client, also of one that it refuses.
    pub(crate) secured: Secured,
    /// The alert with which it refuses the client, if it does.
    pub(crate) refused: Option<Alert>,
}

impl Secured {
    /// A connection before its handshake, of which the proxy has read what the client asks for.
    pub(crate) fn before(credentials: &Credentials, peer: &Peer) -> Self {
        Self {
            local: Arc::clone(&credentials.own.certificate),
            peer: None,
            peer_is_valid: false,
            server_name: peer.server_name.clone(),
            version: TlsVersion::Tls12,
            told_version: OnceLock::new(),
        }
    }

    /// The handshake of a peer, at what the wall clock shows.
    pub(crate) fn shake(
        self,
        tls: &Tls,
        credentials: &Credentials,
        (place, peer): (usize, &Peer),
        now: Duration,
    ) -> Handshake {
        let shown = credentials.peers.get(place).and_then(Option::as_ref);
        let shown = shown.map(|credential| Arc::clone(&credential.certificate));
        let verdict = shown.as_ref().map(|certificate| {
            check_key(certificate).map(|()| verify(certificate, &credentials.trusted, now))
        });
        let refused = match (&verdict, tls.trust_chain_verification, peer.version) {
            (Some(Err(alert)), _, _)
            | (Some(Ok(Err(alert))), TrustChainVerification::VerifyTrustChain, _) => Some(*alert),
            (None, _, TlsVersion::Tls12) => Some(Alert::HANDSHAKE_FAILURE),
            (None, _, TlsVersion::Tls13) => Some(Alert::CERTIFICATE_REQUIRED),
            (Some(Ok(_)), _, _) => None,
        };
        let wants_none = verdict.is_none() && !tls.require_client_certificate;
        let peer_is_valid = matches!(verdict, Some(Ok(Ok(()))));
        // What is refused for its key is not kept.
        let shown = shown.filter(|_| !matches!(verdict, Some(Err(_))));
        let secured = Self { peer: shown, peer_is_valid, version: peer.version, ..self };
        Handshake { secured, refused: refused.filter(|_| !wants_none) }
    }
}

/// The key signs the handshake: it must be for that, whatever is made of the chain.
fn check_key(certificate: &Certificate) -> Result<(), Alert> {
    match extension::<KeyUsage>(&certificate.parsed) {
        Ok(Some(usage)) if !usage.digital_signature() => Err(Alert::ILLEGAL_PARAMETER),
        Ok(_) => Ok(()),
        Err(_) => Err(Alert::BAD_CERTIFICATE),
    }
}

fn verify(certificate: &Certificate, trusted: &Certificate, now: Duration) -> Result<(), Alert> {
    let broken = |_| Alert::BAD_CERTIFICATE;
    let parsed = &certificate.parsed;
    let body = &parsed.tbs_certificate;
    if body.issuer != trusted.parsed.tbs_certificate.subject {
        return Err(Alert::UNKNOWN_CA);
    }
    let purposes = extension::<ExtendedKeyUsage>(parsed).map_err(broken)?;
    if purposes.is_some_and(|purposes| !purposes.0.contains(&CLIENT_AUTH)) {
        return Err(Alert::UNSUPPORTED_CERTIFICATE);
    }
    if !is_signed_by(certificate, trusted) {
        return Err(Alert::DECRYPT_ERROR);
    }
    let now = Duration::from_secs(now.as_secs());
    let validity = &body.validity;
    let valid = validity.not_before.to_unix_duration()..=validity.not_after.to_unix_duration();
    // As on Envoy: one that is not valid yet has expired, too.
    if valid.contains(&now) { Ok(()) } else { Err(Alert::CERTIFICATE_EXPIRED) }
}

fn is_signed_by(certificate: &Certificate, issuer: &Certificate) -> bool {
    let key = issuer.parsed.tbs_certificate.subject_public_key_info.to_der().ok();
    let key = key.and_then(|key| VerifyingKey::from_public_key_der(&key).ok());
    let signed = certificate.parsed.tbs_certificate.to_der().ok();
    let signature = DerSignature::from_bytes(certificate.parsed.signature.raw_bytes()).ok();
    match (key, signed, signature) {
        (Some(key), Some(signed), Some(signature)) => key.verify(&signed, &signature).is_ok(),
        _ => false,
    }
}
