//! The text format of protocol buffers, read into any type that serde knows.
//!
//! There is no schema but the type: a list takes a field as often as it is written, everything else once.
//! Not read: extensions and `Any`, whose names stand in brackets.
//!
//! Source: Protocol Buffers, "Text Format Language Specification".

mod parse;

use std::fmt;
use std::slice;
use std::vec;

use serde::Deserialize;
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};

use parse::{Field, Node, Value};

/// Reads a message.
///
/// # Errors
///
/// [`InvalidText`] with line and column.
pub(super) fn parse<'de, T: Deserialize<'de>>(text: &str) -> Result<T, InvalidText> {
    let fields = parse::message(text).map_err(|wrong| wrong.in_text(text))?;
    let whole = Node { at: 0, value: Value::Message(fields) };
    T::deserialize(Single(&whole)).map_err(|wrong| wrong.in_text(text))
}

/// A text that is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidText {
    /// Line, counted from 1.
    pub line: usize,
    /// Column, counted from 1, in characters.
    pub column: usize,
    /// What is wrong.
    what: String,
}

impl fmt::Display for InvalidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}: {}", self.line, self.column, self.what)
    }
}

impl std::error::Error for InvalidText {}

/// What is wrong, and where: at an offset in bytes, once that is known.
#[derive(Debug)]
struct Wrong {
    at: Option<usize>,
    what: String,
}

impl Wrong {
    fn at(at: usize, what: impl Into<String>) -> Self {
        Self { at: Some(at), what: what.into() }
    }

    /// Places an error that does not know its place.
    fn or_at(self, at: usize) -> Self {
        Self { at: self.at.or(Some(at)), what: self.what }
    }

    fn in_text(self, text: &str) -> InvalidText {
        let before = text.get(..self.at.unwrap_or(0)).unwrap_or(text);
        let last = before.rsplit('\n').next().unwrap_or_default();
        InvalidText {
            line: before.matches('\n').count() + 1,
            column: last.chars().count() + 1,
            what: self.what,
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self { at: None, what: what.to_string() }
    }
}

/// A value by itself.
#[derive(Clone, Copy)]
struct Single<'a>(&'a Node);

impl Single<'_> {
    fn expected<T>(self, what: &dyn fmt::Display) -> Result<T, Wrong> {
        Err(Wrong::at(self.0.at, format!("expected {what}, got {}", self.0.value)))
    }
}

macro_rules! deserialize_integers {
    ($($method:ident $visit:ident $type:ty;)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            match &self.0.value {
                Value::Number(text) => match parse::integer(text).map(<$type>::try_from) {
                    Some(Ok(number)) => visitor.$visit(number),
                    _ => self.expected(&format_args!(
                        "a whole number from {} to {}", <$type>::MIN, <$type>::MAX
                    )),
                },
                _ => self.expected(&"a number"),
            }
            .map_err(|wrong: Wrong| wrong.or_at(self.0.at))
        }
    )* };
}

impl<'de> Deserializer<'de> for Single<'_> {
    type Error = Wrong;

    /// The text format says less than YAML: what is written decides.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.value {
            Value::Message(_) => self.deserialize_map(visitor),
            Value::Text(_) => self.deserialize_string(visitor),
            Value::Number(_) => self.deserialize_i64(visitor),
            Value::Word(_) => self.deserialize_bool(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.value {
            Value::Word(text) | Value::Number(text) => match text.as_str() {
                "true" | "True" | "t" | "1" => visitor.visit_bool(true),
                "false" | "False" | "f" | "0" => visitor.visit_bool(false),
                _ => self.expected(&"true or false"),
            },
            Value::Message(_) | Value::Text(_) => self.expected(&"true or false"),
        }
    }

    deserialize_integers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_string(visitor)
    }

    /// Text goes as text if it is UTF-8, else as bytes.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.value {
            Value::Text(bytes) => match str::from_utf8(bytes) {
                Ok(text) => visitor.visit_str(text),
                Err(_) => visitor.visit_bytes(bytes),
            },
            Value::Message(_) | Value::Number(_) | Value::Word(_) => {
                self.expected(&"text in quotes")
            }
        }
        .map_err(|wrong: Wrong| wrong.or_at(self.0.at))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.value {
            Value::Message(fields) => visitor.visit_map(Fields::of(fields)),
            Value::Text(_) | Value::Number(_) | Value::Word(_) => self.expected(&"{ … }"),
        }
        .map_err(|wrong: Wrong| wrong.or_at(self.0.at))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    /// A value of an enumeration is its name or its number.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match &self.0.value {
            Value::Word(word) => visitor.visit_enum(word.as_str().into_deserializer()),
            Value::Number(text) => match parse::integer(text).map(u32::try_from) {
                Some(Ok(number)) => visitor.visit_enum(number.into_deserializer()),
                _ => self.expected(&"the name of a value"),
            },
            Value::Message(_) | Value::Text(_) => self.expected(&"the name of a value"),
        }
        .map_err(|wrong: Wrong| wrong.or_at(self.0.at))
    }

    fn is_human_readable(&self) -> bool {
        // What is written in several ways in YAML is written in one way here.
        false
    }

    serde::forward_to_deserialize_any! {
        f32 f64 char bytes byte_buf unit unit_struct seq tuple tuple_struct identifier ignored_any
    }
}

/// A field with all its values.
struct Occurrences<'a> {
    name: &'a str,
    values: Vec<&'a Node>,
}

impl<'a> Occurrences<'a> {
    fn single(self) -> Result<Single<'a>, Wrong> {
        match self.values.as_slice() {
            [only] => Ok(Single(only)),
            [_, second, ..] => Err(Wrong::at(second.at, format!("`{}` stands twice", self.name))),
            [] => Err(de::Error::missing_field("a value")),
        }
    }
}

macro_rules! deserialize_single {
    ($($method:ident)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            self.single()?.$method(visitor)
        }
    )* };
}

impl<'de> Deserializer<'de> for Occurrences<'_> {
    type Error = Wrong;

    deserialize_single! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_map
        deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_seq(List(self.values.into_iter()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.single()?.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.single()?.deserialize_enum(name, variants, visitor)
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    serde::forward_to_deserialize_any! { unit_struct tuple tuple_struct }
}

struct List<'a>(vec::IntoIter<&'a Node>);

impl<'de> de::SeqAccess<'de> for List<'_> {
    type Error = Wrong;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Wrong> {
        let Some(node) = self.0.next() else { return Ok(None) };
        seed.deserialize(Single(node)).map(Some).map_err(|wrong| wrong.or_at(node.at))
    }
}

/// The fields of a message, each name once.
struct Fields<'a> {
    all: &'a [Field],
    names: slice::Iter<'a, Field>,
    current: Option<&'a Field>,
}

impl<'a> Fields<'a> {
    fn of(all: &'a [Field]) -> Self {
        Self { all, names: all.iter(), current: None }
    }

    fn is_first(&self, field: &Field) -> bool {
        let first = self.all.iter().find(|other| other.name == field.name);
        first.is_some_and(|first| std::ptr::eq(first, field))
    }
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Wrong;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Wrong> {
        loop {
            let Some(field) = self.names.next() else { return Ok(None) };
            if self.is_first(field) {
                self.current = Some(field);
                let name: de::value::StrDeserializer<'_, Wrong> =
                    field.name.as_str().into_deserializer();
                return seed.deserialize(name).map(Some).map_err(|wrong| wrong.or_at(field.at));
            }
        }
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let Some(field) = self.current.take() else {
            return Err(de::Error::custom("a value without its name"));
        };
        let same = self.all.iter().filter(|other| other.name == field.name);
        let values = same.flat_map(|other| &other.values).collect();
        let occurrences = Occurrences { name: &field.name, values };
        seed.deserialize(occurrences).map_err(|wrong| wrong.or_at(field.at))
    }
}

#[cfg(test)]
mod tests;
