//! What a proxy before tells of a certificate is held against the certificate beside it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tollgate::origin::SpiffeId;
use tollgate_mtls::identity::{
    Caller, Checks, Forwarded, Identity, Reads, Refusal, Revoked, Source, Svid, Verifier,
};
use tollgate_mtls::time::Moment;

const EDGE: &str = "spiffe://acme/edge";
const PEM: &str = include_str!("../fuzz/seeds/certificate_text/svid.pem");
/// As `sha256sum` has it of the DER that openssl makes of it.
const DIGEST: &str = "0f6611c7f845188b68de62f46e77b7d6ccd1ec4378bbe178577b6aa56aa035ba";
/// Of another certificate.
const OTHER: &str = "3d091530a19db857e8be721d82f8eb423f412b58aed434d8adc828052d590106";

/// Whose digest an element gives the caller, when these are pinned and those revoked.
fn check(
    pinned: &[&str],
    revoked: &[&str],
    element: &str,
    expected: Result<Option<&str>, Refusal>,
) {
    let edge = SpiffeId::parse(EDGE).unwrap();
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let forwarded = Forwarded {
        hops: 1,
        by: vec![edge.clone()],
        proxies: vec![edge.clone()],
        hashes: owned(pinned),
    };
    let identity = Identity {
        source: Source::Forwarded(forwarded.clone()),
        is_required: false,
        checks: Checks {
            verified_by: Verifier::Proxy,
            reads: Reads::Certificate,
            svid: Svid::Required,
            max_age_seconds: None,
        },
        revoked: Revoked { digests: owned(revoked), ..Revoked::default() },
    };
    let proxy = Caller { id: Some(edge), ..Caller::default() };
    let line = format!("By={EDGE};{element}");
    let day = Moment::end_of_day("2027-01-01").unwrap();
    let lines = [line.as_bytes()].into_iter();
    let found = identity.of_forwarded(&forwarded, Some(&proxy), lines, day);
    let found = found.map(|caller| caller.unwrap().digest);
    assert_eq!(found, expected.map(|digest| digest.map(str::to_owned)), "{element}");
}

#[test]
fn a_digest_is_that_of_the_certificate_beside_it() {
    let cert = format!("Cert=\"{}\"", utf8_percent_encode(PEM, NON_ALPHANUMERIC));
    let beside = |hash: &str| format!("Hash={hash};{cert}");
    check(&[], &[], &cert, Ok(Some(DIGEST)));
    check(&[], &[], &beside(DIGEST), Ok(Some(DIGEST)));
    check(&[], &[], &beside(&DIGEST.to_uppercase()), Ok(Some(DIGEST)));
    for hash in
        [OTHER, "", DIGEST.trim_start_matches('0'), &format!("{DIGEST}0"), &format!(" {DIGEST}")]
    {
        check(&[], &[], &beside(hash), Err(Refusal::WrongHash));
        // Also where what is told is pinned.
        check(&[OTHER, DIGEST], &[], &beside(hash), Err(Refusal::WrongHash));
    }
}

#[test]
fn pins_and_revoked_digests_are_held_against_the_certificate() {
    let cert = format!("Cert=\"{}\"", utf8_percent_encode(PEM, NON_ALPHANUMERIC));
    check(&[DIGEST], &[], &cert, Ok(Some(DIGEST)));
    check(&[OTHER], &[], &cert, Err(Refusal::UnknownHash));
    check(&[], &[DIGEST], &cert, Err(Refusal::RevokedDigest));
    check(&[], &[OTHER], &cert, Ok(Some(DIGEST)));
}

#[test]
fn without_a_certificate_the_word_of_the_proxy_counts() {
    let told = |hash: &str| format!("Hash={hash};URI=spiffe://acme/ns/shop/sa/cart");
    check(&[], &[], &told(OTHER), Ok(Some(OTHER)));
    check(&[OTHER], &[], &told(OTHER), Ok(Some(OTHER)));
    check(&[DIGEST], &[], &told(OTHER), Err(Refusal::UnknownHash));
    check(&[], &[OTHER], &told(OTHER), Err(Refusal::RevokedDigest));
    check(&[], &[], "URI=spiffe://acme/ns/shop/sa/cart", Ok(None));
}
