//! What reads the bytes of strangers: never panics, and takes nothing for what it is not.
//! `TOLLGATE_FUZZ_SECONDS=600` has each test go on with further cases for so long.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tollgate::matching::RequestPath;
use tollgate::origin::SpiffeId;
use tollgate_mtls::identity::certificate::{Certificate, InvalidCertificate};
use tollgate_mtls::identity::{Refusal, svid, xfcc};
use tollgate_mtls::policy::Policy;
use x509_cert::der::Decode as _;

const SVID: &str = include_str!("certificates/svid.pem");
const ID: &str = "spiffe://acme/ns/shop/sa/cart";

/// Runs a case at least `cases` times, each with other random bytes, the same every time.
fn fuzz(cases: usize, mut run: impl FnMut(&mut TestRng)) {
    let seconds = std::env::var("TOLLGATE_FUZZ_SECONDS");
    let seconds = seconds.map_or(0, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for number in 0.. {
        if number >= cases && Instant::now() >= end {
            return;
        }
        run(&mut random);
    }
}

fn below(random: &mut TestRng, bound: usize) -> usize {
    random.next_u32() as usize % bound
}

/// Changes some bytes: other values, bytes more or fewer.
fn mutate(random: &mut TestRng, bytes: &mut Vec<u8>, alphabet: &[u8]) {
    for _ in 0..=below(random, 3) {
        let at = below(random, bytes.len() + 1);
        let byte = alphabet[below(random, alphabet.len())];
        match below(random, 4) {
            0 if at < bytes.len() => drop(bytes.remove(at)),
            1 => bytes.insert(at, byte),
            2 => bytes.truncate(at.max(1)),
            _ if at < bytes.len() => bytes[at] = byte,
            _ => bytes.push(byte),
        }
    }
}

fn der(pem: &str) -> Vec<u8> {
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    BASE64_STANDARD.decode(lines).unwrap()
}

#[test]
fn a_certificate_says_what_openssl_has_put_in() {
    let certificate = Certificate::from_pem(SVID.as_bytes()).unwrap();
    assert_eq!(certificate.serial, [0x0a, 0x1b, 0x2c]);
    assert_eq!(certificate.uris, [ID]);
    assert_eq!(certificate.dns_names, ["web.acme"]);
    assert_eq!(svid::spiffe_id(&certificate).unwrap().as_str(), ID);
}

#[test]
fn cve_2025_66220_a_name_with_a_nul_is_no_name() {
    let pem = include_bytes!("certificates/nul-in-dns.pem");
    assert_eq!(Certificate::from_pem(pem), Err(InvalidCertificate));
}

#[test]
fn a_spiffe_id_in_another_name_is_none() {
    let certificate = Certificate::from_pem(include_bytes!("certificates/other-name.pem")).unwrap();
    assert_eq!(svid::spiffe_id(&certificate), Err(Refusal::NoUri));
}

#[test]
fn what_is_read_of_a_certificate_another_reader_reads_too() {
    let all: Vec<u8> = (0..=255).collect();
    let (mut read, mut refused) = (0, 0);
    fuzz(20_000, |random| {
        let mut bytes = der(SVID);
        if below(random, 2) == 0 {
            let at = below(random, bytes.len());
            bytes[at] = all[below(random, 256)];
        } else {
            mutate(random, &mut bytes, &all);
        }
        let (own, other) =
            (Certificate::from_der(&bytes), x509_cert::Certificate::from_der(&bytes));
        match (own, other) {
            (Ok(own), Ok(other)) => {
                read += 1;
                let serial = other.tbs_certificate.serial_number.as_bytes().to_vec();
                let serial: Vec<u8> = serial.into_iter().skip_while(|&byte| byte == 0).collect();
                assert_eq!(own.serial, serial);
                let validity = other.tbs_certificate.validity;
                let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
                let found = own.validity.map(|(from, to)| (from.unix_seconds(), to.unix_seconds()));
                assert_eq!(
                    found,
                    Some((seconds(validity.not_before), seconds(validity.not_after)))
                );
            }
            (Err(_), _) => refused += 1,
            (Ok(_), Err(_)) => {}
        }
    });
    assert!(read > 1000 && refused > 1000, "{read} {refused}");
}

#[test]
fn no_bytes_make_a_certificate_by_chance() {
    fuzz(20_000, |random| {
        let mut bytes = vec![0; below(random, 200)];
        random.fill_bytes(&mut bytes);
        assert_eq!(Certificate::from_der(&bytes), Err(InvalidCertificate));
        assert_eq!(Certificate::from_pem(&bytes), Err(InvalidCertificate));
    });
}

#[test]
fn what_is_read_of_the_header_comes_from_it() {
    const LINE: &[u8] = br#"By=spiffe://acme/edge;Hash=ab;Subject="CN=a,b;c=\"x\"";URI=spiffe://acme/a;DNS=a.b,By=c;URI="#;
    const ALPHABET: &[u8] = b",;=\"\\ ByHashURIDNSSubjectCertChain:/.a0\0\xff";
    let mut read = 0;
    fuzz(20_000, |random| {
        let mut line = LINE.to_vec();
        mutate(random, &mut line, ALPHABET);
        let Ok(elements) = xfcc::parse([line.as_slice()].into_iter()) else { return };
        read += 1;
        let text = String::from_utf8(line.clone()).unwrap();
        let commas = text.matches(',').count();
        assert!((1..=commas + 1).contains(&elements.len()), "{text}");
        for element in elements {
            // Nothing that is unquoted hides a delimiter; nothing is made up.
            for uri in element.uris.iter().chain(&element.by) {
                assert!(!uri.is_empty() || text.to_ascii_lowercase().contains("by="), "{text}");
                assert!(text.contains(uri.as_str()) || text.contains('\\'), "{text}");
            }
        }
        // On two lines or on one: the same elements.
        let twice = xfcc::parse([line.as_slice(), line.as_slice()].into_iter()).unwrap();
        let joined = xfcc::parse([format!("{text},{text}").as_bytes()].into_iter()).unwrap();
        assert_eq!(twice, joined, "{text}");
    });
    assert!(read > 1000, "{read}");
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
    let mut read = 0;
    fuzz(20_000, |random| {
        let mut bytes = ID.as_bytes().to_vec();
        mutate(random, &mut bytes, ALPHABET);
        let text = String::from_utf8(bytes).unwrap();
        let Ok(id) = SpiffeId::parse(&text) else { return };
        read += 1;
        assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
        let domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        assert!(id.trust_domain().bytes().all(domain), "{text}");
        let path = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
        assert!(id.path().bytes().all(path) && !id.path().ends_with('/'), "{text}");
        assert!(!id.path().split('/').any(|segment| matches!(segment, "." | "..")), "{text}");
    });
    assert!(read > 1000, "{read}");
}

#[test]
fn a_path_that_is_read_has_no_other_reading() {
    const ALPHABET: &[u8] = b"/.%25fF;\\?#aA0 \0\x7f\xc0\xaf";
    let mut read = 0;
    fuzz(20_000, |random| {
        let mut path = b"/orders/7/items?x=/../y".to_vec();
        mutate(random, &mut path, ALPHABET);
        if RequestPath::read(&path).is_err() {
            return;
        }
        read += 1;
        let before_query = path.split(|&byte| byte == b'?').next().unwrap();
        let lower = before_query.to_ascii_lowercase();
        for other in
            [&b"//"[..], b"/../", b"/./", b"%2f", b"%5c", b"%2e", b"%00", b"\\", b";", b"#"]
        {
            let is_there = lower.windows(other.len()).any(|window| window == other);
            assert!(!is_there, "{}", path.escape_ascii());
        }
    });
    assert!(read > 1000, "{read}");
}

#[test]
fn any_policy_is_read_or_refused_with_its_place() {
    const POLICY: &[u8] = br#"{"identity":{"source":"forwarded","forwarded":{"hops":1,"by":["spiffe://a/b"],"proxies":["spiffe://a/b"]}},"trust_domain":"acme","rules":[{"name":"a","action":"allow","from":[{"namespaces":["a"],"not_addresses":["10.0.0.0/8"]}],"to":[{"paths":[{"prefix":"/a"}],"ports":[80]}],"when":[{"header":"a","any":["b*"]}],"expires":"2026-12-31"}]}"#;
    const ALPHABET: &[u8] = br#"{}[]":,0129*/.-aeio"#;
    tollgate::config::parse::<Policy>(POLICY).unwrap();
    let mut refused = 0;
    fuzz(20_000, |random| {
        let mut json = POLICY.to_vec();
        mutate(random, &mut json, ALPHABET);
        if let Err(error) = tollgate::config::parse::<Policy>(&json) {
            refused += 1;
            let error = error.to_string();
            assert!(error.contains(':') && !error.contains('\n'), "{error}");
        }
    });
    assert!(refused > 1000, "{refused}");
}
