//! Names out of a module, fit for one line of text. Nothing that is compared or stored goes through here.

use core::fmt;

const LONGEST: usize = 120;

/// Shows a name in one line: control characters escaped, an absurd length cut.
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        for character in characters.by_ref().take(LONGEST) {
            match character {
                '"' | '\'' | '\\' => write!(f, "{character}")?,
                _ => write!(f, "{}", character.escape_debug())?,
            }
        }
        match characters.next() {
            Some(_) => f.write_str("…"),
            None => Ok(()),
        }
    }
}

/// Joins what can be shown: `a`, `a and b`, `a, b and c`.
pub(crate) fn list(items: impl IntoIterator<Item = impl fmt::Display>, last: &str) -> String {
    let mut items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match (items.pop(), items.is_empty()) {
        (Some(only), true) => only,
        (Some(end), false) => format!("{} {last} {end}", items.join(", ")),
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_one_line() {
        assert_eq!(Printable("a\nb\0").to_string(), r"a\nb\0");
        assert_eq!(Printable(r#"it's "a"\b"#).to_string(), r#"it's "a"\b"#);
        assert_eq!(Printable(&"x".repeat(200)).to_string().len(), LONGEST + 3);
    }

    #[test]
    fn a_list_reads_as_a_phrase() {
        assert_eq!(list(["a"], "and"), "a");
        assert_eq!(list(["a", "b"], "or"), "a or b");
        assert_eq!(list(["a", "b", "c"], "and"), "a, b and c");
    }
}
