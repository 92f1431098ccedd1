//! What reads the bytes of strangers: never panics, and takes nothing for what it is not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod checks;

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tollgate::origin::SpiffeId;
use tollgate_mtls::identity::certificate::{Certificate, InvalidCertificate};
use tollgate_mtls::identity::{Refusal, svid};

/// What a parser reads, to be changed.
macro_rules! seed {
    ($path:literal) => {
        include_bytes!(concat!("../../fuzz/seeds/", $path))
    };
}

const CASES: usize = 5_000;
const ALL: [u8; 256] = {
    let mut all = [0; 256];
    let mut byte = 0_u8;
    while byte < u8::MAX {
        byte += 1;
        all[byte as usize] = byte;
    }
    all
};

/// Runs a check on many changed seeds, the same every time. It is worth nothing unless some are read.
fn check(seed: &[u8], alphabet: &[u8], parser: fn(&[u8]) -> bool) {
    assert!(parser(seed), "{}", seed.escape_ascii());
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut read = 0;
    for _ in 0..CASES {
        let mut bytes = seed.to_vec();
        mutate(&mut random, &mut bytes, alphabet);
        read += usize::from(parser(&bytes));
    }
    assert!((CASES / 100..CASES).contains(&read), "{read} of {CASES} are read");
}

fn below(random: &mut TestRng, bound: usize) -> usize {
    random.next_u32() as usize % bound
}

/// Changes some bytes: mostly other values, else bytes more or fewer.
fn mutate(random: &mut TestRng, bytes: &mut Vec<u8>, alphabet: &[u8]) {
    for _ in 0..=below(random, 2) {
        let at = below(random, bytes.len() + 1);
        let byte = alphabet[below(random, alphabet.len())];
        match below(random, 6) {
            0 if at < bytes.len() => drop(bytes.remove(at)),
            1 => bytes.insert(at, byte),
            2 => bytes.truncate(at.max(1)),
            _ if at < bytes.len() => bytes[at] = byte,
            _ => bytes.push(byte),
        }
    }
}

#[test]
fn a_certificate_says_what_openssl_has_put_in() {
    let certificate = Certificate::from_pem(seed!("certificate_text/svid.pem")).unwrap();
    assert_eq!(certificate.serial, [0x0a, 0x1b, 0x2c]);
    assert_eq!(certificate.uris, ["spiffe://acme/ns/shop/sa/cart"]);
    assert_eq!(certificate.dns_names, ["web.acme"]);
    assert!(svid::spiffe_id(&certificate).is_ok());
}

#[test]
fn cve_2025_66220_a_name_with_a_nul_is_no_name() {
    let pem = seed!("certificate_text/nul-in-dns.pem");
    assert_eq!(Certificate::from_pem(pem), Err(InvalidCertificate));
}

#[test]
fn a_spiffe_id_in_another_name_is_none() {
    let certificate = Certificate::from_pem(seed!("certificate_text/other-name.pem")).unwrap();
    assert_eq!(svid::spiffe_id(&certificate), Err(Refusal::NoUri));
}

#[test]
fn what_is_read_of_a_certificate_another_reader_reads_too() {
    check(seed!("certificate/svid.der"), &ALL, checks::certificate);
    check(seed!("certificate/other-name.der"), &ALL, checks::certificate);
    check(seed!("certificate_text/svid.pem"), b"AQgwz09+/= \n-", checks::certificate_text);
}

#[test]
fn no_bytes_make_a_certificate_by_chance() {
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for _ in 0..CASES {
        let mut bytes = vec![0; below(&mut random, 200)];
        random.fill_bytes(&mut bytes);
        assert_eq!(Certificate::from_der(&bytes), Err(InvalidCertificate));
        assert_eq!(Certificate::from_pem(&bytes), Err(InvalidCertificate));
    }
}

#[test]
fn what_is_read_of_the_header_comes_from_it() {
    const ALPHABET: &[u8] = b",;=\"\\ ByHashURIDNSSubjectCertChain:/.a0\0\xff";
    check(seed!("forwarded/two-elements"), ALPHABET, checks::forwarded);
}

#[test]
fn a_spiffe_id_is_what_the_standard_says() {
    const ALPHABET: &[u8] = b"abzAZ09._-/:@%?#\\ \0";
    // Source: SPIFFE-ID, section 2; go-spiffe, spiffeid tests.
    for (text, is_id) in [
        ("spiffe://trustdomain", true),
        ("spiffe://trustdomain/path", true),
        ("spiffe://trustdomain/path/segment", true),
        ("spiffe://trustdomain/9eebccd2-12bf-40a6-b262-65fe0487d453", true),
        ("spiffe://trustdomain/.../x", true),
        ("spiffe://1.2.3.4/service", true),
        ("", false),
        ("s", false),
        ("spiffe:/", false),
        ("spiffe://", false),
        ("spiffe:///path", false),
        ("Spiffe://trustdomain/path", false),
        ("spiffe://TrustDomain/path", false),
        ("spiffe://trustdomain/", false),
        ("spiffe://trustdomain//path", false),
        ("spiffe://trustdomain/path/", false),
        ("spiffe://trustdomain/./path", false),
        ("spiffe://trustdomain/../path", false),
        ("spiffe://trustdomain/path%20", false),
        ("spiffe://trustdomain:80/path", false),
        ("spiffe://user@trustdomain/path", false),
        ("spiffe://trustdomain/path?query", false),
        ("spiffe://trustdomain/path#fragment", false),
        ("spiffe://trust domain/path", false),
        ("http://trustdomain/path", false),
    ] {
        assert_eq!(SpiffeId::parse(text).is_ok(), is_id, "{text}");
    }
    check(seed!("spiffe_id/account"), ALPHABET, checks::spiffe_id);
    check(seed!("trust_domain/all-characters"), ALPHABET, checks::trust_domain);
}

#[test]
fn a_path_that_is_read_has_no_other_reading() {
    assert!(!checks::path(seed!("path/encoded-digits")));
    check(seed!("path/query"), b"/.%25fF;\\?#aA0 \0\x7f\xc0\xaf", checks::path);
}

#[test]
fn any_policy_is_read_or_refused_with_its_place() {
    check(seed!("policy/all.json"), br#"{}[]":,0129*/.-aeio"#, checks::policy);
}
