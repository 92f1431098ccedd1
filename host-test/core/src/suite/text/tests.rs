use std::fmt::Write;

use proptest::prelude::*;
use serde::Deserialize;

use super::parse::{self, Field, Node, Value};
use super::*;

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Sample {
    #[serde(default)]
    name: String,
    #[serde(default)]
    on: bool,
    count: Option<i32>,
    #[serde(default)]
    level: Level,
    #[serde(default)]
    child: Vec<Sample>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
enum Level {
    #[default]
    Low,
    High,
}

fn named(name: &str) -> Sample {
    Sample { name: name.into(), ..Sample::default() }
}

#[test]
fn a_text_is_read() {
    let check = |text: &str, expected: Sample| {
        assert_eq!(super::parse::<Sample>(text).expect(text), expected, "{text}");
    };
    check("", Sample::default());
    check("# nothing\n", Sample::default());
    check("name: 'a' \"b\"\n  # between\n  'c'", named("abc"));
    check(r#"name: "\n\t\\\"\'\101\x42\u00e9\U0001F600""#, named("\n\t\\\"'ABé😀"));
    check(
        "on: true, count: -0x10; level: HIGH",
        Sample { on: true, count: Some(-16), level: Level::High, ..Sample::default() },
    );
    check(
        "level: 1 count: 010 on: f",
        Sample { count: Some(8), level: Level::High, ..Sample::default() },
    );
    let children = vec![named("a"), named("b"), named("c")];
    check(
        "child { name: 'a' } child: < name: 'b' > child: [ { name: 'c' } ]",
        Sample { child: children, ..Sample::default() },
    );
    check("child: []", Sample::default());
}

#[test]
fn what_is_wrong_is_placed() {
    let check = |text: &str, line: usize, column: usize, part: &str| {
        let error = super::parse::<Sample>(text).expect_err(text);
        assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    };
    check("nam: 'a'", 1, 1, "unknown field `nam`");
    check("\n  child { é: 1 }", 2, 11, "expected a field or `}`, got `é`");
    check("child {\n  nam: 1\n}", 2, 3, "unknown field `nam`");
    check("name: 'a'\nname: 'b'", 2, 7, "`name` stands twice");
    check("name: ['a', 'b']", 1, 13, "`name` stands twice");
    check("name: a", 1, 7, "expected text in quotes, got a");
    check("name: { on: true }", 1, 7, "expected text in quotes, got { … }");
    check("name: \"a", 1, 7, "closing quote");
    check("name: \"a\nb\"", 1, 7, "closing quote");
    check(r#"name: "é\q""#, 1, 9, "escape");
    check(r#"name: "\x""#, 1, 8, "escape");
    check(r#"name: "\777""#, 1, 8, "escape");
    check(r#"name: "\ud800""#, 1, 8, "escape");
    check(r#"name: "\xff""#, 1, 7, "invalid value");
    check("name 'a'", 1, 6, "expected `:` or `{`, got `'`");
    check("name:", 1, 6, "expected a value, got the end of the text");
    check("on: maybe", 1, 5, "expected true or false");
    check("count: 3000000000", 1, 8, "from -2147483648 to 2147483647, got 3000000000");
    check("count: 1.5", 1, 8, "a whole number");
    check("count: -", 1, 9, "expected a number");
    check("level: HUGE", 1, 8, "unknown variant `HUGE`");
    check("level: 7", 1, 8, "expected variant index");
    check("level: 'HIGH'", 1, 8, "the name of a value");
    check("child { name: 'a'", 1, 18, "expected a field or `}`, got the end");
    check("child { name: 'a' >", 1, 19, "expected a field or `}`, got `>`");
    check("child: [ { } { } ]", 1, 14, "expected `,` or `]`");
    check("child: 'a'", 1, 8, "expected { … }, got \"a\"");
    check("[a.b]: 1", 1, 1, "expected a field");
    check(&"child {".repeat(65), 1, 455, "more than 64 messages");
}

fn any_message() -> impl Strategy<Value = Vec<Field>> {
    let scalar = prop_oneof![
        any::<Vec<u8>>().prop_map(Value::Text),
        any::<i64>().prop_map(|number| Value::Number(number.to_string())),
        "[a-zA-Z_][a-zA-Z0-9_]{0,6}".prop_map(Value::Word),
    ];
    let fields = |value: BoxedStrategy<Value>| {
        let node = value.prop_map(|value| Node { at: 0, value });
        let values = prop::collection::vec(node, 1..3);
        let field = ("[a-z_]{1,5}", values);
        let field = field.prop_map(|(name, values)| Field { name, at: 0, values });
        prop::collection::vec(field, 0..4)
    };
    let value = scalar
        .prop_recursive(3, 16, 4, move |inner| fields(inner.boxed()).prop_map(Value::Message));
    fields(value.boxed())
}

/// Writes fields in one of many ways, which `style` chooses.
fn write_fields(fields: &[Field], style: &mut impl Iterator<Item = u8>, out: &mut String) {
    let mut choose = |of: u8| style.next().unwrap_or(0) % of;
    let styles: Vec<(u8, u8, u8)> =
        fields.iter().map(|_| (choose(3), choose(2), choose(3))).collect();
    for (field, (end, colon, space)) in fields.iter().zip(styles) {
        let space = [" ", "\n", " # note\n"][usize::from(space)];
        out.push_str(&field.name);
        let [only] = field.values.as_slice() else {
            out.push_str(":[");
            for (index, node) in field.values.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write_value(&node.value, style, out);
            }
            out.push(']');
            out.push_str([" ", ",", ";"][usize::from(end)]);
            continue;
        };
        let needs_colon = !matches!(only.value, Value::Message(_));
        out.push_str(if needs_colon || colon == 0 { ":" } else { "" });
        out.push_str(space);
        write_value(&only.value, style, out);
        out.push_str([" ", ",", ";"][usize::from(end)]);
    }
}

fn write_value(value: &Value, style: &mut impl Iterator<Item = u8>, out: &mut String) {
    match value {
        Value::Message(fields) => {
            let angles = style.next().unwrap_or(0).is_multiple_of(2);
            out.push(if angles { '<' } else { '{' });
            write_fields(fields, style, out);
            out.push(if angles { '>' } else { '}' });
        }
        Value::Text(bytes) => {
            let cut = usize::from(style.next().unwrap_or(0)).min(bytes.len());
            let (first, second) = bytes.split_at(cut);
            out.push('\'');
            for byte in first {
                write!(out, "\\x{byte:02x}").unwrap();
            }
            out.push_str("' \"");
            for byte in second {
                write!(out, "\\{byte:03o}").unwrap();
            }
            out.push('"');
        }
        Value::Number(text) | Value::Word(text) => out.push_str(text),
    }
}

/// Takes the places away.
fn bare(fields: Vec<Field>) -> Vec<Field> {
    let node = |node: Node| Node {
        at: 0,
        value: match node.value {
            Value::Message(fields) => Value::Message(bare(fields)),
            other => other,
        },
    };
    let field = |field: Field| Field {
        at: 0,
        values: field.values.into_iter().map(node).collect(),
        ..field
    };
    fields.into_iter().map(field).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read(fields in any_message(), style: Vec<u8>) {
        let mut text = String::new();
        write_fields(&fields, &mut style.into_iter(), &mut text);
        let read = parse::message(&text);
        prop_assert_eq!(bare(read.unwrap()), fields, "{}", text);
    }

    #[test]
    fn no_text_makes_the_reader_fall(text in "[a-z:{}<>\\[\\],;'\"\\\\#0-9x\n é-]{0,40}") {
        if let Err(error) = super::parse::<Sample>(&text) {
            let lines: Vec<&str> = text.split('\n').collect();
            prop_assert!(error.line >= 1 && error.line <= lines.len());
            prop_assert!(error.column <= lines[error.line - 1].chars().count() + 1);
        }
    }
}
