//! A value that does not fit, and where it is: what serde tells, in the words of the other errors.

use std::error::Error;
use std::fmt::{self, Display};

use serde::de::{self, Expected, Unexpected};

/// A value that is missing, unknown, of the wrong type or not allowed.
#[derive(Debug)]
pub(super) struct Misfit(Box<Told>);

#[derive(Debug)]
struct Told {
    /// The way to the value, its last step first.
    way: Vec<Step>,
    /// Whether the problem is told of the value at the end of the way, which has to be named then.
    of_the_value: bool,
    problem: String,
}

#[derive(Debug)]
enum Step {
    Field(String),
    Item(usize),
}

impl Misfit {
    fn new(problem: String) -> Self {
        Self(Box::new(Told { way: Vec::new(), of_the_value: true, problem }))
    }

    fn of_field(name: &str, problem: String) -> Self {
        Self::new(problem).in_field(name)
    }

    /// The same, seen from the object that has the value in this field.
    #[cold]
    pub(super) fn in_field(mut self, name: &str) -> Self {
        self.0.way.push(Step::Field(name.to_owned()));
        self
    }

    /// The same, seen from the list that has the value at this place, from 0.
    #[cold]
    pub(super) fn in_item(mut self, index: usize) -> Self {
        self.0.way.push(Step::Item(index));
        self
    }

    /// The same, of a field whose name is what does not fit.
    #[cold]
    pub(super) fn of_name(self, name: &str) -> Self {
        if self.0.way.is_empty() { self.in_field(name) } else { self }
    }

    /// The place, such as `rules[2].limit.per`, and the problem. Where a type says itself what is wrong, and
    /// begins with one of its fields, as in `per: 0 is not at least 1`, that is the last step of the place.
    pub(super) fn told(&self) -> (String, String) {
        let mut place = String::new();
        for step in self.0.way.iter().rev() {
            match step {
                Step::Field(name) => {
                    if !place.is_empty() {
                        place.push('.');
                    }
                    place.push_str(name);
                }
                Step::Item(index) => {
                    place.push('[');
                    place.push_str(&index.to_string());
                    place.push(']');
                }
            }
        }
        let mut problem = self.0.problem.as_str();
        if self.0.of_the_value {
            if place.is_empty() {
                place.push_str("configuration");
            }
        } else if let Some((field, rest)) = problem.split_once(": ")
            && is_place(field)
        {
            if !place.is_empty() {
                place.push('.');
            }
            place.push_str(field);
            problem = rest;
        }
        (in_one_line(&place), in_one_line(problem))
    }
}

fn is_place(text: &str) -> bool {
    let is_allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'[' | b']');
    text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(is_allowed)
}

fn in_one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

impl Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, problem) = self.told();
        write!(f, "{place}: {problem}")
    }
}

impl Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: Display>(problem: T) -> Self {
        let mut misfit = Self::new(problem.to_string());
        misfit.0.of_the_value = false;
        misfit
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(is_not(found, expected))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(is_not(found, expected))
    }

    fn unknown_variant(word: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("`{word}` is not {}", one_of(expected)))
    }

    fn unknown_field(name: &str, expected: &'static [&'static str]) -> Self {
        let problem = match expected {
            [] => "unknown field, there is none".to_owned(),
            _ => format!("unknown field, expected {}", one_of(expected)),
        };
        Self::of_field(name, problem)
    }

    fn missing_field(name: &'static str) -> Self {
        Self::of_field(name, "missing".to_owned())
    }

    fn duplicate_field(name: &'static str) -> Self {
        Self::of_field(name, "written twice".to_owned())
    }
}

fn is_not(found: Unexpected<'_>, expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    format!("{} is not {}", Found(found), shape(&expected))
}

/// `a`, `a` or `b`, or one of all.
fn one_of(words: &[&str]) -> String {
    match words {
        [] => "anything, there is none".to_owned(),
        [only] => format!("`{only}`"),
        [first, second] => format!("`{first}` or `{second}`"),
        many => format!("one of `{}`", many.join("`, `")),
    }
}

/// What serde has expected, in words that whoever writes a configuration uses.
fn shape(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" => "an object",
        "a boolean" => "true or false",
        "u8" => "a whole number up to 255",
        "u16" => "a whole number up to 65535",
        "u32" => "a whole number up to 4294967295",
        "u64" | "usize" => "a whole number",
        "a nonzero u8" => "a whole number from 1 to 255",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        "a nonzero u64" | "a nonzero usize" => "a whole number, at least 1",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer",
        "f32" | "f64" => "a number",
        _ => expected,
    }
}

/// A value that serde has found, without its type.
struct Found<'a>(Unexpected<'a>);

impl Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Bool(value) => write!(f, "{value}"),
            Unexpected::Unsigned(value) => write!(f, "{value}"),
            Unexpected::Signed(value) => write!(f, "{value}"),
            Unexpected::Float(value) => fraction(value, f),
            Unexpected::Str(text) => write!(f, "{text:?}"),
            Unexpected::Unit => f.write_str("null"),
            Unexpected::Seq => f.write_str("a list"),
            Unexpected::Map => f.write_str("an object"),
            Unexpected::Char(character) => write!(f, "{character:?}"),
            Unexpected::Other(found) => f.write_str(found),
            // JSON has none of these. Serde's own words for them are not asked for: they would bring
            // the printing of floating-point numbers into every module, 18 KiB.
            Unexpected::Bytes(_)
            | Unexpected::Option
            | Unexpected::NewtypeStruct
            | Unexpected::Enum
            | Unexpected::UnitVariant
            | Unexpected::NewtypeVariant
            | Unexpected::TupleVariant
            | Unexpected::StructVariant => f.write_str("this"),
        }
    }
}

/// Shows a number that is no integer, to at most six decimals.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the number is checked to lie in between"
)]
fn fraction(value: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const MILLION: u64 = 1_000_000;
    const LARGEST: f64 = 9e12;
    let size = value.abs();
    if size.is_nan() || size > LARGEST {
        return f.write_str("a number of more than twelve digits");
    }
    let millionths = (size * 1e6 + 0.5) as u64;
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let decimals = millionths.checked_rem(MILLION).unwrap_or_default();
    let decimals = format!("{decimals:06}");
    let decimals = match decimals.trim_end_matches('0') {
        "" => "0",
        some => some,
    };
    write!(f, "{sign}{}.{decimals}", millionths.checked_div(MILLION).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_is_shown_as_it_was_written() {
        for (value, expected) in [
            (1.5, "1.5"),
            (-0.25, "-0.25"),
            (7.0, "7.0"),
            (0.000_001, "0.000001"),
            (1e-9, "0.0"),
            (123_456_789.125, "123456789.125"),
            (1e300, "a number of more than twelve digits"),
        ] {
            assert_eq!(Found(Unexpected::Float(value)).to_string(), expected);
        }
    }
}
