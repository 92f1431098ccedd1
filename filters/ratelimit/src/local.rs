//! Counting in the proxy's shared data: what its workers share.
//!
//! Not here: how several limits are charged together, which is [`crate::store`].

use std::rc::Rc;

use tollgate::SharedData;
use tollgate::log::{debug, warn};
use tollgate::state::numbered;

use crate::answer::Limits;
use crate::gcra::{Decision, UnixNanos};
use crate::refusal::{Beyond, Refusal};
use crate::rules::{Due, Rules, StoredLimit, StoredRule};
use crate::store::{self, Claim, StoreError};
use crate::table::{Address, Charge, Placed};

/// The counts of one proxy.
#[derive(Debug)]
pub(crate) struct Local(pub(crate) SharedData);

/// A limit that a request has to be charged to.
pub(crate) struct DueLimit<'a> {
    rule: &'a StoredRule,
    limit: &'a StoredLimit,
    claim: Claim<'a>,
}

impl<'a> AsRef<Claim<'a>> for DueLimit<'a> {
    fn as_ref(&self) -> &Claim<'a> {
        &self.claim
    }
}

/// Adds the limits of a rule.
pub(crate) fn add_limits<'a>(limits: &mut Vec<DueLimit<'a>>, due: &Due<'a>) {
    let Due { rule, ref key, cost, .. } = *due;
    let Address { bucket, fingerprint } = Address::of(key, rule.rule.keys);
    for limit in rule.limits_of(key) {
        let record = numbered(&limit.prefix, bucket);
        let claim = Claim { record, fingerprint, quota: &limit.quota, cost };
        limits.push(DueLimit { rule, limit, claim });
    }
}

impl Local {
    /// Charges a request to all of these, or to none: gives what is left of each, or `None` when nobody
    /// knows.
    ///
    /// # Errors
    ///
    /// The refusal, also when nobody knows.
    #[inline(never)]
    pub(crate) fn charge<'a>(
        &self,
        rules: &Rules,
        due: &[DueLimit<'a>],
        now: UnixNanos,
    ) -> Result<Option<Limits>, Refusal<'a>> {
        let given_back = |result: Result<(), StoreError>| {
            if let Err(error) = result {
                rules.counters.store_errors.increment();
                warn!("a charge could not be given back: {error}");
            }
        };
        let charges = match store::charge_all(&self.0, due, now, given_back) {
            Ok(charges) => charges,
            Err(failed) => {
                let rule = due.get(failed.claim).map(|due| due.rule);
                return rules.undecided(rule, &failed.error).map(|()| None);
            }
        };
        let mut passed = Vec::with_capacity(charges.len());
        for (due, charge) in due.iter().zip(&charges) {
            placed(rules, due, charge);
            if let Decision::Admitted { left } = charge.decision {
                passed.push((Rc::clone(&due.limit.told), left));
            }
        }
        if passed.len() == charges.len() { Ok(Some(passed)) } else { Err(beyond(due, &charges)) }
    }

    /// Charges limits that are not enforced, each for itself, and says whether the request is within all.
    pub(crate) fn try_out(&self, rules: &Rules, due: &[DueLimit<'_>], now: UnixNanos) -> bool {
        let mut is_within = true;
        for due in due {
            is_within &= self.try_one(rules, due, now);
        }
        is_within
    }

    #[cold]
    #[inline(never)]
    fn try_one(&self, rules: &Rules, due: &DueLimit<'_>, now: UnixNanos) -> bool {
        match store::charge(&self.0, &due.claim, now) {
            Ok(charge) => {
                placed(rules, due, &charge);
                if !charge.is_admitted() {
                    let limits = vec![refusing(due, charge.decision)];
                    rules.shadow(&Refusal::BeyondLimit { rule: due.rule, limits }, now);
                }
                charge.is_admitted()
            }
            Err(error) => {
                rules.counters.store_errors.increment();
                warn!("{}: cannot decide in shadow: {error}", due.rule.rule.name);
                false
            }
        }
    }
}

/// Tells whoever asks of a decision, and the operator of one on what several keys have spent together.
#[inline(never)]
fn placed(rules: &Rules, due: &DueLimit<'_>, charge: &Charge) {
    debug!("{}: {}: {}", due.rule.rule.name, due.claim.quota, charge.decision);
    if charge.placed == Placed::Overflow {
        rules.counters.overflow.increment();
        warn!("{}: decided on a count that several keys share", due.rule.rule.name);
    }
}

fn refusing(due: &DueLimit<'_>, decision: Decision) -> Beyond {
    Beyond { told: Rc::clone(&due.limit.told), wait: decision.retry_after(), left: decision.left() }
}

#[cold]
#[inline(never)]
fn beyond<'a>(due: &[DueLimit<'a>], charges: &[Charge]) -> Refusal<'a> {
    let refused = || due.iter().zip(charges).filter(|(_, charge)| !charge.is_admitted());
    match refused().next() {
        None => Refusal::Undecided,
        Some((first, _)) => Refusal::BeyondLimit {
            rule: first.rule,
            limits: refused().map(|(due, charge)| refusing(due, charge.decision)).collect(),
        },
    }
}
