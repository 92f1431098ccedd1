//! Labels as they stand in the name of a metric.
//!
//! Shape: for each label its name, `=.=`, its value and `;.;`, then the name of the metric. Neither
//! separator can be in a value, as each needs a `=` or a `;`, which are escaped.
//!
//! Source: Istio, `proxy/extensions/common/metrics`; which bytes Envoy 1.40 keeps was measured.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;

use siphasher::sip::SipHasher13;

/// How long the escaped value of a label is at most, in bytes. Of a longer one the beginning is kept,
/// and in place of the rest `%~` and a hash of the whole, so that long values stay apart.
pub const MAX_VALUE_BYTES: usize = 128;

/// How much of it is there before a last dot is escaped, which takes two bytes more.
const KEPT_BYTES: usize = MAX_VALUE_BYTES - 2;

/// What [`MAX_VALUE_BYTES`] holds of `%~` and 16 digits.
const MARK_BYTES: usize = 18;

/// What stands between a label's name and its value.
const VALUE: &[u8] = b"=.=";

/// What ends a label.
const END: &[u8] = b";.;";

/// Which labels a metric has: a type without values, that says it once for the whole program.
///
/// What is wrong with the names does not compile: a name is a letter or `_`, then letters, digits and
/// `_`; there are as many as values; none ends in another one of them, as Istio's expressions would
/// take the one for the other.
///
/// ```compile_fail,E0080
/// # use tollgate::metrics::{Labels, StatsTags};
/// struct ByCode;
///
/// impl Labels for ByCode {
///     const NAMES: &'static [&'static str] = &["code", "response_code"];
///     type Values<'a> = (u32, u32);
/// }
///
/// const TAGS: StatsTags = StatsTags::of(&[ByCode::NAMES]);
/// # assert_eq!(TAGS.to_istio(), "");
/// ```
pub trait Labels {
    /// The names, in the order of the values.
    const NAMES: &'static [&'static str];

    /// The values of one series: a [`LabelValue`], or a tuple of up to six.
    type Values<'a>: LabelValues;
}

/// The values of all labels of a series.
pub trait LabelValues {
    /// How many there are.
    const COUNT: usize;

    /// Hands over each value, in order.
    fn each(&self, value: &mut dyn FnMut(&dyn LabelValue));
}

/// The value of a label.
///
/// Bytes are kept as they are, so that Prometheus shows `/orders.v1` as it is, but for what would end
/// the value or could not be shown: `%`, `;`, `=`, a dot at the end, control characters, and what is
/// not UTF-8. These become `%` and two digits.
pub trait LabelValue {
    /// Writes the value, in one piece or in several.
    fn write(&self, text: &mut LabelText<'_>);
}

/// Where the value of a label is written, escaped.
#[derive(Debug)]
pub struct LabelText<'a> {
    name: &'a mut Vec<u8>,
    /// Where the value begins.
    start: usize,
    /// The hash of what does not fit, once it does not.
    whole: Option<SipHasher13>,
}

impl LabelText<'_> {
    /// Adds to the value.
    pub fn push(&mut self, bytes: &[u8]) {
        for chunk in bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                let mut utf8 = [0; 4];
                let bytes = character.encode_utf8(&mut utf8).as_bytes();
                let is_plain = !character.is_control() && !matches!(character, '%' | ';' | '=');
                self.put(bytes, is_plain);
            }
            for byte in chunk.invalid() {
                self.put(&[*byte], false);
            }
        }
    }

    #[inline(never)]
    fn put(&mut self, bytes: &[u8], is_plain: bool) {
        use std::hash::Hasher as _;

        if let Some(whole) = &mut self.whole {
            whole.write(bytes);
            return;
        }
        let before = self.name.len();
        if is_plain {
            self.name.extend_from_slice(bytes);
        } else {
            for byte in bytes {
                // A vector takes whatever is written.
                let _ = write!(Text(self.name), "%{byte:02X}");
            }
        }
        if self.name.len().saturating_sub(self.start) > KEPT_BYTES {
            self.name.truncate(before);
            let mut whole = SipHasher13::new_with_key(b"tollgate-longest");
            whole.write(self.name.get(self.start..).unwrap_or_default());
            whole.write(bytes);
            self.whole = Some(whole);
        }
    }

    fn end(self) {
        use std::hash::Hasher as _;

        let Some(whole) = self.whole else {
            // Envoy drops the dots at the end of a value: it would be one with another.
            if self.name.len() > self.start && self.name.pop_if(|last| *last == b'.').is_some() {
                self.name.extend_from_slice(b"%2E");
            }
            return;
        };
        // Characters are cut as a whole: those that make room for the mark, too.
        let room = self.start.saturating_add(MAX_VALUE_BYTES.saturating_sub(MARK_BYTES));
        let mut cut = room.min(self.name.len());
        while cut > self.start && self.name.get(cut).is_some_and(|&byte| is_inside(byte)) {
            cut = cut.saturating_sub(1);
        }
        for back in 1..=2 {
            let at = cut.saturating_sub(back);
            if at >= self.start && self.name.get(at) == Some(&b'%') {
                cut = at;
            }
        }
        self.name.truncate(cut);
        let _ = write!(Text(self.name), "%~{:016x}", whole.finish());
    }
}

/// Whether a byte is in UTF-8 the second or a later one of a character.
fn is_inside(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// Text that is written to bytes.
struct Text<'a>(&'a mut Vec<u8>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Writes the name of a series into `name`, which is emptied first.
pub(super) fn series_name<L: Labels>(name: &mut Vec<u8>, values: &L::Values<'_>, metric: &str) {
    name.clear();
    let mut names = L::NAMES.iter();
    values.each(&mut |value| label(name, names.next().copied().unwrap_or_default(), value));
    name.extend_from_slice(metric.as_bytes());
}

/// Writes a label.
fn label(name: &mut Vec<u8>, label: &str, value: &dyn LabelValue) {
    name.extend_from_slice(label.as_bytes());
    name.extend_from_slice(VALUE);
    let start = name.len();
    let mut text = LabelText { name, start, whole: None };
    value.write(&mut text);
    text.end();
    name.extend_from_slice(END);
}

/// What the name of a series with these labels begins with; a value that is missing is empty.
pub(super) fn labelled<'a>(
    names: &[String],
    mut values: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut labels = Vec::new();
    for name in names {
        label(&mut labels, name, &values.next().unwrap_or_default());
    }
    labels
}

/// The name of the series that takes what is beyond the budget.
pub(super) fn other_name<L: Labels>(metric: &str) -> Vec<u8> {
    [&other_labels(L::NAMES), metric.as_bytes()].concat()
}

/// What that name begins with.
pub(super) fn other_labels<N: AsRef<str>>(names: &[N]) -> Vec<u8> {
    let label = |name: &N| [name.as_ref().as_bytes(), VALUE, b"other", END].concat();
    names.iter().flat_map(label).collect()
}

/// A metric's name, with `_` for what would be taken for the end of a label or is not shown.
pub(super) fn metric_name(name: &'static str) -> Cow<'static, str> {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ':');
    if name.chars().all(is_kept) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.chars().map(|c| if is_kept(c) { c } else { '_' }).collect())
}

/// Fails to compile for labels that do not work.
pub(super) const fn check<L: Labels>() {
    let (names, count) = (L::NAMES, <L::Values<'static> as LabelValues>::COUNT);
    assert!(names.len() == count, "a metric has as many names of labels as values");
    check_names(names);
}

/// Fails to compile for labels of several metrics that do not work side by side.
pub(super) const fn check_all(mut metrics: &[&[&str]]) {
    while let [names, after @ ..] = metrics {
        check_names(names);
        let mut others = after;
        while let [other, more @ ..] = others {
            check_beside(names, other);
            others = more;
        }
        metrics = after;
    }
}

const fn check_names(mut names: &[&str]) {
    while let [name, after @ ..] = names {
        assert!(is_name(name.as_bytes()), "a label's name is of letters, digits and _");
        let mut others = after;
        while let [other, more @ ..] = others {
            check_two(name.as_bytes(), other.as_bytes());
            others = more;
        }
        names = after;
    }
}

/// Metrics may share a label.
const fn check_beside(mut names: &[&str], others: &[&str]) {
    while let [name, after @ ..] = names {
        let name = name.as_bytes();
        let mut rest = others;
        while let [other, more @ ..] = rest {
            let other = other.as_bytes();
            let is_same = ends_with(name, other) && ends_with(other, name);
            if !is_same {
                check_two(name, other);
            }
            rest = more;
        }
        names = after;
    }
}

const fn check_two(name: &[u8], other: &[u8]) {
    assert!(
        !ends_with(name, other) && !ends_with(other, name),
        "a label's name ends in that of another: Istio would take one for the other"
    );
}

pub(super) const fn is_name(mut name: &[u8]) -> bool {
    if matches!(name, [] | [b'0'..=b'9', ..]) {
        return false;
    }
    while let [byte, rest @ ..] = name {
        if !byte.is_ascii_alphanumeric() && *byte != b'_' {
            return false;
        }
        name = rest;
    }
    true
}

pub(super) const fn ends_with(mut whole: &[u8], mut end: &[u8]) -> bool {
    while let [rest @ .., last] = end {
        let [before @ .., byte] = whole else { return false };
        if *byte != *last {
            return false;
        }
        (whole, end) = (before, rest);
    }
    true
}

impl LabelValue for [u8] {
    fn write(&self, text: &mut LabelText<'_>) {
        text.push(self);
    }
}

impl LabelValue for str {
    fn write(&self, text: &mut LabelText<'_>) {
        text.push(self.as_bytes());
    }
}

impl<T: LabelValue + ?Sized> LabelValue for &T {
    fn write(&self, text: &mut LabelText<'_>) {
        (**self).write(text);
    }
}

impl<const N: usize> LabelValue for [u8; N] {
    fn write(&self, text: &mut LabelText<'_>) {
        text.push(self);
    }
}

/// What is absent is an empty value, which to Prometheus is the same as no label.
impl<T: LabelValue> LabelValue for Option<T> {
    fn write(&self, text: &mut LabelText<'_>) {
        if let Some(value) = self {
            value.write(text);
        }
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {
        $(
            impl LabelValue for $number {
                fn write(&self, text: &mut LabelText<'_>) {
                    // Digits need no escape, and a vector takes whatever is written.
                    let _ = write!(Text(text.name), "{self}");
                }
            }
        )*
    };
}

numbers!(u8 u16 u32 u64 usize bool);

macro_rules! one_value {
    ($($value:ty)*) => {
        $(
            impl LabelValues for $value {
                const COUNT: usize = 1;

                fn each(&self, value: &mut dyn FnMut(&dyn LabelValue)) {
                    value(self);
                }
            }
        )*
    };
}

one_value!(&str &[u8] u8 u16 u32 u64 usize bool);

macro_rules! tuples {
    ($($count:literal: $($type:ident $field:tt),+;)*) => {
        $(
            impl<$($type: LabelValue),+> LabelValues for ($($type,)+) {
                const COUNT: usize = $count;

                fn each(&self, value: &mut dyn FnMut(&dyn LabelValue)) {
                    $(value(&self.$field);)+
                }
            }
        )*
    };
}

tuples! {
    1: A 0;
    2: A 0, B 1;
    3: A 0, B 1, C 2;
    4: A 0, B 1, C 2, D 3;
    5: A 0, B 1, C 2, D 3, E 4;
    6: A 0, B 1, C 2, D 3, E 4, F 5;
}

impl<V: LabelValue, const N: usize> LabelValues for [V; N] {
    const COUNT: usize = N;

    fn each(&self, value: &mut dyn FnMut(&dyn LabelValue)) {
        for each in self {
            value(each);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Two;

    impl Labels for Two {
        const NAMES: &'static [&'static str] = &["route", "code"];
        type Values<'a> = (&'a [u8], u16);
    }

    fn name(route: &[u8], code: u16) -> String {
        let mut name = Vec::new();
        series_name::<Two>(&mut name, &(route, code), "total");
        String::from_utf8(name).unwrap()
    }

    fn check_value(value: &[u8], expected: &str) {
        assert_eq!(name(value, 200), format!("route=.={expected};.;code=.=200;.;total"));
    }

    #[test]
    fn what_needs_no_escape_stays() {
        for value in ["", "/a.b/c", "a,b\"c\\{d}", "http://a:80/?x&y", " ", "é中", ".a..b"] {
            check_value(value.as_bytes(), value);
        }
    }

    #[test]
    fn what_would_end_a_value_or_cannot_be_shown_is_escaped() {
        check_value(b"a;.;code=.=500", "a%3B.%3Bcode%3D.%3D500");
        check_value(b"100%", "100%25");
        check_value(b"a\nb\0", "a%0Ab%00");
        check_value(b"\xffa\xc3", "%FFa%C3");
        check_value(b"a..", "a.%2E");
        check_value(b".", "%2E");
        check_value("\u{85}".as_bytes(), "%C2%85");
    }

    #[test]
    fn a_long_value_is_cut_and_stays_apart_from_others() {
        let cut = |value: &[u8]| {
            let name = name(value, 1);
            name.strip_prefix("route=.=").unwrap().split(";.;").next().unwrap().to_owned()
        };
        let most = [b'x'; KEPT_BYTES];
        assert_eq!(cut(&most), "x".repeat(KEPT_BYTES));
        let long: Vec<u8> = [&most[..], b"y"].concat();
        let longer: Vec<u8> = [&most[..], b"z"].concat();
        assert_eq!(cut(&long).len(), MAX_VALUE_BYTES);
        assert!(cut(&long).starts_with(&"x".repeat(110)) && cut(&long).contains("x%~"));
        assert_ne!(cut(&long), cut(&longer));
        assert_eq!(cut(&long), cut(&long));
    }

    #[test]
    fn a_name_that_ends_in_another_is_known() {
        assert!(ends_with(b"response_code", b"code") && ends_with(b"a", b"a"));
        assert!(!ends_with(b"code", b"response_code") && !ends_with(b"codes", b"code"));
        assert!(is_name(b"_a1") && !is_name(b"1a") && !is_name(b"") && !is_name(b"a-b"));
    }

    /// What was escaped, read back.
    fn unescape(text: &str) -> Vec<u8> {
        let mut bytes = text.bytes();
        let mut found = Vec::new();
        while let Some(byte) = bytes.next() {
            if byte == b'%' {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                found.push(u8::from_str_radix(digits, 16).unwrap());
            } else {
                found.push(byte);
            }
        }
        found
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_value_that_can_be_read_back(
            value in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..300),
                "[;.=%a\u{e9}\n]{0,60}".prop_map(String::into_bytes),
                "\u{e4}{30,80}".prop_map(String::into_bytes),
            ],
        ) {
            let name = name(&value, 7);
            let text = name.strip_prefix("route=.=").unwrap();
            let text = text.strip_suffix(";.;code=.=7;.;total").unwrap();
            prop_assert!(text.len() <= MAX_VALUE_BYTES);
            prop_assert!(!text.contains([';', '=']) && !text.ends_with('.') && !text.contains(char::is_control));
            match text.split_once("%~") {
                None => prop_assert_eq!(unescape(text), value),
                Some((kept, hash)) => {
                    prop_assert!(value.starts_with(&unescape(kept)));
                    prop_assert_eq!(hash.len(), 16);
                }
            }
        }
    }
}
