//! The modules that are driven.

use serde_json::json;
use tollgate::{Registration, registration};
use tollgate_ratelimit::RateLimit;

use crate::case::RootId;
use crate::filters::Noting;
use crate::world::Root;

/// The root ids of the fixtures, and whether the filter follows exchanges, so that nothing more comes of
/// it once it has answered. Filters of a chain see what one of them has answered. The last is none.
const FIXTURES: [(&str, bool); 37] = [
    ("asking", true),
    ("chaining", true),
    ("conversing", true),
    ("counting", true),
    ("guarding", true),
    ("hasty", true),
    ("limiting", true),
    ("refreshing", false),
    ("retrying", true),
    ("sharing", true),
    ("shouting", true),
    ("waiting", true),
    ("again", true),
    ("asks", true),
    ("ends", false),
    ("follows", true),
    ("holds", true),
    ("late", true),
    ("passes", false),
    ("tags", false),
    ("wraps", false),
    ("asks-again", false),
    ("asks-ends", false),
    ("asks-tags", false),
    ("ends-asks", false),
    ("follows-wraps", false),
    ("late-asks-late", false),
    ("passes-asks", false),
    ("passes-asks-passes", false),
    ("passes-holds-wraps", false),
    ("passes-wraps", false),
    ("tags-asks", false),
    ("tags-tags", false),
    ("wraps-asks", false),
    ("wraps-holds", false),
    ("wraps-passes", false),
    ("nobody", false),
];

#[derive(Clone, Copy)]
enum Configured {
    ByRootId,
    InChain,
    ByPolicy,
}

/// A module, and how its roots are configured.
pub(crate) struct Modules {
    pub(crate) registration: Registration,
    configured: Configured,
}

pub(crate) fn fixtures() -> Modules {
    let registration = tollgate_fixtures::with_all!(tollgate::registration);
    Modules { registration, configured: Configured::ByRootId }
}

pub(crate) fn chain() -> Modules {
    let registration = registration!("edge" = [RateLimit, Noting]);
    Modules { registration, configured: Configured::InChain }
}

pub(crate) fn rate_limit() -> Modules {
    Modules { registration: registration!(RateLimit), configured: Configured::ByPolicy }
}

impl Modules {
    pub(crate) fn root(&self, id: &RootId) -> Root {
        let at = usize::from(id.filter) % FIXTURES.len();
        let (root_id, follows) = FIXTURES.get(at).copied().unwrap_or(("", false));
        let (root_id, follows, config) = match self.configured {
            Configured::ByRootId => (root_id, follows, Vec::new()),
            Configured::InChain => {
                let config = json!({ "ratelimit": id.policy.value(), "noting": {} });
                ("", false, config.to_string().into_bytes())
            }
            Configured::ByPolicy => ("", false, id.policy.json()),
        };
        Root { id: root_id, config, period: 0, follows, is_configured: false }
    }
}
