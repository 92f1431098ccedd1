//! Conditions: what a policy says of requests by their headers, cookies and queries, beside what
//! [`Match`] says for all filters.
//!
//! Every value counts, each line and each repetition by itself. Where some are as the condition says and
//! others are not, nobody knows which the upstream believes: that is [`Unclear`], and no answer.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::attributes::source;
use tollgate::cookie::CookieName;
use tollgate::matching::{Ambiguity, Ambiguous, Match, Names, Request};
use tollgate::origin::{ClientAddress, Network, SpiffePattern};
use tollgate::{HeaderName, Headers, query};

/// A request, as conditions see it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    headers: &'a Headers,
    names: &'a dyn Names,
}

impl<'a> View<'a> {
    /// A request of these headers. The names are asked for only when a condition needs them.
    pub fn new(headers: &'a Headers, names: &'a dyn Names) -> Self {
        Self { headers, names }
    }

    /// Its headers.
    pub fn headers(&self) -> &'a Headers {
        self.headers
    }

    /// Whether it is one of those requests.
    ///
    /// # Errors
    ///
    /// [`Ambiguity`] when it may be read in two ways.
    pub fn fits(&self, requests: &Match) -> Result<bool, Ambiguity> {
        requests.test(&Request::new(self.headers, self.names, Ambiguous::Deny))
    }

    /// Whether it comes from one of those senders. Who cannot be told is none of them.
    pub fn comes_from(&self, senders: &Senders) -> bool {
        let is_peer = || {
            let peer = self.names.peer().ok().flatten();
            peer.is_some_and(|id| senders.peers.iter().any(|pattern| pattern.matches(id)))
        };
        let is_there = || {
            let address = source::ADDRESS.read().ok().flatten().and_then(|found| found.socket());
            address.is_some_and(|at| senders.addresses.iter().any(|range| range.contains(at.ip())))
        };
        (!senders.peers.is_empty() && is_peer()) || (!senders.addresses.is_empty() && is_there())
    }

    /// All values at a place, in their order.
    pub fn values(&self, source: &'a Source) -> Box<dyn Iterator<Item = Cow<'a, [u8]>> + 'a> {
        match source {
            Source::Header(name) => Box::new(self.headers.all(name.as_str()).map(Cow::Borrowed)),
            Source::Cookie(name) => Box::new(name.all(self.headers).map(Cow::Borrowed)),
            Source::Query(name) => {
                Box::new(query::all(self.headers.path().unwrap_or_default(), &name.0))
            }
            Source::Peer => Box::new(self.peer().map(Cow::Borrowed).into_iter()),
            Source::Address(client) => {
                let network = client.read(self.headers).ok();
                Box::new(network.map(|network| network.to_string().into_bytes().into()).into_iter())
            }
        }
    }

    /// The value at a place, if all values there are the same.
    ///
    /// # Errors
    ///
    /// [`NotOneValue`] when there is none, or another one beside it.
    pub fn value(&self, source: &'a Source) -> Result<Cow<'a, [u8]>, NotOneValue> {
        let mut values = self.values(source);
        let first = values.next().ok_or(NotOneValue::Missing)?;
        if values.all(|other| other == first) { Ok(first) } else { Err(NotOneValue::Several) }
    }

    fn peer(&self) -> Option<&'a [u8]> {
        self.names.peer().ok().flatten().map(|id| id.as_str().as_bytes())
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

/// Why there is no one value at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOneValue {
    /// There is none.
    Missing,
    /// There are several that differ.
    Several,
}

/// Where a request has values.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The lines of a header.
    Header(HeaderName),
    /// The cookies of a name.
    Cookie(CookieName),
    /// The parameters of a name in the query, decoded.
    Query(ParameterName),
    /// The SPIFFE ID of the sender.
    Peer,
    /// The address of the client, or the network that it is in.
    Address(ClientAddress),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Query(name) => write!(f, "query parameter {}", name.0.escape_debug()),
            Self::Peer => f.write_str("SPIFFE ID of the peer"),
            Self::Address(_) => f.write_str("address of the client"),
        }
    }
}

/// The name of a parameter in a query: not empty.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("minLength" = 1))]
pub struct ParameterName(String);

impl TryFrom<String> for ParameterName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, &'static str> {
        if name.is_empty() { Err("\"\" is not the name of a parameter") } else { Ok(Self(name)) }
    }
}

/// Those who send requests, by what they cannot choose. Of no peers and no addresses, nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Senders {
    /// SPIFFE IDs of their certificates.
    pub peers: Vec<SpiffePattern>,
    /// Where they connect from, as the proxy sees it.
    pub addresses: Vec<Network>,
}

/// A condition: all that it says has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub(crate) requests: Option<Match>,
    pub(crate) values: Vec<ValueMatch>,
}

impl Condition {
    /// Whether it holds for every request, as it says nothing.
    pub(crate) fn says_nothing(&self) -> bool {
        self.requests.is_none() && self.values.is_empty()
    }

    /// Whether it holds.
    ///
    /// # Errors
    ///
    /// [`Unclear`] when nobody can say so.
    pub fn holds(&self, request: &View<'_>) -> Result<bool, Unclear> {
        let mut unclear = None;
        match self.requests.as_ref().map(|requests| request.fits(requests)) {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => return Ok(false),
            Some(Err(why)) => unclear = Some(Unclear::Request(why)),
        }
        for value in &self.values {
            match value.holds(request) {
                Some(true) => {}
                Some(false) => return Ok(false),
                None => unclear = unclear.or(Some(Unclear::Values(value.source.clone()))),
            }
        }
        unclear.map_or(Ok(true), Err)
    }

    /// The place of the first condition that holds, from 0.
    ///
    /// # Errors
    ///
    /// [`Unclear`] when none holds, and of one nobody can say so.
    pub fn first(list: &[Self], request: &View<'_>) -> Result<Option<usize>, Unclear> {
        let mut unclear = None;
        for (place, condition) in list.iter().enumerate() {
            match condition.holds(request) {
                Ok(true) => return Ok(Some(place)),
                Ok(false) => {}
                Err(why) => unclear = unclear.or(Some(why)),
            }
        }
        unclear.map_or(Ok(None), Err)
    }
}

/// Why nobody can say whether a condition holds. It tells no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// The request may be read in two ways.
    Request(Ambiguity),
    /// Some values of this place are as the condition says, and others are not.
    Values(Source),
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(why) => write!(f, "{why}"),
            Self::Values(source) => write!(f, "the values of {source} differ"),
        }
    }
}

impl Error for Unclear {}

/// What is said of the values at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueMatch {
    pub(crate) source: Source,
    pub(crate) test: Test,
    pub(crate) count: Count,
}

/// How many of several values have to be as it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Count {
    /// All or none: else it is unclear.
    #[default]
    Agreeing,
    /// One.
    Any,
    /// All, and there is one.
    All,
}

/// What a value has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// This text.
    Exact(String),
    /// A text that begins so.
    Prefix(String),
    /// A text that ends so.
    Suffix(String),
    /// A text that fits as a whole.
    Regex(Pattern),
    /// One of these texts.
    In(Vec<String>),
    /// A whole number, not below and not above these.
    Number {
        /// The least.
        at_least: i64,
        /// The greatest.
        at_most: i64,
    },
    /// Whether there is a value at all.
    Present(bool),
}

impl ValueMatch {
    /// `None` when some values are as it says and others are not.
    fn holds(&self, request: &View<'_>) -> Option<bool> {
        let (mut fitting, mut other) = (false, false);
        for value in request.values(&self.source) {
            let fits = self.test.fits(&value);
            fitting |= fits;
            other |= !fits;
        }
        match (&self.test, self.count) {
            (Test::Present(expected), _) => Some(fitting == *expected),
            (_, Count::Agreeing) if fitting && other => None,
            (_, Count::Agreeing | Count::Any) => Some(fitting),
            (_, Count::All) => Some(fitting && !other),
        }
    }
}

impl Test {
    fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => value == text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Suffix(text) => value.ends_with(text.as_bytes()),
            Self::Regex(pattern) => pattern.fits(value),
            Self::In(texts) => texts.iter().any(|text| value == text.as_bytes()),
            Self::Number { at_least, at_most } => {
                number(value).is_some_and(|number| (*at_least..=*at_most).contains(&number))
            }
            Self::Present(_) => true,
        }
    }
}

/// Digits, perhaps after a minus, and nothing else: `+1`, `1.0` and ` 1` are other values.
fn number(value: &[u8]) -> Option<i64> {
    let text = str::from_utf8(value).ok()?;
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

/// A regular expression that is matched against the whole of a value, in a time that grows only with its
/// length.
#[derive(Clone, Debug)]
pub struct Pattern(regex_lite::Regex);

impl Pattern {
    /// How long an expression may be, in bytes.
    pub const MOST_BYTES: usize = 256;

    /// What it may become, in bytes: it bounds the time per byte of a value.
    const MOST_COMPILED_BYTES: usize = 32 * 1024;

    /// An expression, in the syntax of the crate `regex-lite`, without what depends on Unicode.
    ///
    /// # Errors
    ///
    /// [`InvalidPattern`] when it is too long, or no expression.
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        if !(1..=Self::MOST_BYTES).contains(&text.len()) {
            return Err(InvalidPattern::Length { bytes: text.len() });
        }
        let no_pattern = |error: regex_lite::Error| InvalidPattern::NoPattern {
            text: text.to_owned(),
            why: error.to_string(),
        };
        // By itself first: `a)(b` becomes an expression only between our parentheses.
        let _: regex_lite::Regex = build(text).map_err(no_pattern)?;
        build(&format!("^(?:{text})$")).map(Self).map_err(no_pattern)
    }

    fn fits(&self, value: &[u8]) -> bool {
        str::from_utf8(value).is_ok_and(|text| self.0.is_match(text))
    }
}

fn build(text: &str) -> Result<regex_lite::Regex, regex_lite::Error> {
    regex_lite::RegexBuilder::new(text).size_limit(Pattern::MOST_COMPILED_BYTES).build()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// A text that is no [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidPattern {
    /// It is empty or too long.
    Length {
        /// How long.
        bytes: usize,
    },
    /// It is not an expression, or one that becomes too large.
    NoPattern {
        /// The text.
        text: String,
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { bytes } => {
                let most = Pattern::MOST_BYTES;
                write!(f, "{bytes} bytes are not between 1 and {most}, the length of an expression")
            }
            Self::NoPattern { text, why } => write!(f, "{text:?} is no regular expression: {why}"),
        }
    }
}

impl Error for InvalidPattern {}
