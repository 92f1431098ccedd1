//! What holds for whatever a parser is given: it lives, and says what another reader says, where there is one.
//! The tests beside this try some inputs, `filters/mtls/fuzz` any. Each check tells whether its input was read.
#![allow(clippy::unwrap_used, reason = "a check fails by panicking")]
#![allow(unreachable_pub, reason = "the fuzzer's library has it, too")]

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode;
use serde_json::json;
use tollgate::matching::RequestPath;
use tollgate::origin::{SpiffeId, SpiffePattern};
use tollgate_mtls::identity::certificate::Certificate;
use tollgate_mtls::identity::{svid, xfcc};
use tollgate_mtls::policy::Policy;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::time::Time;
use x509_cert::{TbsCertificate, der};

/// A certificate in DER; `x509-cert` reads the same.
pub fn certificate(bytes: &[u8]) -> bool {
    let Ok(own) = Certificate::from_der(bytes) else { return false };
    if let Ok(id) = svid::spiffe_id(&own) {
        assert_eq!(own.uris, [id.as_str()]);
    }
    if let Ok(other) = x509_cert::Certificate::from_der(bytes) {
        compare(&own, &other.tbs_certificate);
    }
    true
}

fn compare(own: &Certificate, other: &TbsCertificate) {
    let serial = other.serial_number.as_bytes().iter().copied();
    assert!(serial.skip_while(|&byte| byte == 0).eq(own.serial.iter().copied()));
    let seconds = |time: Time| time.to_unix_duration().as_secs();
    let validity = (seconds(other.validity.not_before), seconds(other.validity.not_after));
    assert_eq!(own.validity.map(|(a, b)| (a.unix_seconds(), b.unix_seconds())), Some(validity));
    assert_eq!(own.is_subject_empty, other.subject.is_empty());
    // What the other reader refuses of an extension, nobody can compare.
    if let Ok(Some((is_critical, names))) = other.get::<SubjectAltName>() {
        assert_eq!(own.is_san_critical, is_critical);
        let uri = |name: &GeneralName| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
            _ => None,
        };
        let dns = |name: &GeneralName| match name {
            GeneralName::DnsName(name) => Some(name.to_string()),
            _ => None,
        };
        assert_eq!(own.uris, names.0.iter().filter_map(uri).collect::<Vec<_>>());
        assert_eq!(own.dns_names, names.0.iter().filter_map(dns).collect::<Vec<_>>());
    }
    if let Ok(found) = other.get::<BasicConstraints>() {
        assert_eq!(own.is_ca, found.is_some_and(|(_, constraints)| constraints.ca));
    }
    if let Ok(found) = other.get::<KeyUsage>() {
        let own = own
            .key_usage
            .map(|own| (own.is_critical, own.digital_signature, own.signs_certificates));
        let signs = |usage: &KeyUsage| usage.key_cert_sign() || usage.crl_sign();
        let found =
            found.map(|(critical, usage)| (critical, usage.digital_signature(), signs(&usage)));
        assert_eq!(own, found);
    }
    if let Ok(found) = other.get::<ExtendedKeyUsage>() {
        let names = |usage: &ExtendedKeyUsage, purpose: &str| {
            usage.0.contains(&der::asn1::ObjectIdentifier::new_unwrap(purpose))
        };
        let both = found.map(|(_, usage)| {
            names(&usage, "1.3.6.1.5.5.7.3.1") && names(&usage, "1.3.6.1.5.5.7.3.2")
        });
        assert_eq!(own.is_for_tls, both);
    }
}

/// A certificate in PEM; `base64` decodes the same.
pub fn certificate_text(bytes: &[u8]) -> bool {
    let own = Certificate::from_pem(bytes);
    let inner = bytes.trim_ascii().strip_prefix(b"-----BEGIN CERTIFICATE-----");
    let inner = inner.and_then(|rest| rest.strip_suffix(b"-----END CERTIFICATE-----"));
    let other = inner.and_then(|inner| {
        let digits = inner.iter().copied().filter(|byte| !byte.is_ascii_whitespace());
        BASE64_STANDARD.decode(digits.collect::<Vec<_>>()).ok()
    });
    assert_eq!(own.clone().ok(), other.and_then(|der| Certificate::from_der(&der).ok()));
    own.is_ok()
}

/// A line of `x-forwarded-client-cert`; nothing is made up, and with quotes around all values it says the same.
pub fn forwarded(line: &[u8]) -> bool {
    let parse = |lines: &[&[u8]]| xfcc::parse(lines.iter().copied());
    let Ok(elements) = parse(&[line]) else { return false };
    let text = str::from_utf8(line).unwrap();
    let commas = text.matches(',').count();
    assert!((1..=commas + 1).contains(&elements.len()), "{text}");
    for uri in elements.iter().flat_map(|element| element.uris.iter().chain(&element.by)) {
        assert!(text.contains(uri.as_str()) || text.contains('\\'), "{text}");
    }
    let written = elements.iter().map(write).collect::<Vec<_>>().join(",");
    assert_eq!(parse(&[written.as_bytes()]).as_ref(), Ok(&elements), "{text}");
    // On two lines or on one: the same elements.
    assert_eq!(parse(&[line, line]), parse(&[format!("{text},{text}").as_bytes()]), "{text}");
    true
}

fn write(element: &xfcc::Element) -> String {
    let pairs = (element.by.iter().map(|value| ("By", value)))
        .chain(element.hash.iter().map(|value| ("Hash", value)))
        .chain(element.cert.iter().map(|value| ("Cert", value)))
        .chain(element.subject.iter().map(|value| ("Subject", value)))
        .chain(element.uris.iter().map(|value| ("URI", value)))
        .chain(element.dns_names.iter().map(|value| ("DNS", value)));
    let quoted = |value: &str| value.replace('\\', r"\\").replace('"', r#"\""#);
    let pairs = pairs.map(|(key, value)| format!("{key}=\"{}\"", quoted(value)));
    // An element that holds nothing that is kept.
    let pairs: Vec<String> = pairs.chain(["URI=".to_owned()]).collect();
    pairs.join(";")
}

/// A SPIFFE ID; the crate `spiffe` takes the same, but for lengths that the standard bounds and for letters that
/// it makes small.
pub fn spiffe_id(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let other = spiffe::SpiffeId::new(text).ok().filter(|id| id.to_string() == text);
    match (SpiffeId::parse(text), other) {
        (Ok(own), Some(other)) => {
            assert_eq!(own.as_str(), text);
            assert_eq!(own.trust_domain(), other.trust_domain_name());
            assert_eq!(own.path(), other.path());
            assert!(SpiffePattern::parse(text).unwrap().matches(&own));
            true
        }
        (Err(_), None) => false,
        (own, other) => {
            assert!(own.is_err() && text.len() > 255, "{text}: {own:?}, {other:?}");
            false
        }
    }
}

/// A trust domain of a policy; the crate `spiffe` takes the same.
pub fn trust_domain(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let policy = json!({ "trust_domain": text, "rules": [] }).to_string();
    let is_read = tollgate::config::parse::<Policy>(policy.as_bytes()).is_ok();
    // It takes the ID of a workload for the name of its trust domain.
    let other = spiffe::TrustDomain::new(text).is_ok_and(|domain| domain.as_str() == text);
    assert_eq!(is_read, other && text.len() <= 255, "{text}");
    is_read
}

/// A path of a request; decoded once by `percent-encoding`, it has no other reading.
pub fn path(bytes: &[u8]) -> bool {
    if RequestPath::read(bytes).is_err() {
        return false;
    }
    let before_query = bytes.split(|&byte| byte == b'?').next().unwrap();
    let decoded: Vec<u8> = percent_decode(before_query).collect();
    let segments: Vec<&[u8]> = decoded.split(|&byte| byte == b'/').collect();
    let raw = before_query.split(|&byte| byte == b'/').count();
    assert_eq!(raw, segments.len(), "{}", bytes.escape_ascii());
    assert!(!segments.contains(&&b"."[..]) && !segments.contains(&&b".."[..]));
    assert!(!decoded.windows(2).any(|two| two == b"//"), "{}", bytes.escape_ascii());
    assert!(!decoded.iter().any(|byte| b"\\;#\0".contains(byte)), "{}", bytes.escape_ascii());
    assert!(percent_decode(&decoded).eq(decoded.iter().copied()), "{}", bytes.escape_ascii());
    true
}

/// A policy; what is not taken has an error with its place, on one line.
pub fn policy(bytes: &[u8]) -> bool {
    match tollgate::config::parse::<Policy>(bytes) {
        Ok(_) => true,
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains(':') && !error.contains('\n'), "{error}");
            false
        }
    }
}
