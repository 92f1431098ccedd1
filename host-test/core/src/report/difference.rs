//! What differs between what was expected and what came, line by line.

/// Lines that are the same and stand beside one that is not.
const CONTEXT: usize = 2;

/// Pairs of lines up to which the shortest difference is looked for.
const MOST_PAIRS: usize = 1 << 22;

/// A line of a difference, by its place in what was expected or in what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// As expected: its place in what came.
    Same(usize),
    Missing(usize),
    Unexpected(usize),
}

/// The difference of two texts, unless each is one line: lines of what was expected after `-`, of what
/// came after `+`.
pub(crate) fn of_texts(expected: &[u8], got: &[u8]) -> Option<String> {
    let lines =
        |text: &[u8]| -> Vec<String> { text.split(|&byte| byte == b'\n').map(shown).collect() };
    let (expected, got) = (lines(expected), lines(got));
    let has_lines = expected.len().max(got.len()) > 1;
    has_lines.then(|| of_lines(&expected, &got, |expected, got| expected == got))
}

/// The difference of two lists; `is` says whether a line is as expected.
pub(crate) fn of_lines<E: ToString, G: ToString>(
    expected: &[E],
    got: &[G],
    is: impl Fn(&E, &G) -> bool,
) -> String {
    let text = |lines: &mut dyn Iterator<Item = String>| lines.next().unwrap_or_default();
    let lines = compare(expected, got, is);
    let is_near = |at: usize| {
        let from = at.saturating_sub(CONTEXT);
        let near = lines.iter().skip(from).take(at - from + CONTEXT + 1);
        near.into_iter().any(|line| !matches!(line, Line::Same(_)))
    };
    let mut out = Vec::new();
    let mut is_skipping = false;
    for (at, line) in lines.iter().enumerate() {
        if !is_near(at) {
            if !is_skipping {
                out.push("  …".to_owned());
            }
            is_skipping = true;
            continue;
        }
        is_skipping = false;
        let (sign, text) = match *line {
            Line::Same(at) => (' ', text(&mut got.iter().skip(at).map(ToString::to_string))),
            Line::Missing(at) => {
                ('-', text(&mut expected.iter().skip(at).map(ToString::to_string)))
            }
            Line::Unexpected(at) => ('+', text(&mut got.iter().skip(at).map(ToString::to_string))),
        };
        out.push(format!("{sign} {text}").trim_end().to_owned());
    }
    out.join("\n")
}

fn shown(line: &[u8]) -> String {
    match str::from_utf8(line) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\t') => text.to_owned(),
        _ => line.escape_ascii().to_string(),
    }
}

/// The shortest difference; for lists that are too long for it, all of one and then all of the other.
fn compare<E, G>(expected: &[E], got: &[G], is: impl Fn(&E, &G) -> bool) -> Vec<Line> {
    let same = |(expected, got): &(&E, &G)| is(expected, got);
    let begin = expected.iter().zip(got).take_while(same).count();
    let expected_rest = expected.get(begin..).unwrap_or_default();
    let got_rest = got.get(begin..).unwrap_or_default();
    let end = expected_rest.iter().rev().zip(got_rest.iter().rev()).take_while(same).count();
    let middle = |length: usize| begin..length - end;
    let (rows, columns) = (middle(expected.len()), middle(got.len()));
    let mut lines: Vec<Line> = (0..begin).map(Line::Same).collect();
    if rows.len().saturating_mul(columns.len()) <= MOST_PAIRS {
        let pair = |row: usize, column: usize| {
            expected.get(row).zip(got.get(column)).is_some_and(|(expected, got)| is(expected, got))
        };
        align(rows, columns, pair, &mut lines);
    } else {
        lines.extend(rows.map(Line::Missing));
        lines.extend(columns.map(Line::Unexpected));
    }
    lines.extend((got.len() - end..got.len()).map(Line::Same));
    lines
}

/// The longest common subsequence, by the lengths of those of all ends.
fn align(
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    is: impl Fn(usize, usize) -> bool,
    lines: &mut Vec<Line>,
) {
    let width = columns.len() + 1;
    let mut lengths = vec![0_u32; (rows.len() + 1) * width];
    let length = |lengths: &[u32], row: usize, column: usize| {
        lengths.get(row * width + column).copied().unwrap_or(0)
    };
    for row in (0..rows.len()).rev() {
        for column in (0..columns.len()).rev() {
            let longest = if is(rows.start + row, columns.start + column) {
                length(&lengths, row + 1, column + 1) + 1
            } else {
                length(&lengths, row + 1, column).max(length(&lengths, row, column + 1))
            };
            if let Some(slot) = lengths.get_mut(row * width + column) {
                *slot = longest;
            }
        }
    }
    let (mut row, mut column) = (0, 0);
    while row < rows.len() || column < columns.len() {
        let both = row < rows.len() && column < columns.len();
        if both && is(rows.start + row, columns.start + column) {
            lines.push(Line::Same(columns.start + column));
            (row, column) = (row + 1, column + 1);
        } else if column == columns.len()
            || (row < rows.len()
                && length(&lengths, row + 1, column) >= length(&lengths, row, column + 1))
        {
            lines.push(Line::Missing(rows.start + row));
            row += 1;
        } else {
            lines.push(Line::Unexpected(columns.start + column));
            column += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_differ_line_by_line() {
        let check = |expected: &str, got: &str, difference: Option<&str>| {
            let found = of_texts(expected.as_bytes(), got.as_bytes());
            assert_eq!(found.as_deref(), difference, "{expected:?} {got:?}");
        };
        check("a", "b", None);
        check("a\nb\nc", "a\nX\nc", Some("  a\n- b\n+ X\n  c"));
        check("a\nb", "b", Some("- a\n  b"));
        check("a\n", "a", Some("  a\n-"));
        check("1\n2\n3\n4\n5\n6\n7", "1\n2\n3\n4\n5\n6\n8", Some("  …\n  5\n  6\n- 7\n+ 8"));
        check("1\n2\n3\n4", "0\n2\n3\n4", Some("- 1\n+ 0\n  2\n  3\n  …"));
        check("a\n\u{1}", "a\n\u{2}", Some("  a\n- \\x01\n+ \\x02"));
    }

    proptest! {
        #[test]
        fn both_lists_can_be_told_from_their_difference(
            expected in prop::collection::vec(0..4_u8, 0..9),
            got in prop::collection::vec(0..4_u8, 0..9),
        ) {
            let lines = compare(&expected, &got, |a, b| a == b);
            let mut at_expected = 0;
            let mut at_got = 0;
            let mut same = 0;
            for line in lines {
                match line {
                    Line::Same(at) => {
                        prop_assert_eq!(at, at_got);
                        prop_assert_eq!(expected[at_expected], got[at_got]);
                        same += 1;
                        at_expected += 1;
                        at_got += 1;
                    }
                    Line::Missing(at) => {
                        prop_assert_eq!(at, at_expected);
                        at_expected += 1;
                    }
                    Line::Unexpected(at) => {
                        prop_assert_eq!(at, at_got);
                        at_got += 1;
                    }
                }
            }
            prop_assert_eq!((at_expected, at_got), (expected.len(), got.len()));
            prop_assert_eq!(same, longest(&expected, &got));
        }
    }

    fn longest(a: &[u8], b: &[u8]) -> usize {
        match (a, b) {
            ([x, a @ ..], [y, b @ ..]) if x == y => 1 + longest(a, b),
            ([_, rest @ ..], [_, other @ ..]) => longest(rest, b).max(longest(a, other)),
            _ => 0,
        }
    }
}
