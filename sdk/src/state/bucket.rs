//! A bucket: a record of a fixed number of entries, which keys of requests share.
//!
//! Pure: bytes and the time in, bytes out. Who reads and writes them is [`Table`](super::Table), or a
//! filter with rules of its own.

use super::hash::Fingerprint;
use super::record::InvalidRecord;

/// What is stored of a key, in a fixed number of bytes.
pub trait Entry: Clone + Default {
    /// The first byte of each bucket.
    const VERSION: u8 = 1;

    /// How many bytes it has.
    const BYTES: usize;

    /// Writes its bytes over these, which are as many.
    fn write(&self, bytes: &mut [u8]);

    /// Takes it from the front of `bytes`; `None` when there is none.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])>;

    /// From when on it may be forgotten, in nanoseconds since the Unix epoch. The default entry always.
    fn free_at(&self) -> u64;
}

/// Entries of up to `SLOTS` keys, and one that all others can share. The default is the bucket of which
/// nothing has been stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket<E, const SLOTS: usize> {
    /// What keys without a slot share.
    pub overflow: E,
    slots: [Slot<E>; SLOTS],
}

/// The entry of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot<E> {
    /// Whose it is.
    pub fingerprint: Fingerprint,
    /// What is stored.
    pub entry: E,
}

impl<E: Entry, const SLOTS: usize> Default for Bucket<E, SLOTS> {
    fn default() -> Self {
        let slots = std::array::from_fn(|_| Slot::default());
        Self { overflow: E::default(), slots }
    }
}

impl<E: Entry, const SLOTS: usize> Bucket<E, SLOTS> {
    /// The size of every record, in bytes.
    pub const RECORD_BYTES: usize = 1 + E::BYTES + SLOTS * Self::SLOT_BYTES;

    const SLOT_BYTES: usize = 8 + E::BYTES;

    /// Reads a record.
    ///
    /// Shape: a version byte; the overflow's entry; then `SLOTS` times (fingerprint, entry).
    /// Fingerprints are little-endian `u64`. A slot that was never used is the default entry.
    ///
    /// # Errors
    ///
    /// [`InvalidRecord`] when another version or something else has written the bytes.
    pub fn decode(record: &[u8]) -> Result<Self, InvalidRecord> {
        let expected = Self::RECORD_BYTES;
        let wrong_length = InvalidRecord::WrongLength { found: record.len(), expected };
        let (&version, entries) = record.split_first().ok_or(wrong_length)?;
        if version != E::VERSION {
            return Err(InvalidRecord::UnknownVersion { found: version, known: E::VERSION });
        }
        if record.len() != expected {
            return Err(wrong_length);
        }
        let no_value = InvalidRecord::NoValue;
        let (overflow, entries) = E::read(entries).ok_or(no_value)?;
        let mut is_whole = true;
        let mut slots = entries.chunks_exact(Self::SLOT_BYTES).map(Slot::read);
        let slots = std::array::from_fn(|_| {
            slots.next().flatten().unwrap_or_else(|| {
                is_whole = false;
                Slot::default()
            })
        });
        if is_whole { Ok(Self { overflow, slots }) } else { Err(no_value) }
    }

    /// The record, as [`Self::decode`] reads it.
    pub fn encode(&self) -> Vec<u8> {
        let mut record = vec![0; Self::RECORD_BYTES];
        if let Some((version, entries)) = record.split_first_mut()
            && let Some((overflow, slots)) = entries.split_at_mut_checked(E::BYTES)
        {
            *version = E::VERSION;
            self.overflow.write(overflow);
            for (slot, bytes) in self.slots.iter().zip(slots.chunks_exact_mut(Self::SLOT_BYTES)) {
                slot.write(bytes);
            }
        }
        record
    }

    /// Changes every entry, that of the overflow as well: for a clock that has stepped back.
    pub fn for_each(&mut self, mut change: impl FnMut(&mut E)) {
        change(&mut self.overflow);
        for slot in &mut self.slots {
            change(&mut slot.entry);
        }
    }

    /// The entry of a key that has a slot.
    pub fn own(&mut self, fingerprint: Fingerprint) -> Option<&mut E> {
        let slot = self.slots.iter_mut().find(|slot| slot.fingerprint == fingerprint);
        slot.map(|slot| &mut slot.entry)
    }

    /// The slot that may be forgotten soonest, whether at `now` or not.
    pub fn soonest(&mut self) -> Option<&mut Slot<E>> {
        self.slots.iter_mut().min_by_key(|slot| slot.entry.free_at())
    }

    /// The slot that may be forgotten at `now` and could be for the longest time.
    pub fn free(&mut self, now: u64) -> Option<&mut Slot<E>> {
        self.soonest().filter(|slot| slot.entry.free_at() <= now)
    }
}

impl<E: Entry> Slot<E> {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (fingerprint, entry) = bytes.split_first_chunk()?;
        let (entry, _) = E::read(entry)?;
        Some(Self { fingerprint: Fingerprint::new(u64::from_le_bytes(*fingerprint)), entry })
    }

    fn write(&self, bytes: &mut [u8]) {
        if let Some((fingerprint, entry)) = bytes.split_first_chunk_mut() {
            *fingerprint = self.fingerprint.get().to_le_bytes();
            self.entry.write(entry);
        }
    }
}
