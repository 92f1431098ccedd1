//! A table of fixed size for keys that come from requests.
//!
//! A key's hash picks one of a fixed number of buckets, and one operation is one read and at most one
//! compare-and-swap of that bucket's record, whatever happens in it. What it makes the proxy keep is
//! bounded: [`Shape::buckets`] records of one size. Nothing of a key is stored but its hash.

use std::num::NonZeroU16;
use std::time::Duration;

use super::bucket::{Bucket, Entry};
use super::hash::{Fingerprint, HashKey};
use super::record::{InvalidRecord, Layout, Record};
use super::shared::{Change, StateError};
use super::{ATTEMPTS, State, nanos, numbered};
use crate::metrics::Counter;
use crate::shared_data::Update;

/// Values of keys that come from requests, with an expiry. From [`State::table`].
#[derive(Debug)]
pub struct Table<R, const SLOTS: usize = 8> {
    prefix: String,
    shape: Shape,
    overflow: Counter,
    record: std::marker::PhantomData<fn() -> R>,
}

/// How large a table is, and what becomes of what has no place in it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many records there are at most.
    pub buckets: NonZeroU16,
    /// How long a value lasts after it was last written.
    pub life: Duration,
    /// What becomes of a key that finds its bucket full.
    pub when_full: WhenFull,
    /// What keys are hashed under.
    pub hash_key: HashKey,
}

/// What becomes of a key whose bucket is full of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It takes the place of the key that would expire soonest, which is forgotten.
    Evict,
    /// It shares one value with all others of its bucket that have no place. While that lasts, a key
    /// that finds a place begins with a copy of it.
    Share,
    /// Nothing is stored of it.
    Refuse,
}

/// Where a value has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// In a slot of its own.
    Own(T),
    /// In a slot of its own, which another key has lost.
    Evicted(T),
    /// In the value that all keys without a slot share.
    Shared(T),
    /// Nowhere: nothing was decided.
    Full,
}

impl Shape {
    /// A table hashed under a key that is the same for all workers and after a restart.
    ///
    /// Of 0 buckets it has 1.
    pub const fn new(buckets: u16, life: Duration, when_full: WhenFull) -> Self {
        let buckets = match NonZeroU16::new(buckets) {
            Some(buckets) => buckets,
            None => NonZeroU16::MIN,
        };
        Self { buckets, life, when_full, hash_key: HashKey::new(*b"tollgate-buckets") }
    }

    /// The same, hashed under this key.
    #[must_use]
    pub const fn hashed_under(self, hash_key: HashKey) -> Self {
        Self { hash_key, ..self }
    }
}

impl<R: Record + Clone, const SLOTS: usize> Table<R, SLOTS> {
    pub(super) fn new(name: String, shape: Shape, overflow: Counter) -> Self {
        Self { prefix: name + "/", shape, overflow, record: std::marker::PhantomData }
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// [`StateError`] when it cannot be read, or when the host refuses.
    pub fn get(&self, key: &[u8], unix_nanos: u64) -> Result<Option<R>, StateError> {
        let (record, fingerprint) = self.place(key);
        let Some(stored) = State::data().get(record.as_bytes())? else { return Ok(None) };
        Ok(peek::<R, SLOTS>(&stored.value, fingerprint, unix_nanos, &self.shape)?)
    }

    /// Lets `decide` say what becomes of the value of a key, at most [`super::ATTEMPTS`] times.
    ///
    /// # Errors
    ///
    /// [`StateError`] when it cannot be read, when others always came first, or when the host refuses.
    pub fn update<T>(
        &self,
        key: &[u8],
        unix_nanos: u64,
        mut decide: impl FnMut(Option<R>) -> Change<R, T>,
    ) -> Result<Outcome<T>, StateError> {
        let (record, fingerprint) = self.place(key);
        let outcome = State::data().update(record.as_bytes(), ATTEMPTS, |stored| {
            apply::<R, T, SLOTS>(stored, fingerprint, unix_nanos, &self.shape, &mut decide)
        })??;
        match outcome {
            Outcome::Own(_) => {}
            Outcome::Evicted(_) | Outcome::Shared(_) | Outcome::Full => self.overflow.increment(),
        }
        Ok(outcome)
    }

    /// Empties the bucket of a key, also of what cannot be read.
    ///
    /// # Errors
    ///
    /// [`StateError`] when others always came first, or when the host refuses.
    pub fn reset(&self, key: &[u8]) -> Result<(), StateError> {
        let (record, _) = self.place(key);
        let empty = Bucket::<Timed<R>, SLOTS>::default().encode();
        let update = |_: Option<&[u8]>| Update::Write(empty.clone(), ());
        Ok(State::data().update(record.as_bytes(), ATTEMPTS, update)?)
    }

    /// The name of the record of a key, and its hash.
    fn place(&self, key: &[u8]) -> (String, Fingerprint) {
        let fingerprint = self.shape.hash_key.fingerprint(key);
        let bucket = fingerprint.bucket(self.shape.buckets.get().into());
        (numbered(&self.prefix, bucket), fingerprint)
    }
}

/// What one operation makes of what is stored of a bucket.
fn apply<R: Record + Clone, T, const SLOTS: usize>(
    stored: Option<&[u8]>,
    fingerprint: Fingerprint,
    now: u64,
    shape: &Shape,
    decide: &mut impl FnMut(Option<R>) -> Change<R, T>,
) -> Update<Result<Outcome<T>, InvalidRecord>> {
    let mut bucket = match stored.map(Bucket::<Timed<R>, SLOTS>::decode) {
        None => Bucket::default(),
        Some(Ok(bucket)) => bucket,
        Some(Err(invalid)) => return Update::Keep(Err(invalid)),
    };
    let until = now.saturating_add(nanos(shape.life));
    let was_ahead = clamp(&mut bucket, until);
    let place = Place::find(&mut bucket, fingerprint, now, shape.when_full);
    if place == Place::None {
        return end(&bucket, was_ahead, Outcome::Full);
    }
    let current = place.current(&mut bucket, fingerprint, now, shape.when_full);
    let (value, outcome) = match decide(current) {
        Change::Keep(outcome) => {
            let outcome = match place {
                Place::Overflow => Outcome::Shared(outcome),
                Place::Own | Place::Free | Place::Evict | Place::None => Outcome::Own(outcome),
            };
            return end(&bucket, was_ahead, outcome);
        }
        Change::Write(value, outcome) => (value, outcome),
    };
    let entry = Timed { until, value: Some(value) };
    let outcome = match place {
        Place::Own => {
            if let Some(own) = bucket.own(fingerprint) {
                *own = entry;
            }
            Outcome::Own(outcome)
        }
        Place::Free | Place::Evict => {
            if let Some(slot) = bucket.soonest() {
                (slot.fingerprint, slot.entry) = (fingerprint, entry);
            }
            if place == Place::Free { Outcome::Own(outcome) } else { Outcome::Evicted(outcome) }
        }
        Place::Overflow | Place::None => {
            bucket.overflow = entry;
            Outcome::Shared(outcome)
        }
    };
    Update::Write(bucket.encode(), Ok(outcome))
}

/// What is stored of a key.
fn peek<R: Record + Clone, const SLOTS: usize>(
    stored: &[u8],
    fingerprint: Fingerprint,
    now: u64,
    shape: &Shape,
) -> Result<Option<R>, InvalidRecord> {
    let mut bucket = Bucket::<Timed<R>, SLOTS>::decode(stored)?;
    clamp(&mut bucket, now.saturating_add(nanos(shape.life)));
    let place = Place::find(&mut bucket, fingerprint, now, shape.when_full);
    Ok(place.current(&mut bucket, fingerprint, now, shape.when_full))
}

/// Brings back what a clock that has stepped back since has left too far ahead; says whether anything.
fn clamp<R: Record + Clone, const SLOTS: usize>(
    bucket: &mut Bucket<Timed<R>, SLOTS>,
    latest: u64,
) -> bool {
    let mut was_ahead = false;
    bucket.for_each(|entry: &mut Timed<R>| {
        was_ahead |= entry.until > latest;
        entry.until = entry.until.min(latest);
    });
    was_ahead
}

fn end<R: Record + Clone, T, const SLOTS: usize>(
    bucket: &Bucket<Timed<R>, SLOTS>,
    was_changed: bool,
    outcome: Outcome<T>,
) -> Update<Result<Outcome<T>, InvalidRecord>> {
    if was_changed {
        Update::Write(bucket.encode(), Ok(outcome))
    } else {
        Update::Keep(Ok(outcome))
    }
}

/// Where a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Own,
    Free,
    Evict,
    Overflow,
    None,
}

impl Place {
    fn find<R: Record + Clone, const SLOTS: usize>(
        bucket: &mut Bucket<Timed<R>, SLOTS>,
        fingerprint: Fingerprint,
        now: u64,
        when_full: WhenFull,
    ) -> Self {
        // An empty slot has a hash as well: only one that holds something is anybody's.
        if bucket.own(fingerprint).is_some_and(|own| own.value.is_some()) {
            return Self::Own;
        }
        if bucket.free(now).is_some() {
            return Self::Free;
        }
        match when_full {
            WhenFull::Evict => Self::Evict,
            WhenFull::Share => Self::Overflow,
            WhenFull::Refuse => Self::None,
        }
    }

    fn current<R: Record + Clone, const SLOTS: usize>(
        self,
        bucket: &mut Bucket<Timed<R>, SLOTS>,
        fingerprint: Fingerprint,
        now: u64,
        when_full: WhenFull,
    ) -> Option<R> {
        let entry = match (self, when_full) {
            (Self::Own, _) => bucket.own(fingerprint).map(|own| &*own)?,
            (Self::Free, WhenFull::Share) | (Self::Overflow, _) => &bucket.overflow,
            (Self::Free, WhenFull::Evict | WhenFull::Refuse) | (Self::Evict | Self::None, _) => {
                return None;
            }
        };
        entry.value.clone().filter(|_| entry.until > now)
    }
}

/// A value and when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Timed<R> {
    /// In nanoseconds since the Unix epoch.
    until: u64,
    /// `None` where nothing was ever written: all bytes are then 0.
    value: Option<R>,
}

impl<R> Default for Timed<R> {
    fn default() -> Self {
        Self { until: 0, value: None }
    }
}

impl<R: Record + Clone> Entry for Timed<R> {
    const VERSION: u8 = R::VERSION;
    const BYTES: usize = 8 + 1 + R::Bytes::BYTES;

    fn write(&self, bytes: &mut [u8]) {
        let Some((until, rest)) = bytes.split_first_chunk_mut() else { return };
        *until = self.until.to_le_bytes();
        if let (Some(value), Some((holds, bytes))) = (&self.value, rest.split_first_mut()) {
            *holds = 1;
            for (to, from) in bytes.iter_mut().zip(value.to_bytes().bytes()) {
                *to = *from;
            }
        }
    }

    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (until, rest) = bytes.split_first_chunk()?;
        let (holds, rest) = rest.split_first()?;
        let (value, rest) = R::Bytes::split(rest)?;
        let value = match holds {
            0 => None,
            _ => Some(R::from_bytes(value)?),
        };
        Some((Self { until: u64::from_le_bytes(*until), value }, rest))
    }

    fn free_at(&self) -> u64 {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const EPOCH: u64 = 1_700_000_000_000_000_000;
    const SECOND: u64 = 1_000_000_000;
    const SLOTS: usize = 3;

    fn shape(when_full: WhenFull) -> Shape {
        Shape::new(1, Duration::from_secs(10), when_full)
    }

    /// A bucket as the proxy keeps it.
    #[derive(Default)]
    struct Stored(Option<Vec<u8>>);

    impl Stored {
        /// Adds one to the number of a key.
        fn add(&mut self, key: u64, now: u64, when_full: WhenFull) -> Outcome<u64> {
            let mut add = |count: Option<u64>| {
                let count = count.unwrap_or(0) + 1;
                Change::Write(count, count)
            };
            let (fingerprint, shape) = (Fingerprint::new(key), shape(when_full));
            match apply::<u64, _, SLOTS>(self.0.as_deref(), fingerprint, now, &shape, &mut add) {
                Update::Keep(outcome) => outcome.unwrap(),
                Update::Write(record, outcome) => {
                    assert_eq!(record.len(), Bucket::<Timed<u64>, SLOTS>::RECORD_BYTES);
                    self.0 = Some(record);
                    outcome.unwrap()
                }
            }
        }

        fn get(&self, key: u64, now: u64, when_full: WhenFull) -> Option<u64> {
            let stored = self.0.as_deref()?;
            let fingerprint = Fingerprint::new(key);
            peek::<u64, SLOTS>(stored, fingerprint, now, &shape(when_full)).unwrap()
        }
    }

    /// What becomes of one more for each (key, second): `1` to `9` in a slot of its own, `e1` in that
    /// of another, `s1` in what is shared, `x` nowhere.
    fn check(when_full: WhenFull, requests: &[(char, u64)], expected: &str) {
        let mut stored = Stored::default();
        let shown: Vec<String> = requests
            .iter()
            .map(|&(key, second)| {
                match stored.add(u64::from(key), EPOCH + second * SECOND, when_full) {
                    Outcome::Own(count) => count.to_string(),
                    Outcome::Evicted(count) => format!("e{count}"),
                    Outcome::Shared(count) => format!("s{count}"),
                    Outcome::Full => "x".into(),
                }
            })
            .collect();
        assert_eq!(shown.join(" "), expected, "{when_full:?} {requests:?}");
    }

    const FULL: [(char, u64); 4] = [('a', 100), ('b', 101), ('c', 102), ('a', 103)];

    #[test]
    fn keys_are_kept_apart_until_they_expire() {
        check(WhenFull::Refuse, &[('a', 0), ('b', 0), ('a', 9), ('b', 10), ('a', 18)], "1 1 2 1 3");
    }

    #[test]
    fn a_full_bucket_does_as_declared() {
        let late = [('d', 104), ('d', 104), ('b', 105), ('e', 105), ('d', 112)];
        let requests = [FULL, [late[0], late[1], late[2], late[3]]].concat();
        check(WhenFull::Refuse, &requests, "1 1 1 2 x x 2 x");
        check(WhenFull::Evict, &requests, "1 1 1 2 e1 2 e1 e1");
        check(WhenFull::Share, &requests, "1 1 1 2 s1 s2 2 s3");
        check(WhenFull::Share, &[FULL.as_slice(), &late].concat(), "1 1 1 2 s1 s2 2 s3 4");
    }

    #[test]
    fn a_clock_that_steps_back_keeps_nothing_longer_than_a_life() {
        let mut stored = Stored::default();
        stored.add(1, EPOCH + 3_600 * SECOND, WhenFull::Refuse);
        assert_eq!(stored.get(1, EPOCH, WhenFull::Refuse), Some(1));
        // Any operation in the bucket brings it back.
        stored.add(2, EPOCH, WhenFull::Refuse);
        assert_eq!(stored.get(1, EPOCH + 9 * SECOND, WhenFull::Refuse), Some(1));
        assert_eq!(stored.get(1, EPOCH + 10 * SECOND, WhenFull::Refuse), None);
    }

    #[test]
    fn what_cannot_be_read_is_kept_and_told() {
        let mut keep = |_: Option<u64>| Change::Write(1, ());
        for (record, expected) in [
            (&[9; 70][..], InvalidRecord::UnknownVersion { found: 9, known: 1 }),
            (&[1; 3], InvalidRecord::WrongLength { found: 3, expected: 93 }),
        ] {
            let shape = shape(WhenFull::Evict);
            let fingerprint = Fingerprint::new(1);
            let found = apply::<u64, _, SLOTS>(Some(record), fingerprint, EPOCH, &shape, &mut keep);
            assert_eq!(found, Update::Keep(Err(expected)));
        }
    }

    fn policies() -> impl Strategy<Value = WhenFull> {
        prop_oneof![Just(WhenFull::Evict), Just(WhenFull::Share), Just(WhenFull::Refuse)]
    }

    proptest! {
        #[test]
        fn while_there_are_slots_every_value_is_exact(
            when_full in policies(),
            requests in proptest::collection::vec((1..=3_u64, 0..12_u64), 1..60),
        ) {
            let mut stored = Stored::default();
            let mut model: HashMap<u64, (u64, u64)> = HashMap::new();
            let mut now = EPOCH;
            for (key, seconds) in requests {
                now += seconds * SECOND;
                let (count, until) = model.entry(key).or_default();
                *count = if *until > now { *count + 1 } else { 1 };
                *until = now + 10 * SECOND;
                prop_assert_eq!(stored.add(key, now, when_full), Outcome::Own(*count));
            }
        }

        /// Of many keys, on a clock that leaps: what is stored has its size, and nobody is given a
        /// count that was not written.
        #[test]
        fn no_key_finds_more_than_was_ever_written(
            when_full in policies(),
            requests in proptest::collection::vec((0..9_u64, -40..40_i64), 1..80),
        ) {
            let mut stored = Stored::default();
            let mut now = EPOCH;
            for (written, (key, seconds)) in (0_u64..).zip(requests) {
                now = now.saturating_add_signed(seconds * 1_000_000_000);
                let found = stored.get(key, now, when_full);
                prop_assert!(found.unwrap_or(0) <= written);
                match stored.add(key, now, when_full) {
                    Outcome::Own(count) | Outcome::Evicted(count) | Outcome::Shared(count) => {
                        prop_assert_eq!(count, found.unwrap_or(0) + 1);
                        prop_assert_eq!(stored.get(key, now, when_full), Some(count));
                    }
                    Outcome::Full => {
                        prop_assert_eq!((when_full, found), (WhenFull::Refuse, None));
                    }
                }
            }
        }

        #[test]
        fn any_bytes_are_a_bucket_or_an_error(
            mut record in proptest::collection::vec(any::<u8>(), 93),
            key: u64,
            now: u64,
            when_full in policies(),
        ) {
            if let Some(first) = record.first_mut() {
                *first = 1;
            }
            Stored(Some(record)).add(key, now, when_full);
        }
    }
}
