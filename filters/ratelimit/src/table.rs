//! What every key of a rule has spent, in shared records whose number and size are fixed.
//!
//! Keys come from traffic, and the proxy's shared data can neither delete nor list them. So a rule
//! has so many records and no more, by its [`Capacity`]: a key's hash picks the [`Bucket`], and one request is one
//! read and one compare-and-swap of that record, whatever happens in it.
//!
//! A bucket has [`SLOTS`] slots for keys of their own. A key that finds none free is charged to
//! the overflow, which all such keys of the bucket share. Three rules keep every key within its
//! quota, and none needs a timer:
//!
//! - A slot is free once its arrival has passed: its key has earned everything back, so forgetting
//!   what it has spent forgets nothing.
//! - A key that moves into a free slot takes along what the overflow has spent, for it may have
//!   spent that itself. A newcomer is never given a fresh burst while others wait.
//! - No arrival is further ahead than an empty quota at the clock's reading, so that a clock that
//!   steps back holds no key and no slot longer than a burst takes.
//!
//! Stepping back lets no key off. A slot is given away only at a reading that has passed its
//! arrival; at that reading its key had its whole burst, and would keep it were the clock to stand
//! still there. So a key gets at most its burst and what the clock's steps forward earn, whichever
//! way it goes between them. A worker whose reading is a little late is such a clock, too: it can
//! give back no more than it is late by.
//!
//! Not here: the names of the records and how they are read and written.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::state::{self, Entry, HashKey, Slot};
pub use tollgate::state::{Fingerprint, InvalidRecord};

use crate::gcra::{Decision, TheoreticalArrival, UnixNanos, decide};
use crate::quota::Quota;

/// How many keys a rule tells apart at one time, and so how many records it has.
///
/// There are at most 3 keys to a record of [`SLOTS`] slots, so that hardly any finds all of them taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "u64")]
#[schemars(inline, with = "u64", extend("minimum" = 1, "maximum" = 1_000_000))]
pub struct Capacity {
    buckets: u32,
}

/// The most keys that a rule may be told to tell apart.
pub const MOST_KEYS: u64 = 1_000_000;

impl Capacity {
    /// How many records there are at most: a power of two, so that half of the keys keep their record
    /// when it is doubled.
    pub fn buckets(self) -> u32 {
        self.buckets
    }
}

impl Default for Capacity {
    /// Of 10,000 keys.
    fn default() -> Self {
        Self { buckets: 4096 }
    }
}

impl TryFrom<u64> for Capacity {
    type Error = InvalidCapacity;

    fn try_from(keys: u64) -> Result<Self, InvalidCapacity> {
        match u32::try_from(keys.div_ceil(3).next_power_of_two()) {
            Ok(buckets) if (1..=MOST_KEYS).contains(&keys) => Ok(Self { buckets }),
            _ => Err(InvalidCapacity { keys }),
        }
    }
}

/// No rule can tell so many keys apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidCapacity {
    keys: u64,
}

impl fmt::Display for InvalidCapacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not between 1 and {MOST_KEYS}", self.keys)
    }
}

impl Error for InvalidCapacity {}

/// How many keys of a bucket are counted apart.
pub const SLOTS: usize = 8;

/// The size of every record, in bytes: 137.
pub const RECORD_BYTES: usize = state::Bucket::<TheoreticalArrival, SLOTS>::RECORD_BYTES;

/// The first byte of every record. It also belongs into a record's name, so that a filter with
/// another layout starts afresh instead of failing on what it cannot read.
pub const RECORD_VERSION: u8 = 1;

/// What keys are hashed under, with SipHash-1-3: always the same, so that all workers find the same
/// record, also after a restart.
const HASH_KEY: HashKey = HashKey::new(*b"tollgate-buckets");

/// A key's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Which record: below [`Capacity::buckets`].
    pub bucket: u32,
    /// Which key in that record. Two keys with one fingerprint share one quota.
    pub fingerprint: Fingerprint,
}

impl Address {
    /// The place of the key that [`crate::key`] composed. The bucket is the lowest bits of its hash.
    pub fn of(key: &[u8], among: Capacity) -> Self {
        let fingerprint = HASH_KEY.fingerprint(key);
        Self { bucket: fingerprint.bucket(among.buckets()), fingerprint }
    }
}

/// What one record holds: the spending of up to [`SLOTS`] keys, and of all others together.
///
/// The default is the bucket of which nothing has been stored yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket(state::Bucket<TheoreticalArrival, SLOTS>);

/// What charging one request has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Whether the request passes.
    pub decision: Decision,
    /// Whose spending decided it.
    pub placed: Placed,
    /// Whether the bucket now differs from what was read, and has to be written.
    pub changed: bool,
}

/// Whose spending decided about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// The key's own.
    Own,
    /// That of all keys of the bucket which have no slot.
    Overflow,
}

impl Bucket {
    /// Reads a record.
    ///
    /// Shape: a version byte, 1; the overflow's arrival; then [`SLOTS`] times (fingerprint,
    /// arrival). Numbers are little-endian `u64`, arrivals are nanoseconds since the Unix epoch. A
    /// slot that was never used is all zeros.
    ///
    /// # Errors
    ///
    /// [`InvalidRecord`] when another version or something else has written the bytes.
    pub fn decode(record: &[u8]) -> Result<Self, InvalidRecord> {
        state::Bucket::decode(record).map(Self)
    }

    /// The record, as [`Self::decode`] reads it: [`RECORD_BYTES`] long.
    pub fn encode(&self) -> Vec<u8> {
        self.0.encode()
    }

    /// Decides about one request of the key with this fingerprint, and charges it when it passes.
    pub fn charge(
        &mut self,
        fingerprint: Fingerprint,
        now: UnixNanos,
        quota: &Quota,
        cost: NonZeroU64,
    ) -> Charge {
        let Self(bucket) = self;
        let read = bucket.clone();
        bucket.for_each(|spent| *spent = spent.clamped(now, quota));
        let (decision, placed) = if let Some(own) = bucket.own(fingerprint) {
            let (spent, decision) = decide(*own, now, quota, cost);
            *own = spent;
            (decision, Placed::Own)
        } else {
            let (spent, decision) = decide(bucket.overflow, now, quota, cost);
            if let (Some(free), Decision::Admitted { .. }) = (bucket.free(now.get()), decision) {
                *free = Slot { fingerprint, entry: spent };
                (decision, Placed::Own)
            } else {
                bucket.overflow = spent;
                (decision, Placed::Overflow)
            }
        };
        Charge { decision, placed, changed: *bucket != read }
    }

    /// Gives back what a request was charged, where it was charged: nothing, where its key has lost its
    /// slot since, as it has earned everything back.
    pub fn refund(
        &mut self,
        fingerprint: Fingerprint,
        placed: Placed,
        quota: &Quota,
        cost: NonZeroU64,
    ) {
        let Self(bucket) = self;
        let spent = match placed {
            Placed::Own => bucket.own(fingerprint),
            Placed::Overflow => Some(&mut bucket.overflow),
        };
        if let Some(spent) = spent {
            *spent = spent.refunded(quota, cost);
        }
    }
}

/// A slot is free once its arrival has passed.
impl Entry for TheoreticalArrival {
    const VERSION: u8 = RECORD_VERSION;
    const BYTES: usize = 8;

    fn write(&self, bytes: &mut [u8]) {
        if let Some(nanos) = bytes.first_chunk_mut() {
            *nanos = self.unix_nanos().to_le_bytes();
        }
    }

    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (nanos, rest) = bytes.split_first_chunk()?;
        Some((Self::from_unix_nanos(u64::from_le_bytes(*nanos)), rest))
    }

    fn free_at(&self) -> u64 {
        self.unix_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gcra::tests::quotas;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::time::Duration;

    const ONE: NonZeroU64 = NonZeroU64::MIN;
    const EPOCH: u64 = 1_700_000_000_000_000_000;

    /// A record as the proxy keeps it: read, charged, and written when it has changed.
    #[derive(Default)]
    struct Record(Option<Vec<u8>>);

    impl Record {
        fn charge(&mut self, key: u64, nanos: u64, quota: &Quota, cost: NonZeroU64) -> Charge {
            let stored = self.0.as_deref().map(|record| Bucket::decode(record).unwrap());
            let read = stored.unwrap_or_default();
            let mut bucket = read.clone();
            let charge = bucket.charge(Fingerprint::new(key), UnixNanos::new(nanos), quota, cost);
            assert_eq!(charge.changed, bucket != read);
            if charge.changed {
                let written = bucket.encode();
                assert_eq!(written.len(), RECORD_BYTES);
                assert_eq!(Bucket::decode(&written), Ok(bucket));
                self.0 = Some(written);
            }
            charge
        }
    }

    /// What becomes of requests (key, milliseconds) in one bucket, with two requests a second:
    /// `.` and `x` are admitted and refused on the key's own spending, `o` and `X` on the
    /// overflow's.
    fn check(requests: &[(char, u64)], expected: &str) {
        let quota = Quota::new(2, Duration::from_secs(1), None).unwrap();
        let mut record = Record::default();
        let found: String = requests
            .iter()
            .map(|&(key, millis)| {
                let nanos = EPOCH + millis * 1_000_000;
                let charge = record.charge(u64::from(key), nanos, &quota, ONE);
                match (charge.decision, charge.placed) {
                    (Decision::Admitted { .. }, Placed::Own) => '.',
                    (Decision::Admitted { .. }, Placed::Overflow) => 'o',
                    (_, Placed::Own) => 'x',
                    (_, Placed::Overflow) => 'X',
                }
            })
            .collect();
        assert_eq!(found, expected, "{requests:?}");
    }

    /// Requests of eight keys, two each, so that all slots are taken for a second.
    fn full_at(millis: u64) -> Vec<(char, u64)> {
        ('a'..='h').flat_map(|key| [(key, millis); 2]).collect()
    }

    #[test]
    fn keys_are_counted_apart() {
        check(&[('a', 0), ('a', 0), ('a', 0), ('b', 0), ('b', 0), ('a', 500)], "..x...");
    }

    #[test]
    fn a_ninth_key_shares_the_overflow_with_all_others() {
        let late = [('i', 0), ('j', 0), ('k', 0), ('i', 0), ('a', 0), ('a', 500), ('k', 500)];
        check(&[full_at(0), late.to_vec()].concat(), "................ooXXx.o");
    }

    #[test]
    fn a_slot_is_free_once_its_key_has_earned_everything_back() {
        let late = [('i', 999), ('j', 1_500), ('j', 1_500), ('j', 1_500)];
        check(&[full_at(0), late.to_vec()].concat(), "................o..x");
    }

    #[test]
    fn a_key_that_leaves_the_overflow_is_not_given_a_fresh_burst() {
        let late = [('i', 999), ('i', 999), ('i', 1_000), ('j', 1_000), ('i', 1_499), ('j', 1_499)];
        check(&[full_at(0), late.to_vec()].concat(), "................ooXX..");
    }

    #[test]
    fn a_clock_that_steps_back_frees_its_slots_as_soon_as_it_empties_them() {
        let late = [('i', 0), ('i', 500), ('i', 1_000), ('i', 1_000)];
        check(&[full_at(3_600_000), late.to_vec()].concat(), "................oo..");
    }

    #[test]
    fn what_changes_nothing_is_not_written() {
        let quota = Quota::new(1, Duration::from_secs(1), None).unwrap();
        let two = NonZeroU64::new(2).unwrap();
        let mut record = Record::default();
        let mut changed = |key, nanos, cost| record.charge(key, nanos, &quota, cost).changed;
        assert!(!changed(1, EPOCH, two), "impossible, nothing stored");
        assert!(changed(1, EPOCH, ONE), "admitted");
        assert!(!changed(1, EPOCH + 1, ONE), "refused");
        assert!(!changed(2, EPOCH + 1, two), "impossible for a newcomer");
        assert!(changed(1, EPOCH - 1, ONE), "refused, but the clock has stepped back");
    }

    #[test]
    fn a_key_has_its_place_for_ever() {
        let place = |key| {
            let Address { bucket, fingerprint } = Address::of(key, Capacity::default());
            (bucket, fingerprint.get())
        };
        assert_eq!(place(b""), (1_234, 0x12ae_2cd8_ae52_c4d2));
        assert_eq!(place(b"alice"), (2_400, 0x1fd4_e577_4125_f960));
    }

    #[test]
    fn there_are_at_most_three_keys_to_a_record() {
        let buckets = |keys| Capacity::try_from(keys).map(Capacity::buckets);
        assert_eq!(buckets(1), Ok(1));
        assert_eq!(buckets(4), Ok(2));
        assert_eq!(buckets(10_000), Ok(Capacity::default().buckets()));
        assert_eq!(buckets(100_000), Ok(65_536));
        assert_eq!(buckets(MOST_KEYS), Ok(524_288));
        for keys in [0, MOST_KEYS + 1] {
            assert_eq!(buckets(keys), Err(InvalidCapacity { keys }));
        }
    }

    #[test]
    fn a_record_has_its_bytes_for_ever() {
        let quota = Quota::new(2, Duration::from_secs(1), None).unwrap();
        let mut bucket = Bucket::default();
        bucket.0.overflow = TheoreticalArrival::from_unix_nanos(7);
        let fingerprint = Fingerprint::new(0x0807_0605_0403_0201);
        bucket.charge(fingerprint, UnixNanos::new(1 << 32), &quota, ONE);
        let mut expected = vec![1, 7, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        expected.extend(((1_u64 << 32) + 500_000_000).to_le_bytes());
        expected.resize(RECORD_BYTES, 0);
        assert_eq!(bucket.encode(), expected);
    }

    #[test]
    fn a_foreign_record_is_refused() {
        let refused = |record: &[u8]| Bucket::decode(record).unwrap_err().to_string();
        for length in [0, 1, 9, 136, 138, 145, 153] {
            let expected = format!("{length} bytes are not a record of 137 bytes");
            assert_eq!(refused(&vec![RECORD_VERSION; length]), expected);
        }
        assert_eq!(refused(&[2; RECORD_BYTES]), "record version 2 is not 1");
    }

    /// Requests as (key, hundredths of an interval since the one before, cost).
    fn requests(
        keys: std::ops::Range<u64>,
        hundredths: std::ops::Range<i64>,
    ) -> impl Strategy<Value = Vec<(u64, i64, u64)>> {
        let hundredths = prop_oneof![2 => -5..20_i64, 2 => hundredths.clone(), 1 => Just(0)];
        let cost = prop_oneof![4 => Just(1), 1 => 1..4_u64];
        proptest::collection::vec((keys, hundredths, cost), 1..150)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// The model is the exact decision for each key, on a clock that stands still while the
        /// real one is behind: it must admit all that the table admits.
        #[test]
        fn no_key_ever_gets_more_than_its_quota(
            quota in quotas(),
            requests in prop_oneof![requests(0..12, -300..300), requests(0..30, 0..100)],
        ) {
            let mut record = Record::default();
            let mut model: HashMap<u64, TheoreticalArrival> = HashMap::new();
            let mut clock = i128::from(EPOCH);
            let mut earned = EPOCH;
            for (key, hundredths, cost) in requests {
                let step = i128::from(quota.interval_nanos().get()) * i128::from(hundredths) / 100;
                clock += step;
                earned += u64::try_from(step).unwrap_or(0);
                let cost = NonZeroU64::new(cost).unwrap();
                let charge = record.charge(key, u64::try_from(clock).unwrap(), &quota, cost);
                if matches!(charge.decision, Decision::Admitted { .. }) {
                    let spent = model.entry(key).or_default();
                    let (after, exact) = decide(*spent, UnixNanos::new(earned), &quota, cost);
                    prop_assert!(matches!(exact, Decision::Admitted { .. }), "{exact:?}");
                    *spent = after;
                }
            }
        }

        #[test]
        fn while_there_are_slots_every_decision_is_exact(
            quota in quotas(),
            requests in requests(0..8, 0..300),
        ) {
            let mut record = Record::default();
            let mut model: HashMap<u64, TheoreticalArrival> = HashMap::new();
            let mut nanos = EPOCH;
            for (key, hundredths, cost) in requests {
                nanos += quota.interval_nanos().get() * hundredths.unsigned_abs() / 100;
                let cost = NonZeroU64::new(cost).unwrap();
                let charge = record.charge(key, nanos, &quota, cost);
                let spent = model.entry(key).or_default();
                let (after, exact) = decide(*spent, UnixNanos::new(nanos), &quota, cost);
                *spent = after;
                prop_assert_eq!(charge.decision, exact);
            }
        }

        #[test]
        fn any_bytes_are_a_bucket_or_an_error(
            mut record in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..300),
                proptest::collection::vec(any::<u8>(), RECORD_BYTES),
            ],
            version in proptest::option::of(Just(RECORD_VERSION)),
            key in any::<u64>(),
            nanos in any::<u64>(),
            quota in quotas(),
        ) {
            if let (Some(first), Some(version)) = (record.first_mut(), version) {
                *first = version;
            }
            if let Ok(mut bucket) = Bucket::decode(&record) {
                prop_assert_eq!(bucket.encode(), record);
                bucket.charge(Fingerprint::new(key), UnixNanos::new(nanos), &quota, ONE);
            }
        }

        #[test]
        fn every_key_has_a_bucket_below_the_number_of_buckets(key: Vec<u8>, keys in 1..=MOST_KEYS) {
            let among = Capacity::try_from(keys).unwrap();
            prop_assert!(Address::of(&key, among).bucket < among.buckets());
        }
    }
}
