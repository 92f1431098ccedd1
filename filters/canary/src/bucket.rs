//! Where a key lies among all keys, and which of those places a variant has.
//!
//! A layer has a million buckets, and a hash that never changes gives each key one of them: in every
//! worker, in every proxy and after each restart the same, without a cookie. A variant reserves a range of
//! buckets and takes a share of it from its beginning. While the share grows, keys only join, and no key
//! changes from one variant to another.
//!
//! Layers hash apart: what one says of a key tells nothing of another. Within a layer ranges are apart:
//! no key is in two of them.

use std::error::Error;
use std::fmt;

use tollgate::mode::{Percent, Sample};
use tollgate::state::HashKey;

/// The hash of buckets: SipHash-1-3 under a key that is part of the contract.
const HASH: HashKey = HashKey::new(*b"tollgate-buckets");

/// One of a million places of a layer, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(u32);

impl Bucket {
    /// The last one.
    pub const LAST: Self = Self(Percent::ALL.millionths().saturating_sub(1));

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// Keys, spread over a million buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What is hashed before the key: salt and name, each after its length.
    prefix: Vec<u8>,
}

impl Layer {
    /// The layer of this name, under this salt. Another salt deals all keys anew.
    pub fn new(salt: &str, name: &str) -> Self {
        let mut prefix = Vec::new();
        for text in [salt, name] {
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
            prefix.extend(length.to_le_bytes());
            prefix.extend(text.as_bytes());
        }
        Self { prefix }
    }

    /// The bucket of a key.
    pub fn bucket(&self, key: &[u8]) -> Bucket {
        let hash = HASH.fingerprint(&[&self.prefix, key].concat());
        Bucket(Sample::of_bits(hash.get()).millionths())
    }
}

/// The buckets that a variant may have at most, and those that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    from: Percent,
    to: Percent,
    share: Percent,
}

impl Range {
    /// The buckets from `from` up to `to`, of which the first `share` are the variant's.
    ///
    /// # Errors
    ///
    /// [`InvalidRange`] when there is none, or when the share is larger.
    pub fn new(from: Percent, to: Percent, share: Percent) -> Result<Self, InvalidRange> {
        if from >= to {
            return Err(InvalidRange::Empty { from, to });
        }
        let range = Self { from, to, share };
        if share.millionths() > range.reserved() {
            return Err(InvalidRange::TooSmall { share, range });
        }
        Ok(range)
    }

    /// Whether a bucket is one of those that the variant has.
    pub fn takes(&self, bucket: Bucket) -> bool {
        let from = self.from.millionths();
        (from..from.saturating_add(self.share.millionths())).contains(&bucket.0)
    }

    /// Whether both reserve a bucket.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.from < other.to && other.from < self.to
    }

    /// The first bucket.
    pub fn first(&self) -> Bucket {
        Bucket(self.from.millionths())
    }

    /// Where it begins.
    pub fn from(&self) -> Percent {
        self.from
    }

    /// How much of the range the variant has.
    pub fn share(&self) -> Percent {
        self.share
    }

    fn reserved(&self) -> u32 {
        self.to.millionths().saturating_sub(self.from.millionths())
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.from, self.to)
    }
}

/// Why there is no such [`Range`]. The text begins with the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidRange {
    /// It has no bucket.
    Empty {
        /// Its begin.
        from: Percent,
        /// Its end.
        to: Percent,
    },
    /// The share does not fit into it.
    TooSmall {
        /// The share.
        share: Percent,
        /// The range.
        range: Range,
    },
}

impl fmt::Display for InvalidRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { from, to } => {
                write!(f, "range.to: {to} is not above {from}, where the range begins")
            }
            Self::TooSmall { share, range } => write!(
                f,
                "share: {share} does not fit into the range from {range}; reserve a larger one"
            ),
        }
    }
}

impl Error for InvalidRange {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn percent(millionths: u32) -> Percent {
        Percent::parse(&format!("{}.{:04}%", millionths / 10_000, millionths % 10_000)).unwrap()
    }

    fn range(from: u32, to: u32, share: u32) -> Range {
        Range::new(percent(from), percent(to), percent(share)).unwrap()
    }

    #[test]
    fn a_key_has_the_same_bucket_for_ever() {
        // Computed by another implementation of SipHash-1-3; README.md lists them.
        for (salt, layer, key, expected) in [
            ("", "", "", 783_231),
            ("shop", "checkout", "alice", 32_583),
            ("shop", "checkout", "bob", 380_517),
            ("shop", "search", "alice", 240_665),
            ("shop-2", "checkout", "alice", 661_983),
            // Neither the order of letters nor where a name ends makes two of these one.
            ("shop", "checkout", "ecila", 102_961),
            ("sho", "pcheckout", "alice", 385_874),
            ("shop", "checkout", "\u{fc}", 943_696),
        ] {
            let bucket = Layer::new(salt, layer).bucket(key.as_bytes());
            assert_eq!(bucket.number(), expected, "{salt} {layer} {key}");
        }
    }

    #[test]
    fn a_range_says_exactly_which_buckets_it_takes() {
        let takes = |range: Range, bucket| range.takes(Bucket(bucket));
        let some = range(100, 200, 50);
        assert_eq!([99, 100, 149, 150].map(|at| takes(some, at)), [false, true, true, false]);
        let (blue, green) = (range(0, 1_000_000, 0), range(0, 1_000_000, 1_000_000));
        assert_eq!([0, 999_999].map(|at| takes(blue, at)), [false, false]);
        assert_eq!([0, 999_999].map(|at| takes(green, at)), [true, true]);
        assert_eq!(Bucket::LAST.number(), 999_999);
    }

    #[test]
    fn a_range_that_cannot_be_is_refused() {
        let check = |from, to, share, expected: &str| {
            let error = Range::new(percent(from), percent(to), percent(share)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(5, 5, 0, "range.to: 0.0005% is not above 0.0005%, where the range begins");
        check(
            100_000,
            200_000,
            100_001,
            "share: 10.0001% does not fit into the range from 10% to 20%; reserve a larger one",
        );
    }

    #[test]
    fn ranges_that_touch_do_not_overlap() {
        let (low, high, across) = (range(0, 10, 0), range(10, 20, 0), range(9, 11, 0));
        assert!(!low.overlaps(&high) && !high.overlaps(&low));
        assert!(across.overlaps(&low) && high.overlaps(&across) && low.overlaps(&low));
    }

    /// Buckets of a million keys that differ little.
    fn buckets(layer: &Layer) -> impl Iterator<Item = usize> + use<'_> {
        let mut key = *b"user-000000";
        (0..1_000_000).map(move |_| {
            for digit in key.iter_mut().rev().take(6) {
                if *digit < b'9' {
                    *digit += 1;
                    break;
                }
                *digit = b'0';
            }
            layer.bucket(&key).number() as usize
        })
    }

    /// How far counts are from even. With 99 degrees of freedom it is above 160 once in ten thousand
    /// times.
    fn chi_square(counts: &[u32; 100]) -> f64 {
        let expected = f64::from(counts.iter().sum::<u32>()) / 100.0;
        counts.iter().map(|&found| (f64::from(found) - expected).powi(2) / expected).sum()
    }

    #[test]
    fn a_million_keys_are_spread_evenly_and_each_layer_by_itself() {
        let (checkout, search) = (Layer::new("shop", "checkout"), Layer::new("shop", "search"));
        let (mut alone, mut together) = ([0; 100], [0; 100]);
        for (one, other) in buckets(&checkout).zip(buckets(&search)) {
            alone[one / 10_000] += 1;
            // If layers were not independent, some pairs of tenths would be more frequent.
            together[one / 100_000 * 10 + other / 100_000] += 1;
        }
        let (alone, together) = (chi_square(&alone), chi_square(&together));
        assert!(alone < 160.0 && together < 160.0, "{alone} {together}");
    }

    proptest! {
        #[test]
        fn while_shares_grow_keys_only_join_and_none_changes_its_variant(
            cuts in vec(0..=1_000_000_u32, 2..8),
            raises in vec((any::<prop::sample::Index>(), 1..400_000_u32), 1..20),
            keys in vec(".{0,12}", 1..40),
        ) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            cuts.dedup();
            prop_assume!(cuts.len() > 1);
            let layer = Layer::new("shop", "checkout");
            let of = |ranges: &[Range], key: &String| {
                let bucket = layer.bucket(key.as_bytes());
                let takers: Vec<_> = (0..ranges.len()).filter(|&at| ranges[at].takes(bucket)).collect();
                assert!(takers.len() < 2, "{key} is in {takers:?}");
                takers.first().copied()
            };
            let mut ranges: Vec<_> = cuts.windows(2).map(|ends| range(ends[0], ends[1], 0)).collect();
            for (at, by) in raises {
                let before: Vec<_> = keys.iter().map(|key| of(&ranges, key)).collect();
                let at = at.index(ranges.len());
                let Range { from, to, share } = ranges[at];
                let most = ranges[at].reserved();
                let share = (share.millionths() + by).min(most);
                ranges[at] = Range::new(from, to, percent(share)).unwrap();
                for (key, before) in keys.iter().zip(before) {
                    let after = of(&ranges, key);
                    prop_assert!(after == before || before.is_none() && after == Some(at));
                }
            }
        }
    }
}
