//! Certificates of peers: the same each time, and as they are written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use tollgate_host::scenario::Scenario;
use tollgate_host::tls::{Credentials, DistinguishedName};
use tollgate_host::world::EPOCH;

fn issued(peers: &str) -> Credentials {
    let text = format!(
        "{{ name: x, filters: [ {{ filter: f }} ], peers: {peers}, steps: [ {{ advance: 1s }} ] }}"
    );
    let scenario = Scenario::parse(&text).unwrap();
    Credentials::issue(&scenario.tls.unwrap(), EPOCH).unwrap()
}

#[test]
fn the_same_peer_has_the_same_certificate_on_every_machine() {
    let peers = "{ web: { san: [ 'URI:spiffe://acme/web' ] } }";
    let (one, other) = (issued(peers), issued(peers));
    let [one, other] = [one, other].map(|all| all.peers[0].clone().unwrap());
    assert_eq!(one.certificate.der(), other.certificate.der());
    assert_eq!(one.key, other.key);
    assert_eq!(one.certificate.digest(), DIGEST);
    assert_eq!(one.certificate.serial(), "78c53b184ab2ecd6");
}

/// Scenarios and filters' policies name such digests: it must not change.
const DIGEST: &str = "fe04c00506295d724bdf3a7d9be4832b4af2fa96f74f8c6910006486a571e7ad";

#[test]
fn peers_differ_in_their_keys_and_in_what_they_say() {
    let all = issued("{ a: { subject: CN=x }, b: { subject: CN=x }, c: { certificate: none } }");
    let [a, b] = [0, 1].map(|place| all.peers[place].clone().unwrap());
    assert_ne!(a.key, b.key);
    assert_ne!(a.certificate.digest(), b.certificate.digest());
    assert!(all.peers[2].is_none());
}

#[test]
fn a_subject_is_told_as_openssl_does() {
    let check = |written: &str, told: &str| {
        assert_eq!(DistinguishedName::parse(written).unwrap().to_string(), told, "{written}");
    };
    check("", "");
    check("CN=web,OU=shop,O=Acme", "CN=web,OU=shop,O=Acme");
    check("CN=a\\,b", "CN=a\\,b");
    check("CN=\\ led\\ ", "CN=\\ led\\ ");
    check("CN=Zürich", "CN=Z\\C3\\BCrich");
    check("1.2.3.4=abc,CN=web", "1.2.3.4=#0C03616263,CN=web");
}
