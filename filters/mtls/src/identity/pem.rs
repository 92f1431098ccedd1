//! PEM of one certificate, as proxies tell it: plain, or percent-encoded in a header.
//!
//! Source: RFC 7468, section 5; RFC 4648, section 4.

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// The DER of the only certificate of a text; `None` when that is not exactly one.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let inner = text.trim_ascii().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let mut bytes = Vec::new();
    let (mut bits, mut digits, mut pads) = (0_u32, 0_u8, 0_u8);
    for &byte in inner.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        let digit = match byte {
            b'A'..=b'Z' => byte.wrapping_sub(b'A'),
            b'a'..=b'z' => byte.wrapping_sub(b'a').wrapping_add(26),
            b'0'..=b'9' => byte.wrapping_sub(b'0').wrapping_add(52),
            b'+' => 62,
            b'/' => 63,
            b'=' if digits >= 2 => {
                pads = pads.saturating_add(1);
                0
            }
            _ => return None,
        };
        if pads > 0 && byte != b'=' {
            return None;
        }
        bits = bits << 6 | u32::from(digit);
        digits = digits.saturating_add(1);
        if digits == 4 {
            let [_, one, two, three] = bits.to_be_bytes();
            let kept = 3_u8.checked_sub(pads)?;
            let is_clean = (kept > 1 || two == 0) && (kept > 2 || three == 0);
            if kept == 0 || !is_clean {
                return None;
            }
            bytes.extend([one, two, three].into_iter().take(kept.into()));
            (bits, digits) = (0, 0);
            // After padding only the end may come.
            if pads > 0 {
                digits = 4;
            }
        } else if digits > 4 {
            return None;
        }
    }
    (matches!(digits, 0 | 4) && !bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(inner: &str, expected: Option<&[u8]>) {
        let text = format!("-----BEGIN CERTIFICATE-----\n{inner}\n-----END CERTIFICATE-----\n");
        assert_eq!(decode(text.as_bytes()).as_deref(), expected, "{inner}");
    }

    #[test]
    fn the_vectors_of_the_standard_are_read() {
        check("Zg==", Some(b"f"));
        check("Zm8=", Some(b"fo"));
        check("Zm9v", Some(b"foo"));
        check("Zm9v\nYmFy", Some(b"foobar"));
        check("+/+/", Some(b"\xfb\xff\xbf"));
    }

    #[test]
    fn what_is_not_whole_or_not_minimal_is_none() {
        for inner in [
            "",
            "Z",
            "Zg",
            "Zg=",
            "Zg===",
            "Zh==",
            "Zm9=",
            "Z===",
            "Zg==Zg==",
            "Zm9v=",
            "Zm 9*",
            "Zg==\n-----BEGIN CERTIFICATE-----",
        ] {
            check(inner, None);
        }
        assert_eq!(decode(b"Zm9v"), None);
    }
}
