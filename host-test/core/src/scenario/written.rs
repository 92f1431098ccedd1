//! How single things are written in a scenario: a word in place of a mapping, a header name, a level,
//! a body.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer};
use tollgate_abi::LogLevel;

use super::value::Bytes;

/// A single word, or the whole thing.
pub(super) enum WordOr<T> {
    Word(String),
    Other(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for WordOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordVisitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for WordVisitor<T> {
            type Value = WordOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a mapping")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<WordOr<T>, E> {
                Ok(WordOr::Word(word.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<WordOr<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(WordOr::Other)
            }
        }

        deserializer.deserialize_any(WordVisitor(std::marker::PhantomData))
    }
}

/// A log level by name; info when not said.
pub(super) struct Level(pub(super) LogLevel);

impl Default for Level {
    fn default() -> Self {
        Self(LogLevel::Info)
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let level = LogLevel::LISTED.iter().find(|level| level.to_string() == name);
        level.copied().map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "`{name}` is not a log level; write trace, debug, info, warn, error or critical"
            ))
        })
    }
}

/// A header name: a token of RFC 9110, in lower case.
pub(super) struct Name(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if !is_header_name(name.as_bytes()) {
            return Err(de::Error::custom(format!("`{name}` is not a header name")));
        }
        Ok(Self(name.to_ascii_lowercase().into_bytes()))
    }
}

/// Whether a header may be called so.
pub(super) fn is_header_name(name: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_token)
}

/// A body: text, or a list of chunks.
#[derive(Default)]
pub(super) struct Body(pub(super) Vec<Vec<u8>>);

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BodyVisitor;

        impl<'de> de::Visitor<'de> for BodyVisitor {
            type Value = Body;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, `{ hex: … }`, or a list of chunks")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Body, E> {
                Ok(Body(vec![text.as_bytes().to_vec()]))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Body, A::Error> {
                let deserializer = de::value::MapAccessDeserializer::new(map);
                Bytes::deserialize(deserializer).map(|Bytes(bytes)| Body(vec![bytes]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Body, A::Error> {
                let mut chunks = Vec::new();
                while let Some(Bytes(chunk)) = list.next_element()? {
                    chunks.push(chunk);
                }
                Ok(Body(chunks))
            }
        }

        deserializer.deserialize_any(BodyVisitor)
    }
}
