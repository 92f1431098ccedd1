//! The codec of header pairs against bytes captured from Envoy, and against any bytes at all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;
use tollgate_abi::pairs::{self, InvalidPairs, Pairs};

type Owned = Vec<(Vec<u8>, Vec<u8>)>;

fn golden(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::chars)
        .map(|digit| u8::try_from(digit.to_digit(16).expect("a hex digit")).unwrap())
        .collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn decode(bytes: &[u8]) -> Result<Owned, InvalidPairs> {
    let pairs = Pairs::parse(bytes)?;
    Ok(pairs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect())
}

fn check(text: &str, expected: &[(&str, &[u8])]) {
    let bytes = golden(text);
    let expected: Owned =
        expected.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect();
    assert_eq!(decode(&bytes).unwrap(), expected);
    if !expected.is_empty() {
        assert_eq!(pairs::encode(&expected).unwrap(), bytes, "encoding gives Envoy's bytes");
    }
}

#[test]
fn envoys_bytes_are_read_and_written() {
    check(include_str!("golden/empty-map.hex"), &[]);
    check(include_str!("golden/response-headers-204.hex"), &[(":status", b"204")]);
    check(include_str!("golden/response-trailers.hex"), &[("x-t", b"1"), ("x-e", b"")]);
    check(
        include_str!("golden/request-headers.hex"),
        &[
            (":authority", b"example.com"),
            (":path", b"/orders?q=1"),
            (":method", b"GET"),
            (":scheme", b"http"),
            ("x-user", b"alice"),
            ("x-empty", b""),
            ("x-user", b"bob"),
            ("x-bytes", b"\xff"),
            ("x-forwarded-proto", b"http"),
        ],
    );
}

#[test]
fn the_empty_map_has_three_forms() {
    for bytes in [&b""[..], b"\0", b"\0\0\0\0"] {
        assert_eq!(decode(bytes), Ok(Vec::new()), "{bytes:?}");
    }
}

#[test]
fn what_is_no_map_says_where() {
    let cases: [(&[u8], InvalidPairs); 6] = [
        (b"\x01\0\0", InvalidPairs::Truncated { at: 3, part: "count" }),
        (b"\x01\0\0\0", InvalidPairs::Count { count: 1, bytes: 4 }),
        (b"\xff\xff\xff\xff", InvalidPairs::Count { count: 0xffff_ffff, bytes: 4 }),
        (b"\x01\0\0\0\x01\0\0\0\x01\0\0\0a\0b", InvalidPairs::Text { index: 0, at: 12 }),
        (b"\x01\0\0\0\x01\0\0\0\x01\0\0\0a-b\0", InvalidPairs::Text { index: 0, at: 12 }),
        (b"\x01\0\0\0\x01\0\0\0\x01\0\0\0a\0b\0!", InvalidPairs::Trailing { extra: 1 }),
    ];
    for (bytes, expected) in cases {
        assert_eq!(decode(bytes), Err(expected), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        if let Ok(pairs) = Pairs::parse(&bytes) {
            prop_assert_eq!(pairs.iter().count(), pairs.len());
        }
    }

    /// Random bytes rarely make a map: a real one with one byte changed comes closer.
    #[test]
    fn a_damaged_map_is_read_without_a_panic(
        map: Owned, at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
    ) {
        let mut bytes = pairs::encode(&map).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(pairs) = Pairs::parse(&bytes) {
            prop_assert_eq!(pairs.iter().count(), pairs.len());
        }
    }

    #[test]
    fn pairs_survive_the_way_there_and_back(map: Owned) {
        prop_assert_eq!(decode(&pairs::encode(&map).unwrap()), Ok(map));
    }
}
