//! `x-forwarded-client-cert`: what a proxy before this one says of its client.
//!
//! Elements are told apart by `,`, pairs by `;`, keys from values by the first `=`; a value in quotes may
//! hold all of these. Envoy writes `By`, `URI` and `DNS` without quotes whatever is in them, so that a name
//! with `;` or `,` could pose as more pairs: what is repeated, unknown or unfinished is refused, whole.
//!
//! Source: Envoy, "HTTP header manipulation", x-forwarded-client-cert.

use std::error::Error;
use std::fmt;

/// The most bytes of all lines together.
const MOST_BYTES: usize = 32 * 1024;

/// The most elements.
const MOST_ELEMENTS: usize = 32;

/// What one proxy says of its client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// The URIs of the proxy's own certificate.
    pub by: Vec<String>,
    /// The SHA-256 digest of the client's certificate, in hex.
    pub hash: Option<String>,
    /// The client's certificate, percent-encoded PEM.
    pub cert: Option<String>,
    /// The subject of the client's certificate.
    pub subject: Option<String>,
    /// The URIs of the client's certificate.
    pub uris: Vec<String>,
    /// Its DNS names.
    pub dns_names: Vec<String>,
}

/// Reads all lines of the header, in their order: each proxy appends to the last or adds one.
///
/// # Errors
///
/// [`InvalidXfcc`] for the first thing that two readers could understand in two ways.
pub fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Element>, InvalidXfcc> {
    let mut elements = Vec::new();
    let mut bytes = 0_usize;
    for line in lines {
        bytes = bytes.saturating_add(line.len());
        if bytes > MOST_BYTES {
            return Err(InvalidXfcc::TooLong);
        }
        let text = str::from_utf8(line).map_err(|_| InvalidXfcc::NotText)?;
        if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(InvalidXfcc::NotText);
        }
        let mut rest = text;
        loop {
            let (element, after) = element(rest)?;
            if elements.len() >= MOST_ELEMENTS {
                return Err(InvalidXfcc::TooLong);
            }
            elements.push(element);
            match after {
                Some(after) => rest = after,
                None => break,
            }
        }
    }
    Ok(elements)
}

/// One element, and what follows its comma.
fn element(text: &str) -> Result<(Element, Option<&str>), InvalidXfcc> {
    let mut element = Element::default();
    let mut chain = false;
    let mut rest = text.trim_start_matches(' ');
    loop {
        let (key, after) = rest.split_once('=').ok_or(InvalidXfcc::NoPair)?;
        let (value, after) = value(after)?;
        let is = |name: &str| key.eq_ignore_ascii_case(name);
        let once = |place: &mut Option<String>, value| match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(InvalidXfcc::Repeated),
        };
        if is("By") {
            element.by.push(value);
        } else if is("Hash") {
            once(&mut element.hash, value)?;
        } else if is("Cert") {
            once(&mut element.cert, value)?;
        } else if is("Subject") {
            once(&mut element.subject, value)?;
        } else if is("URI") {
            // Written also where the certificate has none.
            if !value.is_empty() {
                element.uris.push(value);
            }
        } else if is("DNS") {
            element.dns_names.push(value);
        } else if is("Chain") && !chain {
            chain = true;
        } else {
            return Err(if is("Chain") { InvalidXfcc::Repeated } else { InvalidXfcc::UnknownKey });
        }
        match after.as_bytes().first() {
            None => return Ok((element, None)),
            Some(b';') => rest = after.get(1..).unwrap_or_default(),
            // What `value` leaves begins with one of the two.
            Some(_) => return Ok((element, after.get(1..))),
        }
    }
}

/// A value, and what follows it: nothing, or `;` or `,` and more.
fn value(text: &str) -> Result<(String, &str), InvalidXfcc> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        return if value.contains('"') {
            Err(InvalidXfcc::Quote)
        } else {
            Ok((value.trim_ascii_end().to_owned(), rest))
        };
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let rest = quoted.get(at.saturating_add(1)..).unwrap_or_default();
                let rest = rest.trim_ascii_start();
                let is_end = rest.is_empty() || rest.starts_with([';', ',']);
                return if is_end { Ok((value, rest)) } else { Err(InvalidXfcc::Quote) };
            }
            '\\' => value.push(characters.next().ok_or(InvalidXfcc::Quote)?.1),
            _ => value.push(character),
        }
    }
    Err(InvalidXfcc::Quote)
}

/// Why lines of the header are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidXfcc {
    /// More than 32 KiB, or more than 32 elements.
    TooLong,
    /// A byte that is not visible ASCII.
    NotText,
    /// Something stands where a key and its value have to.
    NoPair,
    /// A key that no proxy writes.
    UnknownKey,
    /// A key stands twice in an element that may stand there once.
    Repeated,
    /// A quote is not closed, or stands within a value.
    Quote,
}

impl fmt::Display for InvalidXfcc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "x-forwarded-client-cert is longer than 32768 bytes or 32 elements",
            Self::NotText => "x-forwarded-client-cert is not visible ASCII",
            Self::NoPair => "x-forwarded-client-cert has something that is no pair",
            Self::UnknownKey => "x-forwarded-client-cert has an unknown key",
            Self::Repeated => "x-forwarded-client-cert repeats a key",
            Self::Quote => "x-forwarded-client-cert has an open or stray quote",
        })
    }
}

impl Error for InvalidXfcc {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], expected: Result<&[&[&str]], InvalidXfcc>) {
        let found = parse(lines.iter().map(|line| line.as_bytes()))
            .map(|elements| elements.into_iter().map(|element| element.uris).collect::<Vec<_>>());
        let expected = expected.map(|elements| {
            elements.iter().map(|uris| uris.iter().map(|&uri| uri.to_owned()).collect()).collect()
        });
        assert_eq!(found, expected, "{lines:?}");
    }

    #[test]
    fn elements_follow_each_other_over_all_lines() {
        check(&[], Ok(&[]));
        check(&["By=a;Hash=b;URI=spiffe://a/b"], Ok(&[&["spiffe://a/b"]]));
        check(&["URI=a,URI=b", "by=x;uri=c;uri=d"], Ok(&[&["a"], &["b"], &["c", "d"]]));
        check(&[r#"Subject="CN=\"a,b;URI=x\"";URI=c"#], Ok(&[&["c"]]));
        check(&["URI=;DNS=a;DNS=b"], Ok(&[&[]]));
        check(&["URI=a, URI=b"], Ok(&[&["a"], &["b"]]));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for (line, why) in [
            ("", InvalidXfcc::NoPair),
            ("URI=a,", InvalidXfcc::NoPair),
            ("URI=a;", InvalidXfcc::NoPair),
            ("Hash=a;Hash=b", InvalidXfcc::Repeated),
            ("Subject=\"a\";subject=\"b\"", InvalidXfcc::Repeated),
            ("Role=admin", InvalidXfcc::UnknownKey),
            (" ;URI=a", InvalidXfcc::UnknownKey),
            ("Subject=\"a", InvalidXfcc::Quote),
            ("Subject=\"a\"b", InvalidXfcc::Quote),
            ("Subject=a\"b\"", InvalidXfcc::Quote),
            ("Subject=\"a\\", InvalidXfcc::Quote),
            ("URI=a\u{e4}", InvalidXfcc::NotText),
            ("URI=a\0", InvalidXfcc::NotText),
        ] {
            check(&[line], Err(why));
        }
        check(&[&"URI=a,".repeat(33)], Err(InvalidXfcc::TooLong));
        check(&[&format!("URI={}", "a".repeat(MOST_BYTES))], Err(InvalidXfcc::TooLong));
    }
}
