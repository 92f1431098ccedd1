//! How far a policy is enforced: for all requests, for a share of them, or only watched.
//!
//! ```
//! use tollgate::mode::{Enforcement, Mode, Sample};
//!
//! let mode: Mode = tollgate::config::parse(
//!     br#"{ "enforce": "10%", "shadow": "60%", "off": "30%" }"#,
//! )?;
//! let same_user = Sample::of_key(b"alice");
//! assert_eq!(mode.decide(same_user), mode.decide(same_user));
//! assert_eq!(mode.always(), None);
//!
//! let all: Mode = tollgate::config::parse(br#""shadow""#)?;
//! assert_eq!(all.always(), Some(Enforcement::Shadow));
//! # Ok::<(), tollgate::config::InvalidConfig>(())
//! ```
//!
//! A mode is a word, or an object of shares that add up to exactly 100%: what happens to the rest is
//! written, never implied. Shares lie beside each other in the order enforce, shadow, off, so that a
//! request sampled by its key never falls back to less while the share of `enforce` grows.
//!
//! Not here: what a filter does under each [`Enforcement`].

mod percent;
mod sample;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, Deserializer, MapAccess, Visitor};

pub use self::percent::{InvalidPercent, Percent};
pub use self::sample::{Sample, Sampler};
use crate::config::present;
use crate::header_name::HeaderName;
use crate::headers::Headers;

/// What a policy does about one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// It decides, and its decision is carried out.
    #[default]
    Enforce,
    /// It decides and counts; the request passes whatever the decision is.
    Shadow,
    /// It does nothing.
    Off,
}

/// How far a policy is enforced. The default: for all requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mode {
    enforce: Percent,
    shadow: Percent,
    sticky: Option<HeaderName>,
}

impl Default for Mode {
    fn default() -> Self {
        Self::from(Enforcement::default())
    }
}

impl From<Enforcement> for Mode {
    fn from(always: Enforcement) -> Self {
        let share = |of| if always == of { Percent::ALL } else { Percent::NONE };
        Self {
            enforce: share(Enforcement::Enforce),
            shadow: share(Enforcement::Shadow),
            sticky: None,
        }
    }
}

impl Mode {
    /// Shares of requests, sampled by the only line of the header `sticky`, else at random.
    ///
    /// # Errors
    ///
    /// [`InvalidShares`] when they do not add up to 100%.
    pub fn new(
        enforce: Percent,
        shadow: Percent,
        off: Percent,
        sticky: Option<HeaderName>,
    ) -> Result<Self, InvalidShares> {
        let sum = [enforce, shadow, off].map(Percent::millionths).into_iter().sum();
        if sum == Percent::ALL.millionths() {
            Ok(Self { enforce, shadow, sticky })
        } else {
            Err(InvalidShares { sum })
        }
    }

    /// What is done about every request, when it is the same.
    pub fn always(&self) -> Option<Enforcement> {
        [
            (self.enforce == Percent::ALL, Enforcement::Enforce),
            (self.shadow == Percent::ALL, Enforcement::Shadow),
            (self.enforce == Percent::NONE && self.shadow == Percent::NONE, Enforcement::Off),
        ]
        .into_iter()
        .find_map(|(holds, always)| holds.then_some(always))
    }

    /// What is done about a request with this sample.
    pub fn decide(&self, sample: Sample) -> Enforcement {
        let enforced = self.enforce.millionths();
        let shadowed = enforced.saturating_add(self.shadow.millionths());
        match sample.millionths() {
            place if place < enforced => Enforcement::Enforce,
            place if place < shadowed => Enforcement::Shadow,
            _ => Enforcement::Off,
        }
    }

    /// What is done about a request with these headers. A sticky mode takes the value of the header,
    /// if exactly one line has it; a request without one gets the strictest share that there is, so
    /// that leaving the header out or repeating it gains nothing.
    pub fn of(&self, headers: &Headers, sampler: &Sampler) -> Enforcement {
        self.always().unwrap_or_else(|| self.sampled(headers, sampler))
    }

    #[inline(never)]
    fn sampled(&self, headers: &Headers, sampler: &Sampler) -> Enforcement {
        match &self.sticky {
            None => self.decide(sampler.sample()),
            Some(header) => match headers.exactly_one(header.as_str()) {
                Ok(value) => self.decide(Sample::of_key(value)),
                Err(_) => self.decide(Sample::STRICTEST),
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shares {
    enforce: Percent,
    shadow: Percent,
    off: Percent,
    #[serde(default, deserialize_with = "present")]
    sticky: Option<HeaderName>,
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrShares;

        impl<'de> Visitor<'de> for WordOrShares {
            type Value = Mode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`enforce`, `shadow`, `off` or { enforce: 10%, shadow: 60%, off: 30% }")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Mode, E> {
                Enforcement::deserialize(StrDeserializer::new(word)).map(Mode::from)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Mode, A::Error> {
                let Shares { enforce, shadow, off, sticky } =
                    Shares::deserialize(MapAccessDeserializer::new(map))?;
                Mode::new(enforce, shadow, off, sticky).map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_any(WordOrShares)
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> Cow<'static, str> {
        "Mode".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let share = generator.subschema_for::<Percent>();
        let header = generator.subschema_for::<HeaderName>();
        json_schema!({
            "oneOf": [
                { "type": "string", "enum": ["enforce", "shadow", "off"] },
                {
                    "type": "object",
                    "description": "Shares of requests; they add up to 100%.",
                    "properties": {
                        "enforce": share,
                        "shadow": share,
                        "off": share,
                        "sticky": header,
                    },
                    "required": ["enforce", "shadow", "off"],
                    "additionalProperties": false,
                },
            ]
        })
    }
}

/// Shares that do not add up to 100%.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidShares {
    /// What they add up to, in millionths.
    sum: u32,
}

impl fmt::Display for InvalidShares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = percent::show(self.sum);
        write!(f, "the shares add up to {sum}; make enforce, shadow and off add up to 100%")
    }
}

impl Error for InvalidShares {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Result<(u32, u32), &str>) {
        let found = crate::config::parse::<Mode>(json.as_bytes())
            .map(|mode| (mode.enforce.millionths(), mode.shadow.millionths()))
            .map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{json}");
    }

    #[test]
    fn a_mode_is_a_word_or_shares_that_leave_no_rest() {
        check(r#""enforce""#, Ok((1_000_000, 0)));
        check(r#""shadow""#, Ok((0, 1_000_000)));
        check(r#""off""#, Ok((0, 0)));
        check(r#"{"enforce":"0.0001%","shadow":"99.9999%","off":"0%"}"#, Ok((1, 999_999)));
        for (json, expected) in [
            (r#""on""#, "configuration: `on` is not one of `enforce`, `shadow`, `off`"),
            (
                r#"{"enforce":"10%","shadow":"10%","off":"10.5%"}"#,
                "the shares add up to 30.5%; make enforce, shadow and off add up to 100%",
            ),
            (r#"{"enforce":"100%"}"#, "shadow: missing"),
            (r#"{"enforce":10,"shadow":"0%","off":"0%"}"#, "enforce: 10 is not a string"),
            (
                "true",
                "configuration: true is not `enforce`, `shadow`, `off` or { enforce: 10%, shadow: 60%, off: 30% }",
            ),
        ] {
            check(json, Err(expected));
        }
    }

    fn shares(enforce: &str, shadow: &str, off: &str, sticky: Option<&str>) -> Mode {
        let percent = |text| Percent::parse(text).unwrap();
        let sticky = sticky.map(|name| HeaderName::new(name).unwrap());
        Mode::new(percent(enforce), percent(shadow), percent(off), sticky).unwrap()
    }

    #[test]
    fn each_share_has_as_many_places_as_it_says() {
        let mode = shares("0.0002%", "0.0003%", "99.9995%", None);
        let count = |wanted| {
            let places = (0..1_000_000).map(Sample::at);
            places.filter(|&place| mode.decide(place) == wanted).count()
        };
        assert_eq!(count(Enforcement::Enforce), 2);
        assert_eq!(count(Enforcement::Shadow), 3);
        assert_eq!(count(Enforcement::Off), 999_995);
    }

    #[test]
    fn whoever_is_enforced_stays_so_while_the_share_grows() {
        let (less, more) = (shares("5%", "0%", "95%", None), shares("10%", "0%", "90%", None));
        let users = (0..20_000).map(|user| Sample::of_key(format!("user-{user}").as_bytes()));
        let enforced = |mode: &Mode| {
            let chosen = |user: &Sample| mode.decide(*user) == Enforcement::Enforce;
            users.clone().map(|user| chosen(&user)).collect::<Vec<_>>()
        };
        let (less, more) = (enforced(&less), enforced(&more));
        assert!(less.iter().zip(&more).all(|(less, more)| !less || *more));
        let share = |chosen: &[bool]| chosen.iter().filter(|chosen| **chosen).count();
        assert!((900..1_100).contains(&share(&less)), "{}", share(&less));
        assert!((1_850..2_150).contains(&share(&more)), "{}", share(&more));
    }

    #[test]
    fn a_sticky_mode_is_strict_to_a_request_that_hides_its_key() {
        let sampler = Sampler::seeded(7);
        let mode = shares("0.0001%", "0%", "99.9999%", Some("x-user"));
        let of = |lines: &[(&str, &str)]| mode.of(&lines.iter().copied().collect(), &sampler);
        assert_eq!(of(&[]), Enforcement::Enforce);
        assert_eq!(of(&[("x-user", "a"), ("X-User", "b")]), Enforcement::Enforce);
        assert_eq!(of(&[("x-user", "a")]), Enforcement::Off);
        let watched = shares("0%", "1%", "99%", Some("x-user"));
        assert_eq!(watched.of(&Headers::default(), &sampler), Enforcement::Shadow);
    }
}
