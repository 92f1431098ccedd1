//! Keys as hashes: what is stored of a key that comes from a request.

use std::hash::{BuildHasher, Hasher, RandomState};

use siphasher::sip::SipHasher13;

/// What keys are hashed under, with SipHash-1-3. Two keys of one hash are taken for one.
///
/// Under a key that is known, as [`HashKey::new`] of a constant is, clients can choose values that fall
/// into one bucket of a table and fill it; [`State::secret_hash_key`](super::State::secret_hash_key)
/// denies them that, and forgets what is stored when the proxy forgets the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey([u8; 16]);

/// A key's hash, by which its bucket knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl HashKey {
    /// The same for all workers, and after a restart.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The hash of a key.
    pub fn fingerprint(&self, key: &[u8]) -> Fingerprint {
        Fingerprint(SipHasher13::new_with_key(&self.0).hash(key))
    }

    pub(super) fn bytes(self) -> [u8; 16] {
        self.0
    }

    pub(super) fn random() -> Self {
        let (low, high) = (random(), random());
        Self((u128::from(high) << 64 | u128::from(low)).to_le_bytes())
    }
}

impl std::fmt::Debug for HashKey {
    /// Keeps it to itself: it may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

impl Fingerprint {
    /// The hash as it was stored.
    pub const fn new(hash: u64) -> Self {
        Self(hash)
    }

    /// The hash.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Which of this many buckets it falls into; the first when there is none.
    pub fn bucket(self, buckets: u32) -> u32 {
        let [a, b, c, d, ..] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d]).checked_rem(buckets).unwrap_or(0)
    }
}

/// A number that the host has drawn.
///
/// The standard library asks the host for randomness where it makes keys for its own maps, and for
/// others of those keys each time.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
