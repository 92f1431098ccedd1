//! Expressions of RE2, as expressions of the crate `regex`.
//!
//! Both are automata with nearly the same syntax. What differs is rewritten: in RE2 `\d`, `\w`, `\s` and
//! `\b` know ASCII alone, `\Q…\E` quotes, and inside brackets `[`, `&`, `-` and `~` have no meaning of
//! sets.

use std::iter::Peekable;
use std::str::Chars;

use regex::bytes::{Regex, RegexBuilder};

/// As much memory as RE2 gives an expression by default.
const MOST_BYTES: usize = 8 << 20;

/// Compiles an expression that matches a text as a whole.
pub(super) fn compile(written: &str) -> Result<Regex, String> {
    let inner = translate(written)?;
    let build = |pattern: &str| {
        RegexBuilder::new(pattern).size_limit(MOST_BYTES).build().map_err(|error| {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!("regex `{written}`: {}", last.trim_start_matches("error: "))
        })
    };
    // By itself first: a parenthesis too many must not close the group.
    build(&inner)?;
    build(&format!(r"\A(?:{inner})\z"))
}

fn translate(written: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = written.chars().peekable();
    while let Some(next) = chars.next() {
        match next {
            '\\' => escape(&mut chars, &mut out, written)?,
            '[' => class(&mut chars, &mut out, written)?,
            other => out.push(other),
        }
    }
    Ok(out)
}

fn escape(chars: &mut Peekable<Chars<'_>>, out: &mut String, written: &str) -> Result<(), String> {
    match chars.next() {
        None => return Err(format!("regex `{written}`: ends in a backslash")),
        Some('Q') => {
            let mut quoted = String::new();
            while let Some(next) = chars.next() {
                if next == '\\' && chars.peek() == Some(&'E') {
                    chars.next();
                    break;
                }
                quoted.push(next);
            }
            out.push_str(&regex::escape(&quoted));
        }
        Some('b') => out.push_str(r"(?-u:\b)"),
        Some('B') => return Err(format!("regex `{written}`: \\B is not supported")),
        Some('C') => return Err(format!("regex `{written}`: \\C is not supported")),
        Some('d') => out.push_str("[0-9]"),
        Some('D') => out.push_str("[^0-9]"),
        Some('s') => out.push_str(r"[\t\n\f\r ]"),
        Some('S') => out.push_str(r"[^\t\n\f\r ]"),
        Some('w') => out.push_str("[0-9A-Za-z_]"),
        Some('W') => out.push_str("[^0-9A-Za-z_]"),
        // In `regex` these two are the begin and the end of a word.
        Some(angle @ ('<' | '>')) => out.push(angle),
        Some(other) => out.extend(['\\', other]),
    }
    Ok(())
}

/// A part of what stands in brackets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Begin,
    Character,
    /// The sign between two characters.
    Range,
    Set,
}

/// Rewrites what stands in brackets, after the opening one.
fn class(chars: &mut Peekable<Chars<'_>>, out: &mut String, written: &str) -> Result<(), String> {
    out.push('[');
    if chars.peek() == Some(&'^') {
        chars.next();
        out.push('^');
    }
    let mut last = Part::Begin;
    while let Some(next) = chars.next() {
        let (text, part) = match next {
            ']' if last != Part::Begin => {
                out.push(']');
                return Ok(());
            }
            '[' if chars.peek() == Some(&':') => {
                let mut name = String::from('[');
                for next in chars.by_ref() {
                    name.push(next);
                    if next == ']' {
                        break;
                    }
                }
                (name, Part::Set)
            }
            '\\' => match chars.next() {
                None => return Err(format!("regex `{written}`: ends in a backslash")),
                Some('d') => ("0-9".into(), Part::Set),
                Some('s') => (r"\t\n\f\r ".into(), Part::Set),
                Some('w') => ("0-9A-Za-z_".into(), Part::Set),
                Some(angle @ ('<' | '>')) => (angle.into(), Part::Character),
                Some(other) => (format!("\\{other}"), Part::Character),
            },
            '-' if last == Part::Character && chars.peek().is_some_and(|&next| next != ']') => {
                ("-".into(), Part::Range)
            }
            meaning @ (']' | '[' | '&' | '~' | '-') => (format!("\\{meaning}"), Part::Character),
            other => (other.into(), Part::Character),
        };
        out.push_str(&text);
        // What ends a range begins none.
        last = if last == Part::Range { Part::Set } else { part };
    }
    Err(format!("regex `{written}`: a bracket is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_as_in_re2() {
        let check = |pattern: &str, matching: &[&str], other: &[&str]| {
            let regex = compile(pattern).expect(pattern);
            for text in matching {
                assert!(regex.is_match(text.as_bytes()), "{pattern} on {text}");
            }
            for text in other {
                assert!(!regex.is_match(text.as_bytes()), "{pattern} on {text}");
            }
        };
        check("a|b", &["a", "b"], &["ab", "xa", ""]);
        check(".*", &["", "abc"], &["a\nb"]);
        check("(?s).*", &["a\nb"], &[]);
        check("[[:xdigit:]]+", &["00ffAA"], &["0x1"]);
        check(r"\d+", &["12"], &["٣"]);
        check(r"\w+\s\S", &["a_1 b"], &["é b"]);
        check(r"\Qa.b\E.", &["a.bc"], &["axbc"]);
        check(r"[[a]", &["[", "a"], &["b"]);
        check(r"[]a]", &["]", "a"], &["b"]);
        check(r"[^]a]", &["b"], &["]", "a"]);
        check(r"[a&&b]+", &["&ab"], &["c"]);
        check(r"[\d.-]+", &["1.2-3"], &["a"]);
        check(r"[+--]+", &["+,-"], &["."]);
        check(r"\<b\>", &["<b>"], &["b"]);
        check(r"\/a\-b", &["/a-b"], &["a"]);
        check(r"(?i)ABC", &["abc"], &["abd"]);
        check(r"a\b.b", &["a b"], &["axb"]);
    }

    #[test]
    fn an_expression_that_is_none_is_refused() {
        let check = |pattern: &str, part: &str| {
            let error = compile(pattern).expect_err(pattern);
            assert!(error.contains(part) && error.contains(pattern), "{error}");
        };
        check("a)|(b", "unopened group");
        check("(a", "unclosed group");
        check("[a", "not closed");
        check("a\\", "backslash");
        check("a{1001}{1001}", "size limit");
        check(r"\1", "backreference");
    }
}
