//! Typed state: workers that share it at the same time, hosts that differ, clocks that leap.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tollgate::Root;
use tollgate::shared_data::Write;
use tollgate::state::{
    Change, InvalidRecord, LocalCache, Outcome, QueueError, RemoteQueue, Shape, Shared, Standing,
    StateError, Table, WhenFull,
};
use tollgate_abi::{Answer, Call, Function, Reply, Status};

use crate::root::with_root;
use crate::shared_data::Absent;

/// A host that several workers are on.
#[derive(Clone)]
struct Host(Arc<Mutex<Inside>>);

struct Inside {
    absent: Absent,
    values: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    last_cas: u32,
    /// How many of the next writes find that another one came first.
    outrun: u32,
    queues: Vec<(Vec<u8>, VecDeque<Vec<u8>>)>,
    counted: i64,
}

impl Host {
    fn new(absent: Absent) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            absent,
            values: BTreeMap::new(),
            last_cas: 0,
            outrun: 0,
            queues: Vec::new(),
            counted: 0,
        })))
    }

    /// Runs a worker of this host.
    fn worker<M: 'static, T: Send + 'static>(
        &self,
        make: impl FnOnce(&Root) -> M + Send + 'static,
        test: impl FnOnce(M) -> T + Send + 'static,
    ) -> T {
        let host = self.clone();
        with_root(move |call| host.0.lock().unwrap().answer(call), make, test)
    }

    fn keys(&self) -> Vec<String> {
        let keys = self.0.lock().unwrap().values.keys().cloned().collect::<Vec<_>>();
        keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    }

    /// Has another filter write all that is there.
    fn spoil(&self, with: &[u8]) {
        for (value, _) in self.0.lock().unwrap().values.values_mut() {
            *value = with.to_vec();
        }
    }
}

impl Inside {
    fn answer(&mut self, call: &Call) -> Reply {
        let queue = |queues: &mut Vec<(Vec<u8>, VecDeque<Vec<u8>>)>, name: &Vec<u8>| {
            queues.iter().position(|(known, _)| known == name)
        };
        let token = |at: usize| Reply::Done(Answer::U32(u32::try_from(at).unwrap() + 1));
        let not_found = Reply::refused(Status::NotFound, "");
        match call {
            Call::GetSharedData { key } => match self.values.get(key).cloned() {
                Some((value, cas)) => Reply::Done(Answer::Shared { value, cas }),
                None => not_found,
            },
            Call::SetSharedData { key, value, cas } => {
                let fits = match (self.values.get(key), self.absent) {
                    (None, Absent::AnyNumber) => true,
                    (None, Absent::OnlyZero) => *cas == 0,
                    (Some((_, current)), Absent::AnyNumber) => *cas == 0 || cas == current,
                    (Some((_, current)), Absent::OnlyZero) => cas == current,
                };
                if !fits || self.outrun > 0 {
                    self.outrun = self.outrun.saturating_sub(1);
                    return Reply::refused(Status::CasMismatch, "");
                }
                self.last_cas += 1;
                self.values.insert(key.clone(), (value.clone(), self.last_cas));
                Reply::OK
            }
            Call::RegisterSharedQueue { name } => {
                if queue(&mut self.queues, name).is_none() {
                    self.queues.push((name.clone(), VecDeque::new()));
                }
                queue(&mut self.queues, name).map_or(not_found, token)
            }
            Call::ResolveSharedQueue { vm_id, name } if vm_id == b"vm" => {
                queue(&mut self.queues, name).map_or(not_found, token)
            }
            Call::EnqueueSharedQueue { queue, message } => match self.queue(*queue) {
                Some(messages) => {
                    messages.push_back(message.clone());
                    Reply::OK
                }
                None => not_found,
            },
            Call::DequeueSharedQueue { queue } => match self.queue(*queue).map(VecDeque::pop_front)
            {
                Some(Some(message)) => Reply::Done(Answer::Bytes(message)),
                Some(None) => Reply::refused(Status::Empty, ""),
                None => not_found,
            },
            Call::GetProperty { path } if path == b"plugin_name" => {
                Reply::Done(Answer::Bytes(b"plug/in".to_vec()))
            }
            Call::GetProperty { path } if path == b"plugin_vm_id" => {
                Reply::Done(Answer::Bytes(b"vm".to_vec()))
            }
            Call::IncrementMetric { offset, .. } => {
                self.counted += offset;
                Reply::OK
            }
            _ => match call.function() {
                Function::GetLogLevel => Reply::Done(Answer::U32(2)),
                Function::DefineMetric => Reply::Done(Answer::U32(4)),
                Function::ResolveSharedQueue => not_found,
                _ => Reply::OK,
            },
        }
    }

    fn queue(&mut self, token: u32) -> Option<&mut VecDeque<Vec<u8>>> {
        let at = usize::try_from(token).unwrap().checked_sub(1)?;
        Some(&mut self.queues.get_mut(at)?.1)
    }
}

const BOTH: [Absent; 2] = [Absent::AnyNumber, Absent::OnlyZero];
const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_700_000_000 * SECOND;

fn total(root: &Root) -> Shared<u64> {
    root.state("demo", 2).shared("total")
}

fn add(total: &Shared<u64>) -> Result<u64, StateError> {
    total.update(|value| {
        let value = value.unwrap_or(0) + 1;
        Change::Write(value, value)
    })
}

fn table(root: &Root) -> Table<u32, 2> {
    let shape = Shape::new(1, Duration::from_secs(10), WhenFull::Evict);
    root.state("demo", 2).table("seen", shape, root.counter("overflow"))
}

fn count(table: &Table<u32, 2>, key: &[u8], now: u64) -> Result<Outcome<u32>, StateError> {
    table.update(key, now, |count| {
        let count = count.unwrap_or(0) + 1;
        Change::Write(count, count)
    })
}

#[test]
fn workers_that_add_at_the_same_time_lose_nothing() {
    for absent in BOTH {
        let host = Host::new(absent);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    host.worker(total, |total| {
                        for _ in 0..50 {
                            // Who is outrun each time is told, and tries again.
                            while add(&total).is_err() {}
                        }
                    });
                });
            }
        });
        assert_eq!(host.worker(total, |total| total.read()), Ok(Some(200)), "{absent:?}");
        assert_eq!(host.keys(), ["tollgate.demo.v2/plug%2Fin/total"]);
    }
}

#[test]
fn a_value_is_created_once() {
    for absent in BOTH {
        let host = Host::new(absent);
        let create = |value| host.worker(total, move |total| total.create(&value));
        assert_eq!((create(1), create(2)), (Ok(Write::Done), Ok(Write::Outrun)));
        assert_eq!(host.worker(total, |total| total.read()), Ok(Some(1)), "{absent:?}");
    }
}

#[test]
fn a_storm_of_other_writers_is_survived_or_told() {
    let host = Host::new(Absent::AnyNumber);
    host.worker(total, |total| add(&total).unwrap());
    host.0.lock().unwrap().outrun = 31;
    assert_eq!(host.worker(total, |total| add(&total)), Ok(2));
    host.0.lock().unwrap().outrun = 32;
    let attempts = NonZeroU32::new(32).unwrap();
    let contended = Err(StateError::Contended { attempts });
    assert_eq!(host.worker(total, |total| add(&total)), contended);
}

#[test]
fn what_another_version_has_written_is_told_and_can_be_overwritten() {
    let host = Host::new(Absent::OnlyZero);
    host.worker(total, |total| add(&total).unwrap());
    for (bytes, error) in [
        (&[2; 9][..], InvalidRecord::UnknownVersion { found: 2, known: 1 }),
        (&[1; 4], InvalidRecord::WrongLength { found: 4, expected: 9 }),
        (&[], InvalidRecord::WrongLength { found: 0, expected: 9 }),
    ] {
        host.spoil(bytes);
        let refused = StateError::Record(error);
        assert_eq!(host.worker(total, |total| add(&total)), Err(refused));
        assert_eq!(host.worker(total, |total| total.read()), Err(refused));
        assert_eq!(host.worker(total, |total| total.overwrite(&9)), Ok(()));
        assert_eq!(host.worker(total, |total| add(&total)), Ok(10));
    }
}

#[test]
fn a_table_is_one_for_all_workers_and_of_a_fixed_size() {
    let host = Host::new(Absent::AnyNumber);
    let on = |key: &'static [u8], now| host.worker(table, move |table| count(&table, key, now));
    assert_eq!(on(b"alice", NOW), Ok(Outcome::Own(1)));
    assert_eq!(on(b"alice", NOW + SECOND), Ok(Outcome::Own(2)));
    assert_eq!(on(b"bob", NOW + 2 * SECOND), Ok(Outcome::Own(1)));
    assert_eq!(on(b"carol", NOW + 2 * SECOND), Ok(Outcome::Evicted(1)));
    assert_eq!(host.0.lock().unwrap().counted, 1);
    let get = |key: &'static [u8], now| host.worker(table, move |table| table.get(key, now));
    let found = [b"alice" as &[u8], b"bob", b"carol"].map(|key| get(key, NOW + 3 * SECOND));
    assert_eq!(found, [Ok(None), Ok(Some(1)), Ok(Some(1))]);
    // The clock has leapt back, and forward again.
    assert_eq!(on(b"bob", NOW - 3_600 * SECOND), Ok(Outcome::Own(2)));
    assert_eq!(get(b"bob", NOW), Ok(None));
    assert_eq!(host.keys(), ["tollgate.demo.v2/plug%2Fin/seen/0"]);
    host.spoil(b"foreign");
    assert!(matches!(on(b"alice", NOW), Err(StateError::Record(_))));
    assert_eq!(host.worker(table, |table| table.reset(b"alice")), Ok(()));
    assert_eq!(on(b"alice", NOW), Ok(Outcome::Own(1)));
}

#[test]
fn a_lease_has_one_holder() {
    let lease = |root: &Root| root.state("demo", 2).lease("leader", Duration::from_secs(10));
    let host = Host::new(Absent::OnlyZero);
    let other = host.clone();
    let other = move |now| other.worker(lease, move |lease| lease.hold(now));
    host.worker(lease, move |lease| {
        assert_eq!(lease.hold(NOW), Ok(Standing::Held { fence: 1 }));
        let until = NOW + 10 * SECOND;
        assert_eq!(other(NOW + SECOND), Ok(Standing::Other { until }));
        assert_eq!(lease.hold(NOW + 6 * SECOND), Ok(Standing::Held { fence: 1 }));
        assert_eq!(other(NOW + 17 * SECOND), Ok(Standing::Held { fence: 2 }));
        assert!(matches!(lease.hold(NOW + 18 * SECOND), Ok(Standing::Other { .. })));
        assert_eq!(lease.release(), Ok(()));
        assert!(matches!(lease.hold(NOW + 18 * SECOND), Ok(Standing::Other { .. })));
        // The clock leaps back: the other one has it for a life, and no longer.
        let back = NOW - 86_400 * SECOND;
        let until = back + 10 * SECOND;
        assert_eq!(lease.hold(back), Ok(Standing::Other { until }));
        assert_eq!(lease.hold(until), Ok(Standing::Held { fence: 3 }));
        assert_eq!(lease.release(), Ok(()));
        assert_eq!(other(until), Ok(Standing::Held { fence: 4 }));
    });
}

#[test]
fn workers_that_ask_for_a_lease_at_once_do_not_both_get_it() {
    let host = Host::new(Absent::AnyNumber);
    let ask = || {
        host.worker(
            |root| root.state("demo", 2).lease("leader", Duration::from_secs(10)),
            |lease| matches!(lease.hold(NOW), Ok(Standing::Held { .. })),
        )
    };
    let holders = thread::scope(|scope| {
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(holders.iter().filter(|holds| **holds).count(), 1, "{holders:?}");
}

#[test]
fn a_queue_is_made_by_whoever_uses_it_first_and_is_one_for_all_workers() {
    let host = Host::new(Absent::AnyNumber);
    let queue = |root: &Root| root.state("demo", 2).queue("jobs");
    let send = |name: &'static str| {
        let queue = RemoteQueue::new(*b"vm", name);
        host.worker(|_| (), move |()| queue.push(b"far"))
    };
    assert_eq!(send("tollgate.demo.v2/plug%2Fin/jobs"), Err(QueueError::Unknown));
    host.worker(queue, |queue| {
        assert_eq!(queue.name(), "tollgate.demo.v2/plug%2Fin/jobs");
        assert_eq!(queue.pop(), Ok(None));
        assert_eq!((queue.push(b"a"), queue.push(b"")), (Ok(()), Ok(())));
    });
    assert_eq!(send("tollgate.demo.v2/plug%2Fin/jobs"), Ok(()));
    assert_eq!(send("another"), Err(QueueError::Unknown));
    let taken = host.worker(queue, |queue| [(); 4].map(|()| queue.pop()));
    let message = |text: &[u8]| Ok(Some(text.to_vec()));
    assert_eq!(taken, [message(b"a"), message(b""), message(b"far"), Ok(None)]);
}

#[test]
fn a_queue_that_the_host_has_forgotten_is_told_and_made_anew() {
    let host = Host::new(Absent::AnyNumber);
    let queues = host.clone();
    host.worker(
        |root| root.state("demo", 2).queue("jobs"),
        move |queue| {
            assert_eq!(queue.push(b"a"), Ok(()));
            queues.0.lock().unwrap().queues.clear();
            assert_eq!(queue.push(b"b"), Err(QueueError::Unknown));
            assert_eq!((queue.push(b"c"), queue.pop()), (Ok(()), Ok(Some(b"c".to_vec()))));
        },
    );
}

#[test]
fn workers_agree_on_a_key_for_hashes_that_differs_from_host_to_host() {
    let key = |host: &Host| {
        let key = host.worker(|root| root.state("demo", 2).secret_hash_key(), Result::unwrap);
        key.fingerprint(b"alice").get()
    };
    let (one, other) = (Host::new(Absent::AnyNumber), Host::new(Absent::OnlyZero));
    assert_eq!(key(&one), key(&one));
    assert_ne!(key(&one), key(&other));
}

#[test]
fn a_cache_in_front_of_shared_state_spares_the_host() {
    let host = Host::new(Absent::AnyNumber);
    let cache: LocalCache<&str, u64> = LocalCache::new(16, Duration::from_secs(1));
    let inside = Arc::clone(&host.0);
    host.worker(total, move |total| {
        let read = |now| {
            cache.get("total", now).unwrap_or_else(|| {
                let value = total.read().unwrap().unwrap_or(0);
                cache.insert("total", value, now);
                value
            })
        };
        add(&total).unwrap();
        assert_eq!(read(NOW), 1);
        inside.lock().unwrap().values.clear();
        assert_eq!((read(NOW), read(NOW + SECOND)), (1, 0));
    });
}
