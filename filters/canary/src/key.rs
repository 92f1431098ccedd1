//! Whom an assignment is for: a key read from the request.
//!
//! A place counts only when all values there are the same. Of several that differ none is better than the
//! others, and a client that may add a line could choose its bucket.

use std::borrow::Cow;
use std::fmt;

use crate::condition::{NotOneValue, Source, View};

/// What a key is made of: one part or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(pub(crate) Vec<Source>);

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey<'a> {
    /// A part is not there, or empty.
    Missing(&'a Source),
    /// Several values of a part differ.
    Several(&'a Source),
}

impl fmt::Display for NoKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(part) => write!(f, "no {part}"),
            Self::Several(part) => write!(f, "several values of {part}"),
        }
    }
}

impl Key {
    /// The key of a request.
    ///
    /// Shape: the only part, byte for byte; of several parts, for each its length in bytes (`u32`,
    /// little-endian) and its bytes.
    ///
    /// # Errors
    ///
    /// [`NoKey`] when a part is not there, empty, or not one.
    pub fn of<'a>(&'a self, request: &View<'a>) -> Result<Cow<'a, [u8]>, NoKey<'a>> {
        if let [part] = self.0.as_slice() {
            return only_value(request, part);
        }
        let mut key = Vec::new();
        for part in &self.0 {
            let value = only_value(request, part)?;
            // No header map holds 4 GiB.
            key.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
            key.extend_from_slice(&value);
        }
        Ok(Cow::Owned(key))
    }
}

fn only_value<'a>(request: &View<'a>, part: &'a Source) -> Result<Cow<'a, [u8]>, NoKey<'a>> {
    match request.value(part) {
        Ok(value) if !value.is_empty() => Ok(value),
        Ok(_) | Err(NotOneValue::Missing) => Err(NoKey::Missing(part)),
        Err(NotOneValue::Several) => Err(NoKey::Several(part)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tollgate::matching::NoNames;
    use tollgate::{HeaderName, Headers};

    fn key(names: &[&str]) -> Key {
        Key(names.iter().map(|name| Source::Header(HeaderName::new(name).unwrap())).collect())
    }

    fn check(names: &[&str], lines: &[(&str, &str)], expected: Result<&[u8], &str>) {
        let headers: Headers = lines.iter().copied().collect();
        let key = key(names);
        let found = key.of(&View::new(&headers, &NoNames));
        let found = found.as_deref().map_err(ToString::to_string);
        assert_eq!(found, expected.map_err(str::to_owned), "{names:?} of {lines:?}");
    }

    #[test]
    fn one_part_is_the_key_and_several_have_their_lengths() {
        let lines = [("x-user", "alice"), ("x-org", "o")];
        check(&["x-user"], &lines, Ok(b"alice"));
        check(&["x-user", "x-org"], &lines, Ok(b"\x05\0\0\0alice\x01\0\0\0o"));
    }

    #[test]
    fn who_has_no_value_or_several_has_no_key() {
        check(&["x-user"], &[], Err("no header x-user"));
        check(&["x-user"], &[("x-user", "")], Err("no header x-user"));
        check(&["x-user"], &[("x-user", "a"), ("X-User", "a")], Ok(b"a"));
        check(
            &["x-user"],
            &[("x-user", "a"), ("X-User", "b")],
            Err("several values of header x-user"),
        );
        check(&["x-user", "x-org"], &[("x-user", "a")], Err("no header x-org"));
    }

    proptest! {
        #[test]
        fn different_parts_never_make_the_same_key(
            one in proptest::collection::vec("[a\0\u{1}]{1,3}", 2),
            other in proptest::collection::vec("[a\0\u{1}]{1,3}", 2),
        ) {
            let key = key(&["x-a", "x-b"]);
            let of = |values: &[String]| {
                let headers: Headers =
                    [("x-a", &values[0]), ("x-b", &values[1])].into_iter().collect();
                key.of(&View::new(&headers, &NoNames)).unwrap().into_owned()
            };
            prop_assert_eq!(of(&one) == of(&other), one == other);
        }
    }
}
