//! Values in the memory of one worker: in front of what is asked for elsewhere, or alone.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::nanos;

/// How many places a key can have.
const WAYS: usize = 4;

/// A bounded number of values with an expiry, of this worker alone.
///
/// All memory is taken at once. A key has four places, so that what is looked at is bounded as well: a
/// fifth key for the same four takes the place of the one that expires soonest, also while there is
/// room elsewhere. A clock that steps back behind the writing of a value loses it.
#[derive(Debug)]
pub struct LocalCache<K, V> {
    sets: RefCell<Vec<Places<K, V>>>,
    life: Duration,
}

/// Where keys of some hashes can be.
type Places<K, V> = [Option<Cached<K, V>>; WAYS];

#[derive(Debug)]
struct Cached<K, V> {
    key: K,
    value: V,
    written: u64,
}

impl<K: Hash + Eq, V: Clone> LocalCache<K, V> {
    /// A cache of at most `entries`, rounded up to a multiple of four.
    pub fn new(entries: u16, life: Duration) -> Self {
        let sets = usize::from(entries).div_ceil(WAYS).max(1);
        let sets = std::iter::repeat_with(|| [const { None }; WAYS]).take(sets).collect();
        Self { sets: RefCell::new(sets), life }
    }

    /// The value of a key, unless it has expired.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q, unix_nanos: u64) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.in_set(hash(key), |set| {
            let found = set.iter().flatten().find(|cached| cached.key.borrow() == key)?;
            found.is_alive(unix_nanos, self.life).then(|| found.value.clone())
        })
    }

    /// Keeps a value, for a whole life from now on.
    pub fn insert(&self, key: K, value: V, unix_nanos: u64) {
        let life = self.life;
        self.in_set(hash(&key), |set| {
            let own = |cached: &Option<Cached<K, V>>| {
                cached.as_ref().is_some_and(|cached| cached.key == key)
            };
            // Its own place, then an empty one, then that of what has ended, then of what ends first.
            let place = set.iter_mut().min_by_key(|place| match place {
                own_place if own(own_place) => (0, 0),
                None => (1, 0),
                Some(cached) if !cached.is_alive(unix_nanos, life) => (2, 0),
                Some(cached) => (3, cached.written),
            })?;
            *place = Some(Cached { key, value, written: unix_nanos });
            Some(())
        });
    }

    /// Forgets a value.
    pub fn remove<Q: Hash + Eq + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.in_set(hash(key), |set| {
            let is_it = |cached: &mut Cached<K, V>| cached.key.borrow() == key;
            set.iter_mut().find_map(|place| place.take_if(is_it)).map(|_| ())
        });
    }

    /// Runs `on` with the places of a key of this hash. `None` also while another call is under way, as
    /// one from the `clone` of a value would be.
    fn in_set<T>(&self, hash: u64, on: impl FnOnce(&mut Places<K, V>) -> Option<T>) -> Option<T> {
        let mut sets = self.sets.try_borrow_mut().ok()?;
        let count = u64::try_from(sets.len()).ok()?;
        let set = usize::try_from(hash.checked_rem(count)?).ok()?;
        on(sets.get_mut(set)?)
    }
}

fn hash<Q: Hash + ?Sized>(key: &Q) -> u64 {
    let mut hasher = SipHasher13::new_with_key(b"tollgate-caching");
    key.hash(&mut hasher);
    hasher.finish()
}

impl<K, V> Cached<K, V> {
    fn is_alive(&self, now: u64, life: Duration) -> bool {
        now.checked_sub(self.written).is_some_and(|age| age < nanos(life))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const LIFE: Duration = Duration::from_nanos(10);

    #[test]
    fn a_value_lasts_for_its_life() {
        let cache: LocalCache<String, u8> = LocalCache::new(8, LIFE);
        cache.insert("a".into(), 1, 100);
        let found = [99, 100, 109, 110].map(|now| cache.get("a", now));
        assert_eq!(found, [None, Some(1), Some(1), None]);
        cache.insert("a".into(), 2, 105);
        assert_eq!(cache.get("a", 114), Some(2));
        cache.remove("a");
        assert_eq!(cache.get("a", 105), None);
    }

    #[test]
    fn the_value_that_ends_first_makes_room() {
        let cache: LocalCache<u8, u8> = LocalCache::new(1, LIFE);
        for (key, now) in [(1, 3), (2, 1), (3, 2), (4, 4), (5, 5)] {
            cache.insert(key, key, now);
        }
        let found: Vec<u8> = (1..=5).filter_map(|key| cache.get(&key, 5)).collect();
        assert_eq!(found, [1, 3, 4, 5]);
    }

    proptest! {
        #[test]
        fn it_never_gives_what_was_not_written_and_never_grows(
            entries in 0..20_u16,
            operations in proptest::collection::vec((any::<u8>(), any::<u8>(), 0..30_u64), 0..200),
        ) {
            let cache = LocalCache::new(entries, LIFE);
            let mut model: HashMap<u8, (u8, u64)> = HashMap::new();
            for (key, value, now) in operations {
                if let Some(found) = cache.get(&key, now) {
                    let (value, written) = model[&key];
                    prop_assert_eq!(found, value);
                    prop_assert!((written..written + 10).contains(&now));
                }
                cache.insert(key, value, now);
                model.insert(key, (value, now));
                prop_assert_eq!(cache.get(&key, now), Some(value));
                let sets = cache.sets.borrow();
                prop_assert_eq!(sets.capacity().max(1), usize::from(entries).div_ceil(4).max(1));
            }
        }
    }
}
