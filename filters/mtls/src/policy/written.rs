//! The shape of a policy's JSON.

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::HeaderName;
use tollgate::config::{AtLeastOne, Object, present, word};
use tollgate::mode::Mode;
use tollgate::origin::SpiffeId;

use super::section::Section;
use super::{
    Action, Answer, ConnectionPolicy, HeaderCondition, InvalidPolicy, InvalidRule, OnError,
    Otherwise, Policy, Quantifier, Rule, RuleSet, TextMatch, TrustDomains, Values, invalid,
};
use crate::identity::{Checks, Forwarded, Identity, Reads, Revoked, Source, Svid, Verifier};
use crate::time::Moment;

// What is said of fields here goes into the schema, for whoever writes a policy.

/// A policy of the right shape; what goes beyond one value is not checked yet.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Policy")]
pub(super) struct WrittenPolicy {
    /// Where identities come from, and what makes them believable.
    #[serde(default)]
    identity: Object<WrittenIdentity>,
    /// Callers that are refused whatever rules say.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "WrittenRevoked")]
    revoked: Option<Object<WrittenRevoked>>,
    /// The trust domain of `namespaces` and `service_accounts`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Domain")]
    trust_domain: Option<Domain>,
    /// Other trust domains whose identities are taken for those of `trust_domain`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<Domain>")]
    trust_domain_aliases: Option<AtLeastOne<Domain>>,
    /// The rules. Exceptions come first, then those that deny, then those that allow.
    rules: Vec<Object<WrittenRule>>,
    /// What becomes of requests that no rule is about.
    #[serde(default, deserialize_with = "word")]
    otherwise: Otherwise,
    /// Rules that are watched beside the others, to replace them one day.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "WrittenNext")]
    next: Option<Object<WrittenNext>>,
    /// What a client that is denied gets.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "WrittenAnswer")]
    answer: Option<Object<WrittenAnswer>>,
    /// The header that tells the upstream the SPIFFE ID of the caller. What clients send in it is removed.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "HeaderName")]
    forward: Option<HeaderName>,
    /// For how many requests decisions are carried out.
    #[serde(default)]
    mode: Mode,
    /// What becomes of a request when the proxy does not say who calls.
    #[serde(default, deserialize_with = "word")]
    on_error: OnError,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Identity")]
struct WrittenIdentity {
    /// Where from.
    #[serde(deserialize_with = "word")]
    source: WrittenSource,
    /// Whether a caller has to be somebody.
    required: bool,
    /// Who says that a certificate was verified.
    #[serde(deserialize_with = "word")]
    verified_by: WrittenVerifier,
    /// What is read of a certificate.
    #[serde(deserialize_with = "word")]
    reads: WrittenReads,
    /// Whether it has to be an X.509-SVID.
    #[serde(deserialize_with = "word")]
    svid: WrittenSvid,
    /// How long after the first second of its validity it is taken.
    #[serde(deserialize_with = "present")]
    #[schemars(with = "u64", range(min = 1))]
    max_age_seconds: Option<u64>,
    /// The proxies that are believed, where `source` is `forwarded`.
    #[serde(deserialize_with = "present")]
    #[schemars(with = "WrittenForwarded")]
    forwarded: Option<Object<WrittenForwarded>>,
}

impl Default for WrittenIdentity {
    fn default() -> Self {
        Self {
            source: WrittenSource::Connection,
            required: true,
            verified_by: WrittenVerifier::Proxy,
            reads: WrittenReads::Certificate,
            svid: WrittenSvid::Required,
            max_age_seconds: None,
            forwarded: None,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Source")]
enum WrittenSource {
    /// The certificate of the connection.
    Connection,
    /// What a waypoint says of the tunnel.
    Waypoint,
    /// What a known proxy says in x-forwarded-client-cert.
    Forwarded,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Verifier")]
enum WrittenVerifier {
    /// The proxy, connection by connection.
    Proxy,
    /// The listener lets nobody in whom it has not verified.
    Listener,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Reads")]
enum WrittenReads {
    /// All of it.
    Certificate,
    /// Its first names: weaker.
    FirstNames,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Svid")]
enum WrittenSvid {
    /// It has to be one.
    Required,
    /// It may have no URI.
    Optional,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Forwarded")]
struct WrittenForwarded {
    /// Which element says who the caller is, from the right.
    #[schemars(range(min = 1, max = 32))]
    hops: u8,
    /// Who the proxies say that they are.
    by: AtLeastOne<SpiffeId>,
    /// Who may connect to tell: the identities of the proxies right before this one.
    proxies: AtLeastOne<SpiffeId>,
    /// SHA-256 digests of client certificates that are taken; all, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<Digest>")]
    hashes: Option<AtLeastOne<Digest>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Revoked", extend("minProperties" = 1))]
struct WrittenRevoked {
    /// SPIFFE IDs.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<SpiffeId>")]
    ids: Option<AtLeastOne<SpiffeId>>,
    /// SHA-256 digests of certificates.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<Digest>")]
    digests: Option<AtLeastOne<Digest>>,
    /// Serial numbers of certificates.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<Serial>")]
    serials: Option<AtLeastOne<Serial>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Next")]
struct WrittenNext {
    /// The rules.
    rules: Vec<Object<WrittenRule>>,
    /// What becomes of requests that no rule is about.
    #[serde(default, deserialize_with = "word")]
    otherwise: Otherwise,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Answer")]
struct WrittenAnswer {
    /// The status: 403, or 404 for a client that is not to know that there is something.
    #[serde(default = "forbidden")]
    #[schemars(extend("enum" = [403, 404]))]
    status: u16,
    /// The body.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    body: Option<String>,
    /// Whether the body tells rule, reason and clause.
    #[serde(default)]
    explain: bool,
}

const fn forbidden() -> u16 {
    403
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rule")]
struct WrittenRule {
    /// Names the rule in logs and metrics.
    #[schemars(extend("pattern" = "^[a-z0-9.-]{1,64}$"))]
    name: String,
    /// What it does.
    #[serde(deserialize_with = "word")]
    action: Action,
    /// Who calls: one of these; anybody, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<Section<true>>")]
    from: Option<AtLeastOne<Section<true>>>,
    /// What is called: one of these; anything, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<Section<false>>")]
    to: Option<AtLeastOne<Section<false>>>,
    /// What the headers are: all of these.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<WrittenCondition>")]
    when: Option<AtLeastOne<Object<WrittenCondition>>>,
    /// The last day on which it applies, in UTC.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String", extend("pattern" = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    expires: Option<String>,
}

/// A header, what its values are, and how many of them have to be among some texts: `text`, `text*`, `*text`,
/// or `*` for any that is not empty.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Condition", extend("minProperties" = 2))]
struct WrittenCondition {
    /// The header.
    header: HeaderName,
    /// Whether its values are its lines, or the members of the lists in them.
    #[serde(default, deserialize_with = "word")]
    values: WrittenValues,
    /// At least one value is one of these.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<String>")]
    any: Option<AtLeastOne<String>>,
    /// All values are, and there is one.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<String>")]
    all: Option<AtLeastOne<String>>,
    /// No value is.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<String>")]
    none: Option<AtLeastOne<String>>,
    /// There is exactly one value, and it is.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<String>")]
    one: Option<AtLeastOne<String>>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Values")]
enum WrittenValues {
    /// Lines.
    #[default]
    Lines,
    /// Members of lists.
    Members,
}

/// A trust domain.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("pattern" = "^[a-z0-9._-]{1,255}$"))]
struct Domain(String);

impl TryFrom<String> for Domain {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let id = SpiffeId::parse(&format!("spiffe://{text}")).map_err(|why| why.to_string())?;
        if id.path().is_empty() { Ok(Self(text)) } else { Err(format!("{text:?} has a path")) }
    }
}

/// A SHA-256 digest: 64 hex digits.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("pattern" = "^[0-9a-fA-F]{64}$"))]
struct Digest(String);

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match hex(&text) {
            Some(bytes) if bytes.len() == 32 => Ok(Self(text.to_ascii_lowercase())),
            _ => Err(format!("{text:?} is not the 64 hex digits of a SHA-256 digest")),
        }
    }
}

/// A serial number: an even number of hex digits.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("pattern" = "^([0-9a-fA-F]{2}){1,21}$"))]
struct Serial(Vec<u8>);

impl TryFrom<String> for Serial {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match hex(&text) {
            Some(bytes) if (1..=21).contains(&bytes.len()) => {
                Ok(Self(bytes.into_iter().skip_while(|&byte| byte == 0).collect()))
            }
            _ => Err(format!("{text:?} is not a serial number of 1 to 21 bytes in hex")),
        }
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

impl TryFrom<Object<WrittenPolicy>> for Policy {
    type Error = InvalidPolicy;

    fn try_from(Object(written): Object<WrittenPolicy>) -> Result<Self, InvalidPolicy> {
        let WrittenPolicy { identity: Object(identity), revoked, .. } = written;
        let rules = rule_set(written.rules, written.otherwise);
        let next = written.next.map(|Object(next)| rule_set(next.rules, next.otherwise));
        let answer = written.answer.map(|Object(answer)| answer);
        let aliases = written.trust_domain_aliases.map(AtLeastOne::into_vec).unwrap_or_default();
        let policy = Self {
            identity: self::identity(identity, revoked)?,
            trust_domains: TrustDomains {
                own: written.trust_domain.map(|Domain(domain)| domain),
                aliases: aliases.into_iter().map(|Domain(domain)| domain).collect(),
            },
            rules: rules.map_err(|invalid| invalid.within("rules"))?,
            next: next.transpose().map_err(|invalid| invalid.within("next.rules"))?,
            answer: Answer {
                status: answer.as_ref().map_or(forbidden(), |answer| answer.status),
                explains: answer.as_ref().is_some_and(|answer| answer.explain),
                body: answer.and_then(|answer| answer.body).unwrap_or_default(),
            },
            forward: written.forward,
            mode: written.mode,
            on_error: written.on_error,
        };
        invalid::check(policy)
    }
}

impl TryFrom<Object<WrittenPolicy>> for ConnectionPolicy {
    type Error = InvalidPolicy;

    fn try_from(written: Object<WrittenPolicy>) -> Result<Self, InvalidPolicy> {
        if written.0.answer.is_some() {
            return Err(InvalidPolicy::OnlyRequests { field: "answer" });
        }
        invalid::check_connections(Policy::try_from(written)?).map(Self)
    }
}

fn identity(
    written: WrittenIdentity,
    revoked: Option<Object<WrittenRevoked>>,
) -> Result<Identity, InvalidPolicy> {
    let source = match (written.source, written.forwarded) {
        (WrittenSource::Connection, None) => Source::Connection,
        (WrittenSource::Waypoint, None) => Source::Waypoint,
        (WrittenSource::Forwarded, Some(Object(forwarded))) => {
            if !(1..=32).contains(&forwarded.hops) {
                return Err(InvalidPolicy::Hops { hops: forwarded.hops });
            }
            let hashes = forwarded.hashes.map(AtLeastOne::into_vec).unwrap_or_default();
            Source::Forwarded(Forwarded {
                hops: forwarded.hops.into(),
                by: forwarded.by.into_vec(),
                proxies: forwarded.proxies.into_vec(),
                hashes: hashes.into_iter().map(|Digest(digest)| digest).collect(),
            })
        }
        (WrittenSource::Forwarded, None) => return Err(InvalidPolicy::NoProxies),
        (WrittenSource::Connection | WrittenSource::Waypoint, Some(_)) => {
            return Err(InvalidPolicy::NotForwarded);
        }
    };
    let revoked = match revoked {
        None => Revoked::default(),
        Some(Object(WrittenRevoked { ids: None, digests: None, serials: None })) => {
            return Err(InvalidPolicy::NobodyRevoked);
        }
        Some(Object(WrittenRevoked { ids, digests, serials })) => Revoked {
            ids: ids.map(AtLeastOne::into_vec).unwrap_or_default(),
            digests: items(digests, |Digest(digest)| digest),
            serials: items(serials, |Serial(serial)| serial),
        },
    };
    if written.max_age_seconds == Some(0) {
        return Err(InvalidPolicy::MaxAge);
    }
    Ok(Identity {
        source,
        is_required: written.required,
        checks: Checks {
            verified_by: match written.verified_by {
                WrittenVerifier::Proxy => Verifier::Proxy,
                WrittenVerifier::Listener => Verifier::Listener,
            },
            reads: match written.reads {
                WrittenReads::Certificate => Reads::Certificate,
                WrittenReads::FirstNames => Reads::FirstNames,
            },
            svid: match written.svid {
                WrittenSvid::Required => Svid::Required,
                WrittenSvid::Optional => Svid::Optional,
            },
            max_age_seconds: written.max_age_seconds,
        },
        revoked,
    })
}

fn items<T, U>(list: Option<AtLeastOne<T>>, item: fn(T) -> U) -> Vec<U> {
    list.map(AtLeastOne::into_vec).unwrap_or_default().into_iter().map(item).collect()
}

/// The rules, or the place of the one that cannot be.
fn rule_set(
    written: Vec<Object<WrittenRule>>,
    otherwise: Otherwise,
) -> Result<RuleSet, invalid::AtRule> {
    let mut rules: Vec<Rule> = Vec::with_capacity(written.len());
    for (place, Object(written)) in written.into_iter().enumerate() {
        let rule = rule(written).map_err(|problem| invalid::AtRule { place, problem })?;
        rules.push(rule);
    }
    Ok(RuleSet { rules, otherwise })
}

fn rule(written: WrittenRule) -> Result<Rule, InvalidRule> {
    let WrittenRule { name, action, from, to, when, expires } = written;
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    if !((1..=64).contains(&name.len()) && name.bytes().all(allowed)) {
        return Err(InvalidRule::Name { name });
    }
    let expires = expires.map(|day| Moment::end_of_day(&day));
    let mut conditions = Vec::new();
    for (place, Object(condition)) in
        when.map(AtLeastOne::into_vec).unwrap_or_default().into_iter().enumerate()
    {
        let condition = self::condition(condition);
        conditions.push(condition.map_err(|problem| InvalidRule::When { place, problem })?);
    }
    Ok(Rule {
        name,
        action,
        from: items(from, |Section(clauses)| clauses),
        to: items(to, |Section(clauses)| clauses),
        when: conditions,
        expires: expires.transpose().map_err(InvalidRule::Expires)?,
    })
}

fn condition(written: WrittenCondition) -> Result<HeaderCondition, String> {
    let WrittenCondition { header, values, any, all, none, one } = written;
    let quantified = [
        (Quantifier::Any, any),
        (Quantifier::All, all),
        (Quantifier::None, none),
        (Quantifier::One, one),
    ];
    let mut written = quantified.into_iter().filter_map(|(how, texts)| Some((how, texts?)));
    let (Some((quantifier, texts)), None) = (written.next(), written.next()) else {
        return Err("write exactly one of `any`, `all`, `none` and `one`".to_owned());
    };
    let texts = texts.into_vec();
    Ok(HeaderCondition {
        name: header,
        values: match values {
            WrittenValues::Lines => Values::Lines,
            WrittenValues::Members => Values::Members,
        },
        quantifier,
        texts: texts.iter().map(|text| TextMatch::parse(text)).collect::<Result<_, _>>()?,
    })
}
