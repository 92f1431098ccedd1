//! The order of the reasons, which is part of the contract: every combination of them.

use tollgate::Headers;
use tollgate::HostError;
use tollgate::attributes::AttributeError;
use tollgate::matching::Names;
use tollgate::origin::SpiffeId;

use super::*;
use crate::config::Policy;

/// A client with a certificate.
struct Peer(SpiffeId);

impl Names for Peer {
    fn route(&self) -> Result<Option<&[u8]>, HostError> {
        Ok(None)
    }

    fn virtual_host(&self) -> Result<Option<&[u8]>, HostError> {
        Ok(None)
    }

    fn peer(&self) -> Result<Option<&SpiffeId>, AttributeError> {
        Ok(Some(&self.0))
    }
}

/// What applies to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applies {
    Killed,
    Override,
    Never,
    List,
    Share,
}

/// The first that applies decides.
const ORDER: [Applies; 5] =
    [Applies::Killed, Applies::Override, Applies::Never, Applies::List, Applies::Share];

const TRUSTED: &str = "spiffe://acme/ns/edge/sa/gateway";

/// What a request gets to which these apply, whoever sends it; and the steps on the way.
fn decide(
    applying: &[Applies],
    peer: &str,
    more: &[(&str, &str)],
) -> (String, Reason, Vec<String>) {
    let applies = |what| applying.contains(&what);
    let policy = format!(
        r#"{{ "salt": "s", "trusted": {{ "peers": ["{TRUSTED}"] }}, "rules": [ {{
            "name": "r", "key": [ {{ "header": "x-user" }} ], "steer": {{ "header": "x-variant" }},
            "killed": {}, "override": {{ "header": "x-want" }},
            "never": [ {{ "values": [ {{ "header": "x-never", "exact": "1" }} ] }} ],
            "variants": [
                {{ "name": "wanted", "range": {{ "from": "0%", "to": "1%" }}, "share": "0%" }},
                {{ "name": "listed", "list": [ {{ "values": [ {{ "header": "x-list", "exact": "1" }} ] }} ] }},
                {{ "name": "shared", "range": {{ "from": "1%", "to": "100%" }}, "share": "{}" }}
            ] }} ] }}"#,
        applies(Applies::Killed),
        if applies(Applies::Share) { "99%" } else { "0%" },
    );
    let policy: Policy = tollgate::config::parse(policy.as_bytes()).unwrap();
    let said = [
        (Applies::Override, ("x-want", "wanted")),
        (Applies::Never, ("x-never", "1")),
        (Applies::List, ("x-list", "1")),
    ];
    let said = said.into_iter().filter(|(what, _)| applies(*what)).map(|(_, line)| line);
    let lines = said.chain([(":path", "/"), ("x-user", "alice")]).chain(more.iter().copied());
    let headers: Headers = lines.collect();
    let peer = Peer(SpiffeId::parse(peer).unwrap());
    let view = View::new(&headers, &peer);
    let mut steps = Vec::new();
    let decision = policy.rules()[0]
        .decide(&view, policy.trusted(), &|| b"", &mut |step| steps.push(step.to_string()));
    (decision.variant.name.as_str().to_owned(), decision.reason, steps)
}

fn expected(first: Option<Applies>) -> (&'static str, Reason) {
    match first {
        Some(Applies::Killed) => ("stable", Reason::Killed),
        Some(Applies::Override) => ("wanted", Reason::Override),
        Some(Applies::Never) => ("stable", Reason::Never),
        Some(Applies::List) => ("listed", Reason::List),
        Some(Applies::Share) => ("shared", Reason::Share),
        None => ("stable", Reason::Default),
    }
}

/// Every combination of what may apply.
fn combinations() -> impl Iterator<Item = Vec<Applies>> {
    (0..1_usize << ORDER.len()).map(|bits| {
        let is_in = |at: &usize| bits >> at & 1 == 1;
        (0..ORDER.len()).filter(is_in).map(|at| ORDER[at]).collect()
    })
}

#[test]
fn the_first_that_applies_decides_whatever_else_does() {
    for applying in combinations() {
        let (variant, reason, steps) = decide(&applying, TRUSTED, &[]);
        let first = applying.first().copied();
        assert_eq!((variant.as_str(), reason), expected(first), "{applying:?}: {steps:?}");
        // Nothing is asked after what has decided.
        let asked = ["kill switch", "override", "never", "list of", "share of"];
        let place = first
            .map_or(ORDER.len(), |first| ORDER.iter().position(|what| *what == first).unwrap());
        for later in asked.iter().skip(place + 1) {
            assert!(!steps.iter().any(|step| step.starts_with(later)), "{applying:?}: {steps:?}");
        }
    }
}

#[test]
fn what_somebody_asks_for_who_is_not_trusted_changes_nothing() {
    for applying in combinations() {
        let others: Vec<Applies> =
            applying.iter().copied().filter(|what| *what != Applies::Override).collect();
        let (variant, reason, steps) = decide(&applying, "spiffe://acme/ns/shop/sa/cart", &[]);
        let expected = expected(others.first().copied());
        assert_eq!((variant.as_str(), reason), expected, "{applying:?}: {steps:?}");
    }
}

#[test]
fn what_is_unclear_gives_the_default_in_its_place() {
    for (lines, from) in [
        ([("x-never", "1"), ("x-never", "0")], Applies::Never),
        ([("x-list", "1"), ("x-list", "0")], Applies::List),
    ] {
        let place = ORDER.iter().position(|what| *what == from).unwrap();
        for applying in combinations().filter(|applying| !applying.contains(&from)) {
            let (variant, reason, steps) = decide(&applying, TRUSTED, &lines);
            let before = applying.iter().find(|what| ORDER[..place].contains(what)).copied();
            let expected = match before {
                Some(_) => expected(before),
                None => ("stable", Reason::Unclear),
            };
            assert_eq!((variant.as_str(), reason), expected, "{applying:?}: {steps:?}");
        }
    }
}
