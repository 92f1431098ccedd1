//! The bytes of a [`Bucket`].

use std::error::Error;
use std::fmt;

use super::{Bucket, Fingerprint, SLOTS, Slot};
use crate::gcra::TheoreticalArrival;

/// The size of every record, in bytes: 137.
pub const RECORD_BYTES: usize = 1 + 8 + SLOTS * 16;

/// The first byte of every record. It also belongs into a record's name, so that a filter with
/// another layout starts afresh instead of failing on what it cannot read.
pub const RECORD_VERSION: u8 = 1;

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
        let wrong_length = InvalidRecord::WrongLength { found: record.len() };
        let (&version, numbers) = record.split_first().ok_or(wrong_length)?;
        if version != RECORD_VERSION {
            return Err(InvalidRecord::UnknownVersion { found: version });
        }
        let (numbers, rest) = numbers.as_chunks();
        let ([overflow, slots @ ..], []) = (numbers, rest) else {
            return Err(wrong_length);
        };
        let (slots, []) = slots.as_chunks() else {
            return Err(wrong_length);
        };
        let slots: &[[[u8; 8]; 2]; SLOTS] = slots.try_into().map_err(|_| wrong_length)?;
        Ok(Self {
            overflow: arrival(*overflow),
            slots: slots.map(|[fingerprint, spent]| Slot {
                fingerprint: Fingerprint(u64::from_le_bytes(fingerprint)),
                spent: arrival(spent),
            }),
        })
    }

    /// The record, as [`Self::decode`] reads it: [`RECORD_BYTES`] long.
    pub fn encode(&self) -> Vec<u8> {
        let mut record = Vec::with_capacity(RECORD_BYTES);
        record.push(RECORD_VERSION);
        record.extend(self.overflow.unix_nanos().to_le_bytes());
        for slot in &self.slots {
            record.extend(slot.fingerprint.0.to_le_bytes());
            record.extend(slot.spent.unix_nanos().to_le_bytes());
        }
        record
    }
}

/// Why bytes are no [`Bucket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidRecord {
    /// Another version of this filter has written the record.
    UnknownVersion {
        /// The record's first byte.
        found: u8,
    },
    /// The record is not [`RECORD_BYTES`] long.
    WrongLength {
        /// Its length in bytes.
        found: usize,
    },
}

impl fmt::Display for InvalidRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVersion { found } => {
                write!(f, "record version {found} is not {RECORD_VERSION}")
            }
            Self::WrongLength { found } => {
                write!(f, "{found} bytes are not a record of {RECORD_BYTES} bytes")
            }
        }
    }
}

impl Error for InvalidRecord {}

fn arrival(little_endian: [u8; 8]) -> TheoreticalArrival {
    TheoreticalArrival::from_unix_nanos(u64::from_le_bytes(little_endian))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gcra::UnixNanos;
    use crate::gcra::tests::quotas;
    use crate::quota::Quota;
    use proptest::prelude::*;
    use std::num::NonZeroU64;
    use std::time::Duration;

    const ONE: NonZeroU64 = NonZeroU64::MIN;

    #[test]
    fn a_record_has_its_bytes_for_ever() {
        let quota = Quota::new(2, Duration::from_secs(1), None).unwrap();
        let mut bucket =
            Bucket { overflow: TheoreticalArrival::from_unix_nanos(7), ..Bucket::default() };
        bucket.charge(Fingerprint(0x0807_0605_0403_0201), UnixNanos::new(1 << 32), &quota, ONE);
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

    proptest! {
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
                bucket.charge(Fingerprint(key), UnixNanos::new(nanos), &quota, ONE);
            }
        }
    }
}
