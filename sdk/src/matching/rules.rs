//! A list of rules of which the first that fits decides, and what holds where none does.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Ambiguity, Match, Request};

/// Values by request: that of the first rule which is for the request, else another.
///
/// # Examples
///
/// ```
/// use tollgate::Headers;
/// use tollgate::matching::{Ambiguous, NoNames, Request, Rules};
///
/// let timeouts: Rules<u32> = tollgate::config::parse(
///     br#"{ "rules": [{ "match": { "paths": [{ "exact": "/slow" }] }, "then": 30 }], "other": 1 }"#,
/// )?;
/// let slow: Headers = [(":path", "/slow/")].into_iter().collect();
/// let request = Request::new(&slow, &NoNames, Ambiguous::Deny);
/// assert_eq!(timeouts.choose(&request), Ok(&30));
/// # Ok::<(), tollgate::config::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rules<T> {
    /// The rules, first to last.
    rules: Vec<Rule<T>>,
    /// What holds for requests that no rule is for.
    other: T,
}

/// A value for some requests.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule<T> {
    /// Which requests.
    #[serde(rename = "match")]
    pub requests: Match,
    /// The value.
    pub then: T,
}

impl<T> Rules<T> {
    /// These rules, in this order, and what holds where none is for a request.
    pub fn new(rules: Vec<Rule<T>>, other: T) -> Self {
        Self { rules, other }
    }

    /// The value for a request.
    ///
    /// # Errors
    ///
    /// [`Ambiguity`] when nobody can say whether a rule is for the request, and no rule before it is.
    pub fn choose(&self, request: &Request<'_>) -> Result<&T, Ambiguity> {
        for rule in &self.rules {
            if rule.requests.test(request)? {
                return Ok(&rule.then);
            }
        }
        Ok(&self.other)
    }
}
