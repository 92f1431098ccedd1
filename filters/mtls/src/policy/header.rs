//! Conditions on headers, with how many of their values count.
//!
//! A header may come on several lines, and a line may hold a list: which of them the upstream believes, nobody
//! here knows. So a condition says what its values are, and how many have to fit.

use tollgate::{HeaderName, Headers};

/// What the values of a header have to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderCondition {
    /// The header.
    pub name: HeaderName,
    /// What its values are.
    pub values: Values,
    /// How many of them have to fit.
    pub quantifier: Quantifier,
    /// What fits: at least one.
    pub texts: Vec<TextMatch>,
}

/// What the values of a header are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Values {
    /// Each line, whole.
    #[default]
    Lines,
    /// Each member of the lists in all lines: what stands between commas, without blanks around it.
    Members,
}

/// How many values have to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantifier {
    /// One or more.
    Any,
    /// All, and there is one.
    All,
    /// None: also where there is none at all.
    None,
    /// There is exactly one value, and it fits.
    One,
}

/// What a text has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextMatch {
    /// Something: `*`.
    Present,
    /// This.
    Exact(String),
    /// It begins so: `text*`.
    Prefix(String),
    /// It ends so: `*text`.
    Suffix(String),
}

impl TextMatch {
    /// A match as it is written.
    ///
    /// # Errors
    ///
    /// When a star stands elsewhere than at one end, or where no header has such a text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let matches = match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(""), _) => Self::Present,
            (Some(end), None) => Self::Suffix(end.to_owned()),
            (None, Some(begin)) => Self::Prefix(begin.to_owned()),
            (None, None) => Self::Exact(text.to_owned()),
            (Some(_), Some(_)) => return Err(format!("{text:?} has a star at both ends")),
        };
        match &matches {
            Self::Exact(rest) | Self::Prefix(rest) | Self::Suffix(rest)
                if rest.contains('*') || rest.contains(char::is_control) =>
            {
                Err(format!("{text:?} has a star within it, or a control character"))
            }
            _ => Ok(matches),
        }
    }

    fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => !value.is_empty(),
            Self::Exact(text) => value == text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Suffix(text) => value.ends_with(text.as_bytes()),
        }
    }
}

impl HeaderCondition {
    /// Whether it holds.
    pub fn holds(&self, headers: &Headers) -> bool {
        let (mut fitting, mut all) = (0_usize, 0_usize);
        let mut count = |value: &[u8]| {
            all = all.saturating_add(1);
            fitting =
                fitting.saturating_add(usize::from(self.texts.iter().any(|text| text.fits(value))));
        };
        for line in headers.all(self.name.as_str()) {
            match self.values {
                Values::Lines => count(line),
                Values::Members => {
                    line.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).for_each(&mut count);
                }
            }
        }
        match self.quantifier {
            Quantifier::Any => fitting > 0,
            Quantifier::All => all > 0 && fitting == all,
            Quantifier::None => fitting == 0,
            Quantifier::One => all == 1 && fitting == 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(quantifier: Quantifier, values: Values, lines: &[&str], expected: bool) {
        let condition = HeaderCondition {
            name: HeaderName::new("x-role").unwrap(),
            values,
            quantifier,
            texts: vec![TextMatch::parse("admin").unwrap()],
        };
        let headers: Headers = lines.iter().map(|line| ("x-role", *line)).collect();
        assert_eq!(condition.holds(&headers), expected, "{quantifier:?} {values:?} {lines:?}");
    }

    #[test]
    fn how_many_values_count_is_written() {
        use Quantifier::{All, Any, None, One};
        use Values::{Lines, Members};
        check(Any, Lines, &["user", "admin"], true);
        check(Any, Lines, &["user, admin"], false);
        check(Any, Members, &["user, admin"], true);
        check(All, Lines, &["admin", "admin"], true);
        check(All, Members, &["admin", "admin,user"], false);
        check(All, Lines, &[], false);
        check(None, Members, &["user", "user ,admin"], false);
        check(None, Lines, &[], true);
        check(One, Lines, &["admin"], true);
        check(One, Lines, &["admin", "admin"], false);
        check(One, Members, &["admin,"], false);
    }

    #[test]
    fn a_star_stands_at_one_end() {
        for text in ["*a*", "a*b", "**", "a\n"] {
            assert!(TextMatch::parse(text).is_err(), "{text}");
        }
        assert_eq!(TextMatch::parse("*"), Ok(TextMatch::Present));
        assert_eq!(TextMatch::parse("*a"), Ok(TextMatch::Suffix("a".to_owned())));
    }
}
