//! What clients are told: the answer beyond a limit, and the fields that tell of limits.
//!
//! Source: draft-ietf-httpapi-ratelimit-headers-10 for `RateLimit-Policy`, `RateLimit` and the problem
//! types; RFC 9457 for problems; Envoy's local rate limit for `x-ratelimit-*`.

use std::error::Error;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::config::{Object, present};
use tollgate::state::push_number;
use tollgate::{LocalReply, StatusCode};

use crate::gcra::{Left, retry_after_seconds};
use crate::quota::Quota;
use crate::refusal::Beyond;

/// The gRPC status of a client that asks for too much; the proxy would otherwise say "unavailable",
/// which clients take as an invitation to try again at once.
const RESOURCE_EXHAUSTED: u32 = 8;

/// The type of a problem: the client has spent what it may.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// The longest body of an answer, in bytes.
const MOST_BODY_BYTES: usize = 4096;

/// What a request beyond a limit is answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Object<Written>")]
#[schemars(with = "Written")]
pub struct Answer {
    status: StatusCode429,
    body: Option<Body>,
}

/// 429, but for those who want another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StatusCode429(StatusCode);

impl Default for StatusCode429 {
    fn default() -> Self {
        Self(StatusCode::TOO_MANY_REQUESTS)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Body {
    content_type: String,
    text: String,
}

/// What a request beyond a limit is answered with.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Answer", extend("dependentRequired" = { "content_type": ["body"] }))]
struct Written {
    /// The status: 429, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "u16", range(min = 400, max = 599))]
    status: Option<u16>,
    /// The body: a problem in JSON, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String", length(max = 4096))]
    body: Option<String>,
    /// The type of `body`: `text/plain`, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String", extend("pattern" = r"^[^\x00-\x1f\x7f-\x9f]+$"))]
    content_type: Option<String>,
}

impl TryFrom<Object<Written>> for Answer {
    type Error = InvalidAnswer;

    fn try_from(Object(written): Object<Written>) -> Result<Self, InvalidAnswer> {
        let status = match written.status {
            None => StatusCode429::default(),
            Some(status) => match StatusCode::new(status) {
                Ok(code) if (400..600).contains(&status) => StatusCode429(code),
                Ok(_) | Err(_) => return Err(InvalidAnswer::Status { status }),
            },
        };
        let content_type = written.content_type;
        if let Some(text) = &content_type
            && (text.is_empty() || text.contains(char::is_control))
        {
            return Err(InvalidAnswer::ContentType);
        }
        let body = match (written.body, content_type) {
            (None, None) => None,
            (None, Some(_)) => return Err(InvalidAnswer::TypeOfNothing),
            (Some(text), _) if text.len() > MOST_BODY_BYTES => {
                return Err(InvalidAnswer::BodyTooLong { bytes: text.len() });
            }
            (Some(text), content_type) => {
                let content_type = content_type.unwrap_or_else(|| "text/plain".to_owned());
                Some(Body { content_type, text })
            }
        };
        Ok(Self { status, body })
    }
}

/// Why what is written is no [`Answer`]. The text begins with the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidAnswer {
    /// Clients would take the answer for something else than a refusal.
    Status {
        /// The status.
        status: u16,
    },
    /// The body is too long.
    BodyTooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The type is empty or has a control character.
    ContentType,
    /// There is a type, and no body.
    TypeOfNothing,
}

impl fmt::Display for InvalidAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status } => write!(f, "status: {status} is not between 400 and 599"),
            Self::BodyTooLong { bytes } => {
                write!(f, "body: {bytes} bytes are not at most {MOST_BODY_BYTES}")
            }
            Self::ContentType => f.write_str("content_type: not the type of a body"),
            Self::TypeOfNothing => f.write_str("content_type: there is no `body` of this type"),
        }
    }
}

impl Error for InvalidAnswer {}

/// Which header fields tell clients of their limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fields {
    /// `RateLimit-Policy` and `RateLimit`, as the IETF drafts them.
    #[default]
    Ietf,
    /// `x-ratelimit-limit`, `-remaining` and `-reset`, as Envoy sends them.
    XRatelimit,
    /// Both.
    Both,
    /// None.
    None,
}

/// A limit as clients are told of it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// The name of the rule, and the window where there are several.
    name: String,
    /// An item of `RateLimit-Policy`.
    policy: String,
    /// The window in whole seconds, at least 1.
    window: u64,
    requests: u64,
}

impl Told {
    pub(crate) fn new(name: String, quota: &Quota) -> Self {
        Self::of(name, quota.requests().get(), quota.per())
    }

    /// So many requests per window.
    pub(crate) fn of(name: String, requests: u64, per: Duration) -> Self {
        let window = per.as_secs();
        let mut policy = ["\"", &name, "\";q=", &requests.to_string()].concat();
        // The field has whole seconds only.
        if window > 0 {
            policy.push_str(";w=");
            policy.push_str(&window.to_string());
        }
        Self { name, policy, window: window.max(1), requests }
    }
}

/// What is left of the limits that a request counts against.
pub(crate) type Limits = Vec<(Rc<Told>, Left)>;

impl Fields {
    /// The fields that tell of these limits; none of no limits.
    pub(crate) fn lines(self, limits: &[(Rc<Told>, Left)]) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let nearest = limits.iter().min_by_key(|(_, left)| left.requests);
        let Some((nearest, left)) = nearest else { return lines };
        if matches!(self, Self::Ietf | Self::Both) {
            // Allocated once, unless numbers are very large.
            let room = |of: fn(&Told) -> usize| limits.iter().map(|(told, _)| of(told)).sum();
            let mut policies =
                String::with_capacity(room(|told| told.policy.len().saturating_add(2)));
            let mut lefts = String::with_capacity(room(|told| told.name.len().saturating_add(32)));
            for (told, left) in limits {
                if !policies.is_empty() {
                    policies.push_str(", ");
                    lefts.push_str(", ");
                }
                policies.push_str(&told.policy);
                for text in ["\"", &told.name, "\";r="] {
                    lefts.push_str(text);
                }
                push_number(&mut lefts, left.requests);
                lefts.push_str(";t=");
                push_number(&mut lefts, retry_after_seconds(left.next_in));
            }
            lines.push(("ratelimit-policy", policies));
            lines.push(("ratelimit", lefts));
        }
        if matches!(self, Self::XRatelimit | Self::Both) {
            let mut limit = nearest.requests.to_string();
            for (told, _) in limits {
                let Told { name, window, requests, .. } = &**told;
                let (window, requests) = (window.to_string(), requests.to_string());
                for text in [", ", &requests, ";w=", &window, ";name=\"", name, "\""] {
                    limit.push_str(text);
                }
            }
            let (requests, seconds) = left.shown();
            lines.push(("x-ratelimit-limit", limit));
            lines.push((REMAINING, requests));
            lines.push(("x-ratelimit-reset", seconds));
        }
        lines
    }
}

impl Left {
    /// How many requests are left, and in how many whole seconds there is one more.
    fn shown(self) -> (String, String) {
        (self.requests.to_string(), retry_after_seconds(self.next_in).to_string())
    }
}

/// Says which of several limits of a request is the nearest.
pub(crate) const REMAINING: &str = "x-ratelimit-remaining";

impl Answer {
    /// The answer to a request beyond these limits. gRPC clients take the body for a message.
    pub(crate) fn beyond(&self, limits: &[Beyond], is_grpc: bool) -> LocalReply {
        let StatusCode429(status) = self.status;
        let reply = LocalReply::new(status).with_grpc_status(RESOURCE_EXHAUSTED);
        match &self.body {
            Some(Body { content_type, text }) => {
                reply.with_header("content-type", content_type.as_str()).with_body(text.as_str())
            }
            None if is_grpc => reply.with_body("too many requests"),
            None => {
                let names: Vec<&str> =
                    limits.iter().map(|limit| limit.told.name.as_str()).collect();
                let more = [",\"violated-policies\":[\"", &names.join("\",\""), "\"]"].concat();
                problem(reply, status, QUOTA_EXCEEDED, "too many requests", &more)
            }
        }
    }
}

/// An answer that says in JSON what is wrong; a gRPC client is told in words.
pub(crate) fn told(status: StatusCode, title: &str, is_grpc: bool) -> LocalReply {
    let reply = LocalReply::new(status);
    if is_grpc {
        return reply.with_body(title);
    }
    problem(reply, status, "about:blank", title, "")
}

fn problem(
    reply: LocalReply,
    status: StatusCode,
    kind: &str,
    title: &str,
    more: &str,
) -> LocalReply {
    let status = status.as_u16().to_string();
    let (kind, title) = (["{\"type\":\"", kind], ["\",\"title\":\"", title]);
    let body = [&kind[..], &title, &["\",\"status\":", &status, more, "}\n"]].concat().concat();
    reply.with_header("content-type", "application/problem+json").with_body(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> [(Rc<Told>, Left); 2] {
        let limit = |name: &str, requests, per, left, next_in| {
            let quota = Quota::new(requests, per, None).unwrap();
            let left = Left { requests: left, next_in: Duration::from_millis(next_in) };
            (Rc::new(Told::new(name.to_owned(), &quota)), left)
        };
        [
            limit("a", 100, Duration::from_mins(1), 99, 600),
            limit("a/500ms", 3, Duration::from_millis(500), 1, 1_001),
        ]
    }

    fn check(fields: Fields, expected: &[(&str, &str)]) {
        let lines = fields.lines(&limits());
        let lines: Vec<(&str, &str)> = lines.iter().map(|(name, v)| (*name, v.as_str())).collect();
        assert_eq!(lines, expected, "{fields:?}");
        assert_eq!(fields.lines(&[]), []);
    }

    #[test]
    fn fields_tell_of_all_limits_and_of_the_nearest() {
        let ietf = [
            ("ratelimit-policy", "\"a\";q=100;w=60, \"a/500ms\";q=3"),
            ("ratelimit", "\"a\";r=99;t=1, \"a/500ms\";r=1;t=2"),
        ];
        let envoys = [
            ("x-ratelimit-limit", "3, 100;w=60;name=\"a\", 3;w=1;name=\"a/500ms\""),
            ("x-ratelimit-remaining", "1"),
            ("x-ratelimit-reset", "2"),
        ];
        check(Fields::Ietf, &ietf);
        check(Fields::XRatelimit, &envoys);
        check(Fields::Both, &[&ietf[..], &envoys[..]].concat());
        check(Fields::None, &[]);
    }

    #[test]
    fn an_answer_that_clients_would_take_for_none_is_refused() {
        for (json, expected) in [
            (r#"{ "status": 200 }"#, "status: 200 is not between 400 and 599"),
            (r#"{ "status": 600 }"#, "status: 600 is not between 400 and 599"),
            (r#"{ "content_type": "a/b" }"#, "content_type: there is no `body` of this type"),
            (r#"{ "body": "x", "content_type": "" }"#, "content_type: not the type of a body"),
            (r#"{ "body": "x", "content_type": "a\nb" }"#, "content_type: not the type of a body"),
        ] {
            let error = tollgate::config::parse::<Answer>(json.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let long = format!(r#"{{ "body": "{}" }}"#, "x".repeat(4097));
        let error = tollgate::config::parse::<Answer>(long.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "body: 4097 bytes are not at most 4096");
    }
}
