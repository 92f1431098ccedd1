//! Lists of texts, each checked as it is read. They share their code, which lists of several types
//! would not: in a module that counts.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use super::{HostPattern, InvalidMatch, is_method};
use crate::config::EmptyList;
use crate::origin::SpiffePattern;

/// Says what is wrong with a text.
type Check = fn(&str) -> Result<(), String>;

/// Reads names of routes or virtual hosts, as `deserialize_with`.
pub(super) fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    read(from, |name| match name {
        "" => Err(InvalidMatch::EmptyName.to_string()),
        _ => Ok(()),
    })
}

/// Reads methods, as `deserialize_with`.
pub(super) fn methods<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    read(from, |method| {
        let invalid = || InvalidMatch::Method { method: method.to_owned() }.to_string();
        if is_method(method.as_bytes()) { Ok(()) } else { Err(invalid()) }
    })
}

/// Reads [`HostPattern`]s, as `deserialize_with`.
pub(super) fn hosts<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    read(from, |host| HostPattern::new(host).map(drop).map_err(|invalid| invalid.to_string()))
}

/// Reads [`SpiffePattern`]s, as `deserialize_with`.
pub(super) fn peers<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    read(from, |id| SpiffePattern::parse(id).map(drop).map_err(|invalid| invalid.to_string()))
}

#[inline(never)]
fn read<'de, D: Deserializer<'de>>(from: D, check: Check) -> Result<Option<Vec<String>>, D::Error> {
    from.deserialize_seq(Texts(check)).map(Some)
}

struct Texts(Check);

impl<'de> Visitor<'de> for Texts {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element_seed(Text(self.0))? {
            texts.push(text);
        }
        if texts.is_empty() { Err(A::Error::custom(EmptyList)) } else { Ok(texts) }
    }
}

struct Text(Check);

impl<'de> DeserializeSeed<'de> for Text {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        match (self.0)(text) {
            Ok(()) => Ok(text.to_owned()),
            Err(problem) => Err(E::custom(problem)),
        }
    }
}
