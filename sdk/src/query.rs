//! Parameters in the query of a request's path.

use std::borrow::Cow;

use crate::matching::Decoded;

/// The value of each parameter of this name in the query of a path, in order. Names and values are
/// decoded as HTML forms encode them: `+` is a space, `%41` is `A`; names are compared decoded, with
/// their case. A parameter without `=` has an empty value.
///
/// A client may send several: servers differ in which one they believe.
///
/// # Examples
///
/// ```
/// let values: Vec<_> = tollgate::query::all(b"/search?q=a+b&%71=c&Q=d#q=e", "q").collect();
/// assert_eq!(values, [&b"a b"[..], b"c"]);
/// ```
///
/// Source: WHATWG URL, "application/x-www-form-urlencoded parsing".
pub fn all<'a>(path: &'a [u8], name: &str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let before_fragment = path.split(|&byte| byte == b'#').next().unwrap_or_default();
    let query = match before_fragment.iter().position(|&byte| byte == b'?') {
        Some(at) => before_fragment.split_at_checked(at.saturating_add(1)).map(|(_, query)| query),
        None => None,
    };
    query.unwrap_or_default().split(|&byte| byte == b'&').filter_map(move |parameter| {
        let (own, value) = match parameter.iter().position(|&byte| byte == b'=') {
            Some(at) => parameter.split_at_checked(at)?,
            None => (parameter, &b"="[..]),
        };
        let is_named = *decoded(own) == *name.as_bytes() && !parameter.is_empty();
        is_named.then(|| decoded(value.strip_prefix(b"=").unwrap_or(value)))
    })
}

/// What percent signs and plus signs stand for; a percent sign without two digits stands for itself.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let plain =
        |(byte, was_encoded): (u8, bool)| if byte == b'+' && !was_encoded { b' ' } else { byte };
    Cow::Owned(Decoded::of(text).map(plain).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: &[&[u8]]) {
        let values: Vec<Cow<'_, [u8]>> = all(path.as_bytes(), "a b").collect();
        assert_eq!(values, expected, "{path}");
    }

    #[test]
    fn a_parameter_is_found_however_it_is_encoded() {
        check("/?a+b=1", &[b"1"]);
        check("/?a%20b=1&%61%20%62=2&A+b=3", &[b"1", b"2"]);
        check("/?x=1&a+b", &[b""]);
        check("/?a+b=1=2?3", &[b"1=2?3"]);
    }

    #[test]
    fn a_path_without_a_query_has_no_parameter() {
        for path in ["", "/", "/a b=1", "/?", "/?&", "/?=", "/#?a+b=1", "/?x#a+b=1"] {
            check(path, &[]);
        }
    }

    #[test]
    fn a_value_is_any_bytes() {
        check("/?a+b=%ff%00&a+b=%f&a+b=%zz%&a+b=%+1", &[b"\xff\0", b"%f", b"%zz%", b"% 1"]);
    }
}
