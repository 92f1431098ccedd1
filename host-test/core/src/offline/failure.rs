//! What new streams find where a guest has trapped, by the policy of its filter.
//!
//! As on Envoy, a worker looks when a stream begins. The stream in which a guest traps is answered with 503 or
//! closed, whatever the policy, in `phases.rs` and `connection.rs`.

use std::time::Duration;

use super::Run;
use super::boot::{Filter, NotMade};
use crate::scenario::FailurePolicy;
use crate::world::{Link, Place};

/// A filter in the chain of a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) link: Link,
    /// When its guest was made, or was last tried to be made anew.
    pub(super) loaded: Duration,
}

impl Run {
    /// The guest that a new stream of a worker finds at a place of the chain; none where it goes past.
    pub(super) fn find_guest(&mut self, worker: usize, place: usize) -> Option<Link> {
        let Seat { link, loaded } = *self.chains.get(worker)?.get(place)?;
        if self.world.vm(link.vm).is_some_and(|vm| !vm.failed) {
            return Some(link);
        }
        let filter = self.filters.get(place)?.clone();
        match filter.failure_policy {
            FailurePolicy::Closed => Some(link),
            FailurePolicy::Open => None,
            FailurePolicy::Reload { backoff } => {
                let waited = self.world.clock.passed().saturating_sub(loaded);
                let is_due = waited >= self.lengthened(backoff);
                Some(if is_due { self.reload(worker, place, &filter, link) } else { link })
            }
        }
    }

    /// As on Envoy, each time longer by less than its half, so that workers do not come back at once.
    fn lengthened(&mut self, backoff: Duration) -> Duration {
        let half = usize::try_from(backoff.as_millis() / 2).unwrap_or(usize::MAX);
        let by = u64::try_from(self.world.chance.one_of(half)).unwrap_or(u64::MAX);
        backoff.saturating_add(Duration::from_millis(by))
    }

    /// Makes the guest of a place anew, instead of one that has trapped and stays if that fails.
    fn reload(&mut self, worker: usize, place: usize, filter: &Filter, trapped: Link) -> Link {
        let loaded = self.world.clock.passed();
        let made = self.seat(filter, Place::Worker(worker));
        let link = made.unwrap_or_else(|NotMade { words, .. }| {
            self.world.note(|| format!("  no new guest: {words}"));
            // A VM in which a plugin could not be configured serves nobody.
            if let Some(vm) = self.world.find_vm(filter.plugin, Place::Worker(worker)) {
                self.fail(vm);
            }
            trapped
        });
        if let Some(seat) = self.chains.get_mut(worker).and_then(|chain| chain.get_mut(place)) {
            *seat = Seat { link, loaded };
        }
        link
    }
}
