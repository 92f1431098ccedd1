//! Where a request lies among all requests: at random, or always the same for one key.

use std::cell::Cell;

use siphasher::sip::SipHasher13;

use crate::host;

/// A place among a million, each as likely as the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(u32);

const PLACES: u128 = 1_000_000;

impl Sample {
    /// The place that is enforced if any is.
    pub const STRICTEST: Self = Self(0);

    /// The place of a key: the same in all workers, in all proxies, and after each restart.
    pub fn of_key(key: &[u8]) -> Self {
        Self::of_bits(SipHasher13::new_with_key(b"tollgate-samples").hash(key))
    }

    /// The place that 64 evenly distributed bits choose. None is favoured by more than 1 in 2^44.
    pub fn of_bits(bits: u64) -> Self {
        let place = u128::from(bits).saturating_mul(PLACES) >> 64;
        Self(u32::try_from(place).unwrap_or_default())
    }

    /// The place, from 0.
    pub const fn millionths(self) -> u32 {
        self.0
    }

    #[cfg(test)]
    pub(super) fn at(place: u32) -> Self {
        Self(place)
    }
}

/// Random places, for one worker. Not for secrets.
///
/// Its seed is the nanosecond at which the first place is drawn: workers and proxies draw differently,
/// and a scenario in virtual time draws the same places each time. The host's `random_get` would be no
/// better here, and 3.5 KiB of every module.
#[derive(Debug)]
pub struct Sampler {
    state: Cell<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing has been drawn: the seed comes from here.
    Seed(fn() -> u64),
    Drawn(u64),
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new()
    }
}

impl Sampler {
    /// A sampler that takes its seed from the clock of the proxy.
    pub const fn new() -> Self {
        // Without a clock, all workers draw the same places, each as likely as the others.
        Self { state: Cell::new(State::Seed(|| host::current_time().unwrap_or_default())) }
    }

    /// A sampler with this seed.
    pub const fn seeded(seed: u64) -> Self {
        Self { state: Cell::new(State::Drawn(seed)) }
    }

    /// The next place.
    ///
    /// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (`SplitMix64`).
    pub fn sample(&self) -> Sample {
        let state = match self.state.get() {
            State::Seed(seed) => seed(),
            State::Drawn(state) => state,
        };
        let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(State::Drawn(state));
        let bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Sample::of_bits(bits ^ (bits >> 31))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far a hundred buckets of samples are from even: with 99 degrees of freedom, chi-square is
    /// above 160 once in ten thousand times.
    fn chi_square(samples: impl Iterator<Item = Sample>) -> f64 {
        let mut buckets = [0_u32; 100];
        let mut count = 0;
        for sample in samples {
            buckets[sample.millionths() as usize / 10_000] += 1;
            count += 1;
        }
        let expected = f64::from(count) / 100.0;
        buckets.iter().map(|&found| (f64::from(found) - expected).powi(2) / expected).sum()
    }

    #[test]
    fn random_samples_are_spread_evenly() {
        let sampler = Sampler::seeded(7);
        let found = chi_square((0..200_000).map(|_| sampler.sample()));
        assert!(found < 160.0, "{found}");
    }

    #[test]
    fn keys_that_differ_little_are_spread_evenly() {
        let found = chi_square((0..200_000).map(|n| Sample::of_key(format!("u{n}").as_bytes())));
        assert!(found < 160.0, "{found}");
    }

    #[test]
    fn the_ends_of_the_range_are_places() {
        assert_eq!(Sample::of_bits(0).millionths(), 0);
        assert_eq!(Sample::of_bits(u64::MAX).millionths(), 999_999);
    }

    #[test]
    fn two_seeds_draw_differently() {
        let (one, other) = (Sampler::seeded(1), Sampler::seeded(2));
        let draw = |sampler: &Sampler| (0..8).map(|_| sampler.sample()).collect::<Vec<_>>();
        assert_ne!(draw(&one), draw(&other));
    }

    #[test]
    fn a_key_has_the_same_place_for_ever() {
        // Computed by another implementation of SipHash-1-3.
        for (key, expected) in [("", 690_946), ("alice", 90_484), ("bob", 619_073)] {
            assert_eq!(Sample::of_key(key.as_bytes()).millionths(), expected, "{key}");
        }
    }
}
