//! The shape of a policy's JSON.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use tollgate::HeaderName;
use tollgate::config::{AtLeastOne, Object, present, word};
use tollgate::cookie::CookieName;
use tollgate::matching::Match;
use tollgate::mode::{Mode, Percent};
use tollgate::origin::{Network, SpiffePattern};

use super::{InvalidRule, Name, OnError, SameSite, Steer, Unkeyed, Variant};
use crate::bucket::Range;
use crate::condition::{
    Condition, Count, ParameterName, Pattern, Senders, Source, Test, ValueMatch,
};

// What is said of fields here goes into the schema, for whoever writes a policy.

/// A policy of the right shape; what goes beyond one value is not checked yet.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Policy")]
pub(super) struct WrittenPolicy {
    /// What buckets are drawn under: another one deals all keys anew.
    pub(super) salt: Salt,
    /// The choices. Of those that steer by the same header, the first that is for a request decides.
    #[schemars(length(min = 1))]
    pub(super) rules: Vec<Object<WrittenRule>>,
    /// Whether all rules give the default.
    #[serde(default)]
    pub(super) killed: bool,
    /// For how many requests decisions are carried out, where a rule does not say it.
    #[serde(default)]
    pub(super) mode: Mode,
    /// Who may ask for a variant, and why a request got one.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "WrittenSenders")]
    pub(super) trusted: Option<Object<WrittenSenders>>,
    /// The cookie of clients without a key.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "WrittenMinting")]
    pub(super) mint: Option<Object<WrittenMinting>>,
    /// The header by which somebody trusted asks why, and which answers in the response.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "HeaderName")]
    pub(super) explain: Option<HeaderName>,
    /// How many of the assignments that are not the default are logged.
    #[serde(default = "one_percent")]
    pub(super) log: Percent,
    /// What becomes of a request that cannot be decided.
    #[serde(default, deserialize_with = "word")]
    pub(super) on_error: OnError,
}

fn one_percent() -> Percent {
    Percent::parse("1%").unwrap_or(Percent::NONE)
}

/// A text of 1 to 64 characters.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("minLength" = 1, "maxLength" = 64))]
pub(super) struct Salt(pub(super) String);

impl TryFrom<String> for Salt {
    type Error = String;

    fn try_from(salt: String) -> Result<Self, String> {
        match salt.chars().count() {
            1..=64 => Ok(Self(salt)),
            length => Err(format!("{length} characters are not between 1 and 64")),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Senders", extend("minProperties" = 1))]
pub(super) struct WrittenSenders {
    /// SPIFFE IDs of peers, in which `*` stands for one segment.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<SpiffePattern>")]
    peers: Option<AtLeastOne<SpiffePattern>>,
    /// Addresses that they connect from, and ranges of them.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<Network>")]
    addresses: Option<AtLeastOne<Network>>,
}

impl From<Object<WrittenSenders>> for Senders {
    fn from(Object(WrittenSenders { peers, addresses }): Object<WrittenSenders>) -> Self {
        Self {
            peers: peers.map(AtLeastOne::into_vec).unwrap_or_default(),
            addresses: addresses.map(AtLeastOne::into_vec).unwrap_or_default(),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Mint")]
pub(super) struct WrittenMinting {
    /// Its name.
    pub(super) cookie: CookieName,
    /// How long clients keep it.
    #[schemars(range(min = 1, max = 34_560_000))]
    pub(super) max_age_seconds: u32,
    /// Whether clients send it with requests that come from other sites.
    #[serde(default, deserialize_with = "word")]
    pub(super) same_site: SameSite,
}

/// One choice between variants.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rule")]
pub(super) struct WrittenRule {
    /// Names the rule in logs and metrics.
    pub(super) name: Name,
    /// Which requests it is for; all, if left out.
    #[serde(default, rename = "match", deserialize_with = "present")]
    #[schemars(with = "Match")]
    pub(super) requests: Option<Match>,
    /// For how many of them its decision is carried out: `mode` of the policy, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Mode")]
    pub(super) mode: Option<Mode>,
    /// Whether all get the default.
    #[serde(default)]
    pub(super) killed: bool,
    /// How the decision becomes a route.
    pub(super) steer: Steer,
    /// Where somebody trusted says which variant is wanted.
    #[serde(default, rename = "override", deserialize_with = "present")]
    #[schemars(with = "WrittenOverride")]
    pub(super) override_by: Option<WrittenOverride>,
    /// Who gets nothing but the default: one of these has to hold.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<WrittenCondition>")]
    pub(super) never: Option<Conditions>,
    /// Rules of one layer share their buckets: no key is in two of their ranges. The name of the rule, if
    /// left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Name")]
    pub(super) layer: Option<Name>,
    /// What shares are dealt by.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<Source>")]
    pub(super) key: Option<AtLeastOne<Source>>,
    /// What becomes of a request without a key.
    #[serde(default, deserialize_with = "word")]
    pub(super) unkeyed: Unkeyed,
    /// What a request gets for which nothing else applies: the variant `stable`, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "WrittenDefault")]
    pub(super) default: Option<Object<WrittenDefault>>,
    /// What else there is.
    #[schemars(length(min = 1))]
    pub(super) variants: Vec<Object<WrittenVariant>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Override")]
pub(super) enum WrittenOverride {
    /// A header.
    Header(HeaderName),
    /// A cookie.
    Cookie(CookieName),
    /// A parameter of the query.
    Query(ParameterName),
}

impl From<WrittenOverride> for Source {
    fn from(written: WrittenOverride) -> Self {
        match written {
            WrittenOverride::Header(name) => Self::Header(name),
            WrittenOverride::Cookie(name) => Self::Cookie(name),
            WrittenOverride::Query(name) => Self::Query(name),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Default")]
pub(super) struct WrittenDefault {
    /// Its name.
    pub(super) name: Name,
    /// What the request says where it is steered: the name, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Value")]
    pub(super) value: Option<Value>,
}

/// Something that a request may get.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Variant")]
pub(super) struct WrittenVariant {
    /// Its name.
    pub(super) name: Name,
    /// What the request says where it is steered: the name, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Value")]
    pub(super) value: Option<Value>,
    /// Who gets it: one of these has to hold.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<WrittenCondition>")]
    list: Option<Conditions>,
    /// The buckets that it may have at most: all, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "WrittenRange")]
    range: Option<Object<WrittenRange>>,
    /// How many of all buckets it has, from the beginning of its range on.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Percent")]
    share: Option<Percent>,
}

/// The value of a header: 1 to 256 visible characters of ASCII.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("pattern" = "^[!-~]{1,256}$"))]
pub(super) struct Value(pub(super) String);

impl TryFrom<String> for Value {
    type Error = String;

    fn try_from(value: String) -> Result<Self, String> {
        if (1..=256).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(value))
        } else {
            Err(format!("{value:?} is not 1 to 256 visible characters of ASCII"))
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Range")]
pub(super) struct WrittenRange {
    /// Where it begins.
    from: Percent,
    /// Where it ends.
    to: Percent,
}

impl WrittenVariant {
    /// The variant.
    pub(super) fn parse(self) -> Result<Variant, InvalidRule> {
        let Self { name, value, list, range, share } = self;
        let range = match (range, share) {
            (None, None) => None,
            (Some(_), None) => return Err(InvalidRule::NoShare),
            (range, Some(share)) => {
                let (from, to) = range
                    .map_or((Percent::NONE, Percent::ALL), |Object(range)| (range.from, range.to));
                Some(Range::new(from, to, share).map_err(InvalidRule::Range)?)
            }
        };
        let value = value.map_or_else(|| name.as_str().to_owned(), |Value(value)| value);
        Ok(Variant { name, value, list: list.map(parse_all).unwrap_or_default(), range })
    }
}

/// A list of conditions.
pub(super) type Conditions = AtLeastOne<Object<WrittenCondition>>;

/// The conditions that are written.
pub(super) fn parse_all(written: Conditions) -> Vec<Condition> {
    let parse = |Object(WrittenCondition { requests, values }): Object<WrittenCondition>| {
        let values = values.map(AtLeastOne::into_vec).unwrap_or_default();
        Condition { requests, values }
    };
    written.into_vec().into_iter().map(parse).collect()
}

/// A condition: all that it says has to hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Condition", extend("minProperties" = 1))]
pub(super) struct WrittenCondition {
    /// What the request has to be.
    #[serde(default, rename = "match", deserialize_with = "present")]
    #[schemars(with = "Match")]
    requests: Option<Match>,
    /// What its headers, cookies and parameters have to be: all of these.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<ValueMatch>")]
    values: Option<AtLeastOne<ValueMatch>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMatch {
    #[serde(default, deserialize_with = "present")]
    header: Option<HeaderName>,
    #[serde(default, deserialize_with = "present")]
    cookie: Option<CookieName>,
    #[serde(default, deserialize_with = "present")]
    query: Option<ParameterName>,
    #[serde(default, deserialize_with = "present")]
    exact: Option<String>,
    #[serde(default, deserialize_with = "present")]
    prefix: Option<String>,
    #[serde(default, deserialize_with = "present")]
    suffix: Option<String>,
    #[serde(default, deserialize_with = "present")]
    regex: Option<Pattern>,
    #[serde(default, rename = "in", deserialize_with = "present")]
    one_of: Option<AtLeastOne<String>>,
    #[serde(default, deserialize_with = "present")]
    at_least: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    at_most: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    present: Option<bool>,
    #[serde(default, deserialize_with = "word")]
    count: WrittenCount,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenCount {
    #[default]
    #[serde(skip)]
    Agreeing,
    Any,
    All,
}

impl TryFrom<WrittenMatch> for ValueMatch {
    type Error = String;

    fn try_from(written: WrittenMatch) -> Result<Self, String> {
        const SOURCES: &str = "write exactly one of `header`, `cookie` and `query`";
        const TESTS: &str = "write exactly one of `exact`, `prefix`, `suffix`, `regex`, `in`, \
                             `present`, and `at_least` with or without `at_most`";
        let mut sources = [
            written.header.map(Source::Header),
            written.cookie.map(Source::Cookie),
            written.query.map(Source::Query),
        ]
        .into_iter()
        .flatten();
        let (Some(source), None) = (sources.next(), sources.next()) else {
            return Err(SOURCES.to_owned());
        };
        let number = match (written.at_least, written.at_most) {
            (None, None) => None,
            (least, most) => Some(Test::Number {
                at_least: least.unwrap_or(i64::MIN),
                at_most: most.unwrap_or(i64::MAX),
            }),
        };
        let mut tests = [
            written.exact.map(Test::Exact),
            written.prefix.map(Test::Prefix),
            written.suffix.map(Test::Suffix),
            written.regex.map(Test::Regex),
            written.one_of.map(|texts| Test::In(texts.into_vec())),
            written.present.map(Test::Present),
            number,
        ]
        .into_iter()
        .flatten();
        let (Some(test), None) = (tests.next(), tests.next()) else {
            return Err(TESTS.to_owned());
        };
        let count = match written.count {
            WrittenCount::Agreeing => Count::Agreeing,
            WrittenCount::Any => Count::Any,
            WrittenCount::All => Count::All,
        };
        match (&test, count) {
            (Test::Prefix(text) | Test::Suffix(text), _) if text.is_empty() => {
                Err("an empty text fits every value; write `present: true`".to_owned())
            }
            (Test::Present(_), Count::Any | Count::All) => {
                Err("`present` is about all values; leave `count` out".to_owned())
            }
            (Test::Number { at_least, at_most }, _) if at_least > at_most => {
                Err(format!("at_most: {at_most} is below at_least, which is {at_least}"))
            }
            _ => Ok(Self { source, test, count }),
        }
    }
}

impl<'de> Deserialize<'de> for ValueMatch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(written) = Object::<WrittenMatch>::deserialize(deserializer)?;
        written.try_into().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ValueMatch {
    fn schema_name() -> Cow<'static, str> {
        "ValueMatch".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let header = generator.subschema_for::<HeaderName>();
        let cookie = generator.subschema_for::<CookieName>();
        let query = generator.subschema_for::<ParameterName>();
        let whole = json_schema!({
            "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX,
        });
        json_schema!({
            "type": "object",
            "description": "A header, a cookie or a parameter of the query, and what its values are; several values have to agree, unless `count` says how many count.",
            "properties": {
                "header": header,
                "cookie": cookie,
                "query": query,
                "exact": { "type": "string" },
                "prefix": { "type": "string", "minLength": 1 },
                "suffix": { "type": "string", "minLength": 1 },
                "regex": { "type": "string", "minLength": 1, "maxLength": 256 },
                "in": { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                "at_least": whole,
                "at_most": whole,
                "present": { "type": "boolean" },
                "count": { "type": "string", "enum": ["any", "all"] },
            },
            "additionalProperties": false,
            "allOf": [
                { "oneOf": [
                    { "required": ["header"] }, { "required": ["cookie"] }, { "required": ["query"] },
                ] },
                { "oneOf": [
                    { "required": ["exact"] },
                    { "required": ["prefix"] },
                    { "required": ["suffix"] },
                    { "required": ["regex"] },
                    { "required": ["in"] },
                    { "required": ["present"], "properties": { "count": false } },
                    { "anyOf": [{ "required": ["at_least"] }, { "required": ["at_most"] }] },
                ] },
            ],
        })
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}
