//! Two workers that charge the same limits at the same time, in every order in which their reads and
//! writes can follow each other.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tollgate::state::Fingerprint;

use super::*;

const NOW: UnixNanos = UnixNanos::new(1_700_000_000_000_000_000);

/// Records of two workers, each on a thread of its own.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Somebody else may go on.
    turn: Condvar,
}

#[derive(Default)]
struct State {
    /// With the number of the last write.
    records: HashMap<String, (Vec<u8>, u64)>,
    /// Whose read or write is the next; after the last, whoever comes.
    order: VecDeque<usize>,
    is_done: [bool; 2],
}

struct Worker<'a> {
    number: usize,
    shared: &'a Shared,
}

impl Worker<'_> {
    /// One step, when it is this worker's turn.
    fn step<T>(&self, step: impl FnOnce(&mut HashMap<String, (Vec<u8>, u64)>) -> T) -> T {
        let mut state = self.shared.state.lock().unwrap();
        loop {
            match state.order.front() {
                Some(&next) if next != self.number && !state.is_done[next] => {
                    state = self.shared.turn.wait(state).unwrap();
                }
                Some(&next) => {
                    state.order.pop_front();
                    if next == self.number {
                        break;
                    }
                }
                None => break,
            }
        }
        let stepped = step(&mut state.records);
        self.shared.turn.notify_all();
        stepped
    }

    fn end(&self) {
        self.shared.state.lock().unwrap().is_done[self.number] = true;
        self.shared.turn.notify_all();
    }
}

impl Records for Worker<'_> {
    fn read(&self, record: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.step(|records| records.get(record).map(|(bytes, _)| bytes.clone())))
    }

    fn change<T>(
        &self,
        record: &str,
        mut decide: impl FnMut(Option<&[u8]>) -> Update<T>,
    ) -> Result<T, StoreError> {
        for _ in 0..ATTEMPTS.get() {
            let found = self.step(|records| records.get(record).cloned());
            let version = found.as_ref().map_or(0, |(_, version)| *version);
            let (bytes, decided) = match decide(found.as_ref().map(|(bytes, _)| bytes.as_slice())) {
                Update::Keep(decided) => return Ok(decided),
                Update::Write(bytes, decided) => (bytes, decided),
            };
            let is_written = self.step(|records| {
                let is_first = records.get(record).map_or(0, |(_, version)| *version) == version;
                if is_first {
                    records.insert(record.to_owned(), (bytes, version + 1));
                }
                is_first
            });
            if is_written {
                return Ok(decided);
            }
        }
        Err(UpdateError::Contended { attempts: ATTEMPTS }.into())
    }
}

/// A request: what it costs, and the limits that it is charged to, by their numbers.
type Asked = (u64, Vec<usize>);

fn quota(limit: u64) -> Quota {
    Quota::new(limit, Duration::from_hours(1), None).unwrap()
}

/// Charges requests; gives how much was charged to each limit.
fn charge(records: &Worker<'_>, quotas: &[Quota], requests: &[Asked]) -> Vec<u64> {
    let mut charged = vec![0; quotas.len()];
    for (cost, limits) in requests {
        let claim = |&limit: &usize| {
            Box::new(Claim {
                record: format!("limit {limit}"),
                fingerprint: Fingerprint::new(7),
                quota: &quotas[limit],
                cost: NonZeroU64::new(*cost).unwrap(),
            })
        };
        let claims: Vec<Box<Claim<'_>>> = limits.iter().map(claim).collect();
        let given_back = |result: Result<(), StoreError>| result.unwrap();
        let charges = charge_all(records, &claims, NOW, given_back).unwrap();
        if charges.len() == limits.len() && charges.iter().all(Charge::is_admitted) {
            for &limit in limits {
                charged[limit] += cost;
            }
        }
    }
    charged
}

/// Two workers with requests of their own; afterwards each limit has lost what was charged to it, and
/// nothing else.
fn check(limits: &[u64], order: Vec<usize>, requests: &[Vec<Asked>; 2]) {
    let quotas: Vec<Quota> = limits.iter().map(|&limit| quota(limit)).collect();
    let shared = Shared::default();
    shared.state.lock().unwrap().order = order.into();
    let charged = thread::scope(|scope| {
        let workers = [0, 1].map(|number| {
            let (shared, quotas, requests) = (&shared, &quotas, &requests[number]);
            scope.spawn(move || {
                let worker = Worker { number, shared };
                let charged = charge(&worker, quotas, requests);
                worker.end();
                charged
            })
        });
        workers.map(|worker| worker.join().unwrap())
    });
    let after = Worker { number: 0, shared: &shared };
    for (limit, &most) in limits.iter().enumerate() {
        let spent = charged[0][limit] + charged[1][limit];
        assert!(spent <= most, "{spent} of {most} were admitted");
        let single: Vec<Asked> = (0..=most).map(|_| (1, vec![limit])).collect();
        let left = charge(&after, &quotas, &single)[limit];
        assert_eq!(spent + left, most, "{spent} were admitted, {left} are left");
    }
}

impl<'a> AsRef<Claim<'a>> for Claim<'a> {
    fn as_ref(&self) -> &Claim<'a> {
        self
    }
}

#[test]
fn what_one_worker_has_left_nothing_of_is_given_back_by_the_other() {
    // Both look at both limits, each charges its first, and neither has its second.
    let order = [[0, 0, 1, 1], [0, 0, 1, 1]].concat();
    check(&[1, 1], order, &[vec![(1, vec![0, 1])], vec![(1, vec![1, 0])]]);
    // One is between the two charges of the other.
    let order = vec![0, 0, 0, 0, 1, 1, 1, 1];
    check(&[2, 1], order, &[vec![(1, vec![0, 1])], vec![(1, vec![1])]]);
}

fn requests() -> impl Strategy<Value = Vec<Asked>> {
    let limits = Just(vec![0, 1, 2]).prop_shuffle();
    let limits = (limits, 1..4_usize).prop_map(|(limits, most)| limits[..most].to_vec());
    vec((1..4_u64, limits), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn workers_that_come_together_never_get_more_and_never_lose_credit(
        limits in vec(1..7_u64, 3),
        order in vec(0..2_usize, 0..60),
        first in requests(),
        second in requests(),
    ) {
        check(&limits, order, &[first, second]);
    }
}
