//! What a scenario has answered to imports that no host serves: functions of a vendor's host.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{self, Deserializer};
use tollgate_abi::{Memory, Served};

use super::value::Bytes;
use super::written::WordOr;

/// What a declared import answers, by its name, as in `env.proxy_get_secret`: one answer for each call;
/// the last stays.
pub type Imports = BTreeMap<String, Vec<ImportAnswer>>;

/// One answer of a declared import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportAnswer {
    /// The guest traps.
    Trap,
    /// The function returns.
    Return {
        /// The word that it returns, if it returns any.
        word: i64,
        /// What it writes into the guest's memory.
        given: Option<Given>,
    },
}

/// What a declared import gives beside its word, as functions of the ABI do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// Bytes in memory of the guest's allocator: the last two arguments say where their address and their
    /// size go.
    Bytes(Vec<u8>),
    /// A number of 32 bits: the last argument says where it goes.
    Number(u32),
}

impl Given {
    /// How many of the last arguments say where it goes.
    pub fn places(&self) -> usize {
        match self {
            Self::Bytes(_) => 2,
            Self::Number(_) => 1,
        }
    }

    /// Writes it; `places` are the last arguments, the last of all first. `None` when there are too few, when
    /// they lie outside of the guest's memory, or when the guest gives none for the bytes.
    pub fn write(&self, places: &[u32], memory: &mut impl Memory) -> Option<()> {
        match (self, places) {
            (Self::Number(number), [place, ..]) => {
                memory.write((*place).into(), &number.to_le_bytes())
            }
            (Self::Bytes(bytes), [size_place, data_place, ..]) => {
                let size = u32::try_from(bytes.len()).ok()?;
                let address = match size {
                    0 => 0,
                    _ => u32::try_from(memory.allocate(bytes.len())?).ok()?,
                };
                memory.write(address.into(), bytes)?;
                memory.write((*data_place).into(), &address.to_le_bytes())?;
                memory.write((*size_place).into(), &size.to_le_bytes())
            }
            (Self::Number(_) | Self::Bytes(_), _) => None,
        }
    }
}

impl ImportAnswer {
    /// Reads an answer from a word: `trap`, or the number that the function returns.
    ///
    /// # Errors
    ///
    /// What can be written.
    pub fn parse(word: &str) -> Result<Self, String> {
        match (word, word.parse()) {
            ("trap", _) => Ok(Self::Trap),
            (_, Ok(word)) => Ok(Self::Return { word, given: None }),
            (_, Err(_)) => Err(format!(
                "`{word}` is no answer of an import; write trap, or the number that it returns"
            )),
        }
    }
}

/// Checks that an import can be declared; `name` is `module.function`.
///
/// # Errors
///
/// A name without a module, and one that hosts serve themselves.
pub fn check_import(name: &str) -> Result<(), String> {
    match name.split_once('.') {
        None | Some(("", _) | (_, "")) => {
            Err(format!("imports: `{name}` is no import; write its module too, as in env.{name}"))
        }
        Some((module, function)) if Served::is_for_all_versions(module, function) => {
            Err(format!("imports: {name} is served by the host itself; take it off the list"))
        }
        Some(_) => Ok(()),
    }
}

#[derive(Default)]
pub(super) struct RawImports(pub(super) Imports);

impl<'de> Deserialize<'de> for RawImports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = BTreeMap::<String, RawAnswers>::deserialize(deserializer)?;
        let import = |(name, RawAnswers(answers)): (String, RawAnswers)| {
            check_import(&name).map_err(de::Error::custom)?;
            if answers.is_empty() {
                let what = format!("imports: {name}: an empty list; write at least one answer");
                return Err(de::Error::custom(what));
            }
            Ok((name, answers))
        };
        written.into_iter().map(import).collect::<Result<_, _>>().map(Self)
    }
}

struct RawAnswers(Vec<ImportAnswer>);

impl<'de> Deserialize<'de> for RawAnswers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrMore {
            More(Vec<RawAnswer>),
            One(RawAnswer),
        }
        let answers = match OneOrMore::deserialize(deserializer).map_err(|_| {
            de::Error::custom(
                "an answer of an import is `trap`, or { return: N } with `bytes` or `number`; or it is a list of these",
            )
        })? {
            OneOrMore::One(answer) => vec![answer.0],
            OneOrMore::More(answers) => answers.into_iter().map(|RawAnswer(answer)| answer).collect(),
        };
        Ok(Self(answers))
    }
}

struct RawAnswer(ImportAnswer);

impl<'de> Deserialize<'de> for RawAnswer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            #[serde(rename = "return")]
            word: i64,
            bytes: Option<Bytes>,
            number: Option<u32>,
        }
        let answer = match WordOr::<Fields>::deserialize(deserializer)? {
            WordOr::Word(word) => ImportAnswer::parse(&word).map_err(de::Error::custom)?,
            WordOr::Other(Fields { word, bytes, number }) => {
                let given = match (bytes, number) {
                    (None, None) => None,
                    (Some(Bytes(bytes)), None) => Some(Given::Bytes(bytes)),
                    (None, Some(number)) => Some(Given::Number(number)),
                    (Some(_), Some(_)) => {
                        return Err(de::Error::custom("it gives bytes or a number; remove one"));
                    }
                };
                ImportAnswer::Return { word, given }
            }
        };
        Ok(Self(answer))
    }
}
